"""Photographs and codes to neighbours: a store, and the model that made its codes."""

import concurrent.futures
import io
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kerashash.checks import said
from kerashash.page.batching import Batcher
from kerashash.page.limits import Limits, Refused
from kerashash.store.rows import conditions_until

if TYPE_CHECKING:
    from PIL import Image

    from kerashash.store import CodeStore

# Rows of a store in which pairs of any radius are looked for: with a large one, all
# codes are compared with each other.
_MOST_COMPARED = 50_000


class Searcher:
    """Encodes photographs in batches, and searches a store.

    A store to which other processes write is searched as it is at each request.

    Args:
        store: `CodeStore` with a model of images.
        limits: `Limits`.

    Raises:
        ValueError: if the store has no model, or one that takes no images.
    """

    def __init__(self, store: "CodeStore", limits: Limits) -> None:
        from kerashash.backbones.images import input_size

        self.store, self._limits = store, limits
        self._model = store.model
        size = input_size(self._model.backbone)
        if size is None:
            raise ValueError(
                f"`store` must have a model of images. Received: '{store.path}', whose "
                "model takes other inputs."
            )
        self._size: int = size
        self._comparing = threading.Lock()
        self._compared: tuple[Any, list[list[Any]]] | None = (
            None  # the latest duplicates
        )
        self._batcher = Batcher(self._encode, limits.batch)

    def warm_up(self) -> None:
        """Do what clients ask for, so that none waits until TensorFlow is ready."""
        from PIL import Image

        file = io.BytesIO()
        Image.new("RGB", (64, 48)).save(file, "JPEG")
        blank = self.decode(file.getvalue())
        for count in sorted({1, min(2, self._limits.batch), self._limits.batch}):
            codes = self._encode([blank] * count)
        for _ in range(2):  # first by a scan, then by what all later searches use
            self.search(codes[0], k=100)

    def decode(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Read an image file as the store's model takes it.

        Args:
            data: bytes; the content of the file.

        Returns:
            uint8 array ``(size, size, 3)``.

        Raises:
            Refused: if it is no readable image, or has too many pixels.
        """
        from kerashash.data import image_reading, resizing

        opened(data, self._limits.pixels)
        try:
            pixels = image_reading.decode(data)
            return resizing.resize(pixels, self._size, self._model.image_fit)
        except ValueError as error:
            raise Refused(415, f"This file cannot be read: {said(error)}.") from error

    def submit(
        self, pixels: npt.NDArray[np.uint8]
    ) -> "concurrent.futures.Future[npt.NDArray[np.uint8]]":
        """Encode an image with those of others that arrive in the meantime.

        Args:
            pixels: array of `decode`.

        Returns:
            Future of the packed code, uint8 array ``(ceil(bits / 8),)``.
        """
        return self._batcher.submit(pixels)

    def code_of(self, key: Any) -> npt.NDArray[np.uint8]:
        """The packed code of a row of the store.

        Args:
            key: str or int; the row's key.

        Returns:
            uint8 array ``(ceil(bits / 8),)``.

        Raises:
            Refused: if there is no such row, or SQL cannot hold its key.
        """
        if key in self.store:
            if isinstance(key, str) and "\0" in key:
                raise Refused(
                    400, f"`id` must have no zero byte. Received: {key!r:.200}."
                )
            quoted = "'" + key.replace("'", "''") + "'" if isinstance(key, str) else key
            for code in self.store.codes(where=f"id = {quoted}"):
                return np.asarray(code)
        raise Refused(404, f"The store has no row with the key {key!r:.200}.")

    def search(
        self,
        code: npt.NDArray[np.uint8],
        k: int,
        radius: int | None = None,
        where: str | None = None,
        until: float = math.inf,
    ) -> list[dict[str, Any]]:
        """The nearest rows of a code.

        Args:
            code: uint8 array ``(ceil(bits / 8),)``.
            k: int; the number of rows.
            radius: int or None; their largest distance.
            where: str or None; an SQL condition, as for `CodeStore.search`.
            until: float; as of `conditions_until`.

        Returns:
            list of dicts, as of `Neighbours.rows`.

        Raises:
            Refused: if `where` is no condition on the store's columns.
            TimeoutError: if it takes too long.
        """
        try:
            with conditions_until(until):
                neighbours = self.store.search(code[None], k, where)
        except ValueError as error:
            if not str(error).startswith("`where`"):
                raise
            raise Refused(400, str(error)) from error
        rows = neighbours.rows(0)
        return [row for row in rows if radius is None or row["distance"] <= radius]

    def duplicates(self, radius: int) -> list[list[Any]]:
        """Groups of rows whose codes are nearly the same, the largest first.

        Args:
            radius: int; as for `CodeStore.duplicates`.

        Returns:
            list of lists of keys.

        Raises:
            Refused: if the radius is too large for a store of so many rows.
        """
        most = max(self.store.bits // 8 - 1, 0)
        if radius > most and len(self.store) > _MOST_COMPARED:
            raise Refused(
                400,
                f"`radius` must be at most {most} in a store of more than "
                f"{_MOST_COMPARED:,} rows.",
            )
        with self._comparing:  # one at a time: it keeps all cores busy
            version = (self.store.versions()[-1], radius)
            if self._compared is None or self._compared[0] != version:
                groups = sorted(self.store.duplicates(radius), key=len, reverse=True)
                self._compared = version, groups
            return self._compared[1]

    @property
    def is_alive(self) -> bool:
        """Whether what is submitted will be encoded."""
        return self._batcher.is_alive

    def close(self) -> None:
        """Finish what waits to be encoded."""
        self._batcher.close()

    def _encode(self, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        return self._model.encode(np.stack(images), verbose=0)


def opened(data: Any, pixels: int) -> "Image.Image":
    """Read the header of an image file.

    Args:
        data: bytes, or a binary file.
        pixels: int; the most pixels that the image may have.

    Returns:
        Image of Pillow, whose pixels are not read yet.

    Raises:
        Refused: if it is no image of a format that is read, or has more pixels.
    """
    from PIL import Image

    from kerashash.data.image_reading import identified

    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        picture = identified(file)
        count = picture.width * picture.height
    except Image.DecompressionBombError:
        count = pixels + 1
    except ValueError as error:
        raise Refused(
            415,
            "This is no image file that is read here: AVIF, BMP, GIF, JPEG, PNG, "
            "TIFF or WebP, or HEIF where the server has pillow-heif.",
        ) from error
    if count > pixels:
        raise Refused(
            413, f"The image must have at most {pixels / 1e6:g} million pixels."
        )
    return picture
