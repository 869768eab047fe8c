"""Compute the metrics of an entry's card from what the entry stores."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from kerashash import evaluation
from kerashash.checks import check_integer
from kerashash.evaluation import label_distribution
from kerashash.evaluation.average_precision import Ranking
from kerashash.evaluation.choices import check_at, check_choices, check_ties


def check(metrics: Any, has_codes: bool = True) -> None:
    """Check that the metrics of a card say all that defines them.

    Args:
        metrics: list of dicts, as `kerashash.zoo.save` takes them.
        has_codes: bool; whether the entry's model does.

    Raises:
        ValueError: if it is no such list, a metric lacks a key, or it needs codes that
            the model does not have.

    Example:
        >>> check([{"name": "kl"}])
        Traceback (most recent call last):
        ValueError: The metric 'kl' must have the keys ['k']. Missing: ['k'].
    """
    valid = isinstance(metrics, list | tuple) and metrics
    if not valid or not all(
        isinstance(metric, Mapping) and isinstance(metric.get("name"), str)
        for metric in metrics
    ):
        raise ValueError(
            "`metrics` must be a list of dicts, each with a `name`. "
            f"Received: {repr(metrics)[:200]}."
        )
    for metric in metrics:
        if not has_codes and metric.get("measured", True):
            _check_without_codes(metric)
            continue
        keys: tuple[str, ...] = ("denominator", "ties", "empty", "database")
        if metric["name"] == "SVM accuracy" or not metric.get("measured", True):
            keys = ()
        elif metric["name"] in label_distribution.MEASURES:
            keys = ("k",)
        missing = [key for key in keys if key not in metric]
        if missing:
            raise ValueError(
                f"The metric {metric['name']!r} must have the keys {[*keys]}. "
                f"Missing: {missing}."
            )


def _check_without_codes(metric: Mapping[str, Any]) -> None:
    """Check a metric of a model that gives label distributions and no codes."""
    if metric["name"] not in label_distribution.MEASURES:
        raise ValueError(
            "`metrics` must be measures of label distributions, "
            f"{[*label_distribution.MEASURES]}, for a model without codes. Received: "
            f"{metric['name']!r}."
        )
    if "k" in metric:
        raise ValueError(
            f"The metric {metric['name']!r} must not have the key 'k' for a model "
            f"without codes, which has no neighbours. Received: k={metric['k']!r}."
        )


def _check_arrays(codes: Mapping[str, Any], required: set[str]) -> None:
    """Check that an entry has the arrays of its metrics."""
    missing = sorted(required - {*codes})
    if missing:
        raise ValueError(
            f"`codes` must have the arrays of the metrics. Missing: {missing}."
        )


def arrays_for(metrics: Sequence[Mapping[str, Any]]) -> set[str]:
    """Name the arrays that the metrics of a card need beside queries and database.

    Args:
        metrics: list of dicts, as `kerashash.zoo.save` takes them.

    Returns:
        Set of str.

    Example:
        >>> sorted(arrays_for([{"name": "SVM accuracy"}]))
        ['validation_codes', 'validation_labels']
    """
    measured = [metric for metric in metrics if metric.get("measured", True)]
    names = set()
    if any(metric["name"] == "SVM accuracy" for metric in measured):
        names |= {"validation_codes", "validation_labels"}
    if any(metric.get("database") == "learned" for metric in measured):
        names.add("learned_database_codes")
    return names


def measure(
    metrics: Sequence[Mapping[str, Any]],
    codes: Mapping[str, npt.NDArray[Any]],
    bits: int | None,
) -> list[float | None]:
    """Compute the metrics of a card.

    Args:
        metrics: list of dicts, the metrics as `kerashash.zoo.save` takes them.
        codes: dict of arrays, the codes and labels as `kerashash.zoo.save` takes them.
        bits: int, the code length; None if the model has no codes.

    Returns:
        List of float, one for each metric; None where a metric says
        ``"measured": False``.

    Raises:
        TypeError, ValueError: if a metric or an array is invalid or missing.

    Example:
        >>> import numpy as np
        >>> from kerashash import zoo
        >>> entry = zoo.entry("dcdh-ap-mirflickr-12")
        >>> codes = dict(np.load(entry.path / "codes.npz"))
        >>> metrics = entry.card["metrics"][:1]
        >>> values = measure(metrics, codes, bits=12)
        >>> bool(abs(values[0] - metrics[0]["value"]) < 1e-6)
        True
    """
    check(metrics, has_codes=bits is not None)
    if bits is None:
        _check_arrays(codes, {"query_labels", "query_distributions"})
        true, of_model = codes["query_labels"], codes["query_distributions"]
        return [
            label_distribution.MEASURES[metric["name"]](true, of_model)
            if metric.get("measured", True)
            else None
            for metric in metrics
        ]
    _check_arrays(codes, arrays_for(metrics))
    splits = {
        split: (codes[f"{split}_codes"], codes[f"{split}_labels"])
        for split in ("query", "database", "validation")
        if f"{split}_codes" in codes
    }

    # Cached: metrics of one card share rankings and predictions.
    @functools.cache
    def ranked(database: str, first_labels: int | None) -> Ranking:
        query_codes, query_labels = splits["query"]
        database_codes, database_labels = splits["database"]
        if database == "learned":
            database_codes = codes["learned_database_codes"]
        if first_labels is not None:
            check_integer("first_labels", first_labels, most=database_labels.shape[1])
            query_labels = query_labels[:, :first_labels]
            database_labels = database_labels[:, :first_labels]
        return Ranking(query_codes, query_labels, database_codes, database_labels, bits)

    @functools.cache
    def predicted(k: int) -> npt.NDArray[Any]:
        query_codes, _ = splits["query"]
        return label_distribution.hashed_distribution(
            query_codes, *splits["database"], k=k, bits=bits
        )

    def value(metric: Mapping[str, Any]) -> float | None:
        if not metric.get("measured", True):
            return None
        if metric["name"] in label_distribution.MEASURES:
            measure_of = label_distribution.MEASURES[metric["name"]]
            _, true = splits["query"]
            return measure_of(true, predicted(metric["k"]))
        if metric["name"] == "SVM accuracy":
            return evaluation.svm_accuracy(
                splits["database"], splits["validation"], splits["query"], bits=bits
            )
        choices = {name: metric[name] for name in ("denominator", "ties", "empty")}
        check_choices(database=metric["database"], **choices)
        ranking = ranked(metric["database"], metric.get("first_labels"))
        # TOML has no null: a metric without "at" means ALL.
        at = check_at(metric.get("at"), ranking.n)
        check_ties(choices["ties"], choices["denominator"], at, ranking.n)
        return float(ranking.mean_average_precision(at, **choices))

    return [value(metric) for metric in metrics]
