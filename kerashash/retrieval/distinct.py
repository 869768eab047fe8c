"""The distinct codes of a database, and the rows that have each of them.

Trained codes collapse: many images get the same code. A search then compares a query
with the distinct codes only, and puts their rows in the place of each.
"""

import concurrent.futures
import dataclasses
import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from kerashash.codes import as_words

# Rows that are drawn to tell whether codes collapse.
_SAMPLE = 1 << 16
# Rows that are sorted at a time, and in how many threads.
_ROWS_AT_A_TIME, _THREADS = 1 << 15, 2
# 2^64 divided by the golden ratio: the high bits of a product with this odd number
# depend on all bits of the other factor.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class DistinctCodes:
    """Distinct codes in the order of their first rows.

    In this order, the k nearest rows have codes that are among the k nearest distinct
    codes, both in order of (distance, index): what comes before the code of a row has a
    first row that comes before that row.

    Attributes:
        packed: uint8 array ``(d, ceil(bits / 8))``; the codes.
        starts: int64 array ``(d + 1,)``; where the rows of each code start.
        rows: int32 array ``(n,)``; the rows of each code, ascending.

    Example:
        >>> codes = DistinctCodes.of(np.array([[7], [8], [7]], np.uint8))
        >>> codes.packed.ravel(), codes.rows
        (array([7, 8], dtype=uint8), array([0, 2, 1], dtype=int32))
    """

    packed: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]

    @classmethod
    def of(cls, packed: npt.NDArray[np.uint8]) -> Self:
        """The distinct codes among packed ones.

        Args:
            packed: uint8 array ``(n, ceil(bits / 8))``; the codes.

        Returns:
            `DistinctCodes`.

        Example:
            >>> len(DistinctCodes.of(np.zeros((5, 1), np.uint8)))
            1
        """
        n, words = len(packed), as_words(packed)
        # One sort by (hash, row): the hash takes the bits that the row leaves.
        row_mask = np.uint64((1 << (n - 1).bit_length()) - 1)
        keys = hashes(words)
        keys &= ~row_mask
        keys |= np.arange(n, dtype=np.uint64)
        keys.sort()
        order = (keys & row_mask).astype(np.int32)
        keys &= ~row_mask
        same_hash = keys[1:] == keys[:-1]
        del keys
        differs = _changes(words, order) | ~same_hash
        # Different codes of one hash may alternate, which is seldom.
        collisions = np.flatnonzero(differs & same_hash)
        if collisions.size:
            firsts = np.concatenate([[0], np.flatnonzero(~same_hash) + 1, [n]])
            which = np.unique(np.searchsorted(firsts, collisions, side="right") - 1)
            counts = firsts[which + 1] - firsts[which]
            places = ranges(firsts[which], counts)
            rows = order[places]
            of_hash = np.repeat(which, counts)
            order[places] = rows[np.lexsort((rows, *words[:, rows], of_hash))]
            differs = _changes(words, order) | ~same_hash
        starts = np.concatenate([[0], np.flatnonzero(differs) + 1, [n]])  # (d + 1,)
        by_first_row = np.argsort(order[starts[:-1]])
        counts = np.diff(starts)[by_first_row]
        rows = order[ranges(starts[:-1][by_first_row], counts)]
        starts = np.concatenate([[0], np.cumsum(counts)])
        return cls(packed[rows[starts[:-1]]], starts, rows)

    def __len__(self) -> int:
        return len(self.packed)

    def nearest_rows(
        self, distances: npt.NDArray[np.int32], codes: npt.NDArray[np.int32], k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The k nearest rows of each query, of its nearest codes.

        Args:
            distances: int32 array ``(q, min(k, d))``; distances of the nearest codes.
            codes: int32 array of the same shape; the codes, in order of (distance,
                index).
            k: int; number of rows, from 1 to n.

        Returns:
            ``(distances, rows)``: int32 arrays ``(q, k)``, in order of (distance,
            index).

        Example:
            >>> codes = DistinctCodes.of(np.array([[7], [8], [7]], np.uint8))
            >>> codes.nearest_rows(np.array([[1, 1]]), np.array([[0, 1]]), k=2)
            (array([[1, 1]], dtype=int32), array([[0, 1]], dtype=int32))
        """
        # Few queries at a time: what is sorted then stays in a processor's cache.
        size = max(1, _ROWS_AT_A_TIME // k)
        pieces = [slice(i, i + size) for i in range(0, len(codes), size)]
        if len(pieces) <= 1:
            return self._nearest_rows(distances, codes, k)
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            found = [
                *pool.map(
                    lambda piece: self._nearest_rows(distances[piece], codes[piece], k),
                    pieces,
                )
            ]
        nearest, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return nearest, rows

    def _nearest_rows(
        self, distances: npt.NDArray[np.int32], codes: npt.NDArray[np.int32], k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """`nearest_rows` of all queries at a time."""
        # No more than k rows of a code: the others would come after them.
        counts = np.minimum(self.starts[codes + 1] - self.starts[codes], k)  # (q, m)
        last = (np.cumsum(counts, axis=1) < k).sum(axis=1, keepdims=True)
        query, place = np.nonzero(distances <= np.take_along_axis(distances, last, 1))
        counts = counts[query, place]
        keys = (query << 16 | distances[query, place]) << 32
        keys = np.repeat(keys, counts)
        keys |= self.rows[ranges(self.starts[codes[query, place]], counts)]
        keys.sort()
        firsts = np.searchsorted(keys, np.arange(len(codes)) << 48)
        keys = keys[firsts[:, None] + np.arange(k)] & (1 << 48) - 1
        return split_keys(keys)

    def all_rows(
        self,
        distances: npt.NDArray[np.int32],
        codes: npt.NDArray[np.int32],
        most: float = math.inf,
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None:
        """All rows of codes.

        Args:
            distances: int32 array ``(m,)``; distances of the codes.
            codes: int32 array ``(m,)``.
            most: float; how many rows at most.

        Returns:
            ``(distances, rows)``: int32 arrays, in order of (distance, index); or None
            if they are more.

        Example:
            >>> codes = DistinctCodes.of(np.array([[7], [8], [7]], np.uint8))
            >>> codes.all_rows(np.array([4]), np.array([0]))
            (array([4, 4], dtype=int32), array([0, 2], dtype=int32))
        """
        counts = self.starts[codes + 1] - self.starts[codes]
        if counts.sum() > most:
            return None
        keys = np.repeat(distances.astype(np.int64) << 32, counts)
        keys |= self.rows[ranges(self.starts[codes], counts)]
        keys.sort()
        return split_keys(keys)


def _changes(
    words: npt.NDArray[np.uint64], order: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Whether the code of each row but the first, in an order, is another than that of
    the row before."""
    differs = np.zeros(len(order) - 1, bool)
    for word in words:
        ordered = word[order]
        differs |= ordered[1:] != ordered[:-1]
    return differs


def rows_per_code(packed: npt.NDArray[np.uint8]) -> float:
    """How many rows have the code of a row, on average over rows, itself included.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``; the codes. Of many, the number is
            estimated from a sample.

    Returns:
        float, at least 1.

    Example:
        >>> rows_per_code(np.array([[7], [8], [7], [7]], np.uint8))
        2.5
    """
    n = len(packed)
    if n > _SAMPLE:
        rows = np.random.default_rng(0).choice(n, _SAMPLE, replace=False, shuffle=False)
        packed = packed[rows]
    ordered = np.sort(hashes(as_words(packed)))
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    counts = np.diff(np.concatenate([[0], starts, [len(ordered)]]))
    pairs = float((counts * (counts - 1)).sum())
    others = pairs / len(ordered)  # other rows of the sample with the same code
    return 1.0 + others * (n - 1) / max(1, len(ordered) - 1)


def ranges(starts: npt.NDArray[Any], counts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Ranges of integers, one after the other.

    Args:
        starts: integer array ``(m,)``; the first integers.
        counts: integer array ``(m,)``; how many of each, 0 too.

    Returns:
        int64 array ``(sum(counts),)``.

    Example:
        >>> ranges(np.array([5, 9]), np.array([3, 1]))
        array([5, 6, 7, 9])
    """
    if len(starts) == 1:  # as of most lookups, in less time
        return np.arange(starts[0], starts[0] + counts[0], dtype=np.int64)
    ends = np.cumsum(counts)
    result = np.repeat(starts - (ends - counts), counts)
    result += np.arange(len(result))
    return result


def split_keys(
    keys: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The distances and indices of keys ``distance << 32 | index``.

    Args:
        keys: int64 array.

    Returns:
        ``(distances, indices)``: int32 arrays of the same shape.

    Example:
        >>> split_keys(np.array([3 << 32 | 8]))
        (array([3], dtype=int32), array([8], dtype=int32))
    """
    return (keys >> 32).astype(np.int32), keys.astype(np.int32)


def hashes(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Hashes of codes; different codes seldom share one.

    Args:
        words: uint64 array ``(words, n)``; the codes, as `as_words` gives them.

    Returns:
        uint64 array ``(n,)``; their high bits depend on all bits of the codes.

    Example:
        >>> len({*hashes(np.arange(4, dtype=np.uint64)[None]).tolist()})
        4
    """
    result = words[0] * _MULTIPLIER
    for word in words[1:]:
        result ^= result >> np.uint64(32)
        result ^= word
        result *= _MULTIPLIER
    return result
