"""A store in LanceDB: for object storage, and for many writers.

The table "codes" has the columns "id", "code", a fixed-size list of uint8, "row", which
orders the rows, and the metadata. What the store knows of its model stands in the
schema's metadata. LanceDB makes a version with every commit.
"""

import contextlib
import datetime
import errno
import json
import pathlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash.codes import packed_width
from kerashash.store.rows import Columns, Version

_TABLE = "codes"
_META = b"kerashash"
_FORMAT = 1
# Readers that are at work need their version.
_KEPT = datetime.timedelta(hours=1)
# Keys in one SQL condition.
_MOST_KEYS = 10_000


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
    """

    def __init__(
        self, location: pathlib.Path | str, version: int | None = None
    ) -> None:
        self.path, self._version = location, version
        with self._errors_named():
            self._database = _lancedb().connect(str(location))
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
        lancedb = _lancedb()
        import pyarrow as pa

        if isinstance(location, pathlib.Path) and location.exists():
            raise FileExistsError(
                f"`path` must not exist. Received: '{location}', which does."
            )
        meta = json.dumps({"format": _FORMAT, "bits": bits, "model": model})
        fields = {"code": pa.list_(pa.uint8(), packed_width(bits)), "row": pa.int64()}
        schema = pa.schema(fields, metadata={_META: meta})
        try:
            lancedb.connect(str(location)).create_table(_TABLE, schema=schema)
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
            for start in range(0, len(ids), _MOST_KEYS):
                some = ids[start : start + _MOST_KEYS]
                found = table.search().where(_in("id", some)).select(["id"]).to_arrow()
                known += found["id"].to_pylist()
        return known

    def check(self) -> None:
        """Read everything; LanceDB checks what it reads.

        Raises:
            ValueError: if the store is damaged.
        """
        try:
            table = self._table()
            if table.to_arrow().num_rows != table.count_rows():
                raise ValueError("rows are missing")
        except Exception as error:
            raise ValueError(
                f"`path` must be a whole store. '{self.path}': {error}."
            ) from error

    # ----------------------------------------------------------------- writing

    def add(
        self,
        codes: npt.NDArray[np.uint8],
        ids: Sequence[Any] | None,
        columns: Columns,
        replace: bool,
    ) -> None:
        """Append rows in one commit, as `FolderEngine.add` does."""
        import pyarrow as pa

        with self._errors_named():
            table = self._writable()
            if ids is None:
                ids = self._numbered(table, len(codes))
            kinds = {"id": _type_of(ids), **columns.specification}
            self._add_columns(table, kinds)
            schema = table.schema
            # In order of commit; LanceDB's own order changes in a compaction. Of two
            # writers at the same moment, chance decides which is first.
            start = (table.version << 40) + (secrets.randbelow(1 << 16) << 24)
            arrays = {
                "id": pa.array(ids, schema.field("id").type),
                "row": pa.array(np.arange(start, start + len(codes))),
                "code": _fixed_lists(codes),
                **{
                    name: _fixed_lists(values)
                    if getattr(values, "ndim", 1) == 2
                    else pa.array(values, schema.field(name).type)
                    for name, values in columns.arrays().items()
                },
            }
            for field in schema:
                arrays.setdefault(field.name, pa.nulls(len(codes), field.type))
            rows = pa.table({name: arrays[name] for name in schema.names}, schema)
            merge = table.merge_insert("id").when_not_matched_insert_all()
            if replace:
                merge = merge.when_matched_update_all()
            result = merge.execute(rows)
            if not replace and result.num_inserted_rows < len(codes):
                raise ValueError(
                    "`ids` must be new to the store; `upsert` replaces rows. Received: "
                    f"{len(codes) - result.num_inserted_rows} that another process has "
                    "just added."
                )
            # Without it, every commit compares its keys with all rows.
            if not table.list_indices():
                from lancedb.index import BTree

                table.create_index("id", config=BTree())

    def delete(self, where: str) -> int:
        """Remove rows that meet an SQL condition, and return how many."""
        table = self._writable()
        self.snapshot().select(where)  # an error here names `where`
        with self._errors_named():
            return int(table.delete(where).num_deleted_rows)

    def compact(self) -> None:
        """Free the space of removed rows, and drop versions older than an hour."""
        with self._errors_named():
            self._writable().optimize(cleanup_older_than=_KEPT)

    # ---------------------------------------------------------------- plumbing

    def _table(self) -> Any:
        """The table, at the version that is read."""
        table = self._database.open_table(_TABLE)
        if self._version is not None:
            try:
                table.checkout(self._version)
            except Exception as error:  # LanceDB has none of its own
                raise ValueError(
                    "`version` must be one of `versions`, which `compact` drops. "
                    f"Received: {self._version!r}."
                ) from error
        return table

    def _writable(self) -> Any:
        if self._version is not None:
            raise ValueError(
                f"A store opened at a version is read-only. Received: '{self.path}', "
                f"version={self._version}."
            )
        return self._database.open_table(_TABLE)

    def _numbered(self, table: Any, count: int) -> range:
        """Keys for rows that come without: the numbers after the largest."""
        start = 0
        if "id" in table.schema.names and table.count_rows():
            import pyarrow.compute as pc

            largest = pc.max(table.search().select(["id"]).to_arrow()["id"]).as_py()
            start = largest + 1 if isinstance(largest, int) else 0
        return range(start, start + count)

    def _add_columns(self, table: Any, kinds: dict[str, Any]) -> None:
        """Add the columns that the table lacks, and check the types of the others."""
        import pyarrow as pa

        present = table.schema
        new = [
            pa.field(name, _arrow_type(kind))
            for name, kind in kinds.items()
            if name not in present.names
        ]
        for name, kind in kinds.items():
            if name in present.names and present.field(name).type != _arrow_type(kind):
                raise ValueError(
                    f"`{'ids' if name == 'id' else f'columns[{name!r}]'}` must be of "
                    f"the store's type, {present.field(name).type}. Received: {kind}."
                )
        if new:
            try:
                table.add_columns(pa.schema(new))
            except (RuntimeError, ValueError):
                # Another writer may have added them at the same moment.
                table.checkout_latest()
                if {field.name for field in new} - {*table.schema.names}:
                    raise
                self._add_columns(table, kinds)

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn LanceDB's errors into Python's, which name the store."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            if isinstance(error, FileNotFoundError | FileExistsError):
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
                f"'{self.path}' cannot be read or written: {message}."
            ) from error


class LanceSnapshot:
    """A store in LanceDB at one version, as `kerashash.store.folder.Snapshot`."""

    def __init__(self, engine: LanceEngine, table: Any) -> None:
        self._engine, self._table = engine, table
        self.identity = table.version

    def select(
        self, where: str | None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The packed codes and the numbers of rows; None selects all of them."""
        width = packed_width(self._engine.bits)
        if "id" not in self._table.schema.names:  # nothing was ever added
            return np.zeros((0, width), np.uint8), np.zeros(0, np.int64)
        query = self._table.search().select(["code", "row"]).with_row_id(True)
        if where is not None:
            if not isinstance(where, str):
                raise TypeError(
                    f"`where` must be a str. Received type: {type(where).__name__}."
                )
            query = query.where(where)
        try:
            rows = query.to_arrow()
        except (RuntimeError, ValueError) as error:
            if where is None:
                raise
            raise ValueError(
                "`where` must be an SQL condition on the columns of the store. "
                f"Received: {where!r:.200}: {str(error)[:300]}."
            ) from error
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

    def columns(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """The key ("id") and metadata of rows, as arrays in the order of `rows`."""
        names = [
            name for name in self._table.schema.names if name not in ("code", "row")
        ]
        unique, inverse = np.unique(rows, return_inverse=True)
        if not names or not len(unique):
            return {"id": np.zeros(0, object), **{n: np.zeros(0) for n in names}}
        query = self._table.take_row_ids(unique.tolist()).select(names)
        taken = query.with_row_id().to_arrow()
        order = np.argsort(taken["_rowid"].to_numpy())
        return {name: _values(taken[name])[order][inverse] for name in names}


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError as error:
        raise ImportError(
            "engine='lance' needs the package lancedb. Install it by: pip install "
            '"kerashash[store]".'
        ) from error
    return lancedb


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
    if column.null_count or texts:
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
