"""HammingRanker: exact nearest neighbours of hash codes."""

import concurrent.futures
import contextlib
import os
import tempfile
import zipfile

import numpy as np

from kerashash import codes as hash_codes
from kerashash.checks import check_integer
from kerashash.retrieval import kernels, layout, serving
from kerashash.retrieval.blocks import Block, in_order

# What a saved file calls itself.
_FORMAT = "kerashash ranker 1"
# Bytes of codes or distances a block of queries may take.
_BLOCK = 1 << 24


class HammingRanker:
    """Ranks a database of hash codes by Hamming distance, exactly.

    The order is (distance, index): ties go to the lowest index in the database, on
    every device and for every block size.

    The database is kept in blocks, laid out for `kerashash.retrieval.kernels`. Work is
    done on a block of queries and one of the database at a time, so that memory stays
    bounded, and its shapes are rounded up, so that the number of queries and `add`
    seldom lead to another compilation.

    Args:
        codes: the database: packed uint8 ``(n, ceil(bits / 8))``, or ``(n, bits)``
            over {-1, +1}.
        bits: int, the code length; may be left out for unpacked codes.
        block_size: int, database codes kept and compared together.

    Attributes:
        bits: int, the code length.
        size: int, the number of codes in the database; also ``len(ranker)``.
        blocks: list of `kerashash.retrieval.blocks.Block`, the database.

    Raises:
        TypeError, ValueError: if the codes are wrong, are none, or do not match
            `bits`.

    Example:
        >>> database = np.array([[1, 1, 1], [1, -1, 1], [-1, -1, -1]])
        >>> ranker = HammingRanker(database)
        >>> distances, indices = ranker.top_k(np.array([[1, 1, -1]]), k=2)
        >>> distances, indices
        (array([[1, 2]], dtype=int32), array([[0, 1]], dtype=int32))
    """

    def __init__(self, codes, bits=None, block_size=1 << 20):
        packed, self.bits = hash_codes.as_packed(codes, bits)
        if not len(packed):
            raise ValueError("`codes` must have at least one row. Received: 0 rows.")
        self._block_size = check_integer("block_size", block_size)
        self._kernels = kernels.kernels_for(self.bits)
        self.blocks = self._cut(packed)

    @property
    def size(self):
        return sum(block.size for block in self.blocks)

    def __len__(self):
        return self.size

    def add(self, codes):
        """Put codes at the end of the database.

        Args:
            codes: codes like the database's. The last block is laid out again: many
                at once are cheaper than many calls.

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`.
        """
        packed, _ = hash_codes.as_packed(codes, self.bits)
        if len(packed):
            *whole, last = self.blocks
            packed = np.concatenate([last.packed(), packed])
            self.blocks = [*whole, *self._cut(packed, last.start)]

    def remove(self, indices):
        """Take codes out of the database; those behind them move up, as in
        `np.delete`.

        Args:
            indices: integers ``(m,)``, 0 to the database size - 1.

        Raises:
            TypeError, ValueError: if an index is none of the database's, or no code
                would be left.
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
                f"`indices` must lie in 0 to the database size - 1 = {self.size - 1}. "
                f"Received: {wrong[:5].tolist()}."
            )
        stays = np.ones(self.size, bool)
        stays[indices.astype(np.int64)] = False
        if not stays.any():
            raise ValueError("`indices` must leave at least one code. Received: all.")
        if stays.all():
            return
        first = int(np.argmin(stays)) // self._block_size
        whole, others = self.blocks[:first], self.blocks[first:]
        start = others[0].start
        left = np.concatenate([block.packed() for block in others])[stays[start:]]
        self.blocks = [*whole, *self._cut(left, start)]

    def distances(self, queries):
        """Hamming distances to the whole database.

        Args:
            queries: codes like the database's, q rows.

        Returns:
            int32 array ``(q, n)``.

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`.
        """
        queries = self._check(queries)
        distances = np.empty((len(queries), self.size), np.int32)
        for rows, start, found in self._compare(queries):
            distances[rows, start : start + found.shape[1]] = found
        return distances

    def top_k(self, queries, k):
        """The k nearest codes of each query.

        Args:
            queries: codes like the database's, q rows.
            k: int, 1 to the database size.

        Returns:
            ``(distances, indices)``: int32 arrays ``(q, k)``, in order of (distance,
            index).

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`, or
                `k` is out of range.
        """
        k = self._check_k(k)
        queries = self._check(queries)
        distances = np.empty((len(queries), k), np.int32)
        indices = np.empty((len(queries), k), np.int32)
        most = _BLOCK // max(block.cost_of_nearest(k) for block in self.blocks)

        def rank(rows, some):
            found = [block.nearest(self._kernels, some, k) for block in self.blocks]
            near, index = found[0]
            if len(found) > 1:
                parts = zip(*found, strict=True)
                near, index = in_order(*(np.concatenate(p, axis=1) for p in parts), k)
            count = len(queries[rows])
            distances[rows], indices[rows] = near[:count], index[:count]

        blocks = [*layout.query_blocks(queries, most)]
        if len(blocks) == 1:
            rank(*blocks[0])
        else:
            # Two at a time: what one does in a single thread leaves room for the other.
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                [*pool.map(lambda block: rank(*block), blocks)]
        return distances, indices

    def within(self, queries, radius):
        """All codes within a Hamming radius of each query.

        Args:
            queries: codes like the database's, q rows.
            radius: int, 0 to `bits`.

        Returns:
            ``(distances, indices)``: two lists of q int32 arrays, each in order of
            (distance, index).

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`, or
                `radius` is out of range.
        """
        radius = check_integer("radius", radius, least=0, most=self.bits)
        queries = self._check(queries)
        none = np.zeros(0, np.int32)
        parts = [[(none, none)] for _ in queries]
        for rows, start, found in self._compare(queries):
            for row, near in zip(parts[rows], found, strict=True):
                inside = np.flatnonzero(near <= radius).astype(np.int32)
                row.append((near[inside], inside + start))
        distances, indices = [], []
        for row in parts:
            near, index = (np.concatenate(part) for part in zip(*row, strict=True))
            order = np.argsort(near, kind="stable")
            distances.append(near[order])
            indices.append(index[order])
        return distances, indices

    def save(self, path):
        """Write the database to a file, which is there whole or not at all.

        Args:
            path: of the file, in the format of `np.savez`.
        """
        path = os.path.abspath(path)
        packed = np.concatenate([block.packed() for block in self.blocks])
        handle, part = tempfile.mkstemp(dir=os.path.dirname(path))
        try:
            with open(handle, "wb") as file:
                np.savez(file, format=_FORMAT, bits=self.bits, codes=packed)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(part)
            raise

    @classmethod
    def load(cls, path, block_size=1 << 20):
        """Read a database that `save` wrote; nothing is unpickled.

        Args:
            path: of the file.
            block_size: int, as of the class.

        Returns:
            `HammingRanker`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is none of `save`'s, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if file["format"] != _FORMAT:
                    raise ValueError(f"its format is {file['format']}")
                packed, bits = file["codes"], int(file["bits"])
            hash_codes.check_packed(packed, bits)
        except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                "`path` must be a file written by `HammingRanker.save`. Received: "
                f"{os.fspath(path)!r}: {error}."
            ) from error
        return cls(packed, bits, block_size)

    def to_saved_model(self, model, path, k):
        """Write a SavedModel from inputs to their nearest codes.

        It runs where there is TensorFlow, without kerashash:
        ``tf.saved_model.load(path).search(x)`` gives ``(distances, indices)`` as
        ``top_k(model.encode(x), k)`` does, and its default signature a dict of them.
        `x` is float32, pixels in [0, 255] as everywhere.

        Args:
            model: `HashModel` of as many bits, built.
            path: of a folder, which must not be there.
            k: int, 1 to the database size.

        Raises:
            TypeError, ValueError: if an argument is wrong.
            FileExistsError: if `path` is there.
        """
        serving.save(model, self, path, self._check_k(k))

    def _check_k(self, k):
        k = check_integer("k", k)
        if k > self.size:
            raise ValueError(
                f"`k` must be at most the database size {self.size}. Received: k={k}."
            )
        return k

    def _check(self, queries):
        return hash_codes.as_packed(queries, self.bits, "queries")[0]

    def _cut(self, packed, start=0):
        """Blocks of packed codes, the first of which has the index `start`."""
        size = self._block_size
        return [
            Block(packed[i : i + size], start + i) for i in range(0, len(packed), size)
        ]

    def _compare(self, queries):
        """Yield rows of queries, the start of a block, and the distances of these."""
        most = _BLOCK // max(block.cost for block in self.blocks)
        for rows, some in layout.query_blocks(queries, most):
            for block in self.blocks:
                found = block.distances(self._kernels, some)[: len(queries[rows])]
                yield rows, block.start, found
