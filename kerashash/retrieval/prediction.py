"""Label distributions predicted from the nearest training rows."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import as_floats, check_distributions, check_integer

# Distances in memory at a time.
_BLOCK_DISTANCES = 1 << 23


def knn_distribution(
    queries: npt.ArrayLike, x: npt.ArrayLike, d: npt.ArrayLike, k: int = 30
) -> npt.NDArray[np.float32]:
    """Mean label distribution of the k nearest training rows, by Euclidean distance.

    This is the baseline AA-kNN. Distances are computed in float64. Of equally near
    rows, the first ones are taken.

    Args:
        queries: array ``(q, dim)``; feature vectors.
        x: array ``(n, dim)``; feature vectors of the training rows.
        d: array ``(n, num_classes)``; label distributions of the training rows.
        k: int; from 1 to n.

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
    rows = _vectors(x, "x")
    d = check_distributions(d, n=len(rows))
    asked = _vectors(queries, "queries", rows.shape[1])
    k = check_integer("k", k, most=len(rows))
    # By a power of two, which rounds nothing: squares of large numbers are infinite.
    largest = max(np.abs(rows).max(initial=0.0), np.abs(asked).max(initial=0.0))
    for vectors in (rows, asked):
        np.ldexp(vectors, -np.frexp(largest)[1], out=vectors)
    squares = (rows**2).sum(axis=1)
    predictions = np.zeros((len(asked), d.shape[1]), np.float32)
    size = max(1, _BLOCK_DISTANCES // len(rows))
    for start in range(0, len(asked), size):
        # |x - q|^2 without |q|^2, which does not change the order.
        block = squares - 2.0 * asked[start : start + size] @ rows.T
        for row, approximate in enumerate(block, start):
            nearest = _nearest(asked[row], rows, squares, approximate, k)
            predictions[row] = d[nearest].mean(axis=0, dtype=np.float64)
    return predictions


def _vectors(
    x: npt.ArrayLike, name: str, dim: int | None = None
) -> npt.NDArray[np.float64]:
    """A copy in float64, which tells numbers apart that float32 does not."""
    vectors = as_floats(x, name).astype(np.float64)
    if vectors.ndim != 2 or (dim is not None and vectors.shape[1] != dim):
        raise ValueError(
            f"`{name}` must have shape (n, {'any' if dim is None else dim}). "
            f"Received shape: {vectors.shape}."
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"`{name}` must be finite. Received NaN or infinity in rows "
            f"{np.flatnonzero(~finite)[:5].tolist()}."
        )
    return vectors


def _nearest(
    query: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    approximate: npt.NDArray[np.float64],
    k: int,
) -> npt.NDArray[np.intp]:
    """Return the k nearest rows of a query, the first ones of equally near rows.

    Args:
        query: array ``(dim,)``.
        x: array ``(n, dim)``.
        squares: array ``(n,)``; ``|x|^2``.
        approximate: array ``(n,)``; ``|x - query|^2 - |query|^2``, computed from inner
            products, whose rounding errors grow with the norms.
        k: int; from 1 to n.

    Returns:
        int array ``(k,)``, in no particular order.
    """
    precision, dim = np.finfo(np.float64).eps, len(query)
    error = 4.0 * (dim + 2) * precision * (squares + query @ query)
    bound = np.partition(approximate + error, k - 1)[k - 1]
    rows = np.flatnonzero(approximate - error <= bound)  # at least k
    distances = ((x[rows] - query) ** 2).sum(axis=1)
    last = np.partition(distances, k - 1)[k - 1]
    # Rounding errors must not decide which of equally near rows are taken.
    nearer = distances < last * (1.0 - min(dim + 2, 32) * precision)
    tied = ~nearer & (distances <= last * (1.0 + min(dim + 2, 32) * precision))
    return np.concatenate([rows[nearer], rows[tied][: k - np.count_nonzero(nearer)]])


def hashed_distribution(
    queries: npt.ArrayLike,
    codes: npt.ArrayLike,
    d: npt.ArrayLike,
    k: int = 30,
    bits: int | None = None,
) -> npt.NDArray[np.float32]:
    """Mean label distribution of the k nearest training rows, by Hamming distance.

    Of equally near rows, the first ones are taken.

    Args:
        queries: array of q rows; hash codes in a format of `codes`.
        codes: uint8 array ``(n, ceil(bits / 8))`` of packed codes, or array ``(n,
            bits)`` over {-1, +1}; hash codes of the training rows.
        d: array ``(n, num_classes)``; label distributions of the training rows.
        k: int; from 1 to n.
        bits: int or None; the code length. None is allowed for unpacked codes.

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
    from kerashash.retrieval.ranker import HammingRanker  # it imports TensorFlow

    ranker = HammingRanker(codes, bits)
    d = check_distributions(d, n=ranker.size)
    k = check_integer("k", k, most=ranker.size)
    _, nearest = ranker.top_k(queries, k)
    predictions = np.zeros((len(nearest), d.shape[1]), np.float32)
    for row, rows in enumerate(nearest):
        predictions[row] = d[rows].mean(axis=0, dtype=np.float64)
    return predictions
