"""What users hand over to be added to a store: paths, arrays, and batches."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash.store.rows import in_order


def are_paths(x: Any) -> bool:
    """Say whether an argument is a list or tuple of paths.

    Args:
        x: any value.

    Returns:
        bool; False for an empty list.

    Example:
        >>> are_paths(["a.jpg"]), are_paths("a.jpg")
        (True, False)
    """
    return isinstance(x, list | tuple) and len(x) > 0 and all(map(is_path, x))


def is_path(x: Any) -> bool:
    """Say whether an argument is one path.

    Args:
        x: any value.

    Returns:
        bool.

    Example:
        >>> is_path("a.jpg"), is_path(["a.jpg"])
        (True, False)
    """
    return isinstance(x, str | os.PathLike)


def listed(x: Any) -> Any:
    """Return one path, or several, as a list in which ``~`` is the home folder.

    Args:
        x: any value.

    Returns:
        list of str; or `x`, if it is no path, nor a list or tuple of paths.

    Example:
        >>> listed("a.jpg"), listed([1])
        (['a.jpg'], [1])
    """
    x = [x] if is_path(x) else x
    return [*map(os.path.expanduser, x)] if are_paths(x) else x


def _is_numbered(x: Any) -> bool:
    """Whether `x` is a `keras.utils.PyDataset`."""
    keras = sys.modules.get("keras")  # a store of codes needs none
    return keras is not None and isinstance(x, keras.utils.PyDataset)


def is_stream(x: Any) -> bool:
    """Say whether an argument yields batches, and is not cut into them.

    Args:
        x: any value.

    Returns:
        bool.

    Example:
        >>> is_stream(np.zeros((3, 1))), is_stream(iter([np.zeros((3, 1))]))
        (False, True)
    """
    return _is_numbered(x) or not hasattr(x, "__getitem__")


def check_is_input(x: Any) -> None:
    """Check that a value has rows, or yields batches of them.

    Args:
        x: value for `CodeStore.add`, and no single path.

    Raises:
        TypeError: if it is none of what can be added.
        ValueError: if it never ends.

    Example:
        >>> check_is_input(None)
        Traceback (most recent call last):
        TypeError: `x` must be paths, inputs, codes or a data set. Received: NoneType.
    """
    is_other = isinstance(x, bytes | bytearray | set | frozenset | Mapping)
    if is_other or not (isinstance(x, Iterable) if is_stream(x) else _has_rows(x)):
        raise TypeError(
            f"`x` must be paths, inputs, codes or a data set. Received: {described(x)}."
        )
    if _is_numbered(x) and x.num_batches is None:
        raise ValueError("`x` must be finite. Received a PyDataset without length.")


def _has_rows(x: Any) -> bool:
    try:
        len(x)
    except TypeError:  # as that of arrays without an axis
        return False
    return True


def batches(x: Any) -> Iterator[Any]:
    """Iterate over the batches of a stream.

    Args:
        x: `keras.utils.PyDataset`, or iterable.

    Returns:
        Iterator of batches.

    Example:
        >>> [*batches(iter(["first", "second"]))]
        ['first', 'second']
    """
    if _is_numbered(x):
        return (x[number] for number in range(x.num_batches))
    return iter(x)


def parts(batch: Any) -> tuple[Any, dict[Any, Any]]:
    """Part a batch into inputs, and labels by name.

    Args:
        batch: x, or tuple (x, y).

    Returns:
        ``(x, labels)``; y is "label" if it is no dict.

    Raises:
        TypeError: if it is no such batch.

    Example:
        >>> parts(([[1.0], [2.0]], [3, 4]))
        ([[1.0], [2.0]], {'label': [3, 4]})
    """
    given = batch if isinstance(batch, tuple) else (batch, None)
    inputs, y = given if len(given) == 2 else (None, None)
    if inputs is None or isinstance(inputs, Mapping) or isinstance(y, tuple):
        raise TypeError(
            "`x` must yield batches x or (x, y), where x is an array, and y an array "
            f"or a dict of arrays. Received: {_structure(batch)}."
        )
    if isinstance(y, Mapping):
        return inputs, dict(y)
    return inputs, {} if y is None else {"label": y}


def _structure(batch: Any) -> str:
    """The types of the parts of a batch."""
    if not isinstance(batch, tuple):
        return type(batch).__name__
    return f"tuple of {len(batch)}: ({', '.join(map(_structure, batch))})"


def checked_labels(labels: Mapping[Any, Any], rows: int, number: int) -> dict[Any, Any]:
    """Check the labels of a batch.

    Args:
        labels: dict of values by name.
        rows: int; of the batch.
        number: int; of the batch, for an error.

    Returns:
        dict of arrays or lists of a value for each row.

    Raises:
        TypeError, ValueError: if some are none.

    Example:
        >>> checked_labels({"year": range(2024, 2026)}, rows=2, number=0)
        {'year': [2024, 2025]}
    """
    checked = {}
    for name, values in labels.items():
        try:
            checked[name] = _decoded(values, in_order("x", values, rows))
        except (TypeError, ValueError) as error:
            count = f"{len(values)}" if _has_rows(values) else f"{values!r:.100}"
            raise type(error)(
                "`x` must yield batches (x, y) of a y for each row. Received: "
                f"{rows} rows in batch {number}, and of {name!r:.100}: {count}."
            ) from error
    return checked


def _decoded(values: Any, rows: Any) -> Any:
    """Text of a tensor, which is bytes, as str if it is UTF-8; other values as such."""
    is_tensor = getattr(getattr(values, "dtype", None), "name", None) == "string"
    if is_tensor and rows.ndim == 1 and all(isinstance(row, bytes) for row in rows):
        with contextlib.suppress(UnicodeDecodeError):
            return [row.decode() for row in rows]
    return rows


def joined(
    encoded: Sequence[tuple[npt.NDArray[np.uint8], dict[Any, Any]]],
) -> tuple[npt.NDArray[np.uint8], dict[Any, Any]]:
    """Join the codes and labels of batches.

    Args:
        encoded: sequence of ``(codes, labels)`` of one batch at least: uint8 array
            ``(n, width)``, and what `checked_labels` returns, of the same names.

    Returns:
        ``(codes, labels)`` of all of them.

    Raises:
        ValueError: if labels are rows of several lengths.

    Example:
        >>> codes = np.array([[1], [2]], np.uint8)
        >>> joined([(codes, {"year": [2024, 2025]}), (codes[:1], {"year": [2026]})])[1]
        {'year': [2024, 2025, 2026]}
    """
    labels: dict[Any, Any] = {}
    for name in encoded[0][1]:
        values = [named[name] for _, named in encoded]
        # Not of several kinds: NumPy would make text of numbers.
        kinds = {getattr(part, "dtype", np.dtype(object)).kind for part in values}
        if kinds <= {"O"} or len(kinds) > 1:
            labels[name] = [value for part in values for value in part]
            continue
        shapes = {part.shape[1:] for part in values}
        if len(shapes) > 1:
            raise ValueError(
                "`x` must yield batches whose y has rows of one length. Received, of "
                f"{name!r:.100}, rows of the shapes {sorted(shapes)}."
            )
        labels[name] = np.concatenate(values)
    return np.concatenate([codes for codes, _ in encoded]), labels


def described(x: Any) -> str:
    """Describe a value for an error.

    Args:
        x: any value.

    Returns:
        str.

    Example:
        >>> described(np.zeros((3, 1))), described({})
        ('array of shape (3, 1), float64', 'dict')
    """
    if hasattr(x, "shape"):
        return f"array of shape {x.shape}, {getattr(x, 'dtype', '')}"
    return type(x).__name__
