"""Augmentation of training images."""

import tensorflow as tf

from kerashash.checks import check_integer


def augmented(dataset, shift=0, flip=True):
    """Training images, each time they are read moved and mirrored at random.

    Args:
        dataset: `tf.data.Dataset`, not batched, of ``(image, y)``, images
            ``(height, width, channels)``.
        shift: int, at least 0; images move by up to so many pixels either way, the
            edges mirrored.
        flip: bool, whether half of them are mirrored left to right.

    Returns:
        `tf.data.Dataset` of the same elements.

    Raises:
        TypeError, ValueError: if an argument is wrong.

    Example:
        >>> import kerashash, numpy as np
        >>> pairs = tf.data.Dataset.from_tensor_slices((np.ones((4, 8, 8, 3)), [0] * 4))
        >>> augmented(pairs, shift=2).element_spec[0].shape
        TensorShape([8, 8, 3])
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "`dataset` must be a tf.data.Dataset. Received type: "
            f"{type(dataset).__name__}."
        )
    check_integer("shift", shift, least=0)
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

    def element(image, y):
        image = random_shift(image[None], shift)[0]
        return (tf.image.random_flip_left_right(image) if flip else image), y

    # One after the other: the same seed then draws the same.
    return dataset.map(element)


def random_shift(x, cells):
    """Move each image or feature map by up to `cells` cells, mirrored edges.

    Args:
        x: tensor ``(batch, height, width, channels)``.
        cells: int, at least 0.

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
