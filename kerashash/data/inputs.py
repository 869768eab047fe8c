"""Cut what users pass to a model into batches, and check the batches."""

import contextlib
import hashlib
import os
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.backbones.images import ResizeImages, input_size, leaves
from kerashash.checks import check_array, check_choices, check_integer
from kerashash.data.image_reading import at_size, check_faults, read_batch

Item = TypeVar("Item")


def batches(
    x: npt.ArrayLike | tf.data.Dataset | Sequence[str | os.PathLike[str]],
    batch_size: int,
    shape: tuple[int | None, ...] | None = None,
    image_size: int | None = None,
    on_error: str = "raise",
) -> tuple[Iterable[Any], int | None]:
    """Cut the input of `encode` into batches.

    Args:
        x: array ``(n, ...)``; `tf.data.Dataset` of ``x`` or ``(x, y)``, batched or not;
            `keras.utils.PyDataset`, generator or other iterable of batches of these; or
            list of paths of image files.
        batch_size: int, at least 1; the rows of a batch. A data set that is batched
            keeps its own.
        shape: tuple or None; the shape that a batch must have, with None for any size.
        image_size: int or None; the side in pixels to which image files are resized.
            None if the model takes no images.
        on_error: str; "raise" or "skip", as for `encode`.

    Returns:
        ``(iterable of batches, number of rows or None if unknown)``.

    Raises:
        TypeError, ValueError: if `x` is none of these.
    """
    from kerashash.data import streams

    check_integer("batch_size", batch_size)
    check_choices({"on_error": ("raise", "skip")}, on_error=on_error)
    if isinstance(x, keras.utils.PyDataset):
        if x.num_batches is None:
            raise ValueError("`x` must be finite. Received a PyDataset without length.")
        return streams.first_parts(x, batch_size, shape), None
    if streams.is_stream(x):
        return streams.first_parts(x, batch_size, shape), None
    if isinstance(x, tf.data.Dataset):
        return _dataset_batches(at_size(x, image_size), batch_size, shape)
    if isinstance(x, str | os.PathLike):
        raise TypeError(
            f"`x` must be a list of paths, not one path. Received: {x!r}. "
            f"Did you mean [{str(x)!r}]?"
        )
    if isinstance(x, list | tuple) and x and isinstance(x[0], str | os.PathLike):
        if image_size is None:
            raise ValueError(
                "`x` must hold feature vectors: this model's backbone takes no "
                f"images. Received a list of {len(x)} paths."
            )
        return ImageFiles(x, batch_size, image_size, on_error == "skip"), len(x)
    if isinstance(x, list | tuple) and not x:  # no rows, of whatever shape
        return (), 0
    array = check_array(np.asarray(x), shape)
    starts = range(0, len(array), batch_size)
    return (array[s : s + batch_size] for s in starts), len(array)


class ImageFiles:
    """Image files, read in batches; a few that cannot be read do not end it.

    Args:
        paths: list of paths.
        batch_size: int.
        image_size: int; the side in pixels to which images are resized.
        skips: bool; True leaves out files that are no readable images. False reads the
            files after such a one, too, and then raises one error that names them all.

    Attributes:
        faults: dict of str by position in `paths`; what is wrong with the files that
            could not be read so far.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        batch_size: int,
        image_size: int,
        skips: bool,
    ) -> None:
        self._paths, self._batch_size = paths, batch_size
        self._image_size, self._skips = image_size, skips
        self.faults: dict[int, str] = {}

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, len(self._paths), self._batch_size):
            paths = self._paths[start : start + self._batch_size]
            pixels, faults = read_batch(paths, self._image_size)
            self.faults |= {start + at: fault for at, fault in faults.items()}
            # With an error to come, nobody needs further codes.
            if len(pixels) and (self._skips or not self.faults):
                yield pixels
        if not self._skips:
            check_faults(self.faults, self._paths, "x")


def _dataset_batches(
    dataset: tf.data.Dataset, batch_size: int, shape: tuple[int | None, ...] | None
) -> tuple[tf.data.Dataset, int | None]:
    """Drop the labels of a data set, batch it if need be, and count its rows."""
    spec = dataset.element_spec
    x, y = spec if isinstance(spec, tuple) and len(spec) == 2 else (spec, None)
    if not isinstance(x, tf.TensorSpec):
        raise ValueError(
            "`x` must be a data set of x or (x, y) where x is one tensor. "
            f"Received elements: {spec}."
        )
    if isinstance(spec, tuple):
        dataset = dataset.map(lambda x, y: x)
    if shape is not None:
        single = x.shape.rank == len(shape) - 1
    else:
        # A model that has not been built knows no input shape: look at the label.
        single = isinstance(y, dict) and "label" in y and y["label"].shape.rank == 1
    # Of a batched data set, TensorFlow knows the number of batches alone.
    count = _count(dataset)
    if single:
        dataset = dataset.batch(batch_size)
    x = dataset.element_spec
    if shape is not None and not x.shape.is_compatible_with(shape):
        raise ValueError(
            f"`x` must yield batches of shape {tuple(shape)}. "
            f"Received shape: {x.shape}."
        )
    return dataset.prefetch(tf.data.AUTOTUNE), count if single else None


def _count(dataset: tf.data.Dataset) -> int | None:
    """Return the number of elements, or None if unknown; refuse endless data sets."""
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`x` must be finite. Received a data set that repeats: remove `.repeat()`."
        )
    return count if count >= 0 else None


def check_batches(
    dataset: tf.data.Dataset,
    num_classes: int,
    needs_labels: bool,
    needs_index: bool,
    owner: str,
) -> None:
    """Check that a data set yields the batches that a method trains on.

    Args:
        dataset: `tf.data.Dataset`.
        num_classes: int; the width of a label row.
        needs_labels: bool; whether the method learns from labels.
        needs_index: bool; whether the method keeps a row of codes for each training
            image.
        owner: str; the name of the method, for the error.

    Raises:
        ValueError: if the elements are not batches ``(x, {"label", "index"})``.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        keys = ["'label': ...", "'index': ..."] if needs_labels else ["'index': ..."]
        raise ValueError(
            f"`{owner}` trains on pairs (x, y) with y = {{{', '.join(keys)}}}. "
            "`kerashash.data.indexed(dataset)` adds the index. "
            f"Received elements: {spec}."
        )
    y = spec[1]
    label: Any = y.get("label") if isinstance(y, dict) else y
    if needs_labels and label is None:
        raise ValueError(f"`{owner}` needs 'label' in y. Received keys: {sorted(y)}.")
    if needs_index and not (isinstance(y, dict) and "index" in y):
        received = f"keys: {sorted(y)}" if isinstance(y, dict) else "labels only"
        raise ValueError(
            f"`{owner}` keeps a row for each training image and needs 'index' in "
            "y: the row's number, int32 (batch,). `kerashash.data.indexed(dataset)` "
            f"adds it. Received {received}."
        )
    if needs_index and y["index"].shape.rank not in (None, 1):
        raise ValueError(
            f"`{owner}` needs batches with 'index' of shape (batch,). Received index "
            f"of shape {y['index'].shape}: a data set must be batched, "
            "`dataset.batch(128)`."
        )
    if not needs_labels or are_class_ids(spec):
        return
    if label.shape.rank is not None and label.shape.rank != 2:
        raise ValueError(
            f"`{owner}` needs batches with labels of shape (batch, num_classes), or "
            "integer class ids of shape (batch,). Received labels of shape "
            f"{label.shape}: a data set must be batched, `dataset.batch(128)`, with "
            "one row for each example."
        )
    width = label.shape[1] if label.shape.rank else None
    if width not in (None, num_classes):
        raise ValueError(
            f"`{owner}` needs label rows of width num_classes={num_classes}. "
            f"Received width: {width}."
        )


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

    Labels that are wrong raise; class ids become label rows. Images of floats that seem
    to be scaled to 0..1 or -1..1, where the network takes 0..255, cause one warning,
    and so does a batch whose few rows disturb batch normalization.

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
    ) -> None:
        self._num_classes, self._least_rows = num_classes, least_rows
        self._image_size = input_size(network)
        self._normalizes, self._most_rows = normalizes, 0
        # Of a network that does not begin with these layers, nobody knows the range.
        self._takes_pixels = any(
            isinstance(layer, ResizeImages | keras.layers.Rescaling)
            for layer in leaves(network)
        )
        self._check_labels = check_labels
        self._error: Exception | None = None

    def __enter__(self) -> None:
        self._error = None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self._error is not None and isinstance(error, tf.errors.OpError):
            raise self._error from None

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
            dataset: `tf.data.Dataset`; images are read in the size that the network
                takes, where that is possible.

        Returns:
            `tf.data.Dataset` of the same elements, but for class ids.
        """
        dataset = at_size(dataset, self._image_size)
        spec = dataset.element_spec
        if not isinstance(spec, tuple) or len(spec) != 2:
            return dataset
        x = spec[0]
        label = spec[1].get("label") if isinstance(spec[1], dict) else spec[1]
        has_labels = self._check_labels is not None and isinstance(label, tf.TensorSpec)
        has_pixels = (
            self._takes_pixels and isinstance(x, tf.TensorSpec) and _is_float_images(x)
        )
        are_ids = has_labels and are_class_ids(spec)

        def check(x: Any, y: Any) -> tuple[Any, Any]:
            if self._normalizes:
                rows = tf.shape(tf.nest.flatten(x)[0])[0]
                tf.numpy_function(self._check_size, [rows], tf.bool)
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

        watched = has_labels or has_pixels or self._normalizes
        return dataset.map(check) if watched else dataset

    def check_images(self, x: Any) -> None:
        """Warn, once, of images that seem to be scaled.

        Args:
            x: array or tensor ``(n, ...)``.
        """
        if self._takes_pixels and len(x) and _is_float_images(x):
            x = np.asarray(x)
            self._check_limits(x.min(), x.max())

    def _check_limits(self, low: np.floating[Any], high: np.floating[Any]) -> np.bool_:
        # Images of one grey level, such as all black, tell nothing.
        if self._takes_pixels and low < high and (high <= 1 or low < 0):
            self._takes_pixels = False
            received = "none above 1" if high <= 1 else "some below 0"
            warnings.warn(
                "`x` must hold images with values in [0, 255]. Received floats, "
                f"{received}: the model scales images itself, and codes of images that "
                "have been scaled before mean little.",
                stacklevel=2,
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

    def _checked_rows(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        assert self._check_labels is not None
        with self.keeping_errors():
            return np.asarray(self._check_labels(labels, name="label"), np.float32)


def _is_float_images(x: Any) -> bool:
    """Say whether an array, a tensor or its spec is a batch of images of floats."""
    return tf.TensorShape(x.shape).rank == 4 and tf.as_dtype(x.dtype).is_floating


class Passes:
    """A data set over which a method passes before training, as often as it likes.

    Args:
        dataset: `tf.data.Dataset` of batches.
        begin: bool; True makes the iterator of the first pass at once. The orders of a
            data set that is shuffled with a seed are those of its iterators, counted
            from the first that was made; so they do not depend on when, nor whether,
            the pass takes place.

    Example:
        >>> passes = Passes(tf.data.Dataset.range(4).batch(2), begin=True)
        >>> passes.steps, [len(batch) for batch in passes]
        (2, [2, 2])
    """

    def __init__(self, dataset: tf.data.Dataset, begin: bool) -> None:
        self._dataset = dataset
        self._first: Iterator[Any] | None = iter(dataset) if begin else None

    @property
    def steps(self) -> int | None:
        """The number of batches, None if unknown."""
        return _count(self._dataset)

    def __iter__(self) -> Iterator[Any]:
        _count(self._dataset)  # refuses an endless one
        first, self._first = self._first, None
        return iter(self._dataset) if first is None else first


class Slices:
    """Arrays as batches, over which a method passes as often as it likes.

    Args:
        x: array ``(n, ...)``.
        y: dict of arrays of n rows.
        batch_size: int.

    Example:
        >>> slices = Slices(np.zeros((3, 2)), {"index": np.arange(3)}, 2)
        >>> slices.steps, [y["index"].tolist() for _, y in slices]
        (2, [[0, 1], [2]])
    """

    def __init__(self, x: Any, y: dict[str, Any], batch_size: int) -> None:
        self._x, self._y, self._batch_size = x, y, batch_size
        self.steps = -(-len(x) // batch_size)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self._x), self._batch_size):
            rows = slice(start, start + self._batch_size)
            yield self._x[rows], {name: value[rows] for name, value in self._y.items()}


def fingerprint(*arrays: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Digest arrays, to tell later whether others are equal.

    Args:
        *arrays: arrays of numbers.

    Returns:
        uint8 array ``(32,)``, the SHA-256 of shapes, dtypes and values.

    Example:
        >>> bool((fingerprint([1, 2]) == fingerprint([1, 2])).all())
        True
    """
    digest = hashlib.sha256()
    for value in arrays:
        array = np.ascontiguousarray(value)
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(array.data)
    return np.frombuffer(digest.digest(), np.uint8)


def checksums(x: Any) -> npt.NDArray[np.float32]:
    """Compute the CRC-32 of each row, to tell later whether rows are the same.

    Args:
        x: array or tensor ``(n, ...)`` of numbers, or a structure of these.

    Returns:
        float32 array ``(n, 2)``, as `collect` takes it: the upper and the lower half
        of each checksum.

    Example:
        >>> a, b, c = checksums(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]]))
        >>> bool((a == b).all()), bool((a == c).all())
        (True, False)
    """
    parts = [np.asarray(part) for part in tf.nest.flatten(x)]
    # The same rows may come as an array of float64 or as tensors of float32.
    parts = [p if p.dtype.kind in "biu" else p.astype(np.float32) for p in parts]
    values = np.zeros(len(parts[0]), np.uint32)
    for row in range(len(values)):
        for part in parts:
            row_bytes = np.ascontiguousarray(part[row]).tobytes()
            values[row] = zlib.crc32(row_bytes, int(values[row]))
    return np.stack([values >> 16, values & 0xFFFF], axis=1).astype(np.float32)


def collect(
    batches: Iterable[tuple[Any, dict[str, Any]]],
    num_train: int,
    function: Callable[..., tf.Tensor],
    check_labels: Callable[[Any], npt.NDArray[np.float32]] | None = None,
    verbose: str | int = "auto",
) -> tuple[Any, npt.NDArray[np.float32]]:
    """Apply a function to one epoch of batches; return rows in order of the index.

    Args:
        batches: iterable of ``(x, {"label", "index"})``, in which each index from 0 to
            num_train - 1 occurs once.
        num_train: int; the number of training rows.
        function: called with ``(x, labels)`` of a batch; returns a tensor with one row
            for each element.
        check_labels: called with the labels of a batch; returns float32 label rows.
            None: batches are ``(x, {"index"})``, without labels, and `function` is
            called with x alone.
        verbose: as for `progress`.

    Returns:
        ``(labels, outputs)``: float32 ``(num_train, num_classes)``, or None without
        labels, and float32 ``(num_train, ...)``.

    Raises:
        ValueError: if an index is out of range, missing or repeated, or a label row is
            wrong.
    """
    seen = np.zeros(num_train, bool)
    rows_by_name: dict[str, npt.NDArray[np.float32]] = {}

    def store(name: str, index: npt.NDArray[np.integer], rows: Any) -> None:
        if name not in rows_by_name:
            rows_by_name[name] = np.zeros((num_train, *rows.shape[1:]), np.float32)
        rows_by_name[name][index] = rows

    count = lambda pair: len(pair[1]["index"])  # noqa: E731
    for x, y in progress(batches, num_train, "Preparing", verbose, count):
        index = np.asarray(y["index"])
        _check_index(index, seen)
        seen[index] = True
        if check_labels is None:
            store("output", index, function(x).numpy())
        else:
            labels = check_labels(y["label"])
            store("label", index, labels)
            store("output", index, function(x, labels).numpy())
    if not seen.all():
        raise ValueError(
            "`num_train` must be the number of training rows. Received: num_train="
            f"{num_train}, but an epoch holds {seen.sum()} indices; the first missing "
            f"is {np.argmin(seen)}."
        )
    return rows_by_name.get("label"), rows_by_name["output"]


def _check_index(index: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> None:
    """Check that the indices of a batch are in range and occur once an epoch.

    Args:
        index: array, as the batch has it.
        seen: bool array ``(num_train,)``, the indices of earlier batches.
    """
    n = len(seen)
    if index.dtype.kind not in "ui" or index.ndim != 1:
        raise ValueError(
            "`index` must be integers of shape (batch,). Received dtype: "
            f"{index.dtype}, shape: {index.shape}."
        )
    if index.min() < 0 or index.max() >= n:
        raise ValueError(
            f"`index` must lie in 0 to num_train - 1 = {n - 1}. Received values from "
            f"{index.min()} to {index.max()}."
        )
    values, counts = np.unique(index, return_counts=True)
    repeated = values[(counts > 1) | seen[values]]
    if repeated.size:
        raise ValueError(
            "`index` must hold each training row once an epoch. Received again: "
            f"{repeated[:5].tolist()}."
        )


# Seconds of work after which a progress bar appears by itself.
_PATIENCE = 2.0


def progress(
    iterable: Iterable[Item],
    total: int | None,
    title: str,
    verbose: str | int = "auto",
    count: Callable[[Item], int] = len,  # type: ignore[assignment]
    unit: str = "image",
) -> Iterator[Item]:
    """Iterate with a progress bar, which by default appears on long work only.

    The bar appears before the first item, and counts rows, not batches. Where the
    output is no terminal, there is one line at the beginning and one at the end.

    Args:
        iterable: what to iterate over.
        total: int or None; the number of rows in all, None if unknown.
        title: str; printed above the bar.
        verbose: "auto", 0, 1 or 2; "auto" and 2 show the bar once the work has taken
            two seconds, 1 always, 0 never.
        count: function of an item; the number of its rows.
        unit: str; what a row is.

    Yields:
        The items of `iterable`.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"`verbose` must be 'auto', 0 or 1. Received: {verbose!r}.")
    bar = _Bar(total, title, unit)
    # A thread shows the bar while the first batch is still on its way.
    timer = threading.Timer(_PATIENCE, bar.show)
    timer.daemon = True
    if verbose == 1:
        bar.show()
    elif verbose:
        timer.start()
    try:
        for item in iterable:
            yield item
            bar.add(count(item))
        bar.close()
    finally:
        timer.cancel()


class _Bar:
    """A progress bar, on a terminal, or a line at both ends of the work."""

    def __init__(self, total: int | None, title: str, unit: str) -> None:
        self._total, self._title, self._unit = total, title, unit
        self._done, self._start = 0, time.monotonic()
        self._bar: Any = None
        self._is_shown = False
        self._lock = threading.Lock()

    def show(self) -> None:
        with self._lock:
            self._is_shown = True
            of = "" if self._total is None else f"{self._total:,} {self._unit}s"
            if not sys.stdout.isatty():
                print(f"{self._title}: {of}" if of else self._title, flush=True)
                return
            print(self._title, flush=True)
            self._bar = keras.utils.Progbar(self._total, unit_name=self._unit)
            self._bar.update(self._done, finalize=False)

    def add(self, rows: int) -> None:
        with self._lock:
            self._done += rows
            if self._bar is not None:
                self._bar.update(self._done, finalize=False)

    def close(self) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.target = self._done
                self._bar.update(self._done, finalize=True)
            elif self._is_shown:
                seconds = time.monotonic() - self._start
                print(
                    f"{self._title}: {self._done:,} {self._unit}s in {seconds:.0f} s",
                    flush=True,
                )
