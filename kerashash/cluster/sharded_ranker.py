"""ShardedRanker: exact nearest neighbours of hash codes on a cluster."""

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_choices, check_integer
from kerashash.cluster.session import actors_that_fit, import_ray, session, set_threads
from kerashash.codes import as_packed
from kerashash.retrieval import HammingRanker
from kerashash.retrieval.blocks import merged
from kerashash.retrieval.index import MODES


class ShardedRanker:
    """Ranks hash codes by Hamming distance on actors of Ray, exactly.

    Each actor has a `HammingRanker` of a share of the codes, in order of index. Results
    are merged in order of (distance, index), and are those of one ranker of all codes.

    An actor that dies is started again, and what it was asked is asked again. For that,
    its codes stay in Ray's memory on this machine, too.

    It is a context manager: at its end, the actors end.

    Args:
        codes: uint8 array ``(n, ceil(bits / 8))`` of packed codes, or array ``(n,
            bits)`` over {-1, +1}; at least one code.
        bits: int or None; the code length. None is allowed for unpacked codes.
        shards: int or None; the number of actors. None is as many as the cluster has
            room for at the moment.
        cpus: int; processor cores, and threads, of each.
        index: str; as for `HammingRanker`.
        address: str; the cluster, as for `encode_files`.

    Attributes:
        bits: int; the code length.
        size: int; the number of codes, also ``len(ranker)``.

    Raises:
        TypeError, ValueError: if an argument is wrong, or no machine has so many cores.
        ConnectionError: if there is no cluster at `address`.
        ImportError: if Ray is not installed.

    Example:
        >>> with ShardedRanker(store.codes(), store.bits) as ranker:  # doctest: +SKIP
        ...     distances, indices = ranker.top_k(queries, k=10)
    """

    def __init__(
        self,
        codes: npt.ArrayLike,
        bits: int | None = None,
        shards: int | None = None,
        cpus: int = 1,
        index: str = "auto",
        address: str = "auto",
    ) -> None:
        check_choices({"index": MODES}, index=index)
        packed, self.bits = as_packed(np.asarray(codes), bits)
        self.size = len(packed)
        if not self.size:
            raise ValueError("`codes` must have at least one row. Received: 0 rows.")
        ray = import_ray()
        with contextlib.ExitStack() as opened:
            opened.enter_context(session(address))
            shards = min(actors_that_fit(shards, cpus), self.size)
            ends = np.linspace(0, self.size, shards + 1).astype(np.int64)
            self._starts = ends[:-1]
            # Held here, for actors that are started again.
            self._codes = [
                ray.put(packed[start:stop]) for start, stop in itertools.pairwise(ends)
            ]
            shard = ray.remote(_Shard).options(
                num_cpus=cpus,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy="SPREAD",
            )
            self._shards = [
                shard.remote(part, self.bits, index, cpus) for part in self._codes
            ]
            ray.get([actor.size.remote() for actor in self._shards])  # or their errors
            self._opened = opened.pop_all()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(size={self.size}, bits={self.bits}, "
            f"shards={len(self._starts)})"
        )

    def __len__(self) -> int:
        return self.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def top_k(
        self, queries: npt.ArrayLike, k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.integer[Any]]]:
        """The k nearest codes of each query.

        Args:
            queries: array of q rows; codes of the same length, packed or unpacked.
            k: int; from 1 to the number of codes.

        Returns:
            ``(distances, indices)``: arrays ``(q, k)``, in order of (distance, index),
            as those of `HammingRanker.top_k`; indices are int64 where int32 is too
            small for their number.

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`, or `k`
                is out of range.
        """
        k = check_integer("k", k, most=self.size)
        return merged_top_k(self._ask("top_k", queries, k), self._starts, k)

    def within(
        self, queries: npt.ArrayLike, radius: int
    ) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.integer[Any]]]]:
        """All codes within a Hamming radius of each query.

        Args:
            queries: array of q rows; codes of the same length, packed or unpacked.
            radius: int; from 0 to `bits`.

        Returns:
            ``(distances, indices)``: two lists of q arrays, each in order of (distance,
            index), as those of `HammingRanker.within`.

        Raises:
            TypeError, ValueError: if the codes are wrong or do not match `bits`, or
                `radius` is out of range.
        """
        radius = check_integer("radius", radius, least=0, most=self.bits)
        return merged_within(self._ask("within", queries, radius), self._starts)

    def close(self) -> None:
        """End the actors, and Ray if it was started for them."""
        ray = import_ray()
        for shard in self._shards:
            ray.kill(shard)
        self._shards, self._codes = [], []
        self._opened.close()

    def _ask(self, method: str, queries: npt.ArrayLike, number: int) -> list[Any]:
        """What each shard answers."""
        if not self._shards:
            raise ValueError("The ranker has been closed.")
        ray = import_ray()
        packed = ray.put(as_packed(queries, self.bits, "queries")[0])
        return ray.get(
            [getattr(shard, method).remote(packed, number) for shard in self._shards]
        )


def merged_top_k(
    parts: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    starts: Sequence[int] | npt.NDArray[np.int64],
    k: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.integer[Any]]]:
    """Merge the nearest codes of shards.

    Args:
        parts: pairs ``(distances, indices)`` of each shard, as `HammingRanker.top_k`
            gives them, in order of the shards.
        starts: the number of codes before each shard.
        k: int; how many are wanted.

    Returns:
        ``(distances, indices)``: arrays ``(q, k)``.

    Example:
        >>> first = np.array([[0, 2]]), np.array([[1, 0]])
        >>> second = np.array([[0, 1]]), np.array([[0, 1]])
        >>> merged_top_k([first, second], starts=[0, 2], k=3)
        (array([[0, 0, 1]]), array([[1, 2, 3]], dtype=int32))
    """
    distances, indices = merged(_in_database(parts, starts), k)
    return distances, _as_indices(indices)


def merged_within(
    parts: Sequence[tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]],
    starts: Sequence[int] | npt.NDArray[np.int64],
) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.integer[Any]]]]:
    """Merge the codes of shards within a radius.

    Args:
        parts: pairs ``(distances, indices)`` of each shard, as `HammingRanker.within`
            gives them, in order of the shards.
        starts: the number of codes before each shard.

    Returns:
        ``(distances, indices)``: two lists of q arrays.

    Example:
        >>> first = [np.array([0, 2])], [np.array([1, 0])]
        >>> second = [np.array([1])], [np.array([0])]
        >>> merged_within([first, second], starts=[0, 2])
        ([array([0, 1, 2])], [array([1, 2, 0], dtype=int32)])
    """
    distances, indices = [], []
    for query in range(len(parts[0][0])):
        of_query = [(near[query], index[query]) for near, index in parts]
        near, index = merged(_in_database(of_query, starts))
        distances.append(near)
        indices.append(_as_indices(index))
    return distances, indices


def _in_database(
    parts: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    starts: Sequence[int] | npt.NDArray[np.int64],
) -> list[tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]:
    """Distances and indices of shards, with indices in the whole database."""
    return [
        (near, index.astype(np.int64) + start)
        for (near, index), start in zip(parts, starts, strict=True)
    ]


def _as_indices(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.integer[Any]]:
    """Indices as int32, as those of `HammingRanker`, unless one is too large."""
    return indices.astype(np.int32) if np.all(indices < 2**31) else indices


class _Shard:
    """An actor: a ranker of a share of the codes."""

    def __init__(
        self, codes: npt.NDArray[np.uint8], bits: int, index: str, cpus: int
    ) -> None:
        set_threads(cpus)
        self._ranker = HammingRanker(codes, bits, index=index)

    def size(self) -> int:
        """The number of codes."""
        return self._ranker.size

    def top_k(self, queries: npt.NDArray[np.uint8], k: int) -> Any:
        """As `HammingRanker.top_k`; all codes, if there are less than k."""
        return self._ranker.top_k(queries, min(k, self._ranker.size))

    def within(self, queries: npt.NDArray[np.uint8], radius: int) -> Any:
        """As `HammingRanker.within`."""
        return self._ranker.within(queries, radius)
