"""Label distributions: how to predict them from neighbours, and how to measure it.

In label distribution learning the label of an instance is a distribution over classes:
how far each class describes it, each value at least 0, all together 1. A prediction is
the mean distribution of the nearest training instances, by features
(`knn_distribution`) or by hash codes (`hashed_distribution`); `measures` compares
predictions with the truth by the six customary measures.
"""

import numpy as np

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


def chebyshev(true, predicted):
    """Mean of max_j |t_j - p_j|; 0 is best."""
    true, predicted = _pair(true, predicted)
    return float(np.abs(true - predicted).max(axis=1).mean())


def clark(true, predicted):
    """Mean of sqrt(sum_j (t_j - p_j)^2 / (t_j + p_j)^2); 0 is best."""
    true, predicted = _pair(true, predicted)
    terms = ((true - predicted) / (true + predicted)) ** 2
    return float(np.sqrt(terms.sum(axis=1)).mean())


def canberra(true, predicted):
    """Mean of sum_j |t_j - p_j| / (t_j + p_j); 0 is best."""
    true, predicted = _pair(true, predicted)
    terms = np.abs(true - predicted) / (true + predicted)
    return float(terms.sum(axis=1).mean())


def kl_divergence(true, predicted):
    """Mean of sum_j t_j ln(t_j / p_j); 0 is best."""
    true, predicted = _pair(true, predicted)
    return float((true * np.log(true / predicted)).sum(axis=1).mean())


def cosine(true, predicted):
    """Mean of the cosine of t and p; 1 is best."""
    true, predicted = _pair(true, predicted)
    norms = np.linalg.norm(true, axis=1) * np.linalg.norm(predicted, axis=1)
    return float(((true * predicted).sum(axis=1) / norms).mean())


def intersection(true, predicted):
    """Mean of sum_j min(t_j, p_j); 1 is best."""
    true, predicted = _pair(true, predicted)
    return float(np.minimum(true, predicted).sum(axis=1).mean())


MEASURES = {
    "chebyshev": chebyshev,
    "clark": clark,
    "canberra": canberra,
    "kl": kl_divergence,
    "cosine": cosine,
    "intersection": intersection,
}


def measures(true, predicted):
    """The six measures of label distribution learning, each a mean over rows.

    Values below 1e-6 count as 1e-6, in `true` and `predicted`, so that no measure
    divides by zero; rows are not made to sum to 1 again.

    Args:
        true: array ``(q, num_classes)``, label distributions.
        predicted: array ``(q, num_classes)``, label distributions.

    Returns:
        dict of float: "chebyshev", "clark", "canberra" and "kl", where 0 is best, and
        "cosine" and "intersection", where 1 is best.

    Raises:
        TypeError, ValueError: if an argument is wrong.

    Example:
        >>> true, predicted = np.array([[0.75, 0.25]]), np.array([[0.5, 0.5]])
        >>> found = measures(true, predicted)
        >>> round(found["chebyshev"], 2), round(found["intersection"], 2)
        (0.25, 0.75)

    Reference:
        X. Geng, Label Distribution Learning, TKDE 2016, table 1.
    """
    return {name: function(true, predicted) for name, function in MEASURES.items()}


def _pair(true, predicted):
    true = check_distributions(true, name="true")
    if not true.size:
        raise ValueError(
            f"`true` must have at least one row. Received shape: {true.shape}."
        )
    predicted = check_distributions(predicted, true.shape[1], len(true), "predicted")
    return (np.maximum(d.astype(np.float64), FLOOR) for d in (true, predicted))
