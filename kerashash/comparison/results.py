"""Fill a table: train what is still missing, keep it in a CSV file, write the table."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from kerashash import files
from kerashash.checks import check_integer, close_names
from kerashash.comparison.markdown import markdown, printed_part, printed_value
from kerashash.comparison.tables import Part, Table, table
from kerashash.comparison.values import (
    Task,
    append,
    append_curve,
    by_seed,
    in_words,
    read,
    read_curves,
    repair,
)


def compare(
    name: str,
    folder: str | os.PathLike[str],
    *,
    methods: Iterable[str] | None = None,
    bits: Iterable[int] | None = None,
    seeds: int = 3,
    features: str | None = None,
    image_size: int | None = None,
    data: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] = print,
) -> str:
    """Train the methods of a paper's table, and put their values beside the printed.

    All methods get the features of one frozen network, which are computed once and
    cached; those that are trained by gradients have a hidden layer of 512 units on
    them. Each value is appended to ``<name>.csv`` as soon as it is there: a run that
    was killed goes on where it was. ``<name>.md`` is the table, and a PNG file for each
    data set has the values against the bits, where there are several lengths. Curves
    of the first seed are appended to ``<name>-curves.csv``; those of the longest codes
    are drawn, precision of the N nearest in one PNG file, and precision and recall in
    another.

    Args:
        name: str; a table of `kerashash.comparison.list_tables`.
        folder: path of the folder for the files; created if it does not exist.
        methods: list of str or None; rows of the table, by their printed names or their
            classes. None is all.
        bits: list of int or None; code lengths. None is those of the table.
        seeds: int; how many times to train, with the seeds 0, 1, ..., each of which
            draws its own splits.
        features: str or None; a name for `kerashash.backbones.get`; for columns of
            numbers "standardized", "quantiles" or "none". None is the table's own.
        image_size: int or None; the side of the images that the network takes.
        data: str, path or None; other data for all methods, in place of the paper's: a
            folder of images with a subfolder a class, a recipe, or a data set by name.
            Nothing is printed for these.
        data_dir: path or None; as for `kerashash.data.load`.
        cache_dir: path or None; the folder for features. None is
            ``~/.cache/kerashash``.
        report: function of a str, called after each cell.

    Returns:
        str, the table as Markdown.

    Raises:
        TypeError, ValueError: if an argument is wrong.

    Example:
        >>> quiet = lambda line: None
        >>> text = compare("dsre-1", "results", methods=["ITQ"], bits=[12], seeds=1,
        ...                data="digits", report=quiet)
        >>> text.splitlines()[0]
        '# dsre-1: Mean average precision, first setting'
    """
    # Here, because it takes seconds: what has been trained is shown without it.
    from kerashash.comparison import cells
    from kerashash.data import RetrievalData

    check_integer("seeds", seeds)
    chosen = _choose(table(name), methods, bits, features, image_size, data)
    folder = files.as_path(folder, "folder")
    file = folder / f"{name}.csv"
    cache_dir = files.as_path(cache_dir or "~/.cache/kerashash", "cache_dir")
    files.check_place(cache_dir, "cache_dir")
    files.make_folder(folder, "folder")
    curves = folder / f"{name}-curves.csv"
    for path in (file, curves):
        repair(path)
    done = read(file)
    missing: dict[str, str] = {}
    for part in chosen.parts:
        wanted = len(cells.measures(part))
        for seed in range(seeds):
            tasks = [
                Task(part, row, length, seed)
                for row in chosen.rows
                if not row.absent
                for length in part.bits
            ]
            tasks = [task for task in tasks if len(done.get(task.key(), {})) < wanted]
            if not tasks:
                continue
            try:
                rows = cells.load(part, seed, cache_dir, data_dir)
            except _unavailable() as error:
                missing[part.name] = str(error).partition("\n")[0]
                report(f"{part.name}: {missing[part.name]}")
                break
            if isinstance(rows, RetrievalData) == bool(part.measures):
                kind = "label distributions" if part.measures else "images or vectors"
                raise ValueError(
                    f"`data` must be {kind} for the table {name!r}. Received: "
                    f"{in_words(part.data)}."
                )
            for task in tasks:
                try:
                    cell = cells.run(part, task.row, task.bits, seed, rows)
                except (TypeError, ValueError) as error:
                    where = f"{part.name}, {task.row.name}, {task.bits} bits"
                    missing[where] = str(error)
                    report(f"{where}: {error}")
                    continue
                if seed == 0 and cell.curve:
                    append_curve(curves, task, cell)
                append(file, name, task, cell)
                done[task.key()] = cell.values
                value = ", ".join(f"{k} {v:.4f}" for k, v in cell.values.items())
                report(
                    f"{part.name}, {task.row.name}, {task.bits} bits, seed {seed}: "
                    f"{value} ({cell.train_seconds:.1f} s)"
                )
    definitions = {part.name: cells.definition(part) for part in chosen.parts}
    text = markdown(chosen, done, seeds, missing, definitions)
    with files.replacing(folder / f"{name}.md") as stream:
        stream.write(text.encode())
    _draw(chosen, done, seeds, folder)
    _draw_curves(chosen, read_curves(curves), folder)
    return text


def _draw(
    chosen: Table,
    done: dict[tuple[str, ...], dict[str, float]],
    seeds: int,
    folder: pathlib.Path,
) -> None:
    """Draw the values of each part with several code lengths against these."""
    from kerashash.monitoring.plots import against_bits

    for part in chosen.parts:
        if part.measures or len(part.bits) < 2:
            continue
        paper = printed_part(chosen, part)
        methods = {}
        for row in chosen.rows:
            cells = [by_seed(part, row, n, done, seeds) for n in part.bits]
            if any(cells):
                means = [statistics.fmean(c) if c else math.nan for c in cells]
                spreads = [statistics.stdev(c) if len(c) > 1 else 0.0 for c in cells]
                printed = [printed_value(row, paper, n, None) for n in part.bits]
                methods[row.name] = {
                    "bits": part.bits,
                    "measured": means,
                    "spread": spreads,
                    "printed": printed,
                }
        if methods:
            file = f"{_file_name(chosen, part)}.png"
            label = "accuracy" if part.metric == "SVM accuracy" else "mAP"
            title = f"{chosen.name}, {part.name}"
            with files.replacing_by_name(folder / file, file) as path:
                against_bits(methods, title, label, path)


def _draw_curves(
    chosen: Table,
    curves: dict[tuple[str, ...], dict[str, Any]],
    folder: pathlib.Path,
) -> None:
    """Draw the curves of all methods of each part, of its longest codes."""
    from kerashash.monitoring.curves import retrieval_curves

    for part in chosen.parts:
        bits = max(part.bits)
        keys = {row.name: Task(part, row, bits, 0).key() for row in chosen.rows}
        drawn = {name: curves[key] for name, key in keys.items() if key in curves}
        if not drawn:
            continue
        title = f"{chosen.name}, {part.name}, {bits} bits"
        for kind in ("pn", "pr"):
            file = f"{_file_name(chosen, part)}-{kind}.png"
            with files.replacing_by_name(folder / file, file) as path:
                retrieval_curves(drawn, kind, path, title=title)


def _file_name(chosen: Table, part: Part) -> str:
    """Of a part; without what a user's own data may have in their name."""
    return f"{chosen.name}-{re.sub('[^a-z0-9]+', '_', part.name.lower())}"


def _unavailable() -> Any:
    """The errors that say that data are not there."""
    from kerashash.data import DatasetUnavailableError

    return (DatasetUnavailableError, FileNotFoundError)


# ------------------------------------------------------------------------- choices


def _choose(
    full: Table,
    methods: Iterable[str] | None,
    bits: Iterable[int] | None,
    features: str | None,
    image_size: int | None,
    data: str | os.PathLike[str] | None,
) -> Table:
    """Apply what a user has chosen to a table."""
    rows, parts = full.rows, full.parts
    if methods is not None:
        names = [*methods]
        known = [name for row in rows for name in (row.name, row.method or row.name)]
        for name in names:
            if name not in known:
                raise ValueError(
                    f"`methods` must be rows of {full.name}: {sorted({*known})}. "
                    f"Received: {name!r}.{close_names(name, known)}"
                )
        rows = tuple(r for r in rows if r.name in names or r.method in names)
    if data is not None:
        parts = (_own_part(parts[0], data),)
    changes: dict[str, Any] = {}
    if bits is not None:
        changes["bits"] = [check_integer("bits", length) for length in bits]
    if features is not None or image_size is not None:
        changes["features"] = _features(parts[0], features, image_size)
    return dataclasses.replace(
        full, rows=rows, parts=tuple(dataclasses.replace(p, **changes) for p in parts)
    )


def _features(part: Part, name: str | None, image_size: int | None) -> dict[str, Any]:
    if "encoding" in part.features:
        allowed = ("standardized", "quantiles", "none")
        if name not in allowed or image_size is not None:
            raise ValueError(
                f"`features` must be one of {allowed} for columns of numbers, without "
                f"`image_size`. Received: {name!r}, image_size={image_size}."
            )
        return {"encoding": name}
    chosen = {**part.features, **({} if name is None else {"name": name})}
    if image_size is not None:
        chosen["image_size"] = check_integer("image_size", image_size)
    return chosen


def _own_part(part: Part, data: str | os.PathLike[str]) -> Part:
    """A part of a user's own data."""
    from kerashash import data as data_sets
    from kerashash.evaluation.choices import PROTOCOLS
    from kerashash.recipes.recipe import read

    text = os.fspath(data)
    path = pathlib.Path(text).expanduser()
    chosen: dict[str, Any] = {}
    # Of other data, all ranks count: there may be fewer than the paper's, and no
    # validation images.
    if not part.measures and PROTOCOLS.get(part.metric, {"at": 1})["at"] is not None:
        chosen["metric"] = "kerashash"
    if path.is_dir():
        chosen["data"] = {"folder": str(path.resolve())}
    elif path.suffix == ".toml":
        recipe = read(path)
        if "of" in recipe.backbone.network or recipe.backbone.mirrored:
            raise ValueError(
                "`data` must be a recipe whose backbone is a network with a name, not "
                "that of an entry nor mirrored. Received: "
                f"{text!r}, with {recipe.backbone.table()}."
            )
        chosen["data"] = dict(recipe.data)
        if "folder" in chosen["data"]:
            own = path.parent / pathlib.Path(chosen["data"]["folder"]).expanduser()
            chosen["data"]["folder"] = str(own.resolve())
        if "name" in recipe.backbone.network:
            chosen["features"] = dict(recipe.backbone.network)
    elif text in data_sets.list():
        chosen["data"] = {"name": text}
        if text == "digits":  # vectors
            chosen["features"] = {"encoding": "standardized"}
    else:
        raise ValueError(
            "`data` must be a folder of images, a recipe (.toml) or a data set of "
            f"`kerashash.data.list`. Received: {text!r}."
        )
    if "folder" in chosen["data"]:
        chosen["content"] = _content(pathlib.Path(chosen["data"]["folder"]))
    for key in ("seed", "validation"):  # each run draws its own splits
        chosen["data"].pop(key, None)
    return dataclasses.replace(part, name=path.stem, **chosen)


def _content(folder: pathlib.Path) -> str:
    """A digest of the names, sizes and times of the files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        # A link may lead nowhere, and a file be removed meanwhile.
        with contextlib.suppress(OSError):
            stat = file.stat()
            if file.is_file():
                about = [str(file.relative_to(folder)), stat.st_size, stat.st_mtime_ns]
                digest.update(json.dumps(about).encode())
    return digest.hexdigest()[:16]
