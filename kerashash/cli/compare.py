"""The command ``kerashash compare``: several entries, or methods, side by side."""

import pathlib
import shutil
from typing import Any

import click
from click.core import ParameterSource

from kerashash.cli import models
from kerashash.cli.completion import complete_data, complete_entry
from kerashash.cli.options import data_options, json_option, refuse_without_data
from kerashash.cli.printing import print_data, print_json
from kerashash.notes import note

# Images that are encoded to measure a rate, after as many that warm up.
_IMAGES = 128


@click.command("compare")
@click.argument("names", nargs=-1, metavar="[ENTRY...]", shell_complete=complete_entry)
@click.option(
    "--data",
    metavar="NAME|FOLDER|RECIPE",
    help="Measure all on these (a folder a class).",
    shell_complete=complete_data,
)
@data_options
@click.option("--rate", is_flag=True, help="Measure how fast each encodes here.")
@json_option
@click.option("--table", metavar="NAME", help="Of a paper, such as dsre-1.")
@click.option("--methods", metavar="A,B", help="With --table: some of its rows.")
@click.option("--bits", metavar="12,48", help="With --table: some code lengths.")
@click.option(
    "--seeds", type=click.IntRange(1), help="With --table: trainings of each. [3]"
)
@click.option(
    "--features",
    metavar="NAME",
    help="With --table: a frozen backbone, or encoding.",
)
@click.option("--image-size", type=int, help="With --table: that the backbone takes.")
@click.option(
    "--out", metavar="FOLDER", help="With --table: for its files. [comparison]"
)
@click.option("--cache-dir", metavar="FOLDER", help="With --table: for features.")
def _compare(
    names: tuple[str, ...],
    data: str | None,
    protocol: str | None,
    seed: int,
    data_dir: str | None,
    rate: bool,
    as_json: bool,
    table: str | None,
    **choices: Any,
) -> None:
    """Compare models, or the methods of a paper's table.

    Without --data, entries show the metrics of their cards. With --table, its
    methods are trained on the features of one frozen network, and printed
    beside the paper's values; a run that was ended goes on.
    """
    given = {name: value for name, value in choices.items() if value is not None}
    if table is not None:
        context = click.get_current_context()
        if names:
            raise click.UsageError("ENTRY does not go with --table.")
        for name in ("protocol", "seed", "rate", "as_json"):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = f"--{name.removeprefix('as_')}"
                raise click.UsageError(f"{option} does not go with --table.")
        _compare_table(table, data, data_dir, given)
        return
    if given:
        name = next(iter(given)).replace("_", "-")
        raise click.UsageError(f"--{name} goes with --table.")
    if not names:
        raise click.UsageError("Name entries, or a --table.")
    from kerashash import zoo
    from kerashash.cli.evaluate import measured
    from kerashash.codes import packed_width

    if data is None:
        refuse_without_data("protocol", "seed", "data_dir")
    rows = None if data is None else models.load_rows(data, protocol, seed, data_dir)
    columns: list[dict[str, Any]] = []
    for name in names:
        is_file = name.endswith(".keras")
        if is_file and rows is None:
            raise ValueError(f"--data must be given for a file. Received: {name!r}.")
        card = {} if is_file else zoo.entry(name).card
        model = models.load(name) if rows is not None or rate else None
        bits = card.get("bits") if model is None else model.bits
        column: dict[str, Any] = {
            "name": name,
            "method": card.get("method") if model is None else type(model).__name__,
            "bits": bits,
            "bytes": bits and packed_width(bits),
        }
        if rows is None:
            column |= {"data": card.get("data", {}), "metrics": card["metrics"]}
        else:
            column |= measured(model, rows)
        if rate:
            column["images_per_second"] = _rate(model)
        columns.append(column)
    if as_json:
        print_json(columns)
        return
    if rows is not None:
        print_data("On", columns[0]["data"])
        print()
    _print_table(columns, with_data=rows is None)


def _compare_table(
    name: str, data: str | None, data_dir: str | None, given: dict[str, Any]
) -> None:
    """Fill a table of a paper, and print it."""
    from kerashash import comparison

    if "methods" in given:
        given["methods"] = [word.strip() for word in given["methods"].split(",")]
    if "bits" in given:
        try:
            given["bits"] = [int(word) for word in given["bits"].split(",")]
        except ValueError:
            raise click.UsageError(
                f"--bits must be numbers, such as 12,48. Received: {given['bits']!r}."
            ) from None
    folder = given.pop("out", "comparison")
    text = comparison.compare(
        name,
        folder,
        data=data,
        data_dir=data_dir,
        report=note,
        **given,
    )
    print(text, end="")
    if not (pathlib.Path(folder).expanduser() / f"{name}.csv").exists():
        raise ValueError(f"No value of {name} was measured, as said above.")


def _rate(model: Any) -> float:
    """Images, or rows of numbers, that a model encodes in a second."""
    import time

    import numpy as np

    from kerashash.backbones.images import input_size

    side = input_size(model.backbone)
    shape = (side, side, 3) if side else model._batch_shape()[1:]
    x = np.random.default_rng(0).integers(0, 256, (_IMAGES, *shape), np.uint8)
    x = x if side else x.astype(np.float32)
    model.encode(x, batch_size=_IMAGES, verbose=0)
    start = time.perf_counter()
    model.encode(x, batch_size=_IMAGES, verbose=0)
    return _IMAGES / (time.perf_counter() - start)


def _print_table(columns: list[dict[str, Any]], with_data: bool) -> None:
    """Print one column for each entry, as many side by side as the terminal holds."""
    from kerashash.zoo import cards

    definitions: list[str] = []
    tables = []
    for column in columns:
        table = {
            "method": str(column["method"] or ""),
            "bits": str(column["bits"] or ""),
            "bytes an image": str(column["bytes"] or ""),
        }
        if with_data:
            data = column["data"]
            table["data"] = str(data.get("name", data.get("folder", "not said")))
            table["protocol"] = str(data.get("protocol", "default"))
        for row in cards.rows({"name": "", "metrics": column["metrics"]}):
            title = row["metric"]
            if row["definition"]:
                if row["definition"] not in definitions:
                    definitions.append(row["definition"])
                title += f" [{definitions.index(row['definition']) + 1}]"
            table[title] = row["value"]
        if "images_per_second" in column:
            table["images a second"] = f"{column['images_per_second']:.0f}"
        tables.append(table)
    titles = [*dict.fromkeys(title for table in tables for title in table)]
    if "images a second" in titles:  # last, whichever metrics there are
        titles.append(titles.pop(titles.index("images a second")))
    left = max(map(len, titles))
    room = shutil.get_terminal_size().columns - left
    while columns:
        width = taken = 0
        for column, table in zip(columns, tables, strict=True):
            width += 2 + max(map(len, [column["name"], *table.values()]))
            if width >= room and taken:
                break
            taken += 1
        shown = tables[:taken]
        widths = [
            max(map(len, [column["name"], *table.values()]))
            for column, table in zip(columns, shown, strict=False)
        ]
        heads = [column["name"] for column in columns[:taken]]
        _print_row("", heads, left, widths)
        for title in titles:
            values = [table.get(title, "") for table in shown]
            if any(values):
                _print_row(title, values, left, widths)
        print()
        columns, tables = columns[taken:], tables[taken:]
    for number, definition in enumerate(definitions, 1):
        print(f"[{number}] {definition}")


def _print_row(title: str, values: list[str], left: int, widths: list[int]) -> None:
    cells = [f"{value:{width}}" for value, width in zip(values, widths, strict=True)]
    print("  ".join([f"{title:{left}}", *cells]).rstrip())


COMMANDS = (_compare,)
