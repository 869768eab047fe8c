"""Files from a server: whole or not at all, checked, gone on with after a cut."""

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

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_TRIES, _PAUSE, _TIMEOUT = 4, 0.5, 20.0  # the latter two in seconds
# Bytes of a piece, of the longest text, of a file whose progress is shown.
_CHUNK, _LONGEST, _LARGE = 1 << 20, 1 << 22, 1 << 24
# Not OSError: a full disk is not cured by another request.
_BROKEN = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


def fetch_file(url, path, sha256, size):
    """Fetch one file, or what is missing of it.

    Until it is whole and checked it is beside `path`, in a file ending in .part: where
    that ends, another try or a later call goes on, if the server can. A terminal shows
    how much of a large file has come.

    Args:
        url: str.
        path: path of the file to write, in a folder that is made if it is not there.
            Nothing is fetched if the file is there and whole.
        sha256: str of 64 hexadecimal digits, of the file's content.
        size: int, bytes of the file.

    Returns:
        `pathlib.Path`, `path`.

    Raises:
        ValueError: if the server's file has another size or sha256; nothing is kept.
        FileNotFoundError: if the server has no such file.
        ConnectionError: if it does not answer or cuts every connection; what has come
            is kept.
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
    # Named by the content: no part of an older version is gone on with.
    part = path.with_name(f"{path.name}.{sha256[:8]}.part")
    with _alone(path.parent):
        if is_whole(path, sha256, size):  # another process has fetched it meanwhile
            return path
        part.touch()
        try:
            _complete(url, part, sha256, size)
        except ValueError:
            part.unlink()
            raise
        os.replace(part, path)
    return path


def fetch_text(url, patient=True):
    """The content of a small file.

    Args:
        url: str.
        patient: bool, whether to ask again if the server does not answer.

    Returns:
        bytes.

    Raises:
        ValueError: if it is longer than 4 MiB.
        FileNotFoundError, ConnectionError: as `fetch_file`.
    """

    def request():
        with _open(url) as response:
            text = response.read(_LONGEST + 1)
            if len(text) > _LONGEST:
                raise ValueError(
                    f"{url} must have at most {_LONGEST} bytes. Received: more."
                )
            if getattr(response, "length", None):  # announced, and not come
                raise ConnectionResetError(f"cut after {len(text)} bytes")
            return text

    return _try(url, request, _TRIES if patient else 1)


def is_whole(path, sha256, size):
    """Whether a file is there, of that size and sha256."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


@contextlib.contextmanager
def _alone(folder):
    """One process at a time writes to a folder, where the system has such locks."""
    with (folder / ".lock").open("a") as stream:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _complete(url, part, sha256, size):
    with part.open("r+b") as stream:

        def there():
            return stream.seek(0, os.SEEK_END)

        for kept in (there(), 0):
            _try(url, lambda: _append(url, stream, size), _TRIES, there)
            stream.seek(0)
            received = hashlib.file_digest(stream, "sha256").hexdigest()
            if received == sha256:
                return
            if kept:
                stream.truncate(0)  # What was kept may be at fault: all of it again.
                continue
            raise ValueError(
                f"{url} must be the file that its card describes, of sha256 {sha256}. "
                f"Received: sha256 {received}. Nothing of it is kept."
            )


def _append(url, stream, size):
    """One request for the bytes that are missing at the end of a file."""
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
            start = 0  # all of it comes again
            length = response.headers.get("Content-Length")
            if length is not None and int(length) != size:
                raise ValueError(
                    f"{url} must have the {size} bytes that its card states. "
                    f"Received: {length} bytes."
                )
        there = stream.seek(start)
        while chunk := response.read(_CHUNK):
            there += len(chunk)
            if there > size:
                raise ValueError(
                    f"{url} must have the {size} bytes that its card states. "
                    f"Received: {there} and more."
                )
            stream.write(chunk)
            if size >= _LARGE and sys.stderr.isatty():
                _show(url, there, size)
    if there < size:
        raise ConnectionResetError(f"cut after {there} of {size} bytes")


def _show(url, there, size):
    name = url.rpartition("/")[-1]
    text = f"\rFetching {name}: {there >> 20} of {size >> 20} MiB"
    print(text, end="\n" if there == size else "", file=sys.stderr, flush=True)


def _open(url, start=0):
    headers = {"User-Agent": "kerashash"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _try(url, function, tries, progress=lambda: 0):
    """Call until it succeeds or has failed `tries` times in a row without progress."""
    failed, best = 0, progress()
    while True:
        try:
            return function()
        except _BROKEN as error:
            code = getattr(error, "code", None)
            if code in (404, 410):
                raise FileNotFoundError(f"{url} does not exist: {error}.") from error
            there = progress()
            failed = 0 if there > best else failed + 1
            best = max(best, there)
            refused = code is not None and code < 500 and code not in (408, 429)
            if refused or failed >= tries:
                raise ConnectionError(
                    f"{url} cannot be fetched: {error}. Try again when the server "
                    "answers, which goes on where this ended, or take it out of "
                    "KERASHASH_ZOO."
                ) from error
            time.sleep(_PAUSE * 2 ** max(failed - 1, 0))
