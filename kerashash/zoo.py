"""The model zoo: trained hashers with their cards, codes and recipes.

An entry is a folder ``<method>-<dataset>-<bits>`` of five files:

- ``card.json``: source, data, protocol, metrics with their definitions, recipe,
  versions, licence, and the sha256 and size of the other files;
- ``config.json``: the model's configuration;
- ``model.weights.h5``: its weights, kernels in float16;
- ``codes.npz``: packed query and database codes with their labels, from which
  anyone recomputes the metrics without the data set;
- ``recipe.toml``: how to train it again (`kerashash.recipe`).

Entries come from the registries of `kerashash.registry`. Nothing is unpickled, and
nothing is fetched unless KERASHASH_ZOO names a server.
"""

import difflib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import tempfile
from typing import NamedTuple

import numpy as np

from kerashash import registry

_FILES = ("config.json", "model.weights.h5", "codes.npz", "recipe.toml")
_ARRAYS = ("query_codes", "query_labels", "database_codes", "database_labels")


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
    return Entry(card["name"], path, card)


def load(name):
    """A trained model, ready to `encode`.

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
    config = json.loads((found.path / "config.json").read_text())
    model = keras.saving.deserialize_keras_object(config)
    model.load_weights(found.path / "model.weights.h5")
    return model


def save(model, name, card, codes, recipe, root=".", overwrite=False):
    """Write an entry of one's own; `load` takes its folder.

    The metrics of the card are computed here, from `codes`. These must come from
    the weights as stored, in float16: round the model with `round_weights` before
    it encodes them.

    Args:
        model: a built `HashModel`.
        name: str, the folder's name, ``<method>-<dataset>-<bits>``.
        card: dict that JSON can hold: what is to be said of the entry. ``metrics``
            is a list of dicts of arguments of `evaluation.mean_average_precision`
            (``at``, ``denominator``, ``ties``, ``empty``), ``database``, "encoded"
            or "learned", and whatever else is to be said of each.
        codes: dict of arrays ``query_codes``, ``query_labels``, ``database_codes``,
            ``database_labels``: packed codes and label rows; and
            ``learned_database_codes`` for metrics with ``database: "learned"``.
        recipe: str, the text of the recipe, TOML.
        root: path of the folder in which the entry's folder is made.
        overwrite: bool, whether an entry of that name may be replaced.

    Returns:
        `Entry`.

    Raises:
        TypeError, ValueError: if an argument is wrong or the entry exists.
    """
    import keras

    root = pathlib.Path(root)
    target = root / name
    if pathlib.Path(name).name != name or name.startswith("."):
        raise ValueError(f"`name` must be a plain folder name. Received: {name!r}.")
    if target.exists() and not overwrite:
        raise ValueError(
            f"`name` must be new, or overwrite=True. Received: {name!r}, and {target} "
            "exists."
        )
    missing = sorted(set(_ARRAYS) - set(codes))
    if missing:
        raise ValueError(
            f"`codes` must have the keys {_ARRAYS}. Received codes without {missing}."
        )
    card = {**card, "name": name, "bits": model.bits, "method": type(model).__name__}
    card["metrics"] = [
        {**metric, "value": _measure(metric, codes, model.bits)}
        for metric in card["metrics"]
    ]
    card["versions"] = {
        package: importlib.metadata.version(package)
        for package in ("kerashash", "keras", "tensorflow", "numpy")
    } | {"python": platform.python_version()}

    root.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: an entry is there whole or not at all.
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
    try:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        (work / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        model.save_weights(work / "model.weights.h5")
        _store_half(work / "model.weights.h5")
        np.savez_compressed(work / "codes.npz", **codes)
        (work / "recipe.toml").write_text(recipe)
        card["files"] = {
            file: {
                "sha256": _sha256(work / file),
                "bytes": (work / file).stat().st_size,
            }
            for file in _FILES
        }
        (work / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        work.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return entry(target)


def verify(name):
    """Check an entry's files and recompute its metrics from its codes.

    Args:
        name: str, a name of `list()`, or a path of an entry's folder.

    Returns:
        List of dicts, the card's metrics, each with ``recomputed`` beside
        ``value``.

    Raises:
        ValueError: as `entry`, or if a metric is not what the card says.
    """
    found = entry(name)
    with np.load(found.path / "codes.npz", allow_pickle=False) as stored:
        codes = dict(stored)
    results = []
    for metric in found.card["metrics"]:
        value = _measure(metric, codes, found.card["bits"])
        if not abs(value - metric["value"]) < 1e-6:
            raise ValueError(
                f"{found.path / 'card.json'} says {metric['name']} = "
                f"{metric['value']:.6f}. Its codes give {value:.6f}."
            )
        results.append({**metric, "recomputed": value})
    return results


def round_weights(model):
    """Round a model's weights in place to what an entry stores."""
    for variable in model.variables:
        value = variable.numpy()
        variable.assign(_half(value).astype(value.dtype))


def _measure(metric, codes, bits):
    from kerashash import evaluation

    learned = "learned_" if metric["database"] == "learned" else ""
    options = {k: metric[k] for k in ("denominator", "ties", "empty")}
    return float(
        evaluation.mean_average_precision(
            codes["query_codes"],
            codes["query_labels"],
            codes[f"{learned}database_codes"],
            codes["database_labels"],
            bits=bits,
            at=metric.get("at"),  # TOML has no null: absent is ALL
            **options,
        )
    )


def _half(array):
    """Kernels in float16; vectors, which cost little, and integers as they are."""
    if array.dtype != np.float32 or array.ndim < 2:
        return array
    half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array


def _store_half(path):
    """Rewrite a Keras weights file with its kernels in float16."""
    import h5py

    # Into a new file: h5py does not give back the space of a replaced array.
    smaller = path.with_suffix(".half")
    with h5py.File(path, "r") as old, h5py.File(smaller, "w") as new:

        def copy(key, item):
            target = (
                new.require_group(key)
                if isinstance(item, h5py.Group)
                else (new.create_dataset(key, data=_half(item[()])))
            )
            target.attrs.update(item.attrs)

        new.attrs.update(old.attrs)
        old.visititems(copy)
    os.replace(smaller, path)


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_file(path, stated):
    if not path.is_file():
        raise ValueError(f"{path} is missing.")
    size = path.stat().st_size
    if size != stated.get("bytes") or _sha256(path) != stated.get("sha256"):
        raise ValueError(
            f"{path} is not the file that its card describes. Received: {size} bytes, "
            f"sha256 {_sha256(path)}; the card says {stated.get('bytes')} bytes, "
            f"sha256 {stated.get('sha256')}."
        )
