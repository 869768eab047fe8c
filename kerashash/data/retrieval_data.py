"""RetrievalData: one data set under one protocol."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from kerashash.data.images import EncodedImages

# To fetch rows one by one would cost more in calls than in copying.
_ROWS_A_CALL = 256


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalData:
    """Training images, queries and database of a data set under a protocol.

    The splits are `tf.data.Dataset`s, not batched, of ``(x, {"label", "index"})``:
    float32 label row ``(num_classes,)`` and the int32 position in the split.
    ``train`` comes in a new order each time it is iterated (seeded), so that
    ``model.fit(data.train.batch(128), epochs=20)`` is right as it stands; each
    element carries its index, so no order can mix up the rows of learned codes.
    ``query`` and ``database`` keep their order.

    All splits read from the one array `x`: none is a copy. Photographs stay encoded in
    it and are decoded and resized, by several threads, as they are read.

    Attributes:
        name: str, the data set.
        protocol: str.
        seed: int.
        class_names: tuple of str, in order of the label columns.
        splits: dict of int arrays, the rows of each split in `x`.
        x: array ``(n, ...)``, all images, or `kerashash.data.images.EncodedImages`.
        labels: uint8 array ``(n, num_classes)``, values in {0, 1}.
        names: str array ``(n,)``, of the images: the publisher's, files' paths, or the
            sha256 of the pixels; None if they have none.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> data.num_classes, data.num_train
        (10, 1497)
        >>> x, y = next(iter(data.query.batch(32)))
        >>> x.shape, y["label"].shape, y["index"].shape
        (TensorShape([32, 64]), TensorShape([32, 10]), TensorShape([32]))
    """

    name: str
    protocol: str
    seed: int
    class_names: tuple
    splits: dict = dataclasses.field(repr=False)
    x: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray = dataclasses.field(repr=False)
    names: np.ndarray | None = dataclasses.field(default=None, repr=False)

    num_classes = property(lambda self: self.labels.shape[1])
    num_train = property(lambda self: len(self.splits["train"]))
    num_query = property(lambda self: len(self.splits["query"]))
    num_database = property(lambda self: len(self.splits["database"]))
    train_labels = property(lambda self: self.labels[self.splits["train"]])
    query_labels = property(lambda self: self.labels[self.splits["query"]])
    database_labels = property(lambda self: self.labels[self.splits["database"]])
    query = property(lambda self: self._dataset("query"))
    database = property(lambda self: self._dataset("database"))

    # Made once: each new one would start again with the order of the first epoch.
    @functools.cached_property
    def train(self):
        return self._dataset("train", shuffle=True)

    @functools.cached_property
    def unlabelled(self):
        """Images that train without labels, a data set of ``(x, {"index"})`` in a new
        order each time it is iterated; None if there are none in the protocol."""
        if "unlabelled" not in self.splits:
            return None
        return self._dataset("unlabelled", shuffle=True).map(
            lambda x, y: (x, {"index": y["index"]})
        )

    @property
    def train_rows(self):
        """Position in the database of each training image, int32 array
        ``(num_train,)``; -1 where it is not in it."""
        position = np.full(len(self.x), -1, np.int32)
        position[self.splits["database"]] = np.arange(self.num_database)
        return position[self.splits["train"]]

    def arrays(self, split):
        """A split in memory, in order of the index.

        Args:
            split: "train", "query", "database", or, where there is one, "unlabelled" or
                "validation".

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

    def _dataset(self, split, shuffle=False):
        rows, encoded = self.splits[split], isinstance(self.x, EncodedImages)

        def read(index):
            found = rows[index]
            x = self.x.encoded(found) if encoded else self.x[found]
            return x, self.labels[found].astype(np.float32)

        def elements(index):
            # Read from numpy: a tensor of all images would be another copy of them.
            x, label = tf.numpy_function(
                read,
                [index],
                [tf.string if encoded else self.x.dtype, tf.float32],
                stateful=False,
            )
            x = tf.ensure_shape(x, (None,) if encoded else (None, *self.x.shape[1:]))
            label = tf.ensure_shape(label, (None, self.num_classes))
            return x, {"label": label, "index": tf.cast(index, tf.int32)}

        dataset = tf.data.Dataset.range(len(rows))
        if shuffle:
            dataset = dataset.shuffle(
                len(rows), self.seed, reshuffle_each_iteration=True
            )
        dataset = dataset.batch(_ROWS_A_CALL).map(elements)
        dataset = dataset.prefetch(tf.data.AUTOTUNE).unbatch()
        if encoded:
            dataset = dataset.map(
                lambda file, y: (self.x.decode(file), y),
                num_parallel_calls=tf.data.AUTOTUNE,
            ).prefetch(_ROWS_A_CALL)
        return dataset.apply(tf.data.experimental.assert_cardinality(len(rows)))
