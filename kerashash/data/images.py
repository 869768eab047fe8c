"""Images that stay encoded until they are read."""

import numpy as np
import tensorflow as tf


class EncodedImages:
    """An array of images, decoded and resized as its rows are read.

    Takes the place of `RetrievalData.x` where all images in memory would be too many.

    Args:
        read: function of int rows ``(m,)``; returns a list of the bytes of their JPEG,
            PNG, BMP or GIF files.
        n: int, the number of images.
        image_size: int, the side to which images are resized (bicubic, antialiased);
            the aspect ratio is not kept.
        stamp: str that differs where the images do.

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

    def __init__(self, read, n, image_size, stamp):
        self.shape = (n, image_size, image_size, 3)
        self.stamp = stamp
        self._read = read

    def __len__(self):
        return self.shape[0]

    def encoded(self, rows):
        """Bytes of the files of some rows, an object array ``(len(rows),)``."""
        files = np.empty(len(rows), object)
        files[:] = self._read(rows)
        return files

    def decode(self, file):
        """The image of a file's bytes, uint8 tensor ``(image_size, image_size, 3)``."""
        image = tf.io.decode_image(file, channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        size = self.shape[1:3]
        image = tf.cond(
            tf.reduce_all(tf.shape(image)[:2] == size),
            lambda: image,
            lambda: _resized(image, size),
        )
        return tf.ensure_shape(image, self.shape[1:])

    def __getitem__(self, rows):
        rows = np.arange(len(self))[rows]
        found = np.empty((rows.size, *self.shape[1:]), self.dtype)
        files = tf.data.Dataset.from_tensor_slices(self.encoded(rows.ravel()))
        images = files.map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)
        for row, image in enumerate(images.as_numpy_iterator()):
            found[row] = image
        return found.reshape(*rows.shape, *self.shape[1:])


def _resized(image, size):
    image = tf.image.resize(image, size, "bicubic", antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
