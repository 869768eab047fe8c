"""Files that are written in one piece, and files that must be regular to be read.

What is being written has a hidden name that tells whose it is, ``.NAME.kerashash-X``,
next to the name that it will have. Its writer holds a file lock on it for as long as it
lives, so that the next writer knows which of them are stale, and removes these. Where a
file system or an operating system has no locks, they are stale after a day.
"""

import contextlib
import errno
import hashlib
import io
import math
import os
import pathlib
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

_MARK = "kerashash-"
_OLD = "-old"
_WORK_NAME = re.compile(rf"\.(.+)\.{_MARK}[0-9a-f]{{8}}(?:\.part|{_OLD})?")
# Age at which unlocked files are stale where there are no locks.
_DAY = 24 * 3600.0
# How long a reader waits for the other process that is just replacing a folder.
_PATIENCE = 2.0
#: Numbers of errors of a full disk, a used-up quota, and a limit on the size of files.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What is wrong with a path at which there is a pipe or a device.
NOT_REGULAR = "not a regular file"
# Between two tries to lock a file that another process has locked.
_LOCK_PAUSE = 0.02


def as_path(path: str | os.PathLike[str], argument: str = "path") -> pathlib.Path:
    """Check a path that a user gives, and expand ``~``, the home folder.

    Args:
        path: str or path-like object of str.
        argument: str; the argument to name in an error.

    Returns:
        `pathlib.Path`.

    Raises:
        TypeError: if `path` is no path.
        ValueError: if no file can have it, as with a zero byte, or it names the home
            folder of nobody.

    Example:
        >>> as_path("photos/cat.jpg").name
        'cat.jpg'
        >>> as_path(None, "folder")
        Traceback (most recent call last):
        TypeError: `folder` must be a path, a str. Received: folder=None.
    """
    try:
        return pathlib.Path(path_text(path, argument)).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"`{argument}` must be a path. Received: {argument}={path!r}: {error}"
        ) from error


def path_text(path: str | os.PathLike[str], argument: str) -> str:
    """Check a path that a user gives, and leave it as it is.

    Args:
        path: str or path-like object of str.
        argument: str; the argument to name in an error.

    Returns:
        str.

    Raises:
        TypeError: if `path` is no path.
        ValueError: if no file can have it.

    Example:
        >>> path_text("~/a", "path")
        '~/a'
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    # Neither an integer, which would be an open file, nor bytes.
    if not isinstance(text, str):
        raise TypeError(
            f"`{argument}` must be a path, a str. Received: {argument}={path!r}."
        )
    try:
        # An empty one is a mistake, such as a variable that is not set.
        valid = text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half of a character
        valid = False
    if not valid:
        raise ValueError(
            f"`{argument}` must be a path that a file can have. Received: "
            f"{argument}={path!r}."
        )
    return text


def check_place(path: str | os.PathLike[str], argument: str) -> None:
    """Check that a folder is there or can be made, and that one can write in it.

    Args:
        path: path of the folder, which is not made.
        argument: str; the argument to name in an error.

    Raises:
        TypeError: if `path` is no path.
        ValueError: if there cannot be such a folder, or none can be written in it.

    Example:
        >>> check_place("cache/features", "cache_dir")
    """
    place = as_path(path, argument).absolute()
    # The folder in which the others are to be made.
    folder = next(p for p in (place, *place.parents) if os.path.lexists(p))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"`{argument}` must lie in a folder in which one can write. Received: "
            f"{os.fspath(folder)!r}."
        )


def make_folder(path: str | os.PathLike[str], argument: str) -> None:
    """Make a folder, if it is not there, in which files are to be written later.

    Args:
        path: path of the folder.
        argument: str; the argument to name in an error.

    Raises:
        TypeError: if `path` is no path.
        ValueError: if there cannot be such a folder, or none can be written in it.

    Example:
        >>> make_folder("logs", "log_dir")
    """
    folder = as_path(path, argument)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except OSError as error:
        raise ValueError(
            f"`{argument}` must be a folder in which one can write. Received: "
            f"{argument}={os.fspath(path)!r}: {error}."
        ) from error


def remove_link(path: pathlib.Path) -> None:
    """Remove a symbolic link, before a file of that name is written.

    Files of a cache have names that anyone can know. Written through a link, they would
    replace what it points to.

    Args:
        path: `pathlib.Path`; anything but a link stays.

    Example:
        >>> remove_link(pathlib.Path("no-such-link"))
    """
    if path.is_symlink():
        path.unlink(missing_ok=True)


def open_in_place(path: pathlib.Path) -> io.FileIO:
    """Open a file of a cache to go on writing it; it is made if there is none.

    A symbolic link of that name is replaced, and never written through.

    Args:
        path: `pathlib.Path` of the file.

    Returns:
        Binary file without a buffer, open for reading and writing.

    Raises:
        OSError: if the file cannot be written, or is no regular file.

    Example:
        >>> with open_in_place(pathlib.Path("new.part")) as file:
        ...     file.write(b"half")
        4
    """
    remove_link(path)
    flags = os.O_RDWR | os.O_CREAT
    # Each is there on some systems. A pipe would block without O_NONBLOCK.
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    file = io.FileIO(os.open(path, flags, 0o666), "r+")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} must be a regular file, to be written. It is none.")
    return file


@contextlib.contextmanager
def naming_full(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name a file in the error of a full disk, which names none when it is written.

    Args:
        path: path of what is being written.

    Raises:
        OSError: that of the block.

    Example:
        >>> with naming_full("notes.txt"):
        ...     raise OSError(errno.ENOSPC, "Full")
        Traceback (most recent call last):
        ...
        OSError: [Errno 28] Full: 'notes.txt'
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a file to write to, which replaces `path` at the end of the block.

    If the block fails, or its process is killed, the old file stays as it is. A new
    file has the mode that the umask gives it, one that replaces another keeps the
    other's. A symbolic link stays, and what it points to is replaced.

    Args:
        path: path of the file.

    Yields:
        Binary file, open for writing.

    Raises:
        ValueError: if `path` exists and is not a regular file.
        OSError: if the file cannot be written.

    Example:
        >>> with replacing("greeting.txt") as file:
        ...     _ = file.write(b"hello")
        >>> pathlib.Path("greeting.txt").read_text()
        'hello'
    """
    target, mode = _replaced(path)
    remove_stale(target)
    while True:
        work = _work_path(target, ".part")
        # Not by `tempfile`, whose files are made 0o600: here the umask counts.
        descriptor = os.open(work, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _lock(descriptor) and _is_at(descriptor, work):
            break
        os.close(descriptor)
    try:
        with naming_full(target), open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if mode is not None:
                os.chmod(work, mode)
            if sys.platform != "win32":
                os.replace(work, target)
        if sys.platform == "win32":  # open files cannot be renamed there
            os.replace(work, target)
    except BaseException:
        with contextlib.suppress(OSError):
            work.unlink()
        raise


@contextlib.contextmanager
def replacing_by_name(
    path: str | os.PathLike[str], name: str
) -> Iterator[pathlib.Path]:
    """Yield the path of a file to write, which replaces `path` at the end of the block.

    As `replacing`, for writers that need a name with a certain end, or that put files
    of their own next to the one they write.

    Args:
        path: path of the file.
        name: str; the name that the file has while it is being written.

    Yields:
        `pathlib.Path`.

    Raises:
        ValueError: if `path` exists and is not a regular file.
        OSError: if the file cannot be written.

    Example:
        >>> with replacing_by_name("letter", "work.txt") as work:
        ...     _ = work.write_text("hello")
        >>> pathlib.Path("letter").read_text()
        'hello'
    """
    target, mode = _replaced(path)
    with _work_folder(target) as folder:
        yield folder / name
        _sync(folder)
        if mode is not None:
            os.chmod(folder / name, mode)
        os.replace(folder / name, target)


@contextlib.contextmanager
def staging(target: pathlib.Path, overwrite: bool = True) -> Iterator[pathlib.Path]:
    """Yield an empty folder that becomes `target` at the end of the block.

    If the block fails, or its process is killed, the old folder stays. A folder cannot
    be renamed over another, so there is a moment between two renames at which neither
    is there; `recover` completes a replacement that was killed at that moment.

    Whatever folder `target` is gets replaced: the caller must know that it may be.

    Args:
        target: `pathlib.Path` of the folder.
        overwrite: bool; whether `target` may exist. If not, the block's last step
            raises FileExistsError.

    Yields:
        `pathlib.Path` of the folder to fill.

    Raises:
        ValueError: if `target` is to be replaced, and is a file or a link.
        OSError: if the folder cannot be written.

    Example:
        >>> with staging(pathlib.Path("letters")) as folder:
        ...     _ = (folder / "greeting.txt").write_text("hello")
        >>> pathlib.Path("letters/greeting.txt").read_text()
        'hello'
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    if overwrite:
        _check_folder(target)
    with _work_folder(target) as work:
        yield work
        _sync(work)
        previous = work.with_name(work.name + _OLD)
        if overwrite:
            _check_folder(target)  # again: to fill the new one may have taken long
            with contextlib.suppress(FileNotFoundError):
                os.replace(target, previous)
        elif os.path.lexists(target):
            raise FileExistsError(f"{target} exists.")
        try:
            os.replace(work, target)
        except OSError:
            if previous.exists():
                os.replace(previous, target)
            raise
        shutil.rmtree(previous, ignore_errors=True)


def recover(target: pathlib.Path) -> None:
    """Complete the replacement of a folder whose writer was killed halfway.

    The old folder is put aside only once the new one is complete. So where `target` is
    missing and an old one is aside, the new one takes its place.

    Args:
        target: `pathlib.Path` of the folder that may be missing.

    Example:
        >>> recover(pathlib.Path("no-such-folder"))  # nothing to do
    """
    until = time.monotonic() + _PATIENCE
    # A folder that cannot be read or written, such as an installed one, has no work.
    with contextlib.suppress(OSError):
        while not os.path.lexists(target):
            asides = [path for path in _work_of(target) if path.name.endswith(_OLD)]
            if not asides:
                return
            for aside in asides:
                work = aside.with_name(aside.name.removesuffix(_OLD))
                with _locked(work if work.exists() else aside, wait=False) as locked:
                    if locked and not os.path.lexists(target):
                        os.replace(work if work.exists() else aside, target)
                        shutil.rmtree(aside, ignore_errors=True)
            if time.monotonic() > until:
                return
            time.sleep(0.01)


def recover_all(folder: pathlib.Path) -> None:
    """Complete every halfway replacement in a folder, as `recover`.

    Args:
        folder: `pathlib.Path`.

    Example:
        >>> recover_all(pathlib.Path("."))  # nothing to do
    """
    for aside in folder.glob(f".*.{_MARK}*{_OLD}"):
        match = _WORK_NAME.fullmatch(aside.name)
        if match:
            recover(folder / match[1])


def remove_all_stale(folder: pathlib.Path) -> None:
    """Remove what killed writers have left in a folder, as `remove_stale`.

    Args:
        folder: `pathlib.Path`.

    Example:
        >>> remove_all_stale(pathlib.Path("."))  # nothing to do
    """
    names = (_WORK_NAME.fullmatch(path.name) for path in folder.iterdir())
    for name in {match[1] for match in names if match}:
        remove_stale(folder / name)


def remove_folder(path: pathlib.Path) -> None:
    """Remove a folder at one moment: killed meanwhile, it is there as a whole or not.

    Args:
        path: `pathlib.Path` of the folder.

    Example:
        >>> pathlib.Path("old").mkdir()
        >>> remove_folder(pathlib.Path("old"))
        >>> pathlib.Path("old").exists()
        False
    """
    hidden = _work_path(path, "")
    os.replace(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def remove_stale(target: pathlib.Path) -> None:
    """Remove what killed writers of a file or folder have left next to it.

    Args:
        target: `pathlib.Path` of the file or folder.

    Example:
        >>> remove_stale(pathlib.Path("letters"))
    """
    for path in _work_of(target):
        # Of a replaced folder; its writer holds the lock of the new one, which has
        # taken the place of `target`.
        if path.name.endswith(_OLD) and not os.path.lexists(target):
            continue
        with contextlib.suppress(OSError), _locked(path, wait=False) as locked:
            if not locked:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def lock(descriptor: int, deadline: float) -> bool:
    """Lock an open file until it is closed, once no other process holds its lock.

    The system frees the lock when the process ends, however it does.

    Args:
        descriptor: int; the file descriptor of the open file.
        deadline: float; until when to wait, in seconds of `time.monotonic`. One that
            has passed tries once.

    Returns:
        bool; False where the operating system or the file system has no locks.

    Raises:
        TimeoutError: if another holds the lock at the deadline.

    Example:
        >>> with open("values.csv", "ab") as file:
        ...     locked = lock(file.fileno(), deadline=time.monotonic() + 10.0)
        ...     written = file.write(b"as a whole")
    """
    if sys.platform == "win32":
        return False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks
            return False
        else:
            return True
        if time.monotonic() > deadline:
            raise TimeoutError("Another process holds the lock of the file.")
        time.sleep(_LOCK_PAUSE)


def read_regular(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Read a regular file: a pipe may never begin, and a device never end.

    Args:
        path: path of the file.
        most: int or None; how many bytes it may have. None is any number.

    Returns:
        bytes.

    Raises:
        ValueError: if it is no regular file, or larger.
        OSError: if it cannot be read.

    Example:
        >>> with open("greeting.txt", "w") as file:
        ...     written = file.write("hello")
        >>> read_regular("greeting.txt", most=100)
        b'hello'
    """
    with regular(path) as file:
        content = file.read(-1 if most is None else most + 1)
    if most is not None and len(content) > most:
        raise ValueError(f"{os.fspath(path)} must have at most {most} bytes.")
    return content


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 digest of a regular file.

    Args:
        path: path of the file.

    Returns:
        str of 64 hexadecimal digits.

    Raises:
        ValueError: if it is no regular file.
        OSError: if it cannot be read.

    Example:
        >>> with open("hash.txt", "w") as file:
        ...     written = file.write("hash")
        >>> sha256("hash.txt")[:8]
        'd04b98f4'
    """
    with regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(path: str | os.PathLike[str], flags: int = 0) -> io.BufferedReader:
    """Open a regular file to read, and nothing else.

    A pipe may never begin, and a device such as /dev/zero never end.

    Args:
        path: path.
        flags: int; further flags of `os.open`.

    Returns:
        Binary file, open for reading.

    Raises:
        ValueError: if it is no regular file.
        OSError: if it cannot be opened.

    Example:
        >>> open("notes.txt", "w").close()
        >>> with open_regular("notes.txt") as file:
        ...     file.read()
        b''
    """
    # Not blocking: to open a pipe would wait for its writer. Windows has no such pipes,
    # and files of text.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_RDONLY | flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(
            errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path)
        )
    raise ValueError(NOT_REGULAR)


@contextlib.contextmanager
def regular(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """Open a regular file to read, and close it at the end; an error names it.

    Args:
        path: path of the file.

    Yields:
        Binary file.

    Raises:
        ValueError: if there is something else, as a pipe or a device.
        OSError: if the file cannot be opened.

    Example:
        >>> pathlib.Path("greeting.txt").write_bytes(b"hello")
        5
        >>> with regular("greeting.txt") as file:
        ...     file.read()
        b'hello'
    """
    try:
        file = open_regular(path)
    except ValueError:
        raise ValueError(
            f"{os.fspath(path)} must be a regular file, to be read. It is none."
        ) from None
    with file:
        yield file


def _replaced(path: str | os.PathLike[str]) -> tuple[pathlib.Path, int | None]:
    """The file that a path points to, and its mode; None if there is none yet."""
    name = os.path.expanduser(path_text(path, "path"))
    target = pathlib.Path(os.path.realpath(name))
    if not target.parent.is_dir():
        # By the name that the user gave, not that of the file which takes its place.
        reason = os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, reason, os.fspath(path))
    if not target.exists():
        return target, None
    mode = target.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"`path` must be a file. Received: {os.fspath(path)!r}, which exists and "
            "is none."
        )
    return target, stat.S_IMODE(mode)


def _check_folder(target: pathlib.Path) -> None:
    """Refuse to put a folder in the place of what is none."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ValueError(
            f"{target} must be a folder, to be replaced by one. It is a "
            f"{'link' if target.is_symlink() else 'file'}."
        )


@contextlib.contextmanager
def _work_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a hidden folder next to a file or folder, and remove it at the end."""
    remove_stale(target)
    while True:
        work = _work_path(target, "")
        work.mkdir()
        with _locked(work) as locked:
            if not locked:
                continue
            try:
                with naming_full(target):
                    yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
            return


def _work_path(target: pathlib.Path, suffix: str) -> pathlib.Path:
    """A new hidden name next to a file or folder."""
    return target.with_name(f".{_stem(target)}.{_MARK}{secrets.token_hex(4)}{suffix}")


def _stem(target: pathlib.Path) -> str:
    """The name of a file or folder, short enough to be a part of another name."""
    return os.fsdecode(os.fsencode(target.name)[:200])


def _work_of(target: pathlib.Path) -> list[pathlib.Path]:
    """What writers of a file or folder have next to it."""
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        return [
            target.parent / entry.name
            for entry in entries
            if (match := _WORK_NAME.fullmatch(entry.name)) and match[1] == _stem(target)
        ]
    return []


@contextlib.contextmanager
def _locked(path: pathlib.Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file or folder, and yield whether it has been got, and the
    path is still there."""
    if sys.platform == "win32":
        yield wait or time.time() - path.stat().st_mtime > _DAY
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _lock(descriptor, wait) and _is_at(descriptor, path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: bool = True) -> bool:
    """Lock an open file until it is closed; whether that was possible."""
    try:
        locked = lock(descriptor, math.inf if wait else -math.inf)
    except TimeoutError:
        return False
    # Windows lets nobody remove what another has open.
    return (
        locked
        or wait
        or sys.platform == "win32"
        or time.time() - os.fstat(descriptor).st_mtime > _DAY
    )


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
    """Whether a path is still that of an open file: another may have removed it before
    it was locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sync(folder: pathlib.Path) -> None:
    """Make sure that the files of a folder are on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file, contextlib.suppress(OSError):
                os.fsync(file.fileno())
