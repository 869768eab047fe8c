"""Support vector regression of several outputs at once."""

import numpy as np
import numpy.typing as npt
import scipy.linalg

from kerashash.checks import check_least
from kerashash.maths.precision import Floats, floats

__all__ = ["svr_objective", "svr_step"]
__dir__ = __all__.copy  # what completion offers


def svr_objective(
    kernel: npt.ArrayLike,
    targets: npt.ArrayLike,
    beta: npt.ArrayLike,
    bias: npt.ArrayLike,
    penalty: float,
    epsilon: float,
) -> float:
    """What support vector regression minimises.

    Formula:
        1/2 ||W||^2 + C sum_i max(0, |e_i| - epsilon)^2
        e = Z - K beta - b,  ||W||^2 = tr(beta^T K beta)

    with the Euclidean length |e_i| of the errors of all outputs of row i.

    Args:
        kernel: float array ``(n, n)``; K.
        targets: float array ``(n, outputs)``; Z.
        beta: float array ``(n, outputs)``; the weight of each row.
        bias: float array ``(outputs,)``; b.
        penalty: float; C.
        epsilon: float; the length of an error that costs nothing.

    Returns:
        float.

    Raises:
        TypeError: if an argument does not hold numbers.
        ValueError: if a shape is wrong, or a value not finite.

    Example:
        >>> z, zero = np.array([[3.0]]), np.zeros((1, 1))
        >>> svr_objective(np.eye(1), z, zero, np.zeros(1), 2.0, 1.0)
        8.0
    """
    arrays = _checked(kernel, targets, beta, bias, penalty, epsilon)
    return _objective(*arrays, penalty, epsilon)


def _objective(
    kernel: Floats,
    targets: Floats,
    beta: Floats,
    bias: Floats,
    penalty: float,
    epsilon: float,
) -> float:
    """`svr_objective` of checked arrays."""
    product = kernel @ beta
    lengths = np.linalg.norm(targets - product - bias, axis=1)
    losses = np.maximum(lengths - epsilon, 0.0) ** 2
    return float(0.5 * (beta * product).sum() + penalty * losses.sum())


def _checked(
    kernel: npt.ArrayLike,
    targets: npt.ArrayLike,
    beta: npt.ArrayLike,
    bias: npt.ArrayLike,
    penalty: float,
    epsilon: float,
) -> tuple[Floats, Floats, Floats, Floats]:
    """The arrays of both functions."""
    targets = floats(targets, "targets", (None, None), finite=True)
    n, outputs = targets.shape
    kernel = floats(kernel, "kernel", (n, n), finite=True)
    # A step in a narrower type would be rounded.
    dtype = np.result_type(kernel, targets)
    beta = floats(beta, "beta", (n, outputs), finite=True)
    bias = floats(bias, "bias", (outputs,), finite=True)
    check_least(0, penalty=penalty, epsilon=epsilon)
    return (
        kernel,
        targets,
        beta.astype(np.result_type(beta, dtype), copy=False),
        bias.astype(np.result_type(bias, dtype), copy=False),
    )


def svr_step(
    kernel: npt.ArrayLike,
    targets: npt.ArrayLike,
    beta: npt.ArrayLike,
    bias: npt.ArrayLike,
    penalty: float,
    epsilon: float,
) -> tuple[Floats, Floats]:
    """One iteration of iteratively reweighted least squares.

    The loss of row i is replaced by a_i |e_i|^2 / 2, which has its slope at the present
    error: a_i = 2 C (|e_i| - epsilon) / |e_i|, or 0 for errors that cost nothing. The
    minimum of that is a system of linear equations,

        (K + D^-1) beta + 1 b^T = Z,  1^T beta = 0,  D = diag(a)

    over the rows with a_i > 0; the others have beta = 0. The step towards it is halved
    until the objective does not rise.

    Args:
        kernel, targets, beta, bias, penalty, epsilon: as for `svr_objective`.

    Returns:
        ``(beta, bias)``: the new ones.

    Raises:
        TypeError, ValueError: as `svr_objective`.

    Example:
        >>> x, beta = np.arange(5.0)[:, None], np.zeros((5, 1))
        >>> beta, bias = svr_step(x @ x.T, 2 * x, beta, np.zeros(1), 9.0, 0.1)
        >>> bool(np.allclose(x @ (x.T @ beta) + bias, 2 * x, atol=0.2))
        True

    Reference:
        F. Perez-Cruz et al., Multi-dimensional Function Approximation and Regression
        Estimation, ICANN 2002.
    """
    kernel, targets, beta, bias = _checked(
        kernel, targets, beta, bias, penalty, epsilon
    )
    lengths = np.linalg.norm(targets - kernel @ beta - bias, axis=1)
    weights = 2.0 * penalty * (lengths - epsilon) / np.maximum(lengths, 1e-300)
    rows = np.flatnonzero(weights > 0)
    if not rows.size:
        return beta, bias
    system = kernel[np.ix_(rows, rows)].astype(np.float64)
    system.flat[:: len(rows) + 1] += 1.0 / weights[rows]
    factor = scipy.linalg.cho_factor(system, lower=True, overwrite_a=True)
    ones = np.ones(len(rows))
    known = np.column_stack([targets[rows], ones])
    solved = scipy.linalg.cho_solve(factor, known)
    new_bias = solved[:, :-1].sum(axis=0) / solved[:, -1].sum()
    new_beta = np.zeros_like(beta)
    new_beta[rows] = solved[:, :-1] - np.outer(solved[:, -1], new_bias)
    before = _objective(kernel, targets, beta, bias, penalty, epsilon)
    length = 1.0
    while length > 1e-6:
        candidate = (
            beta + length * (new_beta - beta),
            bias + length * (new_bias - bias),
        )
        value = _objective(kernel, targets, *candidate, penalty, epsilon)
        if value <= before:
            return candidate
        length /= 2.0
    return beta, bias
