"""Gaussian kernels of vectors and anchors."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_above, check_integer, check_number
from kerashash.maths.precision import Floats, check_rows, floats

__all__ = ["choose_anchors", "gaussian", "squared_distances"]
__dir__ = __all__.copy  # what completion offers


def squared_distances(x: npt.ArrayLike, anchors: npt.ArrayLike) -> Floats:
    """Squared Euclidean distances of all pairs of rows and anchors.

    Args:
        x: float array ``(n, d)``.
        anchors: float array ``(m, d)``.

    Returns:
        Float array ``(n, m)``, at least 0.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if the shapes do not match, or there are no anchors.

    Example:
        >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
        array([[25.]])
    """
    x = floats(x, "x", (None, None))
    anchors = floats(anchors, "anchors", (None, x.shape[1]))
    check_rows(anchors, "anchors")
    # Differences do not change by a shift, and small numbers lose fewer digits.
    shift = anchors.mean(axis=0)
    a, b = x - shift, anchors - shift
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    return np.maximum(squares - 2.0 * (a @ b.T), 0.0)


def gaussian(x: npt.ArrayLike, anchors: npt.ArrayLike, precision: float) -> Floats:
    """The Gaussian kernel of all pairs of rows and anchors.

    Formula:
        exp(-precision ||x - a||^2)

    Args:
        x: float array ``(n, d)``.
        anchors: float array ``(m, d)``.
        precision: float.

    Returns:
        Float array ``(n, m)``.

    Raises:
        TypeError, ValueError: as `squared_distances`; and if `precision` is no number.

    Example:
        >>> gaussian(np.zeros((1, 2)), np.zeros((1, 2)), 0.5)
        array([[1.]])
    """
    check_number("precision", precision)
    return np.exp(-precision * squared_distances(x, anchors))


def choose_anchors(
    x: npt.ArrayLike, anchors: int, bandwidth: float, seed: int
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

    Raises:
        TypeError: if `x` does not hold numbers, or an option is no number.
        ValueError: if `x` has another shape or no rows, or an option is out of range.

    Example:
        >>> a, precision = choose_anchors(np.array([[0.0], [2.0]]), 9, 1.0, seed=0)
        >>> a.shape, precision
        ((2, 1), 0.25)
    """
    x = floats(x, "x", (None, None))
    check_rows(x, "x")
    anchors = check_integer("anchors", anchors)
    check_above(0, bandwidth=bandwidth)
    random = np.random.default_rng(check_integer("seed", seed, least=0))
    rows = random.choice(len(x), min(anchors, len(x)), replace=False)
    some = random.choice(len(x), min(2000, len(x)), replace=False)
    mean = squared_distances(x[some], x[rows]).mean(dtype=np.float64)
    return x[rows], float(0.5 / max(bandwidth**2 * mean, np.finfo(np.float32).tiny))
