"""A store in a folder: codes in one file that only grows, their rows in SQLite.

``rows.sqlite`` holds the key, the metadata and the history of every row, and
``codes-G.bin`` the packed codes in order of row, where G counts compactions. A writer
takes SQLite's lock, appends codes, waits until they are on the disk, and commits the
rows. So codes without rows are the worst that a kill or a full disk can leave; the next
writer overwrites them. Readers map the codes into memory and take no lock for long.
"""

import contextlib
import errno
import os
import pathlib
import secrets
import sqlite3
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import said
from kerashash.codes import packed_width
from kerashash.store import sql
from kerashash.store.rows import (
    Columns,
    Compacted,
    Version,
    check_names,
    check_where,
    chosen_names,
    column_values,
    in_parentheses,
    not_new,
    read_only,
    wrong_where,
)

_FORMAT = 1
_ROWS = "rows.sqlite"
# SQLite takes at most 32,766 parameters in a statement.
_MOST_PARAMETERS = 10_000
# And 2,000 columns in a table, of which three are the store's.
_MOST_COLUMNS = 1_997
# SQLite's codes of errors that say so of the file.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class FolderEngine:
    """The rows and codes of a store in a folder.

    A row has a number, in order of addition; it is never used again before `compact`.

    Args:
        path: `pathlib.Path` of the folder.
        version: int or None; None reads and writes the newest version, a number reads
            that one.

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if the folder is no store, is damaged, or has no such version.

    Attributes:
        path: `pathlib.Path`, as given.
        location: `pathlib.Path`; the same, whatever the working directory is later.
        version: int or None, as given.
        bits: int; the code length.
        model: dict or None; what is known of the model.
    """

    def __init__(self, path: pathlib.Path, version: int | None = None) -> None:
        self.path, self.location, self.version = path, path.absolute(), version
        if not (path / _ROWS).exists():
            if not path.exists():
                raise FileNotFoundError(
                    f"`path` must be a store. Received: '{path}', which does not exist."
                )
            raise ValueError(
                f"`path` must be a store. Received: '{path}', which has no {_ROWS}."
            )
        with self._reading() as connection:
            given = sql.values(
                connection, "SELECT value FROM meta WHERE name = 'format'"
            )
            if given != [(str(_FORMAT),)]:
                raise ValueError(
                    f"`path` must be a store of format {_FORMAT}. Received: '{path}', "
                    f"of format {given[0][0] if given else None!s:.40}."
                )
            meta = sql.meta(connection)
            self.bits, self.model = meta["bits"], meta["model"]
            if sql.schema(connection) != sql.expected_schema(meta["columns"]):
                # A view or a trigger would run a stranger's SQL.
                raise sql.Damage("other tables than those of a store")
            versions = "SELECT version FROM versions WHERE version = ?"
            if version is not None and not sql.values(connection, versions, (version,)):
                raise ValueError(
                    "`version` must be one of `versions`, which `compact` drops. "
                    f"Received: {version!r}."
                )

    @classmethod
    def create(
        cls, path: pathlib.Path, bits: int, model: dict[str, Any] | None
    ) -> "FolderEngine":
        """Make an empty store.

        Args:
            path: `pathlib.Path` of the folder to make.
            bits: int; the code length.
            model: dict or None; what is known of the model, as JSON can hold it.

        Raises:
            FileExistsError: if there is something at `path`.
            OSError: if the folder cannot be written.
        """
        # Complete before it has its name: a killed `create` leaves no half store.
        with (
            _nothing_at(path),
            files.staging(path, overwrite=False) as folder,
            sql.errors_named(path),
        ):
            (folder / "codes-0.bin").touch()
            (folder / _ROWS).touch(exist_ok=False)
            with sql.connected(folder / _ROWS) as connection:
                connection.executescript(sql.TABLES)
                values: dict[str, Any] = {"format": _FORMAT, "bits": bits}
                values |= {"model": model}
                values |= {"generation": 0, "columns": {}}
                values |= {"id_type": None, "next_id": 0, "since": {}}
                # Tells it from another store that takes its place.
                values |= {"store": secrets.token_hex(8)}
                for name, value in values.items():
                    sql.set_meta(connection, name, value)
                sql.add_version(connection, 0, rows=0, total=0, checksum=0)
        return cls(path)

    # ----------------------------------------------------------------- reading

    def versions(self) -> list[Version]:
        """The versions that can be read, oldest first."""
        with self._reading() as connection:
            query = "SELECT version, time, rows FROM versions ORDER BY version"
            versions = [Version(*values) for values in connection.execute(query)]
            for version in versions:
                sql.check_numbers("versions", version.version, version.rows)
                if not isinstance(version.time, str):
                    raise sql.Damage(f"a version of the time {version.time!r:.40}")
            return versions

    def count(self) -> int:
        """The number of rows."""
        with self._reading() as connection:
            return sql.counts(connection, self._read_version(connection))[0]

    def snapshot(self) -> "Snapshot":
        """The store as it is now, or at its version."""
        with self._reading() as connection:
            version = self._read_version(connection)
            total = sql.counts(connection, version)[1]
            meta = self._own_meta(connection)
            removed = sql.row_numbers(
                connection,
                # By the index of the few removed rows, not through all rows.
                "SELECT row FROM rows INDEXED BY removed_rows "
                "WHERE removed <= ? AND +row < ? ORDER BY row",
                (version, total),
                total,
            )
            commit = sql.values(
                connection, "SELECT * FROM versions WHERE version = ?", (version,)
            )
            # While it reads, no compaction can end and remove the codes.
            codes = self._map(meta["generation"], total)
        return Snapshot(self, version, meta, codes, removed, commit)

    def known(self, ids: Sequence[Any]) -> list[Any]:
        """Those of some keys that rows have."""
        known: list[Any] = []
        with self._reading() as connection:
            for start in range(0, len(ids), _MOST_PARAMETERS):
                some = ids[start : start + _MOST_PARAMETERS]
                query = (
                    f"SELECT id FROM rows WHERE id IN ({', '.join('?' * len(some))}) "
                    "AND removed IS NULL"
                )
                known += [key for (key,) in connection.execute(query, some)]
        return known

    def check(self) -> None:
        """Compare the codes with their checksums, and count the rows.

        SQLite looks through its file as well, but has no checksums of values.

        Raises:
            ValueError: if the store is damaged.
        """
        with self._reading() as connection:
            (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
            if answer != "ok":
                raise self._damaged(answer)
            generation = self._own_meta(connection)["generation"]
            rows, total = sql.counts(connection, sql.newest(connection))
            numbers = sql.row_numbers(
                connection, "SELECT row FROM rows ORDER BY row", (), total
            )
            removed = sql.row_numbers(
                connection,
                "SELECT row FROM rows WHERE removed IS NOT NULL ORDER BY row",
                (),
                total,
            )
            if len(numbers) != total or total - len(removed) != rows:
                raise self._damaged(
                    f"it has {len(numbers)} rows, of which {len(removed)} are removed, "
                    f"and must have {total} and {total - rows}"
                )
            commits = connection.execute(
                "SELECT total, checksum FROM versions "
                "WHERE checksum IS NOT NULL ORDER BY version"
            ).fetchall()
            for commit in commits:
                sql.check_numbers("versions", *commit)
            codes, start = self._map(generation, total), 0
        for stop, checksum in [*commits, (total, None)]:
            # Codes that no commit has written have no checksum either.
            part = codes[start:stop]
            if zlib.crc32(part.tobytes()) != (0 if checksum is None else checksum):
                raise self._damaged(f"codes {start} to {stop - 1} have changed")
            start = stop

    # ----------------------------------------------------------------- writing

    def add(
        self,
        codes: npt.NDArray[np.uint8],
        ids: Sequence[Any] | None,
        columns: Columns,
        replace: bool,
        keep: bool = False,
    ) -> None:
        """Append rows in one commit.

        Args:
            codes: uint8 array ``(n, width)``.
            ids: n keys, all str or all int; None numbers the rows.
            columns: metadata of the rows.
            replace: bool; True removes rows that have one of the keys, False refuses
                them.
            keep: bool; whether rows take over, from those that they replace, what
                `columns` does not give.

        Raises:
            ValueError: if a key is there already, or a value has the wrong type.
            OSError: if the store cannot be written.
        """
        with self._writing() as connection:
            version, meta = sql.newest(connection), self._own_meta(connection)
            live, total = sql.counts(connection, version)
            are_new = ids is not None and not replace
            if ids is None:
                ids = range(meta["next_id"], meta["next_id"] + len(codes))
                if ids.stop > 2**63:
                    raise ValueError(
                        "`ids` must be given: the next numbers are more than 64 bits "
                        f"hold. Received: None, after {ids.start - 1} in '{self.path}'."
                    )
            kind = self._checked_id_type(meta["id_type"], ids)
            if kind and not meta["id_type"]:
                sql.set_meta(connection, "id_type", kind)
            if len(ids) and not isinstance(ids[0], str):
                sql.set_meta(connection, "next_id", max(meta["next_id"], max(ids) + 1))
            rows = live + len(codes)
            self._add_columns(connection, meta, columns, version + 1)
            others = meta["columns"].keys() - columns.specification.keys()
            kept = sorted(others) if keep else []
            old = [_live_values(connection, key, kept) for key in ids if kept]
            if replace:
                rows -= connection.executemany(
                    "UPDATE rows SET removed = ? WHERE id = ? AND removed IS NULL",
                    ((version + 1, key) for key in ids),
                ).rowcount
            self._append(meta["generation"], total, codes)
            names = ["row", "id", *columns.specification, *kept]
            statement = (
                f"INSERT INTO rows ({', '.join(map(sql.quoted, names))}) "
                f"VALUES ({', '.join('?' * len(names))})"
            )
            try:
                connection.executemany(
                    statement,
                    zip(
                        range(total, total + len(codes)),
                        ids,
                        *columns.stored(),
                        *zip(*old, strict=True),
                        strict=True,
                    ),
                )
            except sqlite3.IntegrityError as error:
                if not are_new:  # no row can have one of these
                    raise
                raise self._duplicate(connection, ids, total) from error
            sql.add_version(
                connection,
                version + 1,
                rows,
                total + len(codes),
                zlib.crc32(codes.tobytes()),
            )

    def check_addition(
        self, ids: Sequence[Any] | None, specification: dict[str, Any]
    ) -> None:
        """Check what `add` would refuse of any rows.

        Args:
            ids: keys, one at least; None stands for numbers.
            specification: dict; the types of columns, as `Columns` has them.

        Raises:
            ValueError: if the store has keys or columns of other types.
            OSError: if the store cannot be written.
        """
        with self._writing() as connection:
            meta = self._own_meta(connection)
            self._checked_id_type(meta["id_type"], range(1) if ids is None else ids)
            self._check_columns(meta["columns"], specification)

    def delete(self, where: str) -> int:
        """Remove rows that meet an SQL condition, and return how many."""
        with self._writing() as connection:
            version = sql.newest(connection)
            rows = self._select(connection, where, version)
            if not len(rows):
                return 0
            removed = connection.executemany(
                "UPDATE rows SET removed = ? WHERE row = ? AND removed IS NULL",
                ((version + 1, row) for row in rows.tolist()),
            ).rowcount
            live, total = sql.counts(connection, version)
            sql.add_version(
                connection, version + 1, live - removed, total, checksum=None
            )
        return removed

    def compact(self) -> None:
        """Drop removed rows and all older versions."""
        with self._writing() as connection:
            version, meta = sql.newest(connection), self._own_meta(connection)
            total, generation = (
                sql.counts(connection, version)[1],
                meta["generation"],
            )
            codes = self._map(generation, total)
            live = np.ones(total, bool)
            live[
                sql.row_numbers(
                    connection,
                    "SELECT row FROM rows WHERE removed IS NOT NULL",
                    (),
                    total,
                )
            ] = False
            codes = codes[live]
            self._append(generation + 1, 0, codes)
            connection.execute("DELETE FROM rows WHERE removed IS NOT NULL")
            # Ascending, so that a number is free before it is taken.
            numbers = np.flatnonzero(live)
            connection.executemany(
                "UPDATE rows SET row = ? WHERE row = ?",
                ((new, old) for new, old in enumerate(numbers.tolist()) if new != old),
            )
            connection.execute("DELETE FROM versions")
            count = len(codes)
            sql.add_version(
                connection, version + 1, count, count, zlib.crc32(codes.tobytes())
            )
            sql.set_meta(connection, "generation", generation + 1)
        with self._writing():
            pass  # removes the old codes

    # ---------------------------------------------------------------- plumbing

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads one state of the rows, and cannot write."""
        self._check_is_there()
        # Not with mode "ro": it must roll back what a killed writer left.
        with (
            sql.errors_named(self.path),
            sql.connected(self.location / _ROWS) as connection,
        ):
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that holds the lock of writers; commits at the end."""
        if self.version is not None:
            raise read_only(self.path, self.version)
        self._check_is_there()
        if not os.access(self.location, os.W_OK):
            # Before SQLite says "unable to open database file".
            raise PermissionError(
                errno.EACCES, "The store cannot be written", str(self.path)
            )
        with (
            sql.errors_named(self.path),
            sql.connected(self.location / _ROWS) as connection,
        ):
            connection.execute("BEGIN IMMEDIATE")
            self._remove_other_codes(connection)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def _check_is_there(self) -> None:
        if not (self.location / _ROWS).exists():
            raise FileNotFoundError(errno.ENOENT, "The store is gone", str(self.path))

    def _own_meta(self, connection: sqlite3.Connection) -> dict[str, Any]:
        """What is known of the store, if it is the one that was opened.

        Another one in its place could have codes of another model.
        """
        meta = sql.meta(connection)
        if (int(meta["bits"]), meta["model"]) != (self.bits, self.model):
            raise ValueError(
                f"`path` must be the store that was opened. '{self.path}' has been "
                "replaced by a store of other codes."
            )
        return meta

    def _read_version(self, connection: sqlite3.Connection) -> int:
        if self.version is None:
            return sql.newest(connection)
        query = "SELECT 1 FROM versions WHERE version = ?"
        if not sql.values(connection, query, (self.version,)):
            raise ValueError(
                f"`version` {self.version} has been dropped by `compact`. Received: "
                f"'{self.path}', which was opened at it."
            )
        return self.version

    def _select(
        self, connection: sqlite3.Connection, where: str, version: int
    ) -> npt.NDArray[np.int64]:
        """The rows of a version that meet an SQL condition, in ascending order."""
        total = sql.counts(connection, version)[1]
        check_where(where)
        connection.set_authorizer(sql.authorize)
        try:
            sql.check_condition(connection, where)
            with sql.interruptible(connection):
                return sql.row_numbers(
                    connection,
                    "SELECT row FROM rows WHERE row < ? AND (removed IS NULL OR "
                    f"removed > ?) AND {in_parentheses(where)} ORDER BY row",
                    (total, version),
                    total,
                )
        # ValueError, of text that is not UTF-8 or has a null character.
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            is_damage = isinstance(error, sql.Damage | UnicodeDecodeError)
            if is_damage or code & 0xFF in _DAMAGED:
                raise
            raise wrong_where(where, said(error)) from error
        finally:
            connection.set_authorizer(None)

    def _codes_file(self, generation: int) -> pathlib.Path:
        return self.location / f"codes-{generation}.bin"

    def _map(self, generation: int, total: int) -> npt.NDArray[np.uint8]:
        """The first codes of the file, mapped into memory: ``(total, width)``."""
        file, width = self._codes_file(generation), packed_width(self.bits)
        if not total:
            return np.zeros((0, width), np.uint8)
        self._check_codes(file, total)
        return np.memmap(file, np.uint8, "r", shape=(total, width))

    def _check_codes(self, file: pathlib.Path, total: int) -> None:
        """Check that a file holds so many codes at least."""
        try:
            self._check_file(file)
        except FileNotFoundError:
            raise self._damaged("its codes are missing") from None
        if file.stat().st_size < total * packed_width(self.bits):
            raise self._damaged(f"{file.name} is too short for its {total} codes")

    def _check_file(self, file: pathlib.Path) -> None:
        """Refuse links, which lead out of the folder, and what is no file."""
        if not stat.S_ISREG(file.lstat().st_mode):
            raise self._damaged(f"{file.name} must be a file, and no link")

    def _append(
        self, generation: int, total: int, codes: npt.NDArray[np.uint8]
    ) -> None:
        """Write codes after the first `total`, and wait until they are on the disk."""
        file = self._codes_file(generation)
        # Behind the end of a file that was cut, zeros would stand for its codes.
        if total or os.path.lexists(file):
            self._check_codes(file, total)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
            with open(descriptor, "r+b") as stream:
                stream.seek(total * packed_width(self.bits))
                stream.write(codes.tobytes())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            rule = error.strerror
            if error.errno in files.FULL:
                rule = "The disk is full; the store is as before"
            raise OSError(error.errno, rule, str(self.path)) from error

    def _remove_other_codes(self, connection: sqlite3.Connection) -> None:
        """Remove codes from before a compaction, or of one that was killed.

        Readers keep what they have open.
        """
        present = self._codes_file(sql.meta(connection)["generation"])
        for file in self.location.glob("codes-*.bin"):
            if file != present:
                file.unlink(missing_ok=True)

    def _checked_id_type(self, present: str | None, ids: Iterable[Any]) -> str | None:
        """The type of the keys, "str" or "int"; None if there are none."""
        received = {type(key).__name__ for key in ids}
        allowed = {present} if present else {"int", "str"}
        if len(received) > 1 or not received <= allowed:
            raise ValueError(
                "`ids` must all be str, or all int, as in the store: "
                f"{' or '.join(sorted(allowed))}. Received: {sorted(received)}."
            )
        return received.pop() if received else None

    def _add_columns(
        self,
        connection: sqlite3.Connection,
        meta: dict[str, Any],
        columns: Columns,
        version: int,
    ) -> None:
        present = meta["columns"]
        self._check_columns(present, columns.specification)
        new = [name for name in columns.specification if name not in present]
        for name in new:
            connection.execute(f"ALTER TABLE rows ADD COLUMN {sql.quoted(name)}")
        if new:
            since = meta.get("since", {}) | dict.fromkeys(sorted(new), version)
            sql.set_meta(connection, "since", since)
            sql.set_meta(connection, "columns", {**present, **columns.specification})

    def _check_columns(
        self, present: dict[str, Any], specification: dict[str, Any]
    ) -> None:
        """Check that columns of some types can be added to those that are there."""
        check_names(present, specification)
        count = len({*present, *specification})
        if count > _MOST_COLUMNS:
            raise ValueError(
                f"`columns` must be at most {_MOST_COLUMNS:,} in a store. Received: "
                f"{count:,}, with those that '{self.path}' has."
            )
        for name, kind in specification.items():
            if present.get(name, kind) != kind:
                raise ValueError(
                    f"`columns[{name!r}]` must be of the store's type, "
                    f"{present[name]}. Received: {kind}."
                )

    def _duplicate(
        self, connection: sqlite3.Connection, ids: Sequence[Any], total: int
    ) -> Exception:
        """The error that names a key that is in the store, or twice in `ids`."""
        seen = set()
        for key in ids:
            query = "SELECT 1 FROM rows WHERE id = ? AND removed IS NULL AND row < ?"
            if connection.execute(query, (key, total)).fetchone():
                return not_new(key)
            if key in seen:
                return ValueError(
                    f"`ids` must be distinct. Received: {key!r:.200} twice."
                )
            seen.add(key)
        return sql.Damage(f"it has rows after the last, {total - 1}")

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(f"`path` must be a whole store. '{self.path}': {reason}.")


def _live_values(
    connection: sqlite3.Connection, key: Any, names: Sequence[str]
) -> tuple[Any, ...]:
    """The values of the row that has a key now; None for each if there is no such row.

    They are stored values, copied as they are.
    """
    query = f"SELECT {', '.join(map(sql.quoted, names))} FROM rows WHERE id = ?"
    row = connection.execute(f"{query} AND removed IS NULL", (key,)).fetchone()
    return row or (None,) * len(names)


@contextlib.contextmanager
def _nothing_at(path: pathlib.Path) -> Iterator[None]:
    """Raise FileExistsError if there is something at a path, or soon will be."""
    rule = f"`path` must not exist. Received: '{path}', which does."
    if os.path.lexists(path):
        raise FileExistsError(rule)
    try:
        yield
    except OSError as error:
        # Of two processes that make a folder, the second finds one that is not empty.
        exists = isinstance(error, FileExistsError) or error.errno == errno.ENOTEMPTY
        if exists and os.path.lexists(path):
            raise FileExistsError(rule) from error
        if isinstance(error, FileExistsError):
            raise NotADirectoryError(
                f"`path` must be in a folder. Received: '{path}', in what is none."
            ) from error
        raise


class Snapshot:
    """A store at one version.

    Attributes:
        identity: what decides the codes of all rows.
    """

    def __init__(
        self,
        engine: FolderEngine,
        version: int,
        meta: dict[str, Any],
        codes: npt.NDArray[np.uint8],
        removed: npt.NDArray[np.int64],
        commit: list[tuple[Any, ...]],
    ) -> None:
        self._engine, self._version = engine, version
        self._numbering = _numbering(meta)
        self._codes, self._removed = codes, removed
        self.identity = (self._numbering, commit, removed.tobytes())

    def select(
        self, where: str | None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The packed codes and the numbers of rows; None selects all of them."""
        if where is None:
            if not len(self._removed):
                return self._codes, np.arange(len(self._codes))
            rows = np.delete(np.arange(len(self._codes)), self._removed)
        else:
            with self._reading() as connection:
                rows = self._engine._select(connection, where, self._version)
        return self._codes[rows], rows

    def columns(
        self, rows: npt.NDArray[np.int64], names: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """The key ("id") and metadata of rows, as arrays in the order of `rows`.

        Columns that are not among `names` are not read; None is all of them.
        """
        unique, inverse = np.unique(rows, return_inverse=True)
        values: list[tuple[Any, ...]] = []
        with self._reading() as connection:
            meta = sql.meta(connection)
            since = meta.get("since", {})
            specification = {"id": None} | {
                name: kind
                for name, kind in meta["columns"].items()
                if since.get(name, 0) <= self._version
            }
            kinds = {
                name: specification[name]
                for name in chosen_names(names, [*specification])
            }
            if not kinds:
                return {}
            selected = ", ".join(map(sql.quoted, kinds))
            for start in range(0, len(unique), _MOST_PARAMETERS):
                numbers = unique[start : start + _MOST_PARAMETERS].tolist()
                marks = ", ".join("?" * len(numbers))
                values += connection.execute(
                    f"SELECT {selected} FROM rows WHERE row IN ({marks}) ORDER BY row",
                    numbers,
                )
        if len(values) != len(unique):
            raise self._engine._damaged(f"{len(unique) - len(values)} rows are missing")
        columns = list(zip(*values, strict=True)) or [()] * len(kinds)
        arrays = {}
        for (name, kind), column in zip(kinds.items(), columns, strict=True):
            try:
                arrays[name] = column_values(column, kind)[inverse]
            except (ValueError, TypeError, OverflowError, MemoryError) as error:
                raise self._engine._damaged(
                    f"column {name!r:.100} holds other values than {kind!r:.100}"
                ) from error
        return arrays

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._engine._reading() as connection:
            if _numbering(sql.meta(connection)) != self._numbering:
                raise Compacted
            yield connection


def _numbering(meta: dict[str, Any]) -> tuple[Any, ...]:
    """What decides which rows the numbers of rows stand for."""
    return meta.get("store"), meta["generation"]
