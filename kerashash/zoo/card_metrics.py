"""The metrics of a zoo entry's card, from the codes that the entry holds."""

import functools

from kerashash import evaluation
from kerashash.checks import check_integer
from kerashash.evaluation import label_distribution
from kerashash.evaluation.average_precision import Ranked
from kerashash.evaluation.choices import check_at, check_choices, check_ties


def measure(metrics, codes, bits):
    """Metrics of a card.

    Args:
        metrics: list of dicts, as `kerashash.zoo.save` takes them.
        codes: dict of arrays, likewise.
        bits: int.

    Returns:
        List of float; None where a metric says ``"measured": False``.

    Raises:
        TypeError, ValueError: if a metric or an array is not what it must be.

    Example:
        >>> import numpy as np
        >>> from kerashash import zoo
        >>> found = zoo.entry("dcdh-mirflickr-12")
        >>> codes = dict(np.load(found.path / "codes.npz"))
        >>> first = found.card["metrics"][:1]
        >>> bool(abs(measure(first, codes, bits=12)[0] - first[0]["value"]) < 1e-6)
        True
    """
    rows = {
        split: (codes[f"{split}_codes"], codes[f"{split}_labels"])
        for split in ("query", "database", "validation")
        if f"{split}_codes" in codes
    }

    # Once for all metrics.
    @functools.cache
    def ranked(database, first_labels):
        (query, its), (found, labels) = rows["query"], rows["database"]
        if database == "learned":
            found = codes["learned_database_codes"]
        if first_labels is not None:
            check_integer("first_labels", first_labels, most=labels.shape[1])
            its, labels = its[:, :first_labels], labels[:, :first_labels]
        return Ranked(query, its, found, labels, bits)

    @functools.cache
    def predicted(k):
        found, known = rows["database"]
        return label_distribution.hashed_distribution(
            rows["query"][0], found, known, k=k, bits=bits
        )

    def value(metric):
        if not metric.get("measured", True):
            return None
        if metric["name"] in label_distribution.MEASURES:
            its = label_distribution.MEASURES[metric["name"]]
            return its(rows["query"][1], predicted(metric["k"]))
        if metric["name"] == "SVM accuracy":
            parts = (rows[split] for split in ("database", "validation", "query"))
            return evaluation.svm_accuracy(*parts, bits=bits)
        choices = {name: metric[name] for name in ("denominator", "ties", "empty")}
        check_choices(database=metric["database"], **choices)
        its = ranked(metric["database"], metric.get("first_labels"))
        at = check_at(metric.get("at"), its.n)  # TOML has no null: absent is ALL
        check_ties(choices["ties"], choices["denominator"], at, its.n)
        return float(its.mean_average_precision(at, **choices))

    return [value(metric) for metric in metrics]
