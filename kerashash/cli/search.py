"""The commands ``kerashash search | duplicates``: they read a store of codes."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import click

from kerashash.cli.options import json_option, model_option, where_option
from kerashash.cli.printing import check_output, print_json
from kerashash.notes import one_line

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


@click.command("search")
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("--in", "path", required=True, metavar="STORE", help="Path of a store.")
@click.option("--top", default=10, help="At most so many a query.")
@click.option("--radius", type=int, help="At most so many bits away.")
@where_option
@model_option("What made the codes, if it is none of the zoo: a .keras file.")
@json_option
@click.option("--png", metavar="FILE", help="Write a sheet of thumbnails.")
@click.option("--html", metavar="FILE", help="Write a page of thumbnails.")
@click.option(
    "--images",
    metavar="FOLDER",
    default=".",
    help="That the store's paths are relative to.",
)
def _search(
    queries: tuple[str, ...],
    path: str,
    top: int,
    radius: int | None,
    where: str | None,
    model: str | None,
    as_json: bool,
    png: str | None,
    html: str | None,
    images: str,
) -> None:
    """Find the photographs of a store that are nearest to others.

    QUERY is the path of an image file.
    """
    if as_json + (png is not None) + (html is not None) > 1:
        raise click.UsageError("--json, --png and --html exclude one another.")
    # Before what takes seconds, of which TensorFlow is the first.
    check_output("--png", png, ".png")
    check_output("--html", html)
    queries = tuple(map(os.path.expanduser, queries))
    images = os.path.expanduser(images)
    from kerashash.checks import check_integer
    from kerashash.cli.models import load
    from kerashash.store import CodeStore
    from kerashash.store.kept_encoder import encode_queries

    store = CodeStore.open(path, None if model is None else load(model))
    if radius is None:
        radius = store.bits
    radius = check_integer("--radius", radius, least=0, most=store.bits)
    top = check_integer("--top", top)
    codes = encode_queries(store, queries)
    found = store.search(codes, top, where)
    results = [
        [row for row in found.rows(number) if row["distance"] <= radius]
        for number in range(len(queries))
    ]
    if as_json:
        print_json(
            [
                {"query": query, "neighbours": rows}
                for query, rows in zip(queries, results, strict=True)
            ]
        )
    elif png is not None:
        _draw_sheet(queries, results, images, png)
        print(f"Wrote {png}")
    elif html is not None:
        _write_page(queries, results, images, html)
        print(f"Wrote {html}")
    else:
        for query, rows in zip(queries, results, strict=True):
            name = one_line(query)
            print(f"{name}: {len(rows)} of {len(store):,}, by distance in bits")
            for row in rows:
                print(f"  {row['distance']:3}  {one_line(row['id'])}")


@click.command("duplicates")
@click.argument("path", metavar="STORE")
@click.option("--radius", default=0, help="Bits in which codes of a pair may differ.")
@where_option
@json_option
def _duplicates(path: str, radius: int, where: str | None, as_json: bool) -> None:
    """Find groups of nearly equal photographs in a store."""
    from kerashash.codes import in_bits
    from kerashash.store import CodeStore

    store = CodeStore.open(path)
    groups = store.duplicates(radius, where)
    if as_json:
        print_json(groups)
        return
    for group in groups:
        print("\n".join(map(one_line, group)), end="\n\n")
    print(
        f"{len(groups):,} {'group' if len(groups) == 1 else 'groups'} of "
        f"{sum(map(len, groups)):,} rows within "
        f"{in_bits(radius)}, of {len(store):,} rows"
    )


def _draw_sheet(
    queries: Sequence[str], results: list[list[dict[str, Any]]], images: str, path: str
) -> None:
    """Draw queries and their neighbours as a PNG file."""
    import numpy as np

    from kerashash.codes import in_bits
    from kerashash.monitoring.plots import (
        MOST_NEIGHBOURS,
        MOST_QUERIES,
        retrieval_grid,
    )
    from kerashash.store.pictures import SIDE, thumbnail, thumbnail_or_gray

    most = max(map(len, results))
    if len(queries) > MOST_QUERIES or most > MOST_NEIGHBOURS:
        raise ValueError(
            f"--png takes at most {MOST_QUERIES} queries, with {MOST_NEIGHBOURS} "
            "neighbours each (--top); --html takes more. "
            f"Received: {len(queries):,}, with {most:,} each."
        )
    _check_pictures(results, images)
    neighbours = np.full((len(queries), most, SIDE, SIDE, 3), 255, np.uint8)
    captions = np.full((len(queries), most), "", object)
    for number, rows in enumerate(results):
        for rank, row in enumerate(rows):
            neighbours[number, rank], captions[number, rank] = thumbnail_or_gray(
                pathlib.Path(images, row["id"]), in_bits(row["distance"])
            )
    shown = np.stack([thumbnail(query) for query in queries])
    retrieval_grid(shown, neighbours, path=path, captions=captions)


def _write_page(
    queries: Sequence[str], results: list[list[dict[str, Any]]], images: str, path: str
) -> None:
    """Write queries and their neighbours as one HTML file."""
    from kerashash import files
    from kerashash.store.pictures import STYLE, section

    _check_pictures(results, images)
    sections = [
        section(query, rows, images)
        for query, rows in zip(queries, results, strict=True)
    ]
    title = f"{len(queries)} queries" if len(queries) > 1 else "Nearest photographs"
    page = _PAGE.format(title=title, style=STYLE, sections="<hr>\n".join(sections))
    with files.replacing(path) as file:
        file.write(page.encode(errors="replace"))


def _check_pictures(results: list[list[dict[str, Any]]], images: str) -> None:
    """Check that rows can be drawn: their keys are paths, and lead to photographs."""
    from kerashash.store.pictures import check_shown

    keys = [row["id"] for rows in results for row in rows]
    for key in keys:
        if not isinstance(key, str):
            raise ValueError(
                "The keys of the store must be paths of images to be drawn. Received: "
                f"{key!r}."
            )
    check_shown(pathlib.Path(images, key) for key in keys)


COMMANDS = (_search, _duplicates)
