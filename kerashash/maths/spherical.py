"""Spherical hashing: balls of half of the rows, any two of which share a quarter."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer
from kerashash.maths.kernels import squared_distances
from kerashash.maths.precision import Floats, check_rows, floats

__all__ = ["Spheres", "first_pivots", "move", "spheres"]
__dir__ = __all__.copy  # what completion offers


class Spheres(NamedTuple):
    """Balls around pivots, and how their contents overlap.

    Attributes:
        radii: float array ``(bits,)``; half of the rows are within each.
        overlaps: float array ``(bits, bits)``; the share of the rows that is in both
            balls. 1/4 is wanted off the diagonal, as of independent bits.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> spheres(x, np.array([[0.0], [3.0]])).overlaps
        array([[0.5, 0. ],
               [0. , 0.5]])
    """

    radii: Floats
    overlaps: Floats

    @property
    def errors(self) -> Floats:
        """|overlap - 1/4| / (1/4) of all pairs of balls, ``(bits (bits - 1) / 2,)``."""
        return np.abs(self.overlaps[np.triu_indices(len(self.radii), 1)] * 4.0 - 1.0)


def first_pivots(x: npt.ArrayLike, bits: int, seed: int) -> Floats:
    """Pivots near the middle of the rows: means of five rows drawn at random.

    Args:
        x: float array ``(n, d)``.
        bits: int.
        seed: int.

    Returns:
        Float array ``(bits, d)``.

    Raises:
        TypeError: if `x` does not hold numbers, or `bits` or `seed` is no integer.
        ValueError: if `x` has another shape or no rows, or `bits` or `seed` is out of
            range.

    Example:
        >>> first_pivots(np.ones((9, 2)), 3, seed=0).shape
        (3, 2)
    """
    x = floats(x, "x", (None, None))
    check_rows(x, "x")
    bits = check_integer("bits", bits)
    random = np.random.default_rng(check_integer("seed", seed, least=0))
    return np.stack(
        [x[random.integers(len(x), size=5)].mean(axis=0) for _ in range(bits)]
    )


def spheres(x: npt.ArrayLike, pivots: npt.ArrayLike) -> Spheres:
    """Balls around pivots that hold half of the rows each.

    Args:
        x: float array ``(n, d)``.
        pivots: float array ``(bits, d)``.

    Returns:
        `Spheres`.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if the shapes do not match, or `x` has no rows.

    Example:
        >>> spheres(np.array([[0.0], [1.0], [5.0], [6.0]]), np.array([[0.0]])).radii
        array([1.])
    """
    x = floats(x, "x", (None, None))
    check_rows(x, "x")
    pivots = floats(pivots, "pivots", (None, x.shape[1]))
    distances = np.sqrt(squared_distances(x, pivots))  # (n, bits)
    half = (len(x) + 1) // 2 - 1
    radii = np.partition(distances, half, axis=0)[half]
    inside = (distances <= radii).astype(np.float32)
    return Spheres(radii, (inside.T @ inside / len(x)).astype(np.float64))


def move(pivots: npt.ArrayLike, overlaps: npt.ArrayLike) -> Floats:
    """Move pivots apart whose balls share too many rows, and others together.

    Formula:
        p_i <- p_i + mean over j of f_ij,  f_ij = 1/2 (o_ij - 1/4) / (1/4) (p_i - p_j)

    Args:
        pivots: float array ``(bits, d)``; p.
        overlaps: float array ``(bits, bits)``; o.

    Returns:
        Float array ``(bits, d)``.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if the shapes do not match.

    Example:
        >>> move(np.array([[0.0], [1.0]]), np.array([[0.5, 0.5], [0.5, 0.5]]))
        array([[-0.25],
               [ 1.25]])

    Reference:
        J.-P. Heo, Y. Lee, J. He, S.-F. Chang, S.-E. Yoon, Spherical Hashing, CVPR 2012,
        algorithm 1.
    """
    pivots = floats(pivots, "pivots", (None, None))
    overlaps = floats(overlaps, "overlaps", (len(pivots), len(pivots)))
    weights = 0.5 * (4.0 * overlaps - 1.0)
    np.fill_diagonal(weights, 0.0)
    forces = weights.sum(axis=1, keepdims=True) * pivots - weights @ pivots
    return (pivots + forces / len(pivots)).astype(pivots.dtype)
