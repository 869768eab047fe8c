"""Supervision of learning to hash: which images count as similar.

With labels, two images are similar when they share at least one. An image without
labels is similar to nothing, itself included. Images with the same label row have the
same row of the similarity matrix S, so S acts through the few distinct label rows (the
patterns). Without labels, the nearest neighbours of features tell
(`expanded_neighbours`). Neither builds the n x n matrix.

Between the images of a batch, similarity can also be a matter of degree:
`gaussian_affinity` and `student_t_affinity`.
"""

import numpy as np
import scipy.sparse
import tensorflow as tf

__all__ = [
    "LabelSimilarity",
    "expanded_neighbours",
    "gaussian_affinity",
    "nearest_neighbours",
    "shares_label",
    "squared_distances",
    "student_t_affinity",
]


def shares_label(labels, other_labels):
    """Which pairs of label rows share at least one label.

    Args:
        labels: float tensor ``(m, classes)``, values in {0, 1}.
        other_labels: float tensor ``(n, classes)``, values in {0, 1}.

    Returns:
        bool tensor ``(m, n)``.

    Example:
        >>> shares_label([[1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]]).numpy()
        array([[ True, False]])
    """
    return tf.matmul(labels, other_labels, transpose_b=True) > 0.5


class LabelSimilarity:
    """The similarity matrix S of a labelled data set, never built as a whole.

    Formula:
        S_ij = 1 if i and j share a label, else -r

    Rows with the same labels have the same row of S, so a product with S needs
    only sums over the p distinct label rows (the patterns):
    ``(S @ M)_i = sum_p S_ip (sum of the rows of M with pattern p)``. With n rows,
    d columns and c labels that costs O(n d + p^2 (c + d)).

    Args:
        labels: array ``(n, classes)``, values in {0, 1}.
        balanced: bool; True sets r = #similar / #dissimilar pairs, so that the
            two kinds weigh the same; False sets r = 1.

    Attributes:
        patterns: float32 tensor ``(p, classes)``, the distinct label rows.
        pattern_of: int32 tensor ``(n,)``, the pattern of each row.
        counts: float32 tensor ``(p,)``, how many rows have each pattern.
        share: float, the share of similar pairs among all pairs.
        dissimilar: float, r.

    Example:
        >>> s = LabelSimilarity(np.eye(4), balanced=True)
        >>> round(s.dissimilar, 4)  # 4 similar pairs, 12 dissimilar ones
        0.3333
        >>> ones = s.sum_by_pattern(tf.ones((4, 1)))
        >>> s.product(tf.eye(4)[:1], ones).numpy()  # 1 - 3 r
        array([[0.]], dtype=float32)
    """

    def __init__(self, labels, balanced):
        labels = np.asarray(labels)
        _, first, pattern_of, counts = np.unique(
            np.packbits(labels > 0, axis=1),
            axis=0,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        self.patterns = tf.constant(labels[first].astype(np.float32))
        self.pattern_of = tf.constant(pattern_of.reshape(-1).astype(np.int32))
        self.counts = tf.constant(counts.astype(np.float32))
        similar = sum(
            counts[i : i + 1024]
            @ (
                shares_label(self.patterns[i : i + 1024], self.patterns).numpy()
                @ counts
            )
            for i in range(0, len(counts), 1024)
        )
        self.share = float(similar / len(labels) ** 2)
        self.dissimilar = 1.0
        # Nothing to balance if one kind of pair does not occur.
        if balanced and 0.0 < self.share < 1.0:
            self.dissimilar = self.share / (1.0 - self.share)

    def sum_by_pattern(self, rows):
        """Sums of the rows of M ``(n, d)`` by pattern, ``(p, d)``."""
        return tf.math.unsorted_segment_sum(rows, self.pattern_of, len(self.counts))

    def product(self, labels, pattern_sums):
        """Rows of ``S @ M`` from the sums of M by pattern.

        Args:
            labels: float tensor ``(m, classes)``: the rows of S wanted. They need
                not be rows of the data set.
            pattern_sums: float tensor ``(p, d)`` from `sum_by_pattern`.

        Returns:
            float tensor ``(m, d)``.
        """
        share = tf.cast(shares_label(labels, self.patterns), tf.float32)  # (m, p)
        total = tf.reduce_sum(pattern_sums, axis=0)
        return (1 + self.dissimilar) * share @ pattern_sums - self.dissimilar * total

    def square_sum(self, labels):
        """Row sums of the squared entries, ``sum_j S_ij^2``, for label rows ``(m,
        classes)``: float tensor ``(m,)``."""
        share = tf.cast(shares_label(labels, self.patterns), tf.float32)
        similar = tf.linalg.matvec(share, self.counts)
        total = tf.reduce_sum(self.counts)
        return similar + self.dissimilar**2 * (total - similar)


def nearest_neighbours(features, k, block=1024):
    """The nearest other rows by cosine similarity, exactly.

    Args:
        features: float array ``(n, d)``.
        k: int, how many others, below n.
        block: int, rows compared at a time: memory is O(block n).

    Returns:
        int32 array ``(n, k + 1)``: column 0 is the row itself, then its neighbours,
        the nearest first; ties go to the smaller index.

    Raises:
        ValueError: if `k` is not in 1 to n - 1.

    Example:
        >>> nearest_neighbours(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), k=1)
        array([[0, 1],
               [1, 0],
               [2, 1]], dtype=int32)
    """
    n = len(features)
    if not 1 <= k < n:
        raise ValueError(
            f"`k` must be from 1 to n - 1 = {n - 1}, the number of other rows. "
            f"Received: k={k}."
        )
    unit = tf.math.l2_normalize(tf.cast(features, tf.float32), axis=1)
    lists = np.empty((n, k + 1), np.int32)
    for start in range(0, n, block):
        size = min(block, n - start)
        # Tensors: a number of Python would trace the function again.
        lists[start : start + block] = _nearest(
            unit, *map(tf.constant, (start, size, k))
        )
    return lists


@tf.function(reduce_retracing=True)
def _nearest(unit, start, size, k):
    cosine = tf.matmul(unit[start : start + size], unit, transpose_b=True)
    rows = tf.range(size)
    own = tf.stack([rows, rows + start], axis=1)
    cosine = tf.tensor_scatter_nd_update(cosine, own, tf.fill([size], np.inf))
    return tf.math.top_k(cosine, k + 1).indices


def expanded_neighbours(features, neighbours=15, lists=6, block=1024):
    """Which images count as similar without labels: neighbours of like neighbours.

    Formula:
        L_i = i and its K1 nearest neighbours;  score(i, j) = |L_i ^ L_j|
        J_i = the K2 rows j of largest score, i among them
        S_ij = +1 if j is in the union of L_t, t in J_i, or i in that of J_j

    Args:
        features: float array ``(n, d)``, compared by cosine.
        neighbours: int, K1, below n.
        lists: int, K2, at least 1.
        block: int, rows handled at a time: memory is O(block n).

    Returns:
        `scipy.sparse.csr_array` of bool ``(n, n)``, symmetric, with a diagonal of
        True: the pairs with S_ij = +1. All other pairs have -1.

    Raises:
        ValueError: if `neighbours` or `lists` is out of range.

    Example:
        >>> s = expanded_neighbours(np.array([[1, 0], [1, 0.1], [0, 1.0]]), 1, 1)
        >>> s.toarray().astype(int)
        array([[1, 1, 0],
               [1, 1, 1],
               [0, 1, 1]])

    Reference:
        DDH (J. Song et al., Deep Discrete Hashing with Self-supervised Pairwise
        Labels, ECML PKDD 2017), algorithm 1.

    Differences:
        The score is the size of the intersection, as in the published code; the
        inverse distance of index lists that the text prints has no meaning. Ties go
        to the row itself, then to the smaller index.
    """
    if lists < 1:
        raise ValueError(f"`lists` must be at least 1. Received: lists={lists}.")
    near = nearest_neighbours(features, neighbours, block)
    n, width = near.shape
    offsets = np.arange(0, n * width + 1, width)
    member = scipy.sparse.csr_array(
        (np.ones(n * width, np.int32), near.ravel(), offsets), shape=(n, n)
    )
    holders = member.T.tocsr()
    counts, columns = [], []
    for start in range(0, n, block):
        scores = member[start : start + block] @ holders  # |L_i ^ L_j|, the nonzeros
        for row in range(scores.shape[0]):
            inside = slice(scores.indptr[row], scores.indptr[row + 1])
            others, score = scores.indices[inside], scores.data[inside]
            itself = others == start + row
            best = np.lexsort((others, -(2 * score + itself)))[:lists]
            union = np.unique(near[others[best]])
            counts.append(len(union))
            columns.append(union)
    similar = scipy.sparse.csr_array(
        (
            np.ones(sum(counts), bool),
            np.concatenate(columns),
            np.concatenate([[0], np.cumsum(counts)]),
        ),
        shape=(n, n),
    )
    return similar.maximum(similar.T).tocsr()


def squared_distances(x):
    """Squared Euclidean distances between the rows of ``(n, d)``: ``(n, n)``."""
    squares = tf.reduce_sum(x**2, axis=1)
    inner = tf.matmul(x, x, transpose_b=True)
    return tf.nn.relu(squares[:, None] + squares[None, :] - 2.0 * inner)


@tf.function(reduce_retracing=True)
def gaussian_affinity(x, perplexity=30.0, steps=50):
    """Joint neighbour probabilities of points, Gaussian with a width for each point.

    Formula:
        p_j|i = exp(-||x_i - x_j||^2 / 2 s_i^2) / Z_i,  of sum 1 over all j != i
        p_ij = (p_j|i + p_i|j) / 2n,  p_ii = 0

    where s_i gives row i the wanted perplexity, exp of its entropy.

    Args:
        x: float tensor ``(n, d)``.
        perplexity: float, about how many neighbours count; at most (n - 1) / 3 is
            used.
        steps: int, steps of the bisection for s_i.

    Returns:
        float tensor ``(n, n)``, symmetric, of sum 1.

    Reference:
        L. van der Maaten, G. Hinton, Visualizing Data using t-SNE, JMLR 2008, eq. 1.
    """
    n = tf.cast(tf.shape(x)[0], x.dtype)
    others = 1.0 - tf.eye(tf.shape(x)[0], dtype=x.dtype)
    distance = squared_distances(x)
    nearest = tf.reduce_min(distance + 1e30 * (1.0 - others), axis=1, keepdims=True)
    distance = (distance - nearest) * others  # p does not change, exp does not vanish
    perplexity = tf.minimum(tf.cast(perplexity, x.dtype), (n - 1.0) / 3.0)
    wanted = tf.math.log(tf.maximum(perplexity, 1.0))
    scale = tf.reduce_sum(distance, axis=1, keepdims=True) / tf.maximum(n - 1.0, 1.0)
    precision = 1.0 / tf.maximum(scale, 1e-12)  # 1 / 2 s_i^2
    low, high = tf.zeros_like(precision), np.inf * tf.ones_like(precision)
    p = others
    for _ in tf.range(steps):
        p = tf.exp(-distance * precision) * others
        total = tf.reduce_sum(p, axis=1, keepdims=True)
        p = tf.math.divide_no_nan(p, total)
        spread = tf.reduce_sum(p * distance, axis=1, keepdims=True)
        flat = tf.math.log(tf.maximum(total, 1e-30)) + precision * spread > wanted
        low = tf.where(flat, precision, low)
        high = tf.where(flat, high, precision)
        middle = tf.where(tf.math.is_inf(high), 2.0 * precision, (low + high) / 2.0)
        # Points that coincide stay flat whatever the width.
        precision = tf.minimum(middle, 1e12)
    return (p + tf.transpose(p)) / (2.0 * n)


def student_t_affinity(u):
    """Joint neighbour probabilities of points, with the heavy tails of Student's t.

    Formula:
        q_ij = (1 + ||u_i - u_j||^2)^-1 / sum_k!=l (1 + ||u_k - u_l||^2)^-1,  q_ii = 0

    Args:
        u: float tensor ``(n, d)``.

    Returns:
        float tensor ``(n, n)``, symmetric, of sum 1.

    Reference:
        L. van der Maaten, G. Hinton, Visualizing Data using t-SNE, JMLR 2008, eq. 4;
        DSRE, eq. 7.
    """
    others = 1.0 - tf.eye(tf.shape(u)[0], dtype=u.dtype)
    kernel = others / (1.0 + squared_distances(u))
    return tf.math.divide_no_nan(kernel, tf.reduce_sum(kernel))
