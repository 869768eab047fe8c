"""The ways in which a recipe trains: from data to a model and its codes.

Each gives a `Run`. The model's weights are rounded to what an entry stores before it
encodes.
"""

import hashlib
import inspect
import json
import pathlib
from typing import NamedTuple

import keras
import numpy as np

from kerashash import backbones, data, methods, zoo
from kerashash.backbones import QuantileEncoding
from kerashash.data import feature_cache
from kerashash.recipes import fitting

_ENCODINGS = {
    "quantiles": QuantileEncoding,
    "standardized": keras.layers.Normalization,
}


class Run(NamedTuple):
    """What came of a training.

    Attributes:
        model: `HashModel`, of what the data set holds.
        codes: dict of arrays, as `zoo.save` takes them.
        loss: float, of the last epoch.
    """

    model: keras.Model
    codes: dict
    loss: float


def run(recipe, rows, seed, cache_dir, log_dir=None):
    """Train by a recipe, in the way that it describes.

    Args:
        recipe: dict, as `kerashash.recipes.recipe.read` gives it.
        rows: what `kerashash.data.load` gives.
        seed: int.
        cache_dir: path of a folder for features.
        log_dir: path of a folder for TensorBoard logs, or None.

    Returns:
        `Run`.

    Raises:
        TypeError, ValueError: if the recipe is wrong.
    """
    options = {k: v for k, v in recipe["training"].items() if k != "seed"}
    recipe = {**recipe, "training": options}
    if isinstance(rows, data.DistributionData):
        return _on_columns(recipe, rows, log_dir)
    if "fine_tune_after" in recipe["training"]:
        return _fine_tuned(recipe, rows, seed, cache_dir, log_dir)
    return _on_features(recipe, rows, cache_dir, log_dir)


def method(recipe, network, rows):
    """The recipe's model on a network, not trained."""
    name = recipe["entry"]["method"]
    made = getattr(methods, str(name), None)
    if made is None:
        raise ValueError(
            f"`method` must be one of kerashash.methods. Received: {name!r}."
        )
    parameters = inspect.signature(made).parameters
    sizes = {}
    if "num_train" in parameters:
        sizes["num_train"] = rows.num_train
    # DDH has no use for classes.
    if parameters["num_classes"].default is inspect.Parameter.empty:
        sizes["num_classes"] = rows.num_classes
    return made(network, **sizes, **recipe["model"])


def backups(recipe, cache_dir):
    """Path of the folder for the state of a recipe's unfinished trainings."""
    return pathlib.Path(cache_dir) / f"{recipe['entry']['name']}-unfinished"


def _backup_dir(recipe, seed, cache_dir, *arrays):
    """Path of the folder for the state of one training, named by what it depends on."""
    # The words and metrics of the entry change nothing that is trained.
    choices = {**recipe, "entry": recipe["entry"]["method"]}
    digest = hashlib.sha256(json.dumps([choices, seed], default=str).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return backups(recipe, cache_dir) / digest.hexdigest()[:16]


def _fine_tuned(recipe, images, seed, cache_dir, log_dir):
    """The method and the upper layers of the backbone together."""
    training = dict(recipe["training"])
    cut, head = training.pop("fine_tune_after"), training.pop("head")
    first_head = training.pop("first_head", None)
    backbone = backbones.get(**recipe["backbone"])
    lower, upper = backbones.split(backbone, cut)
    height, width = lower.output.shape[1:3]
    if training["shift"] >= min(height, width):
        raise ValueError(
            "`shift` must be less than the height and width of the feature maps that "
            f"`fine_tune_after` leaves. Received: shift = {training['shift']}, and "
            f"{cut!r} leaves {height} x {width}."
        )
    fitting.freeze_statistics(upper)
    x, labels = images.arrays("train")
    features = feature_cache.mirrored_features(lower, x, cache_dir)
    model = method(recipe, upper, images)
    if first_head:
        # So that the backbone does not start on the gradients of a random head.
        model, _ = fitting.fit_head(model, features[:, 0], labels, **first_head)
    backup = _backup_dir(recipe, seed, cache_dir, features[0], labels)
    fitting.fit(model, features, labels, seed, backup, log_dir, **training)
    model, history = fitting.fit_head(model, features[:, 0], labels, **head)
    model = model.with_backbone(backbone)
    zoo.round_weights(model)
    # Entries that train on this backbone find its features there.
    cached = data.cache_features(images, backbone, cache_dir)
    codes = _codes(recipe, model.with_backbone(fitting.network(cached.x)), cached)
    return Run(model, codes, history.history["loss"][-1])


def _on_features(recipe, images, cache_dir, log_dir):
    """The method on the features of a backbone that stays as it is: one known by name,
    or that of another entry."""
    options = dict(recipe["backbone"])
    above = {k: options.pop(k, None) for k in ("encoding", "hidden_units", "dropout")}
    if "of" in options:
        backbone = zoo.load(options["of"]).backbone
    else:
        backbone = backbones.get(**options)
    zoo.round_weights(backbone)
    cached = data.cache_features(images, backbone, cache_dir)
    x, labels = cached.arrays("train")
    layers = _layers(x, **above)
    model = method(recipe, fitting.network(x, layers), images)
    training = dict(recipe["training"])
    self_training = training.pop("self_train", None)
    history = fitting.fit_vectors(model, x, labels, log_dir, **training)
    if self_training:
        options = dict(self_training)
        model.compile(keras.optimizers.Adam(options.pop("learning_rate")))
        unlabelled, _ = cached.arrays("unlabelled")
        model.self_train((x, labels), unlabelled, first_epochs=0, verbose=2, **options)
    zoo.round_weights(model)
    codes = _codes(recipe, model, cached)
    whole = keras.Sequential([backbone, *layers]) if layers else backbone
    model = model.with_backbone(whole)
    return Run(model, codes, history.history["loss"][-1])


def _on_columns(recipe, rows, log_dir):
    """The method on columns of numbers, with label distributions."""
    x, d = rows.x_train, rows.d_train
    network = fitting.network(x, _layers(x, **recipe["backbone"]))
    model = method(recipe, network, rows)
    # The schedule starts again with the function network.
    decay = model.options["code_epochs"]
    history = fitting.fit_vectors(
        model, x, d, log_dir, decay_epochs=decay, **recipe["training"]
    )
    zoo.round_weights(model)
    codes = {
        "query_codes": model.encode(rows.x_query),
        "query_labels": rows.d_query,
        "database_codes": model.encode(x),
        "database_labels": d,
    }
    return Run(model, codes, history.history["loss"][-1])


def _layers(x, encoding=None, hidden_units=None, dropout=None):
    """Layers between columns or features and the method."""
    layers = []
    if encoding is not None:
        if encoding not in _ENCODINGS:
            raise ValueError(
                f"`encoding` must be one of {[*_ENCODINGS]}. Received: {encoding!r}."
            )
        layers.append(_ENCODINGS[encoding]())
        layers[0].adapt(x)
    if hidden_units is not None:
        layers.append(keras.layers.Dense(hidden_units, "relu"))
    if dropout is not None:
        pairs = [(layer, keras.layers.Dropout(dropout)) for layer in layers]
        layers = [layer for pair in pairs for layer in pair]
    return layers


def _codes(recipe, model, images):
    """What an entry keeps: codes and labels of the splits that metrics need."""
    splits = [s for s in ("query", "database", "validation") if s in images.splits]
    codes = {}
    for split in splits:
        x, codes[f"{split}_labels"] = images.arrays(split)
        codes[f"{split}_codes"] = model.encode(x)
    if any(m.get("database") == "learned" for m in recipe["entry"]["metrics"]):
        learned = codes["database_codes"].copy()
        inside = images.train_rows >= 0
        rows = images.train_rows[inside]
        learned[rows] = np.packbits(model.learned_codes()[inside] > 0, axis=1)
        codes["learned_database_codes"] = learned
    return codes
