"""Images of any size to squares: one way for every route, arrays and graphs alike."""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse
import tensorflow as tf

from kerashash.checks import check_integer
from kerashash.forks import check_not_forked

#: How an image that is no square becomes one; the first where nothing else is known.
FITS = ("squash", "crop", "pad")
# The longest side of images that SciPy resizes: large ones would take much memory.
_MOST_SMALL = 1024
# The longest side to which images are resized: a batch of larger ones fills the memory.
_LARGEST_SIZE = 4096


def check_image_size(image_size: int | None) -> None:
    """Check the side in pixels to which images are to be resized.

    Args:
        image_size: int, or None where it is left to the model.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is less than 1 or more than 4096.

    Example:
        >>> check_image_size(10**6)
        Traceback (most recent call last):
        ValueError: `image_size` must be at most 4096. Received: image_size=1000000.
    """
    if image_size is not None:
        check_integer("image_size", image_size, most=_LARGEST_SIZE)


def resize(
    image: npt.NDArray[np.uint8], size: int, fit: str = "squash"
) -> npt.NDArray[np.uint8]:
    """Resize to a square (bicubic, antialiased), rounded to uint8.

    Args:
        image: uint8 array ``(height, width, 3)``.
        size: int; the side in pixels.
        fit: str; as for `kerashash.data.read_images`.

    Returns:
        uint8 array ``(size, size, 3)``: the pixels of `image` itself where they have
        the right size already.

    Example:
        >>> resize(np.zeros((8, 4, 3), np.uint8), 6).shape
        (6, 6, 3)
    """
    height, width = image.shape[:2]
    if height == width == size:
        return image
    check_not_forked()
    is_squashed = fit == "squash" or height == width
    if is_squashed and max(height, width) <= _MOST_SMALL and _agrees_with_tensorflow():
        pixels = np.rint(_squashed(image, size).clip(0, 255))
        return np.ascontiguousarray(pixels, np.uint8)
    return _resizing(size, fit)(image).numpy()


def _squashed(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    """What `tf.image.resize` gives, in less time: rows, then columns are sums of a few
    others, which are added in the same order."""
    height, width, colours = image.shape
    pixels = image.reshape(height, width * colours).astype(np.float32)
    pixels = (_bicubic_weights(height, size) @ pixels).reshape(size, width, colours)
    pixels = pixels.swapaxes(0, 1).reshape(width, size * colours)
    pixels = (_bicubic_weights(width, size) @ pixels).reshape(size, size, colours)
    return pixels.swapaxes(0, 1)


@functools.lru_cache(1024)
def _bicubic_weights(length: int, size: int) -> scipy.sparse.csr_array:
    """The weights ``(size, length)`` with which TensorFlow sums, found by resizing
    images of one bright row each."""
    rows = np.eye(length, dtype=np.float32)[:, None]  # one channel for each image
    weights = tf.image.resize(rows, (size, 1), "bicubic", antialias=True)
    return scipy.sparse.csr_array(weights.numpy()[:, 0])


@functools.cache
def _agrees_with_tensorflow() -> bool:
    """Whether sums are rounded here as TensorFlow rounds them, to the last bit."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (61, 47, 3), dtype=np.uint8)
    return all(
        np.array_equal(
            _squashed(image, size),
            tf.image.resize(image, (size, size), "bicubic", antialias=True),
        )
        for size in (24, 64)
    )


@functools.cache
def _resizing(size: int, fit: str) -> Callable[..., tf.Tensor]:
    """`resize_tensor` as a graph, which takes half the time for a small image."""
    spec = tf.TensorSpec((None, None, 3), tf.uint8)
    return tf.function(
        lambda image: resize_tensor(image, size, fit), input_signature=[spec]
    )


def resize_tensor(image: tf.Tensor, size: int, fit: str = "squash") -> tf.Tensor:
    """As `resize`, in a graph.

    Args:
        image: uint8 tensor ``(height, width, 3)``.
        size, fit: as for `resize`.

    Returns:
        uint8 tensor ``(size, size, 3)``.

    Example:
        >>> resize_tensor(tf.zeros((8, 4, 3), tf.uint8), 6).shape
        TensorShape([6, 6, 3])
    """
    shape, target = tf.shape(image)[:2], tf.constant((size, size))
    if fit == "crop":
        side = tf.reduce_min(shape)
        top, left = tf.unstack((shape - side) // 2)
        image = image[top : top + side, left : left + side]
    elif fit == "pad":
        # The longer side gets the size, the other in proportion, rounded. In 64 bits:
        # a strip of millions of pixels is an image too.
        long = tf.cast(shape, tf.int64)
        longest = tf.reduce_max(long)
        target = tf.cast((2 * size * long + longest) // (2 * longest), tf.int32)
        target = tf.maximum(target, 1)

    def resized() -> tf.Tensor:
        pixels = tf.image.resize(image, target, "bicubic", antialias=True)
        return tf.cast(tf.round(tf.clip_by_value(pixels, 0.0, 255.0)), tf.uint8)

    # An image of the right size keeps its exact pixels.
    same = tf.reduce_all(tf.shape(image)[:2] == target)
    image = tf.cond(same, lambda: image, resized)
    if fit == "pad":
        before = (size - target) // 2
        margins = tf.stack([before, size - target - before], axis=1)  # (2, 2)
        margins = tf.pad(margins, [[0, 1], [0, 0]])  # none of colours
        image = tf.pad(image, margins, constant_values=255)
    return tf.ensure_shape(image, (size, size, 3))
