"""Self-training: a model's confident predictions serve as labels of unlabelled images.

Data sets are batched or not when a user passes them; inside this module they hold
single images.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.backbones.images import input_size
from kerashash.checks import (
    check_above,
    check_array,
    check_choices,
    check_fraction,
    check_integer,
    from_preset,
)
from kerashash.data import batch_watch, inputs
from kerashash.data.photographs import as_taken
from kerashash.maths.precision import floats
from kerashash.methods.hash_model import HashModel
from kerashash.methods.trainable import backs_up, checked_callbacks

__all__ = [
    "most_confident",
    "pseudo_labels",
    "self_train",
]
__dir__ = __all__.copy  # what completion offers

RULES = ("single", "multi")
PRESETS = {"default": {"select": "quantile"}, "paper": {"select": "threshold"}}


def self_train(
    model: HashModel,
    labelled: Any,
    unlabelled: Any,
    epochs: int = 10,
    rounds: int = 3,
    first_epochs: int | None = None,
    batch_size: int = 128,
    select: str | None = None,
    quantile: float | None = None,
    threshold: float = 0.95,
    rule: str = "single",
    top_k: int = 1,
    bottom_k: int | None = None,
    temperature: float = 1.0,
    verbose: str | int = "auto",
    callbacks: Any = None,
    preset: str = "default",
) -> keras.callbacks.History:
    """Train on images with and without labels, in rounds.

    The first round trains on the labelled images. Each further round predicts the
    labels of all unlabelled images with the current model, keeps the confident
    predictions (pseudo-labels), and continues training on these and the labelled
    images.

    Args:
        model: a compiled `AdaLabelHash`, or another `HashModel` that has a method
            ``scores``, images -> float scores of the labels ``(batch, num_classes)``.
        labelled: `tf.data.Dataset` of ``(x, labels)`` or ``(x, {"label"})``, batched or
            not; or pair of arrays ``(x, y)``, as for `fit`.
        unlabelled: `tf.data.Dataset` of ``(x, {"index"})``, batched or not, of known
            length n, with each index from 0 to n - 1 once; the order may change with
            every pass. `kerashash.data.indexed(images)` makes one. Or array ``(n,
            ...)``.
        epochs: int; the epochs of each round.
        rounds: int; T, the number of rounds that use unlabelled images.
        first_epochs: int or None; the epochs of the first round. 0 skips it, for a
            model that is already trained. None is `epochs`.
        batch_size: int.
        select: str or None; "quantile" keeps, in round t, the most confident share
            ``quantile * t / T`` of the images of each predicted label. "threshold", the
            paper's rule, keeps predictions whose probability is at least `threshold`.
            None takes the preset's.
        quantile: float in [0, 1], or None for 0.9, or 0.6 with the rule "multi". If
            there are enough labels for a good model, less is better: 0.3 for CIFAR-10
            with 5,000 labels.
        threshold: float in [0, 1]. Which probabilities a trained model gives depends on
            the margin and the number of labels: look at them first.
        rule, top_k, bottom_k, temperature: as for `pseudo_labels`.
        verbose, callbacks: as for `fit`, without `kerashash.callbacks.Backup` and
            `keras.callbacks.BackupAndRestore`: each round is a `fit`, whose
            pseudo-labels they do not keep.
        preset: str; "default" selects by "quantile", "paper" by "threshold".

    Returns:
        `keras.callbacks.History` of all rounds in order. ``pseudo_labelled`` is the
        number of unlabelled images in training.

    Raises:
        TypeError, ValueError: if an argument or the data is wrong.

    Example:
        >>> import kerashash
        >>> model = kerashash.AdaLabelHash("features", bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(60, 64), np.arange(20) % 10
        >>> history = model.self_train((x[:20], y), x[20:], epochs=1, verbose=0)
        >>> history.history["pseudo_labelled"][0]
        0

    Reference:
        H.-F. Yang, C.-H. Tu, C.-S. Chen, Adaptive Labeling for Deep Learning to Hash,
        CVPR Workshops 2019, section 4. It does not give the threshold, the number of
        rounds, or k.
    """
    first_epochs = epochs if first_epochs is None else first_epochs
    check_integer("epochs", epochs)
    check_integer("rounds", rounds, least=0)
    check_integer("first_epochs", first_epochs, least=0)
    check_integer("batch_size", batch_size)
    if not callable(getattr(model, "scores", None)):
        raise TypeError(
            "`model` must be a HashModel with a method `scores`, such as an "
            f"AdaLabelHash. Received: {type(model).__name__}."
        )
    callbacks = checked_callbacks(callbacks)
    for callback in callbacks:
        if backs_up(callback) or isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "`callbacks` must not back up training, of which each round is a `fit` "
                "with pseudo-labels of its own. Received: "
                f"{type(callback).__name__}."
            )
    select = from_preset(PRESETS, preset, select=select)["select"]
    check_choices({"select": ("quantile", "threshold")}, select=select)
    if quantile is None:
        quantile = 0.9 if rule == "single" else 0.6
    check_fraction(quantile=quantile, threshold=threshold)

    def predict_labels(scores: npt.ArrayLike) -> tuple[npt.NDArray[Any], ...]:
        return pseudo_labels(scores, rule, top_k, bottom_k, temperature)

    predict_labels(np.zeros((1, model.num_classes)))  # check options before training
    labelled = _labelled_examples(model, labelled)
    unlabelled, count = _unlabelled_examples(model, unlabelled)
    compute_scores = tf.function(model.scores, reduce_retracing=True)

    history = keras.callbacks.History()
    history.set_model(model)
    history.epoch, history.history = [], {}
    for number in range(rounds + 1):
        dataset, pseudo_labelled = labelled, 0
        if number:
            _, scores = inputs.collect(
                unlabelled.batch(batch_size), count, compute_scores, verbose=verbose
            )
            labels, confidence, predicted = predict_labels(scores)
            if select == "quantile":
                share = quantile * number / rounds
                selected = most_confident(confidence, predicted, share)
            else:
                selected = confidence >= threshold
            pseudo_labelled = int(selected.sum())
            dataset = joined(labelled, unlabelled, labels, selected)
        round_epochs = epochs if number else first_epochs
        if not round_epochs:
            continue
        epochs_done = len(history.epoch)
        round_history = model.fit(
            dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE),
            initial_epoch=epochs_done,
            epochs=epochs_done + round_epochs,
            verbose=verbose,
            callbacks=callbacks,
        )
        history.epoch += round_history.epoch
        logs = round_history.history
        logs["pseudo_labelled"] = [pseudo_labelled] * len(round_history.epoch)
        for name, values in logs.items():
            history.history.setdefault(name, []).extend(values)
    model.history = history
    return history


def _labelled_examples(model: HashModel, labelled: Any) -> tf.data.Dataset:
    """Make a data set of images and label rows, in any order; check the labels."""
    if isinstance(labelled, tf.data.Dataset):
        labelled = as_taken(labelled, input_size(model.backbone), model.image_fit)
        batched = labelled if is_batched(labelled) else labelled.batch(1)
        inputs.check_batches(
            batched, model.num_classes, True, False, type(model).__name__
        )
        if batch_watch.are_class_ids(batched.element_spec):
            watch = batch_watch.BatchWatch(
                model.backbone, model.check_labels, num_classes=model.num_classes
            )
            labelled = watch.over(batched)  # with label rows
        return labelled_rows(labelled)
    if not isinstance(labelled, tuple | list) or len(labelled) != 2:
        raise TypeError(
            "`labelled` must be a tf.data.Dataset or a pair of arrays (x, y). "
            f"Received type: {type(labelled).__name__}."
        )
    x = check_array(labelled[0], model._batch_shape(), "labelled")
    _check_not_empty(len(x), "labelled")
    rows = (x, model._label_rows(labelled[1], len(x), "labelled"))
    return tf.data.Dataset.from_tensor_slices(rows).shuffle(len(x))


def _unlabelled_examples(
    model: HashModel, unlabelled: Any
) -> tuple[tf.data.Dataset, int]:
    """Make a data set of ``(x, {"index"})``, in any order, and count its images."""
    if isinstance(unlabelled, tf.data.Dataset):
        unlabelled = as_taken(unlabelled, input_size(model.backbone), model.image_fit)
        rows, count = unlabelled_rows(unlabelled)
        shape, received = model._batch_shape(), rows.element_spec[0].shape
        if shape is not None and not received.is_compatible_with(shape[1:]):
            raise ValueError(
                f"`unlabelled` must have examples of shape {shape[1:]}, with one index "
                "each: `kerashash.data.indexed` before `.batch`. "
                f"Received shape: {received}."
            )
        return rows, count
    x = check_array(unlabelled, model._batch_shape(), "unlabelled")
    _check_not_empty(len(x), "unlabelled")
    index = np.arange(len(x), dtype=np.int32)
    rows = tf.data.Dataset.from_tensor_slices((x, {"index": index}))
    return rows.shuffle(len(x)), len(x)


def pseudo_labels(
    scores: npt.ArrayLike,
    rule: str = "single",
    top_k: int = 1,
    bottom_k: int | None = None,
    temperature: float = 1.0,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Predict label rows for unlabelled images from the scores of their labels.

    Formula:
        p = softmax(scores / temperature)
        "single": 1 for the label with the highest p, 0 for the others
        "multi": 1 for the top_k labels with the highest p, 0 for the bottom_k labels
        with the lowest p, -1 (unknown) for the rest

    Args:
        scores: float array ``(n, num_classes)``.
        rule: str; "single" if an image has one label, "multi" if it can have several.
        top_k: int, at least 1; for "multi". More than 1 retrieves worse, unless images
            have more labels.
        bottom_k: int, at least 0, or None; for "multi". None is round(0.8 num_classes),
            or less so that at least one label stays unknown.
        temperature: float, positive.

    Returns:
        ``(labels, confidence, predicted)``: int8 ``(n, num_classes)`` over {-1, 0, 1};
        float ``(n,)``, the mean p of the labels set to 1; and int ``(n,)``, the label
        with the highest p.

    Raises:
        TypeError: if `scores` does not hold numbers.
        ValueError: if an argument is out of range, or a score not finite.

    Example:
        >>> pseudo_labels([[3.0, 1.0, 2.0, 0.0]], "multi", top_k=1, bottom_k=2)[0]
        array([[ 1,  0, -1,  0]], dtype=int8)

    Reference:
        H.-F. Yang, C.-H. Tu, C.-S. Chen, Adaptive Labeling for Deep Learning to Hash,
        CVPR Workshops 2019, section 4.
    """
    scores = floats(scores, "scores", (None, None), np.float64, finite=True)
    num_classes = scores.shape[1]
    check_choices({"rule": RULES}, rule=rule)
    check_above(0, temperature=temperature)
    check_integer("top_k", top_k)
    if bottom_k is not None:
        check_integer("bottom_k", bottom_k, least=0)
    if rule == "single":
        top_k, bottom_k = 1, num_classes - 1
    elif bottom_k is None:
        bottom_k = max(0, min(round(0.8 * num_classes), num_classes - top_k - 1))
    if top_k + bottom_k > num_classes:
        raise ValueError(
            "`top_k` and `bottom_k` must together be at most the number of labels, "
            f"{num_classes}. Received: top_k={top_k}, bottom_k={bottom_k}."
        )
    p = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    p /= p.sum(axis=1, keepdims=True)
    order = np.argsort(-p, axis=1, kind="stable")
    labels = np.full(scores.shape, -1, np.int8)
    np.put_along_axis(labels, order[:, num_classes - bottom_k :], 0, axis=1)
    np.put_along_axis(labels, order[:, :top_k], 1, axis=1)
    confidence = np.take_along_axis(p, order[:, :top_k], axis=1).mean(axis=1)
    return labels, confidence, order[:, 0]


def most_confident(
    confidence: npt.NDArray[Any], predicted: npt.NDArray[Any], share: float
) -> npt.NDArray[np.bool_]:
    """Select, for each predicted label, the images that are most confident.

    Every label keeps the same share, so that no label crowds out another. No threshold
    is needed: the probability at which a margin is satisfied depends on the number of
    labels.

    Args:
        confidence: float array ``(n,)``.
        predicted: int array ``(n,)``; the predicted label of each image.
        share: float in [0, 1].

    Returns:
        bool array ``(n,)``, True for the selected images: round(share m) of the m
        images with the same predicted label. Ties go to the lower index.

    Example:
        >>> most_confident(np.array([0.2, 0.9, 0.5]), np.array([0, 0, 1]), 0.5)
        array([False,  True, False])
    """
    selected = np.zeros(len(confidence), bool)
    for label in np.unique(predicted):
        rows = np.flatnonzero(predicted == label)
        order = np.argsort(-confidence[rows], kind="stable")
        selected[rows[order[: round(share * len(rows))]]] = True
    return selected


def is_batched(labelled: tf.data.Dataset) -> bool:
    """Whether a data set of ``(x, labels)`` or ``(x, {"label"})`` is batched."""
    spec = labelled.element_spec
    y = spec[1] if isinstance(spec, tuple) and len(spec) == 2 else None
    label = y.get("label") if isinstance(y, dict) else y
    has_rows = isinstance(label, tf.TensorSpec) and label.shape.rank == 2
    return has_rows or (y is not None and batch_watch.are_class_ids(spec))


def labelled_rows(labelled: tf.data.Dataset) -> tf.data.Dataset:
    """Make a data set of images and float32 label rows, of known length."""
    rows = labelled.unbatch() if is_batched(labelled) else labelled
    rows = rows.apply(tf.data.experimental.assert_cardinality(_count(rows, "labelled")))
    return rows.map(
        lambda x, y: (
            x,
            tf.cast(y["label"] if isinstance(y, dict) else y, tf.float32),
        )
    )


def unlabelled_rows(unlabelled: tf.data.Dataset) -> tuple[tf.data.Dataset, int]:
    """Make a data set of ``(x, {"index"})``, and count its images.

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


def joined(
    labelled: tf.data.Dataset,
    unlabelled: tf.data.Dataset,
    labels: npt.NDArray[np.integer],
    selected: npt.NDArray[np.bool_],
) -> tf.data.Dataset:
    """Mix the labelled images with the selected unlabelled ones.

    Args:
        labelled, unlabelled: as `labelled_rows` and `unlabelled_rows` return them.
        labels: int array ``(n, num_classes)``; pseudo-labels of the unlabelled images,
            by index.
        selected: bool array ``(n,)``; which unlabelled images to take, by index.

    Returns:
        `tf.data.Dataset` of single images and float32 label rows.
    """
    sizes = int(labelled.cardinality()), int(np.sum(selected))
    if not sizes[1]:
        return labelled
    # Looked up by index, because the order of the images may change with every pass.
    labels, selected = tf.constant(labels), tf.constant(selected)
    pseudo_labelled = unlabelled.filter(lambda x, y: tf.gather(selected, y["index"]))
    pseudo_labelled = pseudo_labelled.map(
        lambda x, y: (x, tf.cast(tf.gather(labels, y["index"]), tf.float32))
    )
    mixed = tf.data.Dataset.sample_from_datasets(
        [labelled, pseudo_labelled],
        weights=[size / sum(sizes) for size in sizes],
        rerandomize_each_iteration=True,
    )
    return mixed.apply(tf.data.experimental.assert_cardinality(sum(sizes)))


def _count(dataset: tf.data.Dataset, name: str) -> int:
    """Return the number of elements; count them if it is unknown, as by `unbatch`."""
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"`{name}` must be finite. Received a data set that repeats: remove "
            "`.repeat()`."
        )
    count = count if count >= 0 else int(dataset.reduce(0, lambda n, _: n + 1))
    _check_not_empty(count, name)
    return count


def _check_not_empty(count: int, name: str) -> None:
    if not count:
        raise ValueError(f"`{name}` must have rows. Received none.")
