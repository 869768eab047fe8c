"""A block of a database of hash codes, and the search for its nearest codes."""

import concurrent.futures
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.codes import as_words
from kerashash.forks import check_not_forked
from kerashash.retrieval import layout
from kerashash.retrieval.kernels import Kernels

# With at most this many queries, NumPy, one query at a time, is faster than the many
# small operations of the graph of `Kernels.top_k`.
_FEW_QUERIES = 4
# With at most this many codes as well, NumPy is faster than a call of any kernel. A
# call takes as long as NumPy takes to compare about so many words.
_SMALL_BLOCK = 1 << 17
_WORDS_PER_CALL = 1 << 16
_MOST_WITHOUT_CALL = 16
# With at most this many codes, distances to all take less time than the many small
# operations that select chunks.
_NO_SELECTION = 1 << 16
# About so many distances, sorted, tell which are among the nearest.
_SAMPLE = 512
# Of so many distances, the nearest to several queries are looked for together: more are
# not in the processor's cache by then.
_TOGETHER = 1 << 22
# A thread that selects the nearest of less takes more time to wake than it saves.
_DISTANCES_PER_THREAD = 1 << 18
# Distances of codes of so many bytes are at most 255.
_MOST_BYTES_OF_UINT8 = 31


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
        few: int; up to so many queries are searched one by one, without a kernel, so
            that they need not be padded.
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
        self.few, self._words = 0, []  # a list, which is read faster than an array
        if self.size <= _SMALL_BLOCK:
            self._words = [*as_words(packed)]
            few = _WORDS_PER_CALL // (self.size * len(self._words))
            self.few = max(_FEW_QUERIES, min(few, _MOST_WITHOUT_CALL))

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
        chunks = self._chunks_to_search(k)
        return chunks * self.width * layout.LANES or self.bytes_of_distances

    def _chunks_to_search(self, k: int) -> int:
        """How many chunks to search for the k nearest codes, or 0 for all."""
        if self.size <= _NO_SELECTION:
            return 0
        return layout.chunks_to_search(k, self.chunks)

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
        if len(queries) <= self.few:
            return np.stack([*self._distances_by_words(queries)])
        return self._distances_and_padding(kernels, queries)[:, : self.size]

    def _distances_and_padding(
        self, kernels: Kernels, queries: npt.NDArray[np.uint8]
    ) -> npt.NDArray[Any]:
        """Distances ``(q, chunks * LANES)`` by a kernel, of which `size` are of codes
        and others more than those."""
        check_not_forked()
        return _by_query(
            kernels.distances_by_group(
                tf.constant(queries), self.codes, self._size_tensor
            )
        )

    def nearest(
        self, kernels: Kernels, queries: npt.NDArray[np.uint8], k: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """The k nearest codes, or all if the block has fewer.

        Args:
            kernels: `Kernels` for the code length.
            queries: uint8 array ``(q, width)``; packed codes.
            k: int; number of codes, at least 1.

        Returns:
            ``(distances, indices)``: integer and int32 arrays ``(q, min(k, size))``, in
            order of (distance, index); indices are those in the database.
        """
        k = min(k, self.size)
        if len(queries) <= self.few:
            return self._in_database(
                [_nearest_of_row(row, k) for row in self._distances_by_words(queries)]
            )
        # Of a large part of a database, some may be far.
        if kernels.near is not None and 4 * k <= self.size:
            found = self._nearest_by_kernels(kernels.near, queries, k)
            if found[0].max() < tf.uint8.max:
                return found
        return self._nearest_by_kernels(kernels, queries, k)

    def _nearest_by_kernels(
        self, kernels: Kernels, queries: npt.NDArray[np.uint8], k: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """`nearest`, in order of the distances that kernels give."""
        check_not_forked()
        if not self._chunks_to_search(k):
            distances = self._distances_and_padding(kernels, queries)
            distances, positions = _nearest_in_threads(distances, self.size, k)
            return distances, positions.astype(np.int32) + np.int32(self.start)
        if len(queries) <= _FEW_QUERIES:
            minima = kernels.minima(
                tf.constant(queries), self.codes, self._size_tensor
            )  # (groups, q, CHUNKS_PER_GROUP)
            return self._in_database(
                [
                    self._nearest_by_chunks(query, row, k)
                    for query, row in zip(queries, _by_query(minima), strict=True)
                ]
            )
        near, index = kernels.top_k(
            tf.constant(queries),
            self.codes,
            self._size_tensor,
            tf.constant(k),
            tf.constant(self._chunks_to_search(k)),
        )
        return in_order(layout.as_array(near), layout.as_array(index) + self.start, k)

    def _in_database(
        self, rows: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Distances and positions in the block of each query, as `nearest`."""
        distances = np.empty((len(rows), len(rows[0][0])), np.int32)
        indices = np.empty_like(distances)
        for i, (near, position) in enumerate(rows):
            distances[i], indices[i] = near, position
        if self.start:
            indices += np.int32(self.start)
        return distances, indices

    def _distances_by_words(
        self, queries: npt.NDArray[np.uint8]
    ) -> Iterator[npt.NDArray[Any]]:
        """Yield the distances ``(size,)`` from each query, without a kernel."""
        first, *others = self._words
        # As Python's numbers: single ones of NumPy take longer.
        for word, *rest in as_words(queries).T.tolist():
            distances = np.bitwise_count(first ^ word)
            if self.width > _MOST_BYTES_OF_UINT8:
                distances = distances.astype(np.uint16)
            for codes, word in zip(others, rest, strict=True):
                distances += np.bitwise_count(codes ^ word)
            yield distances

    def _nearest_by_chunks(
        self, query: npt.NDArray[np.uint8], minima: npt.NDArray[Any], k: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
        """The k nearest codes of one query, searched in the k nearest chunks only."""
        _, chunks = _nearest_of_row(minima, k)
        chunks.sort()
        codes = layout.as_array(self.codes)[chunks]  # (k, width, LANES)
        differ = np.bitwise_count(codes ^ query[:, None])
        dtype = np.uint16 if self.width > _MOST_BYTES_OF_UINT8 else np.uint8
        distances = differ.sum(axis=1, dtype=dtype).ravel()  # (k * LANES,)
        indices = (chunks[:, None] * layout.LANES + np.arange(layout.LANES)).ravel()
        not_padding = indices < self.size
        distances, indices = distances[not_padding], indices[not_padding]
        distances, order = _nearest_of_row(distances, k)
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


def _by_query(values: tf.Tensor) -> npt.NDArray[Any]:
    """What a kernel returns for each group, ``(groups, q, ...)``, as ``(q, m)``."""
    rows = np.moveaxis(layout.as_array(values), 1, 0)
    return rows.reshape(len(rows), -1)


def _nearest_of_row(
    distances: npt.NDArray[Any], k: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """The k smallest distances and their positions ``(k,)``, in order of (distance,
    position)."""
    stride = len(distances) // _SAMPLE
    if stride < 2 or 2 * k > len(distances):
        order = distances.argsort(kind="stable")[:k]
        return distances[order], order
    # A sample bounds the k-th smallest distance: likely, and surely.
    sample = distances[::stride].copy()
    sample.sort(kind="stable")  # by radix, as distances have 8 or 16 bits
    for rank in (_likely_rank(k, stride), k - 1):
        bound = sample[rank] if rank < len(sample) else distances.max()
        positions = (distances <= bound).nonzero()[0]
        if len(positions) >= k:
            break
    candidates = distances[positions]
    order = candidates.argsort(kind="stable")[:k]
    return candidates[order], positions[order]


def _likely_rank(k: int, stride: int) -> int:
    """The place, in a sorted sample of each stride-th distance, of one that is likely
    no less than the k-th smallest: that of the mean and four standard deviations."""
    share = k / stride
    return int(share + 4 * share**0.5) + 1


def _nearest_in_threads(
    distances: npt.NDArray[Any], size: int, k: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """`_nearest_of_rows` with the rows shared among threads, if they are many."""
    least = _DISTANCES_PER_THREAD
    parts = min(os.cpu_count() or 1, distances.size // least, len(distances))
    if parts < 2:
        return _nearest_of_rows(distances, size, k)
    own, *others = np.array_split(distances, parts)
    waiting = [_threads().submit(_nearest_of_rows, rows, size, k) for rows in others]
    found = [_nearest_of_rows(own, size, k), *(part.result() for part in waiting)]
    near, positions = (np.concatenate(part) for part in zip(*found, strict=True))
    return near, positions


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    """Kept: to start a thread takes as long as a tenth of a search, or more."""
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count())


def _nearest_of_rows(
    distances: npt.NDArray[Any], size: int, k: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """`_nearest_of_row` for rows together, which takes less calls of NumPy.

    Args:
        distances: uint8 or uint16 array ``(q, n)``, contiguous; from `size` on, more
            than every distance.
        size: int.
        k: int.

    Returns:
        Distances and positions ``(q, k)``.
    """
    q, n = distances.shape
    stride = size // _SAMPLE
    rank = _likely_rank(k, max(1, stride))
    if stride > 1 and rank * stride < size and distances.size <= _TOGETHER:
        sample = distances[:, :size:stride].copy()
        sample.sort(axis=1, kind="stable")
        bounds = sample[:, rank]
        flat = (distances <= bounds[:, None]).ravel().nonzero()[0]
        starts = flat.searchsorted(n * np.arange(q + 1))
        counts = np.diff(starts)
        if counts.min() >= k:
            candidates = distances.ravel()[flat]
            # Sorted by row, then distance; by radix, if both fit in 16 bits.
            bits = int(bounds.max()).bit_length()
            dtype = np.uint16 if q << bits <= 1 << 16 else np.int64
            rows = np.repeat((np.arange(q) << bits).astype(dtype), counts)
            order = (rows | candidates).argsort(kind="stable")
            taken = order[starts[:-1, None] + np.arange(k)]
            return candidates[taken], flat[taken] - n * np.arange(q)[:, None]
    found = [_nearest_of_row(row[:size], k) for row in distances]
    near, positions = (np.stack(parts) for parts in zip(*found, strict=True))
    return near, positions
