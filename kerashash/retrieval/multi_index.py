"""Multi-index hashing: exact search that looks at a small part of the codes.

A code is cut into m substrings. For each of them, a table lists the codes by the value
of that substring. If two codes differ in at most D bits, then for all radii with

    sum over j of (r_j + 1) > D,

they differ in at most r_j bits of at least one substring j: otherwise they would differ
in at least r_j + 1 bits of each. So a search looks up, in each table, the values near
that of the query, and knows all codes up to distance sum_j (r_j + 1) - 1.

Reference:
    M. Norouzi, A. Punjani and D. J. Fleet, Fast Exact Search in Hamming Space with
    Multi-Index Hashing, TPAMI 2014, sections 3 and 4. Their radii are equal, or differ
    by 1. Here the next radius is that of the table with the least work, which the
    pigeonhole principle allows (J. Qin et al., GPH, ICDE 2018, section 3).
"""

import functools
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from kerashash.codes import as_words
from kerashash.retrieval.distinct import ranges, split_keys

# Lengths of substrings, about log2(n), at which a value has few codes. A table has an
# entry for each value, so that it grows beyond a processor's cache with longer ones.
_MIN_LENGTH, _MAX_LENGTH = 8, 22
# The work of a value that is looked up, and of a near code that is put in its place, in
# codes that are compared.
_LOOKUP = _NEAR = 8


class MultiIndex:
    """Tables of the substrings of hash codes.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``; the codes, at least one. They need
            not be distinct.
        bits: int; the code length.

    Attributes:
        bits: int; the code length.
        size: int; the number of codes.
        tables: list of `Table`; one for each substring, of about log2(n) bits each.

    Example:
        >>> codes = np.array([[7], [8], [15]], np.uint8)
        >>> MultiIndex(codes, bits=8).top_k(codes[0], k=2)
        (array([0, 1], dtype=int32), array([0, 2], dtype=int32))
    """

    def __init__(self, packed: npt.NDArray[np.uint8], bits: int) -> None:
        self.bits, self.size = bits, len(packed)
        words = as_words(packed)
        # Each table keeps codes of one word, in its order: those that are compared with
        # a query are then read from few places.
        self._words = words if len(words) > 1 else words[:, :0]
        length = max(_MIN_LENGTH, math.log2(self.size))
        count = max(1, round(bits / length), -(-bits // _MAX_LENGTH))
        edges = [bits * j // count for j in range(count + 1)]
        self.tables = [
            Table(packed, start, stop, words[0] if len(words) == 1 else None)
            for start, stop in itertools.pairwise(edges)
        ]

    def top_k(
        self, query: npt.NDArray[np.uint8], k: int, most_work: float = math.inf
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None:
        """The k nearest codes of one query.

        Args:
            query: uint8 array ``(ceil(bits / 8),)``; a packed code.
            k: int; from 1 to the number of codes.
            most_work: float; how many codes to compare at most.

        Returns:
            ``(distances, indices)``: int32 arrays ``(k,)``, in order of (distance,
            index); or None if that takes more work.

        Example:
            >>> codes = np.array([[7], [8], [15]], np.uint8)
            >>> MultiIndex(codes, bits=8).top_k(codes[2], k=1)
            (array([0], dtype=int32), array([2], dtype=int32))
        """
        return self._search(query, k, self.bits, most_work)

    def within(
        self, query: npt.NDArray[np.uint8], radius: int, most_work: float = math.inf
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None:
        """All codes within a radius of one query.

        Args:
            query: uint8 array ``(ceil(bits / 8),)``; a packed code.
            radius: int; from 0 to `bits`.
            most_work: float; how many codes to compare at most.

        Returns:
            ``(distances, indices)``: int32 arrays in order of (distance, index); or
            None if that takes more work.

        Example:
            >>> codes = np.array([[7], [8], [15]], np.uint8)
            >>> MultiIndex(codes, bits=8).within(codes[1], radius=3)
            (array([0, 3], dtype=int32), array([1, 2], dtype=int32))
        """
        return self._search(query, self.size, radius, most_work)

    def _search(
        self, query: npt.NDArray[np.uint8], k: int, radius: int, most_work: float
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None:
        """The k nearest of the codes within a radius."""
        query_words = as_words(query[None])
        lookups = [Lookup(table, query) for table in self.tables]
        # The near codes so far, as keys that sort by (distance, index).
        found = [np.zeros(0, np.int64)]
        complete = -1  # all codes up to this distance have been found
        while complete < radius:
            lookup = min(lookups, key=lambda lookup: lookup.next_work)
            most_work -= lookup.next_work
            if most_work < 0:
                return None
            positions = lookup.next_positions(most_work)
            if positions is None:
                return None
            complete += 1
            most_work -= len(positions)
            distances = self._distances(lookup.table, positions, query_words)
            near = np.flatnonzero(distances <= radius)
            if len(near) > 4 * k:
                # No code is twice in a table: the k-th distance here is a bound.
                counts = np.bincount(distances[near])
                radius = int(np.searchsorted(np.cumsum(counts), k))
                near = near[distances[near] <= radius]
            keys = distances[near].astype(np.int64) << 32
            keys |= lookup.table.indices[positions[near]]
            most_work -= _NEAR * len(near)
            found.append(keys)
            if sum(map(len, found)) >= k:
                found = [_nearest(found, k)]
                if len(found[0]) == k:
                    radius = min(radius, int(found[0][-1] >> 32))
        return split_keys(_nearest(found, k))

    def _distances(
        self,
        table: "Table",
        positions: npt.NDArray[np.int64],
        query_words: npt.NDArray[np.uint64],
    ) -> npt.NDArray[Any]:
        """Distances of codes at positions of a table: uint8 or uint16."""
        if table.words is not None:
            return np.bitwise_count(table.words[positions] ^ query_words[0])
        indices = table.indices[positions]
        distances = np.zeros(len(indices), np.uint16)
        for codes, word in zip(self._words, query_words, strict=True):
            distances += np.bitwise_count(codes[indices] ^ word)
        return distances


def _nearest(keys: list[npt.NDArray[np.int64]], k: int) -> npt.NDArray[np.int64]:
    """The first k of the different ones among keys, in order."""
    merged = np.concatenate(keys)
    merged.sort()
    first = np.ones(len(merged), bool)
    np.not_equal(merged[1:], merged[:-1], out=first[1:])
    return merged[first][:k]


class Table:
    """The codes by the value of one substring.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``; the codes.
        start: int; the first bit of the substring.
        stop: int; the bit after its last.
        words: uint64 array ``(n,)`` or None; codes to keep in the order of the table.

    Attributes:
        start, stop: int; the bits of the substring.
        starts: int array ``(2 ** (stop - start) + 1,)``; where the codes of each value
            start.
        indices: int32 array ``(n,)``; the codes in order of (value, index).
        words: uint64 array ``(n,)`` or None; the same codes.

    Example:
        >>> table = Table(np.array([[1], [0], [1]], np.uint8), 4, 8)
        >>> table.indices, table.starts[:3]
        (array([1, 0, 2], dtype=int32), array([0, 1, 3], dtype=int32))
    """

    def __init__(
        self,
        packed: npt.NDArray[np.uint8],
        start: int,
        stop: int,
        words: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        self.start, self.stop = start, stop
        n = len(packed)
        # A matrix with an entry in the column of each row's value, stored by rows. By
        # columns, it is the table: SciPy counts and sorts in compiled code.
        data = np.zeros(n, np.uint8) if words is None else words
        by_row = scipy.sparse.csr_array(
            (data, self.values(packed), np.arange(n + 1, dtype=np.int32)),
            shape=(n, 1 << (stop - start)),
        )
        table = by_row.tocsc()
        self.starts, self.indices = table.indptr, table.indices
        self.words = None if words is None else table.data

    def values(self, packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """The values of the substring in packed codes.

        Args:
            packed: uint8 array ``(n, ceil(bits / 8))``; the codes.

        Returns:
            int32 array ``(n,)``.

        Example:
            >>> codes = np.array([[1], [16]], np.uint8)
            >>> Table(codes, 0, 4).values(codes)
            array([0, 1], dtype=int32)
        """
        # The substring lies in at most four bytes.
        first, last = self.start // 8, (self.stop - 1) // 8
        values = packed[:, first].astype(np.uint32)
        for byte in range(first + 1, last + 1):
            values <<= 8
            values |= packed[:, byte]
        values >>= np.uint32(8 * (last + 1) - self.stop)
        values &= np.uint32((1 << (self.stop - self.start)) - 1)
        return values.view(np.int32)

    def value(self, code: npt.NDArray[np.uint8]) -> int:
        """The value of the substring in one code, in less time than `values`.

        Args:
            code: uint8 array ``(ceil(bits / 8),)``; a packed code.

        Returns:
            int.

        Example:
            >>> Table(np.array([[1], [16]], np.uint8), 0, 4).value(np.uint8([16]))
            1
        """
        end = (self.stop - 1) // 8 + 1
        value = int.from_bytes(code[self.start // 8 : end].tobytes(), "big")
        return value >> 8 * end - self.stop & (1 << self.stop - self.start) - 1


class Lookup:
    """The search of a table around one query, one radius after the other.

    Args:
        table: `Table`.
        query: uint8 array ``(ceil(bits / 8),)``; a packed code.

    Attributes:
        table: `Table`.
        next_work: float; the work that the next radius takes, estimated.
    """

    def __init__(self, table: Table, query: npt.NDArray[np.uint8]) -> None:
        self.table = table
        self._value = table.value(query)
        self._masks, self._ends = masks(table.stop - table.start)
        self._radius = -1
        self.next_work = float(_LOOKUP)

    def next_positions(self, most_work: float) -> npt.NDArray[np.int64] | None:
        """Positions in the table of the codes whose substring is one bit farther."""
        start = self._ends[self._radius + 1]
        stop = self._ends[self._radius + 2]
        self._radius += 1
        values = self._masks[start:stop] ^ self._value
        starts = self.table.starts[values]
        counts = self.table.starts[values + 1] - starts
        positions = int(counts.sum())
        if positions > most_work:
            return None
        if self._radius + 2 < len(self._ends):
            more = self._ends[self._radius + 2] - stop
            self.next_work = more * (_LOOKUP + (positions + 1) / (stop - start))
        else:
            self.next_work = math.inf
        return ranges(starts, counts)


@functools.lru_cache(maxsize=8)
def masks(length: int) -> tuple[npt.NDArray[np.int32], list[int]]:
    """All values of a substring, in order of the number of their ones.

    Args:
        length: int; bits of the substring.

    Returns:
        ``(values, ends)``: an int32 array ``(2 ** length,)``, and where the values with
        r ones start, for r from 0 to length + 1.

    Example:
        >>> masks(2)
        (array([0, 1, 2, 3], dtype=int32), [0, 1, 3, 4])
    """
    values = np.arange(1 << length, dtype=np.int32)
    values = values[np.argsort(np.bitwise_count(values), kind="stable")]
    counts = [math.comb(length, ones) for ones in range(length + 1)]
    return values, [sum(counts[:r]) for r in range(length + 2)]
