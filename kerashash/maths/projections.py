"""Linear projections to a few dimensions, by which shallow methods begin."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import as_array, as_floats, check_above, check_integer
from kerashash.maths.precision import Floats, check_rows, floats

__all__ = ["principal_components", "random_rotation", "ridge_regression", "signs"]
__dir__ = __all__.copy  # what completion offers


def signs(x: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """The binary codes nearest to continuous ones, with ``sign(0) = +1``.

    Args:
        x: float array of any shape.

    Returns:
        int8 array over {-1, +1} of the shape of `x`.

    Raises:
        TypeError: if the values are not numbers.

    Example:
        >>> signs([-0.5, 0.0, 2.0])
        array([-1,  1,  1], dtype=int8)
    """
    x = as_array(x, "x")
    if x.dtype.kind not in "uifb":
        raise TypeError(f"`x` must hold numbers. Received dtype: {x.dtype}.")
    return np.where(x >= 0, np.int8(1), np.int8(-1))


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
        ``(mean, components, variances)``: float arrays ``(d,)`` and ``(d, dim)``, W
        with the largest variance first, in float64 if `x` is of float64 or integers,
        else float32; and float64 ``(d,)``, the variances in all directions, largest
        first. The largest entry of each column of W is positive.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if there are no rows, `dim` is more than d, a value is not finite,
            or numbers are so large that their squares are infinite.

    Example:
        >>> x = np.array([[0.0, 1.0], [0.0, -1.0], [0.5, 0.0], [-0.5, 0.0]])
        >>> principal_components(x, 1)[1]
        array([[0.],
               [1.]])
    """
    x = floats(x, "x", (None, None), finite=True)
    check_rows(x, "x")
    dim = check_integer("dim", dim, most=x.shape[1])
    mean = x.mean(axis=0, dtype=np.float64).astype(x.dtype)
    centred = x - mean
    covariance = product(centred, centred, "x") / len(x)
    variances, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :dim]
    largest = np.abs(components).argmax(axis=0)
    flip = np.where(components[largest, np.arange(dim)] < 0, -1.0, 1.0)
    variances = np.maximum(variances[::-1], 0.0)
    return mean, (components * flip).astype(x.dtype), variances


def product(x: Floats, y: Floats, name: str) -> npt.NDArray[np.float64]:
    """X^T Y in float64, for equations to solve. It is summed in the precision of X and
    Y: the product of all rows takes longest.

    Args:
        x: float array ``(n, d)``; X.
        y: float array ``(n, c)``; Y.
        name: str; the argument to name in the error.

    Returns:
        float64 array ``(d, c)``.

    Raises:
        np.linalg.LinAlgError: a `ValueError`, if a sum is out of range.

    Example:
        >>> product(np.ones((2, 1)), np.ones((2, 1)), "x")
        array([[2.]])
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
        sums = (x.T @ y).astype(np.float64)
    if not np.isfinite(sums).all():
        raise np.linalg.LinAlgError(
            f"`{name}` must hold numbers whose products have finite sums. Received "
            f"numbers from {x.min()} to {x.max()}, of {x.dtype}"
        )
    return sums


def random_rotation(dim: int, seed: int) -> npt.NDArray[np.float64]:
    """A rotation or reflection drawn at random, all equally likely.

    Args:
        dim: int.
        seed: int.

    Returns:
        float64 array ``(dim, dim)``, orthogonal.

    Raises:
        TypeError: if an argument is no integer.
        ValueError: if one is out of range.

    Example:
        >>> r = random_rotation(3, seed=0)
        >>> bool(np.allclose(r @ r.T, np.eye(3)))
        True
    """
    dim = check_integer("dim", dim)
    random = np.random.default_rng(check_integer("seed", seed, least=0))
    normal = random.normal(size=(dim, dim))
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
        ValueError: if a shape is wrong, a value not finite, `penalty` not above 0, or
            numbers are so large that their squares are infinite.

    Example:
        >>> ridge_regression(np.eye(2), np.array([[2.0], [4.0]]), penalty=1.0)
        array([[1.],
               [2.]])
    """
    x = as_floats(x, "x")
    precision = x.dtype
    x = floats(x, "x", (None, None), finite=True)
    y = floats(y, "y", (len(x), None), finite=True)
    check_above(0, penalty=penalty)
    gram = product(x, x, "x")
    gram.flat[:: len(gram) + 1] += penalty
    return np.linalg.solve(gram, product(x, y, "y")).astype(precision)
