"""Small images of a data set."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from kerashash.data import RetrievalData
from kerashash.data.images import EncodedImages

_BLOCK = 64  # images in full size at a time


def has_images(data: RetrievalData) -> bool:
    """Whether the inputs are images, RGB or gray, and not vectors.

    Args:
        data: `RetrievalData`.

    Returns:
        bool.

    Example:
        >>> import kerashash
        >>> has_images(kerashash.data.load("digits"))
        False
    """
    return len(data.x.shape) == 4 and data.x.shape[-1] in (1, 3)


def thumbnails(
    data: RetrievalData, rows: npt.NDArray[np.integer], side: int
) -> npt.NDArray[np.uint8]:
    """Read some images, in at most `side` pixels a side.

    Args:
        data: `RetrievalData` of images; floats are in [0, 255] or, if none is above 1,
            in [0, 1].
        rows: int array ``(n,)``; rows of ``data.x``.
        side: int; the side of an image in pixels.

    Returns:
        uint8 array ``(n, side, side, 3)``; of images that are smaller, ``(n, s, s, 3)``
        with their longer side s.
    """
    images = data.x
    if isinstance(images, EncodedImages):
        images = images.as_taken(side, None)
    side = min(side, max(images.shape[1:3]))
    small = np.zeros((len(rows), side, side, 3), np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(images[rows[start : start + _BLOCK]], np.float32)
        for number, image in enumerate(np.repeat(block, 3 // block.shape[-1], axis=-1)):
            for channel in range(3):  # Pillow has no RGB images of floats
                plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
                plane = plane.resize((side, side), Image.Resampling.BOX)
                small[start + number, ..., channel] = np.asarray(plane)
    if images.dtype.kind == "f" and small.max(initial=0) <= 1:
        small *= 255
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def sheet(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Put images of one size side by side, row by row, into a square of images.

    Args:
        images: uint8 array ``(n, side, side, 3)``.

    Returns:
        uint8 array ``(rows * side, columns * side, 3)``; white where there is no image.

    Example:
        >>> sheet(np.zeros((5, 4, 4, 3), np.uint8)).shape
        (8, 12, 3)
    """
    n, side = images.shape[:2]
    columns = math.isqrt(max(n - 1, 0)) + 1
    rows = -(-n // columns)
    cells = np.full((rows * columns, side, side, 3), 255, np.uint8)
    cells[:n] = images
    cells = cells.reshape(rows, columns, side, side, 3)
    return cells.swapaxes(1, 2).reshape(rows * side, columns * side, 3)
