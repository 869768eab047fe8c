"""Atomic, verified, resumable downloads of files from a server."""

import contextlib
import hashlib
import http.client
import os
import pathlib
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

if sys.platform != "win32":
    import fcntl

T = TypeVar("T")

_MAX_FAILURES = 4  # in a row, without progress
_FIRST_PAUSE = 0.5  # seconds before the next request, doubled after each failure
_TIMEOUT = 20.0  # seconds
_CHUNK_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 22
_PROGRESS_BYTES = 1 << 24  # files from this size on show their progress
# Without OSError: another request does not cure a full disk.
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


def fetch_file(
    url: str, path: str | os.PathLike[str], sha256: str, size: int
) -> pathlib.Path:
    """Download a file, or what is missing of it.

    Until the file is whole and verified, it is next to `path` under a name that ends in
    .part. Another try or a later call resumes at the end of that, if the server can
    send ranges. On a terminal, the progress of a large file is shown.

    Args:
        url: str.
        path: path of the file to write; its folder is made if it does not exist.
            Nothing is fetched if the file is there and whole.
        sha256: str of 64 hexadecimal digits, of the file's content.
        size: int, the file's size in bytes.

    Returns:
        `pathlib.Path`, `path`.

    Raises:
        ValueError: if the server's file has another size or sha256; nothing is kept.
        FileNotFoundError: if the server has no such file.
        ConnectionError: if the server does not answer or cuts every connection; the
            bytes received are kept.
        OSError: if the file cannot be written.

    Example:
        >>> source = pathlib.Path("source.txt").absolute()
        >>> _ = source.write_bytes(b"hash")
        >>> digest = hashlib.sha256(b"hash").hexdigest()
        >>> fetch_file(source.as_uri(), "copy.txt", digest, size=4).read_bytes()
        b'hash'
    """
    path = pathlib.Path(path)
    if is_whole(path, sha256, size):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named after the content: a part of an older version must not be resumed.
    part = path.with_name(f"{path.name}.{sha256[:8]}.part")
    with _locked(path.parent):
        if is_whole(path, sha256, size):  # another process has just fetched it
            return path
        part.touch()
        try:
            _complete(url, part, sha256, size)
        except ValueError:
            part.unlink()
            raise
        os.replace(part, path)
    return path


def fetch_text(url: str, patient: bool = True) -> bytes:
    """Download the content of a small file.

    Args:
        url: str.
        patient: bool, whether to ask again if the server does not answer.

    Returns:
        bytes.

    Raises:
        ValueError: if the content is longer than 4 MiB.
        FileNotFoundError, ConnectionError: as `fetch_file`.

    Example:
        >>> source = pathlib.Path("source.txt").absolute()
        >>> _ = source.write_bytes(b"hash")
        >>> fetch_text(source.as_uri())
        b'hash'
    """

    def read() -> bytes:
        with _open(url) as response:
            text = response.read(_MAX_TEXT_BYTES + 1)
            if len(text) > _MAX_TEXT_BYTES:
                raise ValueError(
                    f"{url} must have at most {_MAX_TEXT_BYTES} bytes. Received: more."
                )
            if getattr(response, "length", None):  # bytes announced but not received
                raise ConnectionResetError(f"cut after {len(text)} bytes")
            return text

    return _retry(url, read, max_failures=_MAX_FAILURES if patient else 1)


def is_whole(path: pathlib.Path, sha256: str, size: int) -> bool:
    """Whether a file exists and has a given size and sha256.

    Args:
        path: `pathlib.Path` of the file.
        sha256: str of 64 hexadecimal digits.
        size: int, in bytes.

    Returns:
        bool.

    Example:
        >>> is_whole(pathlib.Path("no-such-file"), "0" * 64, size=1)
        False
    """
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Let one process at a time write to a folder, where the system has file locks."""
    with (folder / ".lock").open("a") as stream:
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _complete(url: str, part: pathlib.Path, sha256: str, size: int) -> None:
    """Fetch what is missing of a partial file, and verify the whole."""
    with part.open("r+b") as stream:

        def received_bytes() -> int:
            return stream.seek(0, os.SEEK_END)

        for resumed_at in (received_bytes(), 0):
            _retry(url, lambda: _append(url, stream, size), received_bytes)
            stream.seek(0)
            received = hashlib.file_digest(stream, "sha256").hexdigest()
            if received == sha256:
                return
            if resumed_at:
                # The bytes of an earlier call may be the wrong ones: start again.
                stream.truncate(0)
                continue
            raise ValueError(
                f"{url} must be the file that its card describes, of sha256 {sha256}. "
                f"Received: sha256 {received}. Nothing of it is kept."
            )


def _append(url: str, stream: BinaryIO, size: int) -> None:
    """Make one request for the bytes that are missing at the end of a file."""
    start = stream.seek(0, os.SEEK_END)
    if start > size:
        start = stream.truncate(0)
    if start == size:
        return
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        start = stream.truncate(0)  # the server's file ends before ours does
        response = _open(url)
    with response:
        if getattr(response, "status", None) != 206:
            start = 0  # the server ignores ranges and sends the whole file
            length = response.headers.get("Content-Length")
            if length is not None and int(length) != size:
                raise ValueError(
                    f"{url} must have the {size} bytes that its card states. "
                    f"Received: {length} bytes."
                )
        end = stream.seek(start)
        while chunk := response.read(_CHUNK_BYTES):
            end += len(chunk)
            if end > size:
                raise ValueError(
                    f"{url} must have the {size} bytes that its card states. "
                    f"Received: {end} and more."
                )
            stream.write(chunk)
            if size >= _PROGRESS_BYTES and sys.stderr.isatty():
                _show_progress(url, end, size)
    if end < size:
        raise ConnectionResetError(f"cut after {end} of {size} bytes")


def _show_progress(url: str, received: int, size: int) -> None:
    name = url.rpartition("/")[-1]
    text = f"\rFetching {name}: {received >> 20} of {size >> 20} MiB"
    print(text, end="\n" if received == size else "", file=sys.stderr, flush=True)


def _open(url: str, start: int = 0) -> Any:
    """Send a request; what comes back is a `http.client.HTTPResponse`, or similar."""
    headers = {"User-Agent": "kerashash"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _retry(
    url: str,
    request: Callable[[], T],
    progress: Callable[[], int] = lambda: 0,
    max_failures: int = _MAX_FAILURES,
) -> T:
    """Repeat a request until it succeeds.

    It is given up when it has failed `max_failures` times in a row and `progress`, a
    number of bytes, has not grown meanwhile, or when the server refuses it.
    """
    failures, most_bytes = 0, progress()
    while True:
        try:
            return request()
        except _NETWORK_ERRORS as error:
            code = getattr(error, "code", None)
            if code in (404, 410):
                raise FileNotFoundError(f"{url} does not exist: {error}.") from error
            received = progress()
            failures = 0 if received > most_bytes else failures + 1
            most_bytes = max(most_bytes, received)
            refused = code is not None and code < 500 and code not in (408, 429)
            if refused or failures >= max_failures:
                raise ConnectionError(
                    f"{url} cannot be fetched: {error}. Try again when the server "
                    "answers (a cut download is resumed), or remove the server from "
                    "KERASHASH_ZOO."
                ) from error
            time.sleep(_FIRST_PAUSE * 2 ** max(failures - 1, 0))
