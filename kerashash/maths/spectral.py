"""Spectral hashing: the smoothest waves along the principal components."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer
from kerashash.maths.precision import floats

__all__ = ["smoothest_modes"]
__dir__ = __all__.copy  # what completion offers


def smoothest_modes(
    ranges: npt.ArrayLike, bits: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The eigenfunctions of a uniform distribution in a box that vary least.

    Of those along one direction i alone, with range r_i,

        Phi(v) = sin(pi/2 + w (v - min)),  w = k pi / r_i,  k = 1, 2, ...

    the eigenvalue 1 - exp(-e^2 w^2 / 2) grows with w, for any e.

    Args:
        ranges: float array ``(dim,)``; r, largest minus smallest value.
        bits: int; how many to choose.

    Returns:
        ``(directions, frequencies)``: int and float64 arrays ``(bits,)``, i and w of
        the modes with the smallest w, in order. Of equal ones, the lower i comes first.

    Raises:
        TypeError: if `ranges` does not hold numbers, or `bits` is no integer.
        ValueError: if `ranges` has another shape, a range is negative or not finite, or
            none is positive; or if `bits` is below 1.

    Example:
        >>> directions, frequencies = smoothest_modes([4.0, 1.5], 3)
        >>> directions, frequencies / np.pi
        (array([0, 0, 1]), array([0.25      , 0.5       , 0.66666667]))

    Reference:
        Y. Weiss, A. Torralba, R. Fergus, Spectral Hashing, NIPS 2008, section 3.
    """
    ranges = floats(ranges, "ranges", (None,), np.float64, finite=True)
    bits = check_integer("bits", bits)
    wide = np.flatnonzero(ranges > 0)
    if (ranges < 0).any() or not wide.size:
        # `LinAlgError` is a ValueError, of which methods say what it means for rows.
        raise np.linalg.LinAlgError(
            "`ranges` must be at least 0, and one above 0. Received: "
            f"{ranges[:5].tolist()}"
        )
    frequencies = np.pi * np.arange(1, bits + 1)[:, None] / ranges[wide]  # (bits, dim)
    order = np.argsort(frequencies, axis=None, kind="stable")[:bits]
    return wide[order % len(wide)], frequencies.ravel()[order]
