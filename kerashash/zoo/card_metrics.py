"""Compute the metrics of an entry's card from what the entry stores."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from kerashash import checks, evaluation
from kerashash.checks import check_integer
from kerashash.evaluation import label_distribution
from kerashash.evaluation.average_precision import Ranking
from kerashash.evaluation.choices import CHOICES, check_at, check_ties, metric_name

if TYPE_CHECKING:  # they import TensorFlow
    from kerashash.data import DistributionData, RetrievalData


# What defines a mean average precision, and what may limit it or a measure.
_DEFINITION = ("denominator", "ties", "empty", "database")
_INTEGERS = ("at", "first_labels", "k")
# What only a measurement writes.
_MEASURED = ("value", "by_seed", "recomputed")
_SVM = "SVM accuracy"


def check(metrics: Any, has_codes: bool = True) -> None:
    """Check that the metrics of a card say all that defines them, and nothing else.

    A key that does not define its metric must be a text about it: with a number it
    would be a definition that nothing reads.

    Args:
        metrics: list of dicts, as `kerashash.zoo.save` takes them.
        has_codes: bool; whether the entry's model does.

    Raises:
        TypeError: if a value has the wrong type.
        ValueError: if it is no such list, a metric lacks a key, has one that is not for
            it or a value that is not allowed, its name is not that of what is measured,
            or it needs codes that the model does not have.

    Example:
        >>> check([{"name": "kl"}])
        Traceback (most recent call last):
        ValueError: The metric 'kl' must have the keys ['k']. Missing: ['k'].
        >>> check([{"name": "kl", "k": 30}])
    """
    _check_definitions(metrics, has_codes)
    for metric in metrics:
        _check_name(metric)
        for key in _other_keys(metric, has_codes):
            if key not in _MEASURED and not isinstance(metric[key], str):
                raise ValueError(
                    f"The metric {metric['name']!r} must have no other keys than "
                    f"{sorted(_keys(metric, has_codes))}, but for texts. Received: "
                    f"{key}={metric[key]!r}."
                )


def check_recipe(metrics: Any, has_codes: bool = True) -> None:
    """Check the metrics of a recipe: those of a card that nobody has measured yet.

    Args:
        metrics: list of dicts, the tables ``entry.metrics`` of a recipe.
        has_codes: bool; whether the entry's model does.

    Raises:
        TypeError, ValueError: as `check`, or if a metric has any other key, such as the
            value that the training is to measure.

    Example:
        >>> check_recipe([{"name": "kl", "k": 30}])
        >>> try:
        ...     check_recipe([{"name": "kl", "k": 30, "value": 0.1}])
        ... except ValueError as error:
        ...     print(str(error).split(". ")[1])
        Received: ['value'].
    """
    _check_definitions(metrics, has_codes)
    for metric in metrics:
        others = _other_keys(metric, has_codes)
        if others:
            raise ValueError(
                f"The metric {metric['name']!r} must have no other keys than "
                f"{sorted(_keys(metric, has_codes))}. Received: {others}."
            )
    check(metrics, has_codes)


def check_data(
    metrics: Sequence[Mapping[str, Any]], rows: "RetrievalData | DistributionData"
) -> None:
    """Check that metrics can be measured on a data set, before a training.

    Args:
        metrics: list of dicts that `check` accepts.
        rows: `kerashash.data.RetrievalData` or `kerashash.data.DistributionData`.

    Raises:
        ValueError: if a metric is of another kind of data, or needs more of it.

    Example:
        >>> import kerashash
        >>> digits = kerashash.data.load("digits")
        >>> check_data([{"name": "kl", "k": 30}], digits)
        Traceback (most recent call last):
        ValueError: `metrics` must fit the data. Received: 'kl' of class labels.
    """
    splits = getattr(rows, "splits", None)  # label distributions have none
    for metric in metrics:
        name = metric["name"]
        if not metric.get("measured", True):
            continue
        if (name in label_distribution.MEASURES) == (splits is not None):
            kind = "label distributions" if splits is None else "class labels"
            raise ValueError(
                f"`metrics` must fit the data. Received: {name!r} of {kind}."
            )
        for key, most in (
            ("at", rows.num_database),
            ("k", rows.num_database),
            ("first_labels", rows.num_classes),
        ):
            if metric.get(key) is not None:
                check_integer(f"metrics.{key}", metric[key], most=most)
        if name == _SVM and not len((splits or {}).get("validation", ())):
            raise ValueError(
                f"The metric {name!r} needs validation images, as by `validation` of "
                "`kerashash.data.load`. Received data without."
            )
        if "ties" in metric:
            at = check_at(metric.get("at"), rows.num_database)
            check_ties(metric["ties"], metric["denominator"], at, rows.num_database)


def _check_definitions(metrics: Any, has_codes: bool) -> None:
    """Check what measuring needs of metrics; cards of long ago may say more."""
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
        measured = metric.get("measured", True)
        if not isinstance(measured, bool):
            raise TypeError(
                f"`metrics.measured` must be true or false. Received: {measured!r}."
            )
        if not measured:
            continue
        if not has_codes:
            _check_without_codes(metric)
        required, _ = _defining(metric, has_codes)
        missing = [key for key in required if key not in metric]
        if missing:
            raise ValueError(
                f"The metric {metric['name']!r} must have the keys {[*required]}. "
                f"Missing: {missing}."
            )
        for key in _DEFINITION:
            if key in metric:
                allowed = {f"metrics.{key}": CHOICES[key]}
                checks.check_choices(allowed, **{f"metrics.{key}": metric[key]})
        for key in _INTEGERS:
            # In Python, None stands for no "at"; TOML has none.
            if metric.get(key) is not None:
                check_integer(f"metrics.{key}", metric[key])


def _defining(
    metric: Mapping[str, Any], has_codes: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys that define a metric: those that it must have, and that it may have."""
    if not metric.get("measured", True):
        return (), (*_DEFINITION, *_INTEGERS)
    if metric["name"] in label_distribution.MEASURES:
        return (("k",) if has_codes else ()), ("database",)
    if metric["name"] == _SVM:
        return (), ("database",)
    return _DEFINITION, ("at", "first_labels")


def _keys(metric: Mapping[str, Any], has_codes: bool) -> set[str]:
    """All keys by which a metric is defined, with those of every metric."""
    required, optional = _defining(metric, has_codes)
    return {"name", "measured", *required, *optional}


def _other_keys(metric: Mapping[str, Any], has_codes: bool) -> list[str]:
    """The keys of a metric that do not define it."""
    return sorted({*metric} - _keys(metric, has_codes))


def _check_name(metric: Mapping[str, Any]) -> None:
    """Check that a metric has the name of what is measured."""
    name = metric["name"]
    if not metric.get("measured", True):
        return
    if name in label_distribution.MEASURES or name == _SVM:
        # No other codes are measured.
        checks.check_choices(
            {"metrics.database": ("encoded",)},
            **{"metrics.database": metric.get("database", "encoded")},
        )
        return
    expected = metric_name(metric.get("at"))
    if name != expected:
        names = [expected, *label_distribution.MEASURES, _SVM]
        raise ValueError(
            f"`metrics.name` must be one of {names}, the first with "
            f"at={metric.get('at')}. Received: {name!r}."
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
    if any(metric["name"] == _SVM for metric in measured):
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
    _check_definitions(metrics, has_codes=bits is not None)
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
        if metric["name"] == _SVM:
            return evaluation.svm_accuracy(
                splits["database"], splits["validation"], splits["query"], bits=bits
            )
        choices = {name: metric[name] for name in ("denominator", "ties", "empty")}
        ranking = ranked(metric["database"], metric.get("first_labels"))
        # TOML has no null: a metric without "at" means ALL.
        at = check_at(metric.get("at"), ranking.n)
        check_ties(choices["ties"], choices["denominator"], at, ranking.n)
        return float(ranking.mean_average_precision(at, **choices))

    return [value(metric) for metric in metrics]
