"""Supervision of learning to hash: which images count as similar.

Two images are similar when they share at least one label. An image without
labels is similar to nothing, itself included. No function here builds the
n x n similarity matrix S: images with the same label row have the same row of
S, so S acts through the few distinct label rows (the patterns).
"""

import numpy as np
import tensorflow as tf


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
    """The similarity matrix S of a labelled data set, never built.

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
        self.dissimilar = 1.0
        if balanced:
            similar = sum(
                counts[i : i + 1024]
                @ (
                    shares_label(self.patterns[i : i + 1024], self.patterns).numpy()
                    @ counts
                )
                for i in range(0, len(counts), 1024)
            )
            dissimilar = len(labels) ** 2 - int(similar)
            # Nothing to balance if one kind of pair does not occur.
            if similar and dissimilar:
                self.dissimilar = float(similar / dissimilar)

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
