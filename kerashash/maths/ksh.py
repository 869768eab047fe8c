"""Hashing with kernels: one bit after another, each for what the others leave."""

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize

from kerashash.checks import check_integer
from kerashash.maths.precision import Floats, floats, signed
from kerashash.maths.projections import product, signs

__all__ = ["best_direction", "pair_residual"]
__dir__ = __all__.copy  # what completion offers

# Of the mean eigenvalue, so that anchors that are alike do no harm.
_RIDGE = 1e-6


def pair_residual(similarity: npt.ArrayLike, codes: npt.ArrayLike, bits: int) -> Floats:
    """What the inner products of the first bits leave of the wanted ones.

    Formula:
        R = r S - H H^T

    Args:
        similarity: float array ``(l, l)`` over {-1, +1}; S.
        codes: int8 array ``(l, k)`` over {-1, +1}; H, the k bits so far.
        bits: int; r, how many there will be.

    Returns:
        Float array ``(l, l)``.

    Raises:
        TypeError: if an array does not hold numbers, or `bits` is no integer.
        ValueError: if a shape is wrong, a code not over {-1, +1}, or `bits` below 1.

    Example:
        >>> pair_residual(np.ones((1, 1)), np.ones((1, 2), np.int8), 4)
        array([[2.]])
    """
    codes = signed(codes, "codes", (None, None))
    similarity = floats(similarity, "similarity", (len(codes), len(codes)))
    h = codes.astype(similarity.dtype)
    bits = check_integer("bits", bits)
    return bits * similarity - h @ h.T


def best_direction(
    kernel: npt.ArrayLike, residual: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """The direction of the next bit.

    Solves:
        argmax h^T R h  with  h = sgn(K a)

    approximately: first max (K a)^T R (K a) subject to ||K a||^2 = l, by a generalised
    eigenvalue problem; from there, max s^T R s with the smooth s = tanh(K a / 2), by
    L-BFGS; of the two, the a with the larger h^T R h.

    Args:
        kernel: float array ``(l, m)``; K, centred kernel values.
        residual: float array ``(l, l)``, symmetric; R.

    Returns:
        float64 array ``(m,)``; a.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if a shape is wrong, or a value not finite.

    Example:
        >>> r = np.array([[1.0, -1.0], [-1.0, 1.0]])
        >>> a = best_direction(np.array([[2.0], [-2.0]]), r)
        >>> h = np.sign([2.0 * a[0], -2.0 * a[0]])
        >>> float(h @ r @ h)
        4.0

    Reference:
        W. Liu, J. Wang, R. Ji, Y.-G. Jiang, S.-F. Chang, Supervised Hashing with
        Kernels, CVPR 2012, section 3.3, which uses Nesterov's gradient method.
    """
    values = floats(kernel, "kernel", (None, None), finite=True)
    rows, anchors = values.shape
    r = floats(residual, "residual", (rows, rows), finite=True)
    k = values.astype(np.float64)
    gram = product(k, k, "kernel")
    scale = np.trace(gram) / anchors
    gram.flat[:: anchors + 1] += max(_RIDGE * scale, np.finfo(np.float64).tiny)
    projected = (values.T @ (r @ values)).astype(np.float64)
    # With K^T K = L L^T, it is the eigenvalue problem of L^-1 (K^T R K) L^-T.
    lower = np.linalg.cholesky(gram)
    halved = scipy.linalg.solve_triangular(lower, projected, lower=True)
    standard = scipy.linalg.solve_triangular(lower, halved.T, lower=True)
    vector = np.linalg.eigh((standard + standard.T) / 2.0)[1][:, -1]
    spectral = scipy.linalg.solve_triangular(lower.T, vector)
    norm = np.linalg.norm(k @ spectral)
    spectral *= np.sqrt(rows) / max(norm, np.finfo(np.float64).tiny)

    def negative(a: Floats) -> tuple[float, Floats]:
        s = np.tanh(values @ a.astype(values.dtype) / 2.0)
        rs = r @ s
        gradient = values.T @ (rs * (1.0 - s**2))  # d s / d(K a) = (1 - s^2) / 2
        return -float(s @ rs) / rows, -gradient.astype(np.float64) / rows

    smooth = scipy.optimize.minimize(
        negative, spectral, jac=True, method="L-BFGS-B", options={"maxiter": 100}
    ).x

    def value(a: Floats) -> float:
        h = signs(values @ a.astype(values.dtype)).astype(r.dtype)
        return float(h @ (r @ h))

    best: npt.NDArray[np.float64] = max((smooth, spectral), key=value)
    return best
