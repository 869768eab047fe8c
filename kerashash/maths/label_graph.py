"""The graph of label distributions: products with it, and a loss against it.

Nodes are instances; an edge weighs the cosine of their label distributions. The n x n
matrix is never built: what is needed of it is computed from blocks of rows.
"""

import tensorflow as tf

__all__ = [
    "aggregate",
    "graph_product",
    "relation_loss",
]

# Rows of the n x n matrix in memory at a time.
_BLOCK = 1024


def graph_product(d, x, threshold):
    """Products with the graph.

    Formula:
        S~ X,  S~_ij = cos(d_i, d_j) if that is at least the threshold, else 0

    Args:
        d: float tensor ``(n, num_classes)``, rows of length 1.
        x: float tensor ``(n, dim)``.
        threshold: float, beta.

    Returns:
        float tensor ``(n, dim)``. Memory is O(n) and time O(n^2 dim).

    Example:
        >>> graph_product(tf.eye(2), tf.constant([[2.0], [3.0]]), 0.5).numpy()
        array([[2.],
               [3.]], dtype=float32)
    """
    n = tf.shape(d)[0]
    size = tf.minimum(n, _BLOCK)
    # Rows of zeros fill the last block.
    padded = tf.pad(d, [[0, -n % size], [0, 0]])

    def product(rows):
        cosines = tf.matmul(rows, d, transpose_b=True)
        return tf.matmul(tf.where(cosines < threshold, 0.0, cosines), x)

    blocks = tf.reshape(padded, (-1, size, tf.shape(d)[1]))
    return tf.reshape(tf.map_fn(product, blocks), (-1, tf.shape(x)[1]))[:n]


@tf.function(reduce_retracing=True)
def _traced_product(d, x, threshold):
    return graph_product(d, x, threshold)


def aggregate(d, x, threshold=0.5, adjacency="sym"):
    """What a graph convolution sees of each instance: A X.

    Args:
        d: array ``(n, num_classes)``, label distributions.
        x: array ``(n, dim)``, features.
        threshold: float, beta.
        adjacency: "sym", A = G^-1/2 S~ G^-1/2 with G = diag(S~ 1); "row",
            A = G^-1 S~; or "raw", A = S~.

    Returns:
        float32 tensor ``(n, dim)``.

    Example:
        >>> aggregate(tf.eye(2), tf.constant([[2.0], [3.0]])).numpy()
        array([[2.],
               [3.]], dtype=float32)

    Reference:
        DDH-LDL, eq. 2; "sym" is that of T. N. Kipf and M. Welling, Semi-Supervised
        Classification with Graph Convolutional Networks, ICLR 2017. Each instance is
        its own neighbour already: S~ has ones on its diagonal.
    """
    d = tf.math.l2_normalize(tf.cast(d, tf.float32), axis=1)
    x = tf.cast(x, tf.float32)
    threshold = tf.constant(threshold, tf.float32)
    if adjacency == "raw":
        return _traced_product(d, x, threshold)
    degrees = _traced_product(d, tf.ones((d.shape[0], 1)), threshold)
    if adjacency == "row":
        return _traced_product(d, x, threshold) / degrees
    return _traced_product(d, x / tf.sqrt(degrees), threshold) / tf.sqrt(degrees)


def relation_loss(h, d, threshold=None):
    """How far cosines of codes are from cosines of label distributions.

    Formula:
        mean_ij (cos(h_i, h_j) - T_ij)^2

    with T_ij = cos(d_i, d_j), or 0 where that is below the threshold.

    Args:
        h: float tensor ``(n, bits)``, continuous codes.
        d: float tensor ``(n, num_classes)``, label distributions.
        threshold: float, beta, or None for none.

    Returns:
        Scalar float tensor. Its gradient reaches `h` alone. Memory is O(n); time is
        O(n) without a threshold, else O(n^2).

    Example:
        >>> float(relation_loss(tf.eye(2), tf.eye(2)))
        0.0

    Reference:
        DDH-LDL, eq. 5.
    """
    h = tf.math.l2_normalize(h, axis=1)
    d = tf.stop_gradient(tf.math.l2_normalize(d, axis=1))
    # ||H H^T - T||^2 = ||H^T H||^2 - 2 tr(H^T T H) + ||T||^2
    codes = tf.reduce_sum(tf.matmul(h, h, transpose_a=True) ** 2)
    if threshold is None:
        cross = tf.reduce_sum(tf.matmul(h, d, transpose_a=True) ** 2)
        labels = tf.reduce_sum(tf.matmul(d, d, transpose_a=True) ** 2)
    else:
        # T is symmetric: the gradient of tr(H^T T H) is 2 T H, one product for both.
        fixed = tf.stop_gradient(h)
        product = graph_product(d, tf.concat([fixed, d], axis=1), threshold)
        product = tf.stop_gradient(product)
        cross = tf.reduce_sum((2.0 * h - fixed) * product[:, : h.shape[1]])
        # A cosine is kept or 0, so ||T||^2 = tr(D^T T D).
        labels = tf.reduce_sum(d * product[:, h.shape[1] :])
    n = tf.cast(tf.shape(h)[0], h.dtype)
    return (codes - 2.0 * cross + labels) / n**2
