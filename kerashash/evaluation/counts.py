"""How many items, and how many relevant items, lie at each distance from a query.

This takes NumPy and Pillow alone: whoever measures given codes need not wait for
TensorFlow, nor give it memory.
"""

import concurrent.futures
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from kerashash.codes import as_words
from kerashash.evaluation.relevance import Relevance

# Bytes of codes compared at a time, which stay in the processor's cache.
_BYTES = 1 << 19
# Of so many items or more, codes of so few bytes are compared byte by byte: words would
# be filled up with zeros.
_MANY, _FEW_BYTES = 1 << 15, 6


def histograms(
    query: npt.NDArray[np.uint8],
    database: npt.NDArray[np.uint8],
    bits: int,
    relevance: Relevance,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the items, and the relevant items, at each distance from each query.

    Args:
        query: packed codes, uint8 ``(q, ceil(bits / 8))``.
        database: packed codes, n rows.
        bits: int, the code length.
        relevance: `Relevance` of q queries and n items.

    Returns:
        ``(total, relevant)``, int64 arrays ``(q, bits + 1)``.

    Example:
        >>> codes = np.array([[0], [1], [255]], np.uint8)
        >>> relevance = Relevance([0], [0, 1, 0], num_queries=1, num_items=3)
        >>> total, relevant = histograms(codes[:1], codes, 8, relevance)
        >>> total.tolist(), relevant.tolist()
        ([[1, 1, 0, 0, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 0, 0, 0, 1]])
    """
    if "tensorflow" in sys.modules:
        from kerashash.retrieval import layout

        if layout.on_accelerator():
            from kerashash.evaluation import compiled_counts

            return compiled_counts.histograms(query, database, bits, relevance)
    # An item's key is its distance, and bits + 1 more if it is relevant.
    num_bins = 2 * (bits + 1)
    distances = Distances(query, database, bits, largest=num_bins - 1)
    counts = np.empty((len(query), num_bins), np.int64)

    def count(rows: npt.NDArray[np.intp]) -> None:
        marks = relevance.to(rows, distances.dtype.type(bits + 1))
        for row, keys, mark in zip(rows, distances.of(rows), marks, strict=True):
            keys += mark
            counts[row] = _bincount(keys, num_bins)

    in_threads(count, relevance.by_labels())
    relevant = counts[:, bits + 1 :]
    return counts[:, : bits + 1] + relevant, relevant


class Distances:
    """Hamming distances of all items of a database from one query at a time.

    Args:
        query: packed codes, uint8 ``(q, ceil(bits / 8))``.
        database: packed codes, n rows.
        bits: int, the code length.
        largest: int, what the distances' dtype must hold; `bits` by default.

    Attributes:
        dtype: `np.dtype`; of the distances.

    Example:
        >>> codes = np.array([[0], [1], [255]], np.uint8)
        >>> for distances in Distances(codes[:2], codes, bits=8).of(np.arange(2)):
        ...     print(distances)
        [0 1 8]
        [1 0 7]
    """

    def __init__(
        self,
        query: npt.NDArray[np.uint8],
        database: npt.NDArray[np.uint8],
        bits: int,
        largest: int | None = None,
    ) -> None:
        by_byte = len(database) >= _MANY and database.shape[1] <= _FEW_BYTES
        self._query, self._database = (
            np.ascontiguousarray(rows.T) if by_byte else as_words(rows)
            for rows in (query, database)
        )
        self.dtype = np.min_scalar_type(largest or bits)

    def of(
        self, rows: npt.NDArray[np.intp]
    ) -> Iterator[npt.NDArray[np.unsignedinteger]]:
        """Yield the distances from the query of each row, unsigned integers ``(n,)``:
        an array that the next row overwrites."""
        n, items = self._database.shape[1], _BYTES // self._database.itemsize
        distances = np.empty(n, self.dtype)
        # Fresh memory for each row would cost more than its distances do.
        differences = np.empty(min(n, items), self._database.dtype)
        ones = np.empty(len(differences), np.uint8)
        for row in rows:
            for start in range(0, n, items):
                part = distances[start : start + items]
                differ, more = differences[: len(part)], ones[: len(part)]
                for number, codes in enumerate(self._database):
                    word = self._query[number, row]
                    np.bitwise_xor(codes[start : start + items], word, out=differ)
                    if number == 0:
                        np.bitwise_count(differ, out=part)
                    else:
                        part += np.bitwise_count(differ, out=more)
            yield distances


def in_threads(
    work: Callable[[npt.NDArray[np.intp]], None], rows: npt.NDArray[np.intp]
) -> None:
    """Share rows among all processors: most of NumPy runs in parallel.

    Args:
        work: function of some of the rows.
        rows: int array; all rows.
    """
    threads = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, np.array_split(rows, threads)))


def _bincount(
    keys: npt.NDArray[np.unsignedinteger], num_bins: int
) -> npt.NDArray[np.int64]:
    """`np.bincount`; of one-byte keys by Pillow, which need not make them int64, and
    takes a third of the time."""
    if keys.dtype != np.uint8:
        return np.bincount(keys, minlength=num_bins)
    image = Image.frombuffer("L", (len(keys), 1), keys, "raw", "L", 0, 1)
    return np.array(image.histogram()[:num_bins], np.int64)
