"""The entries of the registries: their files, cards and recipes.

What an entry is, `kerashash.zoo` says.
"""

import difflib
import json
import os
import pathlib
import tomllib
from typing import NamedTuple

from kerashash import installed
from kerashash.zoo import registry, weight_files

FILES = (
    "config.json",
    "model.weights.h5",
    "codes.npz",
    "golden.npz",
    "recipe.toml",
)


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
        files, shared = card["files"], card.get("shared", [])
        networks = shared_files(path, card)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / 'card.json'} is not a card: {error}.") from error
    for file in FILES:
        _check_file(path / file, files.get(file, {}))
    for network, stated in zip(networks, shared, strict=True):
        _check_file(network, stated)
    return Entry(card["name"], path, card)


def recipe_only():
    """Names of the entries that are still to be trained, by who has their data.

    Returns:
        Sorted list of str.

    Example:
        >>> "adalabel-nuswide-24" in recipe_only()
        True
    """
    there = set(registry.names())
    recipes = (installed.folder() / "recipes").glob("*.toml")
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
        >>> recipe_path("adalabel-nuswide-24").name
        'adalabel-nuswide-24.toml'
    """
    if name in recipe_only():
        return installed.folder() / "recipes" / f"{name}.toml"
    return entry(name).path / "recipe.toml"


def shared_files(path, card):
    """Paths of the networks that an entry shares: in ``shared/`` of its registry (in
    the cache of a server's one level further up), or the package's."""
    return [_shared_file(path, stated["file"]) for stated in card.get("shared", [])]


def _shared_file(path, file):
    name = pathlib.Path(file).name
    places = [folder / "shared" / name for folder in (path.parent, path.parent.parent)]
    found = next((place for place in places if place.is_file()), None)
    return found or installed.network(name) or places[0]


def _refuse_recipe_only(name):
    if name in recipe_only():
        about = tomllib.loads(recipe_path(name).read_text())["entry"]
        raise WeightsUnavailableError(
            f"{name} has no weights here: its training needs {about['missing']}. With "
            f"them, `kerashash train --recipe {name} --root zoo` trains it and "
            f"`KERASHASH_ZOO=zoo` makes it load by name."
        )


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
