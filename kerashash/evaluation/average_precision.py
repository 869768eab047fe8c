"""Mean average precision, precision and recall of hash codes.

Whatever depends on the order of ties is a closed form of histograms of distances
(`kerashash.evaluation.tied_ranks`), which one pass over all pairs of queries and
database items counts. Nothing is sorted, except the first R items of a stable order.
`kerashash.evaluation` explains the choices.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import checks
from kerashash import codes as hash_codes
from kerashash.checks import check_integer
from kerashash.evaluation import tied_ranks
from kerashash.evaluation.choices import check_at, check_choices, check_ties
from kerashash.evaluation.counts import Distances, histograms, in_threads
from kerashash.evaluation.relevance import Relevance

# Largest number of entries of one block of the queries x database matrix.
_BLOCK = 4_000_000


def mean_average_precision(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    *,
    bits: int | None = None,
    at: int | None = None,
    denominator: str = "min",
    ties: str = "expected",
    empty: str = "zero",
) -> float:
    """Mean average precision (mAP) of ranking a database by Hamming distance.

    `kerashash.evaluation` explains the choices `at`, `denominator`, `ties`, `empty`.

    Formula:
        mean over queries of (sum_{j <= R} precision(j) relevant(j)) / denominator

    Args:
        query_codes: packed uint8 ``(q, ceil(bits / 8))`` or ``(q, bits)`` over
            {-1, +1}.
        query_labels: label rows ``(q, classes)`` of 0 and 1, or class ids ``(q,)``.
        database_codes: as `query_codes`, n rows.
        database_labels: as `query_labels`, n rows.
        bits: int, the code length; may be left out for unpacked codes.
        at: int or None; R, the number of ranks that count. None counts all n.
        denominator: "min", "relevant", "retrieved" or "first".
        ties: "expected", "stable", "best" or "worst". The denominators "first", and
            "retrieved" with R below n, require "stable".
        empty: "zero" or "skip".

    Returns:
        float in [0, 1].

    Raises:
        TypeError, ValueError: if an argument is invalid or two do not match.

    Example:
        >>> codes = [[1, 1], [1, -1], [-1, -1]]
        >>> mean_average_precision(codes[:1], [0], codes, [0, 1, 0], ties="stable")
        0.8333333333333333

    Reference:
        McSherry and Najork, ECIR 2008, for tied ranks.
    """
    check_choices(denominator=denominator, ties=ties, empty=empty)
    ranking = Ranking(query_codes, query_labels, database_codes, database_labels, bits)
    at = check_at(at, ranking.n)
    check_ties(ties, denominator, at, ranking.n)
    return ranking.mean_average_precision(at, denominator, ties, empty)


def reranked_mean_average_precision(
    query_values: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_values: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    *,
    radius: int | None = None,
    empty: str = "zero",
) -> float:
    """mAP of a Hamming ranking refined by inner products of continuous codes.

    Without `radius`, the whole database is ranked by Hamming distance and ties by inner
    product; the sum of precisions is divided by the number of all relevant items.

    With `radius`, often called mAP@H<=radius, only items within that Hamming distance
    count. They are ranked by inner product alone, and the sum is divided by the number
    of relevant items among them.

    Items of equal inner products are in order of their index. An inner product is a sum
    in float64 from the first bit to the last, so that equal items have equal ones, and
    no query changes those of another.

    Args:
        query_values: float ``(q, bits)``, continuous codes, whose signs are the hash
            codes.
        query_labels, database_labels: as in `mean_average_precision`.
        database_values: float ``(n, bits)``, continuous codes.
        radius: int or None; the Hamming radius, at least 0.
        empty: "zero" or "skip".

    Returns:
        float in [0, 1].

    Raises:
        TypeError, ValueError: if an argument is invalid or two do not match.

    Example:
        >>> reranked_mean_average_precision(
        ...     [[0.9, 0.9]], [0], [[0.1, 0.1], [0.5, 0.5]], [1, 0]
        ... )
        1.0
    """
    check_choices(empty=empty)
    if radius is not None:
        radius = check_integer("radius", radius, least=0)
    query = _continuous(query_values, None, "query_values")
    database = _continuous(database_values, query.shape[1], "database_values")
    ranking = Ranking(_signs(query), query_labels, _signs(database), database_labels)
    hamming = Distances(ranking.query, ranking.database, ranking.bits)
    sums, denominators = [], []
    size = max(1, _BLOCK // ranking.n)
    for start in range(0, len(query), size):
        block = slice(start, start + size)
        rows = np.arange(len(query))[block]
        distances = np.stack([row.copy() for row in hamming.of(rows)])  # (block, n)
        relevance = ranking.relevance.of(block)  # (block, n)
        products = _inner_products(query[block], database)  # (block, n)
        if radius is None:
            order = np.lexsort((-products, distances), axis=1)
        else:
            inside = distances <= radius
            order = np.lexsort((-products, ~inside), axis=1)
            relevance = relevance & inside
        block_sums, _ = tied_ranks.stable_sums(
            np.take_along_axis(relevance, order, axis=1), ranking.n
        )
        sums.append(block_sums)
        denominators.append(relevance.sum(axis=1))
    return tied_ranks.mean_over_queries(
        np.concatenate(sums), np.concatenate(denominators), empty
    )


def precision_recall(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    *,
    bits: int | None = None,
    at: Sequence[int] | npt.NDArray[Any] = (),
) -> dict[str, npt.NDArray[np.float64]]:
    """Precision and recall, by rank and by Hamming radius.

    By rank they are the mean over all orders of tied items. A query without relevant
    items has recall 0; a radius that holds no item has precision 0.

    Args:
        query_codes, query_labels, database_codes, database_labels, bits: as in
            `mean_average_precision`.
        at: list of int, the ranks N of P@N and R@N.

    Returns:
        dict of float64 arrays, means over queries. By rank, ``(len(at),)``:
        ``precision_at`` and ``recall_at``. By radius r = 0, ..., bits, over the items
        at Hamming distance 0 to r, ``(bits + 1,)``: ``precision_within`` (P@H<=r) and
        ``recall_within``; together they are the precision-recall curve by radius.

    Raises:
        TypeError, ValueError: if an argument is invalid or two do not match.

    Example:
        >>> codes = [[1, 1], [1, -1], [-1, -1]]
        >>> curve = precision_recall(codes[:1], [0], codes, [0, 1, 0], at=[2])
        >>> curve["precision_at"], curve["recall_within"]
        (array([0.5]), array([0.5, 0.5, 1. ]))
    """
    ranking = Ranking(query_codes, query_labels, database_codes, database_labels, bits)
    is_list = isinstance(at, list | tuple) or (isinstance(at, np.ndarray) and at.ndim)
    # None stands for the database size where there is one rank alone.
    if not is_list or any(n is None for n in at):
        raise TypeError(f"`at` must be a list of integers. Received: at={at!r}.")
    return ranking.precision_recall([check_at(n, ranking.n) for n in at])


def area_under_radius_curve(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    *,
    bits: int | None = None,
) -> float:
    """Area under the precision-recall curve by Hamming radius, by the trapezoid rule.

    The curve is that of `precision_recall`. It starts at the smallest radius that
    retrieves an item, relevant or not, for any query, and is extended to recall 0 with
    the precision of that radius.

    Args:
        query_codes, query_labels, database_codes, database_labels, bits: as in
            `mean_average_precision`.

    Returns:
        float in [0, 1].

    Raises:
        TypeError, ValueError: if an argument is invalid or two do not match.

    Example:
        >>> codes = [[1, 1], [1, -1], [-1, -1]]
        >>> area = area_under_radius_curve(codes[:1], [0], codes, [0, 1, 0])
        >>> round(area, 3)  # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
        0.792
    """
    ranking = Ranking(query_codes, query_labels, database_codes, database_labels, bits)
    curve = ranking.precision_recall([])
    precision, recall = curve["precision_within"], curve["recall_within"]
    total, _ = ranking.histograms
    first = np.argmax(total.any(axis=0))
    return float(
        np.trapezoid(
            np.concatenate([precision[first : first + 1], precision[first:]]),
            np.concatenate([[0.0], recall[first:]]),
        )
    )


#: What published programs compute under the name "mAP", by letter. Each is called with
#: codes and labels like `mean_average_precision` (F and G with continuous codes); B,
#: B', C, D and E also with ``at=R``.
CONVENTIONS: dict[str, Callable[..., float]] = {
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


class Ranking:
    """The ranking of a database for each query, checked once and measured in many ways.

    Args:
        query_codes, query_labels, database_codes, database_labels, bits: as in
            `mean_average_precision`.

    Attributes:
        n: int, the number of database items.
        bits: int, the code length.
        query, database: packed codes, uint8 ``(q, ceil(bits / 8))`` and n rows.
        relevance: `Relevance` of the items to the queries.
    """

    def __init__(
        self,
        query_codes: npt.ArrayLike,
        query_labels: npt.ArrayLike,
        database_codes: npt.ArrayLike,
        database_labels: npt.ArrayLike,
        bits: int | None = None,
    ) -> None:
        self.query, self.bits = hash_codes.as_packed(query_codes, bits, "query_codes")
        self.database, _ = hash_codes.as_packed(
            database_codes, self.bits, "database_codes"
        )
        for name, rows in (
            ("query_codes", self.query),
            ("database_codes", self.database),
        ):
            if not len(rows):
                raise ValueError(
                    f"`{name}` must have at least one row. Received: 0 rows."
                )
        self.n = len(self.database)
        self.relevance = Relevance(
            query_labels, database_labels, len(self.query), self.n
        )

    @functools.cached_property
    def histograms(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Items, and relevant items, at each distance: two ``(q, bits + 1)``."""
        return histograms(self.query, self.database, self.bits, self.relevance)

    def mean_average_precision(
        self, at: int, denominator: str, ties: str, empty: str
    ) -> float:
        """As the function `mean_average_precision`; the arguments are not checked."""
        total, relevant = self.histograms
        num_relevant = relevant.sum(axis=1)
        if ties == "stable":
            sums, retrieved = self._stable_sums(at, denominator == "first")
        else:
            sums = tied_ranks.average_precision_sums(total, relevant, at, ties)
            retrieved = tied_ranks.retrieved_relevant(total, relevant, at, ties)
        denominators = {
            "relevant": num_relevant,
            "retrieved": retrieved,
            "min": np.minimum(num_relevant, at),
            "first": np.minimum(num_relevant, at),
        }[denominator]
        return tied_ranks.mean_over_queries(sums, denominators, empty)

    def _stable_sums(
        self, at: int, first: bool
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Sums of precisions and numbers of retrieved relevant items, for each query;
        with `first`, the sums that the denominator "first" divides."""
        distances = Distances(self.query, self.database, self.bits)
        # The distance of the last item that counts.
        reached = np.cumsum(self.histograms[0], axis=1) >= (self.n if first else at)
        lasts = np.argmax(reached, axis=1)
        sums = np.empty(len(self.query))
        retrieved = np.empty(len(self.query))

        def measure(rows: npt.NDArray[np.intp]) -> None:
            for row, of_items, relevant in zip(
                rows, distances.of(rows), self.relevance.to(rows), strict=True
            ):
                near = np.flatnonzero(of_items <= lasts[row])
                order = near[np.argsort(of_items[near], kind="stable")]
                ranked = relevant[order][None]
                here = slice(row, row + 1)
                sums[here], retrieved[here] = tied_ranks.stable_sums(ranked, at)
                if first:
                    sums[here] = tied_ranks.first_relevant_sums(ranked, at)

        in_threads(measure, self.relevance.by_labels())
        return sums, retrieved

    def precision_recall(self, at: list[int]) -> dict[str, npt.NDArray[np.float64]]:
        """As the function `precision_recall`; the arguments are not checked."""
        total, relevant = self.histograms
        # At least 1: a query without relevant items has recall 0.
        num_relevant = np.maximum(relevant.sum(axis=1, keepdims=True), 1)
        hits = np.reshape(
            [tied_ranks.retrieved_relevant(total, relevant, n, "expected") for n in at],
            (len(at), len(total)),  # needed where `at` is empty
        ).T
        items_within = np.cumsum(total, axis=1)
        relevant_within = np.cumsum(relevant, axis=1)
        curve = {
            "precision_at": hits / np.array(at, float),
            "recall_at": hits / num_relevant,
            "precision_within": relevant_within / np.maximum(items_within, 1),
            "recall_within": relevant_within / num_relevant,
        }
        return {name: values.mean(axis=0) for name, values in curve.items()}


def _continuous(
    values: npt.ArrayLike, bits: int | None, name: str
) -> npt.NDArray[np.float64]:
    """Check continuous codes; they become float64, in which they keep their signs."""
    checks.check_array(values, (None, bits), name)
    return checks.as_floats(values, name).astype(np.float64, copy=False)


def _inner_products(
    query: npt.NDArray[np.float64], database: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Inner products ``(q, n)`` of ``(q, bits)`` and ``(n, bits)``.

    Not by `@`: the order in which it adds depends on the shapes, and on the place of a
    row, and equal rows would differ by rounding errors.
    """
    products = np.zeros((len(query), len(database)))
    columns = np.ascontiguousarray(database.T)
    terms = np.empty(len(database))
    with np.errstate(under="ignore"):
        for sums, values in zip(products, query.tolist(), strict=True):
            for column, value in zip(columns, values, strict=True):
                sums += np.multiply(column, value, out=terms)
    return products


def _signs(values: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Hash codes of continuous codes; the sign of 0 is +1."""
    return np.where(values >= 0, np.int8(1), np.int8(-1))
