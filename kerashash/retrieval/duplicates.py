"""Groups of rows whose codes are nearly the same."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer
from kerashash.codes import check_packed
from kerashash.retrieval.ranker import HammingRanker

# Codes that are compared with all others at a time: their pairs stay below 200 MB.
_BLOCK = 256


def duplicate_rows(
    codes: npt.NDArray[np.uint8], bits: int, radius: int, most: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Find groups of rows that are linked by small distances.

    Two rows are in one group if there is a chain of rows from one to the other with
    steps of at most `radius` bits.

    Args:
        codes: uint8 array ``(n, ceil(bits / 8))``; packed codes.
        bits: int; the code length.
        radius: int; from 0, equal codes, to `bits`.
        most: int or None; refuse more distinct codes than this, if `radius` is not 0.

    Returns:
        list of int64 arrays: the rows of each group of at least two, ascending; the
        largest group first, of equal ones that with the first row.

    Raises:
        TypeError, ValueError: if an argument is wrong, or there are too many codes.

    Example:
        >>> codes = np.array([[0], [255], [1], [3], [255]], np.uint8)
        >>> duplicate_rows(codes, bits=8, radius=1)
        [array([0, 2, 3]), array([1, 4])]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes = check_packed(codes, bits)
    check_integer("radius", radius, least=0, most=bits)
    # Bytes as one value: several times faster than np.unique(axis=0).
    values = codes.view(np.dtype((np.void, codes.shape[1]))).ravel()
    unique, group_of_row = np.unique(values, return_inverse=True)
    if radius and len(unique):
        count = len(unique)
        if most is not None and count > most:
            raise ValueError(
                f"`radius` must be 0 for more than {most:,} distinct codes. Received: "
                f"radius={radius}, {count:,} distinct codes."
            )
        distinct = unique.view(np.uint8).reshape(count, -1)
        ranker = HammingRanker(distinct, bits)
        group = np.arange(count)  # of each distinct code
        for start in range(0, count, _BLOCK):
            _, near = ranker.within(distinct[start : start + _BLOCK], radius)
            first = np.repeat(np.arange(len(near)) + start, [*map(len, near)])
            pairs = group[first], group[np.concatenate(near)]
            graph = coo_array((np.ones(len(first), bool), pairs), (count, count))
            group = connected_components(graph, directed=False)[1][group]
        group_of_row = group[group_of_row]
    order = np.argsort(group_of_row, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group_of_row[order])) + 1)
    groups = [rows for rows in groups if len(rows) > 1]
    return sorted(groups, key=lambda rows: (-len(rows), rows[0]))
