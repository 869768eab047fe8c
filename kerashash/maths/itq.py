"""Iterative quantization: the rotation that makes projections most like codes."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import as_floats
from kerashash.maths.projections import signs

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

    Example:
        >>> quantization_loss(np.array([[1.0, -1.0]]), np.eye(2))
        0.0
    """
    v = as_floats(v, "v")
    rotated = v @ np.asarray(rotation).astype(v.dtype)
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

    Example:
        >>> v = np.array([[1.0, 0.1], [-0.1, 1.0], [-1.0, -0.1]])
        >>> r = rotation_step(v, np.eye(2))
        >>> quantization_loss(v, r) < quantization_loss(v, np.eye(2))
        True

    Reference:
        Y. Gong, S. Lazebnik, Iterative Quantization: A Procrustean Approach to Learning
        Binary Codes, CVPR 2011, section 3.2.
    """
    v = as_floats(v, "v")
    codes = signs(v @ np.asarray(rotation).astype(v.dtype)).astype(v.dtype)
    u, _, w = np.linalg.svd((v.T @ codes).astype(np.float64))
    return u @ w
