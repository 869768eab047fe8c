"""The keys and metadata of a store's rows: their types, and the results of a search."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# Bytes of a row of numbers: what is larger is no metadata.
_MOST_BYTES = 1 << 24
_RESERVED = ("row", "id", "removed", "code", "distance")


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
        for name, column in (values or {}).items():
            if not isinstance(name, str) or not name or name.lower() in _RESERVED:
                raise ValueError(
                    "`columns` must have names that are str and none of "
                    f"{_RESERVED}. Received: {name!r:.100}."
                )
            if hasattr(column, "__len__") and len(column) != n:
                raise ValueError(
                    f"`columns[{name!r}]` must have a value for each of {n} rows. "
                    f"Received: {len(column)}."
                )
            self._arrays[name], self.specification[name] = _checked(name, column)

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


def _checked(name: str, column: Any) -> tuple[Any, Any]:
    """The values of a column, and their type."""
    values = column if isinstance(column, np.ndarray) else list(column)
    for kind in (str, bytes):
        if len(values) and all(isinstance(value, kind) for value in values):
            return [kind(value) for value in values], kind.__name__
    array = np.asarray(values)
    if array.dtype.kind in "US" and not array.size:
        return [], "str"
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise TypeError(
            f"`columns[{name!r}]` must hold str, bytes, numbers, or rows of numbers. "
            f"Received dtype: {array.dtype}, shape: {array.shape}."
        )
    if array.ndim == 2:
        dtype = array.dtype.newbyteorder("<")
        if dtype.itemsize * array.shape[1] > _MOST_BYTES:
            raise ValueError(
                f"`columns[{name!r}]` must have rows of at most {_MOST_BYTES:,} bytes. "
                f"Received: {array.shape[1]:,} numbers of dtype {dtype}."
            )
        array = np.ascontiguousarray(array, dtype)
        return array, {"dtype": dtype.str, "width": array.shape[1]}
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(
            f"`columns[{name!r}]` must be less than 2**63. Received: {array.max()}."
        )
    return array, {"b": "bool", "i": "int", "u": "int", "f": "float"}[array.dtype.kind]


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
    """Stored values as an array; of dtype object if some rows have none.

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
    if specification in kinds and None not in values:
        return np.asarray(values, kinds[specification])
    array = np.empty(len(values), object)
    array[:] = values
    return array


def checked_ids(ids: Iterable[Any], count: int | None) -> list[Any]:
    """Check the keys of rows.

    Args:
        ids: iterable of str, or of integers.
        count: int or None; how many there must be.

    Returns:
        list of Python's own str or int, which are distinct.

    Raises:
        TypeError: if they are neither str nor integers.
        ValueError: if they are not so many, not distinct, or no store can have them.

    Example:
        >>> checked_ids(np.arange(2), 2)
        [0, 1]
    """
    values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    values = [int(key) if isinstance(key, np.integer) else key for key in values]
    values = [str(key) if isinstance(key, str) else key for key in values]
    if count is not None and len(values) != count:
        raise ValueError(
            f"`ids` must have a key for each of {count} rows. Received: {len(values)}."
        )
    wrong = {type(key).__name__ for key in values} - {"str", "int"}
    if wrong:
        raise TypeError(f"`ids` must be str or int. Received: {sorted(wrong)}.")
    for key in values:
        if isinstance(key, str):  # SQLite and Arrow hold UTF-8
            fits = bool(key) and key == key.encode(errors="replace").decode()
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
        """
        named = {name: values[query] for name, values in self.columns.items()}
        return [
            {
                "id": key,
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
