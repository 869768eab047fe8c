"""HammingRanker: exact nearest neighbours of hash codes."""

import numpy as np
import tensorflow as tf

from kerashash import codes as hash_codes
from kerashash.options import check_integer

# Codes are compared in words of four bytes.
_WORD = 4
# Distances computed at a time: queries of a block x codes of a block.
_BLOCK_ENTRIES = 1 << 23


class HammingRanker:
    """Ranks a database of hash codes by Hamming distance, exactly.

    The order is (distance, index): ties go to the lowest index in the database, on
    every device and for every block size. Work is done by `tf.function`s on blocks of
    queries and database, so that memory stays bounded.

    Args:
        codes: the database: packed uint8 ``(n, ceil(bits / 8))``, or ``(n, bits)``
            over {-1, +1}.
        bits: int, the code length; may be left out for unpacked codes.
        block_size: int, database codes compared at a time.

    Attributes:
        bits: int, the code length.
        size: int, the number of codes in the database; also ``len(ranker)``.

    Raises:
        TypeError, ValueError: if the codes are wrong, are none, or do not match
            `bits`.

    Example:
        >>> database = np.array([[1, 1, 1], [1, -1, 1], [-1, -1, -1]])
        >>> ranker = HammingRanker(database)
        >>> distances, indices = ranker.top_k(np.array([[1, 1, -1]]), k=2)
        >>> distances, indices
        (array([[1, 2]], dtype=int32), array([[0, 1]], dtype=int32))
    """

    def __init__(self, codes, bits=None, block_size=65536):
        packed, self.bits = hash_codes.as_packed(codes, bits)
        if not len(packed):
            raise ValueError("`codes` must have at least one row. Received: 0 rows.")
        self._block_size = check_integer("block_size", block_size)
        self.size = len(packed)
        self._codes = tf.constant(_words(packed))  # (n, words)
        rows = tf.TensorSpec((None, self._codes.shape[1]), tf.uint32)
        count = tf.TensorSpec((), tf.int32)
        # One trace each, whatever the number of queries and k.
        self._distances = tf.function(_distances, input_signature=[rows, rows])
        self._top_k = tf.function(_top_k, input_signature=[rows, rows, count, count])

    def __len__(self):
        return self.size

    def distances(self, queries):
        """Hamming distances to the whole database.

        Args:
            queries: codes like the database's, q rows.

        Returns:
            int32 array ``(q, n)``.

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`.
        """
        blocks = self._query_blocks(queries, self.size)
        rows = [self._distances(block, self._codes).numpy() for block in blocks]
        return np.concatenate([np.zeros((0, self.size), np.int32), *rows])

    def top_k(self, queries, k):
        """The k nearest codes of each query.

        Args:
            queries: codes like the database's, q rows.
            k: int, 1 to the database size.

        Returns:
            ``(distances, indices)``: int32 arrays ``(q, k)``, in order of (distance,
            index).

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`, or
                `k` is out of range.
        """
        k = check_integer("k", k)
        if k > self.size:
            raise ValueError(
                f"`k` must be at most the database size {self.size}. Received: k={k}."
            )
        none = np.zeros((0, k), np.int32)
        distances, indices = [none], [none]
        for block in self._query_blocks(queries, self._block_size + k):
            found = self._top_k(block, self._codes, k, self._block_size)
            distances.append(found[0].numpy())
            indices.append(found[1].numpy())
        return np.concatenate(distances), np.concatenate(indices)

    def within(self, queries, radius):
        """All codes within a Hamming radius of each query.

        Args:
            queries: codes like the database's, q rows.
            radius: int, 0 to `bits`.

        Returns:
            ``(distances, indices)``: two lists of q int32 arrays, each in order of
            (distance, index).

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`, or
                `radius` is out of range.
        """
        radius = check_integer("radius", radius, least=0, most=self.bits)
        distances, indices = [], []
        for block in self._query_blocks(queries, self.size):
            for row in self._distances(block, self._codes).numpy():
                inside = np.flatnonzero(row <= radius).astype(np.int32)
                inside = inside[np.argsort(row[inside], kind="stable")]
                distances.append(row[inside])
                indices.append(inside)
        return distances, indices

    def _query_blocks(self, queries, width):
        packed, _ = hash_codes.as_packed(queries, self.bits, "queries")
        words = _words(packed)
        size = max(1, _BLOCK_ENTRIES // width)
        for start in range(0, len(words), size):
            yield tf.constant(words[start : start + size])


def _words(packed):
    """Packed codes as rows of 32-bit words; the padding is zero in all of them."""
    padding = -packed.shape[1] % _WORD
    return np.pad(packed, ((0, 0), (0, padding))).view(np.uint32)


def _distances(queries, codes):
    """Hamming distances: uint32 words ``(q, w)`` and ``(n, w)`` -> int32 ``(q, n)``."""
    total = tf.zeros((tf.shape(queries)[0], tf.shape(codes)[0]), tf.int32)
    for word in range(queries.shape[1]):
        differ = tf.bitwise.bitwise_xor(queries[:, word, None], codes[None, :, word])
        total += tf.cast(tf.raw_ops.PopulationCount(x=differ), tf.int32)
    return total


def _top_k(queries, codes, k, block_size):
    """Merge the best of each block into the best so far."""
    n, q = tf.shape(codes)[0], tf.shape(queries)[0]
    best = tf.zeros((q, 0), tf.int32)
    where = tf.zeros((q, 0), tf.int32)
    for start in tf.range(0, n, block_size):
        tf.autograph.experimental.set_loop_options(
            shape_invariants=[
                (best, tf.TensorShape([None, None])),
                (where, tf.TensorShape([None, None])),
            ]
        )
        block = codes[start : start + block_size]
        index = tf.range(start, start + tf.shape(block)[0])
        # The best so far stand first: `tf.math.top_k` puts the lower position first
        # among equals, so that ties go to the lower index.
        best = tf.concat([best, _distances(queries, block)], axis=1)
        where = tf.concat([where, tf.tile(index[None], (q, 1))], axis=1)
        nearest = tf.math.top_k(-best, tf.minimum(k, tf.shape(best)[1]))
        best = -nearest.values
        where = tf.gather(where, nearest.indices, batch_dims=1)
    return best, where
