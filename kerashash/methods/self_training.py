"""Self-training: a model's own confident answers as labels of unlabelled images.

Pure functions of scores and of data sets; `AdaLabelHash.self_train` uses them.
"""

import numpy as np
import tensorflow as tf

from kerashash.checks import check_choices

__all__ = [
    "most_confident",
    "pseudo_labels",
]

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


def is_batched(labelled):
    """Whether a data set of ``(x, labels)`` or ``(x, {"label"})`` is in batches."""
    spec = labelled.element_spec
    y = spec[1] if isinstance(spec, tuple) and len(spec) == 2 else None
    label = y.get("label") if isinstance(y, dict) else y
    return isinstance(label, tf.TensorSpec) and label.shape.rank == 2


def labelled_rows(labelled):
    """Single images with float32 label rows, of known number."""
    rows = labelled.unbatch() if is_batched(labelled) else labelled
    rows = rows.apply(tf.data.experimental.assert_cardinality(_count(rows, "labelled")))
    return rows.map(
        lambda x, y: (
            x,
            tf.cast(y["label"] if isinstance(y, dict) else y, tf.float32),
        )
    )


def unlabelled_rows(unlabelled):
    """Single images ``(x, {"index"})``, and how many there are.

    Raises:
        ValueError: if the elements have no index.
    """
    spec = unlabelled.element_spec
    pair = isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], dict)
    if not pair or "index" not in spec[1]:
        raise ValueError(
            "`unlabelled` must have elements (x, {'index': ...}). "
            "`kerashash.data.indexed(images)` adds the index. "
            f"Received elements: {spec}."
        )
    if spec[1]["index"].shape.rank == 1:
        unlabelled = unlabelled.unbatch()
    rows = unlabelled.map(lambda x, y: (x, {"index": y["index"]}))
    return rows, _count(unlabelled, "unlabelled")


def joined(labelled, unlabelled, labels, chosen):
    """Labelled and chosen images, mixed; each element comes with its own label row.

    Args:
        labelled, unlabelled: as `labelled_rows` and `unlabelled_rows` give them.
        labels: int array ``(n, classes)``, label rows of the unlabelled images by
            index.
        chosen: bool array ``(n,)``, which of them to take.

    Returns:
        `tf.data.Dataset` of single images and float32 label rows.
    """
    sizes = int(labelled.cardinality()), int(np.sum(chosen))
    if not sizes[1]:
        return labelled
    # Looked up by index: the order of the images may change with each epoch.
    labels, chosen = tf.constant(labels), tf.constant(chosen)
    pseudo = unlabelled.filter(lambda x, y: tf.gather(chosen, y["index"]))
    pseudo = pseudo.map(
        lambda x, y: (x, tf.cast(tf.gather(labels, y["index"]), tf.float32))
    )
    mixed = tf.data.Dataset.sample_from_datasets(
        [labelled, pseudo],
        weights=[size / sum(sizes) for size in sizes],
        rerandomize_each_iteration=True,
    )
    return mixed.apply(tf.data.experimental.assert_cardinality(sum(sizes)))


def _count(dataset, name):
    """Number of elements; where it is unknown, as after `unbatch`, they are counted."""
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"`{name}` must be finite. Received a data set that repeats: remove "
            "`.repeat()`."
        )
    return count if count >= 0 else int(dataset.reduce(0, lambda n, _: n + 1))
