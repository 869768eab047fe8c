"""Self-training: a model's own confident answers as labels of unlabelled images.

Pure functions of numpy arrays; `AdaLabelHash.self_train` uses them.
"""

import numpy as np

from kerashash.options import check_choices

RULES = ("single", "multi")


def pseudo_labels(scores, rule="single", top_k=1, bottom_k=None, temperature=1.0):
    """Label rows for unlabelled images, from the scores of their labels.

    Formula:
        p = softmax(scores / temperature)
        "single": the most probable label, and no other
        "multi": the top_k most probable labels, not the bottom_k least probable ones,
        and the rest unknown

    Args:
        scores: float array ``(n, classes)``.
        rule: "single" where an image has one label; "multi" where it may have several.
        top_k: int, at least 1; more than 1 retrieves worse unless images have more.
        bottom_k: int, at least 0; None is round(0.8 classes), less if that would leave
            no label unknown. Both are for "multi".
        temperature: float, positive.

    Returns:
        ``(labels, confidence, predicted)``: int8 ``(n, classes)``, 1 has the label, 0
        has it not, -1 unknown; float ``(n,)``, the mean p of the positive labels; and
        int ``(n,)``, the most probable label.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> pseudo_labels([[3.0, 1.0, 2.0, 0.0]], "multi", top_k=1, bottom_k=2)[0]
        array([[ 1,  0, -1,  0]], dtype=int8)

    Reference:
        H.-F. Yang, C.-H. Tu, C.-S. Chen, Adaptive Labeling for Deep Learning to Hash,
        CVPR Workshops 2019, section 4.
    """
    scores = np.asarray(scores, np.float64)
    classes = scores.shape[1]
    check_choices({"rule": RULES}, rule=rule)
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive. Received: {temperature}.")
    if rule == "single":
        top_k, bottom_k = 1, classes - 1
    elif bottom_k is None:
        bottom_k = max(0, min(round(0.8 * classes), classes - top_k - 1))
    if top_k < 1 or bottom_k < 0 or top_k + bottom_k > classes:
        raise ValueError(
            "`top_k` must be at least 1, `bottom_k` at least 0 and both together at "
            f"most the number of labels, {classes}. Received: top_k={top_k}, "
            f"bottom_k={bottom_k}."
        )
    p = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    p /= p.sum(axis=1, keepdims=True)
    order = np.argsort(-p, axis=1, kind="stable")
    labels = np.full(scores.shape, -1, np.int8)
    np.put_along_axis(labels, order[:, classes - bottom_k :], 0, axis=1)
    np.put_along_axis(labels, order[:, :top_k], 1, axis=1)
    confidence = np.take_along_axis(p, order[:, :top_k], axis=1).mean(axis=1)
    return labels, confidence, order[:, 0]


def most_confident(confidence, predicted, share):
    """Of the images of each predicted label, the most confident.

    Takes as large a share of each label, so that none crowds out another, and needs no
    threshold: how probable a satisfied margin is depends on the number of labels.

    Args:
        confidence: float array ``(n,)``.
        predicted: int array ``(n,)``.
        share: float in [0, 1].

    Returns:
        bool array ``(n,)``; of a label predicted m times, round(share m) images. Ties
        go to the smaller index.

    Example:
        >>> most_confident(np.array([0.2, 0.9, 0.5]), np.array([0, 0, 1]), 0.5)
        array([False,  True, False])
    """
    chosen = np.zeros(len(confidence), bool)
    for label in np.unique(predicted):
        rows = np.flatnonzero(predicted == label)
        best = np.argsort(-confidence[rows], kind="stable")
        chosen[rows[best[: round(share * len(rows))]]] = True
    return chosen
