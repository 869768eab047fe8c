"""The counts of `kerashash.evaluation.counts`, by a compiled program of TensorFlow.

It is for GPUs and other accelerators; a processor counts faster with NumPy.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.codes import packed_width
from kerashash.evaluation.relevance import Relevance
from kerashash.forks import check_not_forked
from kerashash.retrieval import kernels, layout

# Widest packed labels, in bytes, that a compiled kernel compares: it has an operation
# for each byte.
_MAX_COMPILED = 32
# Database items counted at a time, and pairs of a query and an item.
_ITEMS = 1 << 18
_PAIRS = 1 << 22


def histograms(
    query: npt.NDArray[np.uint8],
    database: npt.NDArray[np.uint8],
    bits: int,
    relevance: Relevance,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the items, and the relevant items, at each distance from each query.

    Args:
        query, database, bits, relevance: as in `kerashash.evaluation.counts`.

    Returns:
        ``(total, relevant)``, as there.

    Example:
        >>> codes = np.array([[0], [1], [255]], np.uint8)
        >>> relevance = Relevance([0], [0, 1, 0], num_queries=1, num_items=3)
        >>> total, relevant = histograms(codes[:1], codes, 8, relevance)
        >>> total.tolist(), relevant.tolist()
        ([[1, 1, 0, 0, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 0, 0, 0, 1]])
    """
    check_not_forked()
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
