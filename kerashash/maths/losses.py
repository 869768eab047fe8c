"""Losses of learning to hash: pure functions of tensors, means over the batch."""

import tensorflow as tf

__all__ = [
    "average_precision_loss",
    "codeword_hinge",
    "js_divergence",
    "kl_divergence",
    "pairwise_likelihood",
    "sigmoid_focal",
    "similarity_regression",
    "softmax_focal",
]


def codeword_hinge(labels, scores, margin=1.0, floor=True):
    """Every own codeword must beat the nearest foreign one by a margin.

    Formula:
        mean over positives (i, j) of max(0, m - s_ij + max_t s_it)
        where t runs over the labels that image i does not have

    Args:
        labels: float tensor ``(batch, classes)``: 1 has the label, 0 has it
            not, -1 unknown (neither pulls nor pushes).
        scores: float tensor ``(batch, classes)``, inner products of continuous
            codes and codewords.
        margin: float, m, in units of the inner product (range +-bits).
        floor: bool; True takes the maximum over t of ``s_it [t negative]``, as
            the equation is printed, which puts a floor of 0 under the hardest
            negative; False takes the hardest negative itself.

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
    positive = labels == 1
    # Large but finite, so that a row without negatives stays finite.
    hardest = tf.reduce_max(
        tf.where(labels == 0, scores, -1e9), axis=1, keepdims=True
    )  # (batch, 1)
    if floor:
        hardest = tf.maximum(hardest, 0.0)
    hinge = tf.where(positive, tf.nn.relu(margin - scores + hardest), 0.0)
    count = tf.reduce_sum(tf.cast(positive, scores.dtype))
    return tf.reduce_sum(hinge) / tf.maximum(count, 1.0)


def similarity_regression(u, code_gram, similarity_codes, similarity_squares, n):
    """Inner products with all n learned codes should match the similarity.

    Formula:
        mean over i in batch, j <= n of (u_i . b_j / K - s_ij)^2

    computed as u_i^T (B^T B) u_i - 2 K u_i . (S B)_i + K^2 sum_j s_ij^2, over
    n K^2: O(batch K^2) instead of O(batch n K).

    Args:
        u: float tensor ``(batch, bits)``, continuous codes.
        code_gram: float tensor ``(bits, bits)``, B^T B of all learned codes.
        similarity_codes: float tensor ``(batch, bits)``, the batch's rows of
            ``S @ B``.
        similarity_squares: float tensor ``(batch,)``, sum_j s_ij^2.
        n: float, the number of learned codes.

    Returns:
        Scalar float tensor.

    Reference:
        DCDH (Wang et al., SIGIR 2019), the first term of L_1, L_2 and L_3; the
        factorisation is exact.
    """
    bits = float(u.shape[-1])
    quadratic = tf.reduce_sum(u * (u @ code_gram), axis=1)  # (batch,)
    linear = tf.reduce_sum(u * similarity_codes, axis=1)
    pairs = quadratic - 2.0 * bits * linear + bits**2 * similarity_squares
    return tf.reduce_mean(pairs) / (n * bits**2)


def average_precision_loss(u, codes, similar, counts):
    """One minus the average precision of images as queries.

    Formula:
        mean over i of 1 - 1 / P_K sum_d p_d (P_d + P_{d-1} + 1) / (N_d + N_{d-1} + 1)

    n_d items, p_d of them similar, are at Hamming distance d of query i, and N_d, P_d
    at a distance of at most d. An item at a distance between two whole numbers
    counts at both, by how near it is to each.

    Args:
        u: float tensor ``(batch, bits)``, continuous codes in [-1, 1].
        codes: float tensor ``(p, bits)``, codes of the items.
        similar: float tensor ``(batch, p)`` of 0 and 1.
        counts: float tensor ``(p,)``, how many items have each code.

    Returns:
        Scalar float tensor in [0, 1]; a query without similar items counts as 1.

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
    batch, bits = tf.shape(u)[0], codes.shape[1]
    distance = (bits - tf.matmul(u, codes, transpose_b=True)) / 2.0  # (batch, p)
    distance = tf.clip_by_value(distance, 0.0, float(bits))
    below = tf.minimum(tf.floor(distance), bits - 1.0)
    above = distance - below
    # A row of bins for each query, one after the other.
    bins = tf.cast(below, tf.int32) + (bits + 1) * tf.range(batch)[:, None]

    def histogram(weights):
        rows = [
            tf.math.unsorted_segment_sum(part, at, batch * (bits + 1))
            for part, at in ((weights * (1 - above), bins), (weights * above, bins + 1))
        ]
        return tf.reshape(tf.add_n(rows), (batch, bits + 1))

    n, p = histogram(counts * tf.ones_like(similar)), histogram(counts * similar)
    # N_d + N_d-1 = 2 N_d - n_d
    precision = (2 * tf.cumsum(p, 1) - p + 1) / (2 * tf.cumsum(n, 1) - n + 1)
    found = tf.reduce_sum(p * precision, axis=1)
    return tf.reduce_mean(1.0 - tf.math.divide_no_nan(found, tf.reduce_sum(p, axis=1)))


def sigmoid_focal(labels, logits, alpha=0.25, gamma=2.0):
    """Focal loss of independent labels.

    Formula:
        mean_i sum_t a_t (1 - p_t)^gamma (-log p_t)
        p_t = sigma(z) if y else 1 - sigma(z);  a_t = alpha if y else 1 - alpha

    Args:
        labels: float tensor ``(batch, classes)``, values in {0, 1}.
        logits: float tensor ``(batch, classes)``.
        alpha: float in [0, 1], weight of the positives.
        gamma: float >= 0, how strongly easy labels are discounted.

    Returns:
        Scalar float tensor.

    Example:
        >>> loss = sigmoid_focal(tf.constant([[1.0]]), tf.constant([[0.0]]))
        >>> round(float(loss), 4)  # 0.25 * 0.5^2 * log(2)
        0.0433

    Reference:
        T.-Y. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5.
    """
    p = tf.sigmoid(logits)
    p_true = labels * p + (1.0 - labels) * (1.0 - p)
    weight = labels * alpha + (1.0 - labels) * (1.0 - alpha)
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    focal = weight * (1.0 - p_true) ** gamma * cross_entropy
    return tf.reduce_mean(tf.reduce_sum(focal, axis=1))


def softmax_focal(labels, logits, gamma=2.0):
    """Focal loss of exclusive classes.

    Formula:
        mean_i sum_t y_t (1 - p_t)^gamma (-log p_t),  p = softmax(z)

    Args:
        labels: float tensor ``(batch, classes)``, values in {0, 1}; one
            positive a row, or the loss cannot reach 0.
        logits: float tensor ``(batch, classes)``.
        gamma: float >= 0, how strongly easy labels are discounted.

    Returns:
        Scalar float tensor.

    Reference:
        DCDH (Wang et al., SIGIR 2019), eq. 7.
    """
    log_p = tf.nn.log_softmax(logits)
    focal = labels * (1.0 - tf.exp(log_p)) ** gamma * -log_p
    return tf.reduce_mean(tf.reduce_sum(focal, axis=1))


def pairwise_likelihood(u, similar):
    """Negative log-likelihood of the similarities of all pairs of a batch.

    Formula:
        mean over i != j of log(1 + exp(t_ij)) - s_ij t_ij,  t_ij = u_i . u_j / 2

    Args:
        u: float tensor ``(batch, bits)``, continuous codes.
        similar: float tensor ``(batch, batch)``, S over {0, 1}.

    Returns:
        Scalar float tensor; 0 for a batch of one.

    Reference:
        W.-J. Li et al., Feature Learning based Deep Supervised Hashing with Pairwise
        Labels, IJCAI 2016, eq. 1; DSRE, eq. 4.
    """
    half = tf.matmul(u, u, transpose_b=True) / 2.0
    values = tf.nn.softplus(half) - similar * half
    values = tf.linalg.set_diag(values, tf.zeros_like(u[:, 0]))
    n = tf.cast(tf.shape(u)[0], u.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values), n * (n - 1.0))


def kl_divergence(p, q):
    """Relative entropy ``sum p log(p / q)`` in nats; 0 log 0 is 0.

    Args:
        p, q: float tensors of one shape, each of sum 1.

    Returns:
        Scalar float tensor, at least 0.
    """
    tiny = 1e-12  # log(0) would give NaN, and so would its gradient
    return tf.reduce_sum(p * (tf.math.log(p + tiny) - tf.math.log(q + tiny)))


def js_divergence(p, q):
    """Symmetric relative entropy: the Jensen-Shannon divergence in nats.

    Formula:
        KL(p || m) / 2 + KL(q || m) / 2,  m = (p + q) / 2

    Args:
        p, q: float tensors of one shape, each of sum 1.

    Returns:
        Scalar float tensor from 0 (p = q) to log 2.

    Example:
        >>> round(float(js_divergence(tf.constant([1.0, 0]), tf.constant([0, 1.0]))), 4)
        0.6931

    Reference:
        DSRE, eq. 8.
    """
    middle = (p + q) / 2.0
    return (kl_divergence(p, middle) + kl_divergence(q, middle)) / 2.0
