"""Files of the cache: what says of what they are, then content that may be made again.

A file is one line of ASCII that says of which kind it is, a line of JSON with a digest
of all that follows and of itself, and the content.
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
        data = files.read_regular(file)
    except (OSError, ValueError):
        return None
    head, _, content = data.removeprefix(first).partition(b"\n")
    try:
        about = json.loads(head)
        whole = about.pop("sha256") == _digest(about, content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
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
    signed = {**about, "sha256": _digest(about, content)}
    head = kind.encode("ascii") + b"\n" + json.dumps(signed).encode() + b"\n"
    # The next call takes as long as if there were no cache.
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        files.remove_link(file)
        with files.replacing(file) as stream:
            stream.write(head + content)


def _digest(about: Mapping[str, Any], content: bytes) -> str:
    """Of all that a file says. Numbers and text come back from JSON as they were."""
    text = json.dumps(about, sort_keys=True).encode()
    return hashlib.sha256(text + b"\n" + content).hexdigest()
