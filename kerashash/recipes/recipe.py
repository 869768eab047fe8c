"""A recipe: how an entry of the zoo is trained, read from TOML and checked once.

A recipe is a file of five tables:

- ``entry``: what the card says, with ``name``, ``method`` and ``metrics``
  (`kerashash.zoo.save`);
- ``data``: arguments of `kerashash.data.load`; without ``seed`` each training draws its
  own splits;
- ``backbone``: arguments of `kerashash.backbones.get`, or ``of``, the entry whose
  backbone it is; ``encoding`` ("quantiles" or "standardized") of its features,
  ``hidden_units`` on them, and the rate of ``dropout`` after each of these two. Columns
  of numbers have no backbone but these three;
- ``model``: ``bits`` and other options of the method;
- ``training``: ``seed``, ``epochs``, ``batch_size`` and ``learning_rate`` on features
  that are computed once, and ``self_train`` (`kerashash.methods.self_training`) on
  unlabelled images. With ``fine_tune_after``, the layers of the backbone after that one
  train too (`kerashash.recipes.fitting.fit`), in ``rounds``, and then the ``head``
  alone; a ``first_head`` before.
"""

import dataclasses
import inspect
import os
import pathlib
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from kerashash import baselines, methods
from kerashash.checks import check_choices, check_integer

_TABLES = ("entry", "data", "backbone", "model", "training")
#: What a recipe may train, by name.
METHODS = {
    name: getattr(room, name)
    for room in (methods, baselines)
    for name in room.__all__
    if name != "HashModel"
}
#: What the encoding of features may be called.
ENCODINGS = ("quantiles", "standardized")


@dataclasses.dataclass(frozen=True)
class VectorTraining:
    """Training on vectors in memory: arguments of `fitting.fit_vectors`."""

    epochs: int
    batch_size: int
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class SelfTraining:
    """Further training on unlabelled images.

    Attributes:
        learning_rate: float.
        options: dict, arguments of `kerashash.methods.self_training.self_train`.
    """

    learning_rate: float
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Round:
    """A round of fine-tuning, as of `fitting.fit`."""

    epochs: int
    warmup_epochs: float
    learning_rate: float
    augment: bool


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """Training of the backbone's layers after one of them, then of the head alone."""

    fine_tune_after: str
    batch_size: int
    weight_decay: float
    shift: int
    rounds: tuple[Round, ...]
    head: VectorTraining
    first_head: VectorTraining | None = None


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What lies between images, or columns, and the method.

    Attributes:
        network: dict, arguments of `kerashash.backbones.get`, or ``of``; empty for
            columns.
        encoding, hidden_units, dropout: of the layers on top of it, or None.
    """

    network: Mapping[str, Any]
    encoding: str | None = None
    hidden_units: int | None = None
    dropout: float | None = None

    def table(self) -> dict[str, Any]:
        """The recipe's table."""
        layers = {name: getattr(self, name) for name in _LAYERS}
        return {
            **self.network,
            **{name: value for name, value in layers.items() if value is not None},
        }


_LAYERS = ("encoding", "hidden_units", "dropout")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe, checked; `read` makes it.

    Attributes:
        text: str, the file's content.
        entry: dict, what the card says.
        data: dict, arguments of `kerashash.data.load`.
        backbone: `Backbone`.
        model: dict, options of the method, ``bits`` among them.
        seed: int.
        training: `VectorTraining` or `FineTuning`.
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
    training: VectorTraining | FineTuning
    self_train: SelfTraining | None = None

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.entry["name"]

    @property
    def method(self) -> type[methods.HashModel]:
        """The class of the method, or of the baseline."""
        return METHODS[self.entry["method"]]


def read(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe and check all of its keys.

    Args:
        path: path of a TOML file.

    Returns:
        `Recipe`.

    Raises:
        TypeError, ValueError: if it is no such file; if a table or key is missing,
            unknown or out of range.

    Example:
        >>> from kerashash import zoo
        >>> read(zoo.recipe_path("dsre-nuswide-12")).training.epochs > 0
        True
    """
    try:
        text = pathlib.Path(path).read_text()
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(
            f"`recipe` must be a recipe file. Received: {os.fspath(path)!r} ({error})."
        ) from error
    try:
        return _parsed(text, tables)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} Recipe: {os.fspath(path)!r}.") from error


def _parsed(text: str, tables: dict[str, Any]) -> Recipe:
    _check_keys("recipe", tables, _TABLES)
    for name in _TABLES:
        if not isinstance(tables[name], dict):
            raise ValueError(f"`{name}` must be a table. Received: {tables[name]!r}.")
    entry, training = tables["entry"], tables["training"]
    _check_keys("entry", entry, ("name", "method", "metrics"), optional=None)
    check_choices({"method": [*METHODS]}, method=entry["method"])
    _check_keys("data", tables["data"], ("name",), optional=None)
    # What the data set gives is no option.
    options = {*inspect.signature(METHODS[entry["method"]]).parameters} - {
        "backbone",
        "num_classes",
        "num_train",
    }
    _check_keys("model", tables["model"], ("bits",), options)
    _check_keys("training", training, ("seed",), optional=None)
    training = dict(training)
    seed = check_integer("training.seed", training.pop("seed"), least=0)
    self_train = training.pop("self_train", None)
    if self_train is not None:
        _check_keys("training.self_train", self_train, ("learning_rate",), None)
        self_train = SelfTraining(
            self_train["learning_rate"],
            {k: v for k, v in self_train.items() if k != "learning_rate"},
        )
    return Recipe(
        text=text,
        entry=entry,
        data=tables["data"],
        backbone=_backbone(tables["backbone"]),
        model=tables["model"],
        seed=seed,
        training=_fine_tuning(training)
        if "fine_tune_after" in training
        else _table(VectorTraining, "training", training),
        self_train=self_train,
    )


def _backbone(table: dict[str, Any]) -> Backbone:
    layers = {name: table[name] for name in _LAYERS if name in table}
    if "encoding" in layers:
        check_choices({"encoding": ENCODINGS}, encoding=layers["encoding"])
    if "hidden_units" in layers:
        check_integer("backbone.hidden_units", layers["hidden_units"])
    network = {name: value for name, value in table.items() if name not in _LAYERS}
    if "of" in network and len(network) > 1:
        raise ValueError(
            "`backbone` must have no other keys of a network beside 'of', the entry "
            f"whose backbone it is. Received: {sorted(network)}."
        )
    return Backbone(network, **layers)


def _fine_tuning(table: dict[str, Any]) -> FineTuning:
    checked: dict[str, Any] = {
        name: _table(VectorTraining, f"training.{name}", table[name])
        for name in ("head", "first_head")
        if name in table
    }
    if "rounds" in table:
        checked["rounds"] = tuple(
            _table(Round, "training.rounds", one) for one in table["rounds"]
        )
    return _table(FineTuning, "training", {**table, **checked})


def _table(kind: type, name: str, table: Any) -> Any:
    """A table as a dataclass, its keys and numbers checked."""
    if not isinstance(table, dict):
        raise ValueError(f"`{name}` must be a table. Received: {table!r}.")
    fields = dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is dataclasses.MISSING]
    _check_keys(name, table, required, {f.name for f in fields})
    for key, value in table.items():
        if key in ("epochs", "batch_size"):
            check_integer(f"{name}.{key}", value)
        elif key in ("learning_rate", "weight_decay", "warmup_epochs", "shift"):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(
                    f"`{name}.{key}` must be a number. Received: {value!r}."
                )
            if not value >= 0:
                raise ValueError(
                    f"`{name}.{key}` must be at least 0. Received: {value!r}."
                )
    return kind(**table)


def _check_keys(
    name: str,
    table: Mapping[str, Any],
    required: Collection[str],
    optional: Collection[str] | None = (),
) -> None:
    """Refuse a table that lacks keys, or has others; None allows any others."""
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
