"""Figures in files."""

import os
import pathlib

import matplotlib.figure

from kerashash import files


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
