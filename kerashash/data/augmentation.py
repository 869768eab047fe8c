"""Augmentation of training images."""

from typing import Any

import tensorflow as tf

from kerashash.checks import check_flag, check_integer


def augmented(
    dataset: tf.data.Dataset, shift: int = 0, flip: bool = True
) -> tf.data.Dataset:
    """Shift and flip training images at random, anew in each epoch.

    Args:
        dataset: `tf.data.Dataset`, not batched, of ``(image, y)`` with images
            ``(height, width, channels)``.
        shift: int, at least 0; the largest shift in pixels, up, down, left or right.
            The border is filled by reflection.
        flip: bool; whether to flip each image left to right with probability 1/2.

    Returns:
        `tf.data.Dataset` with elements of the same structure and shapes.

    Raises:
        TypeError: if `dataset` is not a `tf.data.Dataset`, `shift` not an integer or
            `flip` not a bool.
        ValueError: if the elements of `dataset` are of another form, or `shift` is not
            less than the height and width of the images.

    Example:
        >>> import kerashash, numpy as np
        >>> pairs = tf.data.Dataset.from_tensor_slices((np.ones((4, 8, 8, 3)), [0] * 4))
        >>> kerashash.data.augmented(pairs, shift=2).element_spec[0].shape
        TensorShape([8, 8, 3])
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "`dataset` must be a tf.data.Dataset. Received type: "
            f"{type(dataset).__name__}."
        )
    check_integer("shift", shift, least=0)
    check_flag(flip=flip)
    spec = dataset.element_spec
    shape = spec[0].shape if isinstance(spec, tuple) and len(spec) == 2 else None
    if shape is None or shape.rank != 3 or None in shape[:2]:
        raise ValueError(
            "`dataset` must have elements (image, y), not batched, with images "
            f"(height, width, channels) of known size. Received elements: {spec}."
        )
    if shift >= min(shape[:2]):
        raise ValueError(
            "`shift` must be less than the images' height and width. Received: "
            f"shift={shift}, images of shape {tuple(shape)}."
        )

    def augment(image: tf.Tensor, y: Any) -> tuple[tf.Tensor, Any]:
        image = random_shift(image[None], shift)[0]
        return (tf.image.random_flip_left_right(image) if flip else image), y

    # Not in parallel: a seed must always give the same draws.
    return dataset.map(augment)


def random_shift(x: tf.Tensor, cells: int) -> tf.Tensor:
    """Shift each image or feature map at random, with its border reflected.

    Args:
        x: tensor ``(batch, height, width, channels)``.
        cells: int, at least 0; the largest shift, in pixels of an image or cells of a
            feature map, up, down, left or right.

    Returns:
        Tensor of the shape of `x`.
    """
    batch, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
    pad = [cells, cells]
    x = tf.pad(x, [[0, 0], pad, pad, [0, 0]], "REFLECT")
    for axis, size in ((1, height), (2, width)):
        offset = tf.random.uniform((batch, 1), 0, 2 * cells + 1, tf.int32)
        x = tf.gather(x, offset + tf.range(size), axis=axis, batch_dims=1)
    return x


def random_cutout(x: tf.Tensor, side: int) -> tf.Tensor:
    """Set a square of each image or feature map to 0, at a random place.

    Args:
        x: tensor ``(batch, height, width, channels)``.
        side: int, at least 0; the side of the square, in pixels of an image or cells of
            a feature map. Its centre is anywhere in the image, so a part of it may lie
            outside.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        T. DeVries, G. W. Taylor, Improved Regularization of Convolutional Neural
        Networks with Cutout, 2017.
    """
    batch, keep = tf.shape(x)[0], []
    for size in (x.shape[1], x.shape[2]):
        start = tf.random.uniform((batch, 1), 0, size, tf.int32) - side // 2
        cells = tf.range(size)
        keep.append((cells < start) | (cells >= start + side))  # (batch, size)
    outside = keep[0][:, :, None, None] | keep[1][:, None, :, None]
    return tf.where(outside, x, tf.zeros((), x.dtype))
