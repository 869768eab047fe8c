"""Hashing with kernels: one bit after another, each for what the others leave."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize

from kerashash.maths.projections import signs

__all__ = ["best_direction", "pair_residual"]
__dir__ = __all__.copy  # what completion offers

Floats = npt.NDArray[np.floating[Any]]
# Of the mean eigenvalue, so that anchors that are alike do no harm.
_RIDGE = 1e-6


def pair_residual(similarity: Floats, codes: npt.NDArray[np.int8], bits: int) -> Floats:
    """What the inner products of the first bits leave of the wanted ones.

    Formula:
        R = r S - H H^T

    Args:
        similarity: float array ``(l, l)`` over {-1, +1}; S.
        codes: int8 array ``(l, k)`` over {-1, +1}; H, the k bits so far.
        bits: int; r, how many there will be.

    Returns:
        Float array ``(l, l)``.

    Example:
        >>> pair_residual(np.ones((1, 1)), np.ones((1, 2), np.int8), 4)
        array([[2.]])
    """
    h = codes.astype(similarity.dtype)
    return bits * similarity - h @ h.T


def best_direction(kernel: Floats, residual: Floats) -> npt.NDArray[np.float64]:
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
    rows, anchors = kernel.shape
    k = kernel.astype(np.float64)
    gram = k.T @ k
    scale = np.trace(gram) / anchors
    gram.flat[:: anchors + 1] += max(_RIDGE * scale, np.finfo(np.float64).tiny)
    projected = (kernel.T @ (residual @ kernel)).astype(np.float64)
    # With K^T K = L L^T, it is the eigenvalue problem of L^-1 (K^T R K) L^-T.
    lower = np.linalg.cholesky(gram)
    halved = scipy.linalg.solve_triangular(lower, projected, lower=True)
    standard = scipy.linalg.solve_triangular(lower, halved.T, lower=True)
    vector = np.linalg.eigh((standard + standard.T) / 2.0)[1][:, -1]
    spectral = scipy.linalg.solve_triangular(lower.T, vector)
    norm = np.linalg.norm(k @ spectral)
    spectral *= np.sqrt(rows) / max(norm, np.finfo(np.float64).tiny)

    def negative(a: Floats) -> tuple[float, Floats]:
        s = np.tanh(kernel @ a.astype(kernel.dtype) / 2.0)
        rs = residual @ s
        gradient = kernel.T @ (rs * (1.0 - s**2))  # d s / d(K a) = (1 - s^2) / 2
        return -float(s @ rs) / rows, -gradient.astype(np.float64) / rows

    smooth = scipy.optimize.minimize(
        negative, spectral, jac=True, method="L-BFGS-B", options={"maxiter": 100}
    ).x

    def value(a: Floats) -> float:
        h = signs(kernel @ a.astype(kernel.dtype)).astype(residual.dtype)
        return float(h @ (residual @ h))

    best: npt.NDArray[np.float64] = max((smooth, spectral), key=value)
    return best
