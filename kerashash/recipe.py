"""Train a zoo entry from its recipe, end to end: data to entry.

A recipe is a TOML file. With `fine_tune_after`, the layers of the backbone that come
after that are trained together with the method. Its first layers stay as they are, so
what they give for each training image, and for its mirror image, is computed once and
kept on disk; the trained layers are then put back, and the entry is measured on codes
of whole images.

Without it the backbone stays as it is: one known by name, or that of another entry
(``of``). The method then trains on its features, with a hidden layer if there are
``hidden_units``.
"""

import hashlib
import inspect
import os
import pathlib
import time
import tomllib

import keras
import numpy as np
import tensorflow as tf

from kerashash import backbones, data, inputs, methods, zoo
from kerashash.data import augmentation, feature_cache
from kerashash.options import check_integer

_TABLES = ("entry", "data", "backbone", "model", "training")


def read(path):
    """Read a recipe.

    Args:
        path: path of a TOML file.

    Returns:
        dict with the tables entry, data, backbone, model and training.

    Raises:
        ValueError: if it is no such file or a table is missing.
    """
    try:
        recipe = tomllib.loads(pathlib.Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(
            f"`recipe` must be a recipe file. Received: {os.fspath(path)!r} ({error})."
        ) from error
    missing = [name for name in _TABLES if name not in recipe]
    if missing:
        raise ValueError(
            f"`recipe` must have the tables {_TABLES}. Received: "
            f"{os.fspath(path)!r}, which lacks {missing}."
        )
    return recipe


def train(path, root, seed=None, seeds=1, cache_dir=None, data_dir=None, log_dir=None):
    """Train the entry that a recipe describes and write it.

    Args:
        path: path of the recipe.
        root: path of the folder in which the entry's folder is made; an entry of
            that name is replaced.
        seed: int or None, in place of the recipe's seed.
        seeds: int, how often to train, each time with the next seed. The entry is
            that of the first; its card has the metrics of all.
        cache_dir: path of a folder for the features of the frozen layers, used
            again by a later run.
        data_dir: passed to `kerashash.data.load`.
        log_dir: path of a folder for TensorBoard logs, or None.

    Returns:
        `kerashash.zoo.Entry`.

    Raises:
        ValueError: if the recipe is wrong.
    """
    recipe = read(path)
    check_integer("seeds", seeds)
    options = {
        "cache_dir": pathlib.Path(cache_dir or "~/.cache/kerashash").expanduser()
    }
    options["log_dir"] = log_dir
    images = data.load(**recipe["data"], data_dir=data_dir)
    first = recipe["training"]["seed"] if seed is None else seed
    run = _fine_tuned if "fine_tune_after" in recipe["training"] else _on_features
    start = time.monotonic()
    entry = None
    for number in range(first, first + seeds):
        keras.utils.set_random_seed(number)
        model, codes, history = run(recipe, images, number, **options)
        if entry is None:
            entry = model, codes, history, (time.monotonic() - start) / 60, []
        entry[-1].append(zoo.measure(recipe["entry"]["metrics"], codes, model.bits))
    model, codes, history, minutes, values = entry
    recipe["entry"].pop("missing", None)  # it is there
    card = {
        **recipe["entry"],
        "data": recipe["data"],
        "counts": {
            "train": images.num_train,
            "query": images.num_query,
            "database": images.num_database,
        },
        "backbone": recipe["backbone"],
        "seed": first,
        "training": {
            "minutes": round(minutes, 1),
            "loss": history.history["loss"][-1],
            "machine": f"{os.cpu_count()} CPU cores, no GPU",
        },
    }
    if seeds > 1:
        for metric, by_seed in zip(card["metrics"], np.transpose(values), strict=True):
            metric["by_seed"] = by_seed.tolist()
    text = pathlib.Path(path).read_text()
    return zoo.save(model, card["name"], card, codes, text, root, overwrite=True)


def _method(recipe, network, images):
    """The recipe's model on a network."""
    method = getattr(methods, recipe["entry"]["method"])
    options = dict(recipe["model"])
    if "num_train" in inspect.signature(method).parameters:
        options["num_train"] = images.num_train
    return method(network, num_classes=images.num_classes, **options)


def _codes(model, images):
    """What an entry keeps: codes and labels of queries and database."""
    codes = {
        "query_codes": model.encode(images.query),
        "query_labels": images.query_labels,
        "database_codes": model.encode(images.database),
        "database_labels": images.database_labels,
    }
    if model.train_codes is not None:
        learned = codes["database_codes"].copy()
        inside = images.train_rows >= 0
        rows = images.train_rows[inside]
        learned[rows] = np.packbits(model.learned_codes()[inside] > 0, axis=1)
        codes["learned_database_codes"] = learned
    return codes


def _fine_tuned(recipe, images, seed, cache_dir, log_dir):
    """Train the method and the upper layers of the backbone."""
    training = dict(recipe["training"])
    training.pop("seed")
    cut, head = training.pop("fine_tune_after"), training.pop("head")
    backbone = backbones.get(**recipe["backbone"])
    lower, upper = backbones.split(backbone, cut)
    height, width = lower.output.shape[1:3]
    if min(height, width) < 2 and any(r["augment"] for r in training["rounds"]):
        raise ValueError(
            "`fine_tune_after` must leave feature maps of 2 x 2 cells or more where a "
            f"round has augment = true. Received: {cut!r}, which leaves "
            f"{height} x {width}."
        )
    freeze_statistics(upper)
    x, labels = images.arrays("train")
    features = mirrored_features(lower, x, cache_dir)
    model = _method(recipe, upper, images)
    fit(model, features, labels, seed, log_dir, **training)
    model, history = fit_head(model, features[:, 0], labels, **head)
    model = model.with_backbone(backbone)
    zoo.round_weights(model)
    return model, _codes(model, images), history


def _on_features(recipe, images, seed, cache_dir, log_dir):
    """Train the method on the features of a backbone that stays as it is."""
    training, backbone = recipe["training"], dict(recipe["backbone"])
    units = backbone.pop("hidden_units", None)
    # The network of another entry, or one known by name; as an entry stores it.
    if "of" in backbone:
        backbone = zoo.load(backbone["of"]).backbone
    else:
        backbone = backbones.get(**backbone)
    zoo.round_weights(backbone)
    cached = data.cache_features(images, backbone, cache_dir)
    vector = keras.Input(cached.x.shape[1:])
    layers = [keras.layers.Dense(units, "relu")] if units else []
    network = (
        keras.Sequential([vector, *layers])
        if units
        else keras.Model(vector, keras.layers.Identity()(vector))
    )
    model = _method(recipe, network, cached)
    x, labels = cached.arrays("train")
    steps = training["epochs"] * -(-len(x) // training["batch_size"])
    rate = keras.optimizers.schedules.CosineDecay(training["learning_rate"], steps)
    model.compile(keras.optimizers.Adam(rate))
    history = model.fit(
        x,
        labels,
        batch_size=training["batch_size"],
        epochs=training["epochs"],
        callbacks=[keras.callbacks.TensorBoard(log_dir)] if log_dir else [],
        verbose=2,
    )
    zoo.round_weights(model)
    codes = _codes(model, cached)
    whole = keras.Sequential([backbone, *layers]) if units else backbone
    return model.with_backbone(whole), codes, history


def fit(
    model, features, labels, seed, log_dir=None, *, batch_size, weight_decay, rounds
):
    """Train on mid-level features with AdamW, in rounds of cosine decay.

    Args:
        model: a `HashModel` whose backbone takes the features.
        features: array ``(n, 2, height, width, channels)``: of an image and of its
            mirror image.
        labels: array ``(n, classes)``.
        seed: int.
        log_dir: path of a folder for TensorBoard logs, or None.
        batch_size: int.
        weight_decay: float.
        rounds: list of dicts ``epochs``; ``warmup_epochs``, in which the rate rises to
            ``learning_rate``; and ``augment``: True draws the image or its mirror
            image and moves its feature map by up to a cell, False takes the image as
            it is, for the codes of a database of training images to settle.

    """
    steps = -(-len(labels) // batch_size)
    done = 0
    for number, choices in enumerate(rounds):
        warmup = int(choices["warmup_epochs"] * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            choices["epochs"] * steps - warmup,
            warmup_target=choices["learning_rate"],
            warmup_steps=warmup,
        )
        model.compile(keras.optimizers.AdamW(rate, weight_decay=weight_decay))
        dataset = _batches(
            features, labels, batch_size, choices["augment"], seed + number
        )
        callbacks = [keras.callbacks.TensorBoard(log_dir)] if log_dir else []
        model.fit(
            dataset,
            initial_epoch=done,
            epochs=done + choices["epochs"],
            callbacks=callbacks,
        )
        done += choices["epochs"]


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
    vector = keras.Input(vectors.shape[1:])
    head = model.with_backbone(keras.Model(vector, keras.layers.Identity()(vector)))
    rate = keras.optimizers.schedules.CosineDecay(
        learning_rate, epochs * -(-len(labels) // batch_size)
    )
    head.compile(keras.optimizers.Adam(rate))
    history = head.fit(vectors, labels, batch_size=batch_size, epochs=epochs, verbose=2)
    return head.with_backbone(model.backbone), history


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


def _batches(features, labels, batch_size, augment, seed):
    random = np.random.default_rng(seed)

    def gather(index):
        view = random.integers(2, size=len(index)) if augment else 0
        return features[index, view]

    def load(index):
        x = tf.numpy_function(gather, [index], tf.float16)
        x = tf.cast(tf.ensure_shape(x, (None, *features.shape[2:])), tf.float32)
        label = tf.gather(tf.constant(labels, tf.float32), index)
        if augment:
            x = augmentation.random_shift(x, cells=1)
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


def mirrored_features(lower, x, cache_dir):
    """Features of all images and mirror images, float16 ``(n, 2, h, w, c)``."""
    # Named by all that they depend on.
    digest = hashlib.sha256(lower.to_json().encode())
    for array in (x, *lower.get_weights()):
        digest.update(np.ascontiguousarray(array))
    run = tf.function(lambda batch: lower(batch, training=False), reduce_retracing=True)

    def rows(start):
        batch = x[start : start + 128]
        return np.stack([run(batch), run(batch[:, :, ::-1])], axis=1)

    return feature_cache.computed(
        pathlib.Path(cache_dir) / f"{digest.hexdigest()[:16]}.npy",
        (len(x), 2, *lower.output.shape[1:]),
        np.float16,
        rows,
        step=128,
    )
