"""Look at training batches as they pass, and say what is wrong with them."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.backbones.images import ResizeImages, input_size, leaves
from kerashash.data.images import check_read_since
from kerashash.data.photographs import as_taken

# Floats that a cubic filter has resized lie so far beyond 0 and 255, or less.
_OVERSHOOT = 64


def is_tiny(rows: int, batch_size: int) -> bool:
    """Whether a batch is too small next to others for batch normalization.

    Its few rows would count as much as a full batch in the statistics of all rows.

    Args:
        rows: int; the rows of the batch.
        batch_size: int; the rows of the others.

    Returns:
        bool; whether it has less than a sixteenth of their rows.

    Example:
        >>> is_tiny(1, 1024), is_tiny(1, 16)
        (True, False)
    """
    return 16 * rows < batch_size


def untrimmed_batch_size(n: int, batch_size: int) -> int:
    """The batch size, or the nearest to it that leaves no tiny last batch.

    Args:
        n: int; the number of rows.
        batch_size: int, at least 1.

    Returns:
        int.

    Example:
        >>> untrimmed_batch_size(1025, 1024), untrimmed_batch_size(1100, 1024)
        (1025, 1024)
    """
    size = batch_size
    for distance in range(batch_size):
        for size in (batch_size + distance, batch_size - distance):
            if n % size == 0 or n < size or not is_tiny(n % size, size):
                return size
    return size


def are_class_ids(spec: Any) -> bool:
    """Say whether elements ``(x, y)`` of a data set are batches with class ids.

    Args:
        spec: pair; the ``element_spec`` of a `tf.data.Dataset`.

    Returns:
        bool; False for label rows.

    Example:
        >>> pairs = tf.data.Dataset.from_tensor_slices((np.zeros((3, 4)), [0, 1, 0]))
        >>> are_class_ids(pairs.batch(2).element_spec)
        True
    """
    x, y = spec
    label = y.get("label") if isinstance(y, dict) else y
    return (
        isinstance(x, tf.TensorSpec)
        and isinstance(label, tf.TensorSpec)
        and label.dtype.is_integer
        and label.shape.rank == 1
        # An example with a label row that is not batched has another length.
        and x.shape.rank not in (None, 0)
        and x.shape[0] == label.shape[0]
    )


class BatchWatch:
    """Checks the batches that a model trains on or encodes, as they pass.

    Labels that are wrong, inputs that are not finite and images without pixels raise;
    class ids become label rows. Images of floats that seem to be scaled to 0..1 or
    -1..1, where the network takes 0..255, and images with values outside 0..255 cause
    one warning, and so does a batch whose few rows disturb batch normalization.

    Use it as a context manager around what reads the data set: TensorFlow would report
    an error in a data set in its own words.

    Args:
        network: `keras.Model` or layer; what the batches go to.
        check_labels: function of labels that raises if they are wrong and returns label
            rows, or None for a method without labels. It is called with the labels and
            ``name="label"``.
        normalizes: bool; whether the model takes statistics of each batch.
        num_classes: int or None; the width of a label row, to make them of class ids.
        least_rows: int; the rows that a batch must have: one for each device, where
            each takes statistics of its slice.
        image_fit: str; how images become squares, as for
            `kerashash.data.read_images`.

    Example:
        >>> dataset = tf.data.Dataset.from_tensors((np.ones((1, 2)), [[2.0, 0.0]]))
        >>> from kerashash.checks import check_labels
        >>> check = lambda y, name: check_labels(y, 2, name=name)
        >>> watch = BatchWatch(keras.layers.Dense(1), check)
        >>> with watch:
        ...     list(watch.over(dataset))
        Traceback (most recent call last):
        ValueError: `label` must contain only 0, 1. Received values: [2.].
    """

    def __init__(
        self,
        network: keras.layers.Layer,
        check_labels: Callable[..., Any] | None = None,
        normalizes: bool = False,
        num_classes: int | None = None,
        least_rows: int = 1,
        image_fit: str = "squash",
    ) -> None:
        self._num_classes, self._least_rows = num_classes, least_rows
        self._image_size, self._image_fit = input_size(network), image_fit
        self._normalizes, self._most_rows = normalizes, 0
        # Of a network that does not begin with these layers, nobody knows the range.
        self._takes_pixels = any(
            isinstance(layer, ResizeImages | keras.layers.Rescaling)
            for layer in leaves(network)
        )
        self._check_labels = check_labels
        self._error: Exception | None = None
        self._start = 0.0  # when the block begins

    def __enter__(self) -> None:
        self._error, self._start = None, time.monotonic()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, tf.errors.OpError):
            if self._error is not None:
                raise self._error from None
            check_read_since(self._start)

    @contextlib.contextmanager
    def keeping_errors(self) -> Iterator[None]:
        """Keep an error that is raised in a block, to raise it again on exit."""
        try:
            yield
        except (TypeError, ValueError) as error:
            self._error = error
            raise

    def over(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Return a data set of batches ``(x, y)`` with the checks in it.

        Args:
            dataset: `tf.data.Dataset`; images are read as the network takes them, where
                that is possible.

        Returns:
            `tf.data.Dataset` of the same elements, but for class ids.
        """
        dataset = as_taken(dataset, self._image_size, self._image_fit)
        spec = dataset.element_spec
        if not isinstance(spec, tuple) or len(spec) != 2:
            return dataset
        x = spec[0]
        label = spec[1].get("label") if isinstance(spec[1], dict) else spec[1]
        has_labels = self._check_labels is not None and isinstance(label, tf.TensorSpec)
        are_images = isinstance(x, tf.TensorSpec) and x.shape.rank == 4
        has_pixels = self._takes_pixels and are_images and _may_be_outside(x)
        has_sizes = are_images and not all(x.shape[1:])  # not known, or 0
        are_ids = has_labels and are_class_ids(spec)
        has_floats = isinstance(x, tf.TensorSpec) and x.dtype.is_floating

        def check(x: Any, y: Any) -> tuple[Any, Any]:
            if self._normalizes:
                rows = tf.shape(tf.nest.flatten(x)[0])[0]
                tf.numpy_function(self._check_size, [rows], tf.bool)
            if has_floats:
                finite = tf.reduce_all(tf.math.is_finite(x))
                tf.numpy_function(self._check_finite, [finite], tf.bool)
            if has_sizes:
                tf.numpy_function(self._check_pixels, [tf.shape(x)], tf.bool)
            if has_pixels:
                limits = [tf.reduce_min(x), tf.reduce_max(x)]
                tf.numpy_function(self._check_limits, limits, tf.bool)
            if has_labels:
                rows = y["label"] if isinstance(y, dict) else y
                checked = tf.numpy_function(self._checked_rows, [rows], tf.float32)
                if are_ids:
                    rows = tf.ensure_shape(checked, (None, self._num_classes))
                    y = {**y, "label": rows} if isinstance(y, dict) else rows
            return x, y

        watched = (
            has_labels or has_floats or has_sizes or has_pixels or self._normalizes
        )
        return dataset.map(check) if watched else dataset

    def check_images(self, x: Any) -> None:
        """Warn, once, of images with values that are no grey levels of 8 bits.

        Args:
            x: array or tensor ``(n, ...)``.

        Raises:
            ValueError: if images have no pixels.
        """
        if len(x.shape) != 4:
            return
        self._check_pixels(np.array(x.shape))
        if self._takes_pixels and _may_be_outside(x) and np.size(x):
            x = np.asarray(x)
            self._check_limits(x.min(), x.max())

    def _check_limits(self, low: np.number[Any], high: np.number[Any]) -> np.bool_:
        if not self._takes_pixels:
            return np.True_
        is_float = np.asarray(low).dtype.kind not in "iu"
        slack, received = _OVERSHOOT if is_float else 0, ""
        # Images of one grey level, such as all black, tell nothing.
        if is_float and low < high <= 1:
            received = "floats, none above 1"
        elif low < -slack or (low < 0 and high <= slack):
            received = "values, some below 0"
        if received:
            reason = "images that have been scaled before"
        elif high > 255 + slack:
            received, reason = "values, some above 255", "images of more than 8 bits"
        if received:
            self._takes_pixels = False
            warnings.warn(
                "`x` must hold images with values in [0, 255]. Received "
                f"{received}: the model scales images itself, and codes of {reason} "
                "mean little.",
                stacklevel=2,
            )
        return np.True_

    def _check_pixels(self, shape: npt.NDArray[np.integer]) -> np.bool_:
        with self.keeping_errors():
            if not shape[1:].all():
                raise ValueError(
                    "`x` must hold images with pixels. Received shape: "
                    f"{tuple(shape.tolist())}, with a side of 0."
                )
        return np.True_

    def check_rows(self, rows: int) -> None:
        """Refuse a batch of which a device would get no row, and no statistics.

        Args:
            rows: int; the rows of the batch.

        Raises:
            ValueError: if there are fewer rows than devices.
        """
        if rows < self._least_rows:
            raise ValueError(
                "`x` must have batches with a row for each of the "
                f"{self._least_rows} devices, which take statistics of their slices in "
                f"batch normalization. Received a batch of {rows}: choose another batch"
                " size, `drop_remainder=True` if rows need no index, or layers with "
                "`synchronized=True`."
            )

    def _check_size(self, rows: np.int32) -> np.bool_:
        with self.keeping_errors():
            self.check_rows(int(rows))
        self._most_rows = max(self._most_rows, int(rows))
        if self._normalizes and is_tiny(int(rows), self._most_rows):
            self._normalizes = False
            warnings.warn(
                f"`x` has batches of {self._most_rows} rows and one of {rows}. Batch "
                "normalization takes statistics of each batch, and those of so few "
                "rows spoil the model: choose a batch size that leaves no small rest, "
                "or `drop_remainder=True` if rows need no index.",
                stacklevel=2,
            )
        return np.True_

    def _check_finite(self, finite: np.bool_) -> np.bool_:
        with self.keeping_errors():
            if not finite:
                raise ValueError(
                    "`x` must be finite. Received NaN or infinity in a batch."
                )
        return np.True_

    def _checked_rows(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        assert self._check_labels is not None
        with self.keeping_errors():
            return np.asarray(self._check_labels(labels, name="label"), np.float32)


def _may_be_outside(x: Any) -> bool:
    """Whether numbers of an array, a tensor or its spec may lie outside 0..255."""
    dtype = tf.as_dtype(x.dtype)
    return dtype != tf.uint8 and (dtype.is_floating or dtype.is_integer)
