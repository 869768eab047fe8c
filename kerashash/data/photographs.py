"""Data sets of photographs that a model can have in the size and fit that it takes."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from kerashash.data.resizing import FITS

# Methods of a `tf.data.Dataset` that leave the images as they are, and others.
_KEEP_IMAGES = (
    "batch",
    "prefetch",
    "repeat",
    "shard",
    "skip",
    "take",
    "unbatch",
    "with_options",
)
_CHANGE_IMAGES = (
    "apply",
    "cache",
    "concatenate",
    "enumerate",
    "filter",
    "flat_map",
    "interleave",
    "map",
    "padded_batch",
    "ragged_batch",
    "rebatch",
    "scan",
    "shuffle",
    "snapshot",
    "take_while",
    "unique",
    "window",
)


class Photographs(NamedTuple):
    """What a data set knows of the image files from which it reads.

    Attributes:
        fit: str or None; how images become squares, as for `read_images`. None leaves
            that to the model.
        reread: function or None; of the side in pixels and the fit that a model takes,
            to the same data set with images as the model takes them. None if images
            are what they are.
    """

    fit: str | None
    reread: Callable[[int | None, str], tf.data.Dataset] | None


def of_photographs(
    dataset: tf.data.Dataset, photographs: Photographs
) -> tf.data.Dataset:
    """Make a data set of images that a model can have as it takes them.

    Its files are then decoded and resized once, to the size that the model takes, as
    those of a list of paths are, not to one size and then to another. The data set
    keeps that ability under `batch`, `take` and the like. Under `map` and the like it
    keeps the knowledge of the fit, so that a model can refuse images of another one.

    Args:
        dataset: `tf.data.Dataset`.
        photographs: `Photographs`.

    Returns:
        `dataset`, for `as_taken`.
    """
    dataset.photographs = photographs
    for name in (*_KEEP_IMAGES, *_CHANGE_IMAGES):
        setattr(dataset, name, _following(dataset, name, photographs))
    return dataset


def photographs_mapped(
    dataset: tf.data.Dataset, function: Callable[[tf.data.Dataset], tf.data.Dataset]
) -> tf.data.Dataset:
    """Apply a function that leaves the images as they are; keep `as_taken` possible.

    Args:
        dataset: `tf.data.Dataset`.
        function: data set -> data set.

    Returns:
        `tf.data.Dataset`, ``function(dataset)``.
    """
    photographs = getattr(dataset, "photographs", None)
    if photographs is None:
        return function(dataset)
    fit, reread = photographs
    if reread is not None:
        again = lambda size, fit: function(reread(size, fit))  # noqa: E731
        return of_photographs(function(dataset), Photographs(fit, again))
    return of_photographs(function(dataset), photographs)


def _following(
    dataset: tf.data.Dataset, name: str, photographs: Photographs
) -> Callable[..., tf.data.Dataset]:
    """A method of a data set whose result knows of its photographs, too."""
    method = getattr(dataset, name)

    @functools.wraps(method)
    def following(*args: Any, **kwargs: Any) -> tf.data.Dataset:
        result = method(*args, **kwargs)
        if name in _CHANGE_IMAGES:
            # They have been read, once and for all.
            read = Photographs(photographs.fit or FITS[0], None)
            return of_photographs(result, read)
        fit, reread = photographs
        if reread is None:
            return of_photographs(result, photographs)

        def again(size: int | None, fit: str) -> tf.data.Dataset:
            return getattr(reread(size, fit), name)(*args, **kwargs)

        return of_photographs(result, Photographs(fit, again))

    return following


def as_taken(dataset: tf.data.Dataset, size: int | None, fit: str) -> tf.data.Dataset:
    """Return a data set with its images as a model takes them.

    Args:
        dataset: `tf.data.Dataset`.
        size: int or None; the side in pixels, None to leave it.
        fit: str; as for `read_images`.

    Returns:
        `tf.data.Dataset`: `dataset` itself unless it is of photographs whose size or
        fit are open.

    Raises:
        ValueError: if its images have been read with another fit.
    """
    photographs = getattr(dataset, "photographs", None)
    if photographs is None:
        return dataset
    if photographs.fit not in (None, fit):
        raise ValueError(
            f"`fit` of the images must be the model's `image_fit`, {fit!r}. Received "
            f"a data set of images with fit={photographs.fit!r}: read them with "
            f"fit={fit!r}, or make the model with image_fit={photographs.fit!r}."
        )
    return dataset if photographs.reread is None else photographs.reread(size, fit)
