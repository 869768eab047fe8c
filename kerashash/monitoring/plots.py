"""Figures of retrieval results and of codes."""

import os
from typing import Any

import matplotlib.figure
import matplotlib.patches
import matplotlib.ticker
import numpy as np
import numpy.typing as npt

from kerashash.checks import as_array
from kerashash.monitoring import figure_files
from kerashash.monitoring.bits_curves import against_bits
from kerashash.monitoring.code_map import code_map
from kerashash.monitoring.codeword_graph import codeword_graph
from kerashash.monitoring.curves import retrieval_curves
from kerashash.monitoring.neighbourhoods import neighbourhood_precision

__all__ = [
    "against_bits",
    "bit_correlations",
    "code_map",
    "codeword_graph",
    "neighbourhood_precision",
    "retrieval_curves",
    "retrieval_grid",
]
__dir__ = __all__.copy  # what completion offers

#: How many queries, and neighbours of each, a grid takes: matplotlib draws on less than
#: 2^16 pixels a side.
MOST_QUERIES, MOST_NEIGHBOURS = 490, 600
# Of a grid, in inches: the cell of an image, with a margin around the image, and what
# separates the queries from their neighbours.
_CELL, _MARGIN, _GAP = 0.9, 0.04, 0.27
# Frames of images, and of neighbours: the dashes tell them apart without colours.
_PLAIN: dict[str, Any] = {"color": "black", "linewidth": 0.8}
_RELEVANT: dict[str, Any] = {"color": "tab:green", "linewidth": 2.5, "linestyle": "-"}
_IRRELEVANT: dict[str, Any] = {
    "color": "tab:red",
    "linewidth": 2.5,
    "linestyle": (0, (2, 1)),
}

# Channels of an image that can be drawn: gray, colours, and these with transparency.
_DEPTHS = (1, 3, 4)


def bit_correlations(
    correlations: npt.ArrayLike,
    title: str | None = "Correlations of bits",
    path: str | os.PathLike[str] | None = None,
) -> matplotlib.figure.Figure:
    """Plot the correlations of each two bits of some codes.

    Args:
        correlations: float array ``(bits, bits)`` in [-1, 1]; NaN, for a bit that never
            changes, is grey.
        title: str or None.
        path: path of the file to write, whose suffix says the format, or PNG; or None.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        TypeError: if the array holds no numbers.
        ValueError: if the array is not square or is empty, or a value is out of range;
            or if `path` cannot be written.

    Example:
        >>> figure = bit_correlations(np.eye(8))
        >>> [axis.get_ylabel() for axis in figure.axes]
        ['bit', 'correlation']
    """
    path = figure_files.check_path(path)
    title = figure_files.title(title)
    correlations = figure_files.check_values(
        "correlations", correlations, "in [-1, 1], or NaN"
    )
    bits = len(correlations) if correlations.ndim else 0
    if correlations.shape != (bits, bits) or not bits:
        raise ValueError(
            "`correlations` must have shape (bits, bits), bits at least 1. Received "
            f"shape: {correlations.shape}."
        )
    figure = matplotlib.figure.Figure(figsize=(5, 4.2), dpi=120, layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor("0.6")  # seen through NaN
    image = axis.imshow(correlations, cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set(xlabel="bit", ylabel="bit")
    axis.set_title(title, **figure_files.AS_IT_IS)
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    figure.colorbar(image, label="correlation")
    figure_files.save(figure, path)
    return figure


def retrieval_grid(
    queries: npt.ArrayLike,
    neighbours: npt.ArrayLike,
    relevant: npt.ArrayLike | None = None,
    path: str | os.PathLike[str] | None = None,
    captions: npt.ArrayLike | None = None,
    title: str | None = None,
) -> matplotlib.figure.Figure:
    """Plot queries with their nearest neighbours, one query a row.

    Relevant neighbours have a solid green frame, the others a dashed red one; a legend
    says so.

    Args:
        queries: array ``(q, height, width)`` or ``(q, height, width, 3)``, of 1 to 490
            images; uint8, or float in [0, 1]. 0 is black.
        neighbours: array ``(q, k, ...)`` of images like `queries`, nearest first; at
            most 600 for each.
        relevant: array ``(q, k)`` of bool, or of the integers 0 and 1, whether each
            neighbour is relevant; or None if that is not known, and there are no
            frames.
        path: path of the file to write, whose suffix says the format, or PNG; or None.
        captions: array of str ``(q, k)`` to stand below the neighbours, or None.
        title: str or None; a line above them all.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: if the shapes do not match, there are no queries or more images
            than can be drawn, or `path` cannot be written.
        TypeError, ValueError: if images are neither uint8 nor float in [0, 1], or
            `relevant` is neither bool nor 0 and 1.
        TypeError: if a caption is no text.

    Example:
        >>> figure = retrieval_grid(
        ...     np.zeros((2, 8, 8)), np.zeros((2, 3, 8, 8)), np.ones((2, 3), bool)
        ... )
        >>> len(figure.axes[0].images)
        8
    """
    path = figure_files.check_path(path)
    title = figure_files.title(title)
    queries = _check_images("queries", queries, 1)
    neighbours = _check_images("neighbours", neighbours, 2)
    marks = None if relevant is None else as_array(relevant, "relevant")
    words = None if captions is None else as_array(captions, "captions")
    shapes = [neighbours.shape[:2]]
    shapes += [given.shape for given in (marks, words) if given is not None]
    if len(shapes[0]) != 2 or {*shapes} != {(len(queries), shapes[0][1])}:
        raise ValueError(
            "`queries`, `neighbours` and `relevant` must have shapes (q, ...), (q, k, "
            "...) and (q, k), as `captions` if there are any. Received: "
            f"{queries.shape}, {neighbours.shape}, {', '.join(map(str, shapes[1:]))}."
        )
    q, k = shapes[0]
    if q == 0:
        raise ValueError("`queries` must hold one or more images. Received: none.")
    if q > MOST_QUERIES or k > MOST_NEIGHBOURS:
        raise ValueError(
            f"`queries` must hold at most {MOST_QUERIES} images, and `neighbours` "
            f"{MOST_NEIGHBOURS} for each. Received: {q:,}, and {k:,} for each."
        )
    if marks is not None:
        _check_marks(marks)
    if words is not None:
        _check_words(words)
    # In inches.
    row_height = _CELL + 0.2 * (words is not None)
    top = 0.25 + (0.05 + 0.17 * (title.count("\n") + 1) if title else 0)
    width = _CELL * (k + 1) + _GAP
    height = top + row_height * q + 0.3 * (marks is not None)
    figure = matplotlib.figure.Figure(figsize=(width, height))
    figure.set_layout_engine("none")  # whatever a matplotlibrc says
    if title:
        y = 1 - _MARGIN / height
        figure.suptitle(title, y=y, fontsize=10, **figure_files.AS_IT_IS)
    if marks is not None:
        frames = {"relevant": _RELEVANT, "not relevant": _IRRELEVANT}
        handles = [
            matplotlib.patches.Patch(fill=False, label=name, **frame)
            for name, frame in frames.items()
        ]
        figure.legend(
            handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=9
        )
    # One axis of inches, from the upper left corner. To lay out an axis for each image
    # takes time that grows with the square of their number.
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    for row in range(q):
        y = top + row_height * row
        _draw(axis, queries[row], (0, y), _PLAIN, "" if row else "query")
        for rank in range(k):
            x = _CELL * (rank + 1) + _GAP
            frame = _PLAIN
            if marks is not None:
                frame = _RELEVANT if marks[row, rank] else _IRRELEVANT
            above = "" if row else str(rank + 1)
            below = "" if words is None else figure_files.name(words[row, rank])
            _draw(axis, neighbours[row, rank], (x, y), frame, above, below)
    figure_files.save(figure, path, dpi=120)
    return figure


def _check_marks(marks: npt.NDArray[Any]) -> None:
    """Check what says whether neighbours are relevant: the text "False" is true."""
    if marks.dtype.kind not in "bui":
        raise TypeError(
            "`relevant` must be bool, or the integers 0 and 1. "
            f"Received dtype: {marks.dtype}."
        )
    if not np.isin(marks, (0, 1)).all():
        raise ValueError(
            "`relevant` must be bool, or the integers 0 and 1. "
            f"Received values: {np.unique(marks)[:5].tolist()}."
        )


def _check_words(words: npt.NDArray[Any]) -> None:
    """Check captions; numbers are as good as their texts."""
    others = [word for word in words.flat if not isinstance(word, str | int | float)]
    if words.dtype.kind not in "uifUT" and others:
        raise TypeError(f"`captions` must be str. Received in it: {others[0]!r}.")


def _check_images(name: str, images: npt.ArrayLike, axes: int) -> npt.NDArray[Any]:
    """Check that images, which begin after some axes, are uint8, or from 0 to 1: others
    would be drawn saturated."""
    array = as_array(images, name)
    image = array.shape[axes:]
    if 0 in image or not (len(image) == 2 or (len(image) == 3 and image[2] in _DEPTHS)):
        raise ValueError(
            f"`{name}` must be an array of images, (height, width) or (height, width, "
            f"3) each. Received shape: {array.shape}."
        )
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise TypeError(
            f"`{name}` must be uint8, or float in [0, 1]. "
            f"Received dtype: {array.dtype}."
        )
    # Not `array < 0`, which is False for NaN.
    if array.dtype != np.uint8 and not ((array >= 0) & (array <= 1)).all():
        raise ValueError(
            f"`{name}` must be uint8, or float in [0, 1]. Received values from "
            f"{array.min():g} to {array.max():g}."
        )
    return array


def _draw(
    axis: Any,
    image: npt.NDArray[Any],
    corner: tuple[float, float],
    frame: dict[str, Any],
    above: str,
    below: str = "",
) -> None:
    """Draw an image in the middle of its cell, with texts; 0 is black if it is gray."""
    sides = np.array(image.shape[:2]) / max(image.shape[:2])
    height, width = (_CELL - 2 * _MARGIN) * sides
    middle = corner[0] + _CELL / 2
    x, y = middle - width / 2, corner[1] + (_CELL - height) / 2
    axis.imshow(
        image,
        cmap="gray",
        aspect="auto",
        vmin=0,
        vmax=255 if image.dtype == np.uint8 else 1,
        extent=(x, x + width, y + height, y),
        clip_on=False,  # else SVG and PDF join them all, one after the other
    )
    axis.add_artist(
        matplotlib.patches.Rectangle((x, y), width, height, fill=False, **frame)
    )
    axis.text(middle, y - 0.08, above, fontsize=9, ha="center")
    axis.text(
        middle,
        y + height + 0.06,
        below,
        fontsize=7,
        ha="center",
        va="top",
        **figure_files.AS_IT_IS,
    )
