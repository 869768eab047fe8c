"""Hamming distances and the selection of the smallest ones, without sorting.

Codes are laid out for the processor's vector registers: in chunks of `LANES` codes,
byte by byte, so that one instruction compares a byte of all codes of a chunk.

Distances are small integers, so the k nearest codes are found by counting. Bisection on
counts gives t, the k-th smallest distance. All codes nearer than t are selected, and of
those at distance t the first ones, as many as are missing.

A chunk can hold one of the k nearest codes only if its minimum distance is among the k
smallest minima. In a large database the selection therefore runs twice: on the minima
of all chunks, for which no distance has to be stored, then on the codes of the selected
chunks.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from kerashash.checks import check_integer
from kerashash.retrieval.layout import CHUNKS_PER_GROUP, LANES

_CODES_PER_GROUP = LANES * CHUNKS_PER_GROUP
_LANE = np.arange(LANES, dtype=np.uint8)
# Most bytes whose distance, at most 8 per byte, fits in a uint8.
_BYTES_PER_SUM = 31
# Bytes of long codes that a step of a loop compares: a graph with operations for each
# byte would take seconds to compile, and minutes for the longest codes.
_BYTES_PER_STEP = 2 * _BYTES_PER_SUM
# Half of the bits of random codes differ, and less of near ones.
_MOST_BITS_IN_UINT8 = 512
# Up to so many, the loop would double the time of a search.
_MAX_UNROLLED_BYTES = 128


def hamming(
    queries: tf.Tensor, codes: tf.Tensor, dtype: tf.DType = tf.uint8
) -> tf.Tensor:
    """Hamming distances between queries and chunks of codes, as a graph to compile.

    Args:
        queries: uint8 tensor ``(q, width)``; packed codes, `width` statically known.
        codes: uint8 tensor ``(..., m, width, LANES)``; m chunks. Leading axes are none
            if all queries share the chunks, ``(q,)`` if each query has its own, and
            ``(groups, 1)`` for groups of shared chunks.
        dtype: `tf.DType`; of the result, uint8 or uint16. If it is uint8, distances
            above 255 are 255.

    Returns:
        Tensor ``(..., q, m, LANES)``; leading axes only for groups.

    Example:
        >>> codes = tf.reshape(tf.range(32), (1, 1, 32))  # one chunk of one-byte codes
        >>> query = tf.constant([[3]], tf.uint8)
        >>> hamming(query, tf.cast(codes, tf.uint8)).numpy()[0, 0, :4]
        array([2, 1, 1, 0], dtype=uint8)
    """
    width, step = queries.shape[1], _BYTES_PER_STEP
    if width <= _MAX_UNROLLED_BYTES or dtype == tf.uint8:
        return _hamming_unrolled(queries, codes, dtype)
    steps = (width - 1) // step  # at least a byte remains
    looped = codes[..., : steps * step, :]
    shape = tf.concat([tf.shape(codes)[:-2], [steps, step, LANES]], 0)
    looped = tf.reshape(looped, shape)
    query_steps = tf.reshape(queries[:, : steps * step], (-1, steps, step))
    total = _hamming_unrolled(
        queries[:, steps * step :], codes[..., steps * step :, :], dtype
    )
    for i in tf.range(steps):
        total += _hamming_unrolled(query_steps[:, i], looped[..., i, :, :], dtype)
    return total


def _hamming_unrolled(
    queries: tf.Tensor, codes: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """`hamming` with operations of its own for each byte of the codes."""
    total = tf.zeros((), dtype)
    # Sums stay in uint8 as long as they fit: more of them share a register.
    for start in range(0, queries.shape[1], _BYTES_PER_SUM):
        part = tf.zeros((), tf.uint8)
        for byte in range(start, min(start + _BYTES_PER_SUM, queries.shape[1])):
            differ = tf.bitwise.bitwise_xor(
                queries[:, byte, None, None], codes[..., byte, :]
            )  # (..., q, m, LANES)
            part += tf.raw_ops.PopulationCount(x=differ)
        if dtype == tf.uint8:  # an addition that ends at 255, one instruction
            part = tf.minimum(part, tf.uint8.max - total)
        total += tf.cast(part, dtype)
    return total


def occupied(chunks: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """Which lanes of chunks hold one of the first n codes, and not padding.

    Args:
        chunks: int32 tensor ``(...,)``; indices of chunks.
        n: int32 scalar tensor; the number of codes of the database.

    Returns:
        bool tensor ``(..., LANES)``.

    Example:
        >>> tf.reduce_sum(tf.cast(occupied(tf.range(3), 40), tf.int32), axis=1).numpy()
        array([32,  8,  0], dtype=int32)
    """
    count = tf.clip_by_value(n - chunks * LANES, 0, LANES)
    return tf.cast(count, tf.uint8)[..., None] > _LANE


def check_bits(bits: int) -> None:
    """Check a code length: distances are uint16, and their largest value is reserved.

    Args:
        bits: int; the code length.

    Raises:
        TypeError, ValueError: if it is no integer from 1 to 65,534.

    Example:
        >>> check_bits(48)
    """
    check_integer("bits", bits, most=tf.uint16.max - 1)


class Kernels:
    """Compiled functions for codes of one length; get them from `kernels_for`.

    Each function is traced once, and compiled once for each shape of its arguments. All
    arguments are tensors: ``queries`` are packed codes, uint8 ``(q, width)``; ``codes``
    is the database, uint8 ``(chunks, width, LANES)``, of which the first n codes count
    and the rest is padding; n and k are int32 scalars.

    Args:
        bits: int; the code length.
        dtype: `tf.DType` or None; the dtype of distances. None is the smaller of uint8
            and uint16 that holds all.

    Attributes:
        bits: int; the code length.
        dtype: `tf.DType`; the dtype of distances. Its largest value is the sentinel for
            padding, greater than every distance; in uint8, longer distances are 255,
            too.
        distances: ``(queries, codes, n)`` to distances ``(q, chunks * LANES)``.
        distances_by_group: the same, ``(chunks / CHUNKS_PER_GROUP, q, CHUNKS_PER_GROUP,
            LANES)``.
        minima: ``(queries, codes, n)`` to the smallest distance in each chunk,
            ``(chunks / CHUNKS_PER_GROUP, q, CHUNKS_PER_GROUP)``.
        distances_in_chunks: ``(queries, codes, chunks, n)`` to distances ``(q, m,
            LANES)``, where each query has its own codes ``(q, m, width, LANES)``: the
            chunks ``(q, m)`` of the database.
        top_k: ``(queries, codes, n, k, chunks)`` to distances and indices ``(q, k)`` of
            the k nearest codes, ordered by index. The int32 scalar ``chunks`` is the
            number of chunks to search, at least k, or 0 for all.
        mark_smallest: `_mark_smallest` for distances.

    Example:
        >>> Kernels(bits=48).dtype, Kernels(bits=256).dtype
        (tf.uint8, tf.uint16)
    """

    def __init__(self, bits: int, dtype: tf.DType | None = None) -> None:
        self.bits = bits
        self.dtype = dtype or (tf.uint8 if bits < tf.uint8.max else tf.uint16)
        width = -(-bits // 8)
        queries = tf.TensorSpec((None, width), tf.uint8)
        codes = tf.TensorSpec((None, width, LANES), tf.uint8)
        codes_per_query = tf.TensorSpec((None, None, width, LANES), tf.uint8)
        chunks = tf.TensorSpec((None, None), tf.int32)
        scalar = tf.TensorSpec((), tf.int32)

        self.distances_by_group = _concrete(
            self._grouped_distances, queries, codes, scalar
        )
        self.distances = _concrete(
            self._distances, queries, codes, scalar, jit_compile=False
        )
        self.minima = _concrete(self._minima, queries, codes, scalar)
        self.distances_in_chunks = _concrete(
            self._distances_in_chunks, queries, codes_per_query, chunks, scalar
        )
        self.mark_smallest = _concrete_for_dtype(_mark_smallest, self.dtype)
        self.top_k = _concrete(
            self._top_k, queries, codes, scalar, scalar, scalar, jit_compile=False
        )

    @functools.cached_property
    def near(self) -> "Kernels | None":
        """Kernels of half the work for codes of which some are nearer than 255, with
        distances of uint8; None if all distances are, or few are likely to be."""
        if self.dtype == tf.uint8 or self.bits > _MOST_BITS_IN_UINT8:
            return None
        return Kernels(self.bits, tf.uint8)

    def _top_k(
        self,
        queries: tf.Tensor,
        codes: tf.Tensor,
        n: tf.Tensor,
        k: tf.Tensor,
        chunks: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if chunks == 0:
            index, distances = self._smallest(self.distances(queries, codes, n), k)
            return distances, index
        minima = tf.transpose(self.minima(queries, codes, n), (1, 0, 2))
        selected, _ = self._smallest(minima, chunks)  # (q, chunks)
        codes_per_query = tf.gather(codes, selected)  # (q, chunks, width, LANES)
        distances = self.distances_in_chunks(queries, codes_per_query, selected, n)
        position, distances = self._smallest(distances, k)  # (q, k)
        chunk = tf.gather(selected, position // LANES, batch_dims=1)
        return distances, chunk * LANES + position % LANES

    def _smallest(self, values: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Positions and values ``(q, k)`` of the k smallest values of each row of
        ``(q, m, ...)``. Ties go to the first; the result is in order of position."""
        rows = tf.shape(values)[0]
        values = tf.reshape(values, (rows, -1))
        upper = min(self.bits, self.dtype.max)
        marks = self.mark_smallest(values, k, tf.constant(upper))
        position = tf.reshape(_positions_of_ones(marks), (rows, k))
        row = tf.range(rows)[:, None]
        position -= row * tf.size(marks[0])  # from the flat array to the row
        flat = position + row * tf.shape(values)[1]
        return position, tf.gather(tf.reshape(values, [-1]), flat)

    def _distances(
        self, queries: tf.Tensor, codes: tf.Tensor, n: tf.Tensor
    ) -> tf.Tensor:
        # Transposed by itself: in one loop, XLA would take the queries one by one.
        distances = self.distances_by_group(queries, codes, n)
        distances = tf.transpose(distances, (1, 0, 2, 3))
        return tf.reshape(distances, (tf.shape(queries)[0], -1))

    def _grouped_distances(
        self, queries: tf.Tensor, codes: tf.Tensor, n: tf.Tensor
    ) -> tf.Tensor:
        # One group at a time stays in the processor's cache for all queries.
        groups = tf.reshape(codes, (-1, 1, CHUNKS_PER_GROUP, *codes.shape[1:]))
        distances = hamming(queries, groups, self.dtype)
        chunks = tf.range(tf.shape(codes)[0])
        real = tf.reshape(occupied(chunks, n), (-1, 1, CHUNKS_PER_GROUP, LANES))
        return tf.where(real, distances, self.dtype.max)

    def _distances_in_chunks(
        self, queries: tf.Tensor, codes: tf.Tensor, chunks: tf.Tensor, n: tf.Tensor
    ) -> tf.Tensor:
        distances = hamming(queries, codes, self.dtype)
        return tf.where(occupied(chunks, n), distances, self.dtype.max)

    def _minima(self, queries: tf.Tensor, codes: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
        # One group at a time stays in the processor's cache for all queries.
        groups = tf.reshape(codes, (-1, 1, CHUNKS_PER_GROUP, *codes.shape[1:]))
        minima = tf.reduce_min(hamming(queries, groups, self.dtype), axis=3)
        starts = tf.range(0, tf.shape(codes)[0] * LANES, LANES)
        not_empty = tf.reshape(starts < n, (-1, 1, CHUNKS_PER_GROUP))
        return tf.where(not_empty, minima, self.dtype.max)


def _concrete(
    function: Callable[..., Any], *signature: tf.TensorSpec, jit_compile: bool = True
) -> Callable[..., Any]:
    """Trace a function for a signature, when it is first called. Called with tensors
    only, the concrete function takes half the time of a call of a `tf.function`."""
    # TensorFlow warns of a function that is traced too often, and would count a method
    # once for each code length. It counts each partial separately.
    traced = tf.function(functools.partial(function), jit_compile=jit_compile)
    concrete = functools.cache(lambda: traced.get_concrete_function(*signature))
    return lambda *arguments: concrete()(*arguments)


#: The `Kernels` for codes of a length: traced and compiled once, when first called, and
#: kept for the lengths used last. Each ranker keeps its own besides.
kernels_for = functools.lru_cache(maxsize=8)(Kernels)


@functools.cache
def _concrete_for_dtype(
    function: Callable[..., Any], dtype: tf.DType
) -> Callable[..., Any]:
    """`_mark_smallest`, compiled for values of a dtype."""
    values = tf.TensorSpec((None, None), dtype)
    scalar = tf.TensorSpec((), tf.int32)
    return _concrete(function, values, scalar, scalar)


def _mark_smallest(values: tf.Tensor, k: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """Mark the k smallest values of each row; ties go to the first.

    Args:
        values: uint8 or uint16 tensor ``(q, m)``.
        k: int32 scalar tensor.
        upper: int32 scalar tensor; an upper bound of the k-th smallest value: at least
            k values of each row are at most `upper`.

    Returns:
        uint8 tensor ``(q, ceil(m / LANES), LANES)``, with the number of chunks rounded
        up so that every group is full: 1 where marked, else 0.
    """
    x = _grouped(values)
    rows = tf.shape(x)[0]
    t = tf.cast(_kth_smallest_of_groups(x, k, upper), x.dtype)[:, None, None, None]
    # How many of the values equal to t are marked: those that are still missing.
    missing = (k - _int_sum(_count_by_group(x < t)))[:, None]  # (q, 1)
    # Find the end of the marked values equal to t: its group, then its place in there.
    equal_so_far = tf.cumsum(_count_by_group(x == t), axis=1)  # (q, groups)
    group = _int_sum(equal_so_far < missing)[:, None]
    before = tf.gather(tf.pad(equal_so_far, ((0, 0), (1, 0))), group, batch_dims=1)
    equal = tf.reshape(tf.gather(x, group, batch_dims=1) == t, (rows, -1))
    equal_so_far = tf.cumsum(tf.cast(equal, tf.int32), axis=1)
    place = _int_sum(equal_so_far < missing - before)[:, None]
    end = group * _CODES_PER_GROUP + place + 1
    x, t = tf.reshape(x, (rows, -1, LANES)), t[:, 0]
    lanes = tf.clip_by_value(end - tf.range(0, tf.size(x[0]), LANES), 0, LANES)
    before_end = tf.cast(lanes, tf.uint8)[..., None] > _LANE
    return tf.cast((x < t) | ((x == t) & before_end), tf.uint8)


def _grouped(values: tf.Tensor) -> tf.Tensor:
    """Rows padded with the sentinel until every group is full: ``(q, groups,
    CHUNKS_PER_GROUP, LANES)``."""
    rows, padding = tf.shape(values)[0], -tf.shape(values)[1] % _CODES_PER_GROUP
    x = tf.pad(values, ((0, 0), (0, padding)), constant_values=values.dtype.max)
    return tf.reshape(x, (rows, -1, CHUNKS_PER_GROUP, LANES))


def _kth_smallest_of_groups(x: tf.Tensor, k: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """The smallest t such that k values of a row are at most t, by bisection."""
    rows = tf.shape(x)[0]
    t, high = tf.zeros((rows,), tf.int32), tf.fill((rows,), upper)
    while tf.reduce_any(t < high):
        middle = (t + high) // 2
        at_most_middle = x <= tf.cast(middle, x.dtype)[:, None, None, None]
        enough = _int_sum(_count_by_group(at_most_middle)) >= k
        t = tf.where(enough, t, middle + 1)
        high = tf.where(enough, middle, high)
    return t


def _count_by_group(mask: tf.Tensor) -> tf.Tensor:
    """How many entries of ``(q, groups, CHUNKS_PER_GROUP, LANES)`` are True:
    ``(q, groups)``."""
    # Add in uint8 first: more of them fit in a register.
    lanes = tf.reduce_sum(tf.cast(mask, tf.uint8), axis=2)
    return _int_sum(lanes, axis=2)


def _int_sum(x: tf.Tensor, axis: int = 1) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(x, tf.int32), axis)


def _positions_of_ones(marks: tf.Tensor) -> tf.Tensor:
    """Positions of the ones in the flattened array of 0 and 1: int32, ascending.

    The size of the array is a multiple of 8. Most entries are 0, so the array is first
    searched in words of eight bytes.
    """
    words = tf.bitcast(tf.reshape(marks, (-1, 8)), tf.uint64)
    nonzero = tf.cast(tf.where(words)[:, 0], tf.int32)
    octets = tf.reshape(tf.bitcast(tf.gather(words, nonzero), tf.uint8), [-1])
    position = tf.cast(tf.where(octets)[:, 0], tf.int32)
    word = tf.gather(nonzero, tf.bitwise.right_shift(position, 3))
    return 8 * word + tf.bitwise.bitwise_and(position, 7)
