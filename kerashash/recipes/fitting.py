"""Training on features: of a method with the upper layers of a backbone, or alone.

The lower layers are frozen, so their output for each training image and for its mirror
image is computed once and stored on disk
(`kerashash.data.feature_cache.mirrored_features`).
"""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.data import EncodedImages, augmentation
from kerashash.data.progress import progress
from kerashash.methods import DDHLDL, HashModel
from kerashash.monitoring.backup import Backup
from kerashash.recipes.recipe import Round

# A step on vectors is so short that to call it takes as long.
_STEPS_A_CALL = 32


def fit(
    model: HashModel,
    features: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    seed: int,
    backup_dir: str | os.PathLike[str] | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    *,
    batch_size: int,
    weight_decay: float,
    shift: int,
    rounds: Sequence[Round],
    cutout: int = 0,
) -> None:
    """Train on mid-level features with AdamW, in rounds of cosine decay.

    With a `backup_dir`, interrupted training resumes after its last complete epoch, and
    has the weights of training that was not interrupted.

    Args:
        model: `HashModel` whose backbone takes the features.
        features: array ``(n, 2, height, width, channels)``; feature maps of each image
            and of its mirror image.
        labels: array ``(n, num_classes)``.
        seed: int.
        backup_dir: path of a folder for the state of this training after each epoch,
            used by no other training; or None.
        log_dir: path of a folder for TensorBoard logs, or None.
        batch_size: int.
        weight_decay: float.
        shift: int; the largest shift of a feature map, in cells.
        rounds: sequence of `kerashash.recipes.recipe.Round`.
        cutout: int; the side of the square of each feature map that is set to 0.
    """
    steps = -(-len(labels) // batch_size)
    epochs_done = 0
    for number, choices in enumerate(rounds):
        warmup_steps = int(choices.warmup_epochs * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            choices.epochs * steps - warmup_steps,
            warmup_target=choices.learning_rate,
            warmup_steps=warmup_steps,
        )
        model.compile(keras.optimizers.AdamW(rate, weight_decay=weight_decay))
        dataset, pass_over = _batches(
            features,
            labels,
            batch_size,
            shift if choices.augment else None,
            seed + number,
            cutout,
        )
        callbacks = [_PassOver(pass_over, epochs_done)]
        if log_dir:
            callbacks.append(keras.callbacks.TensorBoard(log_dir))
        if backup_dir:
            # Kept: a round that is complete is not repeated when training resumes.
            folder = pathlib.Path(backup_dir) / str(number)
            callbacks.append(Backup(folder, keep=True))
        model.fit(
            dataset,
            initial_epoch=epochs_done,
            epochs=epochs_done + choices.epochs,
            callbacks=callbacks,
        )
        epochs_done += choices.epochs


class _PassOver(keras.callbacks.Callback):
    """Passes over the data of the epochs that an interrupted training has done.

    Args:
        pass_over: function of a number of epochs.
        first_epoch: int; the first epoch of the data.
    """

    def __init__(self, pass_over: Callable[[int], None], first_epoch: int) -> None:
        super().__init__()
        self._pass_over, self._next_epoch = pass_over, first_epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # After `prepare`, whose pass over the data is the first in any case.
        self._pass_over(epoch - self._next_epoch)
        self._next_epoch = epoch + 1


def fit_head(
    model: HashModel,
    features: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> tuple[HashModel, keras.callbacks.History]:
    """Train the layers above the backbone, on the backbone's output in memory.

    This is cheap enough for many epochs, which fit the codes of the training images
    where these are the database.

    Args:
        model: a trained `HashModel`.
        features: array ``(n, views, ...)``; inputs of the model's backbone, whose
            output is averaged over the views of each image.
        labels: array ``(n, num_classes)``.
        epochs, batch_size: int.
        learning_rate: float; the initial rate of a cosine decay.

    Returns:
        ``(model, history)``: a model with the same backbone, and its
        `keras.callbacks.History`.
    """
    views = range(features.shape[1])
    vectors = np.mean(
        [outputs(model.backbone, features[:, view]) for view in views], axis=0
    )
    head = model.with_backbone(network(vectors))
    history = fit_vectors(
        head,
        vectors,
        labels,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    return head.with_backbone(model.backbone), history


def fit_vectors(
    model: HashModel,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    log_dir: str | os.PathLike[str] | None = None,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> keras.callbacks.History:
    """Train on vectors in memory, with Adam and cosine decay.

    The rate of `DDHLDL` starts again with its function network, and decays over the
    epochs of the one of its two networks that has more.

    Args:
        model: `HashModel` whose backbone takes the vectors.
        x: float array ``(n, ...)``.
        y: labels of the rows, as for `HashModel.fit`.
        log_dir: path of a folder for TensorBoard logs, or None.
        epochs, batch_size: int.
        learning_rate: float; the initial rate of the decay.

    Returns:
        `keras.callbacks.History`.
    """
    decay_epochs = epochs
    if isinstance(model, DDHLDL):
        code_epochs = model.options["code_epochs"]
        decay_epochs = max(code_epochs, epochs - code_epochs)
    steps = decay_epochs * -(-len(x) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    alone = model.distribute_strategy.num_replicas_in_sync == 1
    # On several devices Keras fails with groups of steps.
    steps_a_call = _STEPS_A_CALL if alone else 1
    model.compile(keras.optimizers.Adam(rate), steps_per_execution=steps_a_call)
    callbacks = [keras.callbacks.TensorBoard(log_dir)] if log_dir else []
    return model.fit(
        x, y, batch_size=batch_size, epochs=epochs, callbacks=callbacks, verbose=2
    )


def network(
    x: npt.NDArray[Any] | EncodedImages, layers: Sequence[keras.layers.Layer] = ()
) -> keras.Sequential:
    """Make a network for the rows of an array; without layers, it is the identity."""
    return keras.Sequential(
        [keras.Input(x.shape[1:]), *(layers or [keras.layers.Identity()])]
    )


def outputs(
    network: keras.Model, features: npt.NDArray[Any], batch_size: int = 256
) -> npt.NDArray[np.float32]:
    """Compute the output of a network for features in memory or on disk.

    Args:
        network: `keras.Model`; it runs in inference mode.
        features: array ``(n, ...)``; inputs of the network.
        batch_size: int.

    Returns:
        float32 array ``(n, ...)``.
    """
    run = tf.function(lambda x: network(x, training=False), reduce_retracing=True)
    starts = range(0, len(features), batch_size)
    starts_with_bar = progress(
        starts,
        len(features),
        "Features of the fine-tuned layers",
        count=lambda start: min(batch_size, len(features) - start),
    )
    return np.concatenate(
        [
            run(features[start : start + batch_size].astype(np.float32))
            for start in starts_with_bar
        ]
    )


def _batches(
    features: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    batch_size: int,
    shift: int | None,
    seed: int,
    cutout: int,
) -> tuple[tf.data.Dataset, Callable[[int], None]]:
    """Make batches of features for `HashModel.fit`.

    With a `shift`, each feature map is that of the image or of its mirror image, drawn
    at random, moved by up to `shift` cells, without a square of side `cutout`. None
    takes the features of the image.

    Returns:
        ``(dataset, pass_over)``: each iteration over the data set is an epoch, in a new
        order. ``pass_over(epochs)`` draws what some epochs would draw.
    """
    random = np.random.default_rng(seed)

    def views(n: int) -> npt.NDArray[np.int64] | int:
        return 0 if shift is None else random.integers(2, size=n)

    def read(index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return features[index, views(len(index))]

    def load(index: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        x = tf.numpy_function(read, [index], tf.float16)
        x = tf.cast(tf.ensure_shape(x, (None, *features.shape[2:])), tf.float32)
        label = tf.gather(tf.constant(labels, tf.float32), index)
        if shift is not None:
            x = augmentation.random_shift(x, shift)
            if cutout:
                x = augmentation.random_cutout(x, cutout)
        return x, {"label": label, "index": tf.cast(index, tf.int32)}

    order = tf.data.Dataset.range(len(labels)).shuffle(len(labels), seed)
    order = order.batch(batch_size)

    def pass_over(epochs: int) -> None:
        for _ in range(epochs):
            # An iterator uses up an order, and Keras makes two an epoch: it reads one,
            # and makes the next when that has ended.
            iter(order), iter(order)
            for start in range(0, len(labels), batch_size):
                views(min(batch_size, len(labels) - start))

    return order.map(load).prefetch(4), pass_over


def freeze_statistics(network: keras.Model) -> None:
    """Freeze the batch normalization layers of a pretrained network.

    This is more stable in short training runs, and the codes in training are the ones
    that `encode` computes.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
