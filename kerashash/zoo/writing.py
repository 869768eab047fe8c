"""Write entries of the zoo.

`publish` makes one of a model and data, `save` of a model and codes; `export` copies
one.
"""

import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kerashash import archives, files
from kerashash.checks import as_array, check_distributions, check_flag, listing
from kerashash.codes import bit_imbalance, check_packed
from kerashash.zoo import cards, encoding, loading, weight_files
from kerashash.zoo.entries import FILES, Entry, entry, reading, shared_files
from kerashash.zoo.front_matter import model_card

if TYPE_CHECKING:  # it imports TensorFlow
    from kerashash.data import DistributionData, RetrievalData
    from kerashash.methods import HashModel

# What is in the folder of an entry; README.md is that of a hub.
_CONTENT = ("card.json", "card.md", "README.md", *FILES)
# What a card says of the entry's own model and files: another's would be wrong.
_OWN_KEYS = ("bits", "bit_imbalance", "files", "image_fit", "shared", "versions")
# Of a card, for what is added to it after the check.
_RESERVED_BYTES = 1 << 16
# Golden inputs of an entry, chosen among so many candidates.
_GOLDEN_INPUTS, _GOLDEN_CANDIDATES = 4, 64


def publish(
    model: "HashModel",
    data: "RetrievalData | DistributionData",
    name: str,
    card: Mapping[str, Any] | None = None,
    recipe: str = "",
    root: str | os.PathLike[str] = ".",
    overwrite: bool = False,
    verbose: str | int = "auto",
) -> Entry:
    """Write an entry of a model and the data that it was measured on.

    The queries and the database are encoded with the weights as an entry stores them,
    in float16; `model` itself keeps its own. A model without codes predicts the label
    distributions of the queries instead. With the folder `root` in the environment
    variable KERASHASH_ZOO, or its path as the name, `load` and `verify` then take the
    entry.

    Args:
        model: a built `HashModel`.
        data: `kerashash.data.RetrievalData` or `kerashash.data.DistributionData`.
        name: str, as for `save`.
        card: dict or None, as for `save`: what the card says beside ``data``,
            ``counts`` and ``metrics``, which are made of `data`, such as
            ``trained_on``, ``licence`` and ``use``. A key of the same name replaces
            what is made. The default metrics are mAP@ALL with expected ties or, for
            label distributions, all measures with the default `k` of
            `DDHLDL.predict_distribution`, or without a `k` if there are no codes.
        recipe: str, as for `save`.
        root: path of the folder in which the entry's folder is made.
        overwrite: bool, whether an entry of that name may be replaced
            (`check_replaceable`).
        verbose: as in `HashModel.encode`.

    Returns:
        `Entry`.

    Raises:
        TypeError, ValueError: as `save`, or if a metric needs learned codes and the
            model has none of these training rows.

    Example:
        >>> import kerashash
        >>> digits = kerashash.data.load("digits")
        >>> model = kerashash.AdaLabelHash("features", bits=12, num_classes=10)
        >>> model.compile("adam")
        >>> history = model.fit(digits.train.batch(64), epochs=2, verbose=0)
        >>> entry = kerashash.zoo.publish(
        ...     model, digits, "adalabel-my_digits-12", root="my-zoo", verbose=0
        ... )
        >>> kerashash.zoo.load("my-zoo/adalabel-my_digits-12").bits
        12
        >>> kerashash.zoo.verify("my-zoo/adalabel-my_digits-12")[0]["name"]
        'mAP@ALL'
    """
    from kerashash.zoo import card_metrics

    _check_model(model)
    root = files.as_path(root, "root")
    if card is None:
        card = {}
    if isinstance(card, Mapping):  # anything else is refused below
        card = {**_about(model, data), **card}
    _check_new(model, name, card, recipe, root, overwrite)  # before the long encoding
    learned = "learned_database_codes" in card_metrics.arrays_for(card["metrics"])
    own = [(variable, variable.numpy()) for variable in model.variables]
    weight_files.round_weights(model)
    try:
        codes = encoding.encode_splits(model, data, learned, verbose)
        return save(model, name, card, codes, recipe, root, overwrite)
    finally:
        for variable, value in own:
            variable.assign(value)


def save(
    model: "HashModel",
    name: str,
    card: Mapping[str, Any],
    codes: Mapping[str, npt.NDArray[Any]],
    recipe: str = "",
    root: str | os.PathLike[str] = ".",
    overwrite: bool = False,
) -> Entry:
    """Write an entry of given codes, which `load` takes by the path of its folder.

    `publish` also makes the codes, from data. Here they are given, and must come from
    the weights as they are stored, in float16: call `round_weights` on the model before
    it encodes. The values of the card's metrics and `kerashash.codes.bit_imbalance` are
    computed from them.

    Args:
        model: a built `HashModel`.
        name: str, the folder's name: ``<method>-<dataset>-<bits>``, or
            ``<method>-<dataset>`` of a model without codes, in lower-case letters,
            digits and underscores, where the method and the data set may have several
            parts.
        card: dict that JSON can hold: what the card says of the entry. What it says of
            the model and the files, such as ``bits`` and ``shared``, is made anew. Its
            ``metrics`` is a list of dicts, each with a ``name``, what defines the
            metric, and anything else to be said of it:

            - a mean average precision has ``at``, ``denominator``, ``ties`` and
              ``empty``, arguments of `kerashash.evaluation.mean_average_precision`,
              and ``database``, "encoded" or "learned". With ``first_labels``, a number,
              only so many labels, the first ones, count: an item is relevant if it
              shares one of these;
            - a measure of `kerashash.evaluation.label_distribution.MEASURES` has
              ``k``, but none if the model has no codes;
            - "SVM accuracy" is `kerashash.evaluation.svm_accuracy`;
            - one that could not be measured has ``"measured": False``; its value is
              None.
        codes: dict of arrays ``query_codes``, ``query_labels``, ``database_codes`` and
            ``database_labels``: packed codes and label rows. Metrics with ``database:
            "learned"`` need ``learned_database_codes`` as well, "SVM accuracy" needs
            ``validation_codes`` and ``validation_labels``. Of a model without codes:
            ``query_distributions``, as it predicts them, and ``query_labels``, the true
            ones.
        recipe: str, the text of the recipe, TOML (`kerashash.recipes`). If it is empty,
            the card does not say how to train the entry again.
        root: path of the folder in which the entry's folder is made.
        overwrite: bool, whether an entry of that name may be replaced
            (`check_replaceable`). It stays as it is if anything fails.

    Returns:
        `Entry`.

    Raises:
        TypeError, ValueError: if an argument is invalid, the entry exists, the codes
            are not those of the metrics, or the model cannot be loaded again from what
            would be written.

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
        >>> entry = kerashash.zoo.save(model, "adalabel-digits-12", card, codes)
        >>> bool(0 < entry.card["metrics"][0]["value"] < 1)
        True
        >>> kerashash.zoo.load("./adalabel-digits-12").bits
        12
    """
    import keras

    from kerashash.zoo import card_metrics

    _check_model(model)
    root = files.as_path(root, "root")
    card = _check_new(model, name, card, recipe, root, overwrite)
    bits = card.get("bits")
    codes = _checked_arrays(codes)
    if bits is None:
        _check_distributions(codes, model)
    else:
        _check_codes(codes, bits)
    values = card_metrics.measure(card["metrics"], codes, bits)
    card["metrics"] = [
        {**metric, "value": value}
        for metric, value in zip(card["metrics"], values, strict=True)
    ]
    if bits is not None:
        card["bit_imbalance"] = bit_imbalance(codes["database_codes"], bits)
    card["versions"] = {
        package: importlib.metadata.version(package)
        for package in ("kerashash", "keras", "tensorflow", "numpy")
    } | {"python": platform.python_version()}

    target = root / name
    with files.staging(target, overwrite) as staging:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        (staging / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        networks = staging / "shared"
        shared = weight_files.save(model, staging / "model.weights.h5", networks)
        if shared:
            card["shared"] = shared
        archives.write_npz(staging / "codes.npz", codes)
        archives.write_npz(staging / "golden.npz", _golden(model))
        recipe = recipe if recipe.strip() else ""
        (staging / "recipe.toml").write_text(recipe, "utf-8")
        card["files"] = {
            file: {
                "sha256": files.sha256(staging / file),
                "bytes": (staging / file).stat().st_size,
            }
            for file in FILES
        }
        _write_card(staging, card)
        _check_loads(staging)
        # Only now: what fails must leave nothing behind.
        for network in networks.glob("*"):
            (root / "shared").mkdir(exist_ok=True)
            os.replace(network, root / "shared" / network.name)
        if networks.exists():
            networks.rmdir()
        if overwrite:
            check_replaceable(target)  # again: to encode may have taken long
    return entry(target)


def check_replaceable(target: str | os.PathLike[str]) -> None:
    """Check that a folder is an entry, which another of its name may replace.

    It has a card.json, and nothing that entries do not have. Files of a user's own in
    a folder of that name are not to be lost.

    Args:
        target: path of the entry's folder; it need not exist.

    Raises:
        TypeError: if `target` is no path.
        ValueError: if there is something else.

    Example:
        >>> check_replaceable("my-zoo/a-new-name-12")
    """
    folder = files.as_path(target, "target")
    files.recover(folder)
    why = _not_replaceable(folder)
    if why:
        raise ValueError(
            "`name` must be new, or that of an entry: nothing else is replaced. "
            f"Received: {folder.name!r}, and {folder} {why}."
        )


def _not_replaceable(folder: pathlib.Path) -> str | None:
    """Why a folder is not to be replaced; None if there is none, or it is an entry."""
    if not os.path.lexists(folder):
        return None
    if folder.is_symlink() or not folder.is_dir():
        return f"is a {'link' if folder.is_symlink() else 'file'}"
    if not (folder / "card.json").is_file():
        return "has no card.json"
    foreign = [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if not _belongs(path.relative_to(folder), path)
    ]
    return f"has {listing(foreign)}, of no entry" if foreign else None


def _belongs(name: pathlib.Path, path: pathlib.Path) -> bool:
    """Whether a file is one that the folder of an entry has."""
    if name.parts == ("shared",):
        return path.is_dir() and not path.is_symlink()
    if name.parent == pathlib.Path("shared"):
        return name.name.endswith(".weights.h5") and path.is_file()
    return str(name) in _CONTENT and path.is_file()


def _write_card(folder: pathlib.Path, card: Mapping[str, Any]) -> None:
    """Write the card of an entry, and its form for people to read."""
    (folder / "card.json").write_text(_card_text(card), "utf-8")
    (folder / "card.md").write_text(model_card(card), "utf-8")


def _card_text(card: Mapping[str, Any]) -> str:
    """A card as JSON, which is in ASCII."""
    return json.dumps(card, indent=1, allow_nan=False) + "\n"


def _check_loads(folder: pathlib.Path) -> None:
    """Check that a model loads from the files of an entry, and gives its codes."""
    try:
        card = cards.read(folder / "card.json")
        found = Entry(card["name"], folder, cards.Card(card))
        loading.check_golden(loading.build_model(found), folder)
    except ValueError as error:
        raise ValueError(
            "`model` must be one that can be loaded from an entry, after "
            f"`round_weights`. Received one that cannot: {error}"
        ) from error


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
    root = files.as_path(root, "root")
    files.check_place(root, "root")
    source = entry(name)
    # A version goes on to be one, in a folder beside that of the newest.
    _, number = cards.split_name(pathlib.Path(os.fsdecode(name)).name)
    target = root / (f"{source.name}@{number}" if number else source.name)
    files.recover(target)
    if os.path.lexists(target):
        raise ValueError(f"`root` must have no {target.name}. Received: {target}.")
    with files.staging(target, overwrite=False) as staging:
        reading(name, lambda found: _copy(found, staging, root / "shared"))
    return entry(target)


def _copy(found: Entry, folder: pathlib.Path, shared: pathlib.Path) -> None:
    """Copy the files of an entry to a folder, and its networks to another."""
    for network in shared_files(found.path, found.card):
        copy = shared / network.name
        if copy.exists():
            # Other entries of the registry need it as it is.
            if files.sha256(copy) != files.sha256(network):
                raise ValueError(
                    f"`root` must have no other network of the name {network.name}."
                    f" Received: {copy}."
                )
            continue
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(network, folder / "shared")
        os.replace(folder / "shared", copy)
    for file in ("card.json", *FILES):
        shutil.copyfile(found.path / file, folder / file)
    (folder / "card.md").write_text(model_card(found.card), "utf-8")


def stage_alone(name: str | os.PathLike[str], root: pathlib.Path) -> Entry:
    """Write an entry that needs no registry: its networks are in its own folder.

    Args:
        name: str or path, as for `kerashash.zoo.entry`.
        root: `pathlib.Path` of an empty folder, in which the entry's folder is made.

    Returns:
        `Entry`, the copy.
    """
    return reading(name, lambda found: _copy_alone(found, root / found.name))


def _copy_alone(found: Entry, folder: pathlib.Path) -> Entry:
    """Copy an entry and its networks to one folder."""
    shutil.rmtree(folder, ignore_errors=True)  # of another try
    folder.mkdir()
    card = dict(found.card)
    networks = shared_files(found.path, card)
    if networks:
        (folder / "shared").mkdir()
        # A backbone of the package may be another file of the same weights now.
        card["shared"] = [
            {
                "file": network.name,
                "sha256": files.sha256(network),
                "bytes": network.stat().st_size,
            }
            for network in networks
        ]
    for network in networks:
        shutil.copyfile(network, folder / "shared" / network.name)
    for file in FILES:
        shutil.copyfile(found.path / file, folder / file)
    _write_card(folder, card)
    return entry(folder)


def _about(
    model: "HashModel", data: "RetrievalData | DistributionData"
) -> dict[str, Any]:
    """What the card of a new entry says of its data, and the metrics for such data."""
    from kerashash.data import DistributionData, RetrievalData
    from kerashash.evaluation import label_distribution

    if not isinstance(data, RetrievalData | DistributionData):
        raise TypeError(
            "`data` must be a RetrievalData or DistributionData of `kerashash.data`. "
            f"Received: {type(data).__name__}."
        )
    counts = {"counts": encoding.counts(data)}
    if isinstance(data, DistributionData):
        choices = {"k": min(30, data.num_database)} if model.has_codes else {}
        metrics = [{"name": name, **choices} for name in label_distribution.MEASURES]
        return {**counts, "metrics": metrics}
    about = {"name": data.name, "protocol": data.protocol, "seed": data.seed}
    return {**counts, "data": about, "metrics": [dict(cards.DEFAULT_METRIC)]}


def _check_new(
    model: "HashModel",
    name: str,
    card: Mapping[str, Any],
    recipe: str,
    root: pathlib.Path,
    overwrite: bool,
) -> dict[str, Any]:
    """Check an entry that is to be written, and begin its card."""
    from kerashash.zoo import card_metrics

    bits = model.bits if model.has_codes else None
    cards.check_name(name, bits)
    check_flag(overwrite=overwrite)
    files.check_place(root, "root")
    target = root / name
    files.recover(target)
    if overwrite:
        check_replaceable(target)
    elif os.path.lexists(target):
        raise ValueError(
            f"`name` must be new, or overwrite=True. Received: {name!r}, and {target} "
            "exists."
        )
    if not isinstance(card, Mapping):
        raise TypeError(f"`card` must be a dict. Received: {card!r}.")
    about = {key: value for key, value in card.items() if key not in _OWN_KEYS}
    about |= {"name": name, "method": type(model).__name__}
    if bits is not None:
        about["bits"] = bits
    if model.image_fit != "squash":
        about["image_fit"] = model.image_fit
    try:
        card_metrics.check(about.get("metrics"), model.has_codes)
        # Without what JSON does not have, such as tuples.
        about = json.loads(_card_text(about))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"`card` must hold metrics, and what JSON can hold. Received: {error}"
        ) from error
    # As it will be when it is complete.
    unmeasured = [{**metric, "value": None} for metric in about["metrics"]]
    whole = {**about, "metrics": unmeasured, "files": {}}
    cards.check(whole, "`card`")
    size, most = len(_card_text(whole)), cards.MAX_CARD_BYTES
    if size > most - _RESERVED_BYTES:
        raise ValueError(
            f"`card` must have at most {most - _RESERVED_BYTES} bytes as JSON. "
            f"Received: {size}."
        )
    _check_recipe(recipe, name)
    return about


def _check_model(model: "HashModel") -> None:
    """Check a model of which an entry is to be written."""
    from kerashash import saving
    from kerashash.methods import HashModel

    if not isinstance(model, HashModel):
        raise TypeError(
            f"`model` must be a HashModel. Received type: {type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            "`model` must be built: it must have seen a batch, or know its inputs."
            f" Received: {model.name}, which is not."
        )
    saving.check_writable(model)


def _check_recipe(recipe: str, name: str) -> None:
    """Check that the text of a recipe is TOML, and that of the entry."""
    if not isinstance(recipe, str):
        raise TypeError(f"`recipe` must be a str. Received: {recipe!r}.")
    try:
        recipe.encode()  # half a character cannot be written
        about = tomllib.loads(recipe).get("entry", {})
        recipe_name = about.get("name", name)
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"`recipe` must be TOML with a table `entry`. Received: {error}."
        ) from error
    if recipe_name != name:
        raise ValueError(
            f"`recipe` must be that of {name!r}. Received one of {recipe_name!r}."
        )


def _checked_arrays(codes: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Arrays by their names, as a file can hold them."""
    if not isinstance(codes, Mapping):
        raise TypeError(
            f"`codes` must be a dict of arrays. Received type: {type(codes).__name__}."
        )
    for key in codes:
        if not isinstance(key, str) or not re.fullmatch("[a-z_]+", key):
            raise ValueError(
                "`codes` must have keys of lower-case letters and _, such as "
                f"'query_codes'. Received: {key!r}."
            )
    arrays = {key: as_array(value, f"codes[{key!r}]") for key, value in codes.items()}
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf" or not array.ndim:
            raise TypeError(
                f"`codes[{key!r}]` must be an array of numbers. Received: "
                f"{type(codes[key]).__name__}, dtype {array.dtype}."
            )
    return arrays


def _check_codes(codes: Mapping[str, npt.NDArray[Any]], bits: int) -> None:
    """Check that codes are packed, and that each has labels."""
    missing = sorted(set(loading.REQUIRED_ARRAYS) - set(codes))
    if missing:
        raise ValueError(
            f"`codes` must have the keys {loading.REQUIRED_ARRAYS}. Received codes "
            f"without {missing}."
        )
    for key in codes:
        split, _, kind = key.rpartition("_")
        if kind != "codes":
            continue
        packed = check_packed(codes[key], bits, f"codes[{key!r}]")
        labels = f"{split.removeprefix('learned_')}_labels"
        if labels not in codes or len(codes[labels]) != len(packed):
            raise ValueError(
                f"`codes` must have a row of {labels!r} for each of {key!r}. Received: "
                f"{len(codes.get(labels, ()))} rows, and {len(packed)} codes."
            )


def _check_distributions(
    codes: Mapping[str, npt.NDArray[Any]], model: "HashModel"
) -> None:
    """Check the label distributions of an entry without codes, true and predicted."""
    for key in ("query_labels", "query_distributions"):
        if key not in codes:
            raise ValueError(
                "`codes` must have the keys 'query_distributions' and 'query_labels' "
                f"for a model without codes. Received: {sorted(codes)}."
            )
        check_distributions(
            codes[key], model.num_classes, len(codes["query_labels"]), f"codes[{key!r}]"
        )


def _golden(model: "HashModel") -> dict[str, Any]:
    """Draw inputs for a model, and encode them, or predict their label distributions.

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
    if not model.has_codes:
        x = x[:_GOLDEN_INPUTS]
        return {
            "inputs": x,
            "distributions": model.predict_distribution(x, verbose=0),
        }
    margins = np.abs(model.continuous_codes(x, verbose=0)).min(axis=1)
    x = x[np.argsort(-margins, kind="stable")[:_GOLDEN_INPUTS]]
    return {"inputs": x, "codes": model.encode(x, verbose=0)}
