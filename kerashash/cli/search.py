"""The commands ``kerashash search | duplicates``: they read a store of codes."""

import argparse
import base64
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 1rem; }}
{style}</style>
<h1>{title}</h1>
{sections}
</html>
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to the parser."""
    search = commands.add_parser(
        "search", help="find the photographs of a store that are nearest to others"
    )
    search.add_argument(
        "queries", nargs="+", metavar="QUERY", help="path of an image file"
    )
    search.add_argument("--in", dest="store", required=True, help="path of a store")
    search.add_argument(
        "--top", type=int, default=10, help="at most so many a query (default: 10)"
    )
    search.add_argument("--radius", type=int, help="at most so many bits away")
    _add_where(search)
    output = search.add_mutually_exclusive_group()
    _add_json(output)
    output.add_argument("--png", metavar="FILE", help="write a sheet of thumbnails")
    output.add_argument("--html", metavar="FILE", help="write a page of thumbnails")
    search.add_argument(
        "--images",
        metavar="FOLDER",
        default=".",
        help="folder that the store's paths are relative to (default: .)",
    )
    search.set_defaults(run=_search)

    duplicates = commands.add_parser(
        "duplicates", help="find groups of nearly equal photographs in a store"
    )
    duplicates.add_argument("store", help="path of a store")
    duplicates.add_argument(
        "--radius",
        type=int,
        default=0,
        help="bits in which the codes of a pair may differ (default: 0)",
    )
    _add_where(duplicates)
    _add_json(duplicates)
    duplicates.set_defaults(run=_duplicates)


def _add_where(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--where", help='an SQL condition on the metadata, such as "year >= 2025"'
    )


def _add_json(command: Any) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def _search(options: argparse.Namespace) -> None:
    from kerashash.checks import check_integer
    from kerashash.store import CodeStore

    store = CodeStore.open(options.store)
    radius = store.bits
    if options.radius is not None:
        radius = check_integer("--radius", options.radius, least=0, most=store.bits)
    top = check_integer("--top", options.top)
    found = store.search(options.queries, top, options.where)
    results = [
        [row for row in found.rows(number) if row["distance"] <= radius]
        for number in range(len(options.queries))
    ]
    if options.json:
        print_json(
            [
                {"query": query, "neighbours": rows}
                for query, rows in zip(options.queries, results, strict=True)
            ]
        )
    elif options.png or options.html:
        draw = _draw_sheet if options.png else _write_page
        path = options.png or options.html
        draw(options.queries, results, options.images, path)
        print(f"Wrote {path}")
    else:
        for query, rows in zip(options.queries, results, strict=True):
            print(f"{query}: {len(rows)} of {len(store):,}, by distance in bits")
            for row in rows:
                print(f"  {row['distance']:3}  {row['id']}")


def _duplicates(options: argparse.Namespace) -> None:
    from kerashash.store import CodeStore

    store = CodeStore.open(options.store)
    groups = store.duplicates(options.radius, options.where)
    if options.json:
        print_json(groups)
        return
    for group in groups:
        print("\n".join(map(str, group)), end="\n\n")
    print(
        f"{len(groups):,} groups of {sum(map(len, groups)):,} rows within "
        f"{options.radius} bits, of {len(store):,} rows"
    )


def print_json(value: Any) -> None:
    """Print a value as JSON; arrays as lists, bytes in base 64."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return value.tolist()

    print(json.dumps(value, indent=1, default=plain))


def _draw_sheet(
    queries: Sequence[str], results: list[list[dict[str, Any]]], images: str, path: str
) -> None:
    """Draw queries and their neighbours as a PNG file."""
    from kerashash.monitoring.plots import retrieval_grid
    from kerashash.store.pictures import SIDE, thumbnail

    most = max(map(len, results))
    neighbours = np.full((len(queries), most, SIDE, SIDE, 3), 255, np.uint8)
    captions = np.full((len(queries), most), "", object)
    for number, rows in enumerate(results):
        for rank, row in enumerate(rows):
            _check_path(row["id"])
            neighbours[number, rank] = thumbnail(pathlib.Path(images, row["id"]))
            captions[number, rank] = f"{row['distance']} bits"
    shown = np.stack([thumbnail(query) for query in queries])
    retrieval_grid(shown, neighbours, path=path, captions=captions)


def _write_page(
    queries: Sequence[str], results: list[list[dict[str, Any]]], images: str, path: str
) -> None:
    """Write queries and their neighbours as one HTML file."""
    from kerashash import files
    from kerashash.store.pictures import STYLE, section

    sections = []
    for query, rows in zip(queries, results, strict=True):
        for row in rows:
            _check_path(row["id"])
        sections.append(section(query, rows, images))
    title = f"{len(queries)} queries" if len(queries) > 1 else "Nearest photographs"
    page = _PAGE.format(title=title, style=STYLE, sections="<hr>\n".join(sections))
    with files.replacing(path) as file:
        file.write(page.encode(errors="replace"))


def _check_path(key: Any) -> None:
    """Check that a row can be drawn: its key is the path of its file."""
    if not isinstance(key, str):
        raise ValueError(
            "The keys of the store must be paths of images to be drawn. Received: "
            f"{key!r}."
        )
