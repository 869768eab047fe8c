"""A recipe for a folder of one's own images."""

import json
import os
import pathlib
import re
from typing import Any

from kerashash.checks import check_choices, check_integer
from kerashash.data.image_reading import name_fault
from kerashash.data.resizing import FITS
from kerashash.zoo import cards

#: Methods that gradients train on images of classes, by the names that entries begin
#: with. An epoch of a shallow method is something else, so these need their own recipe.
SHORT_NAMES = {
    "adalabel": "AdaLabelHash",
    "dcdh": "DCDH",
    "ddh": "DDH",
    "dsre": "DSRE",
    "ssdh": "SSDH",
    "cnnh": "CNNH",
    "dhn": "DHN",
    "dish": "DISH",
    "dpsh": "DPSH",
    "dsdh": "DSDH",
    "dtsh": "DTSH",
    "hashnet": "HashNet",
    "ninh": "NINH",
}
# Options that differ from the method's own defaults, which are for larger data.
_OPTIONS: dict[str, dict[str, Any]] = {
    "dcdh": {
        "b_update": "epoch",
        "label_units": [256, 256],
        "fusion_units": [256, 256],
    },
    # Neighbours by the features that it learns from, which are those of the backbone.
    "ddh": {"neighbour_backbone": "features"},
}


def for_folder(
    folder: str | os.PathLike[str],
    method: str = "adalabel",
    bits: int = 48,
    *,
    name: str | None = None,
    backbone: str = "efficientnet-lite0",
    epochs: int = 30,
    seed: int = 0,
    fit: str = "squash",
) -> str:
    """Write a recipe that trains on a folder of images, with a subfolder a class.

    A tenth of each class is held out as queries; the rest trains and is the database. A
    pretrained backbone stays as it is, so that its features are computed once; a layer
    on them and the method train.

    Args:
        folder: path of a folder, as for `kerashash.data.from_directory`.
        method: str; "ddh", which learns without the classes, or one that learns from
            them: "adalabel", "dcdh", "dsre", "ssdh", "cnnh", "dhn", "dish", "dpsh",
            "dsdh", "dtsh", "hashnet" or "ninh".
        bits: int; the code length.
        name: str or None; the name of the entry, ``<method>-<dataset>-<bits>``. None
            makes it of the folder's name.
        backbone: str; a name for `kerashash.backbones.get`.
        epochs: int.
        seed: int; of the draw of the queries, and of the training.
        fit: str; how photographs become squares, as for `kerashash.data.read_images`.

    Returns:
        str, the text of a recipe, which `read` and `train` take as a file.

    Raises:
        TypeError, ValueError: if an argument is wrong.

    Example:
        >>> print(for_folder("photos", "ssdh", bits=32).split("[backbone]")[1].strip())
        name = "efficientnet-lite0"
        encoding = "standardized"
        hidden_units = 512
        dropout = 0.3
        <BLANKLINE>
        [model]
        bits = 32
        <BLANKLINE>
        [training]
        seed = 0
        epochs = 30
        batch_size = 64
        learning_rate = 0.001
    """
    check_choices({"method": [*SHORT_NAMES], "fit": FITS}, method=method, fit=fit)
    bits = check_integer("bits", bits)
    check_integer("epochs", epochs)
    check_integer("seed", seed, least=0, most=2**32 - 1)
    folder = pathlib.Path(folder).expanduser().resolve()
    fault = name_fault(folder)
    if fault:
        raise ValueError(
            "`folder` must have a path in UTF-8, for recipes are. Received: "
            f"{os.fspath(folder)!r}, {fault}."
        )
    if name is None:
        name = f"{method}-{_plain(folder.name)}-{bits}"
    cards.check_name(name, bits)
    if name.split("-")[0] in {*SHORT_NAMES} - {method}:
        raise ValueError(
            f"`name` must not be that of another method than {method!r}. Received: "
            f"{name!r}."
        )
    tables: dict[str, dict[str, Any]] = {
        "entry": {
            "name": name,
            "method": SHORT_NAMES[method],
            "trained_on": f"the photographs in {folder.name}; backbone: {backbone}",
            "use": "retrieval of photographs like those that it was trained on",
            "objective": f"that of {SHORT_NAMES[method]} with its default options",
            "backbone_trained_by": "ImageNet-1k classification; frozen",
            "chosen_on": "nothing of these photographs",
            "seeds_vary": f"the layers above the backbone; the split is that of {seed}",
        },
        "data": {"folder": os.fspath(folder), "seed": seed},
        "backbone": {
            "name": backbone,
            "encoding": "standardized",
            "hidden_units": 512,
            "dropout": 0.3,
        },
        "model": {"bits": bits, **_OPTIONS.get(method, {})},
        "training": {
            "seed": seed,
            "epochs": epochs,
            "batch_size": 64,
            "learning_rate": 1e-3,
        },
    }
    if fit != FITS[0]:
        tables["data"]["fit"] = fit
    parts = [_table(f"[{title}]", table) for title, table in tables.items()]
    parts.insert(1, _table("[[entry.metrics]]", cards.DEFAULT_METRIC))
    return "\n".join(parts)


def _plain(name: str) -> str:
    """A folder's name as a part of an entry's: lower-case letters and digits."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "images"


def _table(title: str, values: dict[str, Any]) -> str:
    # Strings, numbers and lists of JSON are those of TOML, but for one character; and
    # escaped, JSON has two for a character such as an emoji, which TOML forbids.
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
    ]
    return "\n".join([title, *lines]).replace("\x7f", "\\u007f") + "\n"
