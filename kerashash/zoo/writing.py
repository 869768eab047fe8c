"""Writing entries of the zoo: `save` a new one, `export` a copy."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import tempfile

import numpy as np

from kerashash.codes import bit_imbalance
from kerashash.zoo import cards, weight_files
from kerashash.zoo.entries import FILES, entry, shared_files

_ARRAYS = ("query_codes", "query_labels", "database_codes", "database_labels")


def save(model, name, card, codes, recipe, root=".", overwrite=False):
    """Write an entry of one's own; `load` takes its folder.

    The card's metrics and `codes.bit_imbalance` are computed here, from `codes`. These
    must come from the weights as stored, in float16: round the model with
    `round_weights` before it encodes them.

    Args:
        model: a `HashModel` that is built.
        name: str, the folder's name, ``<method>-<dataset>-<bits>``.
        card: dict that JSON can hold: what is to be said of the entry. ``metrics``
            is a list of dicts with ``name``, what defines it, and whatever else is to
            be said of each. A mean average precision has arguments of
            `evaluation.mean_average_precision` (``at``, ``denominator``, ``ties``,
            ``empty``) and ``database``, "encoded" or "learned", and takes
            ``first_labels``, of how many labels, the first ones, an item must share one
            to be relevant; a measure of
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

    from kerashash.zoo import card_metrics

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
    card["bit_imbalance"] = bit_imbalance(codes["database_codes"], model.bits)
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
            for file in FILES
        }
        (work / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (work / "card.md").write_text(cards.markdown(card))
    return entry(target)


def export(name, root):
    """Copy an entry, with the shared networks it needs, into a registry of one's own.

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
        for network in shared_files(found.path, found.card):
            (root / "shared").mkdir(exist_ok=True)
            shutil.copyfile(network, work / "shared")
            os.replace(work / "shared", root / "shared" / network.name)
        for file in ("card.json", *FILES):
            shutil.copyfile(found.path / file, work / file)
        (work / "card.md").write_text(cards.markdown(found.card))
    return entry(target)


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
