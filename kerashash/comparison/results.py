"""Fill a table: train what is still missing, keep it in a CSV file, write the table."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from kerashash import files, installed
from kerashash.checks import check_integer
from kerashash.comparison.choices import choose
from kerashash.comparison.figures import draw, draw_curves
from kerashash.comparison.markdown import markdown
from kerashash.comparison.tables import table
from kerashash.comparison.values import (
    CURVE_COLUMNS,
    Task,
    append,
    append_curve,
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
        cache_dir: path or None; the folder for features. None is the
            environment variable KERASHASH_CACHE or, without it, ``~/.cache/kerashash``.
        report: function of a str, called after each cell.

    Returns:
        str, the table as Markdown.

    Raises:
        TypeError, ValueError: if an argument is wrong; or if a CSV file of these names
            has other columns, and stays as it is, or a line that cannot be read or
            holds a value that its measure cannot have, which is named.

    Example:
        >>> quiet = lambda line: None
        >>> text = compare("dsre-1", "results", methods=["ITQ"], bits=[12], seeds=1,
        ...                data="digits", report=quiet)
        >>> text.splitlines()[0]
        '# dsre-1: Mean average precision, first setting'
    """
    # Here, because it takes seconds: tables are listed without it.
    from kerashash.comparison import cells
    from kerashash.data import RetrievalData

    check_integer("seeds", seeds)
    chosen = choose(table(name), methods, bits, features, image_size, data)
    folder = files.as_path(folder, "folder")
    file = folder / f"{name}.csv"
    cache_name = "cache_dir" if cache_dir else "KERASHASH_CACHE"
    cache_dir = files.as_path(cache_dir or installed.cache(), cache_name)
    files.make_folder(cache_dir, cache_name)
    files.make_folder(folder, "folder")
    curves = folder / f"{name}-curves.csv"
    # What is refused is refused now, not after all that is to be trained.
    repair(file)
    repair(curves, CURVE_COLUMNS)
    done = read(file)
    read_curves(curves)
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
    draw(chosen, done, seeds, folder)
    draw_curves(chosen, read_curves(curves), folder)
    return text


def _unavailable() -> Any:
    """The errors that say that data are not there."""
    from kerashash.data import DatasetUnavailableError

    return (DatasetUnavailableError, FileNotFoundError)
