"""RetrievalData: one data set under one protocol."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import as_array, check_choices, check_integer
from kerashash.data.images import EncodedImages
from kerashash.data.photographs import (
    Photographs,
    of_photographs,
    photographs_mapped,
)
from kerashash.data.protocols import Rows
from kerashash.data.resizing import FITS
from kerashash.forks import check_not_forked

# Rows are read in blocks: one call a row would cost more than the copying.
_ROWS_A_CALL = 256
# The splits that every protocol has.
_NEEDED = ("train", "query", "database")


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalData:
    """Training images, queries and database of a data set under a protocol.

    The splits are `tf.data.Dataset`s, not batched, of ``(x, {"label", "index"})``:
    a float32 label row ``(num_classes,)`` and the int32 position in the split.
    ``train`` is shuffled anew (seeded) each time it is iterated over, so that
    ``model.fit(data.train.batch(128), epochs=20)`` needs no further shuffling. Each
    element carries its index: the rows of learned codes stay right in any order.
    ``query`` and ``database`` keep their order.

    All splits read from the one array `x`; none is a copy. Photographs stay encoded in
    it. They are decoded and resized by several threads as they are read: to the size
    that the data set was given, or else to that of the model that they are passed to.

    Attributes:
        name: str; the data set.
        protocol: str; the protocol.
        seed: int; the seed of the draw and of the order of the training images.
        class_names: tuple of str, in order of the label columns.
        splits: dict of int arrays; the rows of `x` in each split. There are "train",
            "query" and "database", and may be "unlabelled" and "validation".
        x: array ``(n, ...)`` of bool, integers or floats of at most 64 bits, in any
            byte order, or `kerashash.data.EncodedImages`; all images. A `np.memmap`
            stays in its file.
        labels: uint8 array ``(n, num_classes)``, values in {0, 1}.
        names: str array ``(n,)`` or None; the names of the images: the publisher's, the
            paths of the files, or the sha256 of the pixels. None without names.
        image_fit: str or None; how the images became squares of which `x` holds
            features: "squash", "crop" or "pad". None of other data.
        num_classes, num_train, num_query, num_database: int.
        train_labels, query_labels, database_labels: uint8 arrays, the rows of `labels`
            in each split.

    Raises:
        TypeError: if an argument has the wrong type; the error names it.
        ValueError: if an argument has the wrong shape or values, or does not go with
            the others.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> print(data)
        RetrievalData(name='digits', protocol='default', seed=0,
            splits={'database': 1497, 'query': 300, 'train': 1497},
            x=float32 (1797, 64), num_classes=10)
        >>> data.num_classes, data.num_train
        (10, 1497)
        >>> x, y = next(iter(data.query.batch(32)))
        >>> x.shape, y["label"].shape, y["index"].shape
        (TensorShape([32, 64]), TensorShape([32, 10]), TensorShape([32]))
    """

    name: str
    protocol: str
    seed: int
    class_names: tuple[str, ...]
    splits: dict[str, Rows] = dataclasses.field(repr=False)
    x: npt.NDArray[Any] | EncodedImages = dataclasses.field(repr=False)
    labels: npt.NDArray[np.uint8] = dataclasses.field(repr=False)
    names: npt.NDArray[np.str_] | None = dataclasses.field(default=None, repr=False)
    image_fit: str | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, least=0, most=2**32 - 1)
        labels = _checked_labels(self.labels)
        checked = {
            "class_names": _checked_class_names(self.class_names, labels.shape[1]),
            "splits": _checked_splits(self.splits, len(labels)),
            "labels": labels,
        }
        check_choices({"image_fit": (*FITS, None)}, image_fit=self.image_fit)
        if not isinstance(self.x, EncodedImages):
            is_mapped = isinstance(self.x, np.memmap)
            x = self.x if is_mapped else as_array(self.x, "x")
            # TensorFlow has no floats of more than 8 bytes.
            if not x.ndim or x.dtype.kind not in "buif" or x.dtype.itemsize > 8:
                raise TypeError(
                    "`x` must be an array of bool, integers or floats of at most 64 "
                    "bits with a row for each image, or EncodedImages. Received type: "
                    f"{type(self.x).__name__}, dtype: {x.dtype}, shape: {x.shape}."
                )
            checked["x"] = x
        if self.names is not None:
            names = checked["names"] = as_array(self.names, "names")
            if names.shape != (len(labels),):
                raise ValueError(
                    f"`names` must hold a name for each of the {len(labels)} images. "
                    f"Received shape: {names.shape}."
                )
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the only way of a frozen class
        if len(self.x) != len(labels):
            raise ValueError(
                f"`x` must have a row for each of the {len(labels)} rows of `labels`. "
                f"Received shape: {self.x.shape}."
            )

    def __repr__(self) -> str:
        sizes = {name: len(rows) for name, rows in sorted(self.splits.items())}
        dtype = getattr(self.x, "dtype", np.dtype(np.uint8))
        return (
            f"{type(self).__name__}(name={self.name!r}, protocol={self.protocol!r}, "
            f"seed={self.seed},\n    splits={sizes},\n    x={dtype} {self.x.shape}, "
            f"num_classes={self.num_classes})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Without the data sets of TensorFlow, which are made again.
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @property
    def num_classes(self) -> int:
        return self.labels.shape[1]

    @property
    def num_train(self) -> int:
        return len(self.splits["train"])

    @property
    def num_query(self) -> int:
        return len(self.splits["query"])

    @property
    def num_database(self) -> int:
        return len(self.splits["database"])

    @property
    def train_labels(self) -> npt.NDArray[np.uint8]:
        return self.labels[self.splits["train"]]

    @property
    def query_labels(self) -> npt.NDArray[np.uint8]:
        return self.labels[self.splits["query"]]

    @property
    def database_labels(self) -> npt.NDArray[np.uint8]:
        return self.labels[self.splits["database"]]

    @property
    def query(self) -> tf.data.Dataset:
        """The queries, in order."""
        return self._dataset("query")

    @property
    def database(self) -> tf.data.Dataset:
        """The database, in order."""
        return self._dataset("database")

    @property
    def validation(self) -> tf.data.Dataset | None:
        """The validation images, in order; None if there are none."""
        return self._dataset("validation") if "validation" in self.splits else None

    @property
    def train(self) -> tf.data.Dataset:
        """The training images, shuffled anew each time they are iterated over."""
        check_not_forked()  # the data set may have been made before
        return self._train

    # Cached: a new data set would start again with the order of the first epoch.
    @functools.cached_property
    def _train(self) -> tf.data.Dataset:
        if not self.num_train:
            raise ValueError(
                "`splits` must have training images to train on. Received no rows in "
                "splits['train']."
            )
        return self._dataset("train", shuffle=True)

    @property
    def unlabelled(self) -> tf.data.Dataset | None:
        """The images that train without labels, ``(x, {"index"})``, shuffled anew each
        time they are iterated over; None if the protocol has none."""
        if "unlabelled" not in self.splits:
            return None
        check_not_forked()
        return self._unlabelled

    @functools.cached_property
    def _unlabelled(self) -> tf.data.Dataset:

        def without_labels(dataset: tf.data.Dataset) -> tf.data.Dataset:
            return dataset.map(lambda x, y: (x, {"index": y["index"]}))

        labelled = self._dataset("unlabelled", shuffle=True)
        return photographs_mapped(labelled, without_labels)

    @property
    def train_rows(self) -> npt.NDArray[np.int32]:
        """The position in the database of each training image, int32 array
        ``(num_train,)``; -1 for images outside the database."""
        position = np.full(len(self.labels), -1, np.int32)
        position[self.splits["database"]] = np.arange(self.num_database)
        return position[self.splits["train"]]

    def for_validation(self) -> "RetrievalData":
        """Make the data set to measure on while options are chosen.

        The validation images are its queries, and the training images its database: of
        the queries and of the rest of the database nothing is used, nor any label that
        the protocol withholds. Training rows keep their indices.

        Returns:
            `RetrievalData`.

        Raises:
            ValueError: if there are no validation images.

        Example:
            >>> import kerashash
            >>> data = kerashash.data.load("digits", validation=0.1)
            >>> data.num_train, data.for_validation().num_query
            (1348, 149)
        """
        if "validation" not in self.splits:
            raise ValueError(
                f"{self.name} has no validation images under the protocol "
                f"{self.protocol!r}. Load it with validation=0.1, or another share of "
                "the training images."
            )
        train = self.splits["train"]
        splits = {
            "train": train,
            "query": self.splits["validation"],
            "database": train,
        }
        return dataclasses.replace(
            self, protocol=f"{self.protocol}, validation", splits=splits
        )

    def arrays(self, split: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Return a split as arrays in memory, in order of the index.

        Args:
            split: str; "train", "query", "database" or, if the protocol has them,
                "unlabelled" or "validation".

        Returns:
            ``(x, labels)``: array ``(n, ...)`` and uint8 array ``(n, num_classes)``.

        Raises:
            ValueError: if the protocol has no such split.
        """
        check_choices({"split": sorted(self.splits)}, split=split)
        rows = self.splits[split]
        return _rows(self.x, rows), self.labels[rows]

    def _dataset(self, split: str, shuffle: bool = False) -> tf.data.Dataset:
        """Build the data set of a split."""
        images = self.x
        dataset = self._dataset_of(images, split, shuffle)
        if not isinstance(images, EncodedImages):
            if self.image_fit is None:
                return dataset
            return of_photographs(dataset, Photographs(self.image_fit, None))
        if not images.is_open:
            return of_photographs(dataset, Photographs(images.fit, None))
        # Cached: a new data set would start again with the order of its epochs.
        reread = functools.cache(
            lambda size, fit: self._dataset_of(
                images.as_taken(size, fit), split, shuffle
            )
        )
        return of_photographs(dataset, Photographs(images.fit, reread))

    def _dataset_of(
        self, images: npt.NDArray[Any] | EncodedImages, split: str, shuffle: bool
    ) -> tf.data.Dataset:
        """Build the data set of a split of `images`, which are `x` in some size."""
        check_not_forked()
        rows = self.splits[split]
        read_images: Callable[[Rows], npt.NDArray[Any]]
        shape: tuple[int | None, ...]
        if isinstance(images, EncodedImages):
            read_images, dtype, shape = images.encoded, tf.string, (None,)
        else:
            read_images = functools.partial(_rows, images)
            dtype = images.dtype.newbyteorder("=")
            shape = (None, *images.shape[1:])

        def read(
            index: npt.NDArray[np.int64],
        ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
            selected = rows[index]
            return read_images(selected), self.labels[selected].astype(np.float32)

        def elements(index: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            # Read from NumPy: a tensor of all images would be a second copy of them.
            x, label = tf.numpy_function(
                read, [index], [dtype, tf.float32], stateful=False
            )
            x = tf.ensure_shape(x, shape)
            label = tf.ensure_shape(label, (None, self.num_classes))
            return x, {"label": label, "index": tf.cast(index, tf.int32)}

        dataset = tf.data.Dataset.range(len(rows))
        if shuffle:
            dataset = dataset.shuffle(
                max(len(rows), 1), self.seed, reshuffle_each_iteration=True
            )
        dataset = dataset.batch(_ROWS_A_CALL).map(elements)
        dataset = dataset.prefetch(tf.data.AUTOTUNE).unbatch()
        if isinstance(images, EncodedImages):
            decode = images.decode
            dataset = dataset.map(
                lambda file, y: (decode(file), y), num_parallel_calls=tf.data.AUTOTUNE
            ).prefetch(_ROWS_A_CALL)
        return dataset.apply(tf.data.experimental.assert_cardinality(len(rows)))


def _rows(x: npt.NDArray[Any] | EncodedImages, rows: Rows) -> npt.NDArray[Any]:
    """Some rows of an array, in the byte order of this machine: as a
    `tf.numpy_function` gives them, TensorFlow would read others in that order, too."""
    read = x[rows]
    return read.astype(read.dtype.newbyteorder("="), copy=False)


def _checked_labels(labels: Any) -> npt.NDArray[np.uint8]:
    """Check the labels of a data set; lists and tables become an array."""
    labels = as_array(labels, "labels")
    if labels.ndim != 2:
        raise ValueError(
            "`labels` must be label rows of shape (n, num_classes), with 1 for each "
            f"label that an image has. Received shape: {labels.shape}."
        )
    if labels.dtype.kind not in "buif":
        raise TypeError(f"`labels` must hold 0 and 1. Received dtype: {labels.dtype}.")
    if labels.dtype != np.bool_ and labels.size:
        wrong = (labels != 0) & (labels != 1)
        if wrong.any():
            raise ValueError(
                "`labels` must hold 0 and 1. Received values: "
                f"{np.unique(labels[wrong])[:5].tolist()}."
            )
    return labels.astype(np.uint8, copy=False)


def _checked_class_names(names: Any, num_classes: int) -> tuple[str, ...]:
    """Check the names of the classes, one for each column of the labels."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"`class_names` must be a tuple of str. Received: {names!r}.")
    names = tuple(names)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"`class_names` must hold str. Received: {names!r:.100}.")
    if len(names) != num_classes:
        raise ValueError(
            f"`class_names` must hold a name for each of the {num_classes} columns of "
            f"`labels`. Received {len(names)} names."
        )
    return names


def _checked_splits(splits: Any, n: int) -> Mapping[str, Rows]:
    """Check the rows of each split; lists of them become arrays."""
    if not isinstance(splits, Mapping):
        raise TypeError(
            "`splits` must be a dict of int arrays. Received type: "
            f"{type(splits).__name__}."
        )
    missing = [split for split in _NEEDED if split not in splits]
    if missing:
        raise ValueError(
            f"`splits` must have {', '.join(_NEEDED)}. Received: {[*splits]}."
        )
    checked = {}
    for split, rows in splits.items():
        rows = as_array(rows, "splits")
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "ui"):
            raise TypeError(
                "`splits` must hold the numbers of rows, int arrays (m,), not masks. "
                f"Received for {split!r}: shape {rows.shape}, dtype {rows.dtype}."
            )
        if rows.size and not 0 <= rows.min() <= rows.max() < n:
            raise ValueError(
                f"`splits` must hold rows from 0 to {n - 1}, one less than the rows of "
                f"`labels`. Received for {split!r}: rows from {rows.min()} to "
                f"{rows.max()}."
            )
        # An empty list becomes an array of floats.
        checked[split] = rows if rows.dtype.kind in "ui" else rows.astype(np.int64)
    is_same = all(checked[split] is rows for split, rows in splits.items())
    return splits if is_same else checked
