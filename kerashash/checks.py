"""Argument checks of the whole package, and options taken from presets.

An error names the argument, the rule it breaks and the value received.
"""

import contextlib
import difflib
import numbers
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash.notes import one_line

#: Lower limit of a probability in the measures that divide by it or take its logarithm.
FLOOR = 1e-6
# How many names an error message lists.
_MAX_LISTED = 10
# How far the sum of a label distribution may be from 1.
_SUM_TOLERANCE = 1e-3


def check_integer(
    name: str, value: object, least: int = 1, most: int | None = None
) -> int:
    """Check that a value is an integer within a range.

    Args:
        name: str; the argument to name in the error.
        value: the value received.
        least: int; smallest value allowed.
        most: int or None; largest value allowed, None for no limit.

    Returns:
        int, the value.

    Raises:
        TypeError: if the value is not an integer; a bool is not one.
        ValueError: if the value is out of range.

    Example:
        >>> check_integer("epochs", 3)
        3
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    value = int(value)
    if value < least:
        raise ValueError(
            f"`{name}` must be at least {least}. Received: {name}={value}."
        )
    if most is not None and value > most:
        raise ValueError(f"`{name}` must be at most {most}. Received: {name}={value}.")
    return value


def check_number(name: str, value: Any) -> None:
    """Check that a value is a number.

    Args:
        name: str; the argument to name in the error.
        value: the value received.

    Raises:
        TypeError: if the value is not an int or a float, Python's or NumPy's; a bool is
            not one.

    Example:
        >>> check_number("margin", "1")
        Traceback (most recent call last):
        TypeError: `margin` must be a number. Received: margin='1'.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}.")


def check_flag(**values: Any) -> None:
    """Check that values are True or False: of a text, "false" would count as True.

    Args:
        **values: the values, each under the name of its argument.

    Raises:
        TypeError: if a value is no bool, Python's or NumPy's.

    Example:
        >>> check_flag(floor="false")
        Traceback (most recent call last):
        TypeError: `floor` must be True or False. Received: floor='false'.
    """
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(
                f"`{name}` must be True or False. Received: {name}={value!r}."
            )


def check_least(least: float, **values: float) -> None:
    """Check that numbers are finite and not below a limit.

    Args:
        least: float; smallest value allowed.
        **values: the numbers, each under the name of its argument.

    Raises:
        TypeError: if a value is not a number.
        ValueError: if a number is below the limit, NaN or infinite.

    Example:
        >>> check_least(0, margin=-1.0)
        Traceback (most recent call last):
        ValueError: `margin` must be at least 0 and finite. Received: margin=-1.0.
    """
    for name, value in values.items():
        check_number(name, value)
        # Not `value < least`, which is False for NaN.
        if not least <= value < float("inf"):
            raise ValueError(
                f"`{name}` must be at least {least} and finite. "
                f"Received: {name}={value}."
            )


def check_above(limit: float, **values: float) -> None:
    """Check that numbers are finite and above a limit.

    Args:
        limit: float; the values must be larger.
        **values: the numbers, each under the name of its argument.

    Raises:
        TypeError: if a value is not a number.
        ValueError: if a number is not.

    Example:
        >>> check_above(0, beta=0.0)
        Traceback (most recent call last):
        ValueError: `beta` must be above 0 and finite. Received: beta=0.0.
    """
    for name, value in values.items():
        check_number(name, value)
        if not limit < value < float("inf"):
            raise ValueError(
                f"`{name}` must be above {limit} and finite. Received: {name}={value}."
            )


def check_fraction(**values: float) -> None:
    """Check that numbers are from 0 to 1.

    Args:
        **values: the numbers, each under the name of its argument.

    Raises:
        TypeError: if a value is not a number.
        ValueError: if a number is out of range.

    Example:
        >>> check_fraction(threshold=1.5)
        Traceback (most recent call last):
        ValueError: `threshold` must be in [0, 1]. Received: threshold=1.5.
    """
    for name, value in values.items():
        check_number(name, value)
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={value}.")


def check_widths(**values: Any) -> dict[str, tuple[int, ...]]:
    """Check that values are the widths of layers: integers of at least 1.

    Args:
        **values: lists or tuples of int, each under the name of its argument.

    Returns:
        dict of tuples of int, the values by name.

    Raises:
        TypeError: if a value is not a list or tuple, or holds no integers.
        ValueError: if it holds an integer below 1.

    Example:
        >>> check_widths(label_units=(64, 0))
        Traceback (most recent call last):
        ValueError: `label_units` must be at least 1. Received: label_units=0.
    """
    for name, widths in values.items():
        if isinstance(widths, str) or not isinstance(widths, Sequence):
            raise TypeError(
                f"`{name}` must be a list of widths. Received: {name}={widths!r}."
            )
    return {
        name: tuple(check_integer(name, width) for width in widths)
        for name, widths in values.items()
    }


@contextlib.contextmanager
def renamed(argument: str, to: str) -> Iterator[None]:
    """Name an argument in errors as the caller of a function knows it.

    Args:
        argument: str; the name in the errors of the block.
        to: str; the name of the caller's argument.

    Example:
        >>> with renamed("x", "data"):
        ...     check_array([float("nan")])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: `data` must be finite. Received NaN or infinity, ...
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        text = str(error)
        # Classes of their own may take other arguments.
        if type(error) not in (TypeError, ValueError) or f"`{argument}`" not in text:
            raise
        raise type(error)(text.replace(f"`{argument}`", f"`{to}`")) from error


def check_choices(allowed: Mapping[str, Container[Any]], **values: object) -> None:
    """Check that values are among those allowed for their arguments.

    Args:
        allowed: dict; the values allowed, by the name of the argument.
        **values: the values, each under the name of its argument.

    Raises:
        ValueError: if a value is not allowed.

    Example:
        >>> check_choices({"mode": ("train", "test")}, mode="all")
        Traceback (most recent call last):
        ValueError: `mode` must be one of ('train', 'test'). Received: 'all'.
    """
    for name, value in values.items():
        try:
            is_allowed = value in allowed[name]
        except (TypeError, ValueError):  # lists have no hash, arrays no truth
            is_allowed = False
        if not is_allowed:
            raise ValueError(
                f"`{name}` must be one of {allowed[name]}. Received: {value!r}."
            )


def refuse_arguments(owner: str, arguments: Mapping[str, Any], *names: str) -> None:
    """Refuse arguments of a base class that a subclass sets itself.

    Args:
        owner: str; the name of the subclass.
        arguments: dict; the keyword arguments that the user passes on.
        *names: str; the arguments to refuse.

    Raises:
        TypeError: if one of them is there.

    Example:
        >>> refuse_arguments("SSDH", {"num_train": 9}, "num_train")
        Traceback (most recent call last):
        TypeError: `SSDH` has no argument `num_train`. Received: num_train=9.
    """
    for name in names:
        if name in arguments:
            raise TypeError(
                f"`{owner}` has no argument `{name}`. "
                f"Received: {name}={arguments[name]!r}."
            )


def close_names(name: str, names: Iterable[str]) -> str:
    """Ask whether another name was meant, for the end of an error.

    Args:
        name: str; a name that is none of `names`.
        names: iterable of str.

    Returns:
        str; empty if none of the names is close.

    Example:
        >>> close_names("dcdh-cifar-48", ["dcdh-cifar10-48", "ssdh-digits-48"])
        " Did you mean ['dcdh-cifar10-48']?"
        >>> close_names("x", ["dcdh-cifar10-48"])
        ''
    """
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f" Did you mean {close}?" if close else ""


def from_preset(
    presets: Mapping[str, Mapping[str, Any]], preset: str, **options: Any
) -> dict[str, Any]:
    """Fill in the options that the user left at None from a preset.

    Args:
        presets: dict of dicts; the options of each preset.
        preset: str; the name of a preset.
        **options: the user's values; None for the value of the preset.

    Returns:
        dict of the options.

    Raises:
        ValueError: if there is no such preset.

    Example:
        >>> from_preset({"paper": {"margin": 1.0}}, "paper", margin=None)
        {'margin': 1.0}
    """
    check_choices({"preset": [*presets]}, preset=preset)
    defaults = presets[preset]
    return {
        name: defaults[name] if value is None else value
        for name, value in options.items()
    }


def said(error: BaseException) -> str:
    """What an error says, without its full stop, for the end of a sentence.

    Args:
        error: the error.

    Returns:
        str; the name of the error's type where it says nothing.

    Example:
        >>> said(ValueError("`bits` must be at least 1."))
        '`bits` must be at least 1'
    """
    return str(error).strip().rstrip(".") or type(error).__name__


def first_line(error: BaseException) -> str:
    """What the errors of other packages say, cut short, for the end of a sentence.

    Args:
        error: the error.

    Returns:
        str; the name of the error's type, and the first line of what it says, in at
        most 300 characters.

    Example:
        >>> first_line(RuntimeError("No such operation.\\nAt 0x7f6a"))
        'RuntimeError: No such operation'
    """
    line = str(error).strip().partition("\n")[0].strip()
    return f"{type(error).__name__}{': ' if line else ''}{line}"[:300].rstrip(".")


def listing(names: Iterable[object]) -> str:
    """Count file names and list the first ten, for an error message.

    Args:
        names: iterable of names, or of names and what is wrong with them.

    Returns:
        str, in one line.

    Example:
        >>> listing(["im1.jpg", "im\\n2.jpg"])
        '2 files: im1.jpg, im\\\\n2.jpg'
        >>> listing(range(12))
        '12 files: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    names = [*names]
    noun = "file" if len(names) == 1 else "files"
    unlisted = len(names) - _MAX_LISTED
    more = f" and {unlisted:,} more" if unlisted > 0 else ""
    listed = ", ".join(map(one_line, names[:_MAX_LISTED]))
    return f"{len(names):,} {noun}: {listed}{more}"


def check_array(
    x: npt.ArrayLike, shape: Sequence[int | None] | None = None, name: str = "x"
) -> npt.NDArray[Any]:
    """Check images or feature vectors given as one array.

    Args:
        x: array ``(n, ...)`` of integers or floats.
        shape: tuple or None; the shape required, with None for each axis of any
            length. None accepts every shape.
        name: str; the argument to name in the error.

    Returns:
        Array of the shape of `x`: uint8 as it is, any other dtype as float32.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong or a value is not finite.

    Example:
        >>> check_array([[1, 2]], shape=(None, 2))
        array([[1., 2.]], dtype=float32)
    """
    x = as_array(x, name)
    if x.dtype.kind not in "uif":
        raise TypeError(
            f"`{name}` must hold integers or floats. Received dtype: {x.dtype}."
        )
    if shape is not None and not (
        x.ndim == len(shape)
        and all(
            length is None or length == received
            for length, received in zip(shape, x.shape, strict=True)
        )
    ):
        lengths = ("n", *("any" if s is None else str(s) for s in shape[1:]))
        raise ValueError(
            f"`{name}` must have shape ({', '.join(lengths)}). "
            f"Received shape: {x.shape}."
        )
    if x.dtype != np.uint8:
        # What overflows is found below; what is too small becomes 0.
        with np.errstate(over="ignore", under="ignore"):
            x = x.astype(np.float32, copy=False)
        finite = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        if not finite.all():
            raise ValueError(
                f"`{name}` must be finite. Received NaN or infinity, or numbers out of "
                f"the range of float32, in rows {np.flatnonzero(~finite)[:5].tolist()}."
            )
    return x


def as_array(x: Any, name: str) -> npt.NDArray[Any]:
    """Make an array of what a user passes.

    Args:
        x: array, or nested lists of numbers.
        name: str; the argument to name in the error.

    Returns:
        Array.

    Raises:
        TypeError: if it is a sparse array, or a symbol without values.
        ValueError: if rows have different lengths, or a masked array lacks values.

    Example:
        >>> as_array([[1, 2], [3]], "x")
        Traceback (most recent call last):
        ValueError: `x` must be one array. Received a list of parts of several shapes.
    """
    if hasattr(x, "toarray"):
        raise TypeError(
            f"`{name}` must be a dense array, such as `toarray()` makes of a sparse "
            f"one. Received: {type(x).__name__}."
        )
    if isinstance(x, list | tuple) and any(map(np.ma.is_masked, x)):
        x = np.ma.stack([np.ma.asarray(row) for row in x])
    if np.ma.is_masked(x):  # NumPy would take what is behind the mask
        rows = np.unique(np.nonzero(np.atleast_1d(np.ma.getmaskarray(x)))[0])
        raise ValueError(
            f"`{name}` must have a value everywhere. Received masked values in rows "
            f"{rows[:5].tolist()}."
        )
    kind = type(x).__name__
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        if "inhomogeneous" in str(error):
            raise ValueError(
                f"`{name}` must be one array. Received a {kind} of parts of several "
                "shapes."
            ) from None
        raise TypeError(
            f"`{name}` must be an array, or nested lists of numbers. Received a "
            f"{kind}, of which NumPy makes no array."
        ) from error


def as_floats(x: Any, name: str) -> npt.NDArray[np.floating[Any]]:
    """Make an array of floats: integers become float64, floats keep their precision.

    Args:
        x: array, or nested lists of numbers.
        name: str; the argument to name in the error.

    Returns:
        Float array of the shape of `x`.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if rows have different lengths.

    Example:
        >>> as_floats([1, 2], "x")
        array([1., 2.])
    """
    x = as_array(x, name)
    if x.dtype.kind not in "uifb":
        raise TypeError(f"`{name}` must hold numbers. Received dtype: {x.dtype}.")
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def check_labels(
    y: npt.ArrayLike,
    num_classes: int,
    n: int | None = None,
    unknown: bool = False,
    name: str = "y",
) -> npt.NDArray[np.float32]:
    """Check labels given as one array.

    Args:
        y: integer array ``(n,)`` of class ids, or array ``(n, num_classes)`` with 1
            for each label that an image has and 0 for the others.
        num_classes: int; the number of labels.
        n: int or None; the number of rows required, None for any.
        unknown: bool; whether -1 (not known) is allowed in label rows as well.
        name: str; the argument to name in the error.

    Returns:
        float32 array ``(n, num_classes)``.

    Raises:
        ValueError: if the shape or a value is wrong.

    Example:
        >>> check_labels([1, 0], num_classes=2)
        array([[0., 1.],
               [1., 0.]], dtype=float32)
    """
    y = as_array(y, name)
    _check_rows(y, n, name)
    if y.ndim == 1 and y.dtype.kind in "ui":
        if y.size and (y.min() < 0 or y.max() >= num_classes):
            raise ValueError(
                f"`{name}` must hold class ids from 0 to num_classes - 1 = "
                f"{num_classes - 1}. Received ids from {y.min()} to {y.max()}."
            )
        rows = np.zeros((len(y), num_classes), np.float32)
        rows[np.arange(len(y)), y] = 1.0
        return rows
    if y.ndim != 2 or y.shape[1] != num_classes:
        raise ValueError(
            f"`{name}` must be integer class ids of shape (n,) or label rows of "
            f"shape (n, num_classes={num_classes}). Received shape: {y.shape}, "
            f"dtype: {y.dtype}."
        )
    allowed = (0, 1, -1) if unknown else (0, 1)
    valid = np.isin(y, allowed)
    if not valid.all():
        raise ValueError(
            f"`{name}` must contain only {', '.join(map(str, allowed))}. "
            f"Received values: {np.unique(y[~valid])[:5]}."
        )
    return y.astype(np.float32)


def check_distributions(
    d: npt.ArrayLike,
    num_classes: int | None = None,
    n: int | None = None,
    name: str = "d",
) -> npt.NDArray[np.float32]:
    """Check label distributions given as one array.

    Args:
        d: array ``(n, num_classes)``; values are finite and at least 0, and each row
            sums to 1 within 1e-3.
        num_classes: int or None; the number of columns required, None for any.
        n: int or None; the number of rows required, None for any.
        name: str; the argument to name in the error.

    Returns:
        float32 array ``(n, num_classes)``.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong or a row is not a distribution.

    Example:
        >>> check_distributions([[0.25, 0.75]])
        array([[0.25, 0.75]], dtype=float32)
    """
    d = check_array(d, (None, num_classes), name)
    _check_rows(d, n, name)
    negative = (d < 0).any(axis=1)
    if negative.any():
        raise ValueError(
            f"`{name}` must be at least 0. Received negative values in rows "
            f"{np.flatnonzero(negative)[:5].tolist()}."
        )
    sums = d.sum(axis=1, dtype=np.float64)
    wrong = np.abs(sums - 1.0) > _SUM_TOLERANCE
    if wrong.any():
        raise ValueError(
            f"`{name}` must have rows that sum to 1. Received the sums "
            f"{sums[wrong][:5].round(4).tolist()} in rows "
            f"{np.flatnonzero(wrong)[:5].tolist()}."
        )
    return d.astype(np.float32, copy=False)


def _check_rows(array: npt.NDArray[Any], n: int | None, name: str) -> None:
    """Check that an array has n rows; None accepts any number."""
    if n is not None and (array.ndim == 0 or len(array) != n):
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs. "
            f"Received shape: {array.shape}."
        )
