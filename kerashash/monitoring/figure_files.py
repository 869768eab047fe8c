"""Figures: their files, the names in them, and the values to draw."""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib.figure
import matplotlib.legend

from kerashash import files

#: Options of a text of the user: matplotlib would read "$" as the start of a formula.
AS_IT_IS: dict[str, Any] = {"parse_math": False}
# Letters for which there is room: of a title, of a name beside or in a figure.
_TITLE, _NAME = 64, 32


def save(
    figure: matplotlib.figure.Figure,
    path: str | os.PathLike[str],
    dpi: float | None = None,
) -> None:
    """Write a figure to a file of exactly this name, whole or not at all.

    By itself, matplotlib would add a suffix to a name that has none, and leave half a
    file in the place of a whole one when the disk is full.

    Args:
        figure: `matplotlib.figure.Figure`.
        path: path of the file. Its suffix says the format; without one, it is PNG.
        dpi: float or None; dots per inch, None for those of the figure.

    Raises:
        ValueError: if `path` is a folder, or its suffix is none of matplotlib's.
        OSError: if the file cannot be written.

    Example:
        >>> save(matplotlib.figure.Figure(), "empty")
        >>> pathlib.Path("empty").read_bytes()[1:4]
        b'PNG'
    """
    kind = pathlib.Path(path).suffix[1:] or "png"
    with files.replacing(path) as file:
        figure.savefig(file, format=kind, dpi=dpi or "figure")


def legend(
    figure: matplotlib.figure.Figure,
    handles: Iterable[Any],
    names: Iterable[object],
    **options: Any,
) -> matplotlib.legend.Legend:
    """Add a legend with each name as it is.

    By itself, matplotlib would leave out names that begin with "_", and read "$" as the
    start of a formula.

    Args:
        figure: `matplotlib.figure.Figure`.
        handles: iterable of artists.
        names: iterable; the name of each.
        **options: further arguments of `matplotlib.figure.Figure.legend`.

    Returns:
        `matplotlib.legend.Legend`.

    Example:
        >>> import matplotlib.lines
        >>> line = matplotlib.lines.Line2D([], [])
        >>> added = legend(matplotlib.figure.Figure(), [line], ["_$"])
        >>> [text.get_text() for text in added.texts]
        ['_$']
    """
    handles = [*handles]
    added = figure.legend(handles=handles, labels=[""] * len(handles), **options)
    for text, given in zip(added.texts, names, strict=True):
        text.set(text=name(given), **AS_IT_IS)
    return added


def title(text: object) -> str:
    """A title, without what would not fit above a figure.

    Args:
        text: the title.

    Returns:
        str of one or two lines, of at most 64 letters each.

    Example:
        >>> title("my   photographs")
        'my photographs'
    """
    return "\n".join(_shortened(line, _TITLE) for line in str(text).split("\n", 1))


def name(text: object) -> str:
    """The name of a class or a curve, without what would leave no room for the rest.

    Args:
        text: the name.

    Returns:
        str of one line, of at most 32 letters.

    Example:
        >>> name("x" * 50)
        'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'
    """
    return _shortened(text, _NAME)


def _shortened(text: object, most: int) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def check_dicts(name: str, value: object) -> None:
    """Check that a value is a dict by name of dicts, and not empty.

    Args:
        name: str; the argument to name in the error.
        value: the value received.

    Raises:
        TypeError: if it is no such dict.
        ValueError: if it is empty.

    Example:
        >>> check_dicts("curves", [])
        Traceback (most recent call last):
        TypeError: `curves` must be a dict by name of dicts. Received type: list.
    """
    if not isinstance(value, Mapping):
        raise TypeError(
            f"`{name}` must be a dict by name of dicts. "
            f"Received type: {type(value).__name__}."
        )
    if not value:
        raise ValueError(f"`{name}` must hold one or more {name}. Received: none.")
    for key, arrays in value.items():
        if not isinstance(arrays, Mapping):
            raise TypeError(
                f"`{name}` must be a dict by name of dicts. Received in {key!r}: "
                f"{type(arrays).__name__}."
            )
