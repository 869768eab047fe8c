"""Which items are relevant to a query, and how many lie at each Hamming distance."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import checks
from kerashash.codes import packed_width
from kerashash.retrieval import kernels, layout

# Widest packed labels, in bytes, that a compiled kernel compares: it has an operation
# for each byte.
_MAX_COMPILED = 32
# Database items counted at a time, and pairs of a query and an item.
_ITEMS = 1 << 18
_PAIRS = 1 << 22


class Relevance:
    """Which database items share a label with which query, from packed labels.

    Args:
        query_labels: label rows ``(q, classes)`` of 0 and 1, or class ids ``(q,)``.
        database_labels: as `query_labels`, n rows.
        num_queries: int, q.
        num_items: int, n.

    Attributes:
        single: bool, whether each row has at most one label, packed as a number,
            instead of a set of labels.
        query, database: packed labels, uint8 ``(q, width)`` and ``(n, width)``.

    Raises:
        ValueError: if the labels are invalid or do not match.

    Example:
        >>> labels = [[1, 0]], [[1, 1], [0, 1]]
        >>> Relevance(*labels, num_queries=1, num_items=2).of([0])
        array([[ True, False]])
    """

    def __init__(
        self,
        query_labels: npt.ArrayLike,
        database_labels: npt.ArrayLike,
        num_queries: int,
        num_items: int,
    ) -> None:
        query = _check_labels(query_labels, num_queries, "query_labels")
        database = _check_labels(database_labels, num_items, "database_labels")
        if query.shape[1:] != database.shape[1:]:
            raise ValueError(
                "`query_labels` and `database_labels` must have the same number of "
                f"classes. Received shapes: {query.shape}, {database.shape}."
            )
        if query.ndim == 2:
            query, database = _without_unshared(query, database)
            if all(rows.sum(axis=1).max(initial=0) <= 1 for rows in (query, database)):
                query, database = _ids(query, 0), _ids(database, 1)
        self.single = query.ndim == 1
        self.query, self.database = _pack(query, database)

    def of(
        self,
        rows: slice | Sequence[int] | npt.NDArray[Any],
        items: npt.NDArray[Any] | slice | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Whether items are relevant to some of the queries.

        Args:
            rows: slice or ints, the rows of b queries.
            items: int ``(b, m)``, the items to look at for each query; or a slice of
                the items; None for all n items.

        Returns:
            bool ``(b, m)`` or ``(b, n)``.
        """
        query = self.query[rows][:, None]
        database = self.database if items is None else self.database[items]
        combine = np.bitwise_xor if self.single else np.bitwise_and
        if query.shape[2] > _MAX_COMPILED:
            return self._of_many_classes(query[:, 0], database)
        # A loop over bytes, because a reduction over a short axis is slow.
        combined = np.zeros((1, 1), np.uint8)
        for byte in range(query.shape[2]):
            combined = combined | combine(query[..., byte], database[..., byte])
        return np.asarray((combined != 0) != self.single)

    @staticmethod
    def _of_many_classes(
        query: npt.NDArray[np.uint8], database: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.bool_]:
        """Compare sets of labels in the bytes in which the query has labels, few of
        many: query ``(b, width)``, database ``(n, width)`` or ``(b, m, width)``."""
        relevant = np.zeros((len(query), database.shape[-2]), bool)
        for row, labels in enumerate(query):
            items = database if database.ndim == 2 else database[row]
            for byte in np.flatnonzero(labels):
                relevant[row] |= (items[:, byte] & labels[byte]) != 0
        return relevant


def histograms(
    query: npt.NDArray[np.uint8],
    database: npt.NDArray[np.uint8],
    bits: int,
    relevance: Relevance,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the items, and the relevant items, at each distance from each query.

    Args:
        query: packed codes, uint8 ``(q, ceil(bits / 8))``.
        database: packed codes, n rows.
        bits: int, the code length.
        relevance: `Relevance` of q queries and n items.

    Returns:
        ``(total, relevant)``, int64 arrays ``(q, bits + 1)``.

    Example:
        >>> codes = np.array([[0], [1], [255]], np.uint8)
        >>> relevance = Relevance([0], [0, 1, 0], num_queries=1, num_items=3)
        >>> total, relevant = histograms(codes[:1], codes, 8, relevance)
        >>> total.tolist(), relevant.tolist()
        ([[1, 1, 0, 0, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 0, 0, 0, 1]])
    """
    wide = relevance.query.shape[1] > _MAX_COMPILED
    queries, items = query, database
    if not wide:
        # Each row holds the code, then the labels: both are compared in one pass.
        queries = np.hstack([query, relevance.query])
        items = np.hstack([database, relevance.database])
    count = _counter(bits, queries.shape[1], relevance.single, wide)
    counts = np.zeros((len(query), 2, bits + 1), np.int64)
    for start in range(0, len(items), _ITEMS):
        part = items[start : start + _ITEMS]
        chunks = layout.round_up_chunks(-(-len(part) // layout.LANES))
        codes = tf.constant(layout.chunked(part, chunks))
        most = _PAIRS // (chunks * layout.LANES)
        for rows, block in layout.query_blocks(queries, most):
            # The block is padded; the rows of padding are dropped.
            is_relevant = np.zeros((0, 0), bool)
            if wide:
                is_relevant = np.zeros((len(block), chunks * layout.LANES), bool)
                is_relevant[: rows.stop - rows.start, : len(part)] = relevance.of(
                    rows, slice(start, start + len(part))
                )
            block_counts = count(block, codes, is_relevant, len(part)).numpy()
            counts[rows] += block_counts[: len(counts[rows])]
    return counts.sum(axis=1), counts[:, 1]


@functools.cache
def _counter(bits: int, width: int, single: bool, wide: bool) -> Any:
    """Compiled function that counts irrelevant and relevant items by distance.

    It takes queries ``(q, width)``, items ``(chunks, width, LANES)``, bool ``(q, chunks
    * LANES)``, whether an item is relevant, and n, the number of items that are not
    padding, and returns int32 ``(q, 2, bits + 1)``. If not `wide`, the labels follow
    the codes in queries and items, and the third argument is not read.
    """
    num_bins = 2 * (bits + 1)
    dtype = tf.uint8 if num_bins <= tf.uint8.max else tf.uint16
    code_width = packed_width(bits)
    combine = tf.bitwise.bitwise_xor if single else tf.bitwise.bitwise_and

    @tf.function(jit_compile=True)
    def bin_of(
        queries: tf.Tensor, items: tf.Tensor, relevant: tf.Tensor, n: tf.Tensor
    ) -> tf.Tensor:
        """Bin of each pair ``(q, chunks * LANES)``: the distance, plus bits + 1 if
        relevant; `num_bins` for padding."""
        bins = kernels.hamming(queries[:, :code_width], items[:, :code_width], dtype)
        if wide:
            relevant = tf.reshape(relevant, tf.shape(bins))
        else:
            combined = tf.zeros((), tf.uint8)
            for byte in range(code_width, width):
                combined |= combine(queries[:, byte, None, None], items[:, byte])
            relevant = (combined != 0) != single
        bins = tf.where(relevant, bins + (bits + 1), bins)
        occupied = kernels.occupied(tf.range(tf.shape(items)[0]), n)
        bins = tf.where(occupied, bins, num_bins)
        return tf.reshape(bins, (tf.shape(queries)[0], -1))

    def count(
        queries: tf.Tensor, items: tf.Tensor, relevant: tf.Tensor, n: tf.Tensor
    ) -> tf.Tensor:
        rows = tf.shape(queries)[0]
        bins = tf.cast(bin_of(queries, items, relevant, n), tf.int32)
        bins += (num_bins + 1) * tf.range(rows)[:, None]  # a histogram for each query
        counts = tf.raw_ops.Bincount(
            arr=tf.reshape(bins, [-1]),
            size=rows * (num_bins + 1),
            weights=tf.constant([], tf.int32),
        )
        counts = tf.reshape(counts, (rows, -1))[:, :-1]  # without padding
        return tf.reshape(counts, (rows, 2, -1))

    signature = [
        tf.TensorSpec((None, width), tf.uint8),
        tf.TensorSpec((None, width, layout.LANES), tf.uint8),
        tf.TensorSpec((None, None), tf.bool),
        tf.TensorSpec((), tf.int32),
    ]
    return tf.function(count, input_signature=signature)


def _without_unshared(
    query: npt.NDArray[Any], database: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Label rows as bool, without classes that are not on both sides: they make no
    item relevant."""
    query, database = query != 0, database != 0
    shared = query.any(axis=0) & database.any(axis=0)
    if shared.all():
        return query, database
    return query[:, shared], database[:, shared]


def _ids(rows: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.int64]:
    """Class ids of label rows with at most one label. A row without labels gets an id
    that no row of the other side has."""
    ids = np.full(len(rows), rows.shape[1] + side)
    labelled, classes = np.nonzero(rows)
    ids[labelled] = classes
    return ids


def _pack(
    query: npt.NDArray[Any], database: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Labels as bytes: label rows with one bit a class, or class ids renumbered from 0
    so that they fit in few bytes."""
    if query.ndim == 2:
        return np.packbits(query > 0, axis=1), np.packbits(database > 0, axis=1)
    # As uint64: NumPy's common type of uint64 and int64 is float64, which rounds.
    ids = np.concatenate([query.astype(np.uint64), database.astype(np.uint64)])
    classes, numbers = np.unique(ids, return_inverse=True)
    width = -(-(len(classes) - 1).bit_length() // 8) or 1
    rows = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width]
    return rows[: len(query)], rows[len(query) :]


def _check_labels(labels: npt.ArrayLike, n: int, name: str) -> npt.NDArray[Any]:
    """Class ids ``(n,)`` unchanged, or float32 label rows ``(n, classes)``."""
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
