"""Write entries of the zoo: `save` makes a new one, `export` copies one."""

import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.codes import bit_imbalance
from kerashash.zoo import cards, weight_files
from kerashash.zoo.entries import FILES, Entry, entry, shared_files

if TYPE_CHECKING:  # it imports TensorFlow
    from kerashash.methods import HashModel

_REQUIRED_ARRAYS = (
    "query_codes",
    "query_labels",
    "database_codes",
    "database_labels",
)
# Golden inputs of an entry, chosen among so many candidates.
_GOLDEN_INPUTS, _GOLDEN_CANDIDATES = 4, 64


def save(
    model: "HashModel",
    name: str,
    card: Mapping[str, Any],
    codes: Mapping[str, npt.NDArray[Any]],
    recipe: str,
    root: str | os.PathLike[str] = ".",
    overwrite: bool = False,
) -> Entry:
    """Write an entry, which `load` takes by the path of its folder.

    The values of the card's metrics and `kerashash.codes.bit_imbalance` are computed
    here, from `codes`. The codes must come from the weights as they are stored, in
    float16: call `round_weights` on the model before it encodes.

    Args:
        model: a built `HashModel`.
        name: str, the folder's name, ``<method>-<dataset>-<bits>``.
        card: dict that JSON can hold: what the card says of the entry. Its
            ``metrics`` is a list of dicts, each with a ``name``, what defines the
            metric, and anything else to be said of it:

            - a mean average precision has ``at``, ``denominator``, ``ties`` and
              ``empty``, arguments of `kerashash.evaluation.mean_average_precision`,
              and ``database``, "encoded" or "learned". With ``first_labels``, a number,
              only so many labels, the first ones, count: an item is relevant if it
              shares one of these;
            - a measure of `kerashash.evaluation.label_distribution.MEASURES` has ``k``;
            - "SVM accuracy" is `kerashash.evaluation.svm_accuracy`;
            - one that could not be measured has ``"measured": False``; its value is
              None.
        codes: dict of arrays ``query_codes``, ``query_labels``, ``database_codes`` and
            ``database_labels``: packed codes and label rows. Metrics with ``database:
            "learned"`` need ``learned_database_codes`` as well, "SVM accuracy" needs
            ``validation_codes`` and ``validation_labels``.
        recipe: str, the text of the recipe, TOML.
        root: path of the folder in which the entry's folder is made.
        overwrite: bool, whether an entry of that name may be replaced.

    Returns:
        `Entry`.

    Raises:
        TypeError, ValueError: if an argument is invalid, or the entry exists.

    Example:
        >>> import keras
        >>> import kerashash
        >>> digits = kerashash.data.load("digits")
        >>> backbone = keras.Sequential([keras.Input((64,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(backbone, bits=12, num_classes=10)
        >>> kerashash.zoo.round_weights(model)
        >>> codes = {}
        >>> for split in ("query", "database"):
        ...     x, codes[f"{split}_labels"] = digits.arrays(split)
        ...     codes[f"{split}_codes"] = model.encode(x, verbose=0)
        >>> metric = {
        ...     "name": "mAP@ALL",
        ...     "denominator": "relevant",
        ...     "ties": "expected",
        ...     "empty": "zero",
        ...     "database": "encoded",
        ... }
        >>> card = {"trained_on": "nothing", "metrics": [metric]}
        >>> entry = kerashash.zoo.save(model, "adalabel-digits-12", card, codes, "")
        >>> bool(0 < entry.card["metrics"][0]["value"] < 1)
        True
        >>> kerashash.zoo.load("./adalabel-digits-12").bits
        12
    """
    import keras

    from kerashash.zoo import card_metrics

    root = pathlib.Path(root)
    if not cards.is_plain(name):
        raise ValueError(f"`name` must be a plain folder name. Received: {name!r}.")
    target = root / name
    files.recover(target)
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
    missing = sorted(set(_REQUIRED_ARRAYS) - set(codes))
    if missing:
        raise ValueError(
            f"`codes` must have the keys {_REQUIRED_ARRAYS}. Received codes without "
            f"{missing}."
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

    with files.staging(target, overwrite) as staging:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        (staging / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        weights = staging / "model.weights.h5"
        shared = weight_files.save(model, weights, root / "shared")
        if shared:
            card["shared"] = shared
        arrays: dict[str, Any] = {**codes}
        np.savez_compressed(staging / "codes.npz", **arrays)
        np.savez_compressed(staging / "golden.npz", **_golden(model))
        (staging / "recipe.toml").write_text(recipe)
        card["files"] = {
            file: {
                "sha256": weight_files.sha256(staging / file),
                "bytes": (staging / file).stat().st_size,
            }
            for file in FILES
        }
        (staging / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (staging / "card.md").write_text(cards.markdown(card))
    return entry(target)


def export(name: str | os.PathLike[str], root: str | os.PathLike[str]) -> Entry:
    """Copy an entry, with the shared networks that it needs, into another registry.

    Args:
        name: str, a name of `kerashash.zoo.list`, or the path of an entry's folder.
        root: path of the registry's folder, which is made if it does not exist.

    Returns:
        `Entry`, the copy.

    Raises:
        TypeError, OSError, WeightsUnavailableError: as `kerashash.zoo.entry`.
        ValueError: as `kerashash.zoo.entry`, or if `root` has an entry of that name, or
            another network under the name of one that the entry shares.

    Example:
        >>> from kerashash import zoo
        >>> zoo.export("dcdh-cifar10-48", "my-zoo").name
        'dcdh-cifar10-48'
    """
    source, root = entry(name), pathlib.Path(root)
    target = root / source.name
    files.recover(target)
    if target.exists():
        raise ValueError(f"`root` must have no {source.name}. Received: {target}.")
    with files.staging(target, overwrite=False) as staging:
        for network in shared_files(source.path, source.card):
            copy = root / "shared" / network.name
            if copy.exists():
                # Other entries of the registry need it as it is.
                if weight_files.sha256(copy) != weight_files.sha256(network):
                    raise ValueError(
                        f"`root` must have no other network of the name {network.name}."
                        f" Received: {copy}."
                    )
                continue
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(network, staging / "shared")
            os.replace(staging / "shared", copy)
        for file in ("card.json", *FILES):
            shutil.copyfile(source.path / file, staging / file)
        (staging / "card.md").write_text(cards.markdown(source.card))
    return entry(target)


def _golden(model: "HashModel") -> dict[str, Any]:
    """Draw inputs for a model, and encode them.

    Of many candidates, those are taken whose continuous codes are farthest from 0:
    another processor's rounding must not flip a bit.
    """
    rng = np.random.default_rng(0)
    batch_shape = model._batch_shape()
    assert batch_shape is not None  # the model is built
    shape: tuple[Any, ...] = batch_shape[1:]
    x: npt.NDArray[Any]
    if len(shape) == 3:
        # Images of 4 x 4 squares of one colour each, uint8.
        squares = rng.integers(0, 256, (_GOLDEN_CANDIDATES, 4, 4, 3), dtype=np.uint8)
        height, width = (side or 32 for side in shape[:2])
        x = squares.repeat(height // 4, axis=1).repeat(width // 4, axis=2)
    else:
        x = rng.normal(size=(_GOLDEN_CANDIDATES, *shape)).astype(np.float32)
    margins = np.abs(model.continuous_codes(x, verbose=0)).min(axis=1)
    x = x[np.argsort(-margins, kind="stable")[:_GOLDEN_INPUTS]]
    return {"inputs": x, "codes": model.encode(x, verbose=0)}
