"""The files of a LanceDB table in a folder, checked before LanceDB opens them.

LanceDB waits for ever for what a pipe says, follows links out of the folder, and does
not say that its newest version is missing. And where a damaged file of removed rows
names a size that no memory has, it ends the whole process, which no ``except`` meets.

Those files are in Arrow's IPC format. A footer, which is a FlatBuffer, says where the
batches of rows are; a message, another FlatBuffer, says where the buffers of a batch
are; and a compressed buffer begins with its size.
"""

import contextlib
import json
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import Any

from kerashash import files

#: Where LanceDB writes the number of the newest version, in the folder of a table.
NEWEST = "_versions/latest_version_hint.json"
# The footer ends with its size and "ARROW1".
_END = 10
# Such a file has the numbers of 5,000 removed rows at most, of 4 bytes each. Of more,
# LanceDB makes a bitmap, and can read a damaged one without harm.
_MOST_BYTES = 1 << 24
# Fields of a footer, a message and a batch, by their numbers in Arrow's schemas.
_BATCHES, _HEADER, _BUFFERS, _COMPRESSION = 3, 2, 2, 3


def check_files(table: pathlib.Path) -> None:
    """Check that a folder holds files and folders alone, and what no `except` meets.

    Args:
        table: `pathlib.Path` of the folder. There may be none.

    Raises:
        ValueError: if something is neither a file nor a folder, or a file of removed
            rows names a size that it cannot have.
        OSError: if a folder or file cannot be read.
    """
    if not os.path.lexists(table):
        return
    if table.is_symlink() or not table.is_dir():
        raise ValueError(f"{table.name} must be a folder, and no link")
    for entry in _entries(table):
        wrong = None
        if not entry.is_file(follow_symlinks=False):
            # Or a compaction of another process has removed it just now.
            if os.path.lexists(entry):
                wrong = "must be a file, and no link"
        elif entry.name.endswith(".arrow"):
            with contextlib.suppress(FileNotFoundError):
                if not _has_room(files.read_regular(entry, _MOST_BYTES)):
                    wrong = "is damaged: it names a size that it cannot have"
        if wrong:
            raise ValueError(f"{os.path.relpath(entry, table.parent)} {wrong}")


def last_version(table: pathlib.Path) -> int:
    """The number of a version that was committed; most often, of the last one.

    LanceDB writes it after a commit, and needs it on object storage alone.

    Args:
        table: `pathlib.Path` of the folder.

    Returns:
        int; 0 if it is not known.
    """
    hint: Any = None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        hint = json.loads(files.read_regular(table / NEWEST, most=100))
    version = hint.get("version") if isinstance(hint, dict) else None
    return version if type(version) is int else 0


def _entries(folder: pathlib.Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder and in those that it holds, the folders left out."""
    folders = [os.fspath(folder)]
    while folders:
        # A compaction of another process may remove one just now.
        with (
            contextlib.suppress(FileNotFoundError),
            os.scandir(folders.pop()) as entries,
        ):
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield entry


def _has_room(content: bytes) -> bool:
    """Whether a file of Arrow names no size that is larger than it can be.

    One that cannot be read is left to LanceDB, which refuses it if it needs it.
    """
    with contextlib.suppress(struct.error, OverflowError):
        return all(size <= most for size, most in _sizes(content))
    return True


def _sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """The sizes that a file of Arrow names, and the most that each can be."""
    (length,) = struct.unpack_from("<i", content, len(content) - _END)
    footer = _pointed(content, len(content) - _END - length)
    for start, head, body in _structs(content, footer, _BATCHES, "<qi4xq"):
        yield head + body, len(content)
        # After its own size, and four bytes before that which old files do not have.
        marked = content[start : start + 4] == b"\xff" * 4
        message = _pointed(content, start + (8 if marked else 4))
        batch = _pointed(content, _field(content, message, _HEADER))
        if not _field(content, batch, _COMPRESSION):
            continue
        for place, length in _structs(content, batch, _BUFFERS, "<qq"):
            if length:
                (size,) = struct.unpack_from("<q", content, start + head + place)
                yield size, _MOST_BYTES


def _structs(
    content: bytes, table: int, number: int, form: str
) -> Iterator[tuple[int, ...]]:
    """The structs of a vector, which is a field of a table of a FlatBuffer."""
    field = _field(content, table, number)
    if field:
        vector = _pointed(content, field)
        (count,) = struct.unpack_from("<I", content, vector)
        for index in range(count):
            place = vector + 4 + index * struct.calcsize(form)
            yield struct.unpack_from(form, content, place)


def _field(content: bytes, table: int, number: int) -> int:
    """The place of a field of a table of a FlatBuffer; 0 if the table lacks it."""
    places = table - struct.unpack_from("<i", content, table)[0]
    (size,) = struct.unpack_from("<H", content, places)
    if size < 6 + 2 * number:
        return 0
    (place,) = struct.unpack_from("<H", content, places + 4 + 2 * number)
    return table + place if place else 0


def _pointed(content: bytes, place: int) -> int:
    """The place to which an offset in a FlatBuffer points."""
    (offset,) = struct.unpack_from("<I", content, place)
    return place + int(offset)
