"""Files of the cache: what says of what they are, then content that may be made again.

A file is one line of ASCII that says of which kind it is, a line of JSON with a digest
of the content, and the content.
"""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from kerashash import files


def read(file: pathlib.Path, kind: str) -> tuple[dict[str, Any], bytes] | None:
    """Read a file that `write` wrote.

    Args:
        file: `pathlib.Path`.
        kind: str; as for `write`.

    Returns:
        ``(about, content)``; None if there is no such file, or it is damaged or of
        another kind.

    Example:
        >>> read(pathlib.Path("no-such-file"), "letters 1") is None
        True
    """
    first = kind.encode("ascii") + b"\n"
    try:
        data = file.read_bytes()
    except OSError:
        return None
    head, _, content = data.removeprefix(first).partition(b"\n")
    try:
        about = json.loads(head)
        whole = about["sha256"] == hashlib.sha256(content).hexdigest()
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (about, content) if whole and data.startswith(first) else None


def write(
    file: pathlib.Path, kind: str, about: Mapping[str, Any], content: bytes
) -> None:
    """Write a file, atomically; a disk that is full or not ours is no error.

    Args:
        file: `pathlib.Path`; its folder is made.
        kind: str; what the content is, and its version.
        about: dict that JSON can hold; what is to be known of the content.
        content: bytes.

    Example:
        >>> write(pathlib.Path("a"), "letters 1", {"to": "Ada"}, b"Hello")
        >>> about, content = read(pathlib.Path("a"), "letters 1")
        >>> about["to"], content
        ('Ada', b'Hello')
    """
    about = {**about, "sha256": hashlib.sha256(content).hexdigest()}
    head = kind.encode("ascii") + b"\n" + json.dumps(about).encode() + b"\n"
    # The next call takes as long as if there were no cache.
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        files.remove_link(file)
        with files.replacing(file) as stream:
            stream.write(head + content)
