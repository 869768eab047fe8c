"""Figures of retrieval results."""

import matplotlib.figure
import numpy as np


def retrieval_grid(queries, neighbours, relevant, path=None):
    """Queries with their nearest neighbours, one query a row.

    Relevant neighbours have a green frame, the others a red and dashed one.

    Args:
        queries: array ``(q, height, width)`` or ``(q, height, width, 3)``; uint8, or
            float in [0, 1].
        neighbours: array ``(q, k, ...)`` of images like `queries`, nearest first.
        relevant: bool array ``(q, k)``.
        path: path of the PNG to write, or None.

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
    # The empty column keeps queries and neighbours apart.
    widths = [1, 0.3, *[1] * k]
    axes = figure.subplots(q, k + 2, squeeze=False, width_ratios=widths)
    show = {
        "cmap": "gray_r",
        "vmin": 0,
        "vmax": 255 if queries.dtype == np.uint8 else 1,
    }
    for row in range(q):
        axes[row, 0].imshow(queries[row], **show)
        axes[row, 1].remove()
        for rank in range(k):
            axis = axes[row, rank + 2]
            axis.imshow(neighbours[row, rank], **show)
            good = relevant[row, rank]
            for spine in axis.spines.values():
                spine.set(
                    color="tab:green" if good else "tab:red",
                    linewidth=2.5,
                    linestyle="-" if good else (0, (2, 1)),
                )
        for axis in (axes[row, 0], *axes[row, 2:]):
            axis.set(xticks=[], yticks=[])
    axes[0, 0].set_title("query", fontsize=9)
    for rank in range(k):
        axes[0, rank + 2].set_title(str(rank + 1), fontsize=9)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
