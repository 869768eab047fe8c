"""Losses of learning to hash: pure functions of tensors, averaged over the batch.

Tensors may be arrays or lists as well. A loss is computed in the type of its codes or
scores: in float64 where they are float64 or integers, else in float32.
"""

import numpy as np
import tensorflow as tf

from kerashash.checks import check_flag
from kerashash.maths.precision import float_tensors

__all__ = [
    "average_precision_loss",
    "bit_balance",
    "codeword_hinge",
    "cross_entropy",
    "js_divergence",
    "kl_divergence",
    "log_cosh_quantization",
    "pairwise_likelihood",
    "sigmoid_focal",
    "similarity_regression",
    "softmax_focal",
    "squared_hinge",
    "triplet_hinge",
    "triplet_likelihood",
]
__dir__ = __all__.copy  # what completion offers


def bit_balance(u: tf.Tensor) -> tf.Tensor:
    """How far the bits are from being 1 for half of the images, and -1 for half.

    Formula:
        mean over bits k of (mean over images i of u_ik)^2

    Args:
        u: float tensor ``(batch, bits)``; continuous codes in [-1, 1].

    Returns:
        Scalar float tensor in [0, 1]; 0 if all bits are balanced.

    Example:
        >>> float(bit_balance(tf.constant([[1.0, 1.0], [1.0, -1.0]])))
        0.5
    """
    (u,) = float_tensors(u=u)
    return tf.reduce_mean(tf.reduce_mean(u, axis=0) ** 2)


def codeword_hinge(
    labels: tf.Tensor, scores: tf.Tensor, margin: float = 1.0, floor: bool = True
) -> tf.Tensor:
    """Hinge loss that ranks the codewords of an image's labels above all others.

    Formula:
        mean over positives (i, j) of max(0, m - s_ij + max_t s_it)
        where t runs over the labels that image i does not have, its negatives

    Args:
        labels: float tensor ``(batch, classes)``; 1 for a label that the image has
            (positive), 0 for one that it does not have (negative), -1 for unknown
            (ignored).
        scores: float tensor ``(batch, classes)``; inner products of continuous codes
            and codewords, s.
        margin: float; m, in units of the inner product (from -bits to bits).
        floor: bool; True takes the maximum over t of ``s_it [t negative]``, as the
            equation is printed, so that the hardest negative counts as at least 0.
            False takes the score of the hardest negative itself.

    Returns:
        Scalar float tensor; 0 for a batch without a positive.

    Example:
        >>> float(codeword_hinge(tf.constant([[1.0, 0.0]]), tf.constant([[2.0, 1.5]])))
        0.5

    Reference:
        H.-F. Yang et al., Adaptive Labeling for Deep Learning to Hash, CVPRW
        2019, eq. 1.

    Differences:
        The mean over positives replaces the sum, so that the scale does not
        depend on the batch size.
    """
    check_flag(floor=floor)
    scores, labels = float_tensors(scores=scores, labels=labels)
    positive = labels == 1
    # Minus infinity would make the loss of a row without negatives NaN.
    hardest = tf.reduce_max(
        tf.where(labels == 0, scores, -1e9), axis=1, keepdims=True
    )  # (batch, 1)
    if floor:
        hardest = tf.maximum(hardest, 0.0)
    hinge = tf.where(positive, tf.nn.relu(margin - scores + hardest), 0.0)
    count = tf.reduce_sum(tf.cast(positive, scores.dtype))
    return tf.reduce_sum(hinge) / tf.maximum(count, 1.0)


def similarity_regression(
    u: tf.Tensor,
    code_gram: tf.Tensor,
    similarity_codes: tf.Tensor,
    similarity_squares: tf.Tensor,
    n: float | tf.Tensor,
) -> tf.Tensor:
    """Squared error between inner products with n learned codes and similarities.

    Formula:
        mean over i in batch, j <= n of (u_i . b_j / K - s_ij)^2

    with K bits, computed as
    ``(u_i^T (B^T B) u_i - 2 K u_i . (S B)_i + K^2 sum_j s_ij^2) / (n K^2)``: exact, in
    O(batch K^2) instead of O(batch n K).

    Args:
        u: float tensor ``(batch, bits)``; continuous codes.
        code_gram: float tensor ``(bits, bits)``; B^T B of all learned codes B.
        similarity_codes: float tensor ``(batch, bits)``; the batch's rows of ``S @ B``.
        similarity_squares: float tensor ``(batch,)``; sum_j s_ij^2.
        n: float; the number of learned codes.

    Returns:
        Scalar float tensor.

    Example:
        >>> u, b = tf.constant([[1.0, 0.0]]), tf.constant([[1.0, 1.0], [-1.0, 1.0]])
        >>> s, n = tf.constant([[1.0, -1.0]]), 2
        >>> gram, squares = tf.transpose(b) @ b, tf.reduce_sum(s**2, axis=1)
        >>> float(similarity_regression(u, gram, s @ b, squares, n))
        0.25

    Reference:
        DCDH (Wang et al., SIGIR 2019), the first term of L_1, L_2 and L_3.
    """
    u, code_gram, similarity_codes, similarity_squares = float_tensors(
        u=u,
        code_gram=code_gram,
        similarity_codes=similarity_codes,
        similarity_squares=similarity_squares,
    )
    n = tf.cast(n, u.dtype)
    bits = float(u.shape[-1])
    quadratic = tf.reduce_sum(u * (u @ code_gram), axis=1)  # (batch,)
    linear = tf.reduce_sum(u * similarity_codes, axis=1)  # (batch,)
    squares = quadratic - 2.0 * bits * linear + bits**2 * similarity_squares
    return tf.reduce_mean(squares) / (n * bits**2)


def average_precision_loss(
    u: tf.Tensor, codes: tf.Tensor, similar: tf.Tensor, counts: tf.Tensor
) -> tf.Tensor:
    """One minus the tie-aware average precision, with images as queries.

    Formula:
        mean over i of 1 - 1 / P_K sum_d p_d (P_d + P_{d-1} + 1) / (N_d + N_{d-1} + 1)

    where n_d items, of which p_d are similar, lie at Hamming distance d from query i,
    and N_d items, of which P_d are similar, at distance d or less; K is the number of
    bits. The histograms are soft: an item at a distance between two integers counts
    in both bins, with linearly interpolated weights.

    Args:
        u: float tensor ``(batch, bits)``; continuous codes in [-1, 1].
        codes: float tensor ``(p, bits)``; distinct codes of the items.
        similar: float tensor ``(batch, p)``; values in {0, 1}.
        counts: float tensor ``(p,)``; how many items have each code. Or ``(batch, p)``,
            if each query has its own items: 0 leaves a code out of a query's ranking.

    Returns:
        Scalar float tensor in [0, 1]; a query without similar items counts as 1. NaN if
        a code is not finite.

    Example:
        >>> u, codes = tf.constant([[1.0, 1.0]]), tf.constant([[1.0, 1.0], [1.0, -1.0]])
        >>> similar, counts = tf.constant([[0.0, 1.0]]), tf.constant([1.0, 1.0])
        >>> float(average_precision_loss(u, codes, similar, counts))
        0.5

    Reference:
        K. He et al., Hashing as Tie-Aware Learning to Rank, CVPR 2018; the soft
        histogram is that of E. Ustinova, V. Lempitsky, Learning Deep Embeddings with
        Histogram Loss, NIPS 2016.
    """
    u, codes, similar, counts = float_tensors(
        u=u, codes=codes, similar=similar, counts=counts
    )
    batch, bits = tf.shape(u)[0], codes.shape[1]
    distance = (bits - tf.matmul(u, codes, transpose_b=True)) / 2.0  # (batch, p)
    # A distance that is no number falls into no bin, and would be left out unseen.
    finite = tf.math.is_finite(distance)
    distance = tf.where(finite, distance, tf.zeros_like(distance))
    distance = tf.clip_by_value(distance, 0.0, float(bits))
    lower = tf.minimum(tf.floor(distance), bits - 1.0)
    fraction = distance - lower
    # The bins of all queries are numbered consecutively, bits + 1 bins per query.
    bins = tf.cast(lower, tf.int32) + (bits + 1) * tf.range(batch)[:, None]

    def histogram(weights: tf.Tensor) -> tf.Tensor:
        """Weights ``(batch, p)`` summed by distance: ``(batch, bits + 1)``."""
        parts = [
            tf.math.unsorted_segment_sum(part, part_bins, batch * (bits + 1))
            for part, part_bins in (
                (weights * (1 - fraction), bins),
                (weights * fraction, bins + 1),
            )
        ]
        return tf.reshape(tf.add_n(parts), (batch, bits + 1))

    n, p = histogram(counts * tf.ones_like(similar)), histogram(counts * similar)
    # N_d + N_{d-1} = 2 N_d - n_d
    precision = (2 * tf.cumsum(p, 1) - p + 1) / (2 * tf.cumsum(n, 1) - n + 1)
    precision_sum = tf.reduce_sum(p * precision, axis=1)  # (batch,)
    similar_items = tf.reduce_sum(p, axis=1)  # (batch,)
    loss = 1.0 - tf.math.divide_no_nan(precision_sum, similar_items)
    nan = tf.constant(float("nan"), loss.dtype)
    return tf.reduce_mean(tf.where(tf.reduce_all(finite, axis=1), loss, nan))


def sigmoid_focal(
    labels: tf.Tensor, logits: tf.Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> tf.Tensor:
    """Focal loss of independent labels: cross-entropy that discounts easy labels.

    Formula:
        mean over i of sum_t a_t (1 - p_t)^gamma (-log p_t)
        p_t = sigmoid(z) if y else 1 - sigmoid(z);  a_t = alpha if y else 1 - alpha

    Args:
        labels: float tensor ``(batch, classes)``; values in {0, 1}, y; or -1 for an
            unknown label, which has no loss.
        logits: float tensor ``(batch, classes)``; z.
        alpha: float in [0, 1]; weight of the positives.
        gamma: float >= 0; how strongly easy labels are discounted.

    Returns:
        Scalar float tensor.

    Example:
        >>> loss = sigmoid_focal(tf.constant([[1.0]]), tf.constant([[0.0]]))
        >>> round(float(loss), 4)  # 0.25 * 0.5^2 * log(2)
        0.0433

    Reference:
        T.-Y. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5.
    """
    logits, labels = float_tensors(logits=logits, labels=labels)
    p = tf.sigmoid(logits)
    known = tf.cast(labels >= 0.0, logits.dtype)
    labels = tf.nn.relu(labels)
    p_true = labels * p + (1.0 - labels) * (1.0 - p)
    weight = known * (labels * alpha + (1.0 - labels) * (1.0 - alpha))
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    focal = weight * _discount(1.0 - p_true, gamma) * cross_entropy
    return tf.reduce_mean(tf.reduce_sum(focal, axis=1))


def _discount(miss: tf.Tensor, gamma: float) -> tf.Tensor:
    """miss^gamma of probabilities, whose gradient is finite also where they are 0."""
    if gamma >= 1:
        return miss**gamma
    # The derivative of 0^gamma is infinite, and times the cross-entropy of 0, NaN.
    return tf.ones_like(miss) if gamma == 0 else tf.maximum(miss, 1e-7) ** gamma


def softmax_focal(
    labels: tf.Tensor, logits: tf.Tensor, gamma: float = 2.0
) -> tf.Tensor:
    """Focal loss of exclusive classes: cross-entropy that discounts easy ones.

    Formula:
        mean over i of sum_t (1 - p_t)^gamma (-log p_t)
        p_t = softmax(z)_t if y_t = 1, 1 - softmax(z)_t if y_t = 0

    Args:
        labels: float tensor ``(batch, classes)``; values in {0, 1}, y; or -1 for an
            unknown label, which has no term in the sum. With more than one positive in
            a row, the loss cannot reach 0.
        logits: float tensor ``(batch, classes)``; z.
        gamma: float >= 0; how strongly easy classes are discounted.

    Returns:
        Scalar float tensor.

    Example:
        >>> loss = softmax_focal(tf.constant([[1.0, 0.0]]), tf.constant([[3.0, 3.0]]))
        >>> round(float(loss), 4)  # 2 * 0.5^2 * log(2)
        0.3466

    Reference:
        DCDH (Wang et al., SIGIR 2019), eq. 6 and 7.

    Differences:
        The mean over images replaces the sum.
    """
    logits, labels = float_tensors(logits=logits, labels=labels)
    log_p = tf.nn.log_softmax(logits)
    p = tf.exp(log_p)
    # Clipped, so that the logarithm is finite where p rounds to 1.
    log_not_p = tf.math.log(tf.maximum(1.0 - p, 1e-7))
    present = tf.nn.relu(labels) * _discount(1.0 - p, gamma) * -log_p
    absent = (1.0 - tf.abs(labels)) * _discount(p, gamma) * -log_not_p
    return tf.reduce_mean(tf.reduce_sum(present + absent, axis=1))


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of exclusive classes.

    Formula:
        mean_i - sum_t y_it log p_it,  p = softmax(z)

    Args:
        labels: float tensor ``(batch, classes)``; values in {0, 1}, one 1 a row.
        logits: float tensor ``(batch, classes)``; z.

    Returns:
        Scalar float tensor, at least 0.

    Example:
        >>> loss = cross_entropy(tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 0.0]]))
        >>> round(float(loss), 4)  # log(2)
        0.6931
    """
    logits, labels = float_tensors(logits=logits, labels=labels)
    log_p = tf.nn.log_softmax(logits)
    return -tf.reduce_mean(tf.reduce_sum(labels * log_p, axis=1))


def squared_hinge(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Squared hinge loss of labels of which an image may have several.

    Formula:
        mean_i sum_t l_it,  l = max(0, 1 - s)^2 / 2 if y else max(0, s)^2 / 2

    Args:
        labels: float tensor ``(batch, classes)``; y, values in {0, 1}.
        scores: float tensor ``(batch, classes)``; s: at least 1 is right for a label
            that the image has, at most 0 for one that it does not have.

    Returns:
        Scalar float tensor, at least 0.

    Example:
        >>> float(squared_hinge(tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 1.0]])))
        1.0

    Reference:
        H.-F. Yang, K. Lin, C.-S. Chen, Supervised Learning of Semantics-Preserving Hash
        via Deep Convolutional Neural Networks, TPAMI 40(2), 2018: the loss for images
        of several labels, p = 2.
    """
    scores, labels = float_tensors(scores=scores, labels=labels)
    gap = tf.nn.relu(labels * (1.0 - scores) + (1.0 - labels) * scores)
    return tf.reduce_mean(tf.reduce_sum(gap**2 / 2.0, axis=1))


def pairwise_likelihood(
    u: tf.Tensor,
    similar: tf.Tensor,
    scale: float = 0.5,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Negative log-likelihood of the similarities of all pairs in a batch.

    Formula:
        mean over i != j of w_ij (log(1 + exp(t_ij)) - s_ij t_ij),  t_ij = a u_i . u_j

    Args:
        u: float tensor ``(batch, bits)``; continuous codes.
        similar: float tensor ``(batch, batch)``; values in {0, 1}, s.
        scale: float; a.
        weights: float tensor ``(batch, batch)``, w, or None for 1.

    Returns:
        Scalar float tensor; 0 for a batch of one image.

    Example:
        >>> u = tf.constant([[1.0, 1.0], [1.0, -1.0]])  # t = 0
        >>> round(float(pairwise_likelihood(u, tf.eye(2))), 4)  # log(2)
        0.6931

    Reference:
        W.-J. Li et al., Feature Learning based Deep Supervised Hashing with Pairwise
        Labels, IJCAI 2016, eq. 1; DSRE, eq. 2. With another scale, DHN (H. Zhu et al.,
        Deep Hashing Network for Efficient Similarity Retrieval, AAAI 2016); with
        weights as well, HashNet (Z. Cao et al., HashNet: Deep Learning to Hash by
        Continuation, ICCV 2017).
    """
    u, similar = float_tensors(u=u, similar=similar)
    t = scale * tf.matmul(u, u, transpose_b=True)  # (batch, batch)
    # XLA cannot compile the gradient of `set_diag` for a batch of unknown size.
    off_diagonal = 1.0 - tf.eye(tf.shape(u)[0], dtype=u.dtype)
    values = (tf.nn.softplus(t) - similar * t) * off_diagonal
    if weights is not None:
        values *= float_tensors(u=u, weights=weights)[1]
    n = tf.cast(tf.shape(u)[0], u.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values), n * (n - 1.0))


def triplet_likelihood(
    u: tf.Tensor, similar: tf.Tensor, margin: float = 5.0
) -> tf.Tensor:
    """Negative log-likelihood of the order of similar and dissimilar images.

    Formula:
        mean over triplets (i, j, k) of log(1 + exp(m - t_ij + t_ik)),
        t_ij = u_i . u_j / 2

    The triplets are those of a batch: an image i, a similar image j != i, and a
    dissimilar image k.

    Args:
        u: float tensor ``(batch, bits)``; continuous codes.
        similar: float tensor ``(batch, batch)``; values in {0, 1}.
        margin: float; m, in units of t (from -bits / 2 to bits / 2).

    Returns:
        Scalar float tensor; 0 for a batch without triplets. Takes O(batch^3) memory.

    Example:
        >>> u = tf.constant([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
        >>> similar = tf.constant([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> round(float(triplet_likelihood(u, similar, margin=1.0)), 4)  # log(2)
        0.6931

    Reference:
        X. Wang, Y. Shi, K. M. Kitani, Deep Supervised Hashing with Triplet Labels, ACCV
        2016.

    Differences:
        The mean over triplets replaces the sum.
    """
    u, similar = float_tensors(u=u, similar=similar)
    t = tf.matmul(u, u, transpose_b=True) / 2.0  # (batch, batch)
    gap = margin - t[:, :, None] + t[:, None, :]  # (batch, batch, batch)
    return _mean_over_triplets(tf.nn.softplus(gap), similar)


def triplet_hinge(u: tf.Tensor, similar: tf.Tensor, margin: float = 1.0) -> tf.Tensor:
    """Hinge loss that brings similar images nearer than dissimilar ones.

    Formula:
        mean over triplets (i, j, k) of max(0, m + d_ij - d_ik),
        d_ij = ||u_i - u_j||^2 / 4, the Hamming distance of codes over {-1, +1}

    The triplets are those of a batch: an image i, a similar image j != i, and a
    dissimilar image k.

    Args:
        u: float tensor ``(batch, bits)``; continuous codes.
        similar: float tensor ``(batch, batch)``; values in {0, 1}.
        margin: float; m, in bits.

    Returns:
        Scalar float tensor; 0 for a batch without triplets. Takes O(batch^3) memory.

    Example:
        >>> u = tf.constant([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
        >>> similar = tf.constant([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> float(triplet_hinge(u, similar, margin=1.5))
        0.5

    Reference:
        H. Lai, Y. Pan, Y. Liu, S. Yan, Simultaneous Feature Learning and Hash Coding
        with Deep Neural Networks, CVPR 2015.

    Differences:
        The mean over triplets replaces the sum.
    """
    u, similar = float_tensors(u=u, similar=similar)
    squares = tf.reduce_sum(u**2, axis=1)  # (batch,)
    # ||u_i||^2 is part of both distances, and left out.
    d = (squares - 2.0 * tf.matmul(u, u, transpose_b=True)) / 4.0  # (batch, batch)
    gap = margin + d[:, :, None] - d[:, None, :]  # (batch, batch, batch)
    return _mean_over_triplets(tf.nn.relu(gap), similar)


def _mean_over_triplets(values: tf.Tensor, similar: tf.Tensor) -> tf.Tensor:
    """Mean of ``values[i, j, k]`` with i, j similar, i != j, and i, k dissimilar."""
    # An image without labels is not similar to itself: still, it is no negative.
    off_diagonal = 1.0 - tf.eye(tf.shape(similar)[0], dtype=similar.dtype)
    positive, negative = similar * off_diagonal, (1.0 - similar) * off_diagonal
    of_anchor = tf.einsum("ijk,ij,ik->i", values, positive, negative)
    triplets = tf.reduce_sum(positive, axis=1) * tf.reduce_sum(negative, axis=1)
    return tf.math.divide_no_nan(tf.reduce_sum(of_anchor), tf.reduce_sum(triplets))


def log_cosh_quantization(u: tf.Tensor) -> tf.Tensor:
    """A smooth distance of continuous codes from -1 and +1.

    Formula:
        mean over images and bits of log cosh(|u| - 1)

    Args:
        u: float tensor ``(batch, bits)``; continuous codes.

    Returns:
        Scalar float tensor, at least 0.

    Example:
        >>> float(log_cosh_quantization(tf.constant([[1.0, -1.0]])))
        0.0

    Reference:
        H. Zhu, M. Long, J. Wang, Y. Cao, Deep Hashing Network for Efficient Similarity
        Retrieval, AAAI 2016: the negative logarithm of a bimodal Laplacian prior.
    """
    (u,) = float_tensors(u=u)
    distance = tf.abs(tf.abs(u) - 1.0)
    # cosh itself overflows.
    values = distance + tf.nn.softplus(-2.0 * distance) - np.log(2.0)
    return tf.reduce_mean(values)


def kl_divergence(p: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
    """The Kullback-Leibler divergence, or relative entropy, in nats.

    Formula:
        KL(p || q) = sum p log(p / q),  0 log 0 = 0

    Args:
        p, q: float tensors of one shape, each with sum 1.

    Returns:
        Scalar float tensor, at least 0.

    Example:
        >>> p, q = tf.constant([1.0, 0.0]), tf.constant([0.5, 0.5])
        >>> round(float(kl_divergence(p, q)), 4)  # log(2)
        0.6931
    """
    p, q = float_tensors(p=p, q=q)
    epsilon = 1e-12  # log(0) would make the value and its gradient NaN
    return tf.reduce_sum(p * (tf.math.log(p + epsilon) - tf.math.log(q + epsilon)))


def js_divergence(p: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
    """The Jensen-Shannon divergence, a symmetric relative entropy, in nats.

    Formula:
        KL(p || m) / 2 + KL(q || m) / 2,  m = (p + q) / 2

    Args:
        p, q: float tensors of one shape, each with sum 1.

    Returns:
        Scalar float tensor from 0 (p = q) to log 2.

    Example:
        >>> p, q = tf.constant([1.0, 0.0]), tf.constant([0.0, 1.0])
        >>> round(float(js_divergence(p, q)), 4)  # log(2)
        0.6931

    Reference:
        DSRE, eq. 8.
    """
    p, q = float_tensors(p=p, q=q)
    m = (p + q) / 2.0
    return (kl_divergence(p, m) + kl_divergence(q, m)) / 2.0
