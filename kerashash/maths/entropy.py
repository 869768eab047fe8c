"""Label distributions of a maximum entropy model, by improved iterative scaling."""

import numpy as np
import numpy.typing as npt
import scipy.special

from kerashash.maths.precision import Floats, floats

__all__ = ["likelihood", "scaling_step"]
__dir__ = __all__.copy  # what completion offers

# Values of exp in memory at a time.
_BLOCK = 1 << 22
# Newton steps for each update; more change little.
_NEWTON = 4


def likelihood(g: npt.ArrayLike, d: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """How likely label distributions are under a maximum entropy model.

    Formula:
        T = mean over rows of sum_y d_y ln p_y,  p = softmax(g W)

    Args:
        g: float array ``(n, k)``; features, one of which is 1 everywhere.
        d: float array ``(n, classes)``; label distributions.
        weights: float array ``(k, classes)``; W.

    Returns:
        float, at most 0.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if the shapes do not match.

    Example:
        >>> d = np.array([[0.5, 0.5]])
        >>> value = likelihood(np.ones((1, 1)), d, np.zeros((1, 2)))
        >>> round(value, 4)  # -ln 2
        -0.6931
    """
    g, d, weights = _checked(g, d, weights)
    logs = scipy.special.log_softmax(g @ weights, axis=1)
    return float((d * logs).sum(axis=1).mean())


def scaling_step(
    g: npt.ArrayLike, d: npt.ArrayLike, weights: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """One iteration of improved iterative scaling.

    Solves, for each feature k and label y:
        sum_i p_iy g_ik exp(delta_ky s_ik G_i) = sum_i d_iy g_ik
        G_i = sum_k |g_ik|,  s_ik = sgn(g_ik)

    and returns W + delta. That maximises a lower bound of the change of the likelihood,
    which is 0 for delta = 0: the likelihood never falls. A few steps of Newton's
    method, each of which is shortened until the bound does not fall, solve it.

    Args:
        g, d, weights: as for `likelihood`.

    Returns:
        float64 array ``(k, classes)``: the new W.

    Raises:
        TypeError, ValueError: as `likelihood`.

    Example:
        >>> g, w = np.array([[1.0, 0.5], [1.0, -0.5]]), np.zeros((2, 2))
        >>> d = np.array([[0.9, 0.1], [0.4, 0.6]])
        >>> likelihood(g, d, scaling_step(g, d, w)) > likelihood(g, d, w)
        True

    Reference:
        X. Geng, C. Yin, Z.-H. Zhou, Facial Age Estimation by Learning from Label
        Distributions, TPAMI 2013, algorithm 1; S. Della Pietra, V. Della Pietra, J.
        Lafferty, Inducing Features of Random Fields, TPAMI 1997.
    """
    g, d, weights = _checked(g, d, weights)
    p = scipy.special.softmax(g @ weights, axis=1)  # (n, classes)
    totals = np.abs(g).sum(axis=1)  # (n,)
    wanted = g.T @ d  # (k, classes)
    new = np.array(weights, np.float64)
    rows, classes = p.shape
    size = max(1, _BLOCK // (rows * classes))
    for start in range(0, g.shape[1], size):
        columns = slice(start, start + size)
        delta = _solve(g[:, columns], p, totals, wanted[columns])
        new[columns] += delta
    return new


def _checked(
    g: npt.ArrayLike, d: npt.ArrayLike, weights: npt.ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """The arrays of both functions."""
    g = floats(g, "g", (None, None))
    d = floats(d, "d", (len(g), None))
    return g, d, floats(weights, "weights", (g.shape[1], d.shape[1]))


def _solve(g: Floats, p: Floats, totals: Floats, wanted: Floats) -> Floats:
    """The changes delta ``(k, classes)`` of the weights of some features."""
    signed = np.sign(g) * totals[:, None]  # (n, k)
    share = np.abs(g) / np.maximum(totals, np.finfo(float).tiny)[:, None]

    def exponentials(delta: Floats) -> Floats:  # (n, k, classes)
        exponent = np.minimum(signed[:, :, None] * delta, 50.0)
        return p[:, None, :] * np.exp(exponent)

    def bound(values: Floats, delta: Floats) -> Floats:
        # The part of the lower bound that depends on each delta.
        return delta * wanted - np.einsum("nk,nkc->kc", share, values)

    delta = np.zeros_like(wanted)
    values = exponentials(delta)
    before = bound(values, delta)
    for _ in range(_NEWTON):
        slope = wanted - np.einsum("nk,nkc->kc", g, values)
        curvature = np.einsum("nk,nkc->kc", np.abs(g) * totals[:, None], values)
        step = slope / np.maximum(curvature, np.finfo(float).tiny)
        # No exponent changes by more than 1 at a time.
        limit = 1.0 / max(totals.max(), np.finfo(float).tiny)
        step = np.clip(step, -limit, limit)
        changed = exponentials(delta + step)
        after = bound(changed, delta + step)
        better = after >= before
        delta = np.where(better, delta + step, delta)
        values = np.where(better, changed, values)
        before = np.where(better, after, before)
    return delta
