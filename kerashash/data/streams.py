"""Batches that users hand over by number or one after the other.

These are `keras.utils.PyDataset`s, and generators or other iterables of batches. None
of them is read into memory.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import checks
from kerashash.data.batch_watch import BatchWatch


def is_stream(x: Any) -> bool:
    """Say whether a value is a generator or another iterable of batches.

    Args:
        x: what a user passes to `fit`, `evaluate` or `encode`.

    Returns:
        bool; False for arrays, sequences, data sets and paths.

    Example:
        >>> is_stream(iter([])), is_stream([]), is_stream(np.zeros(3))
        (True, False, False)
    """
    if isinstance(x, str | bytes | os.PathLike | set | tf.data.Dataset):
        return False
    if hasattr(x, "__array__") or hasattr(x, "__getitem__"):
        return False
    return isinstance(x, Iterable)


class BatchCheck:
    """Checks the batches of a stream, and brings them into the form of training data.

    Args:
        watch: `BatchWatch`; it keeps an error, which TensorFlow would reword.
        shape: tuple or None; the shape that x must have, None for any size.
        check_labels: function of labels, their number and a name that returns label
            rows, or None for a method without labels.
        owner: str; the name of the method, for errors.

    Call:
        ``(x, y)``, with y labels or a dict of "label" and "index"; or x without labels
        -> ``(x, {"label", "index"})`` with the parts that there are.
    """

    def __init__(
        self,
        watch: BatchWatch,
        shape: tuple[int | None, ...] | None,
        check_labels: Callable[..., npt.NDArray[np.float32]] | None,
        owner: str,
    ) -> None:
        self._watch, self._shape = watch, shape
        self._check_labels, self._owner = check_labels, owner

    def __call__(self, batch: Any) -> tuple[Any, dict[str, Any]]:
        with self._watch.keeping_errors():
            return self._checked(batch)

    def _checked(self, batch: Any) -> tuple[Any, dict[str, Any]]:
        pair = batch if isinstance(batch, tuple | list) else (batch, None)
        if len(pair) == 1:
            pair = (pair[0], None)
        if len(pair) != 2:
            raise ValueError(
                f"`{self._owner}` trains on batches (x, y), and takes no sample "
                f"weights. Received a batch of {len(pair)} parts."
            )
        x = checks.check_array(pair[0], self._shape)
        self._watch.check_rows(len(x))
        self._watch.check_images(x)
        y = pair[1] if isinstance(pair[1], dict) else {"label": pair[1]}
        rows = {}
        if self._check_labels is not None:
            if y.get("label") is None:
                raise ValueError(
                    f"`{self._owner}` needs labels: batches (x, y) with y the labels "
                    "or {'label': ...}. Received a batch without."
                )
            rows["label"] = self._check_labels(y["label"], len(x), "label")
        if y.get("index") is not None:
            index = np.asarray(y["index"])
            if index.dtype.kind not in "ui" or index.shape != (len(x),):
                raise ValueError(
                    f"`index` must be integers of shape ({len(x)},). Received dtype: "
                    f"{index.dtype}, shape: {index.shape}."
                )
            rows["index"] = index.astype(np.int32)
        return x, rows


class NumberedBatches(keras.utils.PyDataset):
    """A user's `keras.utils.PyDataset` whose batches are checked as they pass.

    Args:
        dataset: `keras.utils.PyDataset`.
        check: `BatchCheck`.
        needs_index: bool; True adds the row numbers where the data set gives none:
            batch i begins with row ``i * size``, where size is that of the first batch.
        owner: str; the name of the method, for errors.

    Raises:
        ValueError: if it needs an index and cannot know it.
    """

    def __init__(
        self,
        dataset: keras.utils.PyDataset,
        check: BatchCheck,
        needs_index: bool,
        owner: str,
    ) -> None:
        super().__init__(
            dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size
        )
        self._dataset, self._check = dataset, check
        if self.num_batches == 0:
            raise ValueError("`x` must have batches. Received a PyDataset of length 0.")
        x, y = check(dataset[0])
        self._size = len(x)
        self._adds_index = needs_index and "index" not in y
        if needs_index and self.num_batches is None:
            raise ValueError(
                f"`{owner}` keeps a row for each training image. Received a PyDataset "
                "without a length."
            )
        hooks = ("on_epoch_begin", "on_epoch_end")
        overridden = [
            name
            for name in hooks
            if getattr(type(dataset), name) is not getattr(keras.utils.PyDataset, name)
        ]
        if self._adds_index and overridden:
            raise ValueError(
                f"`{owner}` keeps a row for each training image, and a PyDataset with "
                f"`{overridden[0]}` may change their order. Let it give batches (x, "
                "{'label': ..., 'index': ...}) with the row numbers, int (batch,); or "
                "leave the shuffling of batches to `fit`."
            )

    @property
    def steps(self) -> int | None:
        """The number of batches, None if unknown."""
        return self.num_batches

    @property
    def num_batches(self) -> int | None:
        count = self._dataset.num_batches
        return None if count is None else int(count)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> tuple[Any, dict[str, Any]]:
        x, y = self._check(self._dataset[number])
        if self._adds_index:
            is_last = number == len(self) - 1
            if len(x) > self._size or (len(x) < self._size and not is_last):
                raise ValueError(
                    "`x` must have batches of one size, but for a smaller last one, "
                    "for their rows to be numbered; or give the 'index' itself. "
                    f"Received {len(x)} rows in batch {number} and {self._size} in "
                    "batch 0."
                )
            y["index"] = np.arange(len(x), dtype=np.int32) + number * self._size
        return x, y

    def on_epoch_begin(self) -> None:
        self._dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._dataset.on_epoch_end()


def first_parts(
    x: Any, batch_size: int, shape: tuple[int | None, ...] | None
) -> Iterator[npt.NDArray[Any]]:
    """Iterate over the inputs of a stream, without labels, in batches.

    Args:
        x: `keras.utils.PyDataset`, or iterable of ``x`` or ``(x, y)``, batched or not.
        batch_size: int; the rows of a batch where they come one by one.
        shape: tuple or None; the shape of a batch, with None for any size.

    Yields:
        Arrays ``(batch, ...)``.

    Raises:
        TypeError, ValueError: if a batch has another shape or holds no numbers.
    """
    items = (x[i] for i in range(len(x))) if _is_numbered(x) else iter(x)
    rows: list[npt.NDArray[Any]] = []
    for item in items:
        part = np.asarray(item[0] if isinstance(item, tuple | list) else item)
        if shape is None or part.ndim != len(shape) - 1:
            yield checks.check_array(part, shape)
            continue
        rows.append(part)
        if len(rows) == batch_size:
            yield checks.check_array(np.stack(rows), shape)
            rows = []
    if rows:
        yield checks.check_array(np.stack(rows), shape)


def _is_numbered(x: Any) -> bool:
    return isinstance(x, keras.utils.PyDataset)
