"""A block of a database of hash codes, and the way to the nearest in it."""

import numpy as np
import tensorflow as tf

from kerashash.retrieval import layout

# So many queries are not worth the calls of a graph's small steps, and with so few
# codes not the call of a kernel.
_FEW = 4
_SMALL = 1 << 17


class Block:
    """Consecutive codes of a database, laid out for the kernels.

    Args:
        packed: uint8 ``(size, ceil(bits / 8))``, at least one row.
        start: int, the index of the first.

    Attributes:
        start, size, chunks, width: int.
        codes: uint8 tensor ``(chunks, ceil(bits / 8), LANES)``, see `layout.chunked`.
    """

    def __init__(self, packed, start):
        self.start, self.size = start, len(packed)
        self.chunks = layout.roomy(-(-self.size // layout.LANES))
        self.width = packed.shape[1]
        self.codes = tf.constant(layout.chunked(packed, self.chunks))
        self._count = tf.constant(self.size)
        self._words = _words(packed) if self.size <= _SMALL else None

    def packed(self):
        """The codes as they came."""
        return layout.unchunked(layout.host(self.codes), self.size)

    @property
    def cost(self):
        """Bytes that the distances of one query take."""
        return self.chunks * layout.LANES

    def cost_of_nearest(self, k):
        """Bytes that one query takes on the way to its k nearest codes."""
        chunks = layout.chunks_for(k, self.chunks)
        return chunks * self.width * layout.LANES or self.cost

    def distances(self, kernels, queries):
        """Distances ``(q, size)``."""
        found = kernels.distances(tf.constant(queries), self.codes, self._count)
        return layout.host(found)[:, : self.size]

    def nearest(self, kernels, queries, k):
        """The k nearest codes, or all, in order: distances and indices ``(q, k)``."""
        k = min(k, self.size)
        chunks = layout.chunks_for(k, self.chunks)
        few = len(queries) <= _FEW
        if few and self._words is not None:
            rows = [self._nearest_in_words(query, k, kernels) for query in queries]
        elif few and chunks:
            minima = kernels.minima(tf.constant(queries), self.codes, self._count)
            minima = layout.host(minima).transpose(1, 0, 2).reshape(len(queries), -1)
            pairs = zip(queries, minima, strict=True)
            rows = [self._nearest_by_chunks(*pair, k) for pair in pairs]
        elif chunks:
            counts = self._count, tf.constant(k), tf.constant(chunks)
            found = kernels.top_k(tf.constant(queries), self.codes, *counts)
            found, index = (layout.host(part) for part in found)
            return in_order(found, index + self.start, k)
        else:
            queries, bits = tf.constant(queries), tf.constant(kernels.bits)
            distances = kernels.distances(queries, self.codes, self._count)
            bounds = layout.host(kernels.bound(distances, tf.constant(k), bits))
            distances = layout.host(distances)
            pairs = zip(distances, bounds.astype(distances.dtype), strict=True)
            rows = [_nearest_within(*pair, k) for pair in pairs]
        found, index = (np.stack(part) for part in zip(*rows, strict=True))
        return found, index.astype(np.int32) + np.int32(self.start)

    def _nearest_in_words(self, query, k, kernels):
        """The k nearest of one query, without a kernel."""
        distances = np.zeros(self.size, kernels.dtype.as_numpy_dtype)
        for codes, word in zip(self._words, _words(query[None]), strict=True):
            distances += np.bitwise_count(codes ^ word)
        return _nearest_within(distances, _rough_bound(distances, k), k)

    def _nearest_by_chunks(self, query, minima, k):
        """The k nearest of one query, by way of k chunks."""
        _, chunks = _nearest_within(minima, _rough_bound(minima, k), k)
        chunks.sort()
        differ = np.bitwise_count(layout.host(self.codes)[chunks] ^ query[:, None])
        distances = differ.sum(axis=1, dtype=minima.dtype).ravel()
        index = (chunks[:, None] * layout.LANES + np.arange(layout.LANES)).ravel()
        distances, index = distances[index < self.size], index[index < self.size]
        found, order = _nearest_within(distances, _rough_bound(distances, k), k)
        return found, index[order]


def _words(packed):
    """Packed codes ``(n, width)`` as uint64 ``(ceil(width / 8), n)``."""
    padding = -packed.shape[1] % 8
    if padding:
        packed = np.pad(packed, ((0, 0), (0, padding)))
    return np.ascontiguousarray(packed.view(np.uint64).T)


def in_order(distances, indices, k):
    """The k first of each row by distance. Equal ones stay in their order."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return (
        np.take_along_axis(distances, order, axis=1),
        np.take_along_axis(indices, order, axis=1),
    )


def _rough_bound(distances, k):
    """Not less than the k-th least distance, and near it."""
    some = distances[::8] if 8 * k <= len(distances) else distances
    return np.partition(some, k - 1)[k - 1]


def _nearest_within(distances, bound, k):
    """The k least, none of which lies beyond a bound, in order: distances and
    positions ``(k,)``."""
    position = np.flatnonzero(distances <= bound)
    found = distances[position]
    order = np.argsort(found, kind="stable")[:k]
    return found[order], position[order]
