"""What the functions of this folder compute with: numbers of float32 or float64.

Integers and floats of 16 bits are too narrow: sums overflow, and a result in the type
of the input would be rounded or out of its range.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import as_array, as_floats
from kerashash.forks import check_not_forked

Floats = npt.NDArray[np.floating[Any]]


def floats(
    x: Any,
    name: str,
    shape: Sequence[int | None] | None = None,
    dtype: npt.DTypeLike | None = None,
    finite: bool = False,
) -> Floats:
    """Make an array of float32 or float64.

    Args:
        x: array, tensor or nested lists of numbers.
        name: str; the argument to name in errors.
        shape: tuple or None; the shape required, with None for each axis of any length.
            None accepts every shape.
        dtype: the type wanted. None is float64 for integers and float64, and float32
            for narrower floats.
        finite: bool; whether NaN and infinity are errors.

    Returns:
        Float array of the shape of `x`: `x` itself, if it is one already.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong, or a value not finite.

    Example:
        >>> floats([[1, 2]], "x", shape=(None, 2))
        array([[1., 2.]])
    """
    x = as_array(x, name)
    if dtype is None or x.dtype.kind not in "uib":
        x = as_floats(x, name)
    if dtype is None:
        dtype = np.float32 if x.dtype.itemsize <= 4 else np.float64
    x = x.astype(dtype, copy=False)
    check_shape(x, name, shape)
    if finite and not np.isfinite(x).all():
        rows = np.unique(np.nonzero(~np.isfinite(np.atleast_1d(x)))[0])
        raise ValueError(
            f"`{name}` must be finite. Received NaN or infinity in rows "
            f"{rows[:5].tolist()}."
        )
    return x


def check_shape(
    x: npt.NDArray[Any], name: str, shape: Sequence[int | None] | None
) -> None:
    """Check the shape of an array.

    Args:
        x: array.
        name: str; the argument to name in the error.
        shape: tuple or None; the shape required, with None for each axis of any length.
            None accepts every shape.

    Raises:
        ValueError: if the shape is wrong.

    Example:
        >>> check_shape(np.zeros(3), "x", (4,))
        Traceback (most recent call last):
        ValueError: `x` must have shape (4,). Received shape: (3,).
    """
    if shape is not None and not (
        x.ndim == len(shape)
        and all(
            length is None or length == received
            for length, received in zip(shape, x.shape, strict=True)
        )
    ):
        lengths = ["any" if length is None else str(length) for length in shape]
        listed = f"{lengths[0]}," if len(lengths) == 1 else ", ".join(lengths)
        raise ValueError(
            f"`{name}` must have shape ({listed}). Received shape: {x.shape}."
        )


def check_rows(x: npt.NDArray[Any], name: str) -> None:
    """Check that an array has rows.

    Args:
        x: array ``(n, ...)``.
        name: str; the argument to name in the error.

    Raises:
        ValueError: if there are none.

    Example:
        >>> check_rows(np.zeros((0, 3)), "x")
        Traceback (most recent call last):
        ValueError: `x` must have rows. Received shape: (0, 3).
    """
    if not len(x):
        raise ValueError(f"`{name}` must have rows. Received shape: {x.shape}.")


def integers(
    x: Any, name: str, least: int = 0, most: int | None = None
) -> npt.NDArray[np.int64]:
    """Make a vector of int64.

    Args:
        x: array, tensor or list of integers.
        name: str; the argument to name in errors.
        least: int; smallest value allowed.
        most: int or None; largest value allowed, None for no limit.

    Returns:
        int64 array ``(n,)``.

    Raises:
        TypeError: if the values are not integers.
        ValueError: if the shape is wrong, or a value out of range.

    Example:
        >>> integers([2, 0], "columns", most=2)
        array([2, 0])
    """
    x = as_array(x, name)
    if x.dtype.kind not in "ui" and x.size:
        raise TypeError(f"`{name}` must hold integers. Received dtype: {x.dtype}.")
    if x.ndim != 1:
        raise ValueError(f"`{name}` must have shape (n,). Received shape: {x.shape}.")
    if x.size and (x.min() < least or (most is not None and x.max() > most)):
        upwards = "upwards" if most is None else f"to {most}"
        raise ValueError(
            f"`{name}` must hold integers from {least} {upwards}. Received integers "
            f"from {x.min()} to {x.max()}."
        )
    return x.astype(np.int64, copy=False)


def signed(x: Any, name: str, shape: Sequence[int | None]) -> npt.NDArray[np.int8]:
    """Make an int8 array of codes.

    Args:
        x: array, tensor or nested lists over {-1, +1}.
        name: str; the argument to name in errors.
        shape: tuple; the shape required, as for `floats`.

    Returns:
        int8 array over {-1, +1}.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape or a value is wrong.

    Example:
        >>> signed([[1.0, -1.0]], "codes", shape=(None, 2))
        array([[ 1, -1]], dtype=int8)
    """
    x = as_array(x, name)
    if x.dtype.kind not in "uif":
        raise TypeError(f"`{name}` must hold numbers. Received dtype: {x.dtype}.")
    check_shape(x, name, shape)
    wrong = np.abs(x) != 1  # also NaN
    if wrong.any():
        raise ValueError(
            f"`{name}` must contain only -1 and +1. "
            f"Received values: {np.unique(x[wrong])[:5]}."
        )
    return x.astype(np.int8)


def number_tensor(x: Any, name: str) -> tf.Tensor:
    """Make a tensor of integers, floats or bools.

    Args:
        x: tensor, array or nested lists of numbers.
        name: str; the argument to name in errors.

    Returns:
        Tensor.

    Raises:
        TypeError: if it does not hold numbers.
        ValueError: if a masked array lacks values.

    Example:
        >>> number_tensor("a", "x")
        Traceback (most recent call last):
        TypeError: `x` must hold numbers. Received dtype: string.
    """
    check_not_forked()
    if isinstance(x, np.ndarray):
        x = as_array(x, name)
    try:
        tensor = tf.convert_to_tensor(x)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be a tensor of numbers. Received: {type(x).__name__}."
        ) from error
    dtype = tensor.dtype
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise TypeError(f"`{name}` must hold numbers. Received dtype: {dtype.name}.")
    return tensor


def float_tensors(**values: Any) -> list[tf.Tensor]:
    """Make tensors of one type: that of the first, if that is float32 or float64.

    In a graph, it costs nothing where the types are right.

    Args:
        **values: tensors, arrays or nested lists of numbers, each under the name of its
            argument.

    Returns:
        list of tensors: of float64 if the first has integers, of float32 if it has
        narrower floats.

    Raises:
        TypeError: if a value does not hold numbers.

    Example:
        >>> u, codes = float_tensors(u=[[0.5]], codes=np.ones((1, 1), np.int8))
        >>> codes.numpy()
        array([[1.]], dtype=float32)
    """
    tensors = [number_tensor(value, name) for name, value in values.items()]
    first = tensors[0].dtype
    exact = first == tf.float64 or not first.is_floating
    dtype = tf.float64 if exact else tf.float32
    return [tf.cast(tensor, dtype) for tensor in tensors]
