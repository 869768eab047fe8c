"""Atomic, verified, resumable downloads of files from a server."""

import contextlib
import hashlib
import http.client
import io
import os
import pathlib
import queue
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from kerashash import files
from kerashash.checks import said
from kerashash.notes import note

T = TypeVar("T")

_MAX_FAILURES = 4  # in a row, without progress
_FIRST_PAUSE = 0.5  # seconds before the next request, doubled after each failure
_TIMEOUT = 20.0  # seconds without a byte
# Seconds for a whole download, tries and pauses included: so many, and one for so many
# bytes. A server that sends a byte now and then would hold its caller for ever.
_TOTAL_TIMEOUT = 40.0
_LEAST_BYTES_PER_SECOND = 1 << 15
_CHUNK_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 22
_PROGRESS_BYTES = 1 << 24  # files from this size on show their progress
_MAX_REASON = 300  # characters of an error that is quoted; a server may send any text
# Encodings of an answer that hold other bytes than the file has.
_COMPRESSIONS = ("gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd")
# Without OSError: another request does not cure a full disk.
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


class _TooLateError(TimeoutError):
    """The deadline of a download has passed."""


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
            Nothing is fetched if the file is there and whole. A symbolic link is
            replaced.
        sha256: str of 64 hexadecimal digits, of the file's content.
        size: int, the file's size in bytes.

    Returns:
        `pathlib.Path`, `path`.

    Raises:
        ValueError: if the server's file has another size or sha256, or is sent in a
            compressed form; nothing is kept.
        FileNotFoundError: if the server has no such file.
        ConnectionError: if the server does not answer, cuts every connection or takes
            longer than 40 s and a second for each 32 KiB, or if another process holds
            the folder for so long; the bytes received are kept.
        OSError: if the file cannot be written; the error names it.

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
    deadline = _deadline(size)
    with _locked(path.parent, deadline):
        if is_whole(path, sha256, size):  # another process has just fetched it
            return path
        for place in (path, part):
            make_way(place)
        try:
            with files.naming_full(part):
                _complete(url, part, sha256, size, deadline)
        except ValueError:
            part.unlink(missing_ok=True)
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
        ValueError: if the content is longer than 4 MiB, or sent in a compressed form.
        FileNotFoundError, ConnectionError: as `fetch_file`.

    Example:
        >>> source = pathlib.Path("source.txt").absolute()
        >>> _ = source.write_bytes(b"hash")
        >>> fetch_text(source.as_uri())
        b'hash'
    """
    deadline = _deadline()

    def read() -> bytes:
        with _open(url, deadline) as response:
            text = b""
            while chunk := _chunk(response, _MAX_TEXT_BYTES + 1 - len(text), deadline):
                text += chunk
            if len(text) > _MAX_TEXT_BYTES:
                raise ValueError(
                    f"{url} must have at most {_MAX_TEXT_BYTES} bytes. Received: more."
                )
            if getattr(response, "length", None):  # bytes announced but not received
                raise ConnectionResetError(f"cut after {len(text)} bytes")
            return text

    return _retry(url, read, deadline, max_failures=_MAX_FAILURES if patient else 1)


def is_whole(path: pathlib.Path, sha256: str, size: int, linked: bool = False) -> bool:
    """Whether a file exists and has a given size and sha256.

    Args:
        path: `pathlib.Path` of the file.
        sha256: str of 64 hexadecimal digits.
        size: int, in bytes.
        linked: bool; whether a symbolic link to such a file will do.

    Returns:
        bool.

    Example:
        >>> is_whole(pathlib.Path("no-such-file"), "0" * 64, size=1)
        False
    """
    if not path.is_file() or path.stat().st_size != size:
        return False
    return (linked or not path.is_symlink()) and files.sha256(path) == sha256


def make_way(path: pathlib.Path) -> None:
    """Remove what is in the way of a file of a cache, where nothing is lost by that.

    Args:
        path: `pathlib.Path` of the file to write. A file stays: it can be replaced.

    Raises:
        IsADirectoryError: if there is a folder that is not empty.
        OSError: if it cannot be removed.

    Example:
        >>> pathlib.Path("new.weights.h5").mkdir()
        >>> make_way(pathlib.Path("new.weights.h5"))
        >>> pathlib.Path("new.weights.h5").exists()
        False
    """
    files.remove_link(path)
    if path.is_dir():
        with contextlib.suppress(OSError):
            path.rmdir()
            return
        raise IsADirectoryError(
            f"{path} must be a file, of a cache. It is a folder that holds something: "
            "delete or move it, and try again."
        )
    if path.exists() and not path.is_file():  # a pipe, or a device
        path.unlink()


def _deadline(size: int = 0) -> float:
    """When a download of so many bytes has taken too long, in monotonic seconds."""
    return time.monotonic() + _TOTAL_TIMEOUT + size / _LEAST_BYTES_PER_SECOND


@contextlib.contextmanager
def _locked(folder: pathlib.Path, deadline: float) -> Iterator[None]:
    """Let one process at a time write to a folder, where the system has file locks."""
    make_way(folder / ".lock")
    with files.open_in_place(folder / ".lock") as stream:
        try:
            files.lock(stream.fileno(), deadline)
        except TimeoutError:
            raise ConnectionError(
                f"{folder} is being written to by another process, which has not "
                "ended in time. Try again later."
            ) from None
        yield


def _complete(
    url: str, part: pathlib.Path, sha256: str, size: int, deadline: float
) -> None:
    """Fetch what is missing of a partial file, and verify the whole."""
    with io.BufferedRandom(files.open_in_place(part)) as stream:

        def received_bytes() -> int:
            return stream.seek(0, os.SEEK_END)

        for resumed_at in (received_bytes(), 0):
            _retry(
                url,
                lambda: _append(url, stream, size, deadline),
                deadline,
                received_bytes,
            )
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


def _append(url: str, stream: BinaryIO, size: int, deadline: float) -> None:
    """Make one request for the bytes that are missing at the end of a file."""
    start = stream.seek(0, os.SEEK_END)
    if start > size:
        start = stream.truncate(0)
    if start == size:
        return
    try:
        response = _open(url, deadline, start)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        start = stream.truncate(0)  # the server's file ends before ours does
        response = _open(url, deadline)
    with response:
        if getattr(response, "status", None) != 206:
            start = 0  # the server ignores ranges and sends the whole file
            length = response.headers.get("Content-Length")
            if length is not None and length.strip() != str(size):
                raise ValueError(
                    f"{url} must have the {size} bytes that its card states. "
                    f"Received: {length} bytes."
                )
        end = stream.seek(start)
        while chunk := _chunk(response, _CHUNK_BYTES, deadline):
            whole_mebibytes = end >> 20
            end += len(chunk)
            if end > size:
                raise ValueError(
                    f"{url} must have the {size} bytes that its card states. "
                    f"Received: {end} and more."
                )
            stream.write(chunk)
            shown = end >> 20 > whole_mebibytes or end == size
            if shown and size >= _PROGRESS_BYTES and sys.stderr.isatty():
                _show_progress(url, end, size)
    if end < size:
        raise ConnectionResetError(f"cut after {end} of {size} bytes")


def _show_progress(url: str, received: int, size: int) -> None:
    name = url.rpartition("/")[-1]
    text = f"\rFetching {name}: {received >> 20} of {size >> 20} MiB"
    note(text, end="\n" if received == size else "")


def _open(url: str, deadline: float, start: int = 0) -> Any:
    """Send a request; what comes back is a `http.client.HTTPResponse`, or similar.

    The names of hosts and the headers of an answer may take any time, without a limit
    that the libraries know: a thread waits for them.
    """
    headers = {"User-Agent": "kerashash"}
    if start:
        headers["Range"] = f"bytes={start}-"
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TooLateError("it has taken too long")
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    abandoned = threading.Event()

    def ask() -> None:
        answer: Any
        try:
            request = urllib.request.Request(url, headers=headers)
            answer = urllib.request.urlopen(request, timeout=min(_TIMEOUT, left))
        except BaseException as error:
            answer = error
        answers.put(answer)
        if abandoned.is_set() and hasattr(answer, "close"):
            answer.close()

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=left)
    except queue.Empty:
        abandoned.set()
        raise _TooLateError("it has taken too long to answer") from None
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
    # Of a redirect to what is no address, and the like.
    if isinstance(answer, ValueError) and not isinstance(answer, OSError):
        # Without its traceback, which would keep the connection open.
        raise http.client.InvalidURL(str(answer)) from answer.with_traceback(None)
    if isinstance(answer, BaseException):
        raise answer
    encoding = answer.headers.get("Content-Encoding", "")
    if encoding.strip().lower() in _COMPRESSIONS:
        answer.close()
        raise ValueError(
            f"{url} must be sent as it is: no compression was asked for. "
            f"Received: Content-Encoding: {encoding}."
        )
    return answer


def _chunk(response: Any, size: int, deadline: float) -> bytes:
    """What has come of a response, at most so many bytes; none at its end."""
    if time.monotonic() > deadline:
        raise _TooLateError("it has taken too long")
    # Not `read`, which waits until there are so many.
    read = getattr(response, "read1", response.read)
    chunk: bytes = read(size) if size else b""
    return chunk


def _retry(
    url: str,
    request: Callable[[], T],
    deadline: float,
    progress: Callable[[], int] = lambda: 0,
    max_failures: int = _MAX_FAILURES,
) -> T:
    """Repeat a request until it succeeds.

    It is given up when it has failed `max_failures` times in a row and `progress`, a
    number of bytes, has not grown meanwhile, when the server refuses it, or when the
    deadline has passed.
    """
    failures, most_bytes = 0, progress()
    while True:
        try:
            return request()
        except _NETWORK_ERRORS as error:
            code = getattr(error, "code", None)
            if code in (404, 410):
                raise FileNotFoundError(
                    f"{url} does not exist: {_reason(error)}."
                ) from error
            received = progress()
            failures = 0 if received > most_bytes else failures + 1
            most_bytes = max(most_bytes, received)
            refused = code is not None and code < 500 and code not in (408, 429)
            pause = _FIRST_PAUSE * 2 ** max(failures - 1, 0)
            late = isinstance(error, _TooLateError) or (
                time.monotonic() + pause > deadline
            )
            if refused or late or failures >= max_failures:
                raise ConnectionError(
                    f"{url} cannot be fetched: {_reason(error)}. Try again when the "
                    "server answers (a cut download is resumed), or remove the server "
                    "from KERASHASH_ZOO."
                ) from error
            time.sleep(pause)


def _reason(error: BaseException) -> str:
    """What an error says, in one line: that of a circle of redirects has three."""
    return " ".join(said(error).split())[:_MAX_REASON]
