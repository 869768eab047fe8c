"""The similarity graph of label distributions: products with it and a loss against it.

The nodes are instances; the weight of an edge is the cosine of the label distributions
of its two ends. The n x n adjacency matrix is never in memory as a whole, only a block
of its rows at a time. Blocks are dense tensors, because the graph is dense: in the data
sets of the zoo, 45 to 100 % of the cosines are at least 0.5.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import (
    check_array,
    check_choices,
    check_distributions,
    check_fraction,
)
from kerashash.forks import check_not_forked
from kerashash.maths.precision import float_tensors

__all__ = [
    "adjacency_blocks",
    "aggregate",
    "graph_product",
    "relation_loss",
]
__dir__ = __all__.copy  # what completion offers

#: How the adjacency matrix can be normalised.
ADJACENCIES = ("sym", "row", "raw")
# Rows of the n x n matrix in memory at a time.
_BLOCK_ROWS = 1024
# The cosine of equal rows is 1 but for rounding errors, which no threshold must see.
_ROUNDING = 2e-6


def graph_product(
    d: tf.Tensor, x: tf.Tensor, threshold: float | tf.Tensor
) -> tf.Tensor:
    """Product of the adjacency matrix and a matrix, in O(n) memory.

    Formula:
        S~ X,  S~_ij = cos(d_i, d_j) if cos(d_i, d_j) >= beta, else 0

    A cosine within 2e-6 of 1 counts as 1, and so do those of rows with themselves.

    Args:
        d: float tensor ``(n, num_classes)``; the label distributions, scaled to rows
            of Euclidean length 1.
        x: float tensor ``(n, dim)``; X.
        threshold: float; beta.

    Returns:
        Float tensor ``(n, dim)``, computed in O(n^2 dim) time.

    Example:
        >>> graph_product(tf.eye(2), tf.constant([[2.0], [3.0]]), 0.5).numpy()
        array([[2.],
               [3.]], dtype=float32)
    """
    d, x = float_tensors(d=d, x=x)
    threshold = tf.cast(threshold, d.dtype)
    n = tf.shape(d)[0]
    size = tf.minimum(n, _BLOCK_ROWS)
    # Zero rows, so that every block is full.
    padded = tf.pad(d, [[0, -n % size], [0, 0]])

    def product(rows: tf.Tensor) -> tf.Tensor:
        return tf.matmul(_rows(rows, d, threshold), x)

    blocks = tf.reshape(padded, (-1, size, tf.shape(d)[1]))
    return tf.reshape(tf.map_fn(product, blocks), (-1, tf.shape(x)[1]))[:n]


def adjacency_blocks(
    d: npt.ArrayLike | tf.Tensor, threshold: float = 0.5, adjacency: str = "sym"
) -> Iterator[tf.Tensor]:
    """The adjacency matrix, in blocks of its rows.

    Formula:
        A = G^-1/2 S~ G^-1/2 ("sym"), G^-1 S~ ("row") or S~ ("raw")

    with S~ as in `graph_product` and the diagonal matrix of degrees G = diag(S~ 1).

    Args:
        d: array ``(n, num_classes)``; label distributions.
        threshold: float in [0, 1]; beta.
        adjacency: str; "sym", "row" or "raw", how A is normalised.

    Yields:
        float32 tensors ``(rows, n)``, of 1024 rows; the last has the rest.

    Raises:
        TypeError: if the values of `d` or `threshold` are not numbers.
        ValueError: if a row of `d` is not a distribution, `threshold` is not in [0, 1],
            or `adjacency` is no choice.

    Example:
        >>> d = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
        >>> next(adjacency_blocks(d)).numpy().round(3)
        array([[0.5, 0.5, 0. ],
               [0.5, 0.5, 0. ],
               [0. , 0. , 1. ]], dtype=float32)

    Reference:
        DDH-LDL (Zhang et al., IEEE SPL 2022), eq. 2; "sym" is the normalisation of
        T. N. Kipf and M. Welling, Semi-Supervised Classification with Graph
        Convolutional Networks, ICLR 2017. It needs no self-loops to be added: the
        diagonal of S~ is 1.
    """
    check_choices({"adjacency": ADJACENCIES}, adjacency=adjacency)
    check_fraction(threshold=threshold)
    check_not_forked()
    return _blocks(check_distributions(d), threshold, adjacency)


def _blocks(
    d: npt.NDArray[np.float32], threshold: float, adjacency: str
) -> Iterator[tf.Tensor]:
    """The blocks of `adjacency_blocks`, one after the other."""
    if not len(d):
        return
    d = tf.math.l2_normalize(tf.constant(d), axis=1)
    threshold = tf.constant(threshold, tf.float32)
    ones = tf.ones((d.shape[0], 1))
    left = right = ones  # A_ij = left_i S~_ij right_j
    if adjacency != "raw":
        degrees = _traced_product(d, ones, threshold)  # (n, 1)
        left = 1.0 / degrees if adjacency == "row" else tf.math.rsqrt(degrees)
        right = ones if adjacency == "row" else left
    for start in range(0, d.shape[0], _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        yield _rows(d[block], d, threshold) * left[block] * tf.transpose(right)


@tf.function(reduce_retracing=True)
def _rows(rows: tf.Tensor, d: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Rows of S~."""
    cosines = tf.matmul(rows, d, transpose_b=True)
    cosines = tf.where(cosines > 1.0 - _ROUNDING, tf.ones_like(cosines), cosines)
    return tf.where(cosines < threshold, tf.zeros_like(cosines), cosines)


@tf.function(reduce_retracing=True)
def _traced_product(d: tf.Tensor, x: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """`graph_product`, as one graph."""
    return graph_product(d, x, threshold)


def aggregate(
    d: npt.ArrayLike | tf.Tensor,
    x: npt.ArrayLike | tf.Tensor,
    threshold: float = 0.5,
    adjacency: str = "sym",
) -> tf.Tensor:
    """Features aggregated over the graph, the input of a graph convolution.

    Formula:
        A X,  A as in `adjacency_blocks`

    Args:
        d: array ``(n, num_classes)``; label distributions.
        x: array ``(n, dim)``; features, X.
        threshold: float in [0, 1]; beta.
        adjacency: str; "sym", "row" or "raw", how A is normalised.

    Returns:
        float32 tensor ``(n, dim)``.

    Raises:
        TypeError, ValueError: as `adjacency_blocks`; and if `x` has another number of
            rows, or values that are not finite.

    Example:
        >>> aggregate(tf.eye(2), tf.constant([[2.0], [3.0]])).numpy()
        array([[2.],
               [3.]], dtype=float32)

    Reference:
        DDH-LDL (Zhang et al., IEEE SPL 2022), eq. 2 and 3.
    """
    d = check_distributions(d)
    x = check_array(x, (len(d), None)).astype(np.float32, copy=False)
    blocks = adjacency_blocks(d, threshold, adjacency)
    # No rows have no blocks.
    none = tf.zeros((0, x.shape[1]))
    return tf.concat([none, *(tf.matmul(a, x) for a in blocks)], axis=0)


def relation_loss(
    h: tf.Tensor, d: tf.Tensor, threshold: float | tf.Tensor | None = None
) -> tf.Tensor:
    """Squared error between cosines of codes and cosines of label distributions.

    Formula:
        mean over i, j of (cos(h_i, h_j) - T_ij)^2
        T_ij = cos(d_i, d_j) if cos(d_i, d_j) >= beta, else 0

    Args:
        h: float tensor ``(n, bits)``; continuous codes.
        d: float tensor ``(n, num_classes)``; label distributions.
        threshold: float or None; beta. None keeps every cosine.

    Returns:
        Scalar float tensor, with a gradient with respect to `h` only. Memory is O(n);
        time is O(n) without a threshold and O(n^2) with one.

    Example:
        >>> float(relation_loss(tf.eye(2), tf.eye(2)))
        0.0

    Reference:
        DDH-LDL (Zhang et al., IEEE SPL 2022), eq. 5.
    """
    h, d = float_tensors(h=h, d=d)
    h = tf.math.l2_normalize(h, axis=1)
    d = tf.stop_gradient(tf.math.l2_normalize(d, axis=1))
    # ||H H^T - T||^2 = ||H^T H||^2 - 2 tr(H^T T H) + ||T||^2
    code_term = tf.reduce_sum(tf.matmul(h, h, transpose_a=True) ** 2)
    if threshold is None:
        # T = D D^T, so the other terms factorise as well.
        cross_term = tf.reduce_sum(tf.matmul(h, d, transpose_a=True) ** 2)
        label_term = tf.reduce_sum(tf.matmul(d, d, transpose_a=True) ** 2)
    else:
        # One product with T gives T H and T D. No gradient flows through it: T is
        # symmetric, so the gradient of tr(H^T T H) is 2 T H, which is the gradient of
        # tr((2 H - fixed)^T T fixed) as well, and the two have the same value.
        fixed = tf.stop_gradient(h)
        product = graph_product(d, tf.concat([fixed, d], axis=1), threshold)
        product = tf.stop_gradient(product)  # (n, bits + num_classes)
        cross_term = tf.reduce_sum((2.0 * h - fixed) * product[:, : h.shape[1]])
        # T_ij is either the cosine or 0, so ||T||^2 = tr(D^T T D).
        label_term = tf.reduce_sum(d * product[:, h.shape[1] :])
    n = tf.cast(tf.shape(h)[0], h.dtype)
    return (code_term - 2.0 * cross_term + label_term) / n**2
