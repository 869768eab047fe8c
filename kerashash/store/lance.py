"""A store in LanceDB: for object storage, and for many writers.

The table "codes" has the columns "id", "code", a fixed-size list of uint8, "row", which
orders the rows, "_checksum", and the metadata. What the store knows of its model stands
in the schema's metadata. LanceDB makes a version with every commit.

LanceDB has no checksums. So a row has one of its own, of its code, key and "row", which
stays right whatever moves or removes rows. Rows that were added before there were
checksums have none; a store gets the column when rows are added.

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
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import said
from kerashash.codes import packed_width
from kerashash.store import lance_files
from kerashash.store.identity import is_identity
from kerashash.store.rows import (
    MOST_BITS,
    Columns,
    Version,
    check_names,
    check_where,
    chosen_names,
    column_values,
    in_parentheses,
    is_specification,
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
# CRC-32 of a row's code, key and "row"; uint32, a type that no metadata have.
_CHECKSUM = "_checksum"
# Names of LanceDB's own columns, and what it takes for no part of a name: a store with
# such a column could not be read.
_OWN = (
    *("_distance", "_rowaddr", "_rowid", "_rowoffset", "_score", "query_index"),
    _CHECKSUM,
)
_NO_LETTERS = frozenset(".`")
# Rows of numbers that LanceDB takes for vectors, by their length or name.
_VECTOR_WIDTH, _VECTOR_NAMES = 10, ("vector", "embedding")
# The order of neighbours: of the last key, then of the one before it.
_ORDER = ("row", "_distance", "query_index")
# How long a writer waits for another one.
_TIMEOUT_SECONDS = 60.0
# A commit looks through the keys that are not in their index yet, so the index is built
# anew when they are more than these, and than this part of those that are.
_UNINDEXED, _UNINDEXED_PART = 20_000, 1 / 16
# Attempts at a change of the columns that others preempt.
_ATTEMPTS = 9
# What LanceDB says of a full disk, a used-up quota, and a limit on the size of files.
_FULL = re.compile(r"No space left|os error (28|122|27)\)")
_DENIED = re.compile(r"[Pp]ermission denied|Read-only file system")
# And of what is no fault of the store: the system, the network, or another writer. That
# something is not there, or no folder, is one.
_ELSEWHERE = re.compile(
    r"os error (?!2\)|20\))|Generic (S3|GCS|MicrosoftAzure|HTTP)|error sending request"
    r"|[Cc]onflict|preempt|[Rr]esources exhausted|[Tt]imed out"
)
# Places in LanceDB's own code, at the end of its messages.
_PLACE = re.compile(r",? /\S+\.rs:\d+:\d+")


class LanceEngine:
    """The rows and codes of a store in LanceDB.

    Args:
        location: `pathlib.Path` of a folder, or a URL that LanceDB knows.
        version: int or None; None reads and writes the newest version, a number reads
            that one.

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if it is none of kerashash, is damaged, or has no such version.
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
        committed = self._checked_files()
        self._database = _connected(self.location)
        try:
            newest = self._newest()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"`path` must be a store. Received: '{location}', where there is none."
            ) from error
        meta = _meta(newest, location)
        if newest.version < committed:
            raise _damaged(
                location,
                f"its version {committed} is missing. To use version {newest.version}, "
                f"the last that is there, remove {_TABLE}.lance/{lance_files.NEWEST}",
            )
        self.bits, self.model = meta["bits"], meta["model"]
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
        fields[_CHECKSUM] = pa.uint32()
        schema = pa.schema(fields, metadata={_META: meta})
        try:
            database.create_table(_TABLE, schema=schema)
        except Exception as error:
            if "already exists" not in str(error):
                raise _named(error, location) from error
            raise FileExistsError(
                f"`path` must not exist. Received: '{location}', which is a store."
            ) from error
        return cls(location)

    # ----------------------------------------------------------------- reading

    def versions(self) -> list[Version]:
        """The versions that can be read, oldest first."""
        table = self._newest()
        with _errors_named(self.path):
            return [
                Version(
                    each["version"],
                    each["timestamp"]
                    .astimezone(datetime.UTC)
                    .isoformat("T", "seconds"),
                    int(each["metadata"].get("total_rows", 0)),
                )
                for each in table.list_versions()
            ]

    def count(self) -> int:
        """The number of rows."""
        table = self._table()
        with _errors_named(self.path):
            return int(table.count_rows())

    def snapshot(self) -> "LanceSnapshot":
        """The store as it is now, or at its version."""
        table = self._table()
        with _errors_named(self.path):
            # A pinned table does not follow the commits of others.
            table.checkout(table.version)
        return LanceSnapshot(self, table)

    def known(self, ids: Sequence[Any]) -> list[Any]:
        """Those of some keys that rows have."""
        if not len(ids):
            return []
        table, kind = self._table(), _arrow_type(_type_of(ids))
        if "id" not in table.schema.names or table.schema.field("id").type != kind:
            return []  # `add` refuses keys of another type
        with _errors_named(self.path):
            present = {*_rows_with(table, ids, ["id"])["id"].to_pylist()}
        return [key for key in ids if key in present]

    def check(self) -> None:
        """Read everything, and compare codes, keys and order with their checksums.

        LanceDB finds what it cannot read, and has no checksums of its own.

        Raises:
            ValueError: if the store is damaged.
        """
        table, rows = self._table(), 0
        changed: list[Any] = []
        with _errors_named(self.path):
            for batch in table.search().to_batches(batch_size=_ROWS_AT_A_TIME):
                rows += batch.num_rows
                changed = changed or _changed(batch)
            missing = table.count_rows() - rows
        if changed:
            raise _damaged(self.path, f"the row of {changed[0]!r:.200} has changed")
        if missing:
            raise _damaged(self.path, f"{missing} rows are missing")

    # ----------------------------------------------------------------- writing

    def add(
        self,
        codes: npt.NDArray[np.uint8],
        ids: Sequence[Any] | None,
        columns: Columns,
        replace: bool,
        keep: bool = False,
    ) -> None:
        """Append rows in one commit, as `FolderEngine.add` does.

        On object storage, a commit of keys that another writer adds at the same moment
        is withdrawn by a second one.
        """
        _check_vectors(columns)
        with self._writing() as (table, alone):
            while True:
                keys = self._numbered(table, len(codes)) if ids is None else ids
                self._add_columns(
                    table, {"id": _type_of(keys), **columns.specification}
                )
                present = [] if replace or ids is None else self.known(ids)
                if present:
                    raise not_new(present[0])
                with _errors_named(self.path):
                    kept = self._kept(table, keys, columns) if keep else {}
                    # In order of commit; LanceDB's own order changes in a compaction.
                    # Of two writers at the same moment, chance decides which is first.
                    start = (table.version << 40) + (secrets.randbelow(1 << 16) << 24)
                    rows = _arrow_rows(table.schema, codes, keys, start, columns, kept)
                    merge = table.merge_insert("id").when_not_matched_insert_all()
                    if replace:
                        merge = merge.when_matched_update_all()
                    result = merge.use_index(alone).execute(rows)
                    if replace or result.num_inserted_rows == len(codes):
                        break
                    table.delete(f"row >= {start} AND row < {start + len(codes)}")
                if ids is not None:
                    raise not_new(next(iter(self.known(ids)), ids[0]))
            if ids is None:
                self._next_number = keys[-1] + 1
            with _errors_named(self.path):
                self._index_keys(table)

    def check_addition(
        self, ids: Sequence[Any] | None, specification: dict[str, Any]
    ) -> None:
        """Check what `add` would refuse of any rows, as `FolderEngine` does."""
        with self._writing() as (table, _):
            kind = "int" if ids is None else _type_of(ids)
            _check_columns(table.schema, {"id": kind, **specification})

    def delete(self, where: str) -> int:
        """Remove rows that meet an SQL condition, and return how many."""
        with self._writing() as (table, _):
            self.snapshot().select(where)  # an error here names `where`
            with _errors_named(self.path):
                return int(table.delete(in_parentheses(where)).num_deleted_rows)

    def compact(self) -> None:
        """Free the space of removed rows, and drop versions older than an hour.

        Indices take up the rows that they lack.
        """
        with self._writing() as (table, _), _errors_named(self.path):
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

        with self._writing() as (table, _):
            if not self.count():
                raise ValueError(f"'{self.path}' must have rows to index. It is empty.")
            index = IvfFlat(distance_type="hamming", num_partitions=partitions)
            with _errors_named(self.path):
                table.create_index("code", config=index)

    # ---------------------------------------------------------------- plumbing

    def _checked_files(self) -> int:
        """Check the files of a folder before LanceDB opens one.

        Returns:
            int; the last version that was committed, or 0 if that is not known.
        """
        if not isinstance(self.location, pathlib.Path):
            return 0
        folder = self.location / f"{_TABLE}.lance"
        try:
            lance_files.check_files(folder)
        except ValueError as error:
            raise _damaged(self.path, str(error)) from error
        return lance_files.last_version(folder)

    def _newest(self) -> Any:
        """The table, at its newest version."""
        # Not `list_tables`, which cannot tell a missing bucket from an empty one.
        try:
            return self._database.open_table(_TABLE)
        except Exception as error:
            if not re.search("not found", str(error), re.IGNORECASE):
                raise _named(error, self.path) from error
            raise FileNotFoundError(
                errno.ENOENT, "The store is gone", str(self.path)
            ) from error

    def _table(self) -> Any:
        """The table, at the version that is read, if it is the one that was opened.

        Another one in its place could have codes of another model.
        """
        table = self._newest()
        if self.version is not None:
            try:
                table.checkout(self.version)
            except Exception as error:  # LanceDB has none of its own
                if self.version in {version.version for version in self.versions()}:
                    raise _named(error, self.path) from error
                raise ValueError(
                    "`version` must be one of `versions`, which `compact` drops. "
                    f"Received: {self.version!r}."
                ) from error
        meta = _meta(table, self.path)
        if (meta["bits"], meta["model"]) != (self.bits, self.model):
            raise ValueError(
                f"`path` must be the store that was opened. '{self.path}' has been "
                "replaced by a store of other codes."
            )
        return table

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[Any, bool]]:
        """The table, and whether other writers wait until this one has ended."""
        if self.version is not None:
            raise read_only(self.path, self.version)
        with contextlib.ExitStack() as unwinding:
            with _errors_named(self.path):
                alone = unwinding.enter_context(_locked(self.location))
            yield self._table(), alone

    def _kept(self, table: Any, ids: Sequence[Any], columns: Columns) -> dict[str, Any]:
        """Of the rows that have some keys now, the metadata that `columns` lacks.

        They are Arrow arrays, in the order of the keys; null where there is no row.
        """
        import pyarrow as pa

        given = {"id", *columns.specification}
        names = [name for name in _shown(table.schema) if name not in given]
        if not names:
            return {}
        rows = _rows_with(table, ids, ["id", *names])
        place = {key: row for row, key in enumerate(rows["id"].to_pylist())}
        places = pa.array([place.get(key) for key in ids], pa.int64())
        return {
            name: _filled(rows[name].combine_chunks().take(places)) for name in names
        }

    def _numbered(self, table: Any, count: int) -> range:
        """Keys for rows that come without: the numbers after the largest."""
        start = 0
        if "id" in table.schema.names and table.schema.field("id").type == "int64":
            # Most often, none is larger than the last one, or the number of rows.
            with _errors_named(self.path):
                start = max(self._next_number, table.count_rows())
            # LanceDB finds some keys from a number on in no time, but the largest one
            # by a look at all. So leap ahead, farther and farther, then less and less.
            leap, farther = 1, True
            while leap:
                with _errors_named(self.path):
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
            _check_columns(present, kinds)
            fields = {name: _arrow_type(kind) for name, kind in kinds.items()}
            fields[_CHECKSUM] = pa.uint32()
            new = {n: kind for n, kind in fields.items() if n not in present.names}
            try:
                if new:
                    table.add_columns(pa.schema(new))
                elif present.field("id").nullable:
                    table.alter_columns({"path": "id", "nullable": False})
                elif not present.field("id").metadata:
                    table.set_unenforced_primary_key("id")
                else:
                    return
            except Exception as error:
                # Another writer may have done the same at the same moment.
                if attempt == _ATTEMPTS - 1:
                    raise _named(error, self.path) from error
            with _errors_named(self.path):
                table.checkout_latest()


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
        rows = self._answer(
            lambda: self._table.search().select(["code", "row"]).with_row_id(True),
            where,
        )
        with _errors_named(self._engine.path):
            codes = _codes(rows["code"])
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
        with _errors_named(self._engine.path):
            indices = [index.columns for index in self._table.list_indices()]
            k = min(k, self._table.count_rows())
        if ["code"] not in indices:
            raise ValueError(
                "`nprobes` must be None before `create_index` builds an index. "
                f"Received: {nprobes}, '{self._engine.path}'."
            )
        if not len(queries) or not k:
            distances = np.zeros((len(queries), 0), np.int32)
            return distances, self.columns(np.zeros(0, np.int64))
        names = _shown(self._table.schema)

        def query() -> Any:
            query = self._table.search([*queries], vector_column_name="code")
            query = query.distance_type("hamming").limit(k).nprobes(nprobes)
            return query.select([*names, "row", "_distance"])

        found = self._answer(query, where)
        if found.num_rows < k * len(queries):
            # Some partitions have too few rows: search all of them.
            found = self._answer(lambda: query().maximum_nprobes(0), where)
        with _errors_named(self._engine.path):
            # LanceDB numbers the queries if they are more than one.
            keys = [name for name in _ORDER if name in found.column_names]
            order = np.lexsort([found[name].to_numpy() for name in keys])
            distances = found["_distance"].to_numpy()[order].astype(np.int32)
            columns = {name: _values(found[name])[order] for name in names}
        return distances.reshape(len(queries), -1), columns

    def columns(
        self, rows: npt.NDArray[np.int64], names: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """The key ("id") and metadata of rows, as arrays in the order of `rows`.

        Columns that are not among `names` are not read; None is all of them.
        """
        schema = self._table.schema
        # Before the first rows, LanceDB has no column of keys.
        names = chosen_names(names, _shown(schema) or ["id"])
        unique, inverse = np.unique(rows, return_inverse=True)
        if not names or not len(unique):
            kinds = {n: _kind(schema.field(n).type) for n in names if n != "id"}
            return {name: column_values([], kinds.get(name)) for name in names}
        with _errors_named(self._engine.path):
            query = self._table.take_row_ids(unique.tolist()).select(names)
            query = query.with_row_id().to_batches(max_batch_length=_ROWS_AT_A_TIME)
            taken = query.read_all()
            order = np.argsort(taken["_rowid"].to_numpy())
            return {name: _values(taken[name])[order][inverse] for name in names}

    def _answer(self, query: Callable[[], Any], where: str | None) -> Any:
        """The Arrow table of those rows of a query that meet a condition."""
        path = self._engine.path
        if where is None:
            with _errors_named(path):
                return _table_of(query())
        check_where(where)
        # LanceDB would read a condition to where it could end.
        condition = in_parentheses(where)
        try:
            return _table_of(query().where(condition))
        except Exception as error:  # of LanceDB, and panics of its parser among them
            wrong, search = wrong_where(where, _reason(error)), self._table.search
            try:
                search().where(condition).explain_plan()
            except Exception:
                raise wrong from error
            # What can be planned may still divide by zero; or the store is damaged, and
            # cannot be read without it either.
            with _errors_named(path):
                for read in (query(), search()):
                    _read_through(read)
            # Or an index is: LanceDB uses none if a part of the condition has none.
            try:
                _read_through(search().where(f"{condition} OR row < 0"))
            except Exception:
                raise wrong from error
            raise _named(error, path) from error


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
    except Exception as error:
        raise _named(error, location) from error


@contextlib.contextmanager
def _errors_named(path: pathlib.Path | str) -> Iterator[None]:
    """Turn LanceDB's errors into Python's, which name the store.

    LanceDB has no types of its own: its errors are of any, among them those of wrong
    arguments. So what is in the block calls LanceDB, and checks no argument.
    """
    try:
        yield
    except Exception as error:
        raise _named(error, path) from error


def _named(error: Exception, path: pathlib.Path | str) -> Exception:
    """What an error of LanceDB, or of the lock, says of a store."""
    message = str(error)
    if _FULL.search(message):
        rule = "The disk is full; the store is as before"
        return OSError(errno.ENOSPC, rule, str(path))
    if _DENIED.search(message):
        return PermissionError(errno.EACCES, "The store cannot be written", str(path))
    if isinstance(error, TimeoutError) or getattr(error, "filename", None):
        return error  # Python's own, of the lock
    if _ELSEWHERE.search(message):
        return OSError(f"'{path}' cannot be read or written: {_reason(error)}.")
    return _damaged(path, _reason(error))


def _reason(error: Exception) -> str:
    """What an error of LanceDB says, on one short line."""
    return _PLACE.sub("", " ".join(said(error).split()))[:300]


def _damaged(path: pathlib.Path | str, reason: str) -> ValueError:
    return ValueError(f"`path` must be a whole store. '{path}': {reason}.")


def _meta(table: Any, path: pathlib.Path | str) -> dict[str, Any]:
    """What is known of a store as a whole, checked; and the types of its columns."""
    import pyarrow as pa

    with _errors_named(path):
        schema = table.schema
    try:
        meta = json.loads((schema.metadata or {}).get(_META, b"{}"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "what it says of itself is no JSON") from error
    meta = meta if isinstance(meta, dict) else {}
    given = meta.get("format")
    if type(given) is not int or given != _FORMAT:
        raise ValueError(
            f"`path` must be a store of format {_FORMAT}. Received: '{path}', of "
            f"format {given!r:.40}."
        )
    bits: Any = meta.get("bits")
    model = meta.get("model", "")
    rules = {
        "bits": type(bits) is int and 1 <= bits <= MOST_BITS,
        "model": model is None or is_identity(model, bits),
        # Stores of earlier releases have none.
        "store": isinstance(meta.get("store", ""), str),
    }
    for name, is_right in rules.items():
        if not is_right:
            raise _damaged(path, f"its {name!r} is {meta.get(name)!r:.100}")
    types = dict(zip(schema.names, schema.types, strict=True))
    rules = {
        "code": types.get("code") == pa.list_(pa.uint8(), packed_width(bits)),
        "row": types.get("row") == pa.int64(),
    }
    rules |= {name: _kind(types[name]) is not None for name in _shown(schema)}
    if _shown(schema):  # rows were added, each with a key
        rules["id"] = "id" in types and _kind(types["id"]) in ("str", "int")
    for name, is_right in rules.items():
        if not is_right:
            raise _damaged(
                path, f"its column {name!r:.100} is {types.get(name)!s:.100}"
            )
    return meta


def _shown(schema: Any) -> list[str]:
    """The names of the keys and metadata, which users see."""
    return [
        field.name
        for field in schema
        if field.name not in ("code", "row") and not _is_checksum(field)
    ]


def _is_checksum(field: Any) -> bool:
    """Whether a column holds checksums, and is no metadata of an earlier release."""
    return field.name == _CHECKSUM and str(field.type) == "uint32"


def _checksums(
    codes: npt.NDArray[np.uint8], ids: Sequence[Any], rows: Iterable[int]
) -> list[int]:
    """The checksum of each row: of its code, its number, and its key as text."""
    joined, width = codes.tobytes(), codes.shape[1]
    return [
        zlib.crc32(
            joined[place * width : (place + 1) * width] + f"{row} {key}".encode()
        )
        for place, (key, row) in enumerate(zip(ids, rows, strict=True))
    ]


def _changed(batch: Any) -> list[Any]:
    """The keys of the rows of a batch that do not have their checksum."""
    if not batch.num_rows or not any(map(_is_checksum, batch.schema)):
        return []
    ids, rows, kept = (batch[name].to_pylist() for name in ("id", "row", _CHECKSUM))
    found = _checksums(_codes(batch["code"]), ids, rows)
    return [
        key
        for key, one, other in zip(ids, kept, found, strict=True)
        if one not in (None, other)
    ]


def _check_vectors(columns: Columns) -> None:
    """Refuse rows of numbers that LanceDB does not take."""
    for name, values in columns.arrays().items():
        if not isinstance(columns.specification[name], dict):
            continue
        is_vector = values.shape[1] >= _VECTOR_WIDTH or name in _VECTOR_NAMES
        has_nan = values.dtype.kind == "f" and bool(np.isnan(values).any())
        if not values.shape[1] or (is_vector and has_nan):
            raise ValueError(
                f"`columns[{name!r}]` of engine='lance' must have rows of one number "
                "or more, and without NaN if LanceDB takes them for vectors: of "
                f"{_VECTOR_WIDTH} numbers or more, or under one of the names "
                f"{_VECTOR_NAMES}. Received: rows of {values.shape[1]}"
                f"{', with NaN' if has_nan else ''}."
            )


def _check_columns(schema: Any, kinds: dict[str, Any]) -> None:
    """Check that rows of some columns, of these types, can be added."""
    check_names(schema.names, kinds)
    for name, kind in kinds.items():
        if name not in schema.names or _is_checksum(schema.field(name)):
            if name in _OWN or not _NO_LETTERS.isdisjoint(name):
                raise ValueError(
                    "`columns` of engine='lance' must have names without "
                    f"{sorted(_NO_LETTERS)} and none of {_OWN}. Received: {name!r}."
                )
        elif schema.field(name).type != _arrow_type(kind):
            raise ValueError(
                f"`{'ids' if name == 'id' else f'columns[{name!r}]'}` must be of the "
                f"store's type, {schema.field(name).type}. Received: {kind}."
            )


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


def _table_of(query: Any) -> Any:
    """The Arrow table of a query's rows."""
    return query.to_batches(batch_size=_ROWS_AT_A_TIME).read_all()


def _read_through(query: Any) -> None:
    """Read a query's rows, some at a time, and keep none."""
    for _ in query.to_batches(batch_size=_ROWS_AT_A_TIME):
        pass


def _rows_with(table: Any, ids: Sequence[Any], names: list[str]) -> Any:
    """Some columns of the rows that have one of the keys, and perhaps of others."""
    import pyarrow as pa

    if table.count_rows() < _ROWS_PER_KEY * len(ids):
        return _table_of(table.search().select(names))
    starts = range(0, len(ids), _MOST_KEYS)
    conditions = [_in("id", ids[start : start + _MOST_KEYS]) for start in starts]
    return pa.concat_tables(
        _table_of(table.search().where(condition).select(names))
        for condition in conditions
    )


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
    kept: dict[str, Any],
) -> Any:
    """The Arrow table of rows to add; `start` is the first value of "row", and `kept`
    has further columns as Arrow arrays."""
    import pyarrow as pa

    arrays = {
        "id": pa.array(ids, schema.field("id").type),
        "row": pa.array(np.arange(start, start + len(codes))),
        "code": _fixed_lists(codes),
        **kept,
        **{
            name: _fixed_lists(values)
            if getattr(values, "ndim", 1) == 2
            # NaN is a missing value, as in SQLite: no condition is true of it.
            else pa.array(values, schema.field(name).type, from_pandas=True)
            for name, values in columns.arrays().items()
        },
    }
    for field in schema:
        if _is_checksum(field):
            sums = _checksums(codes, ids, range(start, start + len(codes)))
            arrays[field.name] = pa.array(sums, field.type)
        arrays.setdefault(field.name, _filled(pa.nulls(len(codes), field.type)))
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


def _kind(arrow_type: Any) -> Any:
    """The type of a column as `Columns` gives it; None of one that no store has."""
    import pyarrow as pa

    for kind in ("str", "bytes", "int", "float", "bool"):
        if arrow_type == _arrow_type(kind):
            return kind
    if pa.types.is_fixed_size_list(arrow_type):
        with contextlib.suppress(NotImplementedError):  # of a type without one
            dtype = np.dtype(arrow_type.value_type.to_pandas_dtype())
            rows = {"dtype": dtype.str, "width": arrow_type.list_size}
            return rows if is_specification(rows) else None
    return None


def _codes(column: Any) -> npt.NDArray[np.uint8]:
    """A column of codes as an array ``(n, width)``."""
    if column.null_count:
        raise ValueError("rows without a code")
    values: npt.NDArray[np.uint8] = _values(column)
    return values


def _filled(array: Any) -> Any:
    """An Arrow array with zeros where a row of numbers is missing.

    That is how it is read, and LanceDB takes no vectors that are null.
    """
    import pyarrow as pa

    is_list = pa.types.is_fixed_size_list(array.type)
    return _fixed_lists(_values(array)) if is_list and array.null_count else array


def _fixed_lists(rows: npt.NDArray[Any]) -> Any:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(rows).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _values(column: Any) -> npt.NDArray[Any]:
    """A column as an array: ``(n,)``, or ``(n, width)`` of rows of numbers."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        if column.null_count:
            zero = np.zeros(width, column.type.value_type.to_pandas_dtype())
            column = column.fill_null(pa.scalar(zero.tolist(), column.type))
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
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
