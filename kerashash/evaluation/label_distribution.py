"""Label distribution learning: the six customary measures, and predictions to measure.

In label distribution learning the label of an instance is a distribution over classes,
the degree to which each class describes it: values of at least 0 that sum to 1.

A common prediction is the mean distribution of the nearest training instances, by
features (`knn_distribution`) or by hash codes (`hashed_distribution`). `measures`
compares predictions with the truth; each of the six measures is also a function of its
own. In their formulas t and p are a true and a predicted row. Values below
`FLOOR` = 1e-6 count as 1e-6, in both, so that no measure divides by zero. Rows are
divided by their sums before, not after.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kerashash.checks import FLOOR, check_distributions
from kerashash.retrieval.prediction import hashed_distribution, knn_distribution

__all__ = [
    "FLOOR",
    "MEASURES",
    "canberra",
    "chebyshev",
    "check_distributions",
    "clark",
    "cosine",
    "hashed_distribution",
    "intersection",
    "kl_divergence",
    "knn_distribution",
    "measures",
]
__dir__ = __all__.copy  # what completion offers


def chebyshev(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Chebyshev distance; lower is better.

    Formula:
        mean over rows of max_j |t_j - p_j|

    Args:
        true: array ``(q, num_classes)``, label distributions.
        predicted: array ``(q, num_classes)``, label distributions.

    Returns:
        float, at least 0; 0 for a perfect prediction.

    Raises:
        TypeError, ValueError: if an argument is invalid.

    Example:
        >>> chebyshev([[0.75, 0.25]], [[0.5, 0.5]])
        0.25
    """
    true, predicted = _check_pair(true, predicted)
    return float(np.abs(true - predicted).max(axis=1).mean())


def clark(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Clark distance; lower is better.

    Formula:
        mean over rows of sqrt(sum_j (t_j - p_j)^2 / (t_j + p_j)^2)

    Args:
        true: array ``(q, num_classes)``, label distributions.
        predicted: array ``(q, num_classes)``, label distributions.

    Returns:
        float, at least 0; 0 for a perfect prediction.

    Raises:
        TypeError, ValueError: if an argument is invalid.

    Example:
        >>> round(clark([[0.75, 0.25]], [[0.5, 0.5]]), 4)
        0.3887
    """
    true, predicted = _check_pair(true, predicted)
    terms = ((true - predicted) / (true + predicted)) ** 2
    return float(np.sqrt(terms.sum(axis=1)).mean())


def canberra(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Canberra distance; lower is better.

    Formula:
        mean over rows of sum_j |t_j - p_j| / (t_j + p_j)

    Args:
        true: array ``(q, num_classes)``, label distributions.
        predicted: array ``(q, num_classes)``, label distributions.

    Returns:
        float, at least 0; 0 for a perfect prediction.

    Raises:
        TypeError, ValueError: if an argument is invalid.

    Example:
        >>> round(canberra([[0.75, 0.25]], [[0.5, 0.5]]), 4)
        0.5333
    """
    true, predicted = _check_pair(true, predicted)
    terms = np.abs(true - predicted) / (true + predicted)
    return float(terms.sum(axis=1).mean())


def kl_divergence(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Kullback-Leibler divergence of the prediction from the truth; lower is better.

    Formula:
        mean over rows of sum_j t_j ln(t_j / p_j)

    Args:
        true: array ``(q, num_classes)``, label distributions.
        predicted: array ``(q, num_classes)``, label distributions.

    Returns:
        float, in nats, at least 0; 0 for a perfect prediction.

    Raises:
        TypeError, ValueError: if an argument is invalid.

    Example:
        >>> round(kl_divergence([[0.75, 0.25]], [[0.5, 0.5]]), 4)
        0.1308
    """
    true, predicted = _check_pair(true, predicted)
    values = (true * np.log(true / predicted)).sum(axis=1)
    # The floor adds to the sums of rows: a row may come out up to 1e-6 a class below 0.
    return float(np.maximum(values, 0.0).mean())


def cosine(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Cosine similarity; higher is better.

    Formula:
        mean over rows of sum_j t_j p_j / (|t| |p|)

    Args:
        true: array ``(q, num_classes)``, label distributions.
        predicted: array ``(q, num_classes)``, label distributions.

    Returns:
        float in [0, 1]; 1 for a perfect prediction.

    Raises:
        TypeError, ValueError: if an argument is invalid.

    Example:
        >>> round(cosine([[0.75, 0.25]], [[0.5, 0.5]]), 4)
        0.8944
    """
    true, predicted = _check_pair(true, predicted)
    norms = np.linalg.norm(true, axis=1) * np.linalg.norm(predicted, axis=1)
    values = (true * predicted).sum(axis=1) / norms
    return float(np.minimum(values, 1.0).mean())  # rounding errors


def intersection(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Intersection similarity; higher is better.

    Formula:
        mean over rows of sum_j min(t_j, p_j)

    Args:
        true: array ``(q, num_classes)``, label distributions.
        predicted: array ``(q, num_classes)``, label distributions.

    Returns:
        float in [0, 1]; 1 for a perfect prediction.

    Raises:
        TypeError, ValueError: if an argument is invalid.

    Example:
        >>> intersection([[0.75, 0.25]], [[0.5, 0.5]])
        0.75
    """
    true, predicted = _check_pair(true, predicted)
    values = np.minimum(true, predicted).sum(axis=1)
    return float(np.minimum(values, 1.0).mean())  # the floor adds to the sums of rows


#: The six measures by the names that `measures` and the metrics of zoo cards use.
MEASURES: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], float]] = {
    "chebyshev": chebyshev,
    "clark": clark,
    "canberra": canberra,
    "kl": kl_divergence,
    "cosine": cosine,
    "intersection": intersection,
}


def measures(true: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, float]:
    """The six measures of label distribution learning, each a mean over rows.

    Args:
        true: array ``(q, num_classes)``, label distributions.
        predicted: array ``(q, num_classes)``, label distributions.

    Returns:
        dict of float: "chebyshev", "clark", "canberra" and "kl", where lower is better
        and 0 is best; "cosine" and "intersection", where higher is better and 1 is
        best.

    Raises:
        TypeError, ValueError: if an argument is invalid.

    Example:
        >>> values = measures([[0.75, 0.25]], [[0.5, 0.5]])
        >>> values["chebyshev"], values["intersection"]
        (0.25, 0.75)

    Reference:
        X. Geng, Label Distribution Learning, TKDE 2016, table 1.
    """
    return {name: measure(true, predicted) for name, measure in MEASURES.items()}


def _check_pair(
    true: npt.ArrayLike, predicted: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two checked arrays of distributions of one shape, with rows divided by their
    sums, then floored, as float64."""
    true = check_distributions(true, name="true")
    if not true.size:
        raise ValueError(
            f"`true` must have at least one row. Received shape: {true.shape}."
        )
    predicted = check_distributions(predicted, true.shape[1], len(true), "predicted")
    return _floored(true), _floored(predicted)


def _floored(d: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    d = d.astype(np.float64)
    # A sum may be 1e-3 off, and the measures would leave their ranges.
    return np.maximum(d / d.sum(axis=1, keepdims=True), FLOOR)
