"""Recipes: how to train an entry of the zoo, read from TOML and checked once.

A recipe is a file with five tables:

- ``entry``: the content of the card, with ``name``, ``method`` and ``metrics``
  (`kerashash.zoo.save`). It may say the ``objective``, what trained the backbone
  (``backbone_trained_by``), on which data choices were made (``chosen_on``) and what
  another seed changes (``seeds_vary``);
- ``data``: arguments of `kerashash.data.load`; or ``folder``, a folder of your own
  images with a folder for each class, and further arguments of
  `kerashash.data.from_directory`, which says how it draws the queries. A relative path
  starts at the recipe's file, that of the CSV file ``labels`` in the folder. Without
  ``seed``, each training run draws its own splits;
- ``backbone``: arguments of `kerashash.backbones.get`, or ``of``, the entry whose
  backbone to use; if each run of both recipes draws its own splits of the same data,
  that entry's recipe trains it anew for another seed. ``mirrored = true`` averages its
  features over each image and its mirror image (`kerashash.backbones.mirrored`).
  Further keys add layers on the features: ``encoding`` ("quantiles", "standardized" or
  "whitened"), the number of ``components`` of the last, ``hidden_units``, and the rate
  of ``dropout`` after each of these layers. For columns of numbers there are only these
  further keys;
- ``model``: ``bits`` and other options of the method. A method that predicts label
  distributions and has no codes takes no ``bits``;
- ``training``: ``seed``, and either ``epochs``, ``batch_size`` and ``learning_rate``
  for training on features that are computed once, optionally continued by
  ``self_train`` on unlabelled images (`kerashash.methods.self_training`); for a method
  with a solver of its own, ``epochs``, its iterations, and ``batch_size``, that of the
  backbone, if they are not the defaults; or
  ``fine_tune_after``, a layer of the backbone. The layers after it then train as well
  (`kerashash.recipes.fitting.fit`): in ``rounds``, optionally after a ``first_head``,
  and at the end the ``head`` alone.
"""

import dataclasses
import inspect
import json
import os
import tomllib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras
import numpy as np

from kerashash import baselines, files, methods
from kerashash.backbones import QuantileEncoding, Whitening
from kerashash.baselines.shallow import ShallowHash
from kerashash.checks import check_choices, check_integer
from kerashash.data import from_directory, load
from kerashash.methods import self_training
from kerashash.zoo import card_metrics, cards

_TABLES = ("entry", "data", "backbone", "model", "training")
#: The methods and baselines that a recipe can train, by name.
METHODS = {
    name: getattr(module, name)
    for module in (methods, baselines)
    for name in module.__all__
    if inspect.isclass(getattr(module, name))
    and issubclass(getattr(module, name), methods.HashModel)
    and name != "HashModel"
}
#: The encodings of features, by name.
ENCODINGS = {
    "quantiles": QuantileEncoding,
    "standardized": keras.layers.Normalization,
    "whitened": Whitening,
}
#: The largest seed plus 1.
SEEDS = 2**32
# Keys of the backbone's table that add layers on its features.
_LAYERS = ("encoding", "components", "hidden_units", "dropout")
# Keys of the table `entry` that are texts where it has them, as are those that every
# card checks.
_TEXTS = (
    *("paper", "paper_value", "trained_on", "licence", "use", "choices"),
    *("difference", "missing"),
)
# What the training writes on the card, beside the recipe's own table `entry`.
_WRITTEN = (
    *("bits", "bit_imbalance", "counts", "data", "backbone", "seed", "training"),
    *("split", "versions", "files", "shared", "image_fit"),
)
# The largest size or count of a recipe: TensorFlow takes no more.
_LARGEST_INTEGER = 2**31 - 1
# Most bytes of a recipe; those of the zoo have some thousand.
_MOST_BYTES = 1 << 20
# Beyond it, a number is infinite for TensorFlow.
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class VectorTraining:
    """Training on vectors in memory, as for `kerashash.recipes.fitting.fit_vectors`.

    Attributes:
        epochs: int.
        batch_size: int.
        learning_rate: float; the initial rate of a cosine decay.
    """

    epochs: int
    batch_size: int
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class Solving:
    """The training of a method with a solver of its own, a `ShallowHash`.

    Attributes:
        epochs: int or None; the iterations of the solver. None is the method's default.
        batch_size: int or None; the rows that the backbone takes at a time.
    """

    epochs: int | None = None
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True)
class SelfTraining:
    """Further training on unlabelled images.

    Attributes:
        learning_rate: float; the rate of Adam.
        options: dict; arguments of `kerashash.methods.self_training.self_train`.
    """

    learning_rate: float
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Round:
    """A round of fine-tuning, as for `kerashash.recipes.fitting.fit`.

    Attributes:
        epochs: int.
        warmup_epochs: float; the epochs in which the learning rate rises linearly, at
            the start of the round.
        learning_rate: float; the rate after the warm-up, from which it decays.
        augment: bool; True draws the image or its mirror image, shifts its feature map
            and cuts a square out of it. False takes the image as it is, so that the
            codes of training images that are the database settle.
    """

    epochs: int
    warmup_epochs: float
    learning_rate: float
    augment: bool


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """Training of the upper layers of the backbone, then of the head alone.

    Attributes:
        fine_tune_after: str; the last layer of the backbone that is frozen.
        batch_size: int.
        weight_decay: float.
        shift: int; the largest shift of a feature map, in cells.
        rounds: tuple of `Round`.
        head: `VectorTraining` of the layers above the backbone, after the rounds.
        first_head: `VectorTraining` of these layers before the rounds, or None.
        cutout: int; the side of the square of each feature map that is set to 0, in
            cells (`kerashash.data.augmentation.random_cutout`).
    """

    fine_tune_after: str
    batch_size: int
    weight_decay: float
    shift: int
    rounds: tuple[Round, ...]
    head: VectorTraining
    first_head: VectorTraining | None = None
    cutout: int = 0


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The network between images, or columns of numbers, and the method.

    Attributes:
        network: dict; arguments of `kerashash.backbones.get`, or ``of``. Empty for
            columns.
        mirrored: bool; whether its features are averaged over an image and its mirror
            image.
        encoding: str or None; the encoding of its features.
        components: int or None; how many components ``encoding="whitened"`` keeps. None
            is the default of `kerashash.backbones.Whitening`.
        hidden_units: int or None; the width of a dense layer after that.
        dropout: float or None; the dropout rate after the encoding and the dense layer.
    """

    network: Mapping[str, Any]
    mirrored: bool = False
    encoding: str | None = None
    components: int | None = None
    hidden_units: int | None = None
    dropout: float | None = None

    def table(self) -> dict[str, Any]:
        """Return the table as it is in the recipe."""
        layers = {name: getattr(self, name) for name in _LAYERS}
        return {
            **self.network,
            **({"mirrored": True} if self.mirrored else {}),
            **{name: value for name, value in layers.items() if value is not None},
        }


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe that has been checked; `read` returns it.

    Attributes:
        text: str; the content of the file.
        entry: dict; the content of the card.
        data: dict; arguments of `kerashash.data.load`, or ``folder`` and arguments of
            `kerashash.data.from_directory`.
        backbone: `Backbone`.
        model: dict; options of the method, including ``bits`` if it has codes.
        seed: int.
        training: `VectorTraining`, `Solving` or `FineTuning`.
        self_train: `SelfTraining` or None.

    Example:
        >>> from kerashash import zoo
        >>> recipe = read(zoo.recipe_path("dcdh-cifar10-48"))
        >>> recipe.name, recipe.method.__name__, recipe.model["bits"]
        ('dcdh-cifar10-48', 'DCDH', 48)
    """

    text: str = dataclasses.field(repr=False)
    entry: Mapping[str, Any]
    data: Mapping[str, Any]
    backbone: Backbone
    model: Mapping[str, Any]
    seed: int
    training: VectorTraining | Solving | FineTuning
    self_train: SelfTraining | None = None

    @property
    def name(self) -> str:
        """The name of the entry."""
        return self.entry["name"]

    @property
    def method(self) -> type[methods.HashModel]:
        """The class of the method or baseline."""
        return METHODS[self.entry["method"]]


def read(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe and check all its keys.

    The file is UTF-8, as TOML is. Arguments of data sets, backbones and methods are
    checked by these, before `kerashash.recipes.train` trains.

    Args:
        path: path of a TOML file.

    Returns:
        `Recipe`.

    Raises:
        TypeError, ValueError: if the file is not a recipe, or a table or key is
            missing, unknown or out of range.

    Example:
        >>> from kerashash import zoo
        >>> read(zoo.recipe_path("dsre-nuswide-12")).training.epochs > 0
        True
    """
    file = files.as_path(path)
    try:
        # Also with the mark that some editors add.
        text = files.read_regular(file, _MOST_BYTES).decode("utf-8-sig")
        tables = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"`recipe` must be a recipe file. Received: {os.fspath(path)!r} ({error})."
        ) from error
    try:
        return _parsed(text, tables)
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"{error} Recipe: {os.fspath(path)!r}.") from error


def _parsed(text: str, tables: dict[str, Any]) -> Recipe:
    """Check the tables of a recipe and make it."""
    _check_keys("recipe", tables, _TABLES)
    for name in _TABLES:
        if not isinstance(tables[name], dict):
            raise ValueError(f"`{name}` must be a table. Received: {tables[name]!r}.")
    for name in _TABLES[1:]:
        _check_integers(name, tables[name])
    entry, training = tables["entry"], tables["training"]
    _check_keys("entry", entry, ("name", "method", "metrics"), optional=None)
    check_choices({"method": [*METHODS]}, method=entry["method"])
    _check_data(tables["data"])
    # The backbone and the data set determine these, so they are not options.
    method = METHODS[entry["method"]]
    options = {*inspect.signature(method).parameters} - {
        "backbone",
        "num_classes",
        "num_train",
        "kwargs",
    }
    required = ("bits",) if method.has_codes else ()
    _check_keys("model", tables["model"], required, options)
    bits = tables["model"].get("bits")
    if method.has_codes:
        check_integer("model.bits", bits)
    _check_entry(entry, method, bits)
    _check_keys("training", training, ("seed",), optional=None)
    training = dict(training)
    seed = training.pop("seed")
    check_integer("training.seed", seed, least=0, most=SEEDS - 1)
    self_train = training.pop("self_train", None)
    checked = _training(method, training)
    backbone = _backbone(tables["backbone"])
    if isinstance(checked, FineTuning):
        _check_tuned(backbone)
    return Recipe(
        text=text,
        entry=entry,
        data=tables["data"],
        backbone=backbone,
        model=tables["model"],
        seed=seed,
        training=checked,
        self_train=_self_training(method, checked, self_train),
    )


def _check_entry(
    entry: dict[str, Any], method: type[methods.HashModel], bits: int | None
) -> None:
    """Check what the table ``entry`` says: the card is written after the training."""
    cards.check_name(entry["name"], bits, "entry.name")
    metrics = entry["metrics"]
    card_metrics.check_recipe(metrics, method.has_codes)
    learned = "learned_database_codes" in card_metrics.arrays_for(metrics)
    # A method that learns codes of the training rows must know how many there are.
    if learned and "num_train" not in inspect.signature(method).parameters:
        raise ValueError(
            "`entry.metrics` must not be of learned codes for a method that learns "
            f'none. Received: database = "learned", and {method.__name__}.'
        )
    cards.check_texts(entry, "`entry`")
    try:
        json.dumps(entry, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`entry` must hold what JSON can hold. Received: {error}."
        ) from error
    for key in _TEXTS:
        if not isinstance(entry.get(key, ""), str):
            raise TypeError(f"`entry.{key}` must be a text. Received: {entry[key]!r}.")
    written = sorted({*entry} & {*_WRITTEN})
    if written:
        raise ValueError(
            "`entry` must not have the keys that the training writes. Received: "
            f"{written}."
        )
    # As it will be when it is complete.
    unmeasured = [{**metric, "value": None} for metric in metrics]
    cards.check({**entry, "metrics": unmeasured, "files": {}}, "`entry`")


def _training(
    method: type[methods.HashModel], table: dict[str, Any]
) -> VectorTraining | Solving | FineTuning:
    """Check what the table ``training`` says of a method's training."""
    if issubclass(method, ShallowHash):
        return _table(Solving, "training", table)
    if "fine_tune_after" in table:
        return _fine_tuning(table)
    return _table(VectorTraining, "training", table)


def _self_training(
    method: type[methods.HashModel],
    training: VectorTraining | Solving | FineTuning,
    table: Any,
) -> SelfTraining | None:
    """Check the table ``training.self_train``."""
    if table is None:
        return None
    name = "training.self_train"
    self_train = getattr(method, "self_train", None)
    if self_train is None or not isinstance(training, VectorTraining):
        raise ValueError(
            f"`{name}` needs a method that can, on features that are computed once. "
            f"Received: {method.__name__}, and {type(training).__name__}."
        )
    # The training itself determines these.
    own = {"model", "labelled", "unlabelled", "first_epochs", "verbose", "callbacks"}
    optional = {*inspect.signature(self_train).parameters} - own
    _check_table(name, table, ("learning_rate",), optional)
    for key, value in table.items():
        if key in ("epochs", "batch_size", "rounds", "top_k"):
            check_integer(f"{name}.{key}", value)
        elif key == "bottom_k":
            check_integer(f"{name}.{key}", value, least=0)
        elif key in ("quantile", "threshold"):
            _check_number(f"{name}.{key}", value, most=1)
        elif key in ("learning_rate", "temperature"):
            _check_number(f"{name}.{key}", value)
    for key, allowed in (
        ("select", ("quantile", "threshold")),
        ("rule", self_training.RULES),
        ("preset", [*self_training.PRESETS]),
    ):
        if key in table:
            check_choices({f"{name}.{key}": allowed}, **{f"{name}.{key}": table[key]})
    options = {key: value for key, value in table.items() if key != "learning_rate"}
    return SelfTraining(table["learning_rate"], options)


def _check_data(table: dict[str, Any]) -> None:
    """Check the keys of the table ``data``."""
    if ("name" in table) == ("folder" in table):
        raise ValueError(
            "`data` must have one of the keys 'name', for a data set, and 'folder', "
            f"for your own images. Received the keys: {sorted(table)}."
        )
    source = "name" if "name" in table else "folder"
    if not isinstance(table[source], str):
        raise TypeError(f"`data.{source}` must be a str. Received: {table[source]!r}.")
    if source == "folder" and not isinstance(table.get("labels", ""), str):
        raise TypeError(
            "`data.labels` must be a str, the name of a file in the folder. Received: "
            f"{table['labels']!r}."
        )
    loader: Callable[..., Any] = load if source == "name" else from_directory
    # A recipe is for other machines too: `data_dir` is an argument of `train`.
    others = {"data_dir", "path", "verbose"}
    _check_keys(
        "data", table, (source,), {*inspect.signature(loader).parameters} - others
    )


def _backbone(table: dict[str, Any]) -> Backbone:
    """Check the table ``backbone``."""
    layers = {name: table[name] for name in _LAYERS if name in table}
    if "encoding" in layers:
        check_choices({"encoding": tuple(ENCODINGS)}, encoding=layers["encoding"])
    if "components" in layers:
        check_integer("backbone.components", layers["components"])
        if layers.get("encoding") != "whitened":
            raise ValueError(
                '`backbone.components` needs encoding = "whitened". Received: '
                f"encoding={layers.get('encoding')!r}."
            )
    if "hidden_units" in layers:
        check_integer("backbone.hidden_units", layers["hidden_units"])
    if "dropout" in layers:
        _check_number("backbone.dropout", layers["dropout"], most=1)
        if layers["dropout"] == 1:
            raise ValueError(
                "`backbone.dropout` must be less than 1, which leaves nothing. "
                f"Received: {layers['dropout']}."
            )
        if not {"encoding", "hidden_units"} & {*layers}:
            raise ValueError(
                "`backbone.dropout` needs a layer to follow, `encoding` or "
                f"`hidden_units`. Received: dropout={layers['dropout']}."
            )
    mirrored = table.get("mirrored", False)
    if not isinstance(mirrored, bool):
        raise TypeError(
            f"`backbone.mirrored` must be true or false. Received: {mirrored!r}."
        )
    others = ("mirrored", *_LAYERS)
    network = {name: value for name, value in table.items() if name not in others}
    if mirrored and not network:
        raise ValueError("`backbone.mirrored` needs a network that takes images.")
    if "of" in network and len(network) > 1:
        raise ValueError(
            "`backbone` must have no other keys of a network with 'of', which names "
            f"the entry whose backbone to use. Received: {sorted(network)}."
        )
    if network and not {"name", "of"} & {*network}:
        raise ValueError(
            "`backbone` must have the key 'name' or 'of' with other keys of a network. "
            f"Received: {sorted(network)}."
        )
    if not isinstance(network.get("of", ""), str):
        raise TypeError(
            f"`backbone.of` must be the name of an entry. Received: {network['of']!r}."
        )
    return Backbone(network, mirrored, **layers)


def _check_tuned(backbone: Backbone) -> None:
    """Check the backbone of a recipe that trains its upper layers."""
    layers = [name for name in _LAYERS if getattr(backbone, name) is not None]
    if layers or "name" not in backbone.network:
        raise ValueError(
            "`backbone` must be a network with a name, and no layers on it, with "
            f"`fine_tune_after`. Received: {backbone.table()}."
        )


def _fine_tuning(table: dict[str, Any]) -> FineTuning:
    """Check the table ``training`` with ``fine_tune_after``."""
    checked: dict[str, Any] = {
        name: _table(VectorTraining, f"training.{name}", table[name])
        for name in ("head", "first_head")
        if name in table
    }
    if "rounds" in table:
        rounds = table["rounds"]
        if not isinstance(rounds, list) or not rounds:
            raise ValueError(
                "`training.rounds` must be tables, one for each round. Received: "
                f"{rounds!r}."
            )
        checked["rounds"] = tuple(
            _table(Round, "training.rounds", choices) for choices in rounds
        )
    return _table(FineTuning, "training", {**table, **checked})


def _table(kind: type, name: str, table: Any) -> Any:
    """Check the keys and values of a table, and make the dataclass `kind` of it."""
    fields = dataclasses.fields(kind)
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    _check_table(name, table, required, {field.name for field in fields})
    for key, value in table.items():
        if key in ("epochs", "batch_size"):
            check_integer(f"{name}.{key}", value)
        elif key in ("shift", "cutout"):
            check_integer(f"{name}.{key}", value, least=0)
        elif key in ("learning_rate", "weight_decay", "warmup_epochs"):
            _check_number(f"{name}.{key}", value)
        elif key == "augment" and not isinstance(value, bool):
            raise TypeError(
                f"`{name}.{key}` must be true or false. Received: {value!r}."
            )
        elif key == "fine_tune_after" and not isinstance(value, str):
            raise TypeError(
                f"`{name}.{key}` must be the name of a layer. Received: {value!r}."
            )
    if kind is Round and table["warmup_epochs"] >= table["epochs"]:
        raise ValueError(
            f"`{name}.warmup_epochs` must be less than its epochs. Received: "
            f"{table['warmup_epochs']} of {table['epochs']}."
        )
    return kind(**table)


def _check_integers(name: str, value: object) -> None:
    """Check that no integer in a table is beyond what TensorFlow takes."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_integers(f"{name}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            _check_integers(name, item)
    elif isinstance(value, int) and not isinstance(value, bool):
        most = SEEDS - 1 if name.endswith(".seed") else _LARGEST_INTEGER
        check_integer(name, value, least=-most, most=most)


def _check_number(name: str, value: object, most: float = _LARGEST) -> None:
    """Check that a value is a number from 0 on, by default finite in float32."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number. Received: {value!r}.")
    if not 0 <= value <= most:  # in this order, which NaN does not pass
        raise ValueError(
            f"`{name}` must be at least 0 and at most {most:.3g}. Received: {value!r}."
        )


def _check_table(
    name: str, table: Any, required: Collection[str], optional: Collection[str]
) -> None:
    """Check that a value is a table with the required keys, as `_check_keys`."""
    if not isinstance(table, dict):
        raise ValueError(f"`{name}` must be a table. Received: {table!r}.")
    _check_keys(name, table, required, optional)


def _check_keys(
    name: str,
    table: Mapping[str, Any],
    required: Collection[str],
    optional: Collection[str] | None = (),
) -> None:
    """Check that a table has the required keys, and no others but the optional ones.

    ``optional=None`` allows any key.
    """
    missing = [key for key in required if key not in table]
    if missing:
        raise ValueError(
            f"`{name}` must have the keys {[*required]}. Missing: {missing}."
        )
    if optional is None:
        return
    unknown = sorted({*table} - {*required, *optional})
    if unknown:
        allowed = sorted({*required, *optional})
        raise ValueError(f"`{name}` may have the keys {allowed}. Received: {unknown}.")
