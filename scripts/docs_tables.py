"""Fill the tables of the documentation from cards, results and the code itself.

    python scripts/docs_tables.py [--check]

A table, a sentence or a number stands between ``<!-- table: NAME -->`` and
``<!-- end -->`` of a page; NAME is a key of `TABLES`. What stands outside is written by
hand. A test checks that each is what this script writes; with `--check` it writes
nothing, names the pages that would change, and fails if there are any. A comment that
begins a line ends the paragraph before it.
"""

import csv
import inspect
import json
import pathlib
import re
import shlex
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from kerashash.comparison.markdown import part_rows
from kerashash.comparison.tables import Part, Table, table
from kerashash.comparison.values import by_seed, read
from kerashash.zoo import cards

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- table: (.+?) -->\n?).*?(<!-- end -->)", re.S)


def pages() -> list[pathlib.Path]:
    """List the pages that may have tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """Return the text of a page with its tables written anew."""
    return MARKED.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}{m[3]}", text)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, with an empty line before and after it."""
    columns = [*columns]
    lines = [columns, ["---"] * len(columns), *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"\n{text}\n\n"


def _read(name: str, **equal: str) -> list[dict[str, str]]:
    """The rows of a CSV file of results that have the values `equal`."""
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        rows = [*csv.DictReader(line for line in file if not line.startswith("#"))]
    return [row for row in rows if all(row[k] == v for k, v in equal.items())]


def _short(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _mean(values: Iterable[float]) -> str:
    """Mean and standard deviation over seeds, and their number."""
    values = [*values]
    return f"{_short(statistics.fmean(values))} ± {_short(statistics.stdev(values))}"


# The zoo.


def _cards() -> list[dict[str, Any]]:
    paths = sorted((ROOT / "zoo").glob("*/card.json"))
    return [json.loads(path.read_text()) for path in paths]


def zoo() -> str:
    """All entries, with the first metric of each."""
    return _table(
        (
            *("entry", "data", "bits", "backbone", "metric", "value"),
            *("learned", "over seeds", "paper"),
        ),
        map(_zoo_row, _cards()),
    )


def _zoo_row(card: dict[str, Any]) -> Iterator[str]:
    first, backbone = card["metrics"][0], card["backbone"]
    marks = ["surrogate"] * ("surrogate" in card) + ["extension"] * _extends(card)
    yield f"`{card['name']}`" + f" ({', '.join(marks)})" * bool(marks)
    yield _data(card)
    yield str(card["bits"])
    if "name" in backbone:
        yield cards.joined(backbone["name"])
    elif "of" in backbone:
        yield f"a head on that of `{backbone['of']}`"
    else:
        yield "none: columns"
    yield first["name"]
    yield cards.number(first["value"])
    # The first of them has the definition of the first metric, ties "expected".
    learned = [
        cards.number(metric["value"])
        for metric in card["metrics"]
        if metric["name"] == first["name"] and metric.get("database") == "learned"
    ]
    yield "".join(learned[:1])
    yield cards.rows(card)[0]["over_seeds"]
    yield card["paper_value"]


def _data(card: dict[str, Any]) -> str:
    return f"{card['data']['name']} {card['data'].get('protocol', '')}".strip()


def _extends(card: dict[str, Any]) -> bool:
    """Whether an entry minimises something else than its paper."""
    extends: bool = card["objective"].startswith("an extension")
    return extends


def best() -> str:
    """The best entry of the five methods on each data set, protocol and metric.

    Surrogates and baselines are left out.
    """
    import kerashash

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for card in _cards():
        if "surrogate" not in card and hasattr(kerashash, card["method"]):
            key = _data(card), card["metrics"][0]["name"]
            groups.setdefault(key, []).append(card)
    rows = []
    for (data, metric), entries in groups.items():
        lowest = cards.BEST.get(metric) == 0
        choose = min if lowest else max
        card = choose(entries, key=lambda c: c["metrics"][0]["value"])
        value = cards.number(card["metrics"][0]["value"])
        unit = f"{metric}, 0 is best" if lowest else metric
        method = card["method"] + ", an extension" * _extends(card)
        method += ", a head" * (cards.head_of(card) is not None)
        method += ", without labels" * (card["method"] == "DDH")
        rows.append((data, f"`{card['name']}`", method, unit, value))
    return _table(("data", "entry", "method", "metric", "value"), sorted(rows))


# Methods.

_BITS, _ROWS = 48, 5000  # presets may depend on these


def options(name: str) -> str:
    """Defaults of a method's options beside those of its presets."""
    import kerashash
    from kerashash import baselines

    method = getattr(kerashash, name, None) or getattr(baselines, name)
    presets = _presets(method)
    signature = inspect.signature(method).parameters.values()
    rows = []
    for parameter in signature:
        if parameter.default is parameter.empty or parameter.name == "preset":
            continue
        if parameter.name in ("num_train", "num_classes"):
            continue
        values = [
            preset.get(parameter.name, parameter.default) for preset in presets.values()
        ]
        marked = [_value(value) for value in values]
        marked[1:] = ["the same" if v == marked[0] else v for v in marked[1:]]
        rows.append((f"`{parameter.name}`", *marked))
    names = [f'`preset="{preset}"`' for preset in [*presets][1:]]
    return _table(("option", "default", *names), rows)


def _presets(method: type) -> dict[str, dict[str, Any]]:
    """The options of each preset, for 48 bits and 5,000 training rows."""
    for base in method.__mro__:  # those of DSRE are those of its relatives
        module: Any = inspect.getmodule(base)
        if hasattr(module, "PRESETS"):
            return dict(module.PRESETS)
        if hasattr(module, "presets"):
            break
    else:
        return {"default": {}}
    known = {"bits": _BITS, "num_train": _ROWS}
    names = inspect.signature(module.presets).parameters
    return dict(module.presets(**{name: known[name] for name in names}))


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"`{value:.4g}`"
    return f"`{value!r}`"


def ablation(file: str, variants: dict[str, str]) -> str:
    """mAP of variants by code length, over seeds."""
    rows = _read(file)
    # Only lengths at which all variants were run.
    lengths = sorted({int(row["bits"]) for row in rows})
    lines = []
    for variant, label in variants.items():
        line = [label]
        for bits in lengths:
            found = [
                float(row["value"])
                for row in rows
                if row["variant"] == variant and int(row["bits"]) == bits
            ]
            line.append(_mean(found) if len(found) > 1 else "")
        lines.append(line)
    return _table(("", *(f"{bits} bits" for bits in lengths)), lines)


def distributions() -> str:
    """The six measures of label distributions on Movie, over seeds."""
    measures = ("kl", "chebyshev", "clark", "canberra", "cosine", "intersection")
    names = {
        "DDH-LDL": "DDH-LDL",
        "DDH-LDL-I": "DDH-LDL-I, no graph convolution",
        "DDH-LDL-II": "DDH-LDL-II, no rotation",
        "AA-kNN": "AA-kNN on the columns",
        "AA-kNN, encoded columns": "AA-kNN on the encoded columns",
        "mean distribution": "mean of the training rows",
    }
    lines = []
    for method, label in names.items():
        rows = _read("ddh_ldl_movie", method=method)
        means = (statistics.fmean(float(row[m]) for row in rows) for m in measures)
        lines.append([label, *(_short(value, 4) for value in means)])
    return _table(("", *measures), lines)


def bit_updates() -> str:
    """DCDH's learned codes, solved in each step or after each epoch."""
    lines = []
    for dropout in ("0.0", "0.5"):
        for update in ("batch", "epoch"):
            rows = _read("dcdh_discrete_step", b_update=update, dropout=dropout)
            columns = ("mAP@ALL encoded", "mAP@ALL learned")
            means = (_mean(float(row[c]) for row in rows) for c in columns)
            lines.append([f'`b_update="{update}"`', dropout, *means])
    columns = ("", "dropout", "mAP@ALL, encoded database", "learned database")
    return _table(columns, lines)


def code_updates() -> str:
    """DSRE's learned codes, solved at several moments."""
    labels = {
        "last step": 'in the last step of an epoch (`b_update="dcc"`)',
        "each step": "rows of the batch, in each step",
        "epoch": "after each epoch",
    }
    lines = []
    for data in ("digits", "digit pairs"):
        for update, label in labels.items():
            rows = _read("dsre_codes", data=data, update=update, dropout="0.0")
            means = (
                _mean(float(row[c]) for row in rows) for c in ("encoded", "learned")
            )
            lines.append([data, label, *means])
    return _table(("data", "B is solved", "encoded database", "learned"), lines)


def flowers() -> str:
    """Accuracy of a linear SVM on codes of Flowers-17."""
    lines: dict[str, list[float]] = {}
    for row in _read("flowers17"):
        lines.setdefault(row["input of the SVM"], []).append(float(row["accuracy"]))
    return _table(
        ("input of the SVM", "accuracy"),
        ([name, _mean(values)] for name, values in lines.items()),
    )


def eager_loop() -> str:
    """Training of DDH-LDL beside an eager loop."""
    (row,) = _read("ddh_ldl_speed", preset="default")
    return f"{float(row['ratio']):.2f}"


def neighbourhoods() -> str:
    """Time of DDH's neighbourhoods of CIFAR-10."""
    return f"{_read('neighbours', n='50000')[0]['seconds']} s"


def dcdh_memory() -> str:
    """Peak memory of an epoch of DCDH."""
    rows = {row["b_update"]: row for row in _read("dcdh_memory")}
    epoch, batch = (f"{int(rows[u]['peak_mb']):,} MB" for u in ("epoch", "batch"))
    return _lines(
        f'has a peak memory of {epoch} with `b_update="epoch"`, and of {batch} with '
        '`"batch"`, which ran after it in one process'
    )


# The papers' tables.

# What `kerashash compare` writes does not say where it ran.
_MACHINE = "2 CPU cores, no GPU"
# Data that the machine did not have.
_AWAY = ("nus_wide", "ldl/raf_ml", "ldl/fbp5500", "ldl/flickr_ldl")


def comparison(name: str) -> str:
    """A paper's table with the values measured here, from its CSV file."""
    from kerashash.comparison import cells

    full = table(name)
    done = read(RESULTS / "comparison" / f"{name}.csv")
    seeds = {part.name: _seeds(full, part, done) for part in full.parts}
    most = max(seeds.values())
    file = f"benchmarks/results/comparison/{name}.csv"
    blocks = [f"{full.source}."]
    if most:
        blocks[0] += f" Every seed: [{name}.csv](../{file})."
        blocks += [full.note] * bool(full.note)
        blocks.append(f"```bash\n{_command(full, done, most)}\n```")
    for part in full.parts:
        if not seeds[part.name]:
            continue
        words = {**part.data, **part.features}
        network = words.get("encoding") or (
            f"{words['name']} at {words['image_size']} pixels"
        )
        blocks += [
            f"**{part.name}**: {_data_words(part)}; features: {network}; "
            f"{cells.definition(part)}; {_seed_words(full, part, done)}; {_MACHINE}.",
            "\n".join(part_rows(full, part, done, seeds[part.name])),
        ]
        if missing := _not_run(full, part, done):
            blocks.append(f"Not run: {', '.join(missing)}.")
    absent = [row.name for row in full.rows if row.absent]
    if absent and most:
        blocks.append(f"Printed only, for the library has none: {', '.join(absent)}.")
    for away in (True, False):
        words = "; ".join(
            f"{part.name} ({_data_words(part)})"
            for part in full.parts
            if not seeds[part.name] and (part.data["name"] in _AWAY) == away
        )
        if words:
            why = ", for the data were not to be had" * away
            blocks.append(f"Not measured{why}: {words}.")
    return "\n" + "\n\n".join(map(_wrapped, blocks)) + "\n\n"


_Done = dict[tuple[str, ...], dict[str, float]]


def _data_words(part: Part) -> str:
    words = f"`{part.data['name']}`"
    if "protocol" in part.data:
        words += f", protocol `{part.data['protocol']}`"
    return words


def _counts(full: Table, part: Part, done: _Done) -> dict[str, list[int]]:
    """By row, how many seeds each of its cells has."""
    return {
        row.name: [len(by_seed(part, row, n, done, _MOST)) for n in part.bits]
        for row in full.rows
        if not row.absent
    }


_MOST = 100  # seeds that are looked for


def _seeds(full: Table, part: Part, done: _Done) -> int:
    """The most seeds that a cell of a part has."""
    return max(
        (n for row in _counts(full, part, done).values() for n in row), default=0
    )


def _seed_words(full: Table, part: Part, done: _Done) -> str:
    """How many seeds the cells of a part have."""
    counts = {n for row in _counts(full, part, done).values() for n in row if n}
    if len(counts) > 1:
        return f"{min(counts)} to {max(counts)} seeds"
    return "1 seed" if counts == {1} else f"{counts.pop()} seeds"


def _not_run(full: Table, part: Part, done: _Done) -> list[str]:
    """Rows, or cells of rows, that the library could train and that are not there."""
    names = []
    for name, counts in _counts(full, part, done).items():
        lengths = [n for n, count in zip(part.bits, counts, strict=True) if not count]
        if len(lengths) == len(part.bits):
            names.append(name)
        elif lengths:
            names.append(f"{name} at {'/'.join(map(str, lengths))} bits")
    return names


def _command(full: Table, done: _Done, seeds: int) -> str:
    """The command that fills what is there."""
    counts = [_counts(full, part, done) for part in full.parts]
    there = {name for part in counts for name, row in part.items() if any(row)}
    command = f"kerashash compare --table {full.name} --seeds {seeds}"
    if there != {*counts[0]}:
        methods = ",".join(row.name for row in full.rows if row.name in there)
        command += f" --methods {shlex.quote(methods)}"
    return command


def _wrapped(block: str) -> str:
    """A paragraph in lines none of which is long; other blocks as they are."""
    return block if block.startswith(("|", "```")) else _lines(block)


def itq_of_faiss() -> str:
    """Iterative quantization beside that of faiss, at the fewest and the most bits."""
    rows = _read("itq")
    lengths = sorted({int(row["bits"]) for row in rows})
    ends = [[r for r in rows if r["bits"] == str(n)] for n in (lengths[0], lengths[-1])]

    def means(column: str) -> str:
        values = [statistics.fmean(float(r[column]) for r in end) for end in ends]
        return " and ".join(map(_short, values))

    right, own = (
        _short(statistics.fmean(float(row[column]) for row in rows))
        for column in ("faiss mAP, U V^T", "mAP")
    )
    return (
        f"has mAP@ALL {means('faiss mAP')} with {lengths[0]} and {lengths[-1]} bits "
        f"where ours has {means('mAP')}: both project to the same space, but the loss "
        f"of its rotation (eq. 2) is {means('faiss loss')}, and that of ours "
        f"{means('loss')}. Of the singular value decomposition U S Vᵀ it takes U V, "
        "where the best rotation is U Vᵀ. From its projections and its first rotation, "
        f"with U Vᵀ, one has {right} over all lengths and seeds, and ours has {own}"
    )


# Search.


def ranker() -> str:
    """How many times as fast as faiss the ranker is; in brackets, limited to AVX2."""
    rows = [row for row in _read("ranker") if row["codes"] == "random"]
    lengths = sorted({int(row["bits"]) for row in rows})
    cells: dict[tuple[int, ...], dict[int, str]] = {}
    for row in sorted(rows, key=_limit):
        ratio = f"{float(row['faiss / kerashash']):.1f}"
        key = (int(row["n"]), int(row["k"]), int(row["queries"]))
        known = cells.setdefault(key, {})
        bits = int(row["bits"])
        known[bits] = f"{known.get(bits, '')} ({ratio})" if _limit(row) else ratio
    lines = [
        [f"{n:,}", str(k), str(queries), *(known.get(b, "") for b in lengths)]
        for (n, k, queries), known in sorted(cells.items())
    ]
    return _table(("codes", "k", "queries", *(f"{b} bits" for b in lengths)), lines)


def _one_query(**equal: str) -> dict[str, str]:
    usual = {"codes": "random", "bits": "64", "k": "100", "queries": "1"}
    rows = _read("ranker", **usual, **equal)
    return next((row for row in rows if not _limit(row)), rows[0])


def million() -> str:
    """Time of one query on a million codes."""
    return f"{_milliseconds(float(_one_query(n='1000000')['kerashash ms/query']))} ms"


def ranker_memory() -> str:
    """Memory of a search."""
    (row,) = _read("ranker_memory", n="10000000")
    return _lines(
        f"{int(row['n']):,} codes of {row['bits']} bits, {row['packed_mb']} MB packed, "
        f"take {row['ranked_mb']} MB with everything that a search needs"
    )


def large_index() -> str:
    """The index of 100,000,000 codes."""
    (row,) = _read("index_large", n="100000000")
    return _lines(
        "the top 100 of one query take "
        f"{_milliseconds(float(row['top_k 100 cpu ms']))} ms of processor time and "
        f"those within 2 take {_milliseconds(float(row['within 2 cpu ms']))} ms. The "
        f"index takes {float(row['build cpu s']):.0f} s of processor time to build "
        f"and, with the codes, {float(row['now GB']):.1f} GB of memory, "
        f"{float(row['peak GB']):.1f} at its peak"
    )


def gpu() -> str:
    """Searches on an accelerator, beside the usual way."""
    rows = _read("gpu")
    lines = []
    for bits in ("64", "128"):
        for millions in (1, 10, 96):
            n, texts = str(millions << 20), []
            for queries in ("1", "64"):
                item = f"search_{millions}M_{bits}_bits_{queries}_queries"
                same = {"n": n, "bits": bits, "queries": queries}
                ours, usual = (
                    next(
                        row
                        for row in rows
                        if row["item"] == name
                        and all(row[c] == v for c, v in same.items())
                    )
                    for name in (item, "cupy_and_torch_topk")
                )
                texts += [f"{float(row['ms']):.2f}" for row in (ours, usual)]
                if queries == "1":
                    share = f"{float(ours['of_copy']):.2f}"
            lines.append([f"{int(n):,}", bits, *texts, share])
    columns = ("codes", "bits", "1 query", "CuPy, PyTorch", "64 queries")
    return _table((*columns, "CuPy, PyTorch", "of copy"), lines)


def largest_on_gpu() -> str:
    """Searches of the largest database on an accelerator."""
    names = [f"search_96M_64_bits_{n}_queries" for n in (1, 64)]
    (one,), (many,) = (
        [row for row in _read("gpu", item=name) if row["queries"] != "1024"]
        for name in names
    )
    return (
        f"one query {_milliseconds(float(one['ms']))} ms, "
        f"64 queries {_milliseconds(float(many['ms']))} ms"
    )


def evaluation() -> str:
    """The evaluation beside a loop that sorts."""
    columns = ("all_measures_s", "peak_mb", "argsort_loop_s", "loop / kerashash")
    lines = [
        [row["machine"] + _limit(row), *(row[column] for column in columns)]
        for row in _read("evaluation")
    ]
    names = ("seconds", "peak memory, MB", "seconds of the loop", "ratio of turns")
    return _table(("machine", *names), lines)


def _limit(row: dict[str, str]) -> str:
    """Say if a run might use fewer vector instructions than its processor has."""
    isa = row.get("isa") or ""
    return f", limited to {isa}" if isa not in row["machine"] else ""


def pipeline() -> str:
    """The input pipeline beside a backbone."""
    (row,) = _read("pipeline", data="mirflickr25k", size="128")
    return _lines(
        f"at {int(row['pipeline_images_per_s']):,} images per second on 2 CPU cores, "
        f"{float(row['median_ratio']):.0f} times the rate at which EfficientNet-Lite0 "
        "processes images in the same run"
    )


def actors() -> str:
    """Photographs encoded by actors of Ray."""
    lines = []
    for row in _read("cluster"):
        if (what := row["what"]).startswith("encode by"):
            rate, ratio = f"{float(row['per_s']):.0f}", float(row["ratio"])
            if ratio != 1:
                rate += f" ({ratio:.2f} times)"
            lines.append([what.partition(", ")[2], rate, f"{row['cpu_ms']} ms"])
    return _table(("actors", "images a second", "processor time for an image"), lines)


def commits() -> str:
    """Rows a second that one process commits."""
    folder, lance = (
        _read("cluster", what=f"commit 4096 rows at a time, {engine}")[0]["per_s"]
        for engine in ("folder", "lance")
    )
    return f"{float(folder):,.0f} rows a second in a folder and {float(lance):,.0f}"


def serving() -> str:
    """What requests to a server cost."""
    lines = []
    for row in _read("serving"):
        if row["photograph"] != "128x128":
            line = [row["entry"], f"{int(row['codes']):,}"]
            line += [
                row["photograph"].replace("x", " x "),
                row["clients"],
                row["batch"],
            ]
            names = ("p50_ms", "p99_ms", "requests_per_second", "cpu_ms")
            lines.append([*line, *(f"{float(row[name]):.0f}" for name in names)])
    columns = ("entry", "codes", "photograph", "clients", "`--batch`", "median, ms")
    columns += ("99 %, ms", "requests a second", "processor time a request, ms")
    return _table(columns, lines)


def scale() -> str:
    """What a million photographs or codes cost."""
    values = {(row["what"], row["of"]): row["value"] for row in _read("scale")}
    # The last: an entry may be measured again, in a later version.
    (*_, photograph) = [of for what, of in values if what == "read and resize"]
    (*_, network) = [of for what, of in values if of.endswith(", arrays")]

    def value(what: str, of: str) -> str:
        number = float(f"{float(values[what, of]):.2g}")
        return f"{number:,.0f}" if number >= 10 else f"{number:.2g}".removeprefix("0")

    def both(what: str, unit: str) -> str:
        folder, lance = (value(what, engine) for engine in ("folder", "lance"))
        return f"{folder} {unit} in a folder, {lance} {unit} in LanceDB"

    one, many = (value("top 100 of a million", f"batch of {n}") for n in (1, 64))
    return _table(
        ("step", "a million images or codes"),
        [
            (
                f"read a {photograph.replace(', to', ' file and resize it to')}",
                value("read and resize", photograph) + " s",
            ),
            (
                f"encode with `{network.removesuffix(', arrays')}`",
                value("encode", network) + " s",
            ),
            ("codes in memory", "8 MB"),
            ("add to a store", both("add to a store", "s")),
            ("disk", both("disk", "MB")),
            ("load for search", value("load for exact search", "ranker") + " s"),
            (
                "exact top 100, one query or batches of 64",
                f"{one} ms or {many} ms a query",
            ),
        ],
    )


def recalls() -> str:
    """Recall of the approximate index of a store."""
    labels = {
        "crossed": "recall, halves of codes of ddh-cifar10-64@1 crossed",
        "random": "recall, random codes",
    }
    probes = ("1", "5", "20", "50", "100")
    lines = [
        [
            label,
            *(
                _short(float(_read("ivf", codes=codes, nprobes=n)[0]["recall"]))
                for n in probes
            ),
        ]
        for codes, label in labels.items()
    ]
    return _table(("nprobes", *probes), lines)


def store_speed() -> str:
    """What a store of a million codes in a folder costs."""
    (add,) = _read("store", engine="folder", what="add, s")
    what = "open, top 100 of 64 queries, s"
    (opened,) = _read("store", engine="folder", what=what)
    return _lines(
        f"adding them with paths and labels takes {float(add['value']):.1f} s in a "
        "folder; opening the store and the top 100 of 64 queries, with keys and "
        f"labels, take {float(opened['ratio']):.1f} times as long as to load a file of "
        "codes and search it with `HammingRanker`"
    )


def store_commits() -> str:
    """What a commit of ten rows to a large store costs."""
    what = "add 10 numbered rows, processor ms"
    rows = _read("store", what=what, codes="1000000")
    ms = {row["engine"]: f"{float(row['value']):.0f} ms" for row in rows}
    return f"{ms['folder']} of processor time in a folder and {ms['lance']}"


def _lines(*paragraphs: str) -> str:
    """Lines of text, none of them long."""
    filled = (textwrap.fill(text, 98, break_on_hyphens=False) for text in paragraphs)
    return "\n\n".join(filled)


def index() -> str:
    """How many times as long a scan of all codes takes."""
    labels = {
        "crossed": "crossed from those of a trained entry",
        "random": "random",
        "10,000 distinct": "10,000 distinct ones",
    }
    searches = (
        ("top_k", "100", "1"),
        ("top_k", "100", "64"),
        ("within", "2", "1"),
        ("within", "2", "16"),
    )
    lines = []
    for codes, label in labels.items():
        line = [label]
        for search, number, queries in searches:
            (row,) = _read(
                "index",
                **{"codes": codes, "n": "10000000", "bits": "64", "search": search},
                **{"k or radius": number, "queries": queries},
            )
            ratio = float(row["scan / index"])
            text = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
            if queries == "1":
                text += f" ({_milliseconds(float(row['index ms/query']))} ms)"
            line.append(text)
        lines.append(line)
    columns = ("top 100, 1 query", "top 100, 64 queries", "within 2, 1 query")
    return _table(("codes", *columns, "within 2, 16 queries"), lines)


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else _short(value, 2)


def encoding() -> str:
    """Photographs to codes by path, beside the same network on arrays in memory."""
    lines = []
    for row in _read("encoding"):
        result = f"{float(row['value']):,.0f}"
        if row["from memory"]:
            result = f"{float(row['ratio']):.0%} of the rate from memory"
        elif "share of bits" in row["what"]:
            result = f"{float(row['value']):.1%}"
        time = f"{float(row['processor']):.0f} ms" if row["processor"] else ""
        lines.append([row["what"], f"{int(row['images']):,}", result, time])
    columns = ("what", "images", "result", "processor time an image")
    return _table(columns, lines)


def engines() -> str:
    """Images to codes by each engine, from memory and by path."""
    pace = "of OpenVINO's pace"
    by_engine: dict[str, dict[str, dict[str, str]]] = {}
    for row in _read("engines"):
        by_engine.setdefault(row["engine"], {})[row["input"]] = row
    lines = []
    for engine, rows in by_engine.items():
        arrays, files = rows["arrays"], rows["JPEG files"]
        lines.append(
            [
                engine,
                f"{int(arrays['images a second']):,}",
                *(f"{float(row[pace]):.2f}" for row in (arrays, files)),
                f"{float(arrays['times TensorFlow']):.1f}",
            ]
        )
    columns = (
        "engine",
        "images a second",
        "of OpenVINO's own pace",
        "of it, from JPEG files",
        "times TensorFlow",
    )
    return _table(columns, lines)


def onednn() -> str:
    """TensorFlow with and without oneDNN, on a processor without AVX-512."""
    encode, head = (
        row
        for what in ("encode", "head")
        for row in _read("onednn", what=what, isa="AVX2")
    )
    times = "times as fast"
    return _lines(
        f"on {encode['machine']}, codes come {encode[times]} times as fast as without, "
        f"and heads train {head[times]} times as fast"
    )


def in_integers() -> str:
    """What 8-bit integers cost."""
    *_, row = _read("int8")  # of the entry's last version
    value, exact = float(row["mAP@ALL"]), float(row["mAP@ALL of the entry"])
    return (
        f"mAP@ALL of `{row['network']}` is {value:.4f} with 8-bit integers and "
        f"{exact:.4f} without, and {float(row['equal bits']):.1%} of the bits are equal"
    )


def of_mirror_images() -> str:
    """What features averaged over mirror images give."""
    rows = _read("mirrored")
    values = " and ".join(
        f"{float(row['mAP@ALL']):.4f} of `{row['network']}` "
        f"({float(row['mAP@ALL of the entry']):.4f} without)"
        for row in rows
    )
    pace = max(float(row["times the pace"]) for row in rows)
    return f"mAP@ALL is {values}, at {pace:.2g} of the pace"


def heads() -> str:
    """Training of heads as a multiple of the time that PyTorch takes."""
    columns = {
        "kerashash": "kerashash / pytorch",
        "32 steps a call": "kerashash_32_steps / pytorch",
        "Keras alone": "keras / pytorch",
    }
    lines = [
        [
            row["method"],
            min(row["pytorch_one_thread_s"], row["pytorch_all_threads_s"], key=float)
            + " s",
            *(row[column] for column in columns.values()),
        ]
        for row in _read("heads")
        if not _limit(row)
    ]
    return _table(("method", "PyTorch", *columns), lines)


def loading() -> str:
    """Seconds to load an entry."""
    *_, row = _read("loading")
    return f"{row['first_s']} s, and the next time {row['next_s']} s"


def first_search() -> str:
    """`kerashash search` in a new process."""
    names = {"first": "the first ever", "later": "later ones, medians"}
    lines = [
        [names[row["run"]], row["tensorflow_s"] + " s", row["search_s"] + " s"]
        for row in _read("search")
    ]
    return _table(("search", "import of TensorFlow", "from there to the result"), lines)


# Reliability.

_KILLED = {
    "zoo.save": "`zoo.save`",
    "save_model": "`save_model`",
    "fit": "`fit` with `callbacks.Backup`",
    "fit of DCDH": "`fit` of DCDH with `callbacks.Backup`",
    "train --recipe": "`kerashash train --recipe`",
    "cache_features": "`data.cache_features`",
    "HammingRanker.save": "`HammingRanker.save`",
    "to_saved_model": "`HammingRanker.to_saved_model`",
    "downloads": "downloads of entries",
    "store.add": "`CodeStore.add`",
    "store.compact": "`CodeStore.compact`",
    "store.add of LanceDB": "`CodeStore.add`, LanceDB",
    "store.compact of LanceDB": "`CodeStore.compact`, LanceDB",
    "encode on a cluster": "`kerashash encode --cluster`",
}
_DAMAGED = {
    "some.keras": "a saved model, `.keras`",
    "model.weights.h5": "`model.weights.h5` of an entry",
    "config.json": "`config.json` of an entry",
    "card.json": "`card.json` of an entry",
    "codes.npz": "`codes.npz` of an entry",
    "golden.npz": "`golden.npz` of an entry",
    "index.json": "`index.json` of a server",
    "recipe.toml": "a recipe",
    "ranker": "a saved `HammingRanker`",
    "rows of a store": "the rows of a `CodeStore`",
    "codes of a store": "the codes of a `CodeStore`",
    "mat": "a `.mat` file",
    "packed mat": "a `.mat` file, compressed",
    "jpeg": "a JPEG photograph",
    "png": "a PNG image",
    "gif": "a GIF image",
    "bmp": "a BMP image",
    "webp": "a WebP image",
    "tiff": "a TIFF image",
    "avif": "an AVIF image",
}


def kills() -> str:
    """Processes killed at random moments while they write."""
    rows = {row["target"]: row for row in _read("faults", harness="kills")}
    if {*rows} != {*_KILLED}:
        raise ValueError(f"Kills without a name: {sorted({*rows} ^ {*_KILLED})}.")
    lines = [
        [label, f"{int(rows[target]['runs']):,}", rows[target]["faults"]]
        for target, label in _KILLED.items()
    ]
    total = [
        f"{sum(int(row[c]) for row in rows.values()):,}" for c in ("runs", "faults")
    ]
    return _table(("killed while", "kills", "faults"), [*lines, ["**all**", *total]])


def damage() -> str:
    """Damaged inputs that were given to every loader."""
    rows = {row["target"]: row for row in _read("faults", harness="fuzz")}
    if {*rows} != {*_DAMAGED}:
        raise ValueError(f"Inputs without a name: {sorted({*rows} ^ {*_DAMAGED})}.")
    lines, total = [], np.zeros(4, int)
    for target, label in _DAMAGED.items():
        refused, accepted = re.findall(r"\d+", rows[target]["outcomes"])
        row = rows[target]
        numbers = np.array([row["runs"], refused, accepted, row["faults"]], int)
        total += numbers
        lines.append([label, *(f"{number:,}" for number in numbers)])
    lines.append(["**all**", *(f"{number:,}" for number in total)])
    columns = ("damaged", "inputs", "refused by name", "read", "faults")
    return _table(columns, lines)


def mutants() -> str:
    """How many deliberate mistakes in the code the tests found."""
    rows = _read("mutants")
    found = sum(row["result"] == "killed" for row in rows)
    return f"\n{found} of {len(rows)} deliberate mistakes were found by a test.\n\n"


_METHODS = (
    *("AdaLabelHash", "DCDH", "DSRE", "DDH", "DDHLDL"),
    *("SSDH", "DPSH", "DHN", "HashNet", "DTSH", "NINH", "CNNH", "DSDH", "DISH"),
    *("LSH", "ITQ", "SpH", "SDH", "KSH", "LFH", "COSDISH", "FastH"),
    *("CPNN", "LDSVR"),
)

_COMPARED = (
    *("dcdh-1", "dcdh-2", "dsre-1", "dsre-2", "adalabel-3", "adalabel-4"),
    *("ddh-2", "ddh-4", "ddh-6", "ddh-ldl-2"),
)

TABLES: dict[str, Callable[[], str]] = {
    "zoo": zoo,
    "best": best,
    "ms of one query on a million codes": million,
    "ranker": ranker,
    "ranker memory": ranker_memory,
    "index": index,
    "large index": large_index,
    "gpu": gpu,
    "gpu, largest": largest_on_gpu,
    "evaluation": evaluation,
    "pipeline": pipeline,
    "actors": actors,
    "commits": commits,
    "serving": serving,
    "scale": scale,
    "recalls": recalls,
    "store speed": store_speed,
    "store commits": store_commits,
    "ddh-ldl beside an eager loop": eager_loop,
    "neighbourhoods": neighbourhoods,
    "dcdh memory": dcdh_memory,
    "encoding": encoding,
    "engines": engines,
    "onednn": onednn,
    "int8": in_integers,
    "mirrored": of_mirror_images,
    "heads": heads,
    "loading": loading,
    "itq of faiss": itq_of_faiss,
    "search": first_search,
    "kills": kills,
    "damage": damage,
    "mutants": mutants,
    "ddh-ldl": distributions,
    "dcdh bit updates": bit_updates,
    "dsre code updates": code_updates,
    "flowers17": flowers,
    "dsre ablation": lambda: ablation(
        "dsre_cifar10",
        {
            "symmetric relative entropy": "DSRE, symmetric relative entropy",
            "relative entropy (DISH)": "plain relative entropy (DISH)",
            "no divergence": "no divergence",
            "ridge": 'symmetric relative entropy, `w_update="ridge"`',
            "DSDH": "DSDH",
        },
    ),
    "dcdh ablation": lambda: ablation(
        "dcdh_cifar10",
        {
            "full": "DCDH",
            "V": "DCDH-V, the image stream alone",
            "S": "DCDH-S, image and label streams",
        },
    ),
    "adalabelhash frozen": lambda: ablation(
        "adalabel_cifar10",
        {
            "labelled only": "the 5,000 labelled images alone",
            "labelled only, as many steps": "the same, for as many steps as below",
            "self-trained": "self-trained, the most confident 30 %",
            "self-trained on nearly all": "self-trained, the most confident 90 %",
        },
    ),
    "adalabelhash fine-tuned": lambda: ablation(
        "adalabel_cifar10_fine_tuned",
        {
            "labelled only": "the 5,000 labelled images alone",
            "labelled only, as many steps": "the same, for as many steps as below",
            "self-trained": "self-trained, the most confident 30 %",
        },
    ),
    "ddh cifar10": lambda: ablation("ddh_cifar10", {"DDH": "DDH", "ITQ": "ITQ"}),
    **{f"paper {name}": (lambda name=name: comparison(name)) for name in _COMPARED},
    **{f"options of {name}": (lambda name=name: options(name)) for name in _METHODS},
}


def main() -> None:
    """Write the tables of all pages, or say which would change."""
    changed = []
    for page in pages():
        text = page.read_text()
        if (new := filled(text)) != text:
            changed.append(page.relative_to(ROOT))
            if "--check" not in sys.argv[1:]:
                page.write_text(new)
    if changed and "--check" in sys.argv[1:]:
        sys.exit(f"Run scripts/docs_tables.py: {', '.join(map(str, changed))}")


if __name__ == "__main__":
    main()
