"""Which items are relevant to a query, and how many lie at each Hamming distance."""

import functools

import numpy as np
import tensorflow as tf

from kerashash import checks
from kerashash.codes import packed_width
from kerashash.retrieval import kernels, layout

# Items, and pairs of a query and an item, that are counted at a time.
_ITEMS = 1 << 18
_PAIRS = 1 << 22


class Relevance:
    """Which database items share a label with which query, from packed labels.

    Args:
        query_labels: label rows ``(q, classes)`` of 0 and 1, or class ids ``(q,)``.
        database_labels: as `query_labels`, n rows.
        q: int, the number of queries.
        n: int, the number of items.

    Raises:
        ValueError: if the labels are wrong or do not match.

    Example:
        >>> Relevance([[1, 0]], [[1, 1], [0, 1]], q=1, n=2).of([0])
        array([[ True, False]])
    """

    def __init__(self, query_labels, database_labels, q, n):
        query = _check_labels(query_labels, q, "query_labels")
        database = _check_labels(database_labels, n, "database_labels")
        if query.shape[1:] != database.shape[1:]:
            raise ValueError(
                "`query_labels` and `database_labels` must have the same number of "
                f"classes. Received shapes: {query.shape}, {database.shape}."
            )
        #: Whether the packed labels are numbers of classes, not sets of them.
        self.single = query.ndim == 1
        #: Packed labels: uint8 ``(q, width)`` and ``(n, width)``.
        self.query, self.database = _pack(query, database)

    def of(self, rows, items=None):
        """Whether items are relevant to the queries of some rows.

        Args:
            rows: slice or ints, q of them.
            items: int ``(q, m)``, items of each query; None for the whole database.

        Returns:
            bool ``(q, m)``.
        """
        query = self.query[rows][:, None]
        database = self.database if items is None else self.database[items]
        meet = np.bitwise_xor if self.single else np.bitwise_and
        # Byte by byte: a sum over a short axis is slow.
        common = np.zeros((1, 1), np.uint8)
        for byte in range(query.shape[2]):
            common = common | meet(query[..., byte], database[..., byte])
        return (common != 0) != self.single


def histograms(query, database, bits, relevance):
    """How many items, and relevant items, lie at each distance from each query.

    Args:
        query: packed codes ``(q, ceil(bits / 8))``.
        database: the same, n rows.
        bits: int, the code length.
        relevance: `Relevance` of q queries and n items.

    Returns:
        ``(total, relevant)``: int64 arrays ``(q, bits + 1)``.

    Example:
        >>> codes = np.array([[0], [1], [255]], np.uint8)
        >>> relevance = Relevance([0], [0, 1, 0], q=1, n=3)
        >>> total, relevant = histograms(codes[:1], codes, 8, relevance)
        >>> total.tolist(), relevant.tolist()
        ([[1, 1, 0, 0, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 0, 0, 0, 1]])
    """
    # A row holds the code, then the labels.
    queries = np.hstack([query, relevance.query])
    items = np.hstack([database, relevance.database])
    count = _counter(bits, queries.shape[1], relevance.single)
    counts = np.zeros((len(query), 2, bits + 1), np.int64)
    for start in range(0, len(items), _ITEMS):
        part = items[start : start + _ITEMS]
        chunks = layout.roomy(-(-len(part) // layout.LANES))
        codes = tf.constant(layout.chunked(part, chunks))
        most = _PAIRS // (chunks * layout.LANES)
        for rows, some in layout.query_blocks(queries, most):
            counts[rows] += count(some, codes, len(part)).numpy()[: len(counts[rows])]
    return counts.sum(axis=1), counts[:, 1]


@functools.cache
def _counter(bits, width, single):
    """Compiled: queries ``(q, width)`` and the first n items ``(chunks, width,
    LANES)`` -> counts of others and of relevant ones, ``(q, 2, bits + 1)``."""
    bins = 2 * (bits + 1)
    dtype = tf.uint8 if bins <= tf.uint8.max else tf.uint16
    code = packed_width(bits)
    meet = tf.bitwise.bitwise_xor if single else tf.bitwise.bitwise_and

    @tf.function(jit_compile=True)
    def bin_of(queries, items, n):
        """Distance, bits + 1 more if relevant; the last bin is of no item."""
        found = kernels.compare(queries[:, :code], items[:, :code], dtype)
        common = tf.zeros((), tf.uint8)
        for byte in range(code, width):
            common |= meet(queries[:, byte, None, None], items[:, byte])
        relevant = (common != 0) != single
        found = tf.where(relevant, found + (bits + 1), found)
        found = tf.where(kernels.real(tf.range(tf.shape(items)[0]), n), found, bins)
        return tf.reshape(found, (tf.shape(queries)[0], -1))

    def count(queries, items, n):
        rows = tf.shape(queries)[0]
        found = tf.cast(bin_of(queries, items, n), tf.int32)
        found += (bins + 1) * tf.range(rows)[:, None]
        counts = tf.raw_ops.Bincount(
            arr=tf.reshape(found, [-1]),
            size=rows * (bins + 1),
            weights=tf.constant([], tf.int32),
        )
        counts = tf.reshape(counts, (rows, -1))[:, :-1]
        return tf.reshape(counts, (rows, 2, -1))

    signature = [
        tf.TensorSpec((None, width), tf.uint8),
        tf.TensorSpec((None, width, layout.LANES), tf.uint8),
        tf.TensorSpec((), tf.int32),
    ]
    return tf.function(count, input_signature=signature)


def _pack(query, database):
    """Labels as bytes: class ids numbered anew, or rows a bit a class."""
    if query.ndim == 2:
        return np.packbits(query > 0, axis=1), np.packbits(database > 0, axis=1)
    classes, numbers = np.unique(np.concatenate([query, database]), return_inverse=True)
    width = -(-(len(classes) - 1).bit_length() // 8) or 1
    rows = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width]
    return rows[: len(query)], rows[len(query) :]


def _check_labels(labels, n, name):
    """Class ids ``(n,)`` as they are, or float32 label rows ``(n, classes)``."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.dtype.kind in "uifb":
        return checks.check_labels(labels, labels.shape[1], n, name=name)
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise ValueError(
            f"`{name}` must be integer class ids (n,) or label rows (n, classes). "
            f"Received shape: {labels.shape}, dtype: {labels.dtype}."
        )
    if len(labels) != n:
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs. Received shape: "
            f"{labels.shape}."
        )
    if labels.min() < 0:
        raise ValueError(
            f"`{name}` must hold class ids of at least 0. Received: {labels.min()}."
        )
    return labels
