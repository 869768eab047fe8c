"""HammingRanker: exact nearest neighbours of hash codes."""

import concurrent.futures
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from kerashash import archives, files
from kerashash import codes as hash_codes
from kerashash.checks import as_array, check_choices, check_integer, said
from kerashash.forks import check_not_forked
from kerashash.retrieval import kernels, layout, serving
from kerashash.retrieval.blocks import Block, merged
from kerashash.retrieval.index import MODES, Index
from kerashash.retrieval.program import AcceleratorBlock

if TYPE_CHECKING:
    import keras

# Format name in a saved file.
_FORMAT = "kerashash ranker 1"
# Indices are int32.
_MAX_CODES = 2**31 - 1
# A block's chunks are rounded up, and its codes are still counted in int32.
_MAX_BLOCK_SIZE = 1 << 30
# Codes per block by default: on a processor, few enough to move when codes are added;
# on an accelerator, many, as each block costs it a search.
_BLOCK_SIZE = 1 << 20
_ACCELERATOR_BLOCK_SIZE = 1 << 27

_AnyBlock = Block | AcceleratorBlock
_Result = TypeVar("_Result")


class HammingRanker:
    """Ranks a database of hash codes by Hamming distance, exactly.

    The order is (distance, index): ties go to the lowest index in the database, on
    every device and for every block size.

    The database is stored in blocks, laid out for `kerashash.retrieval.kernels`. One
    block of queries is compared with one block of the database at a time, so that
    memory stays bounded. The shapes of blocks are rounded up, so that another number of
    queries, or a call of `add`, seldom requires a new compilation.

    Threads may share a ranker. `add` and `remove` take turns, and a search that has
    begun sees the database as it was then: blocks are replaced, never changed. In a
    process that was forked after TensorFlow has run, searches that need TensorFlow are
    a RuntimeError: those of large databases, and of many queries.

    Where TensorFlow has a GPU, the database is in its memory and one compiled program
    does the whole search; within ``tf.device("CPU")``, a ranker is made for the
    processor.

    Large databases are searched by an index where that is faster, with the same
    results: where codes collapse, a scan of the distinct codes; where near codes are
    few, tables of substrings (multi-index hashing), which take about 36 bytes for a
    code of 64 bits. Building takes as long as a few hundred searches of one query; with
    "auto", it waits for 32 of them. `repr` says what is used, and why nothing else.

    With `devices`, blocks are laid on several devices in turn, and searches run on all
    of them at the same time.

    A ranker can be pickled and copied. Where a process lacks one of its devices, a
    warning says so, and the database is laid where TensorFlow chooses. `save` and
    `load` are for files of others, as nothing is unpickled there.

    Args:
        codes: uint8 array ``(n, ceil(bits / 8))`` of packed codes, or array ``(n,
            bits)`` over {-1, +1}; the database, at least one code and at most
            2,147,483,647.
        bits: int or None; the code length, at most 65,534. None is allowed for unpacked
            codes.
        block_size: int or None; database codes per block. None is 2^20, or 2^27 on a
            GPU.
        index: str; "auto" builds an index once there have been enough queries, "multi"
            in the first search that it could serve, "scan" never. All go back to the
            scan where an index would be slower.
        devices: list of str or None; names of devices of TensorFlow that share the
            database, such as ``["GPU:0", "GPU:1"]``. None is the one that TensorFlow
            chooses.

    Attributes:
        bits: int; the code length.
        devices: list of str or None; as given.
        index: str; as given.
        size: int; the number of codes in the database, also ``len(ranker)``.
        blocks: list of `kerashash.retrieval.blocks.Block`, or of
            `kerashash.retrieval.program.AcceleratorBlock`; the database.

    Raises:
        TypeError, ValueError: if the codes are wrong, do not match `bits`, or are none,
            or if `index` or a device is not one of its choices.

    Example:
        >>> database = np.array([[1, 1, 1], [1, -1, 1], [-1, -1, -1]])
        >>> ranker = HammingRanker(database)
        >>> distances, indices = ranker.top_k(np.array([[1, 1, -1]]), k=2)
        >>> distances, indices
        (array([[1, 2]], dtype=int32), array([[0, 1]], dtype=int32))

    Reference:
        M. Norouzi, A. Punjani and D. J. Fleet, Fast Exact Search in Hamming Space with
        Multi-Index Hashing, TPAMI 2014, for the tables.
    """

    def __init__(
        self,
        codes: npt.ArrayLike,
        bits: int | None = None,
        block_size: int | None = None,
        index: str = "auto",
        devices: Iterable[str] | None = None,
    ) -> None:
        check_choices({"index": MODES}, index=index)
        self.devices = layout.check_devices(devices)
        self._block_size = _check_block_size(block_size)
        codes = as_array(codes, "codes")
        _check_count(codes)
        if bits is not None:
            kernels.check_bits(bits)
        self._mode = index
        packed, self.bits = hash_codes.as_packed(codes, bits)
        kernels.check_bits(self.bits)
        if not len(packed):
            raise ValueError("`codes` must have at least one row. Received: 0 rows.")
        self._set_up(packed)

    def _set_up(self, packed: npt.NDArray[np.uint8]) -> None:
        """Make what is not saved: the blocks, the kernels and the lock of writers."""
        self._kernels = kernels.kernels_for(self.bits)
        self._writing = threading.Lock()
        self._places: list[tuple[str | None, type[_AnyBlock]]] = []
        names: Sequence[str | None] = self.devices or [None]
        for device in names:
            with layout.on_device(device):
                on_accelerator = layout.on_accelerator()
            self._places.append((device, AcceleratorBlock if on_accelerator else Block))
        kinds = [kind for _, kind in self._places]
        self._most_per_block = (
            _BLOCK_SIZE if Block in kinds else _ACCELERATOR_BLOCK_SIZE
        )
        if len(self._places) > 1:
            # Two threads for each, as for one: see `_scan_top_k`.
            self._pool = concurrent.futures.ThreadPoolExecutor(2 * len(self._places))
        self._codes_per_block = self._block_size_for(len(packed))
        self.blocks = self._split(packed)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "block_size": self._block_size,
            "index": self._mode,
            "devices": self.devices,
            "codes": _packed(self.blocks),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.bits, self._block_size = state["bits"], state["block_size"]
        self._mode = state.get("index", "auto")  # older versions had none
        try:
            self.devices = layout.check_devices(state.get("devices"))
        except ValueError as error:  # another process may not have them
            warnings.warn(
                "The database is laid where TensorFlow chooses, as this process lacks "
                f"devices on which it was: {error}",
                stacklevel=2,
            )
            self.devices = None
        self._set_up(state["codes"])

    def __repr__(self) -> str:
        devices = f"devices={self.devices}, " if self.devices else ""
        return (
            f"{type(self).__name__}(size={self.size}, bits={self.bits}, {devices}"
            f"index={self.index!r}: {self._index})"
        )

    @property
    def index(self) -> str:
        return self._mode

    @property
    def blocks(self) -> list[_AnyBlock]:
        return self._index.blocks

    @blocks.setter
    def blocks(self, blocks: list[_AnyBlock]) -> None:
        # An index is of one database: a changed one gets its own.
        self._index = Index(blocks, self.bits, self._mode, self._split)

    @property
    def size(self) -> int:
        return self._index.size

    def __len__(self) -> int:
        return self.size

    def add(self, codes: npt.ArrayLike) -> None:
        """Append codes to the database.

        Each call lays the last block out again, and all of them while there are
        `devices` and less codes than a full block for each; so one call with many codes
        is cheaper than many calls. An index is built anew, by a later search.

        Args:
            codes: array; codes of the same length as the database's, packed or
                unpacked.

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`.

        Example:
            >>> ranker = HammingRanker([[1, 1]])
            >>> ranker.add([[1, -1], [-1, -1]])
            >>> len(ranker)
            3
        """
        codes = as_array(codes, "codes")
        _check_count(codes)
        packed, _ = hash_codes.as_packed(codes, self.bits)
        with self._writing:
            if len(packed):
                _check_count(packed, present=self.size)
                self._change(
                    self.size + len(packed),
                    len(self.blocks) - 1,
                    lambda old, start: np.concatenate([old, packed]),
                )

    def remove(self, indices: npt.ArrayLike) -> None:
        """Remove codes from the database; later codes move up, as in `np.delete`.

        An index is built anew, by a later search.

        Args:
            indices: integer array ``(m,)``; indices from 0 to the database size - 1.
                One that occurs twice is removed once.

        Raises:
            TypeError: if the indices are not integers of shape ``(m,)``.
            ValueError: if they are no array, if one is out of range, or if no code
                would be left.

        Example:
            >>> ranker = HammingRanker([[1, 1], [1, -1]])
            >>> ranker.remove([0])
            >>> len(ranker)
            1
        """
        indices = as_array(indices, "indices")
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise TypeError(
                "`indices` must be integers of shape (m,). Received shape: "
                f"{indices.shape}, dtype: {indices.dtype}."
            )
        with self._writing:
            self._remove(indices)

    def _remove(self, indices: npt.NDArray[Any]) -> None:
        size = self.size
        wrong = indices[(indices < 0) | (indices >= size)]
        if wrong.size:
            raise ValueError(
                "`indices` must be from 0 to the database size - 1 = "
                f"{size - 1}. Received: {wrong[:5].tolist()}."
            )
        remains = np.ones(size, bool)
        remains[indices.astype(np.int64)] = False
        if not remains.any():
            raise ValueError("`indices` must leave at least one code. Received: all.")
        if remains.all():
            return
        self._change(
            int(np.count_nonzero(remains)),
            # Blocks before the first removed code stay as they are.
            int(np.argmin(remains)) // self._codes_per_block,
            lambda old, start: old[remains[start:]],
        )

    def _change(
        self,
        count: int,
        first: int,
        change: Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]],
    ) -> None:
        """Lay the database out anew from the block `first` on; it gets `count` codes.

        `change` maps the codes from there on, and the index of the first, to new codes.
        """
        size = self._block_size_for(count)
        if size != self._codes_per_block:
            first = 0
        unchanged, changed = self.blocks[:first], self.blocks[first:]
        start = changed[0].start
        self._codes_per_block = size
        self.blocks = [*unchanged, *self._split(change(_packed(changed), start), start)]

    def _block_size_for(self, count: int) -> int:
        """Codes per block of a database of so many."""
        if self._block_size:
            return self._block_size
        if not self.devices:
            return self._most_per_block
        # Each device gets its part of a database that has less than a block for each.
        return min(self._most_per_block, -(-count // len(self.devices)))

    def distances(self, queries: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Hamming distances to all codes of the database.

        Args:
            queries: array of q rows; codes of the same length as the database's, packed
                or unpacked.

        Returns:
            int32 array ``(q, n)``.

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`.

        Example:
            >>> HammingRanker([[1, 1], [1, -1]]).distances([[-1, -1]])
            array([[2, 1]], dtype=int32)
        """
        packed, blocks = self._pack(queries), self.blocks
        distances = np.empty((len(packed), _size(blocks)), np.int32)
        for rows, start, block_distances in self._distances_by_block(packed, blocks):
            stop = start + block_distances.shape[1]
            distances[rows, start:stop] = block_distances
        return distances

    def top_k(
        self, queries: npt.ArrayLike, k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The k nearest codes of each query.

        Args:
            queries: array of q rows; codes of the same length as the database's, packed
                or unpacked.
            k: int; from 1 to the database size.

        Returns:
            ``(distances, indices)``: int32 arrays ``(q, k)``, in order of (distance,
            index).

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`, or
                `k` is out of range.

        Example:
            >>> HammingRanker([[1, 1], [1, -1]]).top_k([[-1, -1]], k=1)
            (array([[1]], dtype=int32), array([[1]], dtype=int32))
        """
        index = self._index
        k = _check_k(k, index.size)
        return index.top_k(self._pack(queries), k, self._scan_top_k)

    def _scan_top_k(
        self, blocks: Sequence[_AnyBlock], packed: npt.NDArray[np.uint8], k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """`top_k` by a scan of blocks."""
        if len(blocks) == 1 and 0 < len(packed) <= blocks[0].few:
            nearest, index = blocks[0].nearest(self._kernels, packed, k)
            return nearest.astype(np.int32, copy=False), index
        distances = np.empty((len(packed), k), np.int32)
        indices = np.empty((len(packed), k), np.int32)

        def rank(rows: slice, block_queries: npt.NDArray[np.uint8]) -> None:
            """Write the results of a block of queries; its last rows may be padding."""

            def search(block: _AnyBlock) -> tuple[Any, Any]:
                with layout.on_device(block.device):
                    return block.nearest(self._kernels, block_queries, k)

            results: list[tuple[npt.NDArray[Any], npt.NDArray[np.int32]]] = []
            for found in self._on_devices(search, blocks):
                results.append(found)
                # Not all at the end: for a large k, that would be a copy of the
                # distances to the whole database.
                if len(results) > 1 and sum(d.shape[1] for d, _ in results) >= 4 * k:
                    results = [merged(results, k)]
            nearest, index = results[0] if len(results) == 1 else merged(results, k)
            count = len(packed[rows])
            distances[rows], indices[rows] = nearest[:count], index[:count]

        most_rows = min(b.WORKSPACE // b.bytes_of_nearest(k) for b in blocks)
        query_blocks = [*layout.query_blocks(packed, most_rows)]
        if len(query_blocks) == 1:
            rank(*query_blocks[0])
        else:
            # Two at a time: where one runs in a single thread, the other can use the
            # remaining cores.
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                [*pool.map(lambda arguments: rank(*arguments), query_blocks)]
        return distances, indices

    def _on_devices(
        self, search: Callable[[_AnyBlock], _Result], blocks: Sequence[_AnyBlock]
    ) -> Iterator[_Result]:
        """Yield the results of blocks, in order; devices work at the same time."""
        width = len(self._places)
        if width == 1 or len(blocks) == 1:
            yield from map(search, blocks)
            return
        check_not_forked()  # nor are the threads of the pool there
        # Not all blocks at once: for a large k, their results take much memory.
        for start in range(0, len(blocks), width):
            yield from self._pool.map(search, blocks[start : start + width])

    def within(
        self, queries: npt.ArrayLike, radius: int
    ) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
        """All codes within a Hamming radius of each query.

        Args:
            queries: array of q rows; codes of the same length as the database's, packed
                or unpacked.
            radius: int; from 0 to `bits`.

        Returns:
            ``(distances, indices)``: two lists of q int32 arrays, each in order of
            (distance, index).

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`, or
                `radius` is out of range.

        Example:
            >>> HammingRanker([[1, 1], [1, -1]]).within([[-1, -1]], radius=1)
            ([array([1], dtype=int32)], [array([1], dtype=int32)])
        """
        radius = check_integer("radius", radius, least=0, most=self.bits)
        return self._index.within(self._pack(queries), radius, self._scan_within)

    def _scan_within(
        self, blocks: Sequence[_AnyBlock], packed: npt.NDArray[np.uint8], radius: int
    ) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
        """`within` by a scan of blocks."""
        empty = np.zeros(0, np.int32)
        results = [[(empty, empty)] for _ in packed]
        for rows, start, block_distances in self._distances_by_block(packed, blocks):
            for result, row in zip(results[rows], block_distances, strict=True):
                inside = np.flatnonzero(row <= radius).astype(np.int32)
                result.append((row[inside], inside + start))
        found = [merged(result) for result in results]
        return [near for near, _ in found], [index for _, index in found]

    def save(self, path: os.PathLike[str] | str) -> None:
        """Write the database to a file, atomically.

        A failed call leaves no file, or the old one if there was one, and so does a
        killed one: the next call removes what it has left, ``.NAME.kerashash-X.part``.
        A file that is replaced keeps its mode, and a symbolic link stays one.

        Args:
            path: path-like; the file to write, in the format of `np.savez`. ``~`` is
                the home folder.

        Raises:
            TypeError: if `path` is no path.
            ValueError: if `path` exists and is not a file.
            OSError: if the file cannot be written.

        Example:
            >>> HammingRanker([[1, 1], [1, -1]]).save("codes.ranker")
        """
        with files.replacing(files.as_path(path)) as file:
            np.savez(file, format=_FORMAT, bits=self.bits, codes=_packed(self.blocks))

    @classmethod
    def load(
        cls,
        path: os.PathLike[str] | str,
        block_size: int | None = None,
        index: str = "auto",
        devices: Iterable[str] | None = None,
    ) -> Self:
        """Read a database that `save` wrote. Nothing is unpickled.

        Args:
            path: path-like; the file to read.
            block_size: int or None; database codes per block, as in the constructor.
            index, devices: as in the constructor. They are not in the file.

        Returns:
            `HammingRanker`.

        Raises:
            OSError: if there is no such file, or it cannot be read.
            TypeError, ValueError: if `save` did not write the file, if it is damaged,
                or if `index` or a device is not one of its choices.

        Example:
            >>> HammingRanker([[1, 1], [1, -1]]).save("codes.ranker")
            >>> len(HammingRanker.load("codes.ranker"))
            2
        """
        block_size, path = _check_block_size(block_size), files.as_path(path)
        try:
            # `save` compresses nothing: a file is as large as its codes.
            arrays = archives.read_npz(path, compressed=False)
            if arrays["format"].shape or arrays["format"] != _FORMAT:
                raise ValueError(f"unknown format {str(arrays['format'])[:100]}")
            if arrays["bits"].shape or arrays["bits"].dtype.kind not in "iu":
                raise ValueError("`bits` is no integer")
            bits = int(arrays["bits"])
            kernels.check_bits(bits)
            packed = hash_codes.check_packed(arrays["codes"], bits)
            if not len(packed):
                raise ValueError("no codes")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                "`path` must be a file written by `HammingRanker.save`. Received: "
                f"{os.fspath(path)!r}: {said(error)}."
            ) from error
        return cls(packed, bits, block_size, index, devices)

    def to_saved_model(
        self, model: "keras.Model", path: os.PathLike[str] | str, k: int
    ) -> None:
        """Write a SavedModel that maps inputs to their nearest codes.

        It needs TensorFlow only, not kerashash. ``tf.saved_model.load(path).search(x)``
        returns the ``(distances, indices)`` of ``top_k(model.encode(x), k)``, and the
        default signature returns them in a dict. `x` is float32, with pixels in
        [0, 255] as everywhere in the package. Values that are not finite raise an
        InvalidArgumentError. A killed call leaves a hidden folder
        ``.NAME.kerashash-X``, which the next one removes.

        Args:
            model: `HashModel`; built, with the code length of the database.
            path: path-like; the folder to write, which must not exist.
            k: int; from 1 to the database size.

        Raises:
            TypeError: if `k` is not an integer.
            ValueError: if `model` or `k` does not match the database, or if `model` is
                not built.
            FileExistsError: if `path` exists.
        """
        blocks = self.blocks
        k = _check_k(k, _size(blocks))
        # The SavedModel searches on any device, and takes the processor's layout.
        chunked = [
            b
            if isinstance(b, Block) and b.device is None
            else Block(b.packed(), b.start)
            for b in blocks
        ]
        serving.save(model, self.bits, chunked, path, k)

    def _pack(self, queries: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        return hash_codes.as_packed(queries, self.bits, "queries")[0]

    def _split(self, packed: npt.NDArray[np.uint8], start: int = 0) -> list[_AnyBlock]:
        """Blocks of packed codes, of which the first has the index `start`."""
        size, blocks = self._codes_per_block, []
        for i in range(0, len(packed), size):
            device, kind = self._places[(start + i) // size % len(self._places)]
            blocks.append(kind(packed[i : i + size], start + i, device))
        return blocks

    def _distances_by_block(
        self, packed: npt.NDArray[np.uint8], blocks: Sequence[_AnyBlock]
    ) -> Iterator[tuple[slice, int, npt.NDArray[Any]]]:
        """Yield a slice of the queries, the index of a database block's first code, and
        the distances between these queries and the block."""
        most_rows = min(b.WORKSPACE // b.bytes_of_distances for b in blocks)
        for rows, queries in layout.query_blocks(packed, most_rows):
            count = len(packed[rows])  # without padding

            def search(
                block: _AnyBlock, queries: npt.NDArray[np.uint8] = queries
            ) -> tuple[int, npt.NDArray[Any]]:
                with layout.on_device(block.device):
                    return block.start, block.distances(self._kernels, queries)

            for start, distances in self._on_devices(search, blocks):
                yield rows, start, distances[:count]


def _size(blocks: Sequence[_AnyBlock]) -> int:
    """The number of codes in blocks."""
    return sum(block.size for block in blocks)


def _packed(blocks: Sequence[_AnyBlock]) -> npt.NDArray[np.uint8]:
    """The packed codes of blocks."""
    return np.concatenate([block.packed() for block in blocks])


def _check_block_size(block_size: int | None) -> int | None:
    if block_size is None:
        return None
    return check_integer("block_size", block_size, most=_MAX_BLOCK_SIZE)


def _check_count(codes: npt.NDArray[Any], present: int = 0) -> None:
    """Check that codes can be counted, before they are copied."""
    if codes.ndim and present + len(codes) > _MAX_CODES:
        raise ValueError(
            f"`codes` must be at most {_MAX_CODES:,}, as indices are int32. Received: "
            f"{len(codes):,}, with {present:,} in the database."
        )


def _check_k(k: int, size: int) -> int:
    k = check_integer("k", k)
    if k > size:
        raise ValueError(
            f"`k` must be at most the database size {size}. Received: k={k}."
        )
    return k
