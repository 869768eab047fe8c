"""Images that stay encoded until they are read."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf


class EncodedImages:
    """An array of image files; indexing decodes and resizes the selected images.

    It replaces the array `RetrievalData.x` when all images decoded would not fit into
    memory.

    Args:
        read: function of row numbers, an int array ``(m,)``; it returns the contents of
            their JPEG, PNG, BMP or GIF files, a list of m bytes objects.
        n: int; the number of images.
        image_size: int; the side in pixels to which images are resized (bicubic,
            antialiased), whatever their aspect ratio.
        stamp: str that identifies the images: where shape and stamp are equal,
            `kerashash.data.cache_features` takes the images to be the same.

    Attributes:
        shape: ``(n, image_size, image_size, 3)``.
        dtype: uint8.

    Example:
        >>> file = tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8)).numpy()
        >>> images = EncodedImages(lambda rows: [file] * len(rows), 100, 6, stamp="")
        >>> images[2:5].shape
        (3, 6, 6, 3)
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        read: Callable[[npt.NDArray[np.int64]], list[bytes]],
        n: int,
        image_size: int,
        stamp: str,
    ) -> None:
        self.shape = (n, image_size, image_size, 3)
        self.stamp = stamp
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def encoded(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        """Return the contents of the files of some images.

        Args:
            rows: int array ``(m,)``, the numbers of the images.

        Returns:
            Object array ``(m,)`` of bytes.
        """
        files = np.empty(len(rows), object)
        files[:] = self._read(rows)
        return files

    def decode(self, file: tf.Tensor) -> tf.Tensor:
        """Decode and resize one image.

        Args:
            file: string tensor of shape ``()``, the content of an image file.

        Returns:
            uint8 tensor ``(image_size, image_size, 3)``.
        """
        image = tf.io.decode_image(file, channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        size = self.shape[1:3]
        # An image of the right size keeps its exact pixels.
        image = tf.cond(
            tf.reduce_all(tf.shape(image)[:2] == size),
            lambda: image,
            lambda: _resized(image, size),
        )
        return tf.ensure_shape(image, self.shape[1:])

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        rows = np.arange(len(self))[rows]
        pixels = np.empty((rows.size, *self.shape[1:]), self.dtype)
        files = tf.data.Dataset.from_tensor_slices(self.encoded(rows.ravel()))
        images = files.map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)
        for row, image in enumerate(images.as_numpy_iterator()):
            pixels[row] = image
        return pixels.reshape(*rows.shape, *self.shape[1:])


def _resized(image: tf.Tensor, size: tuple[int, ...]) -> tf.Tensor:
    """Resize a uint8 image to ``(height, width)``, with rounding to uint8."""
    image = tf.image.resize(image, size, "bicubic", antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
