"""Figures: their files, the names in them, and the values to draw."""

import os
import pathlib
import re
import stat
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib.backend_bases
import matplotlib.figure
import matplotlib.legend
import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import as_floats

#: Options of a text of the user: matplotlib would read "$" as the start of a formula.
AS_IT_IS: dict[str, Any] = {"parse_math": False}
# Letters for which there is room: of a title, of a name beside or in a figure.
_TITLE, _NAME = 64, 32
# Letters that no figure can have: halves of characters, as in file names that are not
# UTF-8, and those that XML forbids or that control a terminal.
_UNDRAWABLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# How far a mean of float32 may be beyond its limit.
_ROUNDING = 1e-5
# What values can be, and which of an array are.
_RULES: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "finite": np.isfinite,
    "finite or NaN": lambda v: ~np.isinf(v),
    "above 0 and finite": lambda v: (v > 0) & np.isfinite(v),
    "at least 1 and finite": lambda v: (v >= 1) & np.isfinite(v),
    "at least 0 and finite, or NaN": lambda v: ~(v < 0) & ~np.isinf(v),
    "in [0, 1]": lambda v: (v >= -_ROUNDING) & (v <= 1 + _ROUNDING),
    "in [-1, 1], or NaN": lambda v: ~(np.abs(v) > 1 + _ROUNDING),
}


def check_path(path: str | os.PathLike[str] | None) -> pathlib.Path | None:
    """Check that a figure can be written to a path, before the work of drawing it.

    Args:
        path: path of a file, or None.

    Returns:
        `pathlib.Path`, with ``~`` expanded; None for None.

    Raises:
        TypeError: if `path` is no path.
        ValueError: if it cannot be that of a file, its suffix is none of
            matplotlib's, or it lies in no folder in which one can write.

    Example:
        >>> check_path("figure.svg").suffix
        '.svg'
        >>> check_path("no-such-folder/figure.svg")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: `path` must lie in a folder that exists and in which one can ...
    """
    if path is None:
        return None
    place = files.as_path(path)
    kinds = matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    if _kind(place).lower() not in kinds:
        raise ValueError(
            f"`path` must end in {', '.join(f'.{kind}' for kind in sorted(kinds))}, or "
            f"have no suffix, for PNG. Received: path={os.fspath(path)!r}."
        )
    target = pathlib.Path(os.path.realpath(place))  # what a link points to
    try:
        is_file = stat.S_ISREG(target.stat().st_mode)
    except FileNotFoundError:
        is_file = True  # the one to be made
    except OSError as error:  # a name that is too long, a file in place of a folder
        raise ValueError(
            "`path` must be one that a file can have. Received: "
            f"path={os.fspath(path)!r}: {error}."
        ) from error
    if not is_file:
        raise ValueError(
            f"`path` must be a file. Received: path={os.fspath(path)!r}, which exists "
            "and is none."
        )
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK | os.X_OK):
        raise ValueError(
            "`path` must lie in a folder that exists and in which one can write. "
            f"Received: path={os.fspath(path)!r}."
        )
    return place


def _kind(path: pathlib.Path) -> str:
    return path.suffix[1:] or "png"


def save(
    figure: matplotlib.figure.Figure,
    path: str | os.PathLike[str] | None,
    dpi: float | None = None,
) -> None:
    """Write a figure to a file of exactly this name, whole or not at all.

    By itself, matplotlib would add a suffix to a name that has none, and leave half a
    file in the place of a whole one when the disk is full.

    Args:
        figure: `matplotlib.figure.Figure`.
        path: path of the file. Its suffix says the format; without one, it is PNG.
            None for no file.
        dpi: float or None; dots per inch, None for those of the figure.

    Raises:
        TypeError, ValueError: if `path` is refused by `check_path`.
        OSError: if the file cannot be written.

    Example:
        >>> save(matplotlib.figure.Figure(), "empty")
        >>> pathlib.Path("empty").read_bytes()[1:4]
        b'PNG'
    """
    place = check_path(path)
    if place is None:
        return
    with files.replacing(place) as file:
        figure.savefig(file, format=_kind(place), dpi=dpi or "figure")


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


def title(text: str | None) -> str:
    """A title in one or two lines, without what would not fit above a figure.

    Args:
        text: str, the title; or None.

    Returns:
        str of one or two lines, of at most 64 letters each; empty for None. A longer
        line is broken between words.

    Raises:
        TypeError: if it is neither.

    Example:
        >>> title("my   photographs")
        'my photographs'
    """
    if text is None:
        return ""
    check_text("title", text)
    lines = text.split("\n", 1)
    if len(lines) == 1:
        lines = textwrap.wrap(text, _TITLE, max_lines=2, placeholder="…")
    return "\n".join(_shortened(line, _TITLE) for line in lines)


def name(text: object, most: int = _NAME) -> str:
    """The name of a class or a curve, without what would leave no room for the rest.

    Args:
        text: the name.
        most: int; letters for which there is room.

    Returns:
        str of one line, of at most `most` letters. Those that cannot be drawn are
        escaped.

    Example:
        >>> name("x" * 50)
        'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'
        >>> name(os.fsdecode(b"caf\\xe9"))
        'caf\\\\udce9'
    """
    return _shortened(text, most)


def _shortened(text: object, most: int) -> str:
    line = " ".join(str(text).split())
    line = _UNDRAWABLE.sub(lambda letter: ascii(letter[0])[1:-1], line)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def check_text(name: str, value: object) -> None:
    """Check that a value is a str: anything else would be drawn as Python writes it.

    Args:
        name: str; the argument to name in the error.
        value: the value received.

    Raises:
        TypeError: if it is none.

    Example:
        >>> check_text("label", b"mAP")
        Traceback (most recent call last):
        TypeError: `label` must be a str. Received: label=b'mAP'.
    """
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be a str. Received: {name}={value!r}.")


def check_class_names(class_names: object) -> list[str]:
    """Check the names of classes: a set has no order, and a dict gives its keys.

    Args:
        class_names: the value received.

    Returns:
        list of str.

    Raises:
        TypeError: if it is no list, tuple or array of str.

    Example:
        >>> check_class_names({0: "cat", 1: "dog"})
        Traceback (most recent call last):
        TypeError: `class_names` must be a list of str. Received type: dict.
    """
    if isinstance(class_names, np.ndarray):
        class_names = class_names.tolist()  # a str, of an array without axes
    if isinstance(class_names, str | bytes) or not isinstance(class_names, Sequence):
        raise TypeError(
            "`class_names` must be a list of str. "
            f"Received type: {type(class_names).__name__}."
        )
    others = [name for name in class_names if not isinstance(name, str)]
    if others:
        raise TypeError(
            f"`class_names` must be a list of str. Received in it: {others[0]!r}."
        )
    return [*class_names]


def check_values(
    name: str, values: npt.ArrayLike, rule: str
) -> npt.NDArray[np.floating[Any]]:
    """Check numbers to draw: a figure leaves out what is beyond its axes.

    Args:
        name: str; the argument to name in the error.
        values: array of numbers.
        rule: str; what they must be, one of the rules of this module.

    Returns:
        Float array of the shape of `values`.

    Raises:
        TypeError: if they are not numbers.
        ValueError: if some are masked, or break the rule.

    Example:
        >>> check_values("precision_at", [0.5, 50], "in [0, 1]")
        Traceback (most recent call last):
        ValueError: `precision_at` must be in [0, 1]. Received values: [50.0].
    """
    array = as_floats(values, name)
    valid = _RULES[rule](array)
    if not valid.all():
        raise ValueError(
            f"`{name}` must be {rule}. Received values: "
            f"{np.unique(array[~valid])[:5].tolist()}."
        )
    return array


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
