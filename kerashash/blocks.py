"""A block of a database of hash codes, and the way to the nearest in it."""

import numpy as np
import tensorflow as tf

from kerashash import hamming

# So many queries are not worth the calls of a graph's small steps.
_FEW = 4


class Block:
    """Consecutive codes of a database, laid out for the kernels.

    Args:
        packed: uint8 ``(size, ceil(bits / 8))``, at least one row.
        start: int, the index of the first.

    Attributes:
        start, size, chunks, width: int.
        codes: uint8 tensor ``(chunks, ceil(bits / 8), LANES)``, see `hamming.chunked`.
    """

    def __init__(self, packed, start):
        self.start, self.size = start, len(packed)
        self.chunks = hamming.roomy(-(-self.size // hamming.LANES))
        self.width = packed.shape[1]
        self.codes = tf.constant(hamming.chunked(packed, self.chunks))

    def packed(self):
        """The codes as they came."""
        return hamming.unchunked(hamming.host(self.codes), self.size)

    @property
    def cost(self):
        """Bytes that the distances of one query take."""
        return self.chunks * hamming.LANES

    def cost_of_nearest(self, k):
        """Bytes that one query takes on the way to its k nearest codes."""
        chunks = hamming.chunks_for(k, self.chunks)
        return chunks * self.width * hamming.LANES or self.cost

    def distances(self, kernels, queries):
        """Distances ``(q, size)``."""
        found = kernels.distances(queries, self.codes, self.size)
        return hamming.host(found)[:, : self.size]

    def nearest(self, kernels, queries, k):
        """The k nearest codes, or all, in order: distances and indices ``(q, k)``."""
        k = min(k, self.size)
        chunks = hamming.chunks_for(k, self.chunks)
        if chunks and len(queries) > _FEW:
            found, index = kernels.top_k(queries, self.codes, self.size, k, chunks)
            return in_order(hamming.host(found), hamming.host(index) + self.start, k)
        if chunks:
            minima = hamming.host(kernels.minima(queries, self.codes, self.size))
            minima = minima.transpose(1, 0, 2).reshape(len(queries), -1)
            pairs = zip(hamming.host(queries), minima, strict=True)
            rows = [self._nearest_by_chunks(*pair, k) for pair in pairs]
        else:
            distances = kernels.distances(queries, self.codes, self.size)
            bounds = hamming.host(kernels.bound(distances, k, kernels.bits))
            pairs = zip(hamming.host(distances), bounds, strict=True)
            rows = [_nearest_within(*pair, k) for pair in pairs]
        found, index = (np.stack(part) for part in zip(*rows, strict=True))
        return found, index.astype(np.int32) + np.int32(self.start)

    def _nearest_by_chunks(self, query, minima, k):
        """The k nearest of one query, by way of k chunks."""
        chunks = np.sort(np.argsort(minima, kind="stable")[:k])
        differ = np.bitwise_count(hamming.host(self.codes)[chunks] ^ query[:, None])
        distances = differ.sum(axis=1, dtype=minima.dtype).ravel()
        index = (chunks[:, None] * hamming.LANES + np.arange(hamming.LANES)).ravel()
        order = np.argsort(distances[index < self.size], kind="stable")[:k]
        return distances[order], index[order]


def in_order(distances, indices, k):
    """The k first of each row by distance. Equal ones stay in their order."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return (
        np.take_along_axis(distances, order, axis=1),
        np.take_along_axis(indices, order, axis=1),
    )


def _nearest_within(distances, bound, k):
    """The k nearest of one query, none of which lies beyond a bound."""
    index = np.flatnonzero(distances <= bound)
    found = distances[index]
    order = np.argsort(found, kind="stable")[:k]
    return found[order], index[order]
