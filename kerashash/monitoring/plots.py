"""Figures of retrieval results."""

import os
from typing import Any

import matplotlib.figure
import numpy as np
import numpy.typing as npt

__all__ = ["retrieval_grid"]
__dir__ = __all__.copy  # what completion offers

# Frames of neighbours. The dashes tell them apart without colours.
_RELEVANT = {"color": "tab:green", "linewidth": 2.5, "linestyle": "-"}
_IRRELEVANT = {"color": "tab:red", "linewidth": 2.5, "linestyle": (0, (2, 1))}


def retrieval_grid(
    queries: npt.ArrayLike,
    neighbours: npt.ArrayLike,
    relevant: npt.ArrayLike,
    path: str | os.PathLike[str] | None = None,
) -> matplotlib.figure.Figure:
    """Plot queries with their nearest neighbours, one query a row.

    Relevant neighbours have a solid green frame, the others a dashed red one.

    Args:
        queries: array ``(q, height, width)`` or ``(q, height, width, 3)``; uint8, or
            float in [0, 1].
        neighbours: array ``(q, k, ...)`` of images like `queries`, nearest first.
        relevant: bool array ``(q, k)``, whether each neighbour is relevant.
        path: path of a PNG file to write, or None.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> figure = retrieval_grid(
        ...     np.zeros((2, 8, 8)), np.zeros((2, 3, 8, 8)), np.ones((2, 3), bool)
        ... )
        >>> len(figure.axes)
        8
    """
    queries, neighbours = np.asarray(queries), np.asarray(neighbours)
    relevant = np.asarray(relevant)
    q, k = relevant.shape
    if len(queries) != q or neighbours.shape[:2] != (q, k):
        raise ValueError(
            "`queries`, `neighbours` and `relevant` must have shapes (q, ...), (q, k, "
            f"...) and (q, k). Received: {queries.shape}, {neighbours.shape}, "
            f"{relevant.shape}."
        )
    figure = matplotlib.figure.Figure(
        figsize=(0.9 * (k + 1.3), 0.9 * q + 0.35), layout="constrained"
    )
    # An empty column separates the queries from their neighbours.
    widths = [1, 0.3, *[1] * k]
    axes = figure.subplots(q, k + 2, squeeze=False, width_ratios=widths)
    image_options: dict[str, Any] = {
        "cmap": "gray_r",
        "vmin": 0,
        "vmax": 255 if queries.dtype == np.uint8 else 1,
    }
    for row in range(q):
        axes[row, 0].imshow(queries[row], **image_options)
        axes[row, 1].remove()
        for rank in range(k):
            axis = axes[row, rank + 2]
            axis.imshow(neighbours[row, rank], **image_options)
            for spine in axis.spines.values():
                spine.set(**(_RELEVANT if relevant[row, rank] else _IRRELEVANT))
        for axis in (axes[row, 0], *axes[row, 2:]):
            axis.set(xticks=[], yticks=[])
    axes[0, 0].set_title("query", fontsize=9)
    for rank in range(k):
        axes[0, rank + 2].set_title(str(rank + 1), fontsize=9)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
