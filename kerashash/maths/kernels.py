"""Gaussian kernels of vectors and anchors."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["choose_anchors", "gaussian", "squared_distances"]
__dir__ = __all__.copy  # what completion offers

Floats = npt.NDArray[np.floating[Any]]


def squared_distances(x: Floats, anchors: Floats) -> Floats:
    """Squared Euclidean distances of all pairs of rows and anchors.

    Args:
        x: float array ``(n, d)``.
        anchors: float array ``(m, d)``.

    Returns:
        Float array ``(n, m)``, at least 0.

    Example:
        >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
        array([[25.]])
    """
    # Differences do not change by a shift, and small numbers lose fewer digits.
    shift = anchors.mean(axis=0)
    x, anchors = x - shift, anchors - shift
    inner = x @ anchors.T
    squares = (x**2).sum(axis=1)[:, None] + (anchors**2).sum(axis=1)
    return np.maximum(squares - 2.0 * inner, 0.0)


def gaussian(x: Floats, anchors: Floats, precision: float) -> Floats:
    """The Gaussian kernel of all pairs of rows and anchors.

    Formula:
        exp(-precision ||x - a||^2)

    Args:
        x: float array ``(n, d)``.
        anchors: float array ``(m, d)``.
        precision: float.

    Returns:
        Float array ``(n, m)``.

    Example:
        >>> gaussian(np.zeros((1, 2)), np.zeros((1, 2)), 0.5)
        array([[1.]])
    """
    return np.exp(-precision * squared_distances(x, anchors))


def choose_anchors(
    x: Floats, anchors: int, bandwidth: float, seed: int
) -> tuple[Floats, float]:
    """Draw anchors from the rows, and set the width of the kernel by their distances.

    Args:
        x: float array ``(n, d)``.
        anchors: int; how many; all rows if there are fewer.
        bandwidth: float; the width of the kernel, as a multiple of the root of the mean
            squared distance between rows and anchors.
        seed: int.

    Returns:
        ``(anchors, precision)``: float array ``(m, d)``, and the factor for `gaussian`.

    Example:
        >>> a, precision = choose_anchors(np.array([[0.0], [2.0]]), 9, 1.0, seed=0)
        >>> a.shape, precision
        ((2, 1), 0.25)
    """
    random = np.random.default_rng(seed)
    rows = random.choice(len(x), min(anchors, len(x)), replace=False)
    some = random.choice(len(x), min(2000, len(x)), replace=False)
    mean = squared_distances(x[some], x[rows]).mean(dtype=np.float64)
    return x[rows], float(0.5 / max(bandwidth**2 * mean, np.finfo(np.float32).tiny))
