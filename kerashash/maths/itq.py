"""Iterative quantization: the rotation that makes projections most like codes."""

import numpy as np
import numpy.typing as npt

from kerashash.maths.precision import Floats, check_rows, floats
from kerashash.maths.projections import product, signs

__all__ = ["quantization_loss", "rotation_step"]
__dir__ = __all__.copy  # what completion offers


def quantization_loss(v: npt.ArrayLike, rotation: npt.ArrayLike) -> float:
    """How far rotated projections are from codes.

    Formula:
        Q(B, R) = ||B - V R||_F^2  with  B = sgn(V R)                           (eq. 2)

    Args:
        v: float array ``(n, bits)``; V.
        rotation: float array ``(bits, bits)``; R.

    Returns:
        float; the mean over rows and bits in place of the sum.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if a shape is wrong, or a value not finite.

    Example:
        >>> quantization_loss(np.array([[1.0, -1.0]]), np.eye(2))
        0.0
    """
    v, rotation = _checked(v, rotation)
    rotated = v @ rotation
    # (|u| - 1)^2 is the distance to the nearer of +1 and -1.
    return float(np.square(np.abs(rotated) - 1.0).mean(dtype=np.float64))


def rotation_step(v: npt.ArrayLike, rotation: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """One iteration: the codes of a rotation, then the best rotation for these codes.

    Solves:
        B = argmin Q(B, R)  and then  R = argmin Q(B, R)  subject to  R^T R = I

    each exactly, so that the loss never rises: B = sgn(V R); and R = U W^T of the
    singular value decomposition V^T B = U S W^T.

    Args:
        v: float array ``(n, bits)``; V.
        rotation: float array ``(bits, bits)``; R.

    Returns:
        float64 array ``(bits, bits)``, orthogonal: the new R.

    Raises:
        TypeError, ValueError: as `quantization_loss`; and if numbers are so large that
            sums of them are infinite.

    Example:
        >>> v = np.array([[1.0, 0.1], [-0.1, 1.0], [-1.0, -0.1]])
        >>> r = rotation_step(v, np.eye(2))
        >>> quantization_loss(v, r) < quantization_loss(v, np.eye(2))
        True

    Reference:
        Y. Gong, S. Lazebnik, Iterative Quantization: A Procrustean Approach to Learning
        Binary Codes, CVPR 2011, section 3.2.
    """
    v, rotation = _checked(v, rotation)
    codes = signs(v @ rotation).astype(v.dtype)
    u, _, w = np.linalg.svd(product(v, codes, "v"))  # of infinity, it would not return
    return u @ w


def _checked(v: npt.ArrayLike, rotation: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The arrays of both functions."""
    v = floats(v, "v", (None, None), finite=True)
    check_rows(v, "v")
    bits = v.shape[1]
    return v, floats(rotation, "rotation", (bits, bits), v.dtype, finite=True)
