"""Spectral hashing: the smoothest waves along the principal components."""

import numpy as np
import numpy.typing as npt

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
        ValueError: if no range is positive.

    Example:
        >>> directions, frequencies = smoothest_modes([4.0, 1.5], 3)
        >>> directions, frequencies / np.pi
        (array([0, 0, 1]), array([0.25      , 0.5       , 0.66666667]))

    Reference:
        Y. Weiss, A. Torralba, R. Fergus, Spectral Hashing, NIPS 2008, section 3.
    """
    ranges = np.asarray(ranges, np.float64)
    wide = np.flatnonzero(ranges > 0)
    if not wide.size:
        raise ValueError("`x` must have rows that differ. Received equal rows.")
    frequencies = np.pi * np.arange(1, bits + 1)[:, None] / ranges[wide]  # (bits, dim)
    order = np.argsort(frequencies, axis=None, kind="stable")[:bits]
    return wide[order % len(wide)], frequencies.ravel()[order]
