"""A block of a database of hash codes, and the way to the nearest in it."""

import numpy as np
import tensorflow as tf

from kerashash import hamming

# Where more than one in so many is wanted, all are sorted.
_MOST = 8
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
        """At least the k nearest codes, or all, by index: distances and indices."""
        if _MOST * k >= self.size:
            index = np.arange(self.start, self.start + self.size, dtype=np.int32)
            found = self.distances(kernels, queries)
            return found, np.broadcast_to(index, found.shape)
        chunks = hamming.chunks_for(k, self.chunks)
        if chunks and len(queries) <= _FEW:
            minima = kernels.minima(queries, self.codes, self.size).numpy()
            minima = minima.transpose(1, 0, 2).reshape(len(queries), -1)
            pairs = zip(queries.numpy(), minima, strict=True)
            found = [
                self._nearest_of_one(query, nearest, k) for query, nearest in pairs
            ]
            return tuple(np.stack(part) for part in zip(*found, strict=True))
        found, index = kernels.top_k(queries, self.codes, self.size, k, chunks)
        return hamming.host(found), hamming.host(index) + self.start

    def _nearest_of_one(self, query, minima, k):
        """`nearest` for one query and the chunks' minima."""
        chunks = np.sort(np.argsort(minima, kind="stable")[:k])
        differ = np.bitwise_count(hamming.host(self.codes)[chunks] ^ query[:, None])
        distances = differ.sum(axis=1, dtype=minima.dtype).ravel()
        index = (chunks[:, None] * hamming.LANES + np.arange(hamming.LANES)).ravel()
        order = np.argsort(distances[index < self.size], kind="stable")[:k]
        return distances[order], self.start + index[order].astype(np.int32)
