"""Label distributions: how to predict them from neighbours, and how to measure it.

In label distribution learning the label of an instance is a distribution over classes:
how far each class describes it, each value at least 0, all together 1. A prediction is
the mean distribution of the nearest training instances, by features
(`knn_distribution`) or by hash codes (`hashed_distribution`); `measures` compares
predictions with the truth by the six customary measures.
"""

import numpy as np

from kerashash.input_checks import check_array
from kerashash.options import check_integer
from kerashash.ranker import HammingRanker

# The least value of a class wherever a measure divides or takes a logarithm.
FLOOR = 1e-6
# Distances computed at a time.
_BLOCK_ENTRIES = 1 << 23


def check_distributions(d, num_classes=None, n=None, name="d"):
    """Validate label distributions.

    Args:
        d: array ``(n, num_classes)``: finite, at least 0, rows that sum to 1 within
            1e-3.
        num_classes: int or None, the width to demand.
        n: int or None, the number of rows to demand.
        name: str, the argument to name in an error.

    Returns:
        float32 array ``(n, num_classes)``.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong or a row is no distribution.
    """
    d = check_array(d, (None, num_classes), name)
    if n is not None and len(d) != n:
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs. "
            f"Received shape: {d.shape}."
        )
    negative = (d < 0).any(axis=1)
    if negative.any():
        raise ValueError(
            f"`{name}` must be at least 0. Received negative values in rows "
            f"{np.flatnonzero(negative)[:5].tolist()}."
        )
    sums = d.sum(axis=1, dtype=np.float64)
    wrong = np.abs(sums - 1.0) > 1e-3
    if wrong.any():
        raise ValueError(
            f"`{name}` must have rows that sum to 1. Received the sums "
            f"{sums[wrong][:5].round(4).tolist()} in rows "
            f"{np.flatnonzero(wrong)[:5].tolist()}."
        )
    return d.astype(np.float32, copy=False)


def knn_distribution(queries, x, d, k=30):
    """Mean label distribution of the k nearest training rows, by Euclidean distance.

    The baseline AA-kNN. Of rows equally far, those that come first count.

    Args:
        queries: array ``(q, dim)``.
        x: array ``(n, dim)``, the training rows.
        d: array ``(n, num_classes)``, their label distributions.
        k: int, 1 to n.

    Returns:
        float32 array ``(q, num_classes)``.

    Raises:
        TypeError, ValueError: if an argument is wrong.

    Example:
        >>> x, d = np.array([[0.0], [1.0], [9.0]]), np.eye(3)
        >>> knn_distribution(np.array([[0.4]]), x, d, k=2)
        array([[0.5, 0.5, 0. ]], dtype=float32)

    Reference:
        X. Geng, Label Distribution Learning, TKDE 2016, section 3.2.
    """
    x = check_array(x, (None, None))
    d = check_distributions(d, n=len(x))
    queries = check_array(queries, (None, x.shape[1]), "queries")
    check_integer("k", k, most=len(x))
    x, queries = x.astype(np.float64), queries.astype(np.float64)
    # |x - q|^2 without |q|^2, the same for all x.
    squares = (x**2).sum(axis=1)
    rows = [np.zeros((0, d.shape[1]), np.float32)]
    size = max(1, _BLOCK_ENTRIES // len(x))
    for start in range(0, len(queries), size):
        distances = squares - 2.0 * queries[start : start + size] @ x.T
        # Distances of equal rows differ by rounding: not enough to order by.
        nearest = np.argsort(distances.round(9), axis=1, kind="stable")[:, :k]
        rows.append(d[nearest].mean(axis=1))
    return np.concatenate(rows)


def hashed_distribution(queries, codes, d, k=30, bits=None):
    """Mean label distribution of the k nearest training rows, by Hamming distance.

    Of rows equally far, those that come first count.

    Args:
        queries: hash codes of q rows, as `codes`.
        codes: hash codes of the n training rows: packed uint8 ``(n, ceil(bits / 8))``,
            or ``(n, bits)`` over {-1, +1}.
        d: array ``(n, num_classes)``, their label distributions.
        k: int, 1 to n.
        bits: int, the code length; may be left out for unpacked codes.

    Returns:
        float32 array ``(q, num_classes)``.

    Raises:
        TypeError, ValueError: if an argument is wrong.

    Example:
        >>> codes, d = np.array([[1, 1], [1, -1], [-1, -1]]), np.eye(3)
        >>> hashed_distribution(np.array([[1, 1]]), codes, d, k=2)
        array([[0.5, 0.5, 0. ]], dtype=float32)

    Reference:
        DDH-LDL (Zhang et al., IEEE SPL 2022), eq. 12.
    """
    ranker = HammingRanker(codes, bits)
    d = check_distributions(d, n=ranker.size)
    check_integer("k", k, most=ranker.size)
    _, nearest = ranker.top_k(queries, k)
    return d[nearest].mean(axis=1)


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
