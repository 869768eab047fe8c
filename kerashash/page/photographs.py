"""The photographs of a store, and no other file, as small JPEG files."""

import collections
import io
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

from kerashash import files
from kerashash.page.limits import Limits, Refused
from kerashash.page.searching import opened

if TYPE_CHECKING:
    from kerashash.store import CodeStore

_CACHED = 256


class Photographs:
    """Shows the photographs of a store that lie in a folder.

    A key of the store is the path of its photograph, in the folder or absolute. What is
    no key is not looked for, and what lies elsewhere is not opened, whether the path or
    a symbolic link leads there. Photographs are never sent as they are: they are
    decoded and encoded anew, so that no other file can be sent, and no metadata.

    Args:
        store: `CodeStore`.
        folder: path of the folder.
        limits: `Limits`.

    Raises:
        NotADirectoryError: if `folder` is no folder.
    """

    def __init__(
        self, store: "CodeStore", folder: str | os.PathLike[str], limits: Limits
    ) -> None:
        folder = files.as_path(folder, "images")
        if not folder.is_dir():
            raise NotADirectoryError(
                f"`images` must be a folder. Received: '{os.fspath(folder)}'."
            )
        self._store, self._folder = store, os.path.realpath(folder)
        self._limits = limits
        self._cache: collections.OrderedDict[tuple[str, int, int], bytes]
        self._cache = collections.OrderedDict()
        self._lock = threading.Lock()

    def has_any(self, keys: Iterable[object]) -> bool:
        """Whether the photograph of one at least of the store's keys can be opened.

        Args:
            keys: iterable of keys of the store.

        Returns:
            bool.
        """

        def is_there(key: object) -> bool:
            try:
                self._open(key).close()
                return True
            except Refused:
                return False

        return any(map(is_there, keys))

    def jpeg(self, key: object, side: int) -> bytes:
        """A photograph, made small.

        Args:
            key: its key in the store.
            side: int; the pixels of its longer side at most.

        Returns:
            bytes of a JPEG file.

        Raises:
            Refused: if the store has no such photograph, or it cannot be read.
        """
        if key not in self._store:
            raise _missing()
        with self._open(key) as file:
            # The file itself, not its name: it may be replaced.
            status = os.fstat(file.fileno())
            cached = (str(key), status.st_mtime_ns, side)
            with self._lock:
                if cached in self._cache:
                    self._cache.move_to_end(cached)
                    return self._cache[cached]
            data = _small(file, side, self._limits.pixels)
        with self._lock:
            self._cache[cached] = data
            while len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return data

    def _open(self, key: object) -> BinaryIO:
        """The file of a key, if it is a regular file in the folder."""

        if not isinstance(key, str):
            raise _missing()
        try:
            path = os.path.realpath(os.path.join(self._folder, key))
            if os.path.commonpath([path, self._folder]) != self._folder:
                raise _missing()
            # There is no link in a real path, unless it was put there just now.
            return files.open_regular(path, os.O_NOFOLLOW)
        except (OSError, ValueError):  # a path that cannot be one, or of no file
            raise _missing() from None


def _missing() -> Refused:
    return Refused(404, "There is no such photograph.")


def _small(file: BinaryIO, side: int, pixels: int) -> bytes:
    """An image file as a JPEG file of RGB, upright, on white."""
    from PIL import Image

    from kerashash.data.image_reading import decode_by_pillow

    picture = opened(file, pixels)
    try:
        # JPEG files can be decoded to a fraction of their size, which is fast.
        picture.draft("RGB", (side, side))
        shown = Image.fromarray(decode_by_pillow(picture))
        shown.thumbnail((side, side))
        small = io.BytesIO()
        shown.save(small, "JPEG", quality=85)
    # Errors of all kinds: a damaged file reaches any line of a decoder.
    except Exception as error:
        raise Refused(415, "This photograph cannot be read.") from error
    return small.getvalue()
