"""RetrievalData: one data set under one protocol."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalData:
    """Training images, queries and database of a data set under a protocol.

    The splits are `tf.data.Dataset`s, not batched, of ``(x, {"label", "index"})``:
    float32 label row ``(num_classes,)`` and the int32 position in the split.
    ``train`` comes in a new order each time it is iterated (seeded), so that
    ``model.fit(data.train.batch(128), epochs=20)`` is right as it stands; each
    element carries its index. ``query`` and ``database`` keep their order.

    Attributes:
        name: str, the data set.
        protocol: str.
        seed: int.
        class_names: tuple of str, in order of the label columns.
        splits: dict of int arrays, the rows of each split in `x`.
        x: array ``(n, ...)``, all images.
        labels: uint8 array ``(n, num_classes)``, values in {0, 1}.
    """

    name: str
    protocol: str
    seed: int
    class_names: tuple
    splits: dict = dataclasses.field(repr=False)
    x: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray = dataclasses.field(repr=False)

    num_classes = property(lambda self: self.labels.shape[1])
    num_train = property(lambda self: len(self.splits["train"]))
    num_query = property(lambda self: len(self.splits["query"]))
    num_database = property(lambda self: len(self.splits["database"]))
    train_labels = property(lambda self: self.labels[self.splits["train"]])
    query_labels = property(lambda self: self.labels[self.splits["query"]])
    database_labels = property(lambda self: self.labels[self.splits["database"]])
    train = property(lambda self: self._dataset("train", shuffle=True))
    query = property(lambda self: self._dataset("query"))
    database = property(lambda self: self._dataset("database"))

    @property
    def unlabelled(self):
        """Images that train without labels, a data set of ``x``; None if there are
        none in the protocol."""
        if "unlabelled" not in self.splits:
            return None
        return self._dataset("unlabelled", shuffle=True).map(lambda x, y: x)

    @property
    def train_rows(self):
        """Position in the database of each training image, int array
        ``(num_train,)``; -1 where it is not in it."""
        position = np.full(len(self.x), -1)
        position[self.splits["database"]] = np.arange(self.num_database)
        return position[self.splits["train"]]

    def arrays(self, split):
        """A split in memory, in order of the index.

        Args:
            split: "train", "query", "database", or "unlabelled" if there is one.

        Returns:
            ``(x, labels)``: array ``(n, ...)`` and uint8 array ``(n, num_classes)``.

        Raises:
            ValueError: if the protocol has no such split.
        """
        if split not in self.splits:
            raise ValueError(
                f"`split` must be one of {sorted(self.splits)}. Received: {split!r}."
            )
        rows = self.splits[split]
        return self.x[rows], self.labels[rows]

    @functools.cached_property
    def _tensors(self):
        # All splits draw from one copy.
        return tf.constant(self.x), tf.constant(self.labels, tf.float32)

    def _dataset(self, split, shuffle=False):
        x, labels = self._tensors
        rows = tf.constant(self.splits[split])
        n = len(self.splits[split])

        def element(index):
            row = rows[index]
            return x[row], {"label": labels[row], "index": tf.cast(index, tf.int32)}

        dataset = tf.data.Dataset.range(n)
        if shuffle:
            dataset = dataset.shuffle(n, self.seed, reshuffle_each_iteration=True)
        return dataset.map(element, num_parallel_calls=tf.data.AUTOTUNE)
