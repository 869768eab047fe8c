"""Groups of rows whose codes are near each other."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.sparse.csgraph

from kerashash.codes import as_words
from kerashash.retrieval.distinct import DistinctCodes, hashes

_Pairs = npt.NDArray[np.integer]  # (2, n)

_QUERIES = 256  # of one search
_SMALL = 64  # codes whose pairs are compared without a ranker
_HELD = 1 << 22  # pairs that wait until their groups are joined
_SHORT = 8  # bits of parts that tell too few codes apart


def groups_within(
    packed: npt.NDArray[np.uint8], bits: int, radius: int
) -> list[npt.NDArray[np.intp]]:
    """Find the groups of rows that pairs within a Hamming radius join.

    These are the connected components of the graph of all such pairs: each row of a
    group is within the radius of another one, not of all of them.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``; the codes.
        bits: int; the code length.
        radius: int; from 0 to `bits`.

    Returns:
        list of integer arrays: the rows of each group of two or more, ascending;
        groups in order of their first rows.

    Example:
        >>> codes = np.array([[0b0], [0b11], [0b1], [0b11110000]], np.uint8)
        >>> groups_within(codes, bits=8, radius=1)
        [array([0, 1, 2])]
    """
    if not len(packed):
        return []
    # Rows of one code are one group at least, so that only distinct codes are compared.
    distinct = DistinctCodes.of(packed)
    groups = np.arange(len(distinct))  # of each distinct code
    held: list[_Pairs] = []
    count = 0  # of pairs that are held
    for pairs in _near_pairs(distinct.packed, bits, radius):
        held.append(pairs)
        count += pairs.shape[1]
        if count > _HELD:
            groups, held, count = _joined(groups, held), [], 0
    groups = _joined(groups, held)
    by_row = np.empty(len(packed), np.intp)
    by_row[distinct.rows] = np.repeat(groups, np.diff(distinct.starts))
    order = np.argsort(by_row, kind="stable")
    starts = np.flatnonzero(np.diff(by_row[order])) + 1
    several = [group for group in np.split(order, starts) if len(group) > 1]
    return sorted(several, key=lambda group: int(group[0]))


def _near_pairs(
    packed: npt.NDArray[np.uint8], bits: int, radius: int
) -> Iterator[_Pairs]:
    """All pairs of codes within a radius, some of them several times."""
    # If a pair differs in `radius` bits, it is equal in one of `radius + 1` parts.
    parts = radius + 1 if (radius + 1) * _SHORT <= bits else 1
    for part in range(parts if radius else 0):
        members = (np.arange(bits) % (radius + 1) == part) & (parts > 1)
        mask = np.packbits(members, bitorder="little")
        yield from _near_pairs_of_part(packed, bits, radius, mask)


def _near_pairs_of_part(
    packed: npt.NDArray[np.uint8], bits: int, radius: int, mask: npt.NDArray[np.uint8]
) -> Iterator[_Pairs]:
    """All pairs of codes within a radius that are equal in the bits of a mask."""
    words, keys = as_words(packed), hashes(as_words(packed & mask))
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(starts, append=len(keys))
    # How many codes of the same key follow, each with each.
    following = np.repeat(starts + counts, counts) - np.arange(len(keys)) - 1
    first = np.flatnonzero(np.repeat(counts <= _SMALL, counts))
    for offset in range(1, _SMALL):
        first = first[following[first] >= offset]
        pairs = order[np.stack([first, first + offset])]
        differ = words[:, pairs[0]] ^ words[:, pairs[1]]
        yield pairs[:, np.bitwise_count(differ).sum(axis=0) <= radius]
    for bucket in np.flatnonzero(counts > _SMALL):
        from kerashash.retrieval import HammingRanker  # which imports TensorFlow

        codes = order[starts[bucket] : starts[bucket] + counts[bucket]]
        ranker = HammingRanker(packed[codes], bits)
        for start in range(0, len(codes), _QUERIES):
            queries = codes[start : start + _QUERIES]
            _, found = ranker.within(packed[queries], radius)
            pairs = np.stack(
                [
                    np.repeat(queries, [len(near) for near in found]),
                    codes[np.concatenate(found)],
                ]
            )
            yield pairs[:, pairs[0] < pairs[1]]


def _joined(groups: npt.NDArray[np.intp], held: list[_Pairs]) -> npt.NDArray[np.intp]:
    """The group of each code, after the groups of the codes of pairs are joined."""
    if not held:
        return groups
    first, second = groups[np.concatenate(held, axis=1)]
    n = len(groups)
    graph = scipy.sparse.coo_array((np.ones(len(first), bool), (first, second)), (n, n))
    joined = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    return np.asarray(joined[groups], np.intp)
