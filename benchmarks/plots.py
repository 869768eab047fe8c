"""Figures of the results, drawn from their CSV files alone."""

import collections
import csv
import pathlib
from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

Rows = list[dict[str, str]]

SPEED = " ms/query"


def ranker(rows: Rows) -> Figure:
    """Queries a second against the database's size, k and the bits, for each engine."""
    rows = [row for row in rows if row["codes"] == "random"]
    limited = [row for row in rows if _limit(row)]
    rows, machine = _one_machine([row for row in rows if not _limit(row)] or rows)
    # The same machine with fewer of its instructions is beside it, dashed.
    limited = [row for row in limited if row["machine"] == machine]
    engines = [column.removesuffix(SPEED) for column in rows[0] if SPEED in column]
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    usual = {"n": "1000000", "k": "100", "bits": "64", "queries": "64"}
    panels: tuple[tuple[str, dict[str, str], str], ...] = (
        ("n", {}, "codes in the database; k = 100, 64 bits, 64 queries"),
        ("n", {"queries": "1"}, "codes in the database; k = 100, 64 bits, 1 query"),
        ("k", {}, "k; 1,000,000 codes of 64 bits, 64 queries"),
        ("bits", {}, "bits; 1,000,000 codes, k = 100, 64 queries"),
    )
    for axis, (x, changed, label) in zip(
        figure.subplots(2, 2).flat, panels, strict=True
    ):
        fixed = {name: v for name, v in (usual | changed).items() if name != x}
        some, fewer = (
            sorted(
                (row for row in kind if all(row[c] == v for c, v in fixed.items())),
                key=lambda row: int(row[x]),
            )
            for kind in (rows, limited)
        )
        axis.set_visible(bool(some))
        for number, engine in enumerate(engines):
            _points(axis, some, x, engine, color=f"C{number}", label=engine)
            if engine in ("kerashash", "faiss") and fewer:
                look = {"color": f"C{number}", "linestyle": "--", "alpha": 0.7}
                name = f"{engine}, {fewer[0]['isa']}"
                _points(axis, fewer, x, engine, label=name, **look)
        _logarithmic(axis, label, "queries a second")
        if x == "bits":
            values = sorted({int(row[x]) for row in some})
            axis.set_xticks(values, [str(value) for value in values])
            axis.minorticks_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(engines))
    figure.suptitle(f"Exact Hamming search, two threads ({machine})")
    return figure


def evaluation(rows: Rows) -> Figure:
    """Seconds of the evaluation and of the loop beside it, on the last machine."""
    rows = [row for row in rows if row["machine"] == rows[-1]["machine"]]
    names, values = [], []
    for row in rows:
        isa = f", {row['isa']}" if row.get("isa") else ""
        names += [f"kerashash, all measures{isa}", f"loop that sorts, mAP alone{isa}"]
        values += [float(row["all_measures_s"]), float(row["argsort_loop_s"])]
    figure, axis = _bars_figure(len(names))
    _bars(axis, names, values, "{:.3g}")
    axis.set_xlabel(
        f"seconds for {int(row['queries']):,} queries on {int(row['database']):,} items"
    )
    figure.suptitle(f"Evaluation ({row['machine']})")
    return figure


def encoding(rows: Rows) -> Figure | None:
    """Images a second of each row that has a rate, beside what it is compared with."""
    rows = [row for row in rows if row.get("from memory")]
    if not rows:
        return None
    rows, machine = _one_machine(rows)
    names, values = [], []
    for row in rows:
        what = row["what"].removesuffix(", images a second")
        names += [what, "arrays in memory"]
        values += [float(row["value"]), float(row["from memory"])]
    figure, axis = _bars_figure(len(names))
    _bars(axis, names, values, "{:.0f}")
    axis.set_xlabel(f"images a second by {rows[-1]['network']}")
    figure.suptitle(f"Photographs to codes ({machine})")
    return figure


def gpu(rows: Rows) -> Figure | None:
    """Speed of reading the database for one query, beside that of a copy."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    names = {
        "jax_topk": "distances and top_k, JAX",
        "cupy_and_torch_topk": "distances by CuPy, topk of PyTorch",
    }
    runs = [row.get("run") for row in rows if row["item"].startswith("search_")]
    if not runs:
        return None
    run = runs[0]
    rows = [row for row in rows if row.get("run") == run]
    copy = next(float(row["GB/s"]) for row in rows if row["item"] == "copy")
    for axis, bits in zip(
        figure.subplots(1, 2, sharey=True), ("64", "128"), strict=True
    ):
        lines: dict[str, list[tuple[int, float]]] = collections.defaultdict(list)
        for row in rows:
            if row["bits"] == bits and row["queries"] == "1":
                name = names.get(row["item"], "")
                if row["item"].endswith(f"M_{bits}_bits_1_queries"):
                    name = "kerashash"
                lines[name].append((int(row["n"]), float(row["GB/s"])))
        for name in ("kerashash", *names.values()):
            points = sorted(lines[name])
            axis.plot(*zip(*points, strict=True), "o-", label=name, markersize=4)
        axis.axhline(copy, color="0.4", linestyle="--", label="a copy on the device")
        _logarithmic(axis, f"codes of {bits} bits; k = 100, 1 query", "GB/s")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle(f"Reading the database for one query ({rows[0]['machine']})")
    return figure


FIGURES: dict[str, Callable[[Rows], Figure | None]] = {
    "ranker": ranker,
    "evaluation": evaluation,
    "encoding": encoding,
    "gpu": gpu,
}


def read(file: pathlib.Path) -> Rows:
    """The rows of a file of results.

    Args:
        file: path; the CSV file. A first line that begins with "#", as on an
            accelerator, begins with the name of the machine.

    Returns:
        list of dict, a row each, from column to text; with the column "machine".
    """
    with file.open(newline="") as stream:
        lines = [*stream]
    if lines[0].startswith("#"):
        machine = lines.pop(0).removeprefix("#").partition(" (")[0].strip()
        return [{**row, "machine": machine} for row in csv.DictReader(lines)]
    return [*csv.DictReader(lines)]


def draw(folder: pathlib.Path) -> list[pathlib.Path]:
    """Draw the figures of all results that a folder has, beside them.

    Args:
        folder: path; the folder of the CSV files.

    Returns:
        list of paths; the figures, PNG files.
    """
    drawn = []
    for name, draw_rows in FIGURES.items():
        file = folder / f"{name}.csv"
        if file.exists() and (drawing := draw_rows(read(file))):
            drawn.append(file.with_suffix(".png"))
            drawing.savefig(drawn[-1], dpi=110)
    return drawn


def _one_machine(rows: Rows) -> tuple[Rows, str]:
    """The rows of the machine that has most of them, and its name."""

    def machine(row: dict[str, str]) -> str:
        return row["machine"] + _limit(row)

    # Of as many, the last.
    name = collections.Counter(map(machine, rows[::-1])).most_common(1)[0][0]
    return [row for row in rows if machine(row) == name], name


def _limit(row: dict[str, str]) -> str:
    """Say if a run might use fewer vector instructions than its processor has."""
    isa = row.get("isa") or ""
    return f", limited to {isa}" if isa not in row["machine"] else ""


def _points(axis: Any, rows: Rows, x: str, engine: str, **look: Any) -> None:
    """Queries a second of an engine against a column."""
    points = [
        (int(row[x]), 1000 / float(row[engine + SPEED]))
        for row in rows
        if row[engine + SPEED]
    ]
    if points:
        axis.plot(*zip(*points, strict=True), marker="o", markersize=4, **look)


def _logarithmic(axis: Any, x: str, y: str) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)


def _bars_figure(count: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9, 1.3 + 0.45 * count), layout="constrained")
    return figure, figure.subplots()


def _bars(axis: Any, names: Any, values: list[float], form: str) -> None:
    bars = axis.barh(range(len(values)), values, color=["C0", "0.6"] * len(values))
    axis.bar_label(bars, [form.format(value) for value in values], padding=3)
    axis.set_yticks(range(len(values)), names)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.spines[["top", "right"]].set_visible(False)
