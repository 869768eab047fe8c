"""Label distributions predicted from the nearest training rows."""

import numpy as np

from kerashash.checks import check_array, check_distributions, check_integer
from kerashash.retrieval.ranker import HammingRanker

# Distances computed at a time.
_BLOCK_ENTRIES = 1 << 23


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
