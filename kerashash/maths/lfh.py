"""Latent factor hashing: vectors whose inner products make the similarities likely."""

import numpy as np
import numpy.typing as npt
import scipy.special

from kerashash.checks import check_above
from kerashash.maths.precision import Floats, floats, integers

__all__ = ["factor_step", "negative_log_likelihood"]
__dir__ = __all__.copy  # what completion offers


def negative_log_likelihood(
    u: npt.ArrayLike, columns: npt.ArrayLike, similar: npt.ArrayLike, beta: float
) -> float:
    """What `factor_step` minimises.

    Formula:
        sum over rows i and sampled columns j != i of
            log(1 + exp t_ij) - s_ij t_ij,  t_ij = u_i . u_j / 2
        + ||U||^2 / (2 beta)

    Args:
        u: float array ``(n, bits)``; U.
        columns: int array ``(m,)``; rows of U, the columns of S that are sampled.
        similar: float array ``(n, m)`` over {0, 1}; these columns of S.
        beta: float; the variance of the prior of U.

    Returns:
        float.

    Raises:
        TypeError: if an array does not hold numbers, or `columns` no integers.
        ValueError: if a shape is wrong, a column is no row of U, or `beta` is not
            above 0.

    Example:
        >>> u, s = np.zeros((2, 1)), np.eye(2)
        >>> round(negative_log_likelihood(u, np.arange(2), s, 1.0), 4)  # 2 ln 2
        1.3863
    """
    u, columns, similar = _checked(u, columns, similar, beta)
    t = u @ u[columns].T / 2.0
    terms = np.logaddexp(0.0, t) - similar * t
    terms[columns, np.arange(len(columns))] = 0.0
    prior = np.square(u).sum(dtype=np.float64) / (2.0 * beta)
    return float(terms.sum(dtype=np.float64) + prior)


def factor_step(
    u: npt.ArrayLike, columns: npt.ArrayLike, similar: npt.ArrayLike, beta: float
) -> Floats:
    """Move all vectors so that the sampled similarities become more likely.

    Each vector goes to the minimum of a quadratic that is nowhere below the negative
    log-likelihood, as the second derivative of log(1 + exp t) is at most 1/4, and
    touches it at the present vector. So the objective never rises. Vectors of rows that
    are no columns do not depend on one another, and move at once; the others follow one
    by one.

    Args:
        u, columns, similar, beta: as for `negative_log_likelihood`.

    Returns:
        Float array ``(n, bits)``: the new U.

    Raises:
        TypeError, ValueError: as `negative_log_likelihood`.

    Example:
        >>> u, s = np.array([[1.0], [0.5]]), np.eye(2)
        >>> new = factor_step(u, np.arange(2), s, 1.0)
        >>> before = negative_log_likelihood(u, np.arange(2), s, 1.0)
        >>> negative_log_likelihood(new, np.arange(2), s, 1.0) < before
        True

    Reference:
        P. Zhang, W. Zhang, W.-J. Li, M. Guo, Supervised Hashing with Latent Factor
        Models, SIGIR 2014, sections 3.2 and 3.3.
    """
    u, columns, similar = _checked(u, columns, similar, beta)
    u = u.copy()
    prior = np.eye(u.shape[1]) / beta
    sampled = u[columns]  # (m, bits)
    rest = np.ones(len(u), bool)
    rest[columns] = False
    curvature = (sampled.T @ sampled).astype(np.float64) / 16.0 + prior
    a = scipy.special.expit(u[rest] @ sampled.T / 2.0)
    gradient = (similar[rest] - a) @ sampled / 2.0 - u[rest] / beta  # (n - m, bits)
    u[rest] += np.linalg.solve(curvature, gradient.T).T.astype(u.dtype)
    # A pair of two columns is twice in the sum.
    weights = np.where(rest, 1.0, 2.0).astype(u.dtype)
    gram = (u.T @ (weights[:, None] * u)).astype(np.float64)
    for number, j in enumerate(columns):
        old = u[j].astype(np.float64)
        a = scipy.special.expit(u @ u[j] / 2.0)
        slopes = weights * (similar[:, number] - a) / 2.0
        slopes[j] = 0.0
        gram -= 2.0 * np.outer(old, old)
        curvature = gram / 16.0 + prior
        new = old + np.linalg.solve(curvature, slopes @ u - old / beta)
        gram += 2.0 * np.outer(new, new)
        u[j] = new
    return u


def _checked(
    u: npt.ArrayLike, columns: npt.ArrayLike, similar: npt.ArrayLike, beta: float
) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """The arrays of both functions."""
    u = floats(u, "u", (None, None))
    columns = integers(columns, "columns", most=len(u) - 1)
    similar = floats(similar, "similar", (len(u), len(columns)), u.dtype)
    check_above(0, beta=beta)
    return u, columns, similar
