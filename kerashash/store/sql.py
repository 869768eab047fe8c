"""``rows.sqlite`` of a store in a folder: its tables, and checks of what it holds.

The file may be damaged, or a stranger's: what is read is checked, and nothing is run.
"""

import contextlib
import datetime
import errno
import json
import math
import os
import pathlib
import re
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import said
from kerashash.store.identity import is_identity
from kerashash.store.rows import (
    LAST_MOMENT,
    MOST_BITS,
    in_parentheses,
    is_specification,
)

# How long a writer waits for another one.
_TIMEOUT_SECONDS = 60.0
# What SQLite may have beside its file.
_COMPANIONS = ("-journal", "-wal", "-shm")
# How a journal ends that names a super-journal.
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
# Between so many of its steps, SQLite asks whether to go on.
_STEPS = 1000
# Nothing ends a call of one of SQLite's functions, so those that conditions of
# strangers call get no larger values, and two are refused, which would write 2 GB.
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 20_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
}
_UNLIMITED = ("printf", "format")
# Numbers of rows and versions stay below, so that SQLite can count on.
_MOST = 2**62
TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE versions (
    version INTEGER PRIMARY KEY, time TEXT NOT NULL, rows INTEGER NOT NULL,
    total INTEGER NOT NULL, checksum INTEGER);
CREATE TABLE rows (
    row INTEGER PRIMARY KEY, id NOT NULL, removed INTEGER);
CREATE UNIQUE INDEX live_ids ON rows (id) WHERE removed IS NULL;
CREATE INDEX removed_rows ON rows (removed) WHERE removed IS NOT NULL;
"""
# What can hold a name in double quotes or a word, and those two.
_TOKENS = re.compile(
    r"""'(?:[^']|'')*' | `(?:[^`]|``)*` | \[[^]]*] | --[^\n]* | /\*.*?(?:\*/|\Z)
    | "(?P<name>(?:[^"]|"")*)" | (?P<word>[A-Za-z0-9_$\x80-\U0010ffff]+)""",
    re.DOTALL | re.VERBOSE,
)


def authorize(action: int, table: str | None, name: str | None, *_: Any) -> int:
    """What `sqlite3.Connection.set_authorizer` asks: may the SQL of a user do this?

    It may call functions, and read the rows.
    """
    if action == sqlite3.SQLITE_FUNCTION:
        is_allowed = name not in _UNLIMITED or LAST_MOMENT.get() == math.inf
    else:
        is_allowed = action == sqlite3.SQLITE_SELECT or (
            action == sqlite3.SQLITE_READ and table == "rows"
        )
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


@contextlib.contextmanager
def interruptible(connection: sqlite3.Connection) -> Iterator[None]:
    """Let Ctrl-C end what a connection reads, and `rows.conditions_until` bound it."""
    moment, raised = LAST_MOMENT.get(), list[BaseException]()

    # A generator, in which a signal is raised where it can be caught: in a function, it
    # is before the first line, and SQLite loses it.
    def ticks() -> Iterator[None]:
        try:
            while time.monotonic() < moment:
                yield
            raise TimeoutError("`where` must take less time. It was interrupted.")
        except BaseException as error:
            raised.append(error)

    clock = ticks()
    next(clock, None)  # from here on, it is in its `try`
    limits = {} if moment == math.inf else _LIMITS
    before = {name: connection.setlimit(name, most) for name, most in limits.items()}
    connection.set_progress_handler(clock.__next__, _STEPS)
    try:
        yield
    except sqlite3.OperationalError:
        if raised:
            raise raised[0] from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
        for name, most in before.items():
            connection.setlimit(name, most)


def check_condition(connection: sqlite3.Connection, where: str) -> None:
    """Check that SQL of a user is one condition, which parentheses can hold.

    As the end of a statement it must compile, so that it closes no parenthesis that it
    has not opened; and in parentheses, so that it has no further clauses, and leaves
    no comment open. Names in double quotes must be columns: SQLite takes others for
    text, and a misspelt one would be equal to no value. And there must be no SELECT,
    which would see the rows of all versions.

    Args:
        connection: connection to a store, which is not changed.
        where: str.

    Raises:
        sqlite3.Error, sqlite3.Warning: if it is none.
    """
    for condition in (where, in_parentheses(where)):
        connection.execute(f"EXPLAIN SELECT 1 FROM rows WHERE {condition}")
    columns = connection.execute("SELECT * FROM rows LIMIT 0").description
    known = {_folded(column[0]) for column in columns}
    for token in _TOKENS.finditer(where):
        name = token["name"]
        if name is not None and _folded(name.replace('""', '"')) not in known:
            raise sqlite3.OperationalError(
                f'no such column: "{name}" (text stands in single quotes)'
            )
        if (token["word"] or "").upper() == "SELECT":
            raise sqlite3.OperationalError("it must have no SELECT")


def _folded(name: str) -> bytes:
    """A name as SQLite compares it: the case of ASCII letters does not count."""
    return name.encode().lower()


@contextlib.contextmanager
def connected(file: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """A connection that runs nothing that the file holds; closed at the end.

    The file must be there, if empty: SQLite lets no group write what it makes, whatever
    the umask.
    """
    _check_files(file)
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_TIMEOUT_SECONDS,
        isolation_level=None,
    )
    try:
        # A file of strangers must not run anything, nor mislead SQLite.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        yield connection
    finally:
        connection.close()


def _check_files(file: pathlib.Path) -> None:
    """Refuse what SQLite would follow, wait for, or remove.

    A link leads out of the folder, and who opens a pipe waits for ever. SQLite rolls
    back a journal that a killed writer left, and then removes the super-journal that it
    names, wherever that is. A store is one database, so its own journals name none.
    """
    for path in (file, *(file.with_name(file.name + end) for end in _COMPANIONS)):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(mode):
            raise Damage(f"{path.name} must be a file, and no link")
    journal = file.with_name(file.name + _COMPANIONS[0])
    # Another process may remove its own just now.
    with contextlib.suppress(FileNotFoundError), files.open_regular(journal) as stream:
        stream.seek(max(os.fstat(stream.fileno()).st_size - len(_SUPER_JOURNAL), 0))
        if stream.read() == _SUPER_JOURNAL:
            raise Damage(f"{journal.name} names a super-journal")


@contextlib.contextmanager
def errors_named(path: pathlib.Path) -> Iterator[None]:
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
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_IOERR_WRITE:  # as over a quota, or a limit of sizes
            rule = "The disk does not take what is written; the store is as before"
            raise OSError(errno.EIO, rule, str(path)) from error
        # What is asked of a whole store is right: a table or a column is missing.
        if code == sqlite3.SQLITE_ERROR:
            raise _not_whole(path, error) from error
        raise OSError(f"'{path}' cannot be read or written: {said(error)}.") from error
    # The second, where SQLite quotes damaged text in its message.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _not_whole(path, error) from error


def _not_whole(path: pathlib.Path, error: Exception) -> ValueError:
    return ValueError(f"`path` must be a whole store. '{path}': {said(error)}.")


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


class Damage(sqlite3.DatabaseError):
    """Raised of what SQLite reads without an error, and no store holds."""


def values(
    connection: sqlite3.Connection, query: str, parameters: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return connection.execute(query, parameters).fetchall()


def schema(connection: sqlite3.Connection) -> set[tuple[Any, ...]]:
    """All tables, indices, views and triggers, but for those of SQLite itself."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    # The index of a primary key, and the statistics of ANALYZE.
    return {
        row for row in connection.execute(query) if not str(row[1]).startswith("sqlite")
    }


def expected_schema(columns: Iterable[str]) -> set[tuple[Any, ...]]:
    """The schema of a store with these metadata."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES)
        for name in columns:
            connection.execute(f"ALTER TABLE rows ADD COLUMN {quoted(name)}")
        return schema(connection)


def meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """What is known of the store as a whole, checked."""
    meta = {}
    for name, value in connection.execute("SELECT name, value FROM meta"):
        try:
            meta[name] = json.loads(value)
        except (ValueError, TypeError, RecursionError) as error:
            raise Damage(f"its {name!r:.40} is no JSON") from error
    model, columns = meta.get("model", ""), meta.get("columns")
    since = meta.get("since", {})
    rules = {
        "bits": _is_number(meta.get("bits"), 1, MOST_BITS),
        "generation": _is_number(meta.get("generation"), 0, _MOST),
        # After the key 2^63 - 1 there is no next one.
        "next_id": _is_number(meta.get("next_id"), 0, 2**63),
        "id_type": meta.get("id_type", "") in (None, "int", "str"),
        "model": model is None or is_identity(model, meta.get("bits")),
        "columns": isinstance(columns, dict)
        and all(map(is_specification, columns.values())),
        # Stores of earlier releases have neither.
        "store": isinstance(meta.get("store", ""), str),
        "since": isinstance(since, dict)
        and all(_is_number(version, 0, _MOST) for version in since.values()),
    }
    for name, is_right in rules.items():
        if not is_right:
            raise Damage(f"its {name!r} is {meta.get(name)!r:.100}")
    return meta


def _is_number(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def set_meta(connection: sqlite3.Connection, name: str, value: Any) -> None:
    """Set what is known of the store as a whole, as JSON."""
    connection.execute(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value))
    )


def check_numbers(table: str, *values: Any) -> None:
    """Check that values are what a store counts with."""
    for value in values:
        if not _is_number(value, 0, _MOST):
            raise Damage(f"its {table} hold {value!r:.40}")


def newest(connection: sqlite3.Connection) -> int:
    """The newest version."""
    (version,) = connection.execute("SELECT max(version) FROM versions").fetchone()
    check_numbers("versions", version)
    return int(version)


def counts(connection: sqlite3.Connection, version: int) -> tuple[int, int]:
    """The number of rows of a version, and that of all that were ever added."""
    query = "SELECT rows, total FROM versions WHERE version = ?"
    counts = values(connection, query, (version,))
    if not counts:
        raise Damage(f"version {version} is missing")
    rows, total = counts[0]
    check_numbers("versions", rows, total)
    if rows > total:
        raise Damage(f"version {version} has {rows} of {total} rows")
    return rows, total


def add_version(
    connection: sqlite3.Connection,
    version: int,
    rows: int,
    total: int,
    checksum: int | None,
) -> None:
    """Add a version of now; `checksum` is of the codes it added, None if of none."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    connection.execute(
        "INSERT INTO versions VALUES (?, ?, ?, ?, ?)",
        (version, time, rows, total, checksum),
    )


def row_numbers(
    connection: sqlite3.Connection, query: str, parameters: Sequence[Any], total: int
) -> npt.NDArray[np.int64]:
    """The first column of a query: numbers of rows, which take 8 bytes each."""
    rows = connection.execute(query, parameters)
    numbers = np.fromiter((row[0] for row in rows), np.int64)
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= total):
        raise Damage(f"it has rows {numbers.min()} to {numbers.max()} of {total}")
    return numbers
