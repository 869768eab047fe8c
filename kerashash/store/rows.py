"""The keys and metadata of a store's rows: their types, and the results of a search."""

import collections
import contextlib
import contextvars
import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer

#: The longest code of a store, and of a `HammingRanker`.
MOST_BITS = 65_534
# Bytes of a row of numbers: what is larger is no metadata.
_MOST_BYTES = 1 << 24
# What holds no values in an order of its own.
_UNORDERED = (str, bytes, bytearray, memoryview, set, frozenset, Mapping)
_RESERVED = ("row", "id", "removed", "code", "distance")
#: What `conditions_until` sets.
LAST_MOMENT = contextvars.ContextVar("LAST_MOMENT", default=math.inf)


class Version(NamedTuple):
    """A version of a store.

    Attributes:
        version: int; its number.
        time: str; when it was written, in ISO 8601, UTC.
        rows: int; how many rows it has.

    Example:
        >>> import kerashash
        >>> store = kerashash.CodeStore.create("codes.khs", bits=8)
        >>> store.add(np.zeros((3, 1), np.uint8))
        >>> [version.rows for version in store.versions()]
        [0, 3]
    """

    version: int
    time: str
    rows: int


class Compacted(Exception):
    """Raised by a snapshot of a store whose rows have got new numbers."""


class Columns:
    """Metadata of rows that are added, checked.

    Args:
        values: dict of arrays or sequences by column name, each with `n` values of one
            type: str, bytes, integers, floats or bools; or rows of numbers, such as
            label rows.
        n: int; the number of rows.

    Attributes:
        specification: dict; the type of each column, as JSON can hold it.

    Raises:
        TypeError, ValueError: if a name or a value is wrong.
    """

    def __init__(self, values: Mapping[str, Any] | None, n: int) -> None:
        self._arrays: dict[str, Any] = {}
        self.specification: dict[str, Any] = {}
        values = as_mapping(values)
        check_names((), values)
        for name, column in values.items():
            if (
                not isinstance(name, str)
                or not name
                or "\0" in name
                or not _is_utf_8(name)
                or name.lower() in _RESERVED
            ):
                raise ValueError(
                    "`columns` must have names that are str, of UTF-8 without a null "
                    f"character, and none of {_RESERVED}. Received: {name!a:.100}."
                )
            rows = in_order(f"columns[{name!r}]", column, n)
            self._arrays[name], self.specification[name] = _checked(name, rows)

    def __getitem__(self, rows: slice) -> "Columns":
        part = Columns(None, 0)
        part._arrays = {name: array[rows] for name, array in self._arrays.items()}
        part.specification = self.specification
        return part

    def stored(self) -> Iterator[Iterator[Any]]:
        """The values of each column, as SQLite stores them."""
        for name, specification in self.specification.items():
            array = self._arrays[name]
            if isinstance(specification, dict):
                yield (row.tobytes() for row in array)
            else:
                yield iter(array.tolist() if isinstance(array, np.ndarray) else array)

    def arrays(self) -> dict[str, Any]:
        """The values of each column."""
        return self._arrays


def as_mapping(columns: Any) -> Mapping[str, Any]:
    """Check that metadata are a dict.

    Args:
        columns: dict, or None for none.

    Returns:
        dict.

    Raises:
        TypeError: if they are no dict.

    Example:
        >>> as_mapping(None)
        {}
    """
    if not isinstance(columns, Mapping | None):
        raise TypeError(
            "`columns` must be a dict of metadata by name. Received type: "
            f"{type(columns).__name__}."
        )
    return columns or {}


def check_names(present: Iterable[Any], new: Iterable[Any]) -> None:
    """Check that no two names of columns differ in case alone: in SQL, they are one.

    Args:
        present: iterable of the names that the store has.
        new: iterable of further names, or of the same.

    Raises:
        ValueError: if two do.

    Example:
        >>> check_names(["year"], ["year", "month"])
    """
    known = {str(name).lower(): name for name in present}
    for name in new:
        other = known.setdefault(str(name).lower(), name)
        if other != name:
            raise ValueError(
                "`columns` must have names that differ in more than case. Received: "
                f"{name!r:.100}, beside {other!r:.100}."
            )


def chosen_names(names: Any, present: Sequence[str]) -> list[str]:
    """Choose columns by name.

    Args:
        names: list or tuple of str; None chooses all.
        present: sequence of the names that the store has.

    Returns:
        list of str; each name once, in the order of `names`.

    Raises:
        TypeError: if `names` is no list or tuple.
        ValueError: if the store has no such column.

    Example:
        >>> chosen_names(["year", "id"], ["id", "size", "year"])
        ['year', 'id']
    """
    if names is None:
        return [*present]
    if not isinstance(names, list | tuple):
        raise TypeError(
            f"`names` must be a list of names of columns. Received: {names!r:.100}."
        )
    for name in names:
        if name not in present:
            raise ValueError(
                f"`names` must be of the columns {[*present]!s:.300}. Received: "
                f"{name!r:.100}."
            )
    return [*dict.fromkeys(names)]


def not_new(key: Any) -> ValueError:
    """The error that a key to add is there.

    Args:
        key: str or int.

    Returns:
        ValueError.

    Example:
        >>> raise not_new("a.jpg")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: `ids` must be new to the store; ... 'a.jpg', which is there.
    """
    return ValueError(
        "`ids` must be new to the store; `upsert` replaces rows. Received: "
        f"{key!r:.200}, which is there."
    )


def read_only(path: Any, version: int) -> ValueError:
    """The error that a store which was opened at a version is to be written.

    Args:
        path: path or URL of the store.
        version: int.

    Returns:
        ValueError.

    Example:
        >>> raise read_only("photos.khs", 3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: A store opened at a version is read-only. ... version=3.
    """
    return ValueError(
        f"A store opened at a version is read-only. Received: '{path}', "
        f"version={version}."
    )


def check_where(where: Any) -> None:
    """Check that a condition in SQL is text.

    Args:
        where: value of the argument.

    Raises:
        TypeError: if it is none.

    Example:
        >>> check_where(3)
        Traceback (most recent call last):
        TypeError: `where` must be a str. Received type: int.
    """
    if not isinstance(where, str):
        raise TypeError(
            f"`where` must be a str. Received type: {type(where).__name__}."
        )


def wrong_where(where: str, reason: str) -> ValueError:
    """The error that text is no condition.

    Args:
        where: str.
        reason: str; what the engine says of it, without a full stop.

    Returns:
        ValueError.

    Example:
        >>> raise wrong_where("year =", "incomplete input")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: `where` must be ... Received: 'year =': incomplete input.
    """
    return ValueError(
        "`where` must be an SQL condition on the columns of the store. "
        f"Received: {where!r:.200}: {reason}."
    )


@contextlib.contextmanager
def conditions_until(moment: float) -> Iterator[None]:
    """Bound how long SQL conditions of this thread may be read: those of strangers.

    A store in a folder then also refuses conditions on long values. LanceDB takes no
    notice.

    Args:
        moment: float; when they must end, as of `time.monotonic`. Later, they are a
            TimeoutError.

    Example:
        >>> import kerashash, time
        >>> store = kerashash.CodeStore.create("bounded.khs", bits=8)
        >>> with conditions_until(time.monotonic() + 10):
        ...     store.codes(where="id = 3")
        array([], shape=(0, 1), dtype=uint8)
    """
    token = LAST_MOMENT.set(moment)
    try:
        yield
    finally:
        LAST_MOMENT.reset(token)


def in_parentheses(where: str) -> str:
    """Make a condition a part of another one, which is read to its end.

    Args:
        where: str; its line ends, as a comment in it may be the last.

    Returns:
        str.

    Example:
        >>> in_parentheses("year = 2024 -- or later")
        '(year = 2024 -- or later\\n)'
    """
    return f"({where}\n)"


def _is_utf_8(text: str) -> bool:
    """Whether text can be stored: SQLite and Arrow hold UTF-8."""
    return text == text.encode(errors="replace").decode()


def in_order(argument: str, values: Any, n: int | None, noun: str = "value") -> Any:
    """Check that there is a value for each row, and in the order of rows.

    Args:
        argument: str; the argument to name in an error.
        values: array, sequence or other iterable.
        n: int or None; the number of rows, if it is known.
        noun: str; what the values are, in an error.

    Returns:
        Array or list.

    Raises:
        TypeError: if the values have no order, or are none: the letters of a text are
            no values of rows.
        ValueError: if they are not so many.

    Example:
        >>> in_order("ids", range(2), 2)
        [0, 1]
    """
    rule = f"a {noun} for each " + ("row" if n is None else f"of {n} rows")
    if hasattr(values, "__array__") and not isinstance(values, np.generic):
        values = np.asarray(values)
    if (
        isinstance(values, _UNORDERED)
        or not isinstance(values, Iterable)
        or getattr(values, "ndim", 1) == 0  # iterable by its type alone
    ):
        raise TypeError(
            f"`{argument}` must have {rule}, in a list or an array. Received: "
            f"{values!r:.100}."
        )
    values = values if isinstance(values, np.ndarray) else list(values)
    if n is not None and len(values) != n:
        raise ValueError(f"`{argument}` must have {rule}. Received: {len(values)}.")
    return values


def _checked(name: str, values: Any) -> tuple[Any, Any]:
    """The values of a column, and their type."""
    for kind in (str, bytes):
        if len(values) and all(isinstance(value, kind) for value in values):
            if kind is str and not _is_utf_8("".join(values)):
                wrong = next(value for value in values if not _is_utf_8(value))
                raise ValueError(
                    f"`columns[{name!r}]` must hold text of UTF-8. Received: "
                    f"{wrong!a:.100}."
                )
            return [kind(value) for value in values], kind.__name__
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"`columns[{name!r}]` must have rows of one length. Received rows of "
            "several."
        ) from error
    if array.dtype.kind in "fO":  # where NumPy puts integers that it has no type for
        _check_integers(name, values)
    if array.dtype.kind in "US" and not array.size:
        return [], "str"
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise TypeError(
            f"`columns[{name!r}]` must hold str, bytes, numbers, or rows of numbers. "
            f"Received dtype: {array.dtype}, shape: {array.shape}."
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)  # neither SQLite nor Arrow holds more
    if array.ndim == 2:
        dtype = array.dtype.newbyteorder("<")
        if dtype.itemsize * array.shape[1] > _MOST_BYTES:
            raise ValueError(
                f"`columns[{name!r}]` must have rows of at most {_MOST_BYTES:,} bytes. "
                f"Received: {array.shape[1]:,} numbers of dtype {dtype}."
            )
        array = np.ascontiguousarray(array, dtype)
        return array, {"dtype": dtype.str, "width": array.shape[1]}
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "u":
        _check_integers(name, [array.max()] if array.size else [])
    return array, {"b": "bool", "i": "int", "u": "int", "f": "float"}[array.dtype.kind]


def _check_integers(name: str, values: Any) -> None:
    """Check that the integers among values, or among rows of them, fit 64 bits."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return
    for value in np.asarray(values, object).ravel():
        is_integer = isinstance(value, int | np.integer)
        if is_integer and not -(2**63) <= int(value) < 2**63:
            raise ValueError(
                f"`columns[{name!r}]` must have integers of at least -2**63 and less "
                f"than 2**63. Received: {value}."
            )


def is_specification(value: Any) -> bool:
    """Say whether a value is the type of a column, as `Columns` gives it.

    Args:
        value: what JSON can hold.

    Returns:
        bool.
    """
    if not isinstance(value, dict):
        return value in ("str", "bytes", "bool", "int", "float")
    try:
        dtype, width = np.dtype(value["dtype"]), value["width"]
        return (
            dtype.kind in "biuf"
            and type(width) is int
            and 0 <= dtype.itemsize * width <= _MOST_BYTES
        )
    except (KeyError, TypeError, ValueError):
        return False


def column_values(values: Sequence[Any], specification: Any) -> npt.NDArray[Any]:
    """Stored values as an array.

    Where a row has none, floats are NaN, rows of numbers zeros, and other columns of
    dtype object with None.

    Args:
        values: n stored values; None where a row has none.
        specification: the column's type, as `Columns` gives it; None for the key.

    Returns:
        Array ``(n,)``, or ``(n, width)`` of rows of numbers.
    """
    if isinstance(specification, dict):
        dtype, width = np.dtype(specification["dtype"]), specification["width"]
        missing = bytes(dtype.itemsize * width)
        joined = b"".join(missing if value is None else value for value in values)
        return np.frombuffer(joined, dtype).reshape(len(values), width)
    kinds = {"int": np.int64, "float": np.float64, "bool": np.bool_}
    # SQLite knows no NaN, and holds none in its place.
    if specification == "float" or (specification in kinds and None not in values):
        return np.asarray(values, kinds[specification])
    if specification == "bool":  # SQLite holds 0 and 1
        values = [None if value is None else bool(value) for value in values]
    array = np.empty(len(values), object)
    array[:] = values
    return array


def checked_ids(ids: Iterable[Any], count: int | None) -> list[Any]:
    """Check the keys of rows.

    Args:
        ids: iterable of str or paths, or of integers.
        count: int or None; how many there must be.

    Returns:
        list of Python's own str or int, which are distinct.

    Raises:
        TypeError: if they are neither str nor integers, or have no order.
        ValueError: if they are not so many, not distinct, or no store can have them.

    Example:
        >>> checked_ids(np.arange(2), 2)
        [0, 1]
    """
    rows = in_order("ids", ids, count, "key")
    values = [*map(_own_key, rows.tolist() if isinstance(rows, np.ndarray) else rows)]
    wrong = {type(key).__name__ for key in values} - {"str", "int"}
    if wrong:
        raise TypeError(f"`ids` must be str or int. Received: {sorted(wrong)}.")
    for key in values:
        if isinstance(key, str):
            fits = bool(key) and _is_utf_8(key)
        else:
            fits = -(2**63) <= key < 2**63
        if not fits:
            raise ValueError(
                "`ids` must be integers of 64 bits, or UTF-8 of at least one "
                f"character. Received: {key!a:.200}."
            )
    if len({*values}) < len(values):
        counts = collections.Counter(values)
        twice = next(key for key in values if counts[key] > 1)
        raise ValueError(f"`ids` must be distinct. Received: {twice!r:.200} twice.")
    return values


def _own_key(key: Any) -> Any:
    """A key as Python's own str or int, if it stands for one."""
    if isinstance(key, os.PathLike):
        key = os.fspath(key)
    if isinstance(key, np.integer):
        return int(key)
    return str(key) if isinstance(key, str) else key


@dataclasses.dataclass(frozen=True, repr=False)
class Neighbours:
    """The nearest rows of queries in a store.

    Attributes:
        ids: array of object ``(q, k)``; the keys of the rows, such as paths. With
            `CodeStore.within`, a list of q arrays, as are all the others.
        distances: int32 array ``(q, k)``; in order of (distance, row).
        columns: dict of arrays ``(q, k, ...)``; the metadata.
        queries: list of q paths of the queries, or None if they were no image files.

    Example:
        >>> import kerashash
        >>> store = kerashash.CodeStore.create("rows.khs", bits=8)
        >>> store.add(np.array([[0], [255]], np.uint8), ids=["black", "white"])
        >>> store.search(np.array([[254]], np.uint8), k=1).rows()
        [{'id': 'white', 'distance': 1}]
    """

    ids: Any
    distances: Any
    columns: dict[str, Any]
    queries: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        counts = [len(ids) for ids in self.ids]
        return f"{type(self).__name__}({len(counts)} queries, {sum(counts)} rows)"

    def _repr_html_(self) -> str:
        """What a notebook shows: thumbnails if the keys are image files, or tables."""
        from kerashash.store.pictures import results

        return results(self)

    def rows(self, query: int = 0) -> list[dict[str, Any]]:
        """Return the rows of one query, nearest first.

        Args:
            query: int; the number of the query.

        Returns:
            list of dicts: "id", "distance" and the metadata of a row.

        Raises:
            TypeError, ValueError: if `query` is not the number of a query.
        """
        last = len(self.ids) - 1
        query = check_integer("query", query, least=-last - 1, most=last)
        named = {name: values[query] for name, values in self.columns.items()}
        return [
            {
                "id": _plain(key),
                "distance": int(distance),
                **{name: _plain(values[rank]) for name, values in named.items()},
            }
            for rank, (key, distance) in enumerate(
                zip(self.ids[query], self.distances[query], strict=True)
            )
        ]


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value
