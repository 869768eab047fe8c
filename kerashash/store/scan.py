"""Exact search of packed codes where they are, by NumPy.

`kerashash.HammingRanker` compares many queries at a time in less time, but it needs
TensorFlow, which takes 0.9 GB, and a copy of the codes. A scan reads them in a mapped
file, a piece at a time.
"""

import concurrent.futures
import os

import numpy as np
import numpy.typing as npt

from kerashash.codes import as_words, check_packed

# Codes that are compared at a time: their words and distances stay in a processor's
# cache for all queries.
_CODES = 1 << 16
# Codes that are worth a thread.
_CODES_PER_THREAD = 1 << 18

_Keys = npt.NDArray[np.int64]


class Scan:
    """A database of packed codes that is not copied.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``; at least one code, such as those of
            a mapped file.
        bits: int; the code length, at most 65,535.

    Raises:
        TypeError, ValueError: if they are no such codes.

    Example:
        >>> codes = np.array([[7], [8], [15]], np.uint8)
        >>> Scan(codes, bits=8).top_k(codes[:1], k=2)
        (array([[0, 1]], dtype=int32), array([[0, 2]], dtype=int32))
    """

    def __init__(self, packed: npt.NDArray[np.uint8], bits: int) -> None:
        self._packed, self._bits = check_packed(packed, bits), bits

    def __len__(self) -> int:
        return len(self._packed)

    def top_k(
        self, queries: npt.NDArray[np.uint8], k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The k nearest codes of each query, as `kerashash.HammingRanker.top_k`.

        Args:
            queries: uint8 array ``(q, ceil(bits / 8))``; packed codes.
            k: int; from 1 to n.

        Returns:
            ``(distances, indices)``: int32 arrays ``(q, k)``, in order of (distance,
            index).

        Example:
            >>> codes = np.array([[7], [8], [15]], np.uint8)
            >>> Scan(codes, bits=8).top_k(codes[1:2], k=1)
            (array([[0]], dtype=int32), array([[1]], dtype=int32))
        """
        keys = np.array(self._nearest(queries, k, self._bits), np.int64)
        return _split(keys.reshape(len(queries), k))

    def within(
        self, queries: npt.NDArray[np.uint8], radius: int
    ) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
        """All codes within a radius of each query, as `kerashash.HammingRanker.within`.

        Args:
            queries: uint8 array ``(q, ceil(bits / 8))``; packed codes.
            radius: int; from 0 to `bits`.

        Returns:
            ``(distances, indices)``: two lists of q int32 arrays, each in order of
            (distance, index).

        Example:
            >>> codes = np.array([[7], [8], [15]], np.uint8)
            >>> Scan(codes, bits=8).within(codes[1:2], radius=3)
            ([array([0, 3], dtype=int32)], [array([1, 2], dtype=int32)])
        """
        found = [_split(keys) for keys in self._nearest(queries, len(self), radius)]
        return [distances for distances, _ in found], [indices for _, indices in found]

    def _nearest(
        self, queries: npt.NDArray[np.uint8], k: int, radius: int
    ) -> list[_Keys]:
        """Of each query, the k nearest of the codes within a radius: keys ``distance <<
        32 | index``, in order."""
        threads = min(os.cpu_count() or 1, 1 + len(self) // _CODES_PER_THREAD)
        edges = [len(self) * i // threads for i in range(threads + 1)]
        words = as_words(queries)
        if threads == 1:
            parts = [self._nearest_of_part(words, 0, len(self), k, radius)]
        else:
            with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                parts = [
                    *pool.map(
                        lambda start, stop: self._nearest_of_part(
                            words, start, stop, k, radius
                        ),
                        edges[:-1],
                        edges[1:],
                    )
                ]
        return [_first([*keys], k) for keys in zip(*parts, strict=True)]

    def _nearest_of_part(
        self, words: npt.NDArray[np.uint64], start: int, stop: int, k: int, radius: int
    ) -> list[_Keys]:
        """`_nearest` among codes from `start` to `stop`, of queries ``(words, q)``."""
        found: list[list[_Keys]] = [[] for _ in range(words.shape[1])]
        # A code counts if it is nearer than this: later ones than the k-th are not.
        bounds = [radius + 1] * len(found)
        for first in range(start, stop, _CODES):
            codes = as_words(self._packed[first : min(first + _CODES, stop)])
            for query, keys in enumerate(found):
                distances = _distances(codes, words[:, query])
                near = np.flatnonzero(distances < bounds[query])
                if not len(near):
                    continue
                if len(near) > 2 * k:
                    # The k-th distance of these codes is a bound of all codes'.
                    counts = np.cumsum(np.bincount(distances[near]))
                    bound = int(np.searchsorted(counts, k))
                    near = near[distances[near] <= bound]
                keys.append(distances[near].astype(np.int64) << 32 | near + first)
                if sum(map(len, keys)) >= 2 * k:
                    keys[:] = [_first(keys, k)]
                    bounds[query] = int(keys[0][-1] >> 32)
        return [_first(keys, k) for keys in found]


def _distances(
    codes: npt.NDArray[np.uint64], query: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Distances of codes ``(words, n)`` from a query ``(words,)``."""
    distances: npt.NDArray[np.uint8] = np.bitwise_count(codes[0] ^ query[0])
    if len(codes) == 1:
        return distances
    total = distances.astype(np.uint16)
    for word, value in zip(codes[1:], query[1:], strict=True):
        total += np.bitwise_count(word ^ value)
    return total


def _first(keys: list[_Keys], k: int) -> _Keys:
    """The first k of keys, in order."""
    joined = np.concatenate([np.zeros(0, np.int64), *keys])
    joined.sort()
    return joined[:k]


def _split(keys: _Keys) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The distances and indices of keys."""
    return (keys >> 32).astype(np.int32), keys.astype(np.int32)
