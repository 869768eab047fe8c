"""Image files by folder, pattern or name."""

import contextlib
import errno
import fnmatch
import glob
import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kerashash.data.image_reading import SUFFIXES, name_fault, printable
from kerashash.files import NOT_REGULAR

# What a store keeps of a time: 64 bits, to the year 2262. File systems go further.
_TIMES = (-(2**63), 2**63 - 1)
# Errors where there is nothing at a path. The last is that of Windows for a pattern.
_NOTHING = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
)


class ImageFile(NamedTuple):
    """An image file, as it was when it was found.

    Attributes:
        path: str; the absolute path.
        size: int; bytes.
        mtime: int of 64 bits; when its content last changed, in nanoseconds since 1970.
            A time after 2262, or before 1677, is the last or first of these.
    """

    path: str
    size: int
    mtime: int


def find_images(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> tuple[list[ImageFile], dict[str, str]]:
    """Find image files, each once.

    Args:
        paths: path, or iterable of paths. Of a folder, its image files at any depth
            count, but hidden files and folders do not. A pattern such as
            ``"photos/**/*.jpg"`` stands for what it matches. A file that is named
            counts, whatever its suffix. Links to folders are followed if they are
            named, not in a folder nor where a pattern matches them.

    Returns:
        ``(files, faults)``: a list of `ImageFile`, in order of `paths` and, within a
        folder or pattern, of name; and a dict of reasons by path, of files that cannot
        be looked at or stored.

    Raises:
        TypeError: if a path is none.
        ValueError: if there is nothing at a path, or a pattern matches nothing.
        OSError: if a folder cannot be listed, as its path is too long, for one.

    Example:
        >>> for name in ("b.png", "a.jpg", "notes.txt", ".hidden.png"):
        ...     open(name, "w").close()
        >>> files, faults = find_images(".")
        >>> [os.path.basename(file.path) for file in files], faults
        (['a.jpg', 'b.png'], {})
    """
    files: dict[str, ImageFile] = {}
    faults: dict[str, str] = {}
    absolute: dict[str, str] = {}  # of folders, each looked at once
    for path in image_paths(paths):
        folder, name = os.path.split(path)
        if folder not in absolute:
            absolute[folder] = _absolute(folder)
        path = os.path.join(absolute[folder], name)
        if path in files:
            continue
        fault = name_fault(path)
        if fault:
            faults[printable(path)] = fault
            continue
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(NOT_REGULAR)
            time = min(max(status.st_mtime_ns, _TIMES[0]), _TIMES[1])
            files[path] = ImageFile(path, status.st_size, time)
        except (OSError, ValueError) as error:
            faults[path] = getattr(error, "strerror", None) or str(error)
    return [*files.values()], faults


def image_paths(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    argument: str = "paths",
) -> Iterator[str]:
    """Go through the paths of image files, those of folders and patterns among them.

    Args:
        paths: as for `find_images`.
        argument: str; what errors call it.

    Yields:
        str; in the order of `find_images`, which gives the same files, but twice those
        that two of the paths lead to.

    Raises:
        TypeError, ValueError, OSError: as for `find_images`.

    Example:
        >>> for name in ("b.png", "a.jpg", "notes.txt"):
        ...     open(name, "w").close()
        >>> [os.path.basename(path) for path in image_paths("*")]
        ['a.jpg', 'b.png']
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not isinstance(paths, Iterable):
        raise TypeError(
            f"`{argument}` must be a path, or hold paths. Received type: "
            f"{type(paths).__name__}."
        )
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"`{argument}` must hold paths. Received type: {type(path).__name__}."
            )
        name = os.path.expanduser(os.fspath(path))
        if "://" in name:
            raise ValueError(
                f"`{argument}` must be on a file system, not at a URL. Received: "
                f"{name!r}."
            )
        mode = _mode(name)
        if stat.S_ISDIR(mode):
            yield from _images_in(name)
        elif mode:
            yield name
        elif glob.has_magic(name):
            matches = _matching(name)
            if not matches:
                raise ValueError(
                    f"`{argument}` must match files. Received: {name!r}, which matches "
                    "none."
                )
            # Once, though a folder and its files may both match.
            yield from dict.fromkeys(
                image
                for match in sorted(matches)
                for image in (_images_in(match) if matches[match] else [match])
                if image.lower().endswith(SUFFIXES)
            )
        else:
            raise ValueError(
                f"`{argument}` must be folders, files or patterns. Received: "
                f"{name!r}, where there is nothing."
            )


def walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Go through a folder and those in it, at any depth, but for hidden ones.

    As `os.walk`, which passes over folders that cannot be listed and, in Python 3.11,
    fails below a thousand others.

    Args:
        folder: str.

    Yields:
        ``(parent, names, links)``: the path of a folder; the names of what is in it and
        no folder; and those of links to folders, which are not followed. All in order
        of name, and without hidden ones.

    Raises:
        OSError: if a folder cannot be listed.

    Example:
        >>> os.makedirs("pets/cat")
        >>> open("pets/cat/0.png", "w").close()
        >>> for parent, names, links in walk("pets"):
        ...     print(parent, names, links)
        pets [] []
        pets/cat ['0.png'] []
    """
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        links: list[str] = []
        for name, is_folder, is_link in _listed(parent):
            if is_hidden(name):
                continue
            kind = names if not is_folder else links if is_link else folders
            kind.append(name)
        yield parent, names, links
        waiting += [os.path.join(parent, name) for name in reversed(folders)]


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is not meant to be seen.

    Args:
        name: str; its own name, without folders.

    Returns:
        bool.

    Example:
        >>> is_hidden(".git"), is_hidden("cat")
        (True, False)
    """
    # `__MACOSX` holds the resource forks of archives that macOS has packed.
    return name.startswith(".") or name == "__MACOSX"


def _matching(pattern: str) -> dict[str, bool]:
    """Paths that a pattern matches, and whether each is a folder; in no order.

    `glob.glob` follows links to folders, in circles too, and passes over folders that
    cannot be listed. Here, those links are followed that the pattern names.
    """
    drive, rest = os.path.splitdrive(pattern)
    parts = rest.replace(os.altsep or os.sep, os.sep).split(os.sep)
    # Not "": what is called "~" in the current folder is no home folder.
    start = drive + os.sep if rest.startswith(os.sep) else drive or os.curdir
    matches = {start: True}
    for part in filter(None, parts):
        matches = {
            path: is_folder
            for folder in matches
            if matches[folder]
            for path, is_folder in _matching_in(folder, part)
        }
    return matches


def _matching_in(folder: str, part: str) -> Iterator[tuple[str, bool]]:
    """What a part of a pattern matches in a folder."""
    if part == "**":
        for parent, _, _ in walk(folder):
            yield parent, True
    elif glob.has_magic(part):
        for name, is_folder, is_link in _listed(folder):
            is_shown = part.startswith(".") or not name.startswith(".")
            if is_shown and not (is_folder and is_link) and fnmatch.fnmatch(name, part):
                yield os.path.join(folder, name), is_folder
    else:
        path = os.path.join(folder, part)
        mode = _mode(path)
        if mode:
            yield path, stat.S_ISDIR(mode)


def _images_in(folder: str) -> Iterator[str]:
    """Paths of the images in a folder, in order of name."""
    for parent, names, _ in walk(folder):
        for name in names:
            if name.lower().endswith(SUFFIXES):
                yield os.path.join(parent, name)


def _listed(folder: str) -> list[tuple[str, bool, bool]]:
    """What is in a folder, in order: names, whether folders, and whether links."""
    listed = []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_link = entry.is_symlink()
            try:
                is_folder = entry.is_dir()
            except OSError:
                if not is_link:
                    raise
                is_folder = False  # a link that leads nowhere, or in a circle
            listed.append((entry.name, is_folder, is_link))
    return sorted(listed)


def _mode(path: str) -> int:
    """The mode of what is at a path, or of a link that leads nowhere; 0 for nothing.

    `os.path.isdir` says no of a folder that cannot be looked at.
    """
    mode = 0
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            mode = os.stat(path).st_mode
    except ValueError:  # a zero byte is in no name
        pass
    except OSError as error:
        # Of what bears the name of an image, `find_images` says what is wrong.
        is_image = mode and path.lower().endswith(SUFFIXES)
        if error.errno not in _NOTHING and not is_image:
            raise
    return mode


def _absolute(folder: str) -> str:
    """The absolute path of a folder, or of the current one.

    `os.path.abspath` cuts out what stands before `..`. That may be a link, behind which
    `..` is another folder.
    """
    absolute = os.path.abspath(folder)
    with contextlib.suppress(OSError):
        if os.path.samefile(folder or os.curdir, absolute):
            return absolute
    return os.path.realpath(folder)
