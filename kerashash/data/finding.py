"""Image files by folder, pattern or name."""

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kerashash.data.directory import is_hidden
from kerashash.data.image_reading import NOT_REGULAR, SUFFIXES, printable


class ImageFile(NamedTuple):
    """An image file, as it was when it was found.

    Attributes:
        path: str; the absolute path.
        size: int; bytes.
        mtime: int; when its content last changed, in nanoseconds since 1970.
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
        OSError: if a folder cannot be listed.

    Example:
        >>> for name in ("b.png", "a.jpg", "notes.txt", ".hidden.png"):
        ...     open(name, "w").close()
        >>> files, faults = find_images(".")
        >>> [os.path.basename(file.path) for file in files], faults
        (['a.jpg', 'b.png'], {})
    """
    files: dict[str, ImageFile] = {}
    faults: dict[str, str] = {}
    for path in image_paths(paths):
        path = os.path.abspath(path)
        if path in files:
            continue
        try:
            if printable(path) != path:
                raise ValueError("a name that is not UTF-8")
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(NOT_REGULAR)
            files[path] = ImageFile(path, status.st_size, status.st_mtime_ns)
        except (OSError, ValueError) as error:
            faults[printable(path)] = getattr(error, "strerror", None) or str(error)
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
        if os.path.isdir(name):
            yield from _images_in(name)
        elif os.path.lexists(name):
            yield name
        elif glob.has_magic(name):
            matches = sorted({*_matching(name)})
            if not matches:
                raise ValueError(
                    f"`{argument}` must match files. Received: {name!r}, which matches "
                    "none."
                )
            # Once, though a folder and its files may both match.
            yield from dict.fromkeys(
                image for match in matches for image in _images_at(match)
            )
        else:
            raise ValueError(
                f"`{argument}` must be folders, files or patterns. Received: "
                f"{printable(name)!r}, where there is nothing."
            )


def _matching(pattern: str) -> Iterator[str]:
    """Paths that a pattern matches, in no order.

    `glob.glob` follows links to folders, in circles too. Here, those are followed that
    the pattern names.
    """
    drive, rest = os.path.splitdrive(pattern)
    parts = rest.replace(os.altsep or os.sep, os.sep).split(os.sep)
    start = drive + os.sep if rest.startswith(os.sep) else drive
    return _matching_in(start, [part for part in parts if part])


def _matching_in(folder: str, parts: list[str]) -> Iterator[str]:
    """Paths in a folder, or in the current one, that the parts of a pattern match."""
    part, *rest = parts
    if part == "**":
        for parent, _, _ in _walk(folder or os.curdir):
            yield from _matching_in(parent, rest) if rest else [parent]
        return
    for name in glob.glob(part, root_dir=folder or None):
        path = os.path.join(folder, name)
        if glob.has_magic(part) and os.path.islink(path) and os.path.isdir(path):
            continue
        if not rest:
            yield path
        elif os.path.isdir(path):
            yield from _matching_in(path, rest)


def _images_at(path: str) -> Iterator[str]:
    """What there is of images at a path that a pattern matches."""
    if os.path.isdir(path):
        yield from _images_in(path)
    elif path.lower().endswith(SUFFIXES):
        yield path


def _images_in(folder: str) -> Iterator[str]:
    """Paths of the images in a folder, in order of name."""
    for parent, _, names in _walk(folder):
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not is_hidden(name):
                yield os.path.join(parent, name)


def _walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """A folder and those in it, as `os.walk`, in order of name, but for hidden ones.

    Links to folders are not followed.
    """

    def refuse(error: OSError) -> None:
        raise error  # a folder that cannot be listed would pass for an empty one

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield parent, folders, names
