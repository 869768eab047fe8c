"""A block of a database of hash codes, and the way to the nearest in it."""

import numpy as np
import tensorflow as tf

from kerashash import hamming

# Where more than one in so many is wanted, all are sorted.
_MOST = 8


class Block:
    """Consecutive codes of a database, laid out for the kernels.

    Args:
        packed: uint8 ``(size, ceil(bits / 8))``, at least one row.
        start: int, the index of the first.

    Attributes:
        start, size: int.
        codes: uint8 tensor ``(chunks, ceil(bits / 8), LANES)``, see `hamming.chunked`.
    """

    def __init__(self, packed, start):
        self.start, self.size = start, len(packed)
        chunks = hamming.roomy(-(-self.size // hamming.LANES))
        self.codes = tf.constant(hamming.chunked(packed, chunks))

    def packed(self):
        """The codes as they came."""
        return hamming.unchunked(self.codes.numpy(), self.size)

    @property
    def cost(self):
        """Bytes that the distances of one query take."""
        return len(self.codes) * hamming.LANES

    def cost_of_nearest(self, k):
        """Bytes that one query takes on the way to its k nearest codes."""
        chunks = hamming.chunks_for(k, len(self.codes))
        return chunks * self.codes.shape[1] * hamming.LANES or self.cost

    def distances(self, kernels, queries):
        """Distances ``(q, size)``."""
        found = kernels.distances(queries, self.codes, self.size)
        return found.numpy()[:, : self.size]

    def nearest(self, kernels, queries, k):
        """At least the k nearest codes, or all, by index: distances and indices."""
        if _MOST * k >= self.size:
            index = np.arange(self.start, self.start + self.size, dtype=np.int32)
            found = self.distances(kernels, queries)
            return found, np.broadcast_to(index, found.shape)
        chunks = hamming.chunks_for(k, len(self.codes))
        found, index = kernels.top_k(queries, self.codes, self.size, k, chunks)
        return found.numpy(), index.numpy() + self.start
