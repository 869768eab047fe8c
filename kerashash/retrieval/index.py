"""The choice between a scan of all codes, of the distinct ones, and tables of them.

All give equal results; `HammingRanker` asks an `Index` for what is likely the fastest.
"""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash.retrieval.blocks import Block
from kerashash.retrieval.distinct import DistinctCodes, rows_per_code
from kerashash.retrieval.multi_index import MultiIndex
from kerashash.retrieval.program import AcceleratorBlock

#: The choices of `HammingRanker(index=)`.
MODES = ("auto", "scan", "multi")

# The constants are from benchmarks/index.py. Work is counted in codes that a search by
# tables compares, about 4 ns each.

# A scan of so many codes takes as long as the choice of something else, and as putting
# the rows in the place of distinct codes.
_FEW_CODES = 1 << 17
# A scan takes up to so many queries one at a time; one of more costs it a small part.
_FEW_QUERIES = 4
_ONE_OF_MANY = 0.05
# "auto" builds after scans for so many queries; building takes as long as hundreds.
_QUERIES_BEFORE = 32
# The mean number of rows with the code of a row from which codes are deduplicated.
_COLLAPSED = 2.0
# The work that a search by tables may do for each word of 8 bytes that a scan would
# compare: half of what would be equal, as what is done before it gives up is lost.
_WORK_PER_WORD = 0.15
# The work of a search by tables besides.
_WORK_OF_TABLES = 60_000
# Tables of longer codes would take more memory than they save time.
_MOST_BITS = 256
# A scan finds larger parts of a database faster than they are put together by rows: as
# the k nearest, and as the rows within a radius.
_MOST_NEAREST, _MOST_WITHIN = 1 / 16, 1 / 4
# After so many searches that gave up, one in so many tries the tables again.
_FAILURES, _RETRY = 3, 16
# Queries that are searched before others, so that memory stays bounded.
_QUERIES_AT_A_TIME = 256

_MANY = "a scan, as many queries together take less time"

_AnyBlock = Block | AcceleratorBlock
_Found = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]
_Scan = Callable[[Sequence[_AnyBlock], npt.NDArray[np.uint8], int], Any]


@dataclasses.dataclass(frozen=True)
class _Built:
    """What has been built so far; replaced as a whole, as threads share it.

    Attributes:
        blocks: list of `Block` or `AcceleratorBlock`; what a scan searches.
        size: int; the number of their codes.
        deduplicated: bool; whether it has been seen if codes collapse.
        distinct: `DistinctCodes` or None; those in `blocks`, None if all rows are.
        tables: `MultiIndex` or None; of the codes in `blocks`.
    """

    blocks: Sequence[_AnyBlock]
    size: int
    deduplicated: bool = False
    distinct: DistinctCodes | None = None
    tables: MultiIndex | None = None


class Index:
    """A database, and how its nearest codes are found.

    Nothing is built before a search that it could serve. Threads may share an index:
    while one builds, the others scan.

    Args:
        blocks: list of `Block` or `AcceleratorBlock`; the database, which does not
            change. On accelerators, it is scanned.
        bits: int; the code length.
        mode: str; one of `MODES`, see `HammingRanker`.
        split: function; from packed codes to a list of blocks.

    Attributes:
        blocks: list of `Block` or `AcceleratorBlock`; the database.
        size: int; the number of its codes.
        mode: str; one of `MODES`.

    Example:
        >>> blocks = [Block(np.array([[7], [8]], np.uint8), start=0)]
        >>> Index(blocks, 8, "auto", split=lambda packed: blocks)
        scan of all codes, as there are less than 131,072
    """

    def __init__(
        self,
        blocks: list[_AnyBlock],
        bits: int,
        mode: str,
        split: Callable[[npt.NDArray[np.uint8]], list[_AnyBlock]],
    ) -> None:
        self.blocks, self.mode = blocks, mode
        self._bits, self._split = bits, split
        self.size = sum(block.size for block in blocks)
        self._on_accelerator = any(isinstance(b, AcceleratorBlock) for b in blocks)
        self._nothing = self._built = _Built(blocks, self.size)
        self._building = threading.Lock()
        self._short_of_memory = False
        # Queries before something is built, and those so far: all, and those that
        # tables could serve. They are counted in scans for one of few queries.
        self._patience = _QUERIES_BEFORE if mode == "auto" else 0
        self._queries = self._queries_for_tables = 0.0
        # By kind of search, how many have given up since one that did not.
        self._failures: dict[tuple[str, int, bool], int] = {}
        self._last = ""  # what served the last search

    def top_k(self, queries: npt.NDArray[np.uint8], k: int, scan: _Scan) -> _Found:
        """The k nearest codes of each query.

        Args:
            queries: uint8 array ``(q, ceil(bits / 8))``; packed codes.
            k: int; from 1 to the database size.
            scan: function of blocks, queries and k; the same search without an index.

        Returns:
            ``(distances, indices)``: int32 arrays ``(q, k)``, in order of (distance,
            index).
        """
        built = self._prepared("top_k", len(queries), k)
        if built.distinct is None and built.tables is None:
            return scan(self.blocks, queries, k)
        if (
            built.distinct is None
            and self._most_work(built, "top_k", len(queries)) <= 0
        ):
            self._last = _MANY
            return scan(self.blocks, queries, k)
        distances = np.empty((len(queries), k), np.int32)
        indices = np.empty_like(distances)
        most = min(k, built.size)
        for start in range(0, len(queries), _QUERIES_AT_A_TIME):
            rows = slice(start, start + _QUERIES_AT_A_TIME)
            found = self._searched(built, queries[rows], "top_k", most, scan)
            near, codes = (np.stack(parts) for parts in zip(*found, strict=True))
            if built.distinct is not None:
                near, codes = built.distinct.nearest_rows(near, codes, k)
            distances[rows], indices[rows] = near, codes
        return distances, indices

    def within(
        self, queries: npt.NDArray[np.uint8], radius: int, scan: _Scan
    ) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
        """All codes within a radius of each query.

        Args:
            queries: uint8 array ``(q, ceil(bits / 8))``; packed codes.
            radius: int; from 0 to the code length.
            scan: function of blocks, queries and radius; the same search without an
                index.

        Returns:
            ``(distances, indices)``: two lists of q int32 arrays, each in order of
            (distance, index).
        """
        built = self._prepared("within", len(queries))
        if built.distinct is None and built.tables is None:
            return scan(self.blocks, queries, radius)
        found = self._searched(built, queries, "within", radius, scan)
        if built.distinct is not None:
            most = self.size * _MOST_WITHIN
            rows = [built.distinct.all_rows(*result, most) for result in found]
            if any(result is None for result in rows):
                self._last = "a scan of all codes, as many were within the radius"
            found = _completed(rows, queries, self.blocks, radius, scan)
        return [near for near, _ in found], [indices for _, indices in found]

    def __repr__(self) -> str:
        """How it is searched, and why not faster."""
        built = self._built
        text = "scan of all codes"
        if built.distinct is not None:
            text = f"scan of {built.size:,} distinct codes"
        if built.tables is not None:
            text = f"{len(built.tables.tables)} tables of substrings, or {text}"
        else:
            text = f"{text}, {self._why_no_tables()}"
        return f"{text}; in the last search, {self._last}" if self._last else text

    def _why_no_tables(self) -> str:
        built = self._built
        if self.mode == "scan":
            return "as asked"
        if self._on_accelerator:
            return "on an accelerator"
        if self.size < _FEW_CODES:
            return f"as there are less than {_FEW_CODES:,}"
        if self._short_of_memory:
            return "as memory was short"
        if self._bits > _MOST_BITS and built.deduplicated:
            return f"as tables of more than {_MOST_BITS} bits take much memory"
        if self._most_work(built, "top_k", 1) <= 0 and built.deduplicated:
            return "as tables would be slower"
        queries = self._queries_for_tables if built.deduplicated else self._queries
        return f"for {self._patience - queries:.0f} more queries"

    def _prepared(self, kind: str, count: int, k: int = 1) -> _Built:
        """What serves a search for so many queries, built now if it is worth it."""
        small = self.size < _FEW_CODES or not count
        if self.mode == "scan" or self._on_accelerator or small:
            return self._nothing
        if k > self.size * _MOST_NEAREST:
            self._last = "a scan of all codes, as k was large"
            return self._nothing
        self._queries += _scans(count)
        if self._most_work(self._built, kind, count) > 0:
            self._queries_for_tables += _scans(count)
        if self._is_worth_building() and self._building.acquire(blocking=False):
            try:
                self._build()
            except MemoryError:
                self._short_of_memory = True
            finally:
                self._building.release()
        return self._built

    def _is_worth_building(self) -> bool:
        """Whether to look for distinct codes, or to make tables."""
        built = self._built
        if self._short_of_memory:
            return False
        if not built.deduplicated:
            return self._queries > self._patience
        return (
            built.tables is None
            and self._bits <= _MOST_BITS
            and self._queries_for_tables > self._patience
            and self._most_work(built, "top_k", 1) > 0
        )

    def _build(self) -> None:
        """Build what is worth it; in one thread at a time."""
        if not self._is_worth_building():
            return  # another thread has built it
        packed = np.concatenate([block.packed() for block in self._built.blocks])
        if not self._built.deduplicated:
            built = dataclasses.replace(self._built, deduplicated=True)
            if rows_per_code(packed) >= _COLLAPSED:
                distinct = DistinctCodes.of(packed)
                if self.size - len(distinct) >= _FEW_CODES:
                    packed = distinct.packed
                    built = _Built(self._split(packed), len(packed), True, distinct)
            self._built = built
        if self._is_worth_building():
            tables = MultiIndex(packed, self._bits)
            self._built = dataclasses.replace(self._built, tables=tables)

    def _most_work(self, built: _Built, kind: str, count: int) -> float:
        """The work that tables may do for one of so many queries, instead of a scan."""
        work = built.size * -(-self._bits // 64) * _WORK_PER_WORD
        if kind == "top_k":  # `within` scans queries one after the other
            work *= _scans(count) / count
        return work - _WORK_OF_TABLES

    def _searched(
        self,
        built: _Built,
        queries: npt.NDArray[np.uint8],
        kind: str,
        limit: int,
        scan: _Scan,
    ) -> list[_Found]:
        """Search what has been built: the tables for the queries that they serve in
        less time, the blocks for the others.

        Args:
            built: `_Built`.
            queries: uint8 array ``(q, ceil(bits / 8))``; packed codes.
            kind: str; "top_k" or "within".
            limit: int; k or the radius.
            scan: function; as of the method `kind`.

        Returns:
            List of q ``(distances, indices)``.
        """
        found: list[_Found | None] = [None] * len(queries)
        most_work = self._most_work(built, kind, len(queries))
        self._last = ""
        if built.tables is not None and most_work > 0:
            search = built.tables.top_k if kind == "top_k" else built.tables.within
            # Searches like this one are likely to take as much work.
            alike = kind, limit.bit_length(), len(queries) <= _FEW_QUERIES
            together = kind == "top_k" and len(queries) > _FEW_QUERIES
            misses = 0
            for row, query in enumerate(queries):
                failures = self._failures.get(alike, 0)
                if failures < _FAILURES or failures % _RETRY == 0:
                    found[row] = search(query, limit, most_work)
                self._failures[alike] = failures + 1 if found[row] is None else 0
                misses += found[row] is None
                if together and misses > 1 + row // 8:
                    break  # a scan takes as long for some of many as for all of them
            scanned = sum(result is None for result in found)
            self._last = f"tables for all {len(found):,} queries"
            if scanned:
                self._last = (
                    f"a scan for {scanned:,} of {len(found):,} queries, to which too "
                    "many codes are near"
                )
        elif built.tables is not None:
            self._last = _MANY
        return _completed(found, queries, built.blocks, limit, scan)


def _scans(count: int) -> float:
    """How many scans for one query take the time of one for so many."""
    return count if count <= _FEW_QUERIES else count * _ONE_OF_MANY


def _completed(
    found: Sequence[_Found | None],
    queries: npt.NDArray[np.uint8],
    blocks: Sequence[_AnyBlock],
    limit: int,
    scan: _Scan,
) -> list[_Found]:
    """What has been found, and for the other queries what a scan finds."""
    rest = [row for row, result in enumerate(found) if result is None]
    if rest:
        scanned = iter(zip(*scan(blocks, queries[rest], limit), strict=True))
        found = [next(scanned) if result is None else result for result in found]
    return [result for result in found if result is not None]
