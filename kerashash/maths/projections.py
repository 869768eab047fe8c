"""Linear projections to a few dimensions, by which shallow methods begin."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash.checks import as_floats, check_above, check_array, check_integer

__all__ = ["principal_components", "random_rotation", "ridge_regression", "signs"]
__dir__ = __all__.copy  # what completion offers

Floats = npt.NDArray[np.floating[Any]]


def signs(x: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """The binary codes nearest to continuous ones, with ``sign(0) = +1``.

    Args:
        x: float array of any shape.

    Returns:
        int8 array over {-1, +1} of the shape of `x`.

    Example:
        >>> signs([-0.5, 0.0, 2.0])
        array([-1,  1,  1], dtype=int8)
    """
    return np.where(np.asarray(x) >= 0, np.int8(1), np.int8(-1))


def principal_components(
    x: npt.ArrayLike, dim: int
) -> tuple[Floats, Floats, npt.NDArray[np.float64]]:
    """The directions in which vectors vary most.

    Solves:
        argmax tr(W^T C W)  subject to  W^T W = I

    with the covariance C of the rows of X.

    Args:
        x: float array ``(n, d)``; X.
        dim: int; how many directions, at most d.

    Returns:
        ``(mean, components, variances)``: float32 arrays ``(d,)`` and ``(d, dim)``, W
        with the largest variance first; and float64 ``(d,)``, the variances in all
        directions, largest first. The largest entry of each column of W is positive.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if `dim` is more than d, or a value is not finite.

    Example:
        >>> x = np.array([[0.0, 1.0], [0.0, -1.0], [0.5, 0.0], [-0.5, 0.0]])
        >>> principal_components(x, 1)[1]
        array([[0.],
               [1.]], dtype=float32)
    """
    x = check_array(as_floats(x, "x"), (None, None), "x")
    check_integer("dim", dim, most=x.shape[1])
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = x - mean
    # The decomposition is of d x d, in float64; the product of all rows is not.
    covariance = (centred.T @ centred).astype(np.float64) / max(len(x), 1)
    variances, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :dim]
    largest = np.abs(components).argmax(axis=0)
    flip = np.where(components[largest, np.arange(dim)] < 0, -1.0, 1.0)
    variances = np.maximum(variances[::-1], 0.0)
    return mean, (components * flip).astype(np.float32), variances


def random_rotation(dim: int, seed: int) -> npt.NDArray[np.float64]:
    """A rotation or reflection drawn at random, all equally likely.

    Args:
        dim: int.
        seed: int.

    Returns:
        float64 array ``(dim, dim)``, orthogonal.

    Example:
        >>> r = random_rotation(3, seed=0)
        >>> bool(np.allclose(r @ r.T, np.eye(3)))
        True
    """
    normal = np.random.default_rng(seed).normal(size=(dim, dim))
    q, r = np.linalg.qr(normal)
    # QR is unique with a positive diagonal, and then Q is uniform.
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def ridge_regression(x: npt.ArrayLike, y: npt.ArrayLike, penalty: float) -> Floats:
    """Ridge regression: linear, with a penalty on large weights.

    Solves:
        argmin ||Y - X W||_F^2 + penalty ||W||_F^2

    Args:
        x: array ``(n, d)``; X.
        y: array ``(n, c)``; Y.
        penalty: float; above 0.

    Returns:
        Float array ``(d, c)``: W, of the precision of `x`; float64 if `x` has integers.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if `penalty` is not above 0.

    Example:
        >>> ridge_regression(np.eye(2), np.array([[2.0], [4.0]]), penalty=1.0)
        array([[1.],
               [2.]])
    """
    x, y = as_floats(x, "x"), as_floats(y, "y")
    check_above(0, penalty=penalty)
    gram = (x.T @ x).astype(np.float64)
    gram.flat[:: len(gram) + 1] += penalty
    return np.linalg.solve(gram, (x.T @ y).astype(np.float64)).astype(x.dtype)
