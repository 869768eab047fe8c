"""The model zoo: trained hashers with their cards, codes and recipes.

An entry is a folder ``<method>-<dataset>-<bits>`` of six files:

- ``card.json``: source, data, protocol, metrics with their definitions, recipe,
  versions, licence, and the sha256 and size of the other files;
- ``config.json``: the model's configuration;
- ``model.weights.h5``: its weights, kernels in float16, without a large network that
  other entries use too: that is kept once, in ``shared/`` beside the entries, under a
  name made of its contents;
- ``codes.npz``: packed query and database codes with their labels, from which
  anyone recomputes the metrics without the data set;
- ``golden.npz``: a few made-up inputs and their codes, to test a model with;
- ``recipe.toml``: how to train it again (`kerashash.recipe`).

``card.md`` says for people what ``card.json`` says.

Entries come from the registries of `kerashash.registry`. Nothing is unpickled, and
nothing is fetched unless KERASHASH_ZOO names a server.
"""

import contextlib
import difflib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import tempfile
import tomllib
import warnings
from typing import NamedTuple

import numpy as np

from kerashash import cards, package, registry, weight_files

_FILES = (
    "config.json",
    "model.weights.h5",
    "codes.npz",
    "golden.npz",
    "recipe.toml",
)
# Public here, beside `save`, which asks for it.
round_weights = weight_files.round_weights
_ARRAYS = ("query_codes", "query_labels", "database_codes", "database_labels")


class WeightsUnavailableError(RuntimeError):
    """An entry of which there is only the recipe: its data cannot be had here."""


class Entry(NamedTuple):
    """One entry of the zoo: its name, its folder and its card."""

    name: str
    path: pathlib.Path
    card: dict


def list():
    """Names of the entries of the package and of the registries in KERASHASH_ZOO.

    Returns:
        Sorted list of str.

    Raises:
        ValueError, OSError: as `registry.names`.

    Example:
        >>> "adalabel-cifar10-48" in list()
        True
    """
    return registry.names()


def entry(name):
    """An entry's card, without loading its model.

    Args:
        name: str, a name of `list()`, or a path of an entry's folder.

    Returns:
        `Entry`.

    Raises:
        ValueError: if there is no such entry (close names are listed), or a file of
            it is missing or is not the one that the card describes.
        OSError: if it is on a server that does not answer (`registry.find`).
        WeightsUnavailableError: if the zoo has only its recipe.

    Example:
        >>> entry("adalabel-cifar10-48").card["bits"]
        48
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"`name` must be a name or a path. Received: {name!r}.")
    path = pathlib.Path(name)
    found = registry.find(path.name) if len(path.parts) == 1 else None
    if found is not None:
        path = found
    elif path.is_dir() or len(path.parts) > 1:
        if not (path / "card.json").is_file():
            raise ValueError(
                "`name` must be an entry of the zoo or a folder with a card.json. "
                f"Received: {os.fspath(name)!r}, which has none."
            )
    else:
        _refuse_recipe_only(path.name)
        names = list()
        close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
        hint = f"Did you mean {close}? " if close else ""
        raise ValueError(
            f"`name` must be an entry of the zoo. Received: {name!r}. {hint}"
            f"Entries: {names}."
        )
    try:
        card = json.loads((path / "card.json").read_text())
        files = card["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / 'card.json'} is not a card: {error}.") from error
    for file in _FILES:
        _check_file(path / file, files.get(file, {}))
    if "shared" in card:
        _check_file(_shared(path, card), card["shared"])
    return Entry(card["name"], path, card)


def load(name):
    """A trained model, ready to `encode`.

    It warns of a surrogate: a model that has not seen the data of its name.

    Args:
        name: str, a name of `list()`, or a path of an entry's folder.

    Returns:
        A `HashModel` of the entry's method with its trained weights.

    Raises:
        ValueError: as `entry`.

    Example:
        >>> model = load("adalabel-cifar10-48")
        >>> model.encode(np.zeros((1, 32, 32, 3), np.uint8)).shape
        (1, 6)
    """
    import keras

    import kerashash.methods  # registers the classes  # noqa: F401

    found = entry(name)
    if found.card.get("surrogate"):
        about = found.card["trained_on"]
        warnings.warn(f"{name} is a surrogate, trained on {about}.", stacklevel=2)
    config = json.loads((found.path / "config.json").read_text())
    model = keras.saving.deserialize_keras_object(config)
    shared = {}
    if "shared" in found.card:
        shared["shared"] = _shared(found.path, found.card)
        shared["prefix"] = found.card["shared"]["prefix"]
    weight_files.load(model, found.path / "model.weights.h5", **shared)
    return model


def save(model, name, card, codes, recipe, root=".", overwrite=False):
    """Write an entry of one's own; `load` takes its folder.

    The metrics of the card are computed here, from `codes`. These must come from
    the weights as stored, in float16: round the model with `round_weights` before
    it encodes them.

    Args:
        model: a `HashModel` that is built.
        name: str, the folder's name, ``<method>-<dataset>-<bits>``.
        card: dict that JSON can hold: what is to be said of the entry. ``metrics``
            is a list of dicts with ``name``, what defines it, and whatever else is to
            be said of each. A mean average precision has arguments of
            `evaluation.mean_average_precision` (``at``, ``denominator``, ``ties``,
            ``empty``) and ``database``, "encoded" or "learned"; a measure of
            `label_distribution.MEASURES` has ``k``; "SVM accuracy" is
            `evaluation.svm_accuracy`. What could not be measured has ``"measured":
            False``, and gets the value None.
        codes: dict of arrays ``query_codes``, ``query_labels``, ``database_codes``,
            ``database_labels``: packed codes and label rows; with
            ``learned_database_codes`` for metrics with ``database: "learned"``, and
            ``validation_codes`` and ``validation_labels`` for "SVM accuracy".
        recipe: str, the text of the recipe, TOML.
        root: path of the folder in which the entry's folder is made.
        overwrite: bool, whether an entry of that name may be replaced.

    Returns:
        `Entry`.

    Raises:
        TypeError, ValueError: if an argument is wrong or the entry exists.
    """
    import keras

    from kerashash import card_metrics

    root = pathlib.Path(root)
    target = root / name
    if pathlib.Path(name).name != name or name.startswith("."):
        raise ValueError(f"`name` must be a plain folder name. Received: {name!r}.")
    if target.exists() and not overwrite:
        raise ValueError(
            f"`name` must be new, or overwrite=True. Received: {name!r}, and {target} "
            "exists."
        )
    if not model.built:
        raise ValueError(
            "`model` must be built: it must have seen a batch, or know its inputs."
            f" Received: {model.name}, which is not."
        )
    missing = sorted(set(_ARRAYS) - set(codes))
    if missing:
        raise ValueError(
            f"`codes` must have the keys {_ARRAYS}. Received codes without {missing}."
        )
    card = {**card, "name": name, "bits": model.bits, "method": type(model).__name__}
    values = card_metrics.measure(card["metrics"], codes, model.bits)
    card["metrics"] = [
        {**metric, "value": value}
        for metric, value in zip(card["metrics"], values, strict=True)
    ]
    card["versions"] = {
        package: importlib.metadata.version(package)
        for package in ("kerashash", "keras", "tensorflow", "numpy")
    } | {"python": platform.python_version()}

    with _whole(target) as work:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        (work / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        weights = work / "model.weights.h5"
        shared = weight_files.save(model, weights, root / "shared")
        if shared:
            card["shared"] = shared
        np.savez_compressed(work / "codes.npz", **codes)
        np.savez_compressed(work / "golden.npz", **_golden(model))
        (work / "recipe.toml").write_text(recipe)
        card["files"] = {
            file: {
                "sha256": weight_files.sha256(work / file),
                "bytes": (work / file).stat().st_size,
            }
            for file in _FILES
        }
        (work / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (work / "card.md").write_text(cards.markdown(card))
    return entry(target)


def verify(name):
    """Check an entry's files and recompute its metrics from its codes.

    Args:
        name: str, a name of `list()`, or a path of an entry's folder.

    Returns:
        List of dicts, the card's metrics, each with ``recomputed`` beside
        ``value``.

    Raises:
        ValueError: as `entry`, or if a metric is not what the card says, or the model
            gives its golden inputs other codes.
    """
    from kerashash import card_metrics

    found = entry(name)
    with np.load(found.path / "golden.npz", allow_pickle=False) as golden:
        codes = load(found.path).encode(golden["inputs"], verbose=0)
        wrong = np.flatnonzero((codes != golden["codes"]).any(axis=1))
    if wrong.size:
        raise ValueError(
            f"{found.path / 'golden.npz'} holds other codes than the model gives, in "
            f"rows {wrong.tolist()}."
        )
    with np.load(found.path / "codes.npz", allow_pickle=False) as stored:
        codes = dict(stored)
    results = []
    values = card_metrics.measure(found.card["metrics"], codes, found.card["bits"])
    for metric, value in zip(found.card["metrics"], values, strict=True):
        if value is not None and not abs(value - metric["value"]) < 1e-6:
            raise ValueError(
                f"{found.path / 'card.json'} says {metric['name']} = "
                f"{metric['value']:.6f}. Its codes give {value:.6f}."
            )
        results.append({**metric, "recomputed": value})
    return results


def export(name, root):
    """Copy an entry, with the shared network it needs, into a registry of one's own.

    Args:
        name: str, a name of `list()`, or a path of an entry's folder.
        root: path of the registry's folder, made if it is not there.

    Returns:
        `Entry`, the copy.

    Raises:
        ValueError: as `entry`, or if `root` has an entry of that name.

    Example:
        >>> export("dcdh-cifar10-48", "my-zoo").name
        'dcdh-cifar10-48'
    """
    found, root = entry(name), pathlib.Path(root)
    target = root / found.name
    if target.exists():
        raise ValueError(f"`root` must have no {found.name}. Received: {target}.")
    with _whole(target) as work:
        if "shared" in found.card:
            network = _shared(found.path, found.card)
            (root / "shared").mkdir(exist_ok=True)
            shutil.copyfile(network, work / "shared")
            os.replace(work / "shared", root / "shared" / network.name)
        for file in ("card.json", *_FILES):
            shutil.copyfile(found.path / file, work / file)
        (work / "card.md").write_text(cards.markdown(found.card))
    return entry(target)


def recipe_only():
    """Names of the entries that are still to be trained, by who has their data.

    Returns:
        Sorted list of str.

    Example:
        >>> "dcdh-nuswide-24" in recipe_only()
        True
    """
    there = set(registry.names())
    recipes = (package.folder() / "recipes").glob("*.toml")
    return sorted({path.stem for path in recipes} - there)


def recipe_path(name):
    """The file of an entry's recipe, be the entry trained or not.

    Args:
        name: str, a name of `list()` or `recipe_only()`, or an entry's folder.

    Returns:
        `pathlib.Path`.

    Raises:
        ValueError, OSError: as `entry`.

    Example:
        >>> recipe_path("dcdh-nuswide-24").name
        'dcdh-nuswide-24.toml'
    """
    if name in recipe_only():
        return package.folder() / "recipes" / f"{name}.toml"
    return entry(name).path / "recipe.toml"


def _refuse_recipe_only(name):
    if name in recipe_only():
        about = tomllib.loads(recipe_path(name).read_text())["entry"]
        raise WeightsUnavailableError(
            f"{name} has no weights here: its training needs {about['missing']}. With "
            f"them, `kerashash train --recipe {name} --root zoo` trains it and "
            f"`KERASHASH_ZOO=zoo` makes it load by name."
        )


@contextlib.contextmanager
def _whole(target):
    """A folder to fill, which takes the target's place at the end, or is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    old = work.with_name(f"{work.name}-old")
    try:
        yield work
        work.chmod(0o755)
        with contextlib.suppress(FileNotFoundError):
            os.replace(target, old)
        try:
            os.replace(work, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _golden(model, count=4, candidates=64):
    """Inputs drawn for a model, and their codes.

    Those whose code is surest: another processor's rounding must not turn a bit.
    """
    rng = np.random.default_rng(0)
    shape = model._batch_shape()[1:]
    if len(shape) == 3:
        # Coarse squares of colour, in pixels.
        coarse = rng.integers(0, 256, (candidates, 4, 4, 3), dtype=np.uint8)
        side = [n or 32 for n in shape[:2]]
        x = coarse.repeat(side[0] // 4, axis=1).repeat(side[1] // 4, axis=2)
    else:
        x = rng.normal(size=(candidates, *shape)).astype(np.float32)
    margin = np.abs(model.continuous_codes(x, verbose=0)).min(axis=1)
    x = x[np.argsort(-margin, kind="stable")[:count]]
    return {"inputs": x, "codes": model.encode(x, verbose=0)}


def _shared(path, card):
    """The file of an entry's shared network: in ``shared/`` of its registry (in the
    cache of a server's one level further up), or the package's."""
    name = pathlib.Path(card["shared"]["file"]).name
    places = [folder / "shared" / name for folder in (path.parent, path.parent.parent)]
    found = next((place for place in places if place.is_file()), None)
    return found or package.network(name) or places[0]


def _check_file(path, stated):
    if not path.is_file():
        raise ValueError(f"{path} is missing.")
    size, digest = path.stat().st_size, weight_files.sha256(path)
    if size != stated.get("bytes") or digest != stated.get("sha256"):
        raise ValueError(
            f"{path} is not the file that its card describes. Received: {size} bytes, "
            f"sha256 {digest}; the card says {stated.get('bytes')} bytes, "
            f"sha256 {stated.get('sha256')}."
        )
