"""The whole search as one program of static shapes, for GPUs and other accelerators.

Nothing leaves the device but the k nearest codes of each query. Codes are stored as
words of 64 bits, word by word, so that neighbouring threads read neighbouring words.

The search reads the database once for a block of queries, and stores the smallest
distance in each chunk of consecutive codes. It then looks only into k chunks. Let the
chunks be ordered by (smallest distance, index). The k nearest codes, in order of
(distance, index), lie in the first k chunks: the first code of smallest distance in
each of these k chunks comes before every code of a later chunk, as its distance is
smaller, or equal and its index lower. So k codes come before any code outside.

Distance and position are packed into one integer, a key. Keys are all different, and
their order is that of (distance, position): no sort has to be stable.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.forks import check_not_forked
from kerashash.retrieval import layout
from kerashash.retrieval.kernels import Kernels

# Smallest and largest number of codes of a chunk. Even the smallest keeps the 32
# threads of a GPU's warp busy.
_CHUNK_SIZES = (64, 1024)
# The same for keys of a group. Selections from small groups compare few keys.
_GROUP_SIZES = (16, 1024)
# A selection that compares each key with each other is faster than a sort up to so many
# comparisons: those of few queries. On an H200, one query takes .36 ms by comparisons
# and .46 by sorts, 64 queries 4.6 and 3.8 (100M codes, benchmarks/results/gpu.csv).
_MOST_COMPARISONS = 1 << 27
# The number of codes is rounded up to a multiple of it, and of a large chunk.
_ROWS = 1024
# Up to so many words, each has operations of its own, which XLA fuses into one kernel.
_UNROLLED_WORDS = 16
# Queries that one kernel compares with a code that it has read.
_QUERIES_PER_READ = 8


def as_words(packed: npt.NDArray[np.uint8], rows: int) -> npt.NDArray[np.uint64]:
    """Lay packed codes out in words of 64 bits, word by word.

    Args:
        packed: uint8 array ``(n, width)``; packed codes, at least one row.
        rows: int; number of codes, at least n. Copies of the last code fill the rest:
            they change the smallest distance of no chunk that holds a code.

    Returns:
        uint64 array ``(ceil(width / 8), rows)``; bytes that a code lacks are 0.

    Example:
        >>> as_words(np.array([[1, 2], [3, 0]], np.uint8), rows=3).tolist()
        [[513, 3, 3]]
    """
    words = -(-packed.shape[1] // 8)
    padded = np.zeros((rows, 8 * words), np.uint8)
    padded[: len(packed), : packed.shape[1]] = packed
    padded[len(packed) :] = padded[len(packed) - 1]
    return np.ascontiguousarray(padded.view("<u8").T).astype(np.uint64, copy=False)


def hamming(queries: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """Hamming distances between codes in words.

    Args:
        queries: uint64 tensor ``(words, ...)``.
        codes: uint64 tensor ``(words, ...)``, which broadcasts with `queries`.

    Returns:
        int32 tensor ``(...)``.

    Example:
        >>> words = tf.constant([[0, 7]], tf.uint64)
        >>> hamming(words[:, :1], words).numpy()
        array([0, 3], dtype=int32)
    """

    def count(differ: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.raw_ops.PopulationCount(x=differ), tf.int32)

    if codes.shape[0] > _UNROLLED_WORDS:
        return tf.reduce_sum(count(tf.bitwise.bitwise_xor(queries, codes)), axis=0)
    parts = [
        count(tf.bitwise.bitwise_xor(query, code))
        for query, code in zip(tf.unstack(queries), tf.unstack(codes), strict=True)
    ]
    return functools.reduce(tf.add, parts)


def chunk_minima(queries: tf.Tensor, codes: tf.Tensor, chunk: int) -> tf.Tensor:
    """The smallest distance in each chunk.

    Args:
        queries: uint64 tensor ``(words, q)``.
        codes: uint64 tensor ``(words, rows)``.
        chunk: int; codes per chunk. It divides `rows`.

    Returns:
        int32 tensor ``(q, rows / chunk)``.

    Example:
        >>> words = tf.constant([[0, 7, 1, 3]], tf.uint64)
        >>> chunk_minima(words[:, :1], words, chunk=2).numpy()
        array([[0, 1]], dtype=int32)
    """
    chunks = tf.reshape(codes, (codes.shape[0], -1, chunk))
    minima = []
    for start in range(0, queries.shape[1], _QUERIES_PER_READ):
        # A reduction for each query: XLA makes one kernel of them, which reads a code
        # once and compares it with all of these queries.
        block = queries[:, start : start + _QUERIES_PER_READ]
        minima += [
            tf.reduce_min(hamming(query[:, None, None], chunks), axis=1)
            for query in tf.unstack(block, axis=1)
        ]
    return tf.stack(minima)


def nearest(
    queries: tf.Tensor, codes: tf.Tensor, n: tf.Tensor, bits: int, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k nearest of the first n codes, as a graph to compile.

    Args:
        queries: uint64 tensor ``(words, q)``.
        codes: uint64 tensor ``(words, rows)``; the first n codes count and the rest are
            copies of the last of them. Rows are a multiple of 1024. Both shapes are
            static.
        n: int32 scalar tensor; at least `k`.
        bits: int; the code length.
        k: int.

    Returns:
        ``(distances, indices)``: int32 tensors ``(q, k)``, in order of (distance,
        index).

    Example:
        >>> words = tf.constant(as_words(np.arange(9, dtype=np.uint8)[:, None], 1024))
        >>> distances, indices = nearest(words[:, :1], words, 9, bits=8, k=3)
        >>> distances.numpy(), indices.numpy()
        (array([[0, 1, 1]], dtype=int32), array([[0, 1, 2]], dtype=int32))
    """
    n = tf.convert_to_tensor(n)
    rows = codes.shape[1]
    chunk = _chunk_size(rows, k, _CHUNK_SIZES)
    if not chunk:
        distances = hamming(queries[:, :, None], codes[:, None])
        distances = tf.where(_positions(rows, n) < n, distances, bits + 1)
        return _smallest(distances, k, bits)
    minima = chunk_minima(queries, codes, chunk)
    first_row = _positions(rows // chunk, n) * chunk
    minima = tf.where(first_row < n, minima, bits + 1)
    _, selected = _smallest(minima, k, bits)  # (q, k)
    # Sorted, so that positions are in order of index.
    selected = tf.cast(_sorted_smallest(tf.cast(selected, tf.uint32), k), tf.int32)
    chunks = tf.reshape(codes, (codes.shape[0], -1, chunk))
    candidates = tf.gather(chunks, selected, axis=1)  # (words, q, k, chunk)
    distances = hamming(queries[:, :, None, None], candidates)
    index = selected[:, :, None] * chunk + tf.range(chunk)
    distances = tf.where(index < n, distances, bits + 1)
    distances = tf.reshape(distances, (queries.shape[1], k * chunk))
    nearest_distances, position = _smallest(distances, k, bits)
    index = tf.gather(selected, position // chunk, batch_dims=1) * chunk
    return nearest_distances, index + position % chunk


def _chunk_size(size: int, k: int, bounds: tuple[int, int]) -> int:
    """How many of `size` values to reduce to one before k are selected, or 0 for a
    selection among all of them."""
    least, most = bounds
    # With the square root of size / k, minima and values of k chunks are equally many.
    chunk = min(most, max(least, 1 << (size // k).bit_length() // 2))
    return chunk if size >= 4 * k * chunk else 0


def _smallest(values: tf.Tensor, k: int, bits: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The k smallest values of each row of int32 ``(q, m)``, from 0 to bits + 1, and
    their positions, in order of (value, position)."""
    size = values.shape[1]
    shift = (size - 1).bit_length()
    dtype = tf.uint32 if shift + (bits + 1).bit_length() <= 32 else tf.uint64
    key = tf.bitwise.left_shift(tf.cast(values, dtype), tf.cast(shift, dtype))
    key = tf.bitwise.bitwise_or(key, tf.cast(_positions(size, values[0, 0]), dtype))
    key = _smallest_keys(key, k, shift)
    position = tf.bitwise.bitwise_and(key, tf.cast((1 << shift) - 1, dtype))
    value = tf.bitwise.right_shift(key, tf.cast(shift, dtype))
    return tf.cast(value, tf.int32), tf.cast(position, tf.int32)


def _smallest_keys(keys: tf.Tensor, k: int, shift: int, step: int = 1) -> tf.Tensor:
    """The k smallest keys of each row ``(q, m)``, sorted. The last `shift` bits of the
    i-th key are a position from ``step * i`` to ``step * (i + 1) - 1``."""
    group = _chunk_size(keys.shape[1], k, _GROUP_SIZES)
    if group:
        # As for chunks: the k smallest keys lie in the k groups of smallest minima.
        padding = ((0, 0), (0, -keys.shape[1] % group))
        keys = tf.pad(keys, padding, constant_values=keys.dtype.max)
        groups = tf.reshape(keys, (keys.shape[0], -1, group))
        step *= group
        minima = _smallest_keys(tf.reduce_min(groups, axis=2), k, shift, step)
        position = tf.bitwise.bitwise_and(minima, (1 << shift) - 1)
        selected = tf.cast(position, tf.int32) // step
        keys = tf.gather(groups, selected, batch_dims=1)
        keys = tf.reshape(keys, (keys.shape[0], k * group))
    return _sorted_smallest(keys, k)


def _sorted_smallest(keys: tf.Tensor, k: int) -> tf.Tensor:
    """The k smallest of each row of unsigned integers ``(q, m)``, sorted. No two of
    them are equal."""
    rows, size = keys.shape
    if rows * size * size <= _MOST_COMPARISONS:
        # A sort has many steps, each of which waits for the one before. This has two.
        smaller = keys[:, None] < keys[:, :, None]
        rank = tf.reduce_sum(tf.cast(smaller, tf.int32), axis=2)
        has_rank = rank[:, None] == tf.range(k)[:, None]  # (q, k, m)
        candidates = tf.where(has_rank, keys[:, None], keys.dtype.max)
        return tf.reduce_min(candidates, axis=2)
    # `top_k` takes the largest; in the complement, these are the smallest.
    return tf.bitwise.invert(tf.math.top_k(tf.bitwise.invert(keys), k).values)


def _positions(size: int, value: tf.Tensor) -> tf.Tensor:
    """``tf.range(size)``, computed on the device. `value` is any int32 scalar."""
    # TensorFlow computes constants when it compiles, and stores them in the program: so
    # this is a sum of two short ones and a zero that it does not know.
    low = 1 << 10
    high = tf.range(0, size, low) + (value - value)
    return tf.reshape(high[:, None] + tf.range(low), [-1])[:size]


class AcceleratorBlock:
    """Consecutive codes of a database on an accelerator; as `Block` for processors.

    Args:
        packed: uint8 array ``(size, ceil(bits / 8))``; the codes, at least one.
        start: int; index of the first code in the database.
        device: str or None; as of `Block`.

    Attributes:
        start: int; index of the first code in the database.
        device: str or None; as given.
        size: int; number of codes.
        width: int; bytes of a code.
        codes: uint64 tensor ``(words, rows)``; see `as_words`.

    Example:
        >>> block = AcceleratorBlock(np.array([[7], [8]], np.uint8), start=0)
        >>> block.codes.shape
        TensorShape([1, 1024])
    """

    #: Most bytes that the codes or distances of a block of queries may take.
    WORKSPACE = 1 << 31
    #: As of `Block`: every search is one program.
    few = 0

    def __init__(
        self, packed: npt.NDArray[np.uint8], start: int, device: str | None = None
    ) -> None:
        self.start, self.size, self.device = start, len(packed), device
        self.width = packed.shape[1]
        # Few different sizes, so that a growing database can keep its programs.
        step = max(_ROWS, 1 << max(0, self.size.bit_length() - 4))
        with layout.on_device(device):
            self.codes = tf.constant(as_words(packed, -(-self.size // step) * step))
            self._size_tensor = tf.constant(self.size)

    def packed(self) -> npt.NDArray[np.uint8]:
        """The packed codes of the block, copied to the host.

        Returns:
            uint8 array ``(size, width)``.
        """
        words = layout.as_array(self.codes)[:, : self.size].T.astype("<u8", order="C")
        return words.view(np.uint8)[:, : self.width]

    @property
    def bytes_of_distances(self) -> int:
        """Bytes that `distances` needs for one query."""
        return 4 * int(self.codes.shape[1])

    def bytes_of_nearest(self, k: int) -> int:
        """Bytes that `nearest` needs for one query.

        Args:
            k: int; number of codes.

        Returns:
            int.
        """
        words, rows = self.codes.shape
        # Of a code that is looked at again: its words, and its distance in two keys.
        return min(rows, k * _CHUNK_SIZES[1]) * (8 * words + 16)

    def distances(
        self, kernels: Kernels, queries: npt.NDArray[np.uint8]
    ) -> npt.NDArray[Any]:
        """Distances to all codes of the block.

        Args:
            kernels: `Kernels` for the code length.
            queries: uint8 array ``(q, width)``; packed codes.

        Returns:
            int32 array ``(q, size)``.
        """
        check_not_forked()
        distances = _distances(tf.constant(as_words(queries, len(queries))), self.codes)
        return layout.as_array(distances)[:, : self.size]

    def nearest(
        self, kernels: Kernels, queries: npt.NDArray[np.uint8], k: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """The k nearest codes, or all if the block has fewer.

        Args:
            kernels: `Kernels` for the code length.
            queries: uint8 array ``(q, width)``; packed codes.
            k: int; number of codes, at least 1.

        Returns:
            ``(distances, indices)``: int32 arrays ``(q, min(k, size))``, in order of
            (distance, index); indices are those in the database.
        """
        check_not_forked()
        k = min(k, self.size)
        # A program for each power of two.
        compiled_k = min(1 << (k - 1).bit_length(), self.size)
        search = _program(kernels.bits, compiled_k)
        distances, indices = search(
            tf.constant(as_words(queries, len(queries))), self.codes, self._size_tensor
        )
        indices = layout.as_array(indices)[:, :k]
        return layout.as_array(distances)[:, :k], indices + np.int32(self.start)


@functools.lru_cache(maxsize=64)
def _program(bits: int, k: int) -> Any:
    """`nearest` for codes of a length and one k, compiled for each shape."""
    return tf.function(
        lambda queries, codes, n: nearest(queries, codes, n, bits, k),
        jit_compile=True,
        autograph=False,
    )


@tf.function(jit_compile=True)
def _distances(queries: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """Distances ``(q, rows)`` between queries ``(words, q)`` and codes."""
    return hamming(queries[:, :, None], codes[:, None])
