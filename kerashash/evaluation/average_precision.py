"""Mean average precision, precision and recall of hash codes, from codes and labels.

All that ties leave open is a closed form of histograms
(`kerashash.evaluation.tied_ranks`), which one pass over the pairs of queries and items
counts; nothing is sorted but the first R items of a stable order. What the choices mean
is said in `kerashash.evaluation`.
"""

import functools

import numpy as np

from kerashash import checks
from kerashash import codes as hash_codes
from kerashash.checks import check_integer
from kerashash.evaluation import tied_ranks
from kerashash.evaluation.choices import check_at, check_choices, check_ties
from kerashash.evaluation.relevance import Relevance, histograms
from kerashash.retrieval.ranker import HammingRanker

# Entries of one block of the queries x database matrix.
_BLOCK = 4_000_000


def mean_average_precision(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    bits=None,
    at=None,
    denominator="min",
    ties="expected",
    empty="zero",
):
    """Mean average precision of ranking by Hamming distance.

    Formula:
        mean over queries of (sum_{j <= R} precision(j) relevant(j)) / denominator

    With ``at=None``, "min", "relevant" and "retrieved" are the same.

    Args:
        query_codes: packed uint8 ``(q, ceil(bits / 8))`` or ``(q, bits)`` over
            {-1, +1}.
        query_labels: label rows ``(q, classes)`` of 0 and 1, or class ids ``(q,)``.
        database_codes: as `query_codes`, n rows.
        database_labels: as `query_labels`, n rows.
        bits: int, the code length; may be left out for unpacked codes.
        at: int or None, R.
        denominator: "min", "relevant", "retrieved" or "first".
        ties: "expected", "stable", "best" or "worst". "first", and "retrieved" with
            an R below the database size, are defined for "stable": their quotient has
            no closed form, nor is it largest with the relevant items first.
        empty: "zero" or "skip".

    Returns:
        float in [0, 1].

    Raises:
        TypeError, ValueError: if an argument is wrong or two do not match.

    Example:
        >>> codes = [[1, 1], [1, -1], [-1, -1]]
        >>> mean_average_precision(codes[:1], [0], codes, [0, 1, 0], ties="stable")
        0.8333333333333333

    Reference:
        McSherry and Najork, ECIR 2008, for tied ranks.
    """
    check_choices(denominator=denominator, ties=ties, empty=empty)
    ranked = Ranked(query_codes, query_labels, database_codes, database_labels, bits)
    at = check_at(at, ranked.n)
    check_ties(ties, denominator, at, ranked.n)
    return ranked.mean_average_precision(at, denominator, ties, empty)


def reranked_mean_average_precision(
    query_values,
    query_labels,
    database_values,
    database_labels,
    *,
    radius=None,
    empty="zero",
):
    """mAP where continuous codes decide among items that hash codes leave open.

    With `radius`, mAP@H<=radius: only items within that Hamming distance count,
    ranked by inner product, and the sum of precisions is divided by the relevant ones
    among them. Without, the whole database is ranked by Hamming distance, ties by
    inner product, and the sum is divided by all relevant items.

    Args:
        query_values: float ``(q, bits)``, continuous codes; hash codes are their
            signs.
        query_labels, database_labels: as in `mean_average_precision`.
        database_values: float ``(n, bits)``.
        radius: int or None.
        empty: "zero" or "skip".

    Returns:
        float in [0, 1].

    Raises:
        TypeError, ValueError: if an argument is wrong or two do not match.

    Example:
        >>> reranked_mean_average_precision(
        ...     [[0.9, 0.9]], [0], [[0.1, 0.1], [0.5, 0.5]], [1, 0]
        ... )
        1.0
    """
    check_choices(empty=empty)
    if radius is not None:
        check_integer("radius", radius, least=0)
    query_values = checks.check_array(query_values, (None, None), "query_values")
    database_values = checks.check_array(
        database_values, (None, query_values.shape[1]), "database_values"
    )
    query, database = (
        np.where(values >= 0, np.int8(1), np.int8(-1))
        for values in (query_values, database_values)
    )
    ranked = Ranked(query, query_labels, database, database_labels)
    ranker = HammingRanker(ranked.database, ranked.bits)
    sums, denominators = [], []
    size = max(1, _BLOCK // ranked.n)
    for start in range(0, len(query), size):
        block = slice(start, start + size)
        rows = query_values[block]
        distances = ranker.distances(ranked.query[block])
        relevance = ranked.relevance.of(block)
        products = rows @ database_values.T
        if radius is None:
            order = np.lexsort((-products, distances), axis=1)
        else:
            inside = distances <= radius
            order = np.lexsort((-products, ~inside), axis=1)
            relevance = relevance & inside
        value, _ = tied_ranks.stable_sums(
            np.take_along_axis(relevance, order, axis=1), ranked.n
        )
        sums.append(value)
        denominators.append(relevance.sum(axis=1))
    return tied_ranks.mean_over_queries(
        np.concatenate(sums), np.concatenate(denominators), empty
    )


def precision_recall(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    bits=None,
    at=(),
):
    """Precision and recall, by rank and by Hamming radius.

    By rank they are the mean over all orders of tied items. A query without relevant
    items has recall 0; an empty ball has precision 0.

    Args:
        query_codes, query_labels, database_codes, database_labels, bits: as in
            `mean_average_precision`.
        at: ints, ranks N of P@N and R@N.

    Returns:
        dict of float arrays, means over queries: ``precision_at`` and ``recall_at``
        ``(len(at),)``; ``precision_within`` and ``recall_within`` ``(bits + 1,)``, of
        the items at Hamming distance 0 to r: P@H<=r, and the radius PR curve.

    Raises:
        TypeError, ValueError: if an argument is wrong or two do not match.

    Example:
        >>> codes = [[1, 1], [1, -1], [-1, -1]]
        >>> curve = precision_recall(codes[:1], [0], codes, [0, 1, 0], at=[2])
        >>> curve["precision_at"], curve["recall_within"]
        (array([0.5]), array([0.5, 0.5, 1. ]))
    """
    ranked = Ranked(query_codes, query_labels, database_codes, database_labels, bits)
    if not isinstance(at, list | tuple | np.ndarray):
        raise TypeError(f"`at` must be a list of integers. Received: at={at!r}.")
    return ranked.precision_recall([check_at(n, ranked.n) for n in at])


def area_under_radius_curve(*args, **kwargs):
    """Area under precision against recall by Hamming radius, by trapezoids.

    Takes the arguments of `precision_recall`. The curve starts at recall 0 with the
    precision of its first radius that retrieves anything.

    Returns:
        float in [0, 1].
    """
    curve = precision_recall(*args, **kwargs)
    precision, recall = curve["precision_within"], curve["recall_within"]
    first = np.argmax(recall > 0)
    return float(
        np.trapezoid(
            np.concatenate([precision[first : first + 1], precision[first:]]),
            np.concatenate([[0.0], recall[first:]]),
        )
    )


#: What programs compute under the name of mAP; each is called with codes and labels
#: (F and G with continuous codes), B, B', C, D and E with ``at=R`` as well.
CONVENTIONS = {
    **{
        name: functools.partial(
            mean_average_precision, denominator=denominator, ties=ties, empty=empty
        )
        for name, denominator, ties, empty in (
            ("A", "relevant", "stable", "zero"),
            ("A'", "relevant", "stable", "skip"),
            ("B", "retrieved", "stable", "zero"),
            ("B'", "retrieved", "stable", "skip"),
            ("C", "min", "stable", "zero"),
            ("D", "relevant", "stable", "zero"),
            ("E", "first", "stable", "zero"),
            ("I", "relevant", "expected", "zero"),
        )
    },
    "F": functools.partial(reranked_mean_average_precision, radius=2),
    "G": reranked_mean_average_precision,
    "H": area_under_radius_curve,
}


class Ranked:
    """Checked queries and database, and what is measured of them.

    Args:
        query_codes, query_labels, database_codes, database_labels, bits: as in
            `mean_average_precision`.
    """

    def __init__(
        self, query_codes, query_labels, database_codes, database_labels, bits=None
    ):
        query, bits = hash_codes.as_packed(query_codes, bits, "query_codes")
        database, _ = hash_codes.as_packed(database_codes, bits, "database_codes")
        for name, rows in (("query_codes", query), ("database_codes", database)):
            if not len(rows):
                raise ValueError(f"`{name}` must have at least one row. Received: 0.")
        self.n = len(database)
        self.query, self.database, self.bits = query, database, bits
        self.relevance = Relevance(query_labels, database_labels, len(query), self.n)

    @functools.cached_property
    def histograms(self):
        """Items, and relevant items, at each distance: ``(q, bits + 1)`` each."""
        return histograms(self.query, self.database, self.bits, self.relevance)

    def mean_average_precision(self, at, denominator, ties, empty):
        """See the function `mean_average_precision`; `at` is an integer."""
        total, relevant = self.histograms
        found = relevant.sum(axis=1)
        if ties == "stable":
            blocks = [*self._stable(at, first=denominator == "first")]
            value, retrieved = (
                np.concatenate(part) for part in zip(*blocks, strict=True)
            )
        else:
            value = tied_ranks.average_precision_sums(total, relevant, at, ties)
            retrieved = tied_ranks.retrieved_relevant(total, relevant, at, ties)
        denominators = {
            "relevant": found,
            "retrieved": retrieved,
            "min": np.minimum(found, at),
            "first": np.minimum(found, at),
        }[denominator]
        return tied_ranks.mean_over_queries(value, denominators, empty)

    def _stable(self, at, first):
        """Yield sums of precisions and retrieved items, for blocks of queries."""
        ranker = HammingRanker(self.database, self.bits)
        k = self.n if first else at
        size = max(1, _BLOCK // k)
        for start in range(0, len(self.query), size):
            rows = slice(start, start + size)
            _, items = ranker.top_k(self.query[rows], k)
            ranked = self.relevance.of(rows, items)
            value, retrieved = tied_ranks.stable_sums(ranked, at)
            if first:
                value = tied_ranks.first_relevant_sums(ranked, at)
            yield value, retrieved

    def precision_recall(self, at):
        """See the function `precision_recall`; `at` is a list of integers."""
        total, relevant = self.histograms
        found = np.maximum(relevant.sum(axis=1, keepdims=True), 1)
        hits = [
            tied_ranks.retrieved_relevant(total, relevant, n, "expected") for n in at
        ]
        hits = np.reshape(hits, (len(at), len(total))).T
        inside, good = np.cumsum(total, axis=1), np.cumsum(relevant, axis=1)
        curve = {
            "precision_at": hits / np.array(at, float),
            "recall_at": hits / found,
            "precision_within": good / np.maximum(inside, 1),
            "recall_within": good / found,
        }
        return {name: values.mean(axis=0) for name, values in curve.items()}
