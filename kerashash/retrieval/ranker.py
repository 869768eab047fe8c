"""HammingRanker: exact nearest neighbours of hash codes."""

import concurrent.futures
import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from kerashash import codes as hash_codes
from kerashash.checks import check_integer
from kerashash.retrieval import kernels, layout, serving
from kerashash.retrieval.blocks import Block, in_order

if TYPE_CHECKING:
    import keras

# Format name in a saved file.
_FORMAT = "kerashash ranker 1"
# Most bytes that the codes or distances of a block of queries may take.
_BLOCK_BYTES = 1 << 24


class HammingRanker:
    """Ranks a database of hash codes by Hamming distance, exactly.

    The order is (distance, index): ties go to the lowest index in the database, on
    every device and for every block size.

    The database is stored in blocks, laid out for `kerashash.retrieval.kernels`. One
    block of queries is compared with one block of the database at a time, so that
    memory stays bounded. The shapes of blocks are rounded up, so that another number of
    queries, or a call of `add`, seldom requires a new compilation.

    Args:
        codes: uint8 array ``(n, ceil(bits / 8))`` of packed codes, or array ``(n,
            bits)`` over {-1, +1}; the database, at least one code.
        bits: int or None; the code length. None is allowed for unpacked codes.
        block_size: int; database codes per block.

    Attributes:
        bits: int; the code length.
        size: int; the number of codes in the database, also ``len(ranker)``.
        blocks: list of `kerashash.retrieval.blocks.Block`; the database.

    Raises:
        TypeError, ValueError: if the codes are wrong, do not match `bits`, or are none.

    Example:
        >>> database = np.array([[1, 1, 1], [1, -1, 1], [-1, -1, -1]])
        >>> ranker = HammingRanker(database)
        >>> distances, indices = ranker.top_k(np.array([[1, 1, -1]]), k=2)
        >>> distances, indices
        (array([[1, 2]], dtype=int32), array([[0, 1]], dtype=int32))
    """

    def __init__(
        self,
        codes: npt.ArrayLike,
        bits: int | None = None,
        block_size: int = 1 << 20,
    ) -> None:
        packed, self.bits = hash_codes.as_packed(codes, bits)
        if not len(packed):
            raise ValueError("`codes` must have at least one row. Received: 0 rows.")
        self._block_size = check_integer("block_size", block_size)
        self._kernels = kernels.kernels_for(self.bits)
        self.blocks = self._split(packed)

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    def __len__(self) -> int:
        return self.size

    def add(self, codes: npt.ArrayLike) -> None:
        """Append codes to the database.

        Each call lays the last block out again, so one call with many codes is cheaper
        than many calls.

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
        packed, _ = hash_codes.as_packed(codes, self.bits)
        if len(packed):
            *full_blocks, last = self.blocks
            packed = np.concatenate([last.packed(), packed])
            self.blocks = [*full_blocks, *self._split(packed, last.start)]

    def remove(self, indices: npt.ArrayLike) -> None:
        """Remove codes from the database; later codes move up, as in `np.delete`.

        Args:
            indices: integer array ``(m,)``; indices from 0 to the database size - 1.
                One that occurs twice is removed once.

        Raises:
            TypeError: if the indices are not integers of shape ``(m,)``.
            ValueError: if an index is out of range, or if no code would be left.

        Example:
            >>> ranker = HammingRanker([[1, 1], [1, -1]])
            >>> ranker.remove([0])
            >>> len(ranker)
            1
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise TypeError(
                "`indices` must be integers of shape (m,). Received shape: "
                f"{indices.shape}, dtype: {indices.dtype}."
            )
        wrong = indices[(indices < 0) | (indices >= self.size)]
        if wrong.size:
            raise ValueError(
                "`indices` must be from 0 to the database size - 1 = "
                f"{self.size - 1}. Received: {wrong[:5].tolist()}."
            )
        remains = np.ones(self.size, bool)
        remains[indices.astype(np.int64)] = False
        if not remains.any():
            raise ValueError("`indices` must leave at least one code. Received: all.")
        if remains.all():
            return
        # Blocks before the first removed code stay as they are.
        first_changed = int(np.argmin(remains)) // self._block_size
        unchanged, changed = self.blocks[:first_changed], self.blocks[first_changed:]
        start = changed[0].start
        packed = np.concatenate([block.packed() for block in changed])
        self.blocks = [*unchanged, *self._split(packed[remains[start:]], start)]

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
        packed = self._pack(queries)
        distances = np.empty((len(packed), self.size), np.int32)
        for rows, start, block_distances in self._distances_by_block(packed):
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
        k = self._check_k(k)
        packed = self._pack(queries)
        distances = np.empty((len(packed), k), np.int32)
        indices = np.empty((len(packed), k), np.int32)

        def rank(rows: slice, block_queries: npt.NDArray[np.uint8]) -> None:
            """Write the results of a block of queries; its last rows may be padding."""
            results = [
                block.nearest(self._kernels, block_queries, k) for block in self.blocks
            ]
            nearest, index = results[0]
            if len(results) > 1:
                nearest, index = (
                    np.concatenate(parts, axis=1)
                    for parts in zip(*results, strict=True)
                )
                nearest, index = in_order(nearest, index, k)
            count = len(packed[rows])
            distances[rows], indices[rows] = nearest[:count], index[:count]

        most_bytes = max(block.bytes_of_nearest(k) for block in self.blocks)
        query_blocks = [*layout.query_blocks(packed, _BLOCK_BYTES // most_bytes)]
        if len(query_blocks) == 1:
            rank(*query_blocks[0])
        else:
            # Two at a time: where one runs in a single thread, the other can use the
            # remaining cores.
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                [*pool.map(lambda arguments: rank(*arguments), query_blocks)]
        return distances, indices

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
        packed = self._pack(queries)
        empty = np.zeros(0, np.int32)
        results = [[(empty, empty)] for _ in packed]
        for rows, start, block_distances in self._distances_by_block(packed):
            for result, row in zip(results[rows], block_distances, strict=True):
                inside = np.flatnonzero(row <= radius).astype(np.int32)
                result.append((row[inside], inside + start))
        distances, indices = [], []
        for result in results:
            near, index = (np.concatenate(parts) for parts in zip(*result, strict=True))
            order = np.argsort(near, kind="stable")
            distances.append(near[order])
            indices.append(index[order])
        return distances, indices

    def save(self, path: os.PathLike[str] | str) -> None:
        """Write the database to a file, atomically.

        A failed call leaves no file, or the old one if there was one.

        Args:
            path: path-like; the file to write, in the format of `np.savez`.

        Example:
            >>> HammingRanker([[1, 1], [1, -1]]).save("codes.ranker")
        """
        path = os.path.abspath(path)
        packed = np.concatenate([block.packed() for block in self.blocks])
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
        try:
            with open(descriptor, "wb") as file:
                np.savez(file, format=_FORMAT, bits=self.bits, codes=packed)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            raise

    @classmethod
    def load(cls, path: os.PathLike[str] | str, block_size: int = 1 << 20) -> Self:
        """Read a database that `save` wrote. Nothing is unpickled.

        Args:
            path: path-like; the file to read.
            block_size: int; database codes per block.

        Returns:
            `HammingRanker`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if `save` did not write the file, or if it is damaged.

        Example:
            >>> HammingRanker([[1, 1], [1, -1]]).save("codes.ranker")
            >>> len(HammingRanker.load("codes.ranker"))
            2
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if file["format"] != _FORMAT:
                    raise ValueError(f"unknown format {file['format']}")
                packed, bits = file["codes"], int(file["bits"])
            hash_codes.check_packed(packed, bits)
        except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                "`path` must be a file written by `HammingRanker.save`. Received: "
                f"{os.fspath(path)!r}: {error}."
            ) from error
        return cls(packed, bits, block_size)

    def to_saved_model(
        self, model: "keras.Model", path: os.PathLike[str] | str, k: int
    ) -> None:
        """Write a SavedModel that maps inputs to their nearest codes.

        It needs TensorFlow only, not kerashash. ``tf.saved_model.load(path).search(x)``
        returns the ``(distances, indices)`` of ``top_k(model.encode(x), k)``, and the
        default signature returns them in a dict. `x` is float32, with pixels in
        [0, 255] as everywhere in the package.

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
        serving.save(model, self, path, self._check_k(k))

    def _check_k(self, k: int) -> int:
        k = check_integer("k", k)
        if k > self.size:
            raise ValueError(
                f"`k` must be at most the database size {self.size}. Received: k={k}."
            )
        return k

    def _pack(self, queries: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        return hash_codes.as_packed(queries, self.bits, "queries")[0]

    def _split(self, packed: npt.NDArray[np.uint8], start: int = 0) -> list[Block]:
        """Blocks of packed codes, of which the first has the index `start`."""
        size = self._block_size
        return [
            Block(packed[i : i + size], start + i) for i in range(0, len(packed), size)
        ]

    def _distances_by_block(
        self, packed: npt.NDArray[np.uint8]
    ) -> Iterator[tuple[slice, int, npt.NDArray[Any]]]:
        """Yield a slice of the queries, the index of a database block's first code, and
        the distances between these queries and the block."""
        most_bytes = max(block.bytes_of_distances for block in self.blocks)
        for rows, queries in layout.query_blocks(packed, _BLOCK_BYTES // most_bytes):
            count = len(packed[rows])  # without padding
            for block in self.blocks:
                distances = block.distances(self._kernels, queries)
                yield rows, block.start, distances[:count]
