"""Choose of a table: some of its methods and code lengths, other features or data."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from kerashash.checks import check_integer, close_names
from kerashash.comparison.tables import Part, Table


def choose(
    full: Table,
    methods: Iterable[str] | None,
    bits: Iterable[int] | None,
    features: str | None,
    image_size: int | None,
    data: str | os.PathLike[str] | None,
) -> Table:
    """Apply what a user has chosen to a table.

    Args:
        full: `Table`.
        methods, bits, features, image_size, data: as for
            `kerashash.comparison.compare`.

    Returns:
        `Table` of the chosen rows and code lengths, on the chosen data and features.

    Raises:
        TypeError, ValueError: if a choice is wrong.

    Example:
        >>> from kerashash.comparison import table
        >>> chosen = choose(table("dsre-1"), ["ITQ"], [12], None, None, None)
        >>> [row.name for row in chosen.rows], chosen.parts[0].bits
        (['ITQ'], [12])
    """
    rows, parts = full.rows, full.parts
    if methods is not None:
        names = [*methods]
        known = [name for row in rows for name in (row.name, row.method or row.name)]
        for name in names:
            if name not in known:
                raise ValueError(
                    f"`methods` must be rows of {full.name}: {sorted({*known})}. "
                    f"Received: {name!r}.{close_names(name, known)}"
                )
        rows = tuple(r for r in rows if r.name in names or r.method in names)
    if data is not None:
        parts = (_own_part(parts[0], data),)
    changes: dict[str, Any] = {}
    if bits is not None:
        changes["bits"] = [check_integer("bits", length) for length in bits]
    if features is not None or image_size is not None:
        changes["features"] = _features(parts[0], features, image_size)
    return dataclasses.replace(
        full, rows=rows, parts=tuple(dataclasses.replace(p, **changes) for p in parts)
    )


def _features(part: Part, name: str | None, image_size: int | None) -> dict[str, Any]:
    if "encoding" in part.features:
        allowed = ("standardized", "quantiles", "none")
        if name not in allowed or image_size is not None:
            raise ValueError(
                f"`features` must be one of {allowed} for columns of numbers, without "
                f"`image_size`. Received: {name!r}, image_size={image_size}."
            )
        return {"encoding": name}
    chosen = {**part.features, **({} if name is None else {"name": name})}
    if image_size is not None:
        chosen["image_size"] = check_integer("image_size", image_size)
    return chosen


def _own_part(part: Part, data: str | os.PathLike[str]) -> Part:
    """A part of a user's own data."""
    from kerashash import data as data_sets
    from kerashash.evaluation.choices import PROTOCOLS
    from kerashash.recipes.recipe import read

    text = os.fspath(data)
    path = pathlib.Path(text).expanduser()
    chosen: dict[str, Any] = {}
    # Of other data, all ranks count: there may be fewer than the paper's, and no
    # validation images.
    if not part.measures and PROTOCOLS.get(part.metric, {"at": 1})["at"] is not None:
        chosen["metric"] = "kerashash"
    if path.is_dir():
        chosen["data"] = {"folder": str(path.resolve())}
    elif path.suffix == ".toml":
        recipe = read(path)
        if "of" in recipe.backbone.network or recipe.backbone.mirrored:
            raise ValueError(
                "`data` must be a recipe whose backbone is a network with a name, not "
                "that of an entry nor mirrored. Received: "
                f"{text!r}, with {recipe.backbone.table()}."
            )
        chosen["data"] = dict(recipe.data)
        if "folder" in chosen["data"]:
            own = path.parent / pathlib.Path(chosen["data"]["folder"]).expanduser()
            chosen["data"]["folder"] = str(own.resolve())
        if "name" in recipe.backbone.network:
            chosen["features"] = dict(recipe.backbone.network)
    elif text in data_sets.list():
        chosen["data"] = {"name": text}
        if text == "digits":  # vectors
            chosen["features"] = {"encoding": "standardized"}
    else:
        raise ValueError(
            "`data` must be a folder of images, a recipe (.toml) or a data set of "
            f"`kerashash.data.list`. Received: {text!r}."
        )
    if "folder" in chosen["data"]:
        chosen["content"] = _content(pathlib.Path(chosen["data"]["folder"]))
    for key in ("seed", "validation"):  # each run draws its own splits
        chosen["data"].pop(key, None)
    return dataclasses.replace(part, name=path.stem, **chosen)


def _content(folder: pathlib.Path) -> str:
    """A digest of the names, sizes and times of the files of a folder."""
    from kerashash.data.finding import walk

    digest = hashlib.sha256()
    for parent, names, _ in walk(os.fspath(folder)):
        for name in names:
            file = os.path.join(parent, name)
            # A link may lead nowhere, and a file be removed meanwhile.
            with contextlib.suppress(OSError):
                stat = os.stat(file)
                about = [os.path.relpath(file, folder), stat.st_size, stat.st_mtime_ns]
                digest.update(json.dumps(about).encode())
    return digest.hexdigest()[:16]
