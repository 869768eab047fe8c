"""The metrics of a zoo entry's card, from the codes that the entry holds."""

from kerashash import evaluation, label_distribution


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
        >>> from kerashash import zoo
        >>> found = zoo.entry("dcdh-mirflickr-12")
        >>> codes = dict(np.load(found.path / "codes.npz"))
        >>> first = found.card["metrics"][:1]
        >>> bool(abs(measure(first, codes, bits=12)[0] - first[0]["value"]) < 1e-6)
        True
    """
    return [_measure(metric, codes, bits) for metric in metrics]


def _measure(metric, codes, bits):
    if not metric.get("measured", True):
        return None
    rows = {
        split: (codes[f"{split}_codes"], codes[f"{split}_labels"])
        for split in ("query", "database", "validation")
        if f"{split}_codes" in codes
    }
    if metric["name"] in label_distribution.MEASURES:
        (queries, true), (database, known) = rows["query"], rows["database"]
        predicted = label_distribution.hashed_distribution(
            queries, database, known, k=metric["k"], bits=bits
        )
        return label_distribution.MEASURES[metric["name"]](true, predicted)
    if metric["name"] == "SVM accuracy":
        parts = (rows[split] for split in ("database", "validation", "query"))
        return evaluation.svm_accuracy(*parts, bits=bits)
    if metric["database"] == "learned":
        rows["database"] = codes["learned_database_codes"], rows["database"][1]
    return float(
        evaluation.mean_average_precision(
            *rows["query"],
            *rows["database"],
            bits=bits,
            at=metric.get("at"),  # TOML has no null: absent is ALL
            **{name: metric[name] for name in ("denominator", "ties", "empty")},
        )
    )
