"""Retrieval evaluation, with every choice that papers leave open made by name.

A number called mAP says little: codes of few bits tie, and the order of ties alone
moves it by tenths; so does what the sum of precisions is divided by. Here every mAP
has

- ``at``: R, the ranks that count; None is all of them, "mAP@ALL";
- ``denominator``: "relevant" items in the database, "retrieved" relevant items in the
  first R ranks, "min" of R and the relevant items, or "first": the sum then runs over
  the first min(R, relevant) relevant items of the whole ranking;
- ``ties``: "expected", the mean over all orders of tied items; "best" and "worst"
  order; or "stable", by index in the database;
- ``empty``: a query without relevant items counts "zero", or "skip" leaves it out;
- ``database``: codes are "encoded" by the network, or the training images have the
  codes "learned" in training.

Relevant means: shares at least one label.
"""

import numpy as np

from kerashash import codes as hash_codes
from kerashash import inputs, metrics

_CHOICES = {
    "denominator": ("relevant", "retrieved", "min", "first"),
    "ties": ("expected", "stable", "best", "worst"),
    "empty": ("zero", "skip"),
    "database": ("encoded", "learned"),
}
# Entries of one block of the queries x database matrix.
_BLOCK = 4_000_000


def _protocol(at, denominator, ties, empty, database, source):
    return {
        "at": at,
        "denominator": denominator,
        "ties": ties,
        "empty": empty,
        "database": database,
        "source": source,
    }


#: What papers and programs call mAP. A paper's name gives its choice.
PROTOCOLS = {
    "kerashash": _protocol(
        None, "relevant", "expected", "zero", "encoded", "kerashash's own default"
    ),
    "adalabelhash-cifar10": _protocol(
        None, "relevant", "stable", "zero", "encoded", "AdaLabelHash, eq. 2"
    ),
    "adalabelhash-nuswide": _protocol(
        50_000, "retrieved", "stable", "zero", "encoded", "AdaLabelHash, table 5"
    ),
    "dcdh": _protocol(
        None, "relevant", "stable", "zero", "learned", "DCDH, published code"
    ),
    "dcdh@5000": _protocol(
        5_000, "retrieved", "stable", "zero", "learned", "DCDH, published code"
    ),
    "ddh-cifar10": _protocol(
        1_000, "retrieved", "stable", "skip", "encoded", "DDH, table 2"
    ),
    "ddh-nuswide": _protocol(
        5_000, "retrieved", "stable", "skip", "encoded", "DDH, table 3"
    ),
    "dsre-cifar10": _protocol(
        None, "relevant", "stable", "zero", "encoded", "DSRE, by lineage; unverified"
    ),
    "dsre-nuswide": _protocol(
        5_000, "retrieved", "stable", "zero", "encoded", "DSRE, by lineage; unverified"
    ),
    "dsre-nuswide-full": _protocol(
        50_000, "retrieved", "stable", "zero", "encoded", "DSRE, by lineage; unverified"
    ),
}


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
        ties: "expected", "stable", "best" or "worst". The expectation of a quotient
            has no closed form: "retrieved" with an R below the database size needs
            another tie rule. "first" is defined for "stable".
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
    _check_choices(denominator=denominator, ties=ties, empty=empty)
    pairs = _Pairs(query_codes, query_labels, database_codes, database_labels, bits)
    at = _check_at(at, pairs.n)
    if denominator == "retrieved" and ties == "expected" and at < pairs.n:
        raise ValueError(
            "`ties` must be 'stable', 'best' or 'worst' with denominator='retrieved' "
            f"and `at` below the database size {pairs.n}. Received: ties='expected', "
            f"at={at}; 'min' and 'relevant' go with 'expected'."
        )
    if denominator == "first" and ties != "stable":
        raise ValueError(
            f"`ties` must be 'stable' with denominator='first'. Received: {ties!r}."
        )
    sums, denominators = [], []
    for distances, relevance in pairs.blocks():
        found = relevance.sum(axis=1)
        if ties == "stable":
            ranked = np.take_along_axis(relevance, _rank(distances), axis=1)
            value, retrieved = metrics.stable_sums(ranked, at)
            if denominator == "first":
                value = metrics.first_relevant_sums(ranked, at)
        else:
            counts = _count(distances, relevance, pairs.bits)
            value = metrics.average_precision_sums(*counts, at, ties)
            retrieved = metrics.retrieved_relevant(*counts, at, ties)
        sums.append(value)
        denominators.append(
            {
                "relevant": found,
                "retrieved": retrieved,
                "min": np.minimum(found, at),
                "first": np.minimum(found, at),
            }[denominator]
        )
    return metrics.mean_over_queries(
        np.concatenate(sums), np.concatenate(denominators), empty
    )


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
    _check_choices(empty=empty)
    query_values = inputs.check_array(query_values, (None, None), "query_values")
    database_values = inputs.check_array(
        database_values, (None, query_values.shape[1]), "database_values"
    )
    query, database = (
        np.where(values >= 0, np.int8(1), np.int8(-1))
        for values in (query_values, database_values)
    )
    pairs = _Pairs(query, query_labels, database, database_labels, None)
    sums, denominators = [], []
    start = 0
    for distances, relevance in pairs.blocks():
        rows = query_values[start : start + len(distances)]
        start += len(distances)
        products = rows @ database_values.T
        if radius is None:
            order = np.lexsort((-products, distances), axis=1)
        else:
            inside = distances <= radius
            order = np.lexsort((-products, ~inside), axis=1)
            relevance = relevance & inside
        value, _ = metrics.stable_sums(
            np.take_along_axis(relevance, order, axis=1), pairs.n
        )
        sums.append(value)
        denominators.append(relevance.sum(axis=1))
    return metrics.mean_over_queries(
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
    pairs = _Pairs(query_codes, query_labels, database_codes, database_labels, bits)
    at = [_check_at(n, pairs.n) for n in at]
    rows = {"precision_at": [], "recall_at": []}
    rows |= {"precision_within": [], "recall_within": []}
    for distances, relevance in pairs.blocks():
        total, relevant = _count(distances, relevance, pairs.bits)
        found = np.maximum(relevant.sum(axis=1, keepdims=True), 1)
        hits = [metrics.retrieved_relevant(total, relevant, n, "expected") for n in at]
        hits = np.reshape(hits, (len(at), len(total))).T
        inside, good = np.cumsum(total, axis=1), np.cumsum(relevant, axis=1)
        rows["precision_at"].append(hits / np.array(at, float))
        rows["recall_at"].append(hits / found)
        rows["precision_within"].append(good / np.maximum(inside, 1))
        rows["recall_within"].append(good / found)
    return {name: np.concatenate(blocks).mean(axis=0) for name, blocks in rows.items()}


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


def evaluate(
    model, data, protocol="kerashash", *, batch_size=128, verbose="auto", **choices
):
    """Measure a model's retrieval on a data set's queries and database.

    Args:
        model: `HashModel`.
        data: `kerashash.data.RetrievalData`.
        protocol: str, a key of `PROTOCOLS`.
        batch_size, verbose: as in `HashModel.encode`.
        **choices: ``at``, ``denominator``, ``ties``, ``empty`` or ``database`` in place
            of the protocol's.

    Returns:
        dict: the mAP under its name, "mAP@ALL" or "mAP@R"; for expected ties also its
        "best" and "worst" order; "P@H<=2"; "P@100" (if the database has as many); and
        "definition", the choices that were made, by name.

    Raises:
        TypeError, ValueError: if an argument is wrong or two do not match.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> model = kerashash.AdaLabelHash("features", bits=16, num_classes=10)
        >>> sorted(evaluate(model, data))[:2]
        ['P@100', 'P@H<=2']
    """
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"`protocol` must be one of {[*PROTOCOLS]}. Received: {protocol!r}."
        )
    unknown = sorted(set(choices) - {"at", *_CHOICES})
    if unknown:
        raise TypeError(
            f"Choices of a protocol are {['at', *_CHOICES]}. Received: {unknown}."
        )
    definition = {"protocol": protocol, **PROTOCOLS[protocol], **choices}
    if choices:
        definition["source"] += ", with other choices"
    _check_choices(**{name: definition[name] for name in _CHOICES})

    queries = model.encode(data.query, batch_size, verbose=verbose)
    database = model.encode(data.database, batch_size, verbose=verbose)
    if definition["database"] == "learned":
        learned = hash_codes.pack(model.learned_codes())
        inside = data.train_rows >= 0
        database[data.train_rows[inside]] = learned[inside]
    ranked = (queries, data.query_labels, database, data.database_labels)
    options = {k: definition[k] for k in ("at", "denominator", "empty")}
    at, bits = definition["at"], model.bits
    name = "mAP@ALL" if at is None else f"mAP@{at}"
    ties = definition["ties"]
    result = {name: mean_average_precision(*ranked, bits=bits, ties=ties, **options)}
    if ties == "expected":
        for order in ("best", "worst"):
            result[f"{name} ({order} order of ties)"] = mean_average_precision(
                *ranked, bits=bits, ties=order, **options
            )
    n = min(100, data.num_database)
    curve = precision_recall(*ranked, bits=bits, at=[n])
    result[f"P@{n}"] = float(curve["precision_at"][0])
    result["P@H<=2"] = float(curve["precision_within"][min(2, bits)])
    definition |= {"queries": data.num_query, "database size": data.num_database}
    return {**result, "definition": definition}


class _Pairs:
    """Checked queries and database; their distances and relevance in blocks."""

    def __init__(self, query, query_labels, database, database_labels, bits):
        query, self.bits = hash_codes.as_packed(query, bits, "query_codes")
        database, _ = hash_codes.as_packed(database, self.bits, "database_codes")
        for name, rows in (("query_codes", query), ("database_codes", database)):
            if not len(rows):
                raise ValueError(f"`{name}` must have at least one row. Received: 0.")
        self.n = len(database)
        query_labels, database_labels = _check_both_labels(
            (query_labels, len(query)), (database_labels, self.n)
        )
        self._query = hash_codes.unpack(query, self.bits).astype(np.float32)
        self._database = hash_codes.unpack(database, self.bits).astype(np.float32)
        self._labels = query_labels, database_labels

    def blocks(self):
        """Yield ``(distances, relevance)`` of some queries to the whole database:
        uint16 and bool arrays ``(block, n)``."""
        query_labels, database_labels = self._labels
        size = max(1, _BLOCK // self.n)
        for start in range(0, len(self._query), size):
            rows = slice(start, start + size)
            products = self._query[rows] @ self._database.T
            distances = ((self.bits - products) / 2).astype(np.uint16)
            yield distances, query_labels[rows] @ database_labels.T > 0.5


def _count(distances, relevance, bits):
    """Items, and relevant items, at each distance: int ``(block, bits + 1)`` each."""
    size = len(distances)
    key = distances + np.arange(size, dtype=np.int32)[:, None] * (bits + 1)
    total = np.bincount(key.ravel(), minlength=size * (bits + 1))
    relevant = np.bincount(key[relevance], minlength=size * (bits + 1))
    return total.reshape(size, -1), relevant.reshape(size, -1)


def _rank(distances):
    """Order by distance, then index; numpy sorts uint16 stably by radix."""
    return np.argsort(distances, axis=1, kind="stable")


def _check_both_labels(query, database):
    """Label rows, float32, of queries and database, of one width."""
    classes = []
    for name, (labels, _) in (("query_labels", query), ("database_labels", database)):
        labels = np.asarray(labels)
        if labels.dtype.kind not in "uifb" or labels.ndim not in (1, 2):
            raise ValueError(
                f"`{name}` must be class ids (n,) or label rows (n, classes). Received "
                f"shape: {labels.shape}, dtype: {labels.dtype}."
            )
        ids = labels.ndim == 1 and labels.size and labels.dtype.kind in "ui"
        classes.append(int(labels.max()) + 1 if ids else labels.shape[-1])
    if np.ndim(query[0]) != np.ndim(database[0]) or (
        np.ndim(query[0]) == 2 and classes[0] != classes[1]
    ):
        raise ValueError(
            "`query_labels` and `database_labels` must have the same number of "
            f"classes. Received shapes: {np.shape(query[0])}, {np.shape(database[0])}."
        )
    return (
        inputs.check_labels(query[0], max(classes), query[1], name="query_labels"),
        inputs.check_labels(
            database[0], max(classes), database[1], name="database_labels"
        ),
    )


def _check_at(at, n):
    if at is None:
        return n
    if isinstance(at, bool) or not isinstance(at, int | np.integer):
        raise TypeError(f"`at` must be an integer or None. Received: at={at!r}.")
    if not 1 <= at <= n:
        raise ValueError(
            f"`at` must lie in 1 to the database size {n}. Received: at={at}."
        )
    return int(at)


def _check_choices(**choices):
    for name, value in choices.items():
        if value not in _CHOICES[name]:
            raise ValueError(
                f"`{name}` must be one of {_CHOICES[name]}. Received: {value!r}."
            )
