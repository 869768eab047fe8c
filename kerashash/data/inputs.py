"""Cut what users pass to a model into batches, and check the batches."""

import hashlib
import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import check_array, check_choices, check_integer
from kerashash.data import streams
from kerashash.data.batch_watch import are_class_ids
from kerashash.data.finding import image_paths
from kerashash.data.image_reading import (
    check_faults,
    content,
    read_ahead,
)
from kerashash.data.photographs import as_taken
from kerashash.data.progress import progress


def batches(
    x: Any,
    batch_size: int,
    shape: tuple[int | None, ...] | None = None,
    image_size: int | None = None,
    on_error: str = "raise",
    image_fit: str = "squash",
) -> tuple[Iterable[Any], int | None]:
    """Cut the input of `encode` into batches.

    Args:
        x: array ``(n, ...)``; `tf.data.Dataset` of ``x`` or ``(x, y)``, batched or not;
            `keras.utils.PyDataset`, generator or other iterable of batches of these; or
            image files, as for `HashModel.encode`.
        batch_size: int, at least 1; the rows of a batch. A data set that is batched
            keeps its own.
        shape: tuple or None; the shape that a batch must have, with None for any size.
        image_size: int or None; the side in pixels to which image files are resized.
            None if the model takes no images.
        on_error: str; "raise" or "skip", as for `encode`.
        image_fit: str; how images become squares, as for
            `kerashash.data.read_images`.

    Returns:
        ``(iterable of batches, number of rows or None if unknown)``.

    Raises:
        TypeError, ValueError: if `x` is none of these.
    """
    check_integer("batch_size", batch_size)
    check_choices({"on_error": ("raise", "skip")}, on_error=on_error)
    if isinstance(x, keras.utils.PyDataset):
        if x.num_batches is None:
            raise ValueError("`x` must be finite. Received a PyDataset without length.")
        return streams.first_parts(x, batch_size, shape), None
    if isinstance(x, str | os.PathLike):
        x = [*image_paths(x, "x")]
    first, x = looked_at(x)
    if isinstance(first, str | os.PathLike):
        if image_size is None:
            raise ValueError(
                "`x` must hold feature vectors: this model's backbone takes no "
                f"images. Received paths: {os.fspath(first)!r}, ..."
            )
        files = ImageFiles(x, batch_size, image_size, on_error == "skip", image_fit)
        return files, len(x) if isinstance(x, Sized) else None
    if streams.is_stream(x):
        return streams.first_parts(x, batch_size, shape), None
    if isinstance(x, tf.data.Dataset):
        taken = as_taken(x, image_size, image_fit)
        return _dataset_batches(taken, batch_size, shape)
    if isinstance(x, list | tuple) and not x:  # no rows, of whatever shape
        return (), 0
    array = check_array(x, shape)
    starts = range(0, len(array), batch_size)
    return (array[s : s + batch_size] for s in starts), len(array)


def looked_at(x: Any) -> tuple[Any, Any]:
    """Look at the first item of a list or stream, to know whether it is of paths.

    Args:
        x: what a user passes to `encode`.

    Returns:
        ``(first, x)``: the first item, or None of no list or stream, or an empty one;
        and `x`, or an iterator that begins with that item, too.

    Example:
        >>> first, x = looked_at(iter(["a.jpg", "b.jpg"]))
        >>> first, [*x]
        ('a.jpg', ['a.jpg', 'b.jpg'])
    """
    if isinstance(x, list | tuple):
        return (x[0] if x else None), x
    if not streams.is_stream(x):
        return None, x
    items = iter(x)
    head = [*itertools.islice(items, 1)]
    return (head[0] if head else None), itertools.chain(head, items)


class ImageFiles:
    """Image files, read in batches; a few that cannot be read do not end it.

    Args:
        paths: iterable of paths.
        batch_size: int.
        image_size: int; the side in pixels to which images are resized.
        skips: bool; True leaves out files that are no readable images. False reads the
            files after such a one, too, and then raises one error that names them all.
        fit: str; as for `kerashash.data.read_images`.

    Attributes:
        faults: dict of str by position in `paths`; what is wrong with the files that
            could not be read so far.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        batch_size: int,
        image_size: int,
        skips: bool,
        fit: str = "squash",
    ) -> None:
        self._paths, self._batch_size = paths, batch_size
        self._image_size, self._skips, self._fit = image_size, skips, fit
        self.faults: dict[int, str] = {}

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        paths: dict[int, str | os.PathLike[str]] = {}  # of files with faults
        for pixels, _, faults in read_ahead(
            enumerate(self._paths),
            lambda item: content(os.path.expanduser(item[1])),
            self._image_size,
            self._fit,
            self._batch_size,
        ):
            for (position, path), fault in faults:
                self.faults[position], paths[position] = fault, path
            # With an error to come, nobody needs further codes.
            if len(pixels) and (self._skips or not self.faults):
                yield pixels
        if not self._skips:
            check_faults(self.faults, paths, "x")


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
    x, y = spec
    if not isinstance(x, tf.TensorSpec):
        raise ValueError(
            f"`{owner}` trains on pairs (x, y) where x is one tensor. "
            f"Received elements: {spec}."
        )
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
    if needs_index and not y["index"].dtype.is_integer:
        raise ValueError(
            f"`{owner}` needs batches with 'index' of integers. "
            f"Received dtype: {y['index'].dtype.name}."
        )
    if not needs_labels or are_class_ids(spec):
        return
    is_batch = x.shape.rank not in (None, 0) and x.shape[0] is None
    if label.shape.rank == 1 and is_batch and not label.dtype.is_integer:
        raise ValueError(
            f"`{owner}` needs class ids that are integers. "
            f"Received dtype: {label.dtype.name}."
        )
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
