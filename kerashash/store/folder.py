"""A store in a folder: codes in one file that only grows, their rows in SQLite.

``rows.sqlite`` holds the key, the metadata and the history of every row, and
``codes-G.bin`` the packed codes in order of row, where G counts compactions. A writer
takes SQLite's lock, appends codes, waits until they are on the disk, and commits the
rows. So codes without rows are the worst that a kill or a full disk can leave; the next
writer overwrites them. Readers map the codes into memory and take no lock for long.
"""

import contextlib
import datetime
import errno
import json
import os
import pathlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.codes import packed_width
from kerashash.store.rows import Columns, Compacted, Version, column_values

_FORMAT = 1
_ROWS = "rows.sqlite"
# How long a writer waits for another one.
_TIMEOUT_SECONDS = 60.0
# SQLite takes at most 32,766 parameters in a statement.
_MOST_PARAMETERS = 10_000
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE versions (
    version INTEGER PRIMARY KEY, time TEXT NOT NULL, rows INTEGER NOT NULL,
    total INTEGER NOT NULL, checksum INTEGER);
CREATE TABLE rows (
    row INTEGER PRIMARY KEY, id NOT NULL, removed INTEGER);
CREATE UNIQUE INDEX live_ids ON rows (id) WHERE removed IS NULL;
CREATE INDEX removed_rows ON rows (removed) WHERE removed IS NOT NULL;
"""
# What the SQL of a user's `where` may do: read.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


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
    """

    def __init__(self, path: pathlib.Path, version: int | None = None) -> None:
        self.path, self._version = path, version
        if not (path / _ROWS).exists():
            if not path.exists():
                raise FileNotFoundError(
                    f"`path` must be a store. Received: '{path}', which does not exist."
                )
            raise ValueError(
                f"`path` must be a store. Received: '{path}', which has no {_ROWS}."
            )
        with self._reading() as connection:
            meta = _meta(connection)
            if meta.get("format") != _FORMAT:
                raise ValueError(
                    f"`path` must be a store of format {_FORMAT}. Received: '{path}', "
                    f"of format {meta.get('format')!r:.40}."
                )
            self.bits, self.model = int(meta["bits"]), meta["model"]
            if version is not None:
                _total(connection, version)

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
        with files.staging(path, overwrite=False) as folder, _errors_named(path):
            (folder / "codes-0.bin").touch()
            with _connected(folder / _ROWS, mode="rwc") as connection:
                connection.executescript(_TABLES)
                values = {"format": _FORMAT, "bits": bits, "model": model}
                values |= {"generation": 0, "columns": {}}
                values |= {"id_type": None, "next_id": 0}
                for name, value in values.items():
                    _set_meta(connection, name, value)
                _add_version(connection, 0, rows=0, total=0, checksum=0)
        return cls(path)

    # ----------------------------------------------------------------- reading

    def versions(self) -> list[Version]:
        """The versions that can be read, oldest first."""
        with self._reading() as connection:
            query = "SELECT version, time, rows FROM versions ORDER BY version"
            return [Version(*values) for values in connection.execute(query)]

    def count(self) -> int:
        """The number of rows."""
        with self._reading() as connection:
            return self._live_rows(connection, self._read_version(connection))

    def snapshot(self) -> "Snapshot":
        """The store as it is now, or at its version."""
        while True:
            with self._reading() as connection:
                version = self._read_version(connection)
                total = _total(connection, version)
                generation = _meta(connection)["generation"]
                removed = _integers(
                    connection,
                    # By the index of the few removed rows, not through all rows.
                    "SELECT row FROM rows INDEXED BY removed_rows "
                    "WHERE removed <= ? AND +row < ? ORDER BY row",
                    (version, total),
                )
            try:
                codes = self._map(generation, total)
            except FileNotFoundError:
                with self._reading() as connection:
                    if _meta(connection)["generation"] == generation:
                        raise self._damaged("its codes are missing") from None
                continue  # compacted since
            return Snapshot(self, version, generation, codes, removed)

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
        """Compare the codes and rows with their checksums.

        Raises:
            ValueError: if the store is damaged.
        """
        with self._reading() as connection:
            (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
            if answer != "ok":
                raise self._damaged(answer)
            generation = _meta(connection)["generation"]
            commits = connection.execute(
                "SELECT total, checksum FROM versions "
                "WHERE checksum IS NOT NULL ORDER BY version"
            ).fetchall()
        codes, start = self._map(generation, commits[-1][0]), 0
        for total, checksum in commits:
            if zlib.crc32(codes[start:total].tobytes()) != checksum:
                raise self._damaged(f"codes {start} to {total - 1} have changed")
            start = total

    # ----------------------------------------------------------------- writing

    def add(
        self,
        codes: npt.NDArray[np.uint8],
        ids: Sequence[Any] | None,
        columns: Columns,
        replace: bool,
    ) -> None:
        """Append rows in one commit.

        Args:
            codes: uint8 array ``(n, width)``.
            ids: n keys, all str or all int; None numbers the rows.
            columns: metadata of the rows.
            replace: bool; True removes rows that have one of the keys, False refuses
                them.

        Raises:
            ValueError: if a key is there already, or a value has the wrong type.
            OSError: if the store cannot be written.
        """
        with self._writing() as connection:
            version, meta = _newest(connection), _meta(connection)
            total = _total(connection, version)
            if ids is None:
                ids = range(meta["next_id"], meta["next_id"] + len(codes))
            self._check_id_type(connection, meta["id_type"], ids)
            if len(ids) and not isinstance(ids[0], str):
                _set_meta(connection, "next_id", max(meta["next_id"], max(ids) + 1))
            rows = self._live_rows(connection, version) + len(codes)
            self._add_columns(connection, meta["columns"], columns)
            if replace:
                rows -= connection.executemany(
                    "UPDATE rows SET removed = ? WHERE id = ? AND removed IS NULL",
                    ((version + 1, key) for key in ids),
                ).rowcount
            self._append(meta["generation"], total, codes)
            names = ["row", "id", *columns.specification]
            statement = (
                f"INSERT INTO rows ({', '.join(map(_quoted, names))}) "
                f"VALUES ({', '.join('?' * len(names))})"
            )
            try:
                connection.executemany(
                    statement,
                    zip(
                        range(total, total + len(codes)),
                        ids,
                        *columns.stored(),
                        strict=True,
                    ),
                )
            except sqlite3.IntegrityError:
                raise self._duplicate(connection, ids, total) from None
            _add_version(
                connection,
                version + 1,
                rows,
                total + len(codes),
                zlib.crc32(codes.tobytes()),
            )

    def delete(self, where: str) -> int:
        """Remove rows that meet an SQL condition, and return how many."""
        with self._writing() as connection:
            version = _newest(connection)
            rows = self._select(connection, where, version)
            if len(rows):
                connection.executemany(
                    "UPDATE rows SET removed = ? WHERE row = ?",
                    ((version + 1, row) for row in rows.tolist()),
                )
                total = _total(connection, version)
                live = self._live_rows(connection, version) - len(rows)
                _add_version(connection, version + 1, live, total, checksum=None)
        return len(rows)

    def compact(self) -> None:
        """Drop removed rows and all older versions."""
        with self._writing() as connection:
            version, meta = _newest(connection), _meta(connection)
            total, generation = _total(connection, version), meta["generation"]
            live = np.ones(total, bool)
            live[
                _integers(connection, "SELECT row FROM rows WHERE removed IS NOT NULL")
            ] = False
            codes = self._map(generation, total)[live]
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
            _add_version(
                connection, version + 1, count, count, zlib.crc32(codes.tobytes())
            )
            _set_meta(connection, "generation", generation + 1)
        with self._writing():
            pass  # removes the old codes

    # ---------------------------------------------------------------- plumbing

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads one state of the rows, and cannot write."""
        # Not with mode "ro": it must roll back what a killed writer left.
        with (
            _errors_named(self.path),
            _connected(self.path / _ROWS) as connection,
        ):
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that holds the lock of writers; commits at the end."""
        if self._version is not None:
            raise ValueError(
                f"A store opened at a version is read-only. Received: '{self.path}', "
                f"version={self._version}."
            )
        if not os.access(self.path, os.W_OK):
            # Before SQLite says "unable to open database file".
            raise PermissionError(
                errno.EACCES, "The store cannot be written", str(self.path)
            )
        with (
            _errors_named(self.path),
            _connected(self.path / _ROWS) as connection,
        ):
            connection.execute("BEGIN IMMEDIATE")
            self._remove_other_codes(connection)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def _live_rows(self, connection: sqlite3.Connection, version: int) -> int:
        query = "SELECT rows FROM versions WHERE version = ?"
        return int(connection.execute(query, (version,)).fetchone()[0])

    def _read_version(self, connection: sqlite3.Connection) -> int:
        return _newest(connection) if self._version is None else self._version

    def _select(
        self, connection: sqlite3.Connection, where: str, version: int
    ) -> npt.NDArray[np.int64]:
        """The rows of a version that meet an SQL condition, in ascending order."""
        total = _total(connection, version)
        if not isinstance(where, str):
            raise TypeError(
                f"`where` must be a str. Received type: {type(where).__name__}."
            )
        connection.set_authorizer(_authorize)
        try:
            return _integers(
                connection,
                "SELECT row FROM rows WHERE row < ? AND (removed IS NULL OR "
                f"removed > ?) AND ({where}) ORDER BY row",
                (total, version),
            )
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise ValueError(
                "`where` must be an SQL condition on the columns of the store. "
                f"Received: {where!r:.200}: {error}."
            ) from error
        finally:
            connection.set_authorizer(None)

    def _codes_file(self, generation: int) -> pathlib.Path:
        return self.path / f"codes-{generation}.bin"

    def _map(self, generation: int, total: int) -> npt.NDArray[np.uint8]:
        """The first codes of the file, mapped into memory: ``(total, width)``."""
        file, width = self._codes_file(generation), packed_width(self.bits)
        if not total:
            return np.zeros((0, width), np.uint8)
        if file.stat().st_size < total * width:
            raise self._damaged(f"{file.name} is too short for its {total} codes")
        return np.memmap(file, np.uint8, "r", shape=(total, width))

    def _append(
        self, generation: int, total: int, codes: npt.NDArray[np.uint8]
    ) -> None:
        """Write codes after the first `total`, and wait until they are on the disk."""
        descriptor = os.open(
            self._codes_file(generation), os.O_RDWR | os.O_CREAT, 0o666
        )
        with open(descriptor, "r+b") as file:
            file.seek(total * packed_width(self.bits))
            file.write(codes.tobytes())
            file.flush()
            os.fsync(file.fileno())

    def _remove_other_codes(self, connection: sqlite3.Connection) -> None:
        """Remove codes from before a compaction, or of one that was killed.

        Readers keep what they have open.
        """
        present = self._codes_file(_meta(connection)["generation"])
        for file in self.path.glob("codes-*.bin"):
            if file != present:
                file.unlink(missing_ok=True)

    def _check_id_type(
        self, connection: sqlite3.Connection, present: str | None, ids: Iterable[Any]
    ) -> None:
        received = {type(key).__name__ for key in ids}
        allowed = {present} if present else {"int", "str"}
        if len(received) > 1 or not received <= allowed:
            raise ValueError(
                "`ids` must all be str, or all int, as in the store: "
                f"{' or '.join(sorted(allowed))}. Received: {sorted(received)}."
            )
        if received and not present:
            _set_meta(connection, "id_type", received.pop())

    def _add_columns(
        self,
        connection: sqlite3.Connection,
        present: dict[str, Any],
        columns: Columns,
    ) -> None:
        for name, specification in columns.specification.items():
            if name not in present:
                connection.execute(f"ALTER TABLE rows ADD COLUMN {_quoted(name)}")
            elif present[name] != specification:
                raise ValueError(
                    f"`columns[{name!r}]` must be of the store's type, "
                    f"{present[name]}. Received: {specification}."
                )
        if not columns.specification.keys() <= present.keys():
            _set_meta(connection, "columns", {**present, **columns.specification})

    def _duplicate(
        self, connection: sqlite3.Connection, ids: Sequence[Any], total: int
    ) -> ValueError:
        """The error that names a key that is in the store, or twice in `ids`."""
        seen = set()
        for key in ids:
            query = "SELECT 1 FROM rows WHERE id = ? AND removed IS NULL AND row < ?"
            if connection.execute(query, (key, total)).fetchone():
                return ValueError(
                    "`ids` must be new to the store; `upsert` replaces rows. Received: "
                    f"{key!r:.200}, which is there."
                )
            if key in seen:
                break
            seen.add(key)
        return ValueError(f"`ids` must be distinct. Received: {key!r:.200} twice.")

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(f"`path` must be a whole store. '{self.path}': {reason}.")


class Snapshot:
    """A store at one version.

    Attributes:
        identity: what decides the codes of all rows.
    """

    def __init__(
        self,
        engine: FolderEngine,
        version: int,
        generation: int,
        codes: npt.NDArray[np.uint8],
        removed: npt.NDArray[np.int64],
    ) -> None:
        self._engine, self._version, self._generation = engine, version, generation
        self._codes, self._removed = codes, removed
        self.identity = (generation, len(codes), removed.tobytes())

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

    def columns(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """The key ("id") and metadata of rows, as arrays in the order of `rows`."""
        unique, inverse = np.unique(rows, return_inverse=True)
        values: list[tuple[Any, ...]] = []
        with self._reading() as connection:
            specification = {"id": None, **_meta(connection)["columns"]}
            selected = ", ".join(_quoted(name) for name in specification)
            for start in range(0, len(unique), _MOST_PARAMETERS):
                numbers = unique[start : start + _MOST_PARAMETERS].tolist()
                marks = ", ".join("?" * len(numbers))
                values += connection.execute(
                    f"SELECT {selected} FROM rows WHERE row IN ({marks}) ORDER BY row",
                    numbers,
                )
        columns = list(zip(*values, strict=True)) or [()] * len(specification)
        return {
            name: column_values(column, kind)[inverse]
            for (name, kind), column in zip(specification.items(), columns, strict=True)
        }

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._engine._reading() as connection:
            if _meta(connection)["generation"] != self._generation:
                raise Compacted
            yield connection


def _authorize(action: int, *_: Any) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


@contextlib.contextmanager
def _connected(file: pathlib.Path, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_TIMEOUT_SECONDS,
        isolation_level=None,
    )
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _errors_named(path: pathlib.Path) -> Iterator[None]:
    """Turn SQLite's errors into Python's, which name the store."""
    try:
        yield
    except sqlite3.OperationalError as error:
        message = str(error)
        if "disk is full" in message:
            raise OSError(
                errno.ENOSPC, "The disk is full; the store is as before", str(path)
            ) from error
        if "readonly" in message:
            rule = "The store cannot be written"
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
                rule += ", and what a killed writer left must be rolled back"
            raise PermissionError(errno.EACCES, rule, str(path)) from error
        if "locked" in message:
            raise TimeoutError(
                f"'{path}' has been written by another process for more than "
                f"{_TIMEOUT_SECONDS:.0f} s."
            ) from error
        raise OSError(f"'{path}' cannot be read or written: {message}.") from error
    except sqlite3.DatabaseError as error:
        raise ValueError(f"`path` must be a whole store. '{path}': {error}.") from error


def _quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _meta(connection: sqlite3.Connection) -> dict[str, Any]:
    rows = connection.execute("SELECT name, value FROM meta")
    return {name: json.loads(value) for name, value in rows}


def _set_meta(connection: sqlite3.Connection, name: str, value: Any) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value))
    )


def _newest(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("SELECT max(version) FROM versions").fetchone()
    return int(version)


def _total(connection: sqlite3.Connection, version: int) -> int:
    """The number of rows ever added up to a version."""
    row = connection.execute(
        "SELECT total FROM versions WHERE version = ?", (version,)
    ).fetchone()
    if row is None:
        raise ValueError(
            "`version` must be one of `versions`, which `compact` drops. Received: "
            f"{version!r}."
        )
    return int(row[0])


def _add_version(
    connection: sqlite3.Connection,
    version: int,
    rows: int,
    total: int,
    checksum: int | None,
) -> None:
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    connection.execute(
        "INSERT INTO versions VALUES (?, ?, ?, ?, ?)",
        (version, time, rows, total, checksum),
    )


def _integers(
    connection: sqlite3.Connection, query: str, parameters: Sequence[Any] = ()
) -> npt.NDArray[np.int64]:
    """The first column of a query's rows, which takes 8 bytes a row."""
    rows = connection.execute(query, parameters)
    return np.fromiter((row[0] for row in rows), np.int64)
