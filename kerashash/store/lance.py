"""A store in LanceDB: for object storage, and for many writers.

The table "codes" has the columns "id", "code", a fixed-size list of uint8, "row", which
orders the rows, and the metadata. What the store knows of its model stands in the
schema's metadata. LanceDB makes a version with every commit.

Two writers that insert one key at the same moment would both succeed in LanceDB if they
look keys up in its index. So in a folder, writers take turns, by a lock. On object
storage, where there is no lock, "id" is declared the primary key, and a commit compares
its keys with all those present: LanceDB then sees the conflict, and tries again.
"""

import contextlib
import datetime
import errno
import json
import os
import pathlib
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import said
from kerashash.codes import packed_width
from kerashash.store.rows import (
    Columns,
    Version,
    check_names,
    check_where,
    chosen_names,
    in_parentheses,
    not_new,
    read_only,
    wrong_where,
)

_TABLE = "codes"
_META = b"kerashash"
_FORMAT = 1
# LanceDB's own choice, 1,024, makes reading of many rows ten times slower.
_ROWS_AT_A_TIME = 1 << 16
# Readers that are at work need their version.
_KEPT = datetime.timedelta(hours=1)
# What writers lock, in the folder of the store.
_LOCK = "writers.lock"
# Keys in one SQL condition, and of one query.
_MOST_KEYS = 10_000
# To look a key up in an index takes as long as to read the keys of so many rows.
_ROWS_PER_KEY = 20
# Names of LanceDB's own columns, and what it takes for no part of a name: a store with
# such a column could not be read.
_OWN = ("_distance", "_rowaddr", "_rowid", "_rowoffset", "_score", "query_index")
_NO_LETTERS = frozenset(".`")
# The order of neighbours: of the last key, then of the one before it.
_ORDER = ("row", "_distance", "query_index")
# How long a writer waits for another one.
_TIMEOUT_SECONDS = 60.0
# A commit looks through the keys that are not in their index yet, so the index is built
# anew when they are more than these, and than this part of those that are.
_UNINDEXED, _UNINDEXED_PART = 20_000, 1 / 16
# Attempts at a change of the columns that others preempt.
_ATTEMPTS = 9


class LanceEngine:
    """The rows and codes of a store in LanceDB.

    Args:
        location: `pathlib.Path` of a folder, or a URL that LanceDB knows.
        version: int or None; None reads and writes the newest version, a number reads
            that one.

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if it is none of kerashash, or has no such version.
        ImportError: if LanceDB is not installed.

    Attributes:
        path: `pathlib.Path` or URL, as given.
        location: the same, whatever the working directory is later.
        version: int or None, as given.
        bits: int; the code length.
        model: dict or None; what is known of the model.
    """

    def __init__(
        self, location: pathlib.Path | str, version: int | None = None
    ) -> None:
        self.path, self.location, self.version = location, _absolute(location), version
        self._next_number = 0  # after the largest key that is known
        with self._errors_named():
            self._database = _connected(self.location)
            # Not `list_tables`, which cannot tell a missing bucket from an empty one.
            try:
                table = self._database.open_table(_TABLE)
            except (ValueError, FileNotFoundError) as error:
                raise FileNotFoundError(
                    f"`path` must be a store. Received: '{location}', where there is "
                    "none."
                ) from error
        meta = json.loads((table.schema.metadata or {}).get(_META, b"{}"))
        if meta.get("format") != _FORMAT:
            raise ValueError(
                f"`path` must be a store of format {_FORMAT}. Received: '{location}', "
                f"of format {meta.get('format')!r:.40}."
            )
        self.bits, self.model = int(meta["bits"]), meta["model"]
        if version is not None:
            self._table()

    @classmethod
    def create(
        cls, location: pathlib.Path | str, bits: int, model: dict[str, Any] | None
    ) -> "LanceEngine":
        """Make an empty store.

        Args:
            location: `pathlib.Path` of a folder that does not exist, or a URL.
            bits: int; the code length.
            model: dict or None; what is known of the model, as JSON can hold it.

        Raises:
            FileExistsError: if there is something at `location`.
            OSError: if it cannot be written.
        """
        if isinstance(location, pathlib.Path) and os.path.lexists(location):
            raise FileExistsError(
                f"`path` must not exist. Received: '{location}', which does."
            )
        database = _connected(location)
        import pyarrow as pa

        meta = json.dumps(
            # The last tells it from another store that takes its place.
            {"format": _FORMAT, "bits": bits, "model": model}
            | {"store": secrets.token_hex(8)}
        )
        fields = {"code": pa.list_(pa.uint8(), packed_width(bits)), "row": pa.int64()}
        schema = pa.schema(fields, metadata={_META: meta})
        try:
            database.create_table(_TABLE, schema=schema)
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            raise FileExistsError(
                f"`path` must not exist. Received: '{location}', which is a store."
            ) from error
        return cls(location)

    # ----------------------------------------------------------------- reading

    def versions(self) -> list[Version]:
        """The versions that can be read, oldest first."""
        with self._errors_named():
            listed = self._database.open_table(_TABLE).list_versions()
        return [
            Version(
                entry["version"],
                entry["timestamp"].astimezone(datetime.UTC).isoformat("T", "seconds"),
                int(entry["metadata"].get("total_rows", 0)),
            )
            for entry in listed
        ]

    def count(self) -> int:
        """The number of rows."""
        with self._errors_named():
            return int(self._table().count_rows())

    def snapshot(self) -> "LanceSnapshot":
        """The store as it is now, or at its version."""
        with self._errors_named():
            table = self._table()
            # A pinned table does not follow the commits of others.
            table.checkout(table.version)
        return LanceSnapshot(self, table)

    def known(self, ids: Sequence[Any]) -> list[Any]:
        """Those of some keys that rows have."""
        known: list[Any] = []
        with self._errors_named():
            table = self._table()
            if "id" not in table.schema.names or not len(ids):
                return known
            if table.schema.field("id").type != _arrow_type(_type_of(ids)):
                return known  # `add` refuses them
            if table.count_rows() < _ROWS_PER_KEY * len(ids):
                present = {*_table_of(table.search().select(["id"]))["id"].to_pylist()}
                return [key for key in ids if key in present]
            for start in range(0, len(ids), _MOST_KEYS):
                some = ids[start : start + _MOST_KEYS]
                query = table.search().where(_in("id", some)).select(["id"])
                known += _table_of(query)["id"].to_pylist()
        return known

    def check(self) -> None:
        """Read everything; LanceDB checks what it reads.

        Raises:
            ValueError: if the store is damaged.
        """
        try:
            table = self._table()
            if _table_of(table.search()).num_rows != table.count_rows():
                raise ValueError("rows are missing")
        except Exception as error:
            raise ValueError(
                f"`path` must be a whole store. '{self.path}': {said(error)}."
            ) from error

    # ----------------------------------------------------------------- writing

    def add(
        self,
        codes: npt.NDArray[np.uint8],
        ids: Sequence[Any] | None,
        columns: Columns,
        replace: bool,
    ) -> None:
        """Append rows in one commit, as `FolderEngine.add` does.

        On object storage, a commit of keys that another writer adds at the same moment
        is withdrawn by a second one.
        """
        with self._errors_named(), self._writing() as (table, alone):
            while True:
                keys = self._numbered(table, len(codes)) if ids is None else ids
                self._add_columns(
                    table, {"id": _type_of(keys), **columns.specification}
                )
                present = [] if replace or ids is None else self.known(ids)
                if present:
                    raise not_new(present[0])
                # In order of commit; LanceDB's own order changes in a compaction. Of
                # two writers at the same moment, chance decides which is first.
                start = (table.version << 40) + (secrets.randbelow(1 << 16) << 24)
                rows = _arrow_rows(table.schema, codes, keys, start, columns)
                merge = table.merge_insert("id").when_not_matched_insert_all()
                if replace:
                    merge = merge.when_matched_update_all()
                result = merge.use_index(alone).execute(rows)
                if replace or result.num_inserted_rows == len(codes):
                    break
                table.delete(f"row >= {start} AND row < {start + len(codes)}")
                if ids is not None:
                    taken = {*self.known(ids)}
                    raise not_new(next((key for key in ids if key in taken), ids[0]))
            if ids is None:
                self._next_number = keys[-1] + 1
            self._index_keys(table)

    def delete(self, where: str) -> int:
        """Remove rows that meet an SQL condition, and return how many."""
        with self._errors_named(), self._writing() as (table, _):
            self.snapshot().select(where)  # an error here names `where`
            return int(table.delete(in_parentheses(where)).num_deleted_rows)

    def compact(self) -> None:
        """Free the space of removed rows, and drop versions older than an hour.

        Indices take up the rows that they lack.
        """
        with self._errors_named(), self._writing() as (table, _):
            table.optimize(cleanup_older_than=_KEPT)

    def create_index(self, partitions: int | None) -> None:
        """Build the approximate index of all codes, IVF on Hamming distances.

        Args:
            partitions: int or None; None is LanceDB's choice.

        Raises:
            ValueError: if there are no rows.
            OSError: if the store cannot be written.
        """
        from lancedb.index import IvfFlat

        with self._errors_named(), self._writing() as (table, _):
            if not table.count_rows():
                raise ValueError(f"'{self.path}' must have rows to index. It is empty.")
            index = IvfFlat(distance_type="hamming", num_partitions=partitions)
            table.create_index("code", config=index)

    # ---------------------------------------------------------------- plumbing

    def _table(self) -> Any:
        """The table, at the version that is read."""
        table = self._database.open_table(_TABLE)
        if self.version is not None:
            try:
                table.checkout(self.version)
            except Exception as error:  # LanceDB has none of its own
                raise ValueError(
                    "`version` must be one of `versions`, which `compact` drops. "
                    f"Received: {self.version!r}."
                ) from error
        return table

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[Any, bool]]:
        """The table, and whether other writers wait until this one has ended."""
        if self.version is not None:
            raise read_only(self.path, self.version)
        with _locked(self.location) as alone:
            yield self._database.open_table(_TABLE), alone

    def _numbered(self, table: Any, count: int) -> range:
        """Keys for rows that come without: the numbers after the largest."""
        start = 0
        if "id" in table.schema.names and table.schema.field("id").type == "int64":
            # Most often, none is larger than the last one, or the number of rows.
            start = max(self._next_number, table.count_rows())
            # LanceDB finds some keys from a number on in no time, but the largest one
            # by a look at all. So leap ahead, farther and farther, then less and less.
            leap, farther = 1, True
            while leap:
                keys = _keys_from(table, start + leap - 1)
                start = max([start, *(key + 1 for key in keys)])
                if 0 < len(keys) < _MOST_KEYS:
                    break  # those are all
                farther = farther and bool(keys)
                leap = leap * 2 if farther else leap // 2
        return range(start, start + count)

    def _index_keys(self, table: Any) -> None:
        """Index the keys: without, every commit compares its keys with all rows."""
        from lancedb.index import BTree

        indices = [each for each in table.list_indices() if each.columns == ["id"]]
        indexed = sum(each.num_indexed_rows for each in indices)
        unindexed = sum(each.num_unindexed_rows for each in indices)
        if not indices or unindexed > max(_UNINDEXED, _UNINDEXED_PART * indexed):
            # If there is no space for it, or another writer preempts it, the next
            # commit tries again. The rows are there.
            with contextlib.suppress(RuntimeError, OSError):
                table.create_index("id", config=BTree())

    def _add_columns(self, table: Any, kinds: dict[str, Any]) -> None:
        """Add the columns that the table lacks, and check the types of the others."""
        import pyarrow as pa

        for attempt in range(_ATTEMPTS):
            present = table.schema
            check_names(present.names, kinds)
            for name in kinds:
                if name in _OWN or not _NO_LETTERS.isdisjoint(name):
                    raise ValueError(
                        "`columns` of engine='lance' must have names without "
                        f"{sorted(_NO_LETTERS)} and none of {_OWN}. Received: {name!r}."
                    )
            for name, kind in kinds.items():
                if name not in present.names:
                    continue
                if present.field(name).type != _arrow_type(kind):
                    raise ValueError(
                        f"`{'ids' if name == 'id' else f'columns[{name!r}]'}` must be "
                        f"of the store's type, {present.field(name).type}. Received: "
                        f"{kind}."
                    )
            new = [
                pa.field(name, _arrow_type(kind))
                for name, kind in kinds.items()
                if name not in present.names
            ]
            try:
                if new:
                    table.add_columns(pa.schema(new))
                elif present.field("id").nullable:
                    table.alter_columns({"path": "id", "nullable": False})
                elif not present.field("id").metadata:
                    table.set_unenforced_primary_key("id")
                else:
                    return
            except (RuntimeError, ValueError):
                # Another writer may have done the same at the same moment.
                if attempt == _ATTEMPTS - 1:
                    raise
            table.checkout_latest()

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn LanceDB's errors into Python's, which name the store."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            if isinstance(error, FileNotFoundError | FileExistsError | TimeoutError):
                raise
            message = str(error)
            if "No space left" in message or "os error 28" in message:
                raise OSError(
                    errno.ENOSPC,
                    "The disk is full; the store is as before",
                    str(self.path),
                ) from error
            if "ermission denied" in message or "Read-only file system" in message:
                raise PermissionError(
                    errno.EACCES, "The store cannot be written", str(self.path)
                ) from error
            raise OSError(
                f"'{self.path}' cannot be read or written: {said(error)}."
            ) from error


class LanceSnapshot:
    """A store in LanceDB at one version, as `kerashash.store.folder.Snapshot`."""

    def __init__(self, engine: LanceEngine, table: Any) -> None:
        self._engine, self._table = engine, table
        self.identity = ((table.schema.metadata or {}).get(_META), table.version)

    def select(
        self, where: str | None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The packed codes and the numbers of rows; None selects all of them."""
        width = packed_width(self._engine.bits)
        if "id" not in self._table.schema.names:  # nothing was ever added
            return np.zeros((0, width), np.uint8), np.zeros(0, np.int64)
        query = self._table.search().select(["code", "row"]).with_row_id(True)
        rows = _answer(query, where)
        codes = rows["code"].combine_chunks().flatten()
        codes = codes.to_numpy(zero_copy_only=False).reshape(-1, width)
        numbers, row = (
            rows["_rowid"].to_numpy().astype(np.int64),
            rows["row"].to_numpy(),
        )
        if (np.diff(row) < 0).any():
            order = np.argsort(row)
            codes, numbers = codes[order], numbers[order]
        return codes, numbers

    def nearest(
        self, queries: npt.NDArray[np.uint8], k: int, nprobes: int, where: str | None
    ) -> tuple[npt.NDArray[np.int32], dict[str, npt.NDArray[Any]]]:
        """Near rows of each query, by the index of `LanceEngine.create_index`.

        Args:
            queries: uint8 array ``(q, width)``; packed codes.
            k: int; how many rows at most.
            nprobes: int; how many partitions of the index to search. All of them are
                if those have fewer than k of the selected rows.
            where: str or None; an SQL condition on the rows.

        Returns:
            ``(distances, columns)``: int32 array ``(q, m)``, in order of (distance,
            row), and the key ("id") and metadata of these rows.

        Raises:
            ValueError: if there is no index, or `where` is wrong.
        """
        if all(index.columns != ["code"] for index in self._table.list_indices()):
            raise ValueError(
                "`nprobes` must be None before `create_index` builds an index. "
                f"Received: {nprobes}, '{self._engine.path}'."
            )
        k = min(k, self._table.count_rows())
        if not len(queries) or not k:
            distances = np.zeros((len(queries), 0), np.int32)
            return distances, self.columns(np.zeros(0, np.int64))
        names = [name for name in self._table.schema.names if name != "code"]
        query = self._table.search([*queries], vector_column_name="code")
        query = query.distance_type("hamming").limit(k).select([*names, "_distance"])
        found = _answer(query.nprobes(nprobes), where)
        if found.num_rows < k * len(queries):
            # Some partitions have too few rows: search all of them.
            found = _table_of(query.maximum_nprobes(0))
        # LanceDB numbers the queries if they are more than one.
        keys = [name for name in _ORDER if name in found.column_names]
        order = np.lexsort([found[name].to_numpy() for name in keys])
        distances = found["_distance"].to_numpy()[order].astype(np.int32)
        return distances.reshape(len(queries), -1), {
            name: _values(found[name])[order] for name in names if name != "row"
        }

    def columns(
        self, rows: npt.NDArray[np.int64], names: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """The key ("id") and metadata of rows, as arrays in the order of `rows`.

        Columns that are not among `names` are not read; None is all of them.
        """
        present = self._table.schema.names
        present = [name for name in present if name not in ("code", "row")]
        # Before the first rows, LanceDB has no column of keys.
        names = chosen_names(names, present or ["id"])
        unique, inverse = np.unique(rows, return_inverse=True)
        if not names or not len(unique):
            return {n: np.zeros(0, object if n == "id" else float) for n in names}
        query = self._table.take_row_ids(unique.tolist()).select(names)
        taken = (
            query.with_row_id().to_batches(max_batch_length=_ROWS_AT_A_TIME).read_all()
        )
        order = np.argsort(taken["_rowid"].to_numpy())
        return {name: _values(taken[name])[order][inverse] for name in names}


def _absolute(location: pathlib.Path | str) -> pathlib.Path | str:
    return location.absolute() if isinstance(location, pathlib.Path) else location


def _connected(location: pathlib.Path | str) -> Any:
    """LanceDB's connection to a folder, or to a URL that it knows."""
    try:
        import lancedb
    except ImportError as error:
        raise ImportError(
            "engine='lance' needs the package lancedb. Install it by: pip install "
            '"kerashash[store]".'
        ) from error
    try:
        return lancedb.connect(str(location))
    except ValueError as error:
        raise ValueError(
            "`path` must be a path, or a URL of object storage such as "
            f"s3://bucket/codes.khs. Received: {str(location)!r}."
        ) from error


@contextlib.contextmanager
def _locked(location: pathlib.Path | str) -> Iterator[bool]:
    """Hold the lock of the writers of a store, and yield whether there is one."""
    if not isinstance(location, pathlib.Path):
        yield False
        return
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    with files.open_in_place(location / _LOCK) as file:
        try:
            locked = files.lock(file.fileno(), deadline)
        except TimeoutError:
            raise TimeoutError(
                f"'{location}' has been written by another process for more than "
                f"{_TIMEOUT_SECONDS:.0f} s."
            ) from None
        yield locked


def _answer(query: Any, where: str | None) -> Any:
    """The Arrow table of a query of the rows that meet a condition."""
    if where is not None:
        check_where(where)
        # LanceDB would read a condition to where it could end.
        query = query.where(in_parentheses(where))
    try:
        return _table_of(query)
    except Exception as error:  # of LanceDB, and panics of its parser among them
        if where is None:
            raise
        raise wrong_where(where, said(error)[:300]) from error


def _table_of(query: Any) -> Any:
    """The Arrow table of a query's rows."""
    return query.to_batches(batch_size=_ROWS_AT_A_TIME).read_all()


def _keys_from(table: Any, number: int) -> list[int]:
    """Some keys of at least a number; all of them, if they are fewer than the most."""
    query = table.search().where(f"id >= {number}").select(["id"]).limit(_MOST_KEYS)
    keys: list[int] = _table_of(query)["id"].to_pylist()
    return keys


def _arrow_rows(
    schema: Any,
    codes: npt.NDArray[np.uint8],
    ids: Sequence[Any],
    start: int,
    columns: Columns,
) -> Any:
    """The Arrow table of rows to add; `start` is the first value of "row"."""
    import pyarrow as pa

    arrays = {
        "id": pa.array(ids, schema.field("id").type),
        "row": pa.array(np.arange(start, start + len(codes))),
        "code": _fixed_lists(codes),
        **{
            name: _fixed_lists(values)
            if getattr(values, "ndim", 1) == 2
            # NaN is a missing value, as in SQLite: no condition is true of it.
            else pa.array(values, schema.field(name).type, from_pandas=True)
            for name, values in columns.arrays().items()
        },
    }
    for field in schema:
        arrays.setdefault(field.name, pa.nulls(len(codes), field.type))
    return pa.table({name: arrays[name] for name in schema.names}, schema)


def _type_of(ids: Sequence[Any]) -> str:
    kinds = {type(key).__name__ for key in ids}
    if len(kinds) > 1:
        raise ValueError(
            f"`ids` must all be str, or all int. Received: {sorted(kinds)}."
        )
    return kinds.pop() if kinds else "int"


def _arrow_type(kind: Any) -> Any:
    """The Arrow type of a column's type, as `Columns` gives it."""
    import pyarrow as pa

    if isinstance(kind, dict):
        return pa.list_(pa.from_numpy_dtype(np.dtype(kind["dtype"])), kind["width"])
    return {
        "str": pa.string(),
        "bytes": pa.binary(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
    }[kind]


def _fixed_lists(rows: npt.NDArray[Any]) -> Any:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(rows).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _values(column: Any) -> npt.NDArray[Any]:
    """A column as an array: ``(n,)``, or ``(n, width)`` of rows of numbers."""
    import pyarrow as pa

    column = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        values = column.fill_null([0] * width) if column.null_count else column
        return values.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    texts = pa.types.is_string(column.type) or pa.types.is_binary(column.type)
    if texts or (column.null_count and not pa.types.is_floating(column.type)):
        array = np.empty(len(column), object)
        array[:] = column.to_pylist()
        return array
    return column.to_numpy(zero_copy_only=False)


def _in(name: str, values: Sequence[Any]) -> str:
    """An SQL condition: the column is one of the values."""
    quoted = (
        str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
        for value in values
    )
    return f"{name} IN ({', '.join(quoted)})"
