"""Train recipes and write their entries.

A recipe trains in one of three ways, each of which returns a `Run`. The model's weights
are rounded to the precision that an entry stores before the model encodes.
"""

import dataclasses
import hashlib
import inspect
import json
import os
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import backbones, data, files, installed, zoo
from kerashash.checks import check_integer, first_line
from kerashash.data import feature_cache
from kerashash.methods import DDHLDL, HashModel, self_training
from kerashash.recipes import fitting
from kerashash.recipes.recipe import (
    ENCODINGS,
    SEEDS,
    Backbone,
    FineTuning,
    Recipe,
    Solving,
    VectorTraining,
    read,
)
from kerashash.zoo import card_metrics, cards, encoding, writing

# More features than a network gives: some methods have no more bits than features.
_WIDE = 2048


class Run(NamedTuple):
    """The result of training.

    Attributes:
        model: `HashModel` of the inputs that the data set holds.
        codes: dict of arrays; the codes and labels for `kerashash.zoo.save`.
        loss: float; the loss of the last epoch.
    """

    model: HashModel
    codes: dict[str, npt.NDArray[Any]]
    loss: float


def train(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    seed: int | None = None,
    seeds: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    log_dir: str | os.PathLike[str] | None = None,
) -> zoo.Entry:
    """Train the entry that a recipe describes, and write it.

    Args:
        path: path of the recipe.
        root: path of the folder in which to write the entry's folder. An entry of the
            same name is replaced, nothing else is.
        seed: int in [0, 2^32) or None; replaces the seed of the recipe.
        seeds: int; how many times to train, each time with the next seed. The entry is
            that of the first seed; its card has the metrics of all.
        cache_dir: path of a folder for the features of the frozen layers, which later
            runs use again, and for the state of fine-tuning after each epoch, from
            which a later run resumes. None is the environment variable KERASHASH_CACHE
            or, without it, ``~/.cache/kerashash``.
        data_dir: path or None; as for `kerashash.data.load`. If the recipe names a
            folder of images, the path of that folder here.
        log_dir: path of a folder for TensorBoard logs, or None.

    Returns:
        `kerashash.zoo.Entry`.

    Raises:
        TypeError, ValueError: if the recipe is wrong or does not fit the data, `seeds`
            lead beyond the last seed, or the entry's folder would replace or disturb
            something else: all this before the training.

    Example:
        >>> from kerashash import zoo
        >>> path = zoo.recipe_path("ssdh-digits-48")
        >>> import contextlib, io
        >>> with contextlib.redirect_stdout(io.StringIO()):  # the log of the epochs
        ...     entry = train(path, "my-zoo", cache_dir="features")
        >>> entry.name
        'ssdh-digits-48'
    """
    recipe = read(path)
    first_seed = recipe.seed if seed is None else seed
    check_integer("seed", first_seed, least=0, most=SEEDS - 1)
    check_integer("seeds", seeds, most=SEEDS - first_seed)
    root = files.as_path(root, "root")
    target = root / recipe.name
    if "folder" in recipe.data:
        if data_dir is None:
            folder = files.as_path(recipe.data["folder"], "data.folder")
            data_dir = files.as_path(path).parent / folder
        if "labels" not in recipe.data:  # with them, folders are no classes
            check_apart(target, files.as_path(data_dir, "data_dir"), "root")
    check_entry_folder(target, "root")
    cache_name = "cache_dir" if cache_dir else "KERASHASH_CACHE"
    cache_dir = files.as_path(cache_dir or installed.cache(), cache_name)
    if recipe.backbone.network:  # columns of numbers have no features
        files.make_folder(cache_dir, cache_name)
    if log_dir is not None and "://" not in files.path_text(log_dir, "log_dir"):
        files.check_place(log_dir, "log_dir")
    metrics = recipe.entry["metrics"]
    values, minutes = [], []
    for number in range(first_seed, first_seed + seeds):
        keras.utils.set_random_seed(number)
        rows = encoding.load_data({"seed": number, **recipe.data}, data_dir)
        check_data(recipe, rows)
        check_model(recipe, rows, number)
        keras.utils.set_random_seed(number)
        start = time.monotonic()
        result = run(recipe, rows, number, cache_dir, log_dir, data_dir)
        minutes.append((time.monotonic() - start) / 60)
        bits = recipe.model.get("bits")  # None: the method has no codes
        values.append(card_metrics.measure(metrics, result.codes, bits))
        if number == first_seed:
            first_run, counts = result, encoding.counts(rows)
            # Of a folder, the card says how it was split; a data set's protocol has a
            # name.
            protocol = {"split": rows.protocol} if "folder" in recipe.data else {}
        # Before the data of the next seed are loaded, which may be as large.
        del rows, result
    if seeds > 1:
        metrics = [
            {**metric, "by_seed": [*by_seed]}
            for metric, by_seed in zip(metrics, zip(*values, strict=True), strict=True)
        ]
    # "missing" says what an entry without weights needs; it has them now.
    about = {key: value for key, value in recipe.entry.items() if key != "missing"}
    card = {
        **about,
        "metrics": metrics,
        "data": {"seed": first_seed, **recipe.data},
        "counts": counts,
        **protocol,
        "backbone": recipe.backbone.table(),
        "seed": first_seed,
        "training": {
            "minutes": round(minutes[0], 1),
            "loss": first_run.loss,
            "machine": _machine(),
        },
    }
    entry = zoo.save(
        first_run.model,
        recipe.name,
        card,
        first_run.codes,
        recipe.text,
        root,
        overwrite=True,
    )
    shutil.rmtree(backups(recipe, cache_dir), ignore_errors=True)
    return entry


def check_entry_folder(target: pathlib.Path, argument: str) -> None:
    """Check that an entry can be written, and replaces nothing but an entry.

    Args:
        target: `pathlib.Path` of the entry's folder.
        argument: str; the argument to name in the error.

    Raises:
        ValueError: if `target` is there and is no entry, or cannot be written.

    Example:
        >>> check_entry_folder(pathlib.Path("dcdh-mine-48"), "root")
    """
    writing.check_replaceable(target)
    files.check_place(target.absolute().parent, argument)


def check_apart(target: pathlib.Path, images: pathlib.Path, argument: str) -> None:
    """Check that an entry does not lie among its images, where folders are classes.

    Args:
        target: `pathlib.Path` of the entry's folder.
        images: `pathlib.Path` of the folder of images.
        argument: str; the argument to name in the error.

    Raises:
        ValueError: if it does.

    Example:
        >>> check_apart(pathlib.Path("dcdh-mine-48"), pathlib.Path("photos"), "root")
    """
    place, other = target.resolve(), images.resolve()
    if place.is_relative_to(other):
        raise ValueError(
            f"`{argument}` must be a place apart from the images. Received the entry's "
            f"folder {os.fspath(place)!r}, and images in {os.fspath(other)!r}."
        )


def check_data(
    recipe: Recipe, rows: data.RetrievalData | data.DistributionData
) -> None:
    """Check that a recipe fits its data, before anything is trained.

    Args:
        recipe: `Recipe`.
        rows: the data set, from `kerashash.data.load`.

    Raises:
        TypeError, ValueError: if it does not.

    Example:
        >>> recipe = read(zoo.recipe_path("ssdh-digits-48"))
        >>> check_data(recipe, data.load("digits"))
    """
    of_columns = isinstance(rows, data.DistributionData)
    if not (of_columns or recipe.method.has_codes):
        raise ValueError(
            f"`data` must be of label distributions for {recipe.method.__name__}, a "
            f"method without codes. Received: {recipe.data}."
        )
    if of_columns == bool(recipe.backbone.network):
        must = "have no network for columns" if of_columns else "name a network"
        raise ValueError(
            f"`backbone` must {must}. Received: {recipe.backbone.table()}, and the "
            f"data {recipe.data}."
        )
    shape = () if isinstance(rows, data.DistributionData) else rows.x.shape
    if recipe.backbone.network.get("name") == "features" and len(shape) > 2:
        raise ValueError(
            "`backbone` must be a network of images for images. Received: 'features', "
            f"which takes vectors, and inputs of shape {shape}."
        )
    card_metrics.check_data(recipe.entry["metrics"], rows)
    if recipe.self_train:
        if not len(getattr(rows, "splits", {}).get("unlabelled", ())):
            raise ValueError(
                "`training.self_train` needs data with unlabelled images. Received: "
                f"{recipe.data}."
            )
        rule = {
            name: value
            for name, value in recipe.self_train.options.items()
            if name in ("rule", "top_k", "bottom_k", "temperature")
        }
        self_training.pseudo_labels(np.zeros((1, rows.num_classes)), **rule)


def check_model(recipe: Recipe, rows: Any, seed: int) -> None:
    """Check the options of the method, before the features take minutes or hours.

    Args:
        recipe: `Recipe`.
        rows: the data set, from `kerashash.data.load`.
        seed: int.

    Raises:
        TypeError, ValueError: if the method does not take its options, there is no
            memory for the model, or no epochs are left for the network that encodes.

    Example:
        >>> recipe = read(zoo.recipe_path("ssdh-digits-48"))
        >>> check_model(recipe, data.load("digits"), seed=0)
    """
    wide = max(_WIDE, recipe.model.get("bits", 0))
    x = np.zeros((1, wide), np.float32)
    # Encodings have to see the data, and take little memory.
    plain = dataclasses.replace(recipe.backbone, encoding=None, components=None)
    try:
        network = fitting.network(x, feature_layers(x, plain))
        model = model_for(recipe, network, rows, seed)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise ValueError(
            "`backbone` and `model` must have sizes for which there is memory. "
            f"Received: {recipe.backbone.table()} and {recipe.model}: "
            f"{first_line(error)}."
        ) from error
    training = recipe.training
    if isinstance(model, DDHLDL) and isinstance(training, VectorTraining):
        code_epochs = model.options["code_epochs"]
        if training.epochs <= code_epochs:
            raise ValueError(
                "`training.epochs` must be more than `model.code_epochs`, for the "
                "network that encodes is trained after these. Received: "
                f"epochs={training.epochs} and code_epochs={code_epochs}."
            )


def _machine() -> str:
    """Say on what kind of machine an entry was trained."""
    names = [
        tf.config.experimental.get_device_details(device).get("device_name", "a GPU")
        for device in tf.config.list_physical_devices("GPU")
    ]
    return f"{os.cpu_count()} CPU cores, {' and '.join(names) or 'no GPU'}"


def run(
    recipe: Recipe,
    rows: Any,
    seed: int,
    cache_dir: str | os.PathLike[str],
    log_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Run:
    """Train as a recipe describes.

    Args:
        recipe: `Recipe`.
        rows: the data set, from `kerashash.data.load`.
        seed: int.
        cache_dir: path of a folder for features.
        log_dir: path of a folder for TensorBoard logs, or None.
        data_dir: path or None; as for `train`, for a backbone that is trained first.

    Returns:
        `Run`.

    Raises:
        TypeError, ValueError: if the recipe does not fit the data.
    """
    if isinstance(rows, data.DistributionData):
        return _on_columns(recipe, rows, seed, log_dir)
    if isinstance(recipe.training, FineTuning):
        return _fine_tuned(recipe, recipe.training, rows, seed, cache_dir, log_dir)
    return _on_features(recipe, rows, seed, cache_dir, log_dir, data_dir)


def model_for(
    recipe: Recipe, network: keras.layers.Layer, rows: Any, seed: int
) -> HashModel:
    """Make the untrained model of a recipe on a network.

    Args:
        recipe: `Recipe`.
        network: `keras.layers.Layer`; the backbone of the model.
        rows: the data set, from `kerashash.data.load`, which gives the model its
            numbers of classes and training rows.
        seed: int; for a method that takes one, unless the recipe says another.

    Returns:
        `HashModel`.
    """
    parameters = inspect.signature(recipe.method).parameters
    sizes = {}
    if "num_train" in parameters:
        sizes["num_train"] = rows.num_train
    if "seed" in parameters and "seed" not in recipe.model:
        sizes["seed"] = seed
    # DDH, which learns without labels, has a default and needs no number.
    if parameters["num_classes"].default is inspect.Parameter.empty:
        sizes["num_classes"] = rows.num_classes
    # A model takes photographs in the way in which it met them.
    fit = recipe.data.get("fit")
    fits = {} if fit is None else {"image_fit": fit}
    return recipe.method(network, **sizes, **fits, **recipe.model)


def backups(recipe: Recipe, cache_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Path of the folder for the state of a recipe's unfinished training runs."""
    return pathlib.Path(cache_dir) / f"{recipe.name}-unfinished"


def _backup_dir(
    recipe: Recipe,
    seed: int,
    cache_dir: str | os.PathLike[str],
    *arrays: npt.NDArray[Any],
) -> pathlib.Path:
    """Path of the folder for the state of one training run.

    Its name is a digest of everything that the training depends on.
    """
    # Training depends on the method of the entry, not on its texts and metrics.
    choices = dataclasses.asdict(recipe)
    choices |= {"text": None, "entry": recipe.entry["method"]}
    digest = hashlib.sha256(json.dumps([choices, seed], default=str).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return backups(recipe, cache_dir) / digest.hexdigest()[:16]


def _fine_tuned(
    recipe: Recipe,
    training: FineTuning,
    images: data.RetrievalData,
    seed: int,
    cache_dir: str | os.PathLike[str],
    log_dir: str | os.PathLike[str] | None,
) -> Run:
    """Train the method together with the upper layers of the backbone."""
    backbone = backbones.get(**recipe.backbone.network)
    lower, upper = backbones.split(backbone, training.fine_tune_after)
    height, width = lower.output.shape[1:3]
    if training.shift >= min(height, width):
        raise ValueError(
            "`shift` must be less than the height and width of the feature maps after "
            f"the layer `fine_tune_after`. Received: shift={training.shift}, and "
            f"feature maps of {height} x {width} after {training.fine_tune_after!r}."
        )
    fitting.freeze_statistics(upper)
    x, labels = images.arrays("train")
    features = feature_cache.mirrored_features(lower, x, cache_dir)
    model = model_for(recipe, upper, images, seed)
    if training.first_head:
        # A random head would pass random gradients to the pretrained layers.
        first_head = dataclasses.asdict(training.first_head)
        model, _ = fitting.fit_head(model, features[:, :1], labels, **first_head)
    fitting.fit(
        model,
        features,
        labels,
        seed,
        _backup_dir(recipe, seed, cache_dir, features[0], labels),
        log_dir,
        batch_size=training.batch_size,
        weight_decay=training.weight_decay,
        shift=training.shift,
        cutout=training.cutout,
        rounds=training.rounds,
    )
    head = dataclasses.asdict(training.head)
    views = features if recipe.backbone.mirrored else features[:, :1]
    model, history = fitting.fit_head(model, views, labels, **head)
    backbone = _mirrored(backbone, recipe)
    model = model.with_backbone(backbone)
    zoo.round_weights(model)
    # Recipes that use this entry's backbone read its features from the same cache.
    cached = data.cache_features(images, backbone, cache_dir)
    on_features = model.with_backbone(fitting.network(cached.x))
    codes = encoding.encode_splits(on_features, cached, _needs_learned(recipe))
    return Run(model, codes, history.history["loss"][-1])


def _on_features(
    recipe: Recipe,
    images: data.RetrievalData,
    seed: int,
    cache_dir: str | os.PathLike[str],
    log_dir: str | os.PathLike[str] | None,
    data_dir: str | os.PathLike[str] | None,
) -> Run:
    """Train the method on the features of a frozen backbone.

    The backbone is one with a name or that of another entry.
    """
    options = recipe.backbone.network
    if "of" in options:
        backbone = _backbone_of(options["of"], recipe, seed, cache_dir, data_dir)
    else:
        backbone = backbones.get(**options)
    backbone = _mirrored(backbone, recipe)
    if backbone.weights:  # "features" are a layer without any
        zoo.round_weights(backbone)
    cached = data.cache_features(images, backbone, cache_dir)
    x, labels = cached.arrays("train")
    layers = feature_layers(x, recipe.backbone)
    model = model_for(recipe, fitting.network(x, layers), images, seed)
    history = _fit(model, x, labels, recipe, log_dir)
    if recipe.self_train:
        model.compile(keras.optimizers.Adam(recipe.self_train.learning_rate))
        unlabelled, _ = cached.arrays("unlabelled")
        model.self_train(
            (x, labels),
            unlabelled,
            first_epochs=0,
            verbose=2,
            **recipe.self_train.options,
        )
    zoo.round_weights(model)
    codes = encoding.encode_splits(model, cached, _needs_learned(recipe))
    network = keras.Sequential([backbone, *layers]) if layers else backbone
    model = model.with_backbone(network)
    return Run(model, codes, history.history["loss"][-1])


def _mirrored(backbone: keras.Model, recipe: Recipe) -> keras.Model:
    """Average the features over mirror images if the recipe says so."""
    return backbones.mirrored(backbone) if recipe.backbone.mirrored else backbone


def _backbone_of(
    name: str,
    recipe: Recipe,
    seed: int,
    cache_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
) -> keras.Model:
    """Load the backbone of another entry, trained on the splits of this seed.

    Where each seed draws its own splits, the entry's backbone may have been trained on
    what are queries here. Its recipe then trains it anew with this seed, once.
    """
    found = zoo.entry(name)
    splits_fixed = "seed" in recipe.data or seed == found.card.get("seed")
    if splits_fixed or not cards.has_recipe(found.card):
        return zoo.load(name).backbone
    path = found.path / "recipe.toml"
    other = read(path)
    source = "folder" if "folder" in recipe.data else "name"
    if "seed" in other.data or other.data.get(source) != recipe.data[source]:
        return zoo.load(name).backbone
    # What the card says may change: that is no reason to train again.
    told = dataclasses.replace(other, entry={"method": other.entry["method"]})
    digest = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    root = pathlib.Path(cache_dir) / f"seed-{seed}-{digest}"
    try:
        return zoo.load(root / other.name).backbone
    except ValueError:  # it is not there, or damaged
        train(path, root, seed=seed, cache_dir=cache_dir, data_dir=data_dir)
        # The head is that of a run that finds the backbone trained.
        keras.utils.set_random_seed(seed)
    return zoo.load(root / other.name).backbone


def _on_columns(
    recipe: Recipe,
    rows: data.DistributionData,
    seed: int,
    log_dir: str | os.PathLike[str] | None,
) -> Run:
    """Train the method on columns of numbers, with label distributions."""
    x, d = rows.x_train, rows.d_train
    network = fitting.network(x, feature_layers(x, recipe.backbone))
    model = model_for(recipe, network, rows, seed)
    history = _fit(model, x, d, recipe, log_dir)
    zoo.round_weights(model)
    codes = encoding.encode_splits(model, rows)
    return Run(model, codes, history.history["loss"][-1])


def _fit(
    model: HashModel,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    recipe: Recipe,
    log_dir: str | os.PathLike[str] | None,
) -> keras.callbacks.History:
    """Train on vectors in memory, by gradients or by the method's own solver."""
    training = recipe.training
    choices = dataclasses.asdict(training)
    if isinstance(training, Solving):
        callbacks = [keras.callbacks.TensorBoard(log_dir)] if log_dir else []
        return model.fit(x, y, **choices, verbose=2, callbacks=callbacks)
    return fitting.fit_vectors(model, x, y, log_dir, **choices)


def _needs_learned(recipe: Recipe) -> bool:
    """Say whether a metric of the recipe needs codes that are learned in training."""
    return "learned_database_codes" in card_metrics.arrays_for(recipe.entry["metrics"])


def feature_layers(x: npt.NDArray[Any], backbone: Backbone) -> list[keras.layers.Layer]:
    """Make the layers between features, or columns, and the method."""
    layers: list[keras.layers.Layer] = []
    if backbone.encoding is not None:
        options = {"components": backbone.components} if backbone.components else {}
        layers.append(ENCODINGS[backbone.encoding](**options))
        layers[0].adapt(x)
    if backbone.hidden_units is not None:
        layers.append(keras.layers.Dense(backbone.hidden_units, "relu"))
    if backbone.dropout is not None:
        pairs = [(layer, keras.layers.Dropout(backbone.dropout)) for layer in layers]
        layers = [layer for pair in pairs for layer in pair]
    return layers
