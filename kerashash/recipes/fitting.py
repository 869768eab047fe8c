"""Training on features: the upper layers of a backbone with a method, or it alone.

The first layers stay as they are, so what they give for each training image, and for
its mirror image, is computed once and kept on disk.
"""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from kerashash.data import augmentation, inputs


def fit(
    model,
    features,
    labels,
    seed,
    backup_dir=None,
    log_dir=None,
    *,
    batch_size,
    weight_decay,
    shift,
    rounds,
):
    """Train on mid-level features with AdamW, in rounds of cosine decay.

    With a `backup_dir` a training that was stopped goes on after its last whole epoch.

    Args:
        model: a `HashModel` whose backbone takes the features.
        features: array ``(n, 2, height, width, channels)``: of an image and of its
            mirror image.
        labels: array ``(n, classes)``.
        seed: int.
        backup_dir: path of a folder of this training's own, for its state after each
            epoch, or None.
        log_dir: path of a folder for TensorBoard logs, or None.
        batch_size: int.
        weight_decay: float.
        shift: int, by how many cells a feature map is moved at most.
        rounds: sequence of `kerashash.recipes.recipe.Round`: its ``epochs``;
            ``warmup_epochs``, in which the rate rises to ``learning_rate``; and
            ``augment``: True draws the image or its mirror image and moves its feature
            map; False takes the image as it is, so that the codes of a database of
            training images settle.
    """
    steps = -(-len(labels) // batch_size)
    done = 0
    for number, choices in enumerate(rounds):
        warmup = int(choices.warmup_epochs * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            choices.epochs * steps - warmup,
            warmup_target=choices.learning_rate,
            warmup_steps=warmup,
        )
        model.compile(keras.optimizers.AdamW(rate, weight_decay=weight_decay))
        dataset = _batches(
            features,
            labels,
            batch_size,
            shift if choices.augment else None,
            seed + number,
        )
        callbacks = [keras.callbacks.TensorBoard(log_dir)] if log_dir else []
        if backup_dir:
            backup = keras.callbacks.BackupAndRestore(
                pathlib.Path(backup_dir) / str(number),
                double_checkpoint=True,
                delete_checkpoint=False,  # a round that is done is not done again
            )
            callbacks.append(backup)
        model.fit(
            dataset,
            initial_epoch=done,
            epochs=done + choices.epochs,
            callbacks=callbacks,
        )
        done += choices.epochs


def fit_head(model, features, labels, *, epochs, batch_size, learning_rate):
    """Train what lies above the backbone on its features, kept in memory.

    Cheap enough for many epochs: it fits the codes of the training images, where they
    are the database.

    Args:
        model: a trained `HashModel`.
        features: array ``(n, ...)``, inputs of its backbone.
        labels: array ``(n, classes)``.
        epochs, batch_size: int.
        learning_rate: float, at the start of a cosine decay.

    Returns:
        ``(model, history)``: a model with the same backbone, and its
        `keras.callbacks.History`.
    """
    vectors = outputs(model.backbone, features)
    head = model.with_backbone(network(vectors))
    options = {"epochs": epochs, "batch_size": batch_size}
    history = fit_vectors(head, vectors, labels, learning_rate=learning_rate, **options)
    return head.with_backbone(model.backbone), history


def fit_vectors(
    model,
    x,
    y,
    log_dir=None,
    *,
    epochs,
    batch_size,
    learning_rate,
    decay_epochs=None,
):
    """Train on vectors in memory with Adam and cosine decay.

    Args:
        model: `HashModel` whose backbone takes the vectors.
        x: float array ``(n, ...)``.
        y: labels of the rows, as for `HashModel.fit`.
        log_dir: path of a folder for TensorBoard logs, or None.
        epochs, batch_size: int.
        learning_rate: float, at the start of the decay.
        decay_epochs: int, over how many epochs it decays; None is all.

    Returns:
        `keras.callbacks.History`.
    """
    steps = (decay_epochs or epochs) * -(-len(x) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate))
    callbacks = [keras.callbacks.TensorBoard(log_dir)] if log_dir else []
    return model.fit(
        x, y, batch_size=batch_size, epochs=epochs, callbacks=callbacks, verbose=2
    )


def network(x, layers=()):
    """Layers as a network of rows like those of an array; none passes them on."""
    return keras.Sequential(
        [keras.Input(x.shape[1:]), *(layers or [keras.layers.Identity()])]
    )


def outputs(network, features, batch_size=256):
    """What a network gives for features kept in memory or on disk.

    Args:
        network: `keras.Model`, used as in inference.
        features: array ``(n, ...)``, inputs of the network.
        batch_size: int.

    Returns:
        float32 array ``(n, ...)``.
    """
    run = tf.function(lambda x: network(x, training=False), reduce_retracing=True)
    starts = range(0, len(features), batch_size)
    rows = inputs.progress(starts, len(starts), "Features of the fine-tuned layers")
    return np.concatenate(
        [run(features[i : i + batch_size].astype(np.float32)) for i in rows]
    )


def _batches(features, labels, batch_size, shift, seed):
    """Batches of features as they are, or mirrored and moved up to `shift` cells."""
    random = np.random.default_rng(seed)

    def gather(index):
        view = 0 if shift is None else random.integers(2, size=len(index))
        return features[index, view]

    def load(index):
        x = tf.numpy_function(gather, [index], tf.float16)
        x = tf.cast(tf.ensure_shape(x, (None, *features.shape[2:])), tf.float32)
        label = tf.gather(tf.constant(labels, tf.float32), index)
        if shift is not None:
            x = augmentation.random_shift(x, shift)
        return x, {"label": label, "index": tf.cast(index, tf.int32)}

    order = tf.data.Dataset.range(len(labels)).shuffle(len(labels), seed)
    return order.batch(batch_size).map(load).prefetch(4)


def freeze_statistics(network):
    """Leave the batch statistics of a pretrained network as they are.

    Steadier in a short training, and the codes seen in training are those that `encode`
    gives.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
