"""Hamming distances, and the nearest of them, without sorting.

Codes are laid out for the processor's vectors: in chunks of `LANES` codes, byte by
byte, so that one instruction compares a byte of all codes of a chunk.

Distances are small integers, so the k nearest are found by counting. Bisection on
counts gives t, the distance of the k-th; what is nearer is in, and of those at t the
first ones.

A chunk can hold one of the k nearest only if its nearest code is among the k nearest
of all chunks'. In a large database the selection therefore runs twice: on the minima
of chunks, which need no distance to be stored, then on the codes of chosen chunks.
"""

import functools

import numpy as np
import tensorflow as tf

from kerashash.retrieval.layout import CHUNKS, LANES

_GROUP = LANES * CHUNKS
_LANE = np.arange(LANES, dtype=np.uint8)


def compare(queries, codes, dtype=tf.uint8):
    """Hamming distances, to be compiled.

    Args:
        queries: packed uint8 ``(q, width)``, width known.
        codes: uint8 ``(..., m, width, LANES)``: all in one, or ``(q, m, ...)`` if each
            query has its own, or ``(groups, 1, m, ...)``.
        dtype: of the result.

    Returns:
        ``(..., q, m, LANES)``.
    """
    total = tf.zeros((), dtype)
    # As many bytes as have a distance that is a byte.
    for start in range(0, queries.shape[1], 31):
        part = tf.zeros((), tf.uint8)
        for byte in range(start, min(start + 31, queries.shape[1])):
            differ = tf.bitwise.bitwise_xor(
                queries[:, byte, None, None], codes[..., byte, :]
            )
            part += tf.raw_ops.PopulationCount(x=differ)
        total += tf.cast(part, dtype)
    return total


def real(chunks, n):
    """Which places of chunks ``(...,)`` hold one of n codes: ``(..., LANES)``."""
    count = tf.clip_by_value(n - chunks * LANES, 0, LANES)
    return tf.cast(count, tf.uint8)[..., None] > _LANE


class Kernels:
    """Compiled functions on codes of one length; `kernels_for` makes them.

    Each is traced once, and compiled once for each shape of its arguments, which are
    tensors. In all of them ``queries`` is packed, uint8 ``(q, width)``; ``codes`` is
    uint8 ``(chunks, width, LANES)``, whose first ``n`` are codes; n and k are int32
    scalars.

    Args:
        bits: int, the code length.

    Attributes:
        bits: int.
        dtype: the dtype of distances. Its largest value is none: it stands where
            there is no code.
    """

    def __init__(self, bits):
        self.bits = bits
        self.dtype = tf.uint8 if bits < tf.uint8.max else tf.uint16
        width = -(-bits // 8)
        queries = tf.TensorSpec((None, width), tf.uint8)
        codes = tf.TensorSpec((None, width, LANES), tf.uint8)
        own = tf.TensorSpec((None, None, width, LANES), tf.uint8)
        chunks = tf.TensorSpec((None, None), tf.int32)
        count = tf.TensorSpec((), tf.int32)

        self.distances = _concrete(self._distances, queries, codes, count)
        self.minima = _concrete(self._minima, queries, codes, count)
        self.own_distances = _concrete(self._own_distances, queries, own, chunks, count)
        self.mark = _selection(_mark, self.dtype)
        self.bound = _selection(_bound, self.dtype)
        signature = (queries, codes, count, count, count)
        self.top_k = _concrete(self._top_k, *signature, jit_compile=False)

    def _top_k(self, queries, codes, n, k, chunks):
        """The k nearest codes, by index: distances and indices ``(q, k)``.

        Looks into as many chunks, at least k, of the nearest; into all if 0.
        """
        if chunks == 0:
            index, found = self._first(self.distances(queries, codes, n), k)
            return found, index
        minima = tf.transpose(self.minima(queries, codes, n), (1, 0, 2))
        near, _ = self._first(minima, chunks)
        distances = self.own_distances(queries, tf.gather(codes, near), near, n)
        place, found = self._first(distances, k)
        chunk = tf.gather(near, place // LANES, batch_dims=1)
        return found, chunk * LANES + place % LANES

    def _first(self, values, k):
        """Positions and values ``(q, k)`` of the first k of each row ``(q, m,
        LANES)``, in order of (value, position); they are listed by position."""
        rows = tf.shape(values)[0]
        values = tf.reshape(values, (rows, -1))
        marks = self.mark(values, k, tf.constant(self.bits))
        place = tf.reshape(_positions(marks), (rows, k))
        row = tf.range(rows)[:, None]
        place -= row * tf.size(marks[0])
        found = tf.gather(tf.reshape(values, [-1]), place + row * tf.shape(values)[1])
        return place, found

    def _distances(self, queries, codes, n):
        """Distances ``(q, chunks * LANES)``."""
        chunks = tf.range(tf.shape(codes)[0])
        distances = self._own_distances(queries, codes, chunks, n)
        return tf.reshape(distances, (tf.shape(queries)[0], -1))

    def _own_distances(self, queries, codes, chunks, n):
        """The same if each query has its own codes ``(q, m, width, LANES)``: chunks
        ``(q, m)`` of the database."""
        distances = compare(queries, codes, self.dtype)
        return tf.where(real(chunks, n), distances, self.dtype.max)

    def _minima(self, queries, codes, n):
        """Distances to the nearest code of each chunk ``(groups, q, CHUNKS)``.

        A group of chunks stays in the processor's cache for all queries.
        """
        groups = tf.reshape(codes, (-1, 1, CHUNKS, *codes.shape[1:]))
        minima = tf.reduce_min(compare(queries, groups, self.dtype), axis=3)
        starts = tf.range(0, tf.shape(codes)[0] * LANES, LANES)
        some = tf.reshape(starts < n, (-1, 1, CHUNKS))
        return tf.where(some, minima, self.dtype.max)


def _concrete(function, *signature, jit_compile=True):
    """A function traced for a signature. Called with tensors only, it takes half the
    time of a `tf.function`'s call."""
    # A partial is counted by itself: a method for each code length would look like one
    # function that is traced too often.
    return tf.function(
        functools.partial(function), jit_compile=jit_compile
    ).get_concrete_function(*signature)


#: The `Kernels` for codes of a length: made, traced and compiled once.
kernels_for = functools.cache(Kernels)


@functools.cache
def _selection(function, dtype):
    """`_mark` or `_bound`, compiled for values of a dtype."""
    values = tf.TensorSpec((None, None), dtype)
    count = tf.TensorSpec((), tf.int32)
    return _concrete(function, values, count, count)


def _bound(values, k, most):
    """The k-th least value of each row.

    Args:
        values: ``(q, m)``; at least k of a row are at most `most`.

    Returns:
        int32 ``(q,)``.
    """
    return _least(_grouped(values), k, most)


def _mark(values, k, most):
    """Mark the first k of each row, in order of (value, position).

    Args:
        values, k, most: as of `_bound`.

    Returns:
        uint8 ``(q, ceil(m / LANES), LANES)``: rows, filled up to whole groups, with a
        1 where marked.
    """
    x = _grouped(values)
    rows = tf.shape(x)[0]
    t = tf.cast(_least(x, k, most), x.dtype)[:, None, None, None]
    left = (k - _sum(_per_group(x < t)))[:, None]
    # The group and the place in it where the values equal to t are no longer wanted.
    so_far = tf.cumsum(_per_group(x == t), axis=1)
    group = _sum(so_far < left)[:, None]
    before = tf.gather(tf.pad(so_far, ((0, 0), (1, 0))), group, batch_dims=1)
    within = tf.reshape(tf.gather(x, group, batch_dims=1) == t, (rows, -1))
    within = tf.cumsum(tf.cast(within, tf.int32), axis=1)
    end = group * _GROUP + _sum(within < left - before)[:, None] + 1
    x, t = tf.reshape(x, (rows, -1, LANES)), t[:, 0]
    wanted = tf.clip_by_value(end - tf.range(0, tf.size(x[0]), LANES), 0, LANES)
    early = tf.cast(wanted, tf.uint8)[..., None] > _LANE
    return tf.cast((x < t) | ((x == t) & early), tf.uint8)


def _grouped(values):
    """Rows filled up to whole groups, ``(q, groups, CHUNKS, LANES)``."""
    rows, padding = tf.shape(values)[0], -tf.shape(values)[1] % _GROUP
    x = tf.pad(values, ((0, 0), (0, padding)), constant_values=values.dtype.max)
    return tf.reshape(x, (rows, -1, CHUNKS, LANES))


def _least(x, k, most):
    """The least t such that k values of a row are at most t, by bisection."""
    rows = tf.shape(x)[0]
    t, high = tf.zeros((rows,), tf.int32), tf.fill((rows,), most)
    while tf.reduce_any(t < high):
        middle = (t + high) // 2
        below = x <= tf.cast(middle, x.dtype)[:, None, None, None]
        enough = _sum(_per_group(below)) >= k
        t = tf.where(enough, t, middle + 1)
        high = tf.where(enough, middle, high)
    return t


def _per_group(true):
    """Counts of what is true in ``(q, groups, CHUNKS, LANES)``: ``(q, groups)``."""
    # Bytes first, of which many fit in a register.
    lanes = tf.reduce_sum(tf.cast(true, tf.uint8), axis=2)
    return _sum(lanes, axis=2)


def _sum(x, axis=1):
    return tf.reduce_sum(tf.cast(x, tf.int32), axis)


def _positions(marks):
    """Positions of the ones in the flat array of 0 and 1: int32, ascending.

    Most are 0: they are passed over in words of eight. The array's size is a
    multiple of that.
    """
    words = tf.bitcast(tf.reshape(marks, (-1, 8)), tf.uint64)
    some = tf.cast(tf.where(words)[:, 0], tf.int32)
    marks = tf.reshape(tf.bitcast(tf.gather(words, some), tf.uint8), [-1])
    place = tf.cast(tf.where(marks)[:, 0], tf.int32)
    word = tf.gather(some, tf.bitwise.right_shift(place, 3))
    return 8 * word + tf.bitwise.bitwise_and(place, 7)
