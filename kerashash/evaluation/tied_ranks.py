"""Average precision and its kin, as closed forms of per-query counts.

Hamming distances take few values, so most of a ranking is ties. All functions here
take, for each query, how many database items lie at each distance and how many of
them are relevant: arrays ``(queries, bits + 1)``. That is enough for the mean over
all orders of tied items, for the best and for the worst order.
"""

import numpy as np


def average_precision_sums(total, relevant, at, ties):
    """Sum of the precisions at the ranks of the relevant items.

    Formula:
        S = sum over ranks j <= at of precision(j) * relevant(j)

    In a group of g tied items after r others, with t relevant after p, the mean over
    all orders of the group is, for g' = the group's items at ranks <= at and D the
    sum of 1 / j over those ranks,
    ``t / g * ((p + 1) D + (t - 1) / (g - 1) * (g' - (r + 1) D))``.

    Args:
        total: int array ``(queries, distances)``: items at each distance.
        relevant: int array ``(queries, distances)``: relevant ones among them.
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
    before = np.cumsum(g, axis=1) - g
    p = np.cumsum(t, axis=1) - t
    shown = np.clip(at - before, 0, g)  # g'
    harmonic = np.concatenate(
        [[0.0], np.cumsum(1.0 / np.arange(1, g.sum(1).max() + 1))]
    )
    if ties == "expected":
        d = harmonic[before + shown] - harmonic[before]
        others = (t - 1) / np.maximum(g - 1, 1) * (shown - (before + 1) * d)
        sums = t / np.maximum(g, 1) * ((p + 1) * d + others)
    else:
        # The relevant items fill `count` ranks in a row, after `first` items; the
        # precision at the i-th of these ranks is (p + i) / (first + i).
        first = before if ties == "best" else before + g - t
        count = np.clip(before + shown - first, 0, t)
        d = harmonic[first + count] - harmonic[first]
        sums = count + (p - first) * d
    return sums.sum(axis=1)


def retrieved_relevant(total, relevant, at, ties):
    """Relevant items among the first `at` ranks.

    Args:
        total, relevant, at, ties: as in `average_precision_sums`.

    Returns:
        float64 array ``(queries,)``.

    Example:
        >>> retrieved_relevant(np.array([[4]]), np.array([[2]]), 2, "expected")
        array([1.])
    """
    before = np.cumsum(total, axis=1) - total
    shown = np.clip(at - before, 0, total)
    if ties == "expected":
        count = shown * relevant / np.maximum(total, 1)
    elif ties == "best":
        count = np.minimum(shown, relevant)
    else:
        count = np.maximum(shown - (total - relevant), 0)
    return count.sum(axis=1).astype(np.float64)


def stable_sums(ranked, at):
    """`average_precision_sums` and `retrieved_relevant` of a given order.

    Args:
        ranked: bool array ``(queries, n)``: relevance in order of rank.
        at: int, the number of ranks that count.

    Returns:
        ``(sums, retrieved)``: float64 arrays ``(queries,)``.

    Example:
        >>> stable_sums(np.array([[True, False, True, False]]), at=4)
        (array([1.66666667]), array([2.]))
    """
    rows, places = np.nonzero(ranked[:, :at])
    retrieved = np.bincount(rows, minlength=len(ranked))
    before = np.cumsum(retrieved) - retrieved
    hits = np.arange(1, len(rows) + 1) - before[rows]
    sums = np.bincount(rows, hits / (places + 1), minlength=len(ranked))
    return sums, retrieved.astype(np.float64)


def first_relevant_sums(ranked, at):
    """Sum of the precisions at the first `at` relevant items of a whole ranking.

    Args:
        ranked: bool array ``(queries, n)``: relevance in order of rank.
        at: int, the number of relevant items that count.

    Returns:
        float64 array ``(queries,)``.

    Example:
        >>> first_relevant_sums(np.array([[True, False, False, True]]), at=2)
        array([1.5])
    """
    hits = np.cumsum(ranked, axis=1)
    precision = hits / np.arange(1, ranked.shape[1] + 1)
    return (precision * (ranked & (hits <= at))).sum(axis=1)


def mean_over_queries(sums, denominators, empty):
    """Mean of sums / denominators.

    Args:
        sums: float array ``(queries,)``.
        denominators: float array ``(queries,)``.
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
