"""Queries and neighbours as pictures in HTML: pages, and results in a notebook."""

import base64
import html
import io
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kerashash import notebook
from kerashash.checks import said
from kerashash.codes import in_bits

if TYPE_CHECKING:
    from kerashash.store.rows import Neighbours

#: The side of a thumbnail in pixels.
SIDE = 160
# What a notebook shows of a result.
_SHOWN_QUERIES, _SHOWN_ROWS = 5, 20
#: What the pictures of `section` need, inside of <style>.
STYLE = f"""\
.kerashash {{ display: flex; flex-wrap: wrap; gap: .5rem; }}
.kerashash figure {{ margin: 0; width: {SIDE}px; overflow-wrap: anywhere;
  font-size: .8rem; }}
.kerashash figure.query {{ outline: 3px solid #06c; margin-right: 1rem; }}
"""


def thumbnail(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an image file as a white square that holds all of it.

    Args:
        path: path.

    Returns:
        uint8 array ``(SIDE, SIDE, 3)``.

    Raises:
        ValueError: if it is no readable image; the error names it.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (8, 4)).save("wide.png")
        >>> thumbnail("wide.png")[0, 0], thumbnail("wide.png")[80, 80]
        (array([255, 255, 255], dtype=uint8), array([0, 0, 0], dtype=uint8))
    """
    from PIL import Image, ImageOps

    from kerashash.data.image_reading import content, decode

    try:
        image = Image.fromarray(decode(content(path)))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"No thumbnail of {os.fspath(path)!r}: {said(error)}."
        ) from error
    return np.asarray(ImageOps.pad(image, (SIDE, SIDE), color="white"))


def check_shown(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Check that of some image files, if there are any, one at least can be shown.

    Args:
        paths: iterable of paths.

    Raises:
        ValueError: if none is a readable image; the error names the first.

    Example:
        >>> check_shown([])
    """
    first = None
    for path in paths:
        try:
            thumbnail(path)
            return
        except ValueError as error:
            first = first or error
    if first is not None:
        raise first


def thumbnail_or_gray(
    path: str | os.PathLike[str], caption: str
) -> tuple[npt.NDArray[np.uint8], str]:
    """Read an image file as `thumbnail`; a gray square stands for one that is missing.

    Args:
        path: path.
        caption: str.

    Returns:
        ``(thumbnail, caption)``; the caption says if the file cannot be read.

    Example:
        >>> thumbnail_or_gray("gone.png", "2 bits")[1]
        '2 bits, not readable'
    """
    try:
        return thumbnail(path), caption
    except ValueError:
        return np.full((SIDE, SIDE, 3), 200, np.uint8), f"{caption}, not readable"


def section(
    query: str | os.PathLike[str] | None,
    neighbours: Iterable[Mapping[str, Any]],
    folder: str | os.PathLike[str] = "",
) -> str:
    """Show a query and its neighbours as thumbnails with captions.

    Args:
        query: path of an image file, or None to leave it out.
        neighbours: iterable of rows with "id", the path of an image file, and
            "distance", as `Neighbours.rows` gives them.
        folder: path of the folder that ids are relative to.

    Returns:
        str, HTML; the images are part of it. A gray square stands for a neighbour whose
        file cannot be read.

    Raises:
        ValueError: if `query` is no readable image.

    Example:
        >>> section(None, [])
        '<div class="kerashash">\\n\\n</div>'
    """
    figures = []
    if query is not None:
        caption = f"query: {os.fspath(query)}"
        figures = [_figure(thumbnail(query), caption, "query")]
    for row in neighbours:
        caption = f"{in_bits(row['distance'])}: {row['id']}"
        shown = thumbnail_or_gray(pathlib.Path(folder, row["id"]), caption)
        figures.append(_figure(*shown))
    return '<div class="kerashash">\n' + "\n".join(figures) + "\n</div>"


def results(found: "Neighbours") -> str:
    """Show the nearest neighbours of the first queries of a result.

    Args:
        found: `Neighbours`.

    Returns:
        str, HTML: thumbnails if the keys are paths of image files that can be read, or
        else a table, for each query.

    Example:
        >>> import kerashash
        >>> store = kerashash.CodeStore.create("some.khs", bits=8)
        >>> store.add(np.array([[0], [255]], np.uint8), ids=["black", "white"])
        >>> "white" in results(store.search(np.array([[254]], np.uint8)))
        True
    """
    parts = [f"<style>\n{STYLE}</style>"]
    for number in range(min(len(found), _SHOWN_QUERIES)):
        query = None if found.queries is None else found.queries[number]
        first = [
            values[number][:_SHOWN_ROWS]
            for values in (found.ids, found.distances, *found.columns.values())
        ]
        names = ["id", "distance", *found.columns]
        try:
            rows = [
                {"id": key, "distance": d} for key, d, *_ in zip(*first, strict=False)
            ]
            check_shown(row["id"] for row in rows)
            parts.append(section(query, rows))
        except (TypeError, ValueError):  # keys are no paths of images
            parts.append(notebook.table(names, zip(*first, strict=True)))
        more = len(found.ids[number]) - len(first[0])
        if more:
            parts.append(f"<p>and {more:,} more rows</p>")
    if len(found) > _SHOWN_QUERIES:
        parts.append(f"<p>and {len(found) - _SHOWN_QUERIES:,} more queries</p>")
    return "\n".join(parts)


def _figure(pixels: npt.NDArray[np.uint8], caption: str, kind: str = "") -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    text = html.escape(caption)
    return (
        f'<figure class="{kind}"><img alt="{text}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
