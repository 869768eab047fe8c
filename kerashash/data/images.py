"""Images that stay encoded until they are read."""

import collections
import contextlib
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import check_choices, check_integer, listing
from kerashash.data.image_reading import (
    DEFAULT_SIZE,
    decode,
    decode_tensor,
    printable,
)
from kerashash.data.resizing import FITS, check_image_size, resize_tensor
from kerashash.forks import check_not_forked

# What was read last: when, whose images, and which. Data sets read thousands ahead.
_READ: collections.deque[tuple[float, weakref.ref[Any], npt.NDArray[np.int64]]]
_READ = collections.deque(maxlen=64)


@contextlib.contextmanager
def naming_unreadable() -> Iterator[None]:
    """Name the image file that cannot be read, if that fails a block.

    An error in a data set reaches the reader as one of TensorFlow's, without the name
    of the file that was removed or damaged since it was found.

    Raises:
        ValueError: in place of an error of TensorFlow, if an image that was read in the
            block cannot be read.

    Example:
        >>> images = EncodedImages(lambda rows: [b""], 1, 6, "", names=["a.png"])
        >>> with naming_unreadable():
        ...     next(iter(tf.data.Dataset.range(1).map(
        ...         lambda row: images.decode(tf.numpy_function(
        ...             lambda row: images.encoded([row])[0], [row], tf.string
        ...         ))
        ...     )))
        Traceback (most recent call last):
        ValueError: `x` must hold images that can be read. Received: 'a.png' (empty).
    """
    start = time.monotonic()
    try:
        yield
    except tf.errors.OpError:
        check_read_since(start)
        raise


def check_read_since(start: float) -> None:
    """Check the images that data sets have read last, for a reason of their failure.

    Args:
        start: float; what `time.monotonic` said before they did.

    Raises:
        ValueError: if one cannot be read any more; the error names it.

    Example:
        >>> check_read_since(time.monotonic())
    """
    for when, reference, rows in reversed([*_READ]):
        images = reference()
        if when >= start and images is not None:
            images.check(rows)


class EncodedImages:
    """An array of image files; indexing decodes and resizes the selected images.

    It replaces the array `RetrievalData.x` when all images decoded would not fit into
    memory.

    Args:
        read: function of row numbers, an int array ``(m,)``; it returns the contents of
            their image files, a list of m bytes objects, in a format of
            `kerashash.data.read_images`.
        n: int; the number of images.
        image_size: int or None; the side in pixels to which images are resized
            (bicubic, antialiased). None is the side that the model takes to which they
            are passed, and otherwise 224.
        stamp: str that identifies the images: where shape and stamp are equal,
            `kerashash.data.cache_features` takes the images to be the same.
        fit: str or None; how images become squares, as for `read_images`. None is the
            fit of the model to which they are passed, and otherwise "squash".
        names: sequence of n str, or None; the names of the images, for errors.
        changed: function without arguments, or None; it returns the numbers of the
            images whose files have changed since they were found.

    Attributes:
        shape: ``(n, image_size, image_size, 3)``.
        dtype: uint8.
        fit: str or None; as given.
        is_open: bool; whether `image_size` or `fit` is None.

    Raises:
        TypeError, ValueError: if `n`, `image_size`, `fit` or `names` is none of these.

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
        image_size: int | None,
        stamp: str,
        fit: str | None = None,
        names: Sequence[str] | None = None,
        changed: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        check_integer("n", n, least=0)
        check_image_size(image_size)
        check_choices({"fit": (*FITS, None)}, fit=fit)
        if names is not None and len(names) != n:
            raise ValueError(
                f"`names` must have n={n} names, or be None. Received: {len(names)}."
            )
        self.fit, self._size, self._names = fit, image_size, names
        self.is_open = image_size is None or fit is None
        side = DEFAULT_SIZE if image_size is None else image_size
        self.shape = (n, side, side, 3)
        self.stamp = stamp
        self._read, self._changed = read, changed

    def __len__(self) -> int:
        return self.shape[0]

    def encoded(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        """Return the contents of the files of some images.

        Args:
            rows: int array ``(m,)``, the numbers of the images.

        Returns:
            Object array ``(m,)`` of bytes.
        """
        _READ.append((time.monotonic(), weakref.ref(self), rows))
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
        return resize_tensor(decode_tensor(file), self.shape[1], self.fit or FITS[0])

    def as_taken(self, size: int | None, fit: str | None) -> "EncodedImages":
        """Return the images as a model takes them, where size and fit are open.

        Args:
            size: int or None; the side in pixels, None if the model leaves it open.
            fit: str or None; how images become squares, None to leave it.

        Returns:
            `EncodedImages`.
        """
        size = size if self._size is None else self._size
        fit = fit if self.fit is None else self.fit
        return EncodedImages(
            self._read, len(self), size, self.stamp, fit, self._names, self._changed
        )

    def check(self, rows: npt.NDArray[np.int64]) -> None:
        """Check that the files of some images can be read and decoded.

        Args:
            rows: int array ``(m,)``, the numbers of the images.

        Raises:
            ValueError: if one cannot, since it was found; the error names the image.
        """
        for row in rows:
            try:
                decode(self._read(np.array([row]))[0])
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ValueError(
                    "`x` must hold images that can be read. Received: "
                    f"'{self._name(row)}' ({reason})."
                ) from error

    def check_unchanged(self) -> None:
        """Check that the files are those that were found, where that can be known.

        Raises:
            ValueError: if some have changed since; the error names them.
        """
        rows = [] if self._changed is None else [*self._changed()]
        if rows:
            self.check(np.array(rows))  # what is lost or damaged, it says so
            raise ValueError(
                "`data` must hold the images that were found; load it again. Changed "
                f"since: {listing([self._name(row) for row in rows])}."
            )

    def _name(self, row: int) -> str:
        """The name of an image, for an error."""
        name = f"image {row}" if self._names is None else self._names[row]
        return printable(str(name))

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        check_not_forked()
        rows = np.arange(len(self))[rows]
        pixels = np.empty((rows.size, *self.shape[1:]), self.dtype)
        try:
            files = tf.data.Dataset.from_tensor_slices(self.encoded(rows.ravel()))
            images = files.map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)
            for row, image in enumerate(images.as_numpy_iterator()):
                pixels[row] = image
        except (OSError, tf.errors.OpError):
            self.check(rows.ravel())
            raise
        return pixels.reshape(*rows.shape, *self.shape[1:])
