"""Look up entries of the registries: their files, cards and recipes.

`kerashash.zoo` describes what an entry is.
"""

import os
import pathlib
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from kerashash import files as file_safety
from kerashash import installed, notebook
from kerashash.checks import check_flag, close_names
from kerashash.zoo import cards, hub, registry, remote

T = TypeVar("T")

FILES = (
    "config.json",
    "model.weights.h5",
    "codes.npz",
    "golden.npz",
    "recipe.toml",
)
# How often an entry is read that other processes replace again and again.
_TRIES = 5


class WeightsUnavailableError(RuntimeError):
    """The zoo has only the recipe of an entry: the data to train it is not at hand."""


class Entry(NamedTuple):
    """An entry of the zoo whose files have been checked.

    Attributes:
        name: str, the entry's name.
        path: `pathlib.Path` of the entry's folder.
        card: dict, the content of the entry's card.json.

    Example:
        >>> name, path, card = entry("adalabel-cifar10-48")
        >>> (path / "codes.npz").is_file(), card["method"]
        (True, 'AdaLabelHash')
    """

    name: str
    path: pathlib.Path
    card: cards.Card

    def _repr_html_(self) -> str:
        return self.card._repr_html_()


class Names(list[str]):
    """Names of entries; a notebook shows them with what their cards say.

    Example:
        >>> isinstance(list_entries(), Names)
        True
    """

    def _repr_html_(self) -> str:
        listed, _ = registry.list_cards()
        table: list[list[Any]] = []
        for name in self:
            # Added by hand, of a registry that has changed, or with a damaged card.
            if name not in listed:
                table.append([name, *[""] * 6])
                continue
            card = listed[name]
            first = cards.rows(card)[0]
            surrogate = " (surrogate)" if card.get("surrogate") else ""
            table.append(
                [
                    name + surrogate,
                    card.get("method"),
                    card.get("data", {}).get("name"),
                    card.get("bits", ""),
                    first["metric"],
                    first["value"],
                    first["over_seeds"],
                ]
            )
        return notebook.table(
            ["entry", "method", "data", "bits", "metric", "value", "over seeds"], table
        )


def list_entries() -> list[str]:
    """List the entries of the package and of the registries in KERASHASH_ZOO.

    Returns:
        Sorted list of str, the entries' names; a notebook shows it as a table.

    Raises:
        ValueError, OSError: as `registry.names`.

    Example:
        >>> from kerashash import zoo
        >>> "adalabel-cifar10-48" in zoo.list()
        True
    """
    return Names(registry.names())


def entry(name: str | os.PathLike[str], strict: bool = False) -> Entry:
    """Find an entry and check its files, without loading the model.

    Args:
        name: str, a name of `kerashash.zoo.list`; a version of one, such as
            "dcdh-cifar10-48@3"; the path of an entry's folder; or, of an entry on the
            Hugging Face Hub, ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.
        strict: bool; whether a server that does not answer is an error, even if the
            cache holds the entry.

    Returns:
        `Entry`.

    Raises:
        TypeError: if `name` is neither a str nor a path.
        ValueError: if there is no such entry (close names are listed), or if one of
            its files is missing or is not the one that the card describes.
        OSError: if the entry is on a server that does not answer (`registry.find`).
        ImportError: if it is on the hub, and `huggingface_hub` is not installed.
        WeightsUnavailableError: if the zoo has only the entry's recipe.

    Example:
        >>> entry("adalabel-cifar10-48").card["bits"]
        48
    """
    return reading(name, lambda found: found, strict)


def reading(
    name: str | os.PathLike[str], use: Callable[[Entry], T], strict: bool = False
) -> T:
    """Find an entry, check its files and read them, all from one state of its folder.

    Files are opened by their paths, after they have been checked. If another process
    replaces the entry meanwhile, all is done again.

    Args:
        name: str or path, as for `entry`.
        use: function of the `Entry`; it reads what it needs, and may be called again.
        strict: bool, as for `entry`.

    Returns:
        What `use` returns.

    Raises:
        TypeError, ValueError, OSError, ImportError, WeightsUnavailableError: as
            `entry`, and what `use` raises.

    Example:
        >>> reading("adalabel-cifar10-48", lambda found: found.card["bits"])
        48
    """
    check_flag(strict=strict)
    for _ in range(_TRIES):
        path = _find_folder(name, strict)
        before = _state(path)
        try:
            result = use(_checked(path, on_hub=hub.is_address(name)))
        except Exception:
            if _state(path) == before:
                raise
            continue
        if _state(path) == before:
            return result
    raise ValueError(
        f"`name` must be an entry that stays while it is read. Received: {path}, which "
        f"was replaced {_TRIES} times meanwhile."
    )


def _state(path: pathlib.Path) -> bytes | None:
    """What differs between the states of an entry's folder: its card has the digests of
    all other files."""
    try:
        return cards.content(path / "card.json")
    except (ValueError, OSError):
        return None


def _checked(path: pathlib.Path, on_hub: bool) -> Entry:
    """The entry in a folder, after a check of its files."""
    # The files of the hub's cache are links into its folder of the repository.
    links = hub.links(path) if on_hub else path
    _check_inside(links, path / "card.json")
    card = cards.read(path / "card.json")
    names = {cards.split_name(folder) for folder in _names_of(path)}
    fitting = {(card["name"], None), (card["name"], cards.version(card))}
    if not on_hub and not names & fitting:
        raise ValueError(
            f"{path / 'card.json'} must give its folder's name as that of the entry. "
            f"Received: {card['name']!r}, version {cards.version(card)}."
        )
    for file in FILES:
        _check_inside(links, path / file)
        _check_file(path / file, card["files"].get(file, {}), path / "card.json")
    networks = shared_files(path, card)
    for network, expected in zip(networks, card.get("shared", []), strict=True):
        own = network.is_relative_to(path)
        _check_inside(links if own else network.parent, network)
        backbone = installed.backbone_card(network)
        if _digest(expected) in map(_digest, backbone.get("formerly", [])):
            expected = backbone  # of which entries have always rounded the kernels
        _check_file(network, expected, path / "card.json")
    return Entry(card["name"], path, cards.Card(card))


def recipe_only() -> list[str]:
    """List the entries that have a recipe but have not been trained yet.

    Whoever has their data can train them.

    Returns:
        Sorted list of str, the entries' names.

    Example:
        >>> "dsre-nuswide-24" in recipe_only()
        True
    """
    trained = set(registry.names())
    recipes = (installed.folder() / "recipes").glob("*.toml")
    return sorted({path.stem for path in recipes} - trained)


def recipe_path(name: str | os.PathLike[str]) -> pathlib.Path:
    """Find the recipe of an entry, whether the entry has been trained or not.

    Args:
        name: str, a name of `kerashash.zoo.list` or `recipe_only`, or the path of an
            entry's folder.

    Returns:
        `pathlib.Path` of the TOML file.

    Raises:
        TypeError, OSError: as `entry`.
        ValueError: as `entry`, or if the entry has no recipe.

    Example:
        >>> recipe_path("dsre-nuswide-24").name
        'dsre-nuswide-24.toml'
    """
    if name in recipe_only():
        return installed.folder() / "recipes" / f"{name}.toml"
    zoo_entry = entry(name)
    if not cards.has_recipe(zoo_entry.card):
        raise ValueError(
            f"`name` must be an entry with a recipe. Received: {zoo_entry.name!r}, "
            "which does not say how it was trained."
        )
    return zoo_entry.path / "recipe.toml"


def shared_files(path: pathlib.Path, card: Mapping[str, Any]) -> list[pathlib.Path]:
    """Find the files of the networks that an entry shares with others.

    Args:
        path: path of the entry's folder.
        card: dict, the entry's card.

    Returns:
        List of `pathlib.Path`, in the card's order: in ``shared/`` of the entry's
        own folder or of its registry, or in the package.
    """
    return [_shared_file(path, shared["file"]) for shared in card.get("shared", [])]


def _find_folder(name: str | os.PathLike[str], strict: bool) -> pathlib.Path:
    """The folder of an entry, with a card.json in it; raises what `entry` raises."""
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"`name` must be a name or a path. Received: {name!r}.")
    if hub.is_address(name):
        return hub.find(name, strict)
    path = file_safety.as_path(name, "name")
    is_name = len(path.parts) == 1
    registered = registry.find(path.name, strict) if is_name else None
    if registered is not None:
        return registered
    try:
        file_safety.recover(path)
        is_folder, has_card = path.is_dir(), (path / "card.json").is_file()
    except OSError as error:  # too long
        raise ValueError(
            f"`name` must be an entry of the zoo or a folder. Received: {name!r}: "
            f"{error}."
        ) from error
    if is_folder or len(path.parts) > 1:
        if not has_card:
            raise ValueError(
                "`name` must be an entry of the zoo or a folder with a card.json. "
                f"Received: {os.fspath(name)!r}, which has none.{_hint(path)}"
            )
        return path
    _refuse_recipe_only(path.name)
    own, number = cards.split_name(path.name)
    versions = registry.versions(own) if number else []
    if versions:
        raise ValueError(
            f"`name` must be a version of {own} that there is: {versions}. "
            f"Received: {name!r}."
        )
    names = registry.names()
    # Names of entries are in lower case.
    hint = _hint(path) or close_names(path.name.lower(), [*names, *recipe_only()])
    raise ValueError(
        f"`name` must be an entry of the zoo. Received: {name!r}.{hint} "
        f"Entries: {names}."
    )


def _hint(path: pathlib.Path) -> str:
    """Say what else a path that is no entry may have been meant to be."""
    if path.is_file() and path.suffix == ".keras":
        return " Models in files are loaded by `kerashash.load_model`."
    try:
        siblings = [card.parent.name for card in path.parent.glob("*/card.json")]
    except OSError:  # a folder that may not be listed
        siblings = []
    return close_names(path.name, {*siblings} - {path.name})


def _names_of(path: pathlib.Path) -> set[str]:
    """The names that the entry in a folder may have: those of the folder, or for a
    version in the cache of a server, which is named after its card, that of its parent.
    """
    card = cards.content(path / "card.json")
    folders = {path.absolute(), path.resolve()}
    versions = {
        folder.parent for folder in folders if folder.name == remote.version_of(card)
    }
    return {folder.name for folder in versions or folders}


def _check_inside(folder: pathlib.Path, file: pathlib.Path) -> None:
    """Refuse a symbolic link that leads out of a folder."""
    # `Path.resolve` fails at links in a circle, before Python 3.13.
    target = pathlib.Path(os.path.realpath(file))
    if not target.is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"{file} must be a file of its folder. Received: a link to {target}."
        )


def _shared_file(path: pathlib.Path, file_name: str) -> pathlib.Path:
    """The path of one shared network, or the one it should have if it is missing."""
    name = pathlib.Path(file_name).name
    # The cache of a server has one more level of folders: the versions of an entry.
    candidates = [
        folder / "shared" / name
        for entry_folder in (path.absolute(), path.resolve())
        for folder in (entry_folder, entry_folder.parent, entry_folder.parent.parent)
    ]
    existing = next((file for file in candidates if file.is_file()), None)
    return existing or installed.network(name) or candidates[1]


def _refuse_recipe_only(name: str) -> None:
    """Raise an error that says how to train an entry that has only a recipe."""
    if name in recipe_only():
        about = tomllib.loads(recipe_path(name).read_text())["entry"]
        raise WeightsUnavailableError(
            f"{name} has no weights here: its training needs {about['missing']}. With "
            f"them, `kerashash train --recipe {name} --root zoo` trains it and "
            f"`KERASHASH_ZOO=zoo` makes it load by name."
        )


def _digest(file: Mapping[str, Any]) -> tuple[Any, Any]:
    """What tells a file from others, in a card."""
    return file.get("sha256"), file.get("bytes")


def _check_file(
    path: pathlib.Path, expected: Mapping[str, Any], card: pathlib.Path
) -> None:
    """Compare a file with the size and sha256 that its card gives."""
    if not path.is_file():
        raise ValueError(f"{path} is missing.")
    size, digest = path.stat().st_size, "not computed"
    # The size first: to read a file takes as long as it is large.
    if size == expected.get("bytes"):
        digest = file_safety.sha256(path)
    if digest != expected.get("sha256"):
        raise ValueError(
            f"{path} is not the file that its card describes. Received: {size} bytes, "
            f"sha256 {digest}; {card} says {str(expected.get('bytes'))[:80]} bytes, "
            f"sha256 {str(expected.get('sha256'))[:80]}."
        )
