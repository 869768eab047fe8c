"""Average precision of rankings with ties, in closed form.

Hamming distances take few values, so most items of a ranking are tied. The functions
of tied rankings take, for each query, how many database items lie at each distance and
how many of them are relevant: arrays ``(queries, distances)``. These counts are enough
for the mean over all orders of tied items, for the best order and for the worst.
"""

from typing import Any

import numpy as np
import numpy.typing as npt


def average_precision_sums(
    total: npt.NDArray[np.int64], relevant: npt.NDArray[np.int64], at: int, ties: str
) -> npt.NDArray[np.float64]:
    """Sum of the precisions at the ranks of the relevant items.

    Formula:
        S = sum over ranks j <= at of precision(j) * relevant(j)

    Take a group of g tied items, t of them relevant, that follows r items, p of them
    relevant. Let g' be the number of its ranks <= at, and D the sum of 1 / j over these
    ranks. The mean over all orders of the group is
    ``t / g * ((p + 1) D + (t - 1) / (g - 1) * (g' - (r + 1) D))``.

    Args:
        total: int array ``(queries, distances)``, number of items at each distance.
        relevant: int array ``(queries, distances)``, number of relevant items at each
            distance.
        at: int, the number of ranks that count.
        ties: "expected", "best" or "worst".

    Returns:
        float64 array ``(queries,)``.

    Example:
        >>> total, relevant = np.array([[2]]), np.array([[1]])
        >>> average_precision_sums(total, relevant, 2, "expected")  # (1 + 1/2) / 2
        array([0.75])

    Reference:
        F. McSherry, M. Najork, Computing Information Retrieval Performance Measures
        Efficiently in the Presence of Tied Scores, ECIR 2008, section 3.
    """
    g, t = total.astype(np.int64), relevant.astype(np.int64)
    r = np.cumsum(g, axis=1) - g
    p = np.cumsum(t, axis=1) - t
    within = np.clip(at - r, 0, g)  # g'
    harmonic = np.concatenate(
        [[0.0], np.cumsum(1.0 / np.arange(1, g.sum(1).max() + 1))]
    )
    if ties == "expected":
        d = harmonic[r + within] - harmonic[r]
        same_group = (t - 1) / np.maximum(g - 1, 1) * (within - (r + 1) * d)
        sums = t / np.maximum(g, 1) * ((p + 1) * d + same_group)
    else:
        # The relevant items fill `count` consecutive ranks, after `start` items; the
        # precision at the i-th of these ranks is (p + i) / (start + i).
        start = r if ties == "best" else r + g - t
        count = np.clip(r + within - start, 0, t)
        d = harmonic[start + count] - harmonic[start]
        sums = count + (p - start) * d
    return np.asarray(sums.sum(axis=1))


def retrieved_relevant(
    total: npt.NDArray[np.int64], relevant: npt.NDArray[np.int64], at: int, ties: str
) -> npt.NDArray[np.float64]:
    """Number of relevant items among the first `at` ranks.

    Args:
        total, relevant, at, ties: as in `average_precision_sums`.

    Returns:
        float64 array ``(queries,)``.

    Example:
        >>> retrieved_relevant(np.array([[4]]), np.array([[2]]), 2, "expected")
        array([1.])
    """
    before = np.cumsum(total, axis=1) - total
    within = np.clip(at - before, 0, total)
    if ties == "expected":
        count = within * relevant / np.maximum(total, 1)
    elif ties == "best":
        count = np.minimum(within, relevant)
    else:
        count = np.maximum(within - (total - relevant), 0)
    return count.sum(axis=1).astype(np.float64)


def stable_sums(
    ranked: npt.NDArray[np.bool_], at: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`average_precision_sums` and `retrieved_relevant` of rankings without ties.

    Args:
        ranked: bool array ``(queries, n)``, relevance in order of rank.
        at: int, the number of ranks that count.

    Returns:
        ``(sums, retrieved)``, float64 arrays ``(queries,)``.

    Example:
        >>> stable_sums(np.array([[True, False, True, False]]), at=4)
        (array([1.66666667]), array([2.]))
    """
    rows, columns = np.nonzero(ranked[:, :at])
    retrieved = np.bincount(rows, minlength=len(ranked))
    # Relevant items come row by row: less those of earlier rows, the running number is
    # that within the row.
    earlier = np.cumsum(retrieved) - retrieved
    hits = np.arange(1, len(rows) + 1) - earlier[rows]
    sums = np.bincount(rows, hits / (columns + 1), minlength=len(ranked))
    return sums.astype(np.float64), retrieved.astype(np.float64)


def first_relevant_sums(
    ranked: npt.NDArray[np.bool_], at: int
) -> npt.NDArray[np.float64]:
    """Sum of the precisions at the first `at` relevant items of a whole ranking.

    Args:
        ranked: bool array ``(queries, n)``, relevance in order of rank.
        at: int, the number of relevant items that count.

    Returns:
        float64 array ``(queries,)``.

    Example:
        >>> first_relevant_sums(np.array([[True, False, False, True]]), at=2)
        array([1.5])
    """
    hits = np.cumsum(ranked, axis=1)
    precision = hits / np.arange(1, ranked.shape[1] + 1)
    return np.asarray((precision * (ranked & (hits <= at))).sum(axis=1))


def mean_over_queries(
    sums: npt.NDArray[np.float64], denominators: npt.NDArray[Any], empty: str
) -> float:
    """Mean over queries of sums / denominators.

    Args:
        sums: float array ``(queries,)``.
        denominators: int or float array ``(queries,)``.
        empty: what a query with denominator 0 counts for: "zero", or "skip" to
            leave it out of the mean.

    Returns:
        float; 0.0 if no query is left.

    Example:
        >>> mean_over_queries(np.array([1.0, 0.0]), np.array([2.0, 0.0]), "skip")
        0.5
    """
    valid = denominators > 0
    values = np.where(valid, sums / np.where(valid, denominators, 1), 0.0)
    if empty == "skip":
        values = values[valid]
    return float(values.mean()) if values.size else 0.0
