"""A block of a database of hash codes, and the search for its nearest codes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.codes import as_words
from kerashash.retrieval import layout
from kerashash.retrieval.kernels import Kernels

# With at most this many queries, NumPy, one query at a time, is faster than the many
# small operations of the graph of `Kernels.top_k`.
_FEW_QUERIES = 4
# With at most this many codes as well, NumPy is faster than a call of any kernel.
_SMALL_BLOCK = 1 << 17


class Block:
    """Consecutive codes of a database, laid out for the kernels.

    Args:
        packed: uint8 array ``(size, ceil(bits / 8))``; the codes, at least one.
        start: int; index of the first code in the database.
        device: str or None; the name of the device that holds the codes. Searches must
            run on it. None leaves it to TensorFlow.

    Attributes:
        start: int; index of the first code in the database.
        device: str or None; as given.
        size: int; number of codes.
        chunks: int; number of chunks, with padding.
        width: int; bytes of a code.
        codes: uint8 tensor ``(chunks, width, LANES)``; see `layout.chunked`.

    Example:
        >>> block = Block(np.array([[7], [8]], np.uint8), start=0)
        >>> block.size, block.chunks
        (2, 32)
    """

    #: Most bytes that the codes or distances of a block of queries may take.
    WORKSPACE = 1 << 24

    def __init__(
        self, packed: npt.NDArray[np.uint8], start: int, device: str | None = None
    ) -> None:
        self.start, self.size, self.device = start, len(packed), device
        self.chunks = layout.round_up_chunks(-(-self.size // layout.LANES))
        self.width = packed.shape[1]
        with layout.on_device(device):
            self.codes = tf.constant(layout.chunked(packed, self.chunks))
            self._size_tensor = tf.constant(self.size)
        self._words = as_words(packed) if self.size <= _SMALL_BLOCK else None

    def packed(self) -> npt.NDArray[np.uint8]:
        """The packed codes of the block.

        Returns:
            uint8 array ``(size, width)``.
        """
        return layout.unchunked(layout.as_array(self.codes), self.size)

    @property
    def bytes_of_distances(self) -> int:
        """Bytes that `distances` needs for one query, if a distance is one byte."""
        return self.chunks * layout.LANES

    def bytes_of_nearest(self, k: int) -> int:
        """Bytes that `nearest` needs for one query.

        Args:
            k: int; number of codes.

        Returns:
            int.
        """
        chunks = layout.chunks_to_search(k, self.chunks)
        return chunks * self.width * layout.LANES or self.bytes_of_distances

    def distances(
        self, kernels: Kernels, queries: npt.NDArray[np.uint8]
    ) -> npt.NDArray[Any]:
        """Distances to all codes of the block.

        Args:
            kernels: `Kernels` for the code length.
            queries: uint8 array ``(q, width)``; packed codes.

        Returns:
            uint8 or uint16 array ``(q, size)``.
        """
        if len(queries) <= _FEW_QUERIES and self._words is not None:
            dtype = kernels.dtype.as_numpy_dtype
            return np.stack(
                [_distances_by_words(self._words, query, dtype) for query in queries]
            )
        distances = kernels.distances(
            tf.constant(queries), self.codes, self._size_tensor
        )
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
            ``(distances, indices)``: uint8 or uint16 and int32 arrays ``(q, min(k,
            size))``, in order of (distance, index); indices are those in the database.
        """
        k = min(k, self.size)
        chunks = layout.chunks_to_search(k, self.chunks)
        few = len(queries) <= _FEW_QUERIES
        if few and self._words is not None:
            rows = [
                _nearest_within(row, _bound_of_kth(row, k), k)
                for row in self.distances(kernels, queries)
            ]
        elif few and chunks:
            minima = layout.as_array(
                kernels.minima(tf.constant(queries), self.codes, self._size_tensor)
            )
            minima = minima.transpose(1, 0, 2).reshape(len(queries), -1)  # (q, chunks)
            rows = [
                self._nearest_by_chunks(query, row, k)
                for query, row in zip(queries, minima, strict=True)
            ]
        elif chunks:
            distances, indices = kernels.top_k(
                tf.constant(queries),
                self.codes,
                self._size_tensor,
                tf.constant(k),
                tf.constant(chunks),
            )
            distances = layout.as_array(distances)
            return in_order(distances, layout.as_array(indices) + self.start, k)
        else:
            distances = kernels.distances(
                tf.constant(queries), self.codes, self._size_tensor
            )
            bounds = layout.as_array(
                kernels.kth_smallest(
                    distances, tf.constant(k), tf.constant(kernels.bits)
                )
            )
            distances, indices = _nearest_of_rows(layout.as_array(distances), bounds, k)
            return distances, indices.astype(np.int32) + np.int32(self.start)
        distances, indices = (np.stack(parts) for parts in zip(*rows, strict=True))
        return distances, indices.astype(np.int32) + np.int32(self.start)

    def _nearest_by_chunks(
        self, query: npt.NDArray[np.uint8], minima: npt.NDArray[Any], k: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
        """The k nearest codes of one query, searched in the k nearest chunks only."""
        _, chunks = _nearest_within(minima, _bound_of_kth(minima, k), k)
        chunks.sort()
        codes = layout.as_array(self.codes)[chunks]  # (k, width, LANES)
        differ = np.bitwise_count(codes ^ query[:, None])
        distances = differ.sum(axis=1, dtype=minima.dtype).ravel()  # (k * LANES,)
        indices = (chunks[:, None] * layout.LANES + np.arange(layout.LANES)).ravel()
        not_padding = indices < self.size
        distances, indices = distances[not_padding], indices[not_padding]
        distances, order = _nearest_within(distances, _bound_of_kth(distances, k), k)
        return distances, indices[order]


def in_order(
    distances: npt.NDArray[Any], indices: npt.NDArray[Any], k: int | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Sort each row by distance, stably, and take the first k.

    Args:
        distances: array ``(q, m)``, or ``(m,)`` for a single row.
        indices: array of the same shape; ties stay in the order given.
        k: int or None; how many to take. None is all.

    Returns:
        ``(distances, indices)``: arrays ``(q, min(k, m))``, or ``(min(k, m),)``.

    Example:
        >>> in_order(np.array([[2, 1, 1]]), np.array([[5, 6, 7]]), k=2)
        (array([[1, 1]]), array([[6, 7]]))
    """
    order = np.argsort(distances, axis=-1, kind="stable")[..., :k]
    return (
        np.take_along_axis(distances, order, axis=-1),
        np.take_along_axis(indices, order, axis=-1),
    )


def merged(
    parts: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], k: int | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The nearest codes of a database of those of its parts.

    Args:
        parts: pairs ``(distances, indices)``, as of `in_order`, at least one; parts are
            in order of index, and so are ties.
        k: int or None; how many to take of each row. None is all.

    Returns:
        ``(distances, indices)``: arrays, as of `in_order`.

    Example:
        >>> first, second = ([2], [0]), ([1, 2], [1, 2])
        >>> merged([first, second])
        (array([1, 2, 2]), array([1, 0, 2]))
    """
    distances, indices = (
        np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)
    )
    return in_order(distances, indices, k)


def _distances_by_words(
    words: npt.NDArray[np.uint64], query: npt.NDArray[np.uint8], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Distances from one query, compared in words of 8 bytes by NumPy."""
    distances = np.zeros(words.shape[1], dtype)
    for codes, word in zip(words, as_words(query[None]), strict=True):
        distances += np.bitwise_count(codes ^ word)
    return distances


def _bound_of_kth(distances: npt.NDArray[Any], k: int) -> np.integer[Any]:
    """An upper bound of the k-th smallest distance, close to it."""
    # The k-th smallest of a sample is such a bound and takes less time.
    sample = distances[::8] if 8 * k <= len(distances) else distances
    return np.partition(sample, k - 1)[k - 1]


def _nearest_within(
    distances: npt.NDArray[Any], bound: np.integer[Any], k: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """The k smallest distances and their positions ``(k,)``, in order of (distance,
    position). At least k distances are at most `bound`."""
    positions = np.flatnonzero(distances <= bound)
    candidates = distances[positions]
    order = np.argsort(candidates, kind="stable")[:k]
    return candidates[order], positions[order]


def _nearest_of_rows(
    distances: npt.NDArray[Any], bounds: npt.NDArray[np.int32], k: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """`_nearest_within` of each row, for less calls of NumPy: arrays ``(q, k)``."""
    q, n = distances.shape
    within = distances <= bounds.astype(distances.dtype)[:, None]
    flat = np.flatnonzero(within)
    candidates, row = distances.ravel()[flat], flat // n
    # Sorted by row, then distance. NumPy sorts 16 bits by radix.
    dtype = np.uint16 if distances.dtype == np.uint8 and q <= 256 else np.int64
    bits = 8 * distances.itemsize
    key = (row.astype(dtype) << bits) | candidates
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(row, np.arange(q))  # rows come in order
    taken = order[starts[:, None] + np.arange(k)]
    return candidates[taken], flat[taken] - n * np.arange(q)[:, None]
