"""Where files lie: the registry that is installed with the package, and the cache."""

import importlib.resources
import json
import os
import pathlib
from typing import Any

#: The cache where the environment variable KERASHASH_CACHE names no other.
USUAL_CACHE = "~/.cache/kerashash"


def folder() -> pathlib.Path:
    """Path of the registry's folder.

    Returns:
        `pathlib.Path`.

    Example:
        >>> (folder() / "recipes").is_dir()
        True
    """
    return pathlib.Path(str(importlib.resources.files("kerashash.pretrained")))


def backbones() -> list[pathlib.Path]:
    """Paths of the backbone weight files, sorted.

    Returns:
        List of `pathlib.Path`.

    Example:
        >>> all(path.name.endswith(".weights.h5") for path in backbones())
        True
    """
    return sorted((folder() / "backbones").glob("*.weights.h5"))


def network(file: str) -> pathlib.Path | None:
    """Path of a weight file that several registry entries share.

    Args:
        file: str; name of the file, without a folder.

    Returns:
        `pathlib.Path`, or None if the file is not installed with the package.

    Example:
        >>> network("none.weights.h5") is None
        True
    """
    for path in (folder() / "shared" / file, *backbones()):
        if path.name == file and path.is_file():
            return path
    return None


def backbone_card(path: pathlib.Path) -> dict[str, Any]:
    """What is known of a backbone of the package.

    Args:
        path: `pathlib.Path` of a weight file.

    Returns:
        dict; the JSON file beside it, with ``sha256`` and ``bytes`` of the weight file,
        and in ``formerly`` those of earlier files of the same weights, with kernels in
        float32. Empty if the file is no backbone of the package.

    Example:
        >>> [backbone_card(path)["features"] for path in backbones()]
        [1280, 1280]
    """
    if path not in backbones():
        return {}
    card = path.with_name(path.name.replace(".weights.h5", ".json"))
    about: dict[str, Any] = json.loads(card.read_text())
    return about


def cache() -> pathlib.Path:
    """Path of the folder of files that may be deleted at any time.

    Returns:
        `pathlib.Path`; it need not exist.

    Raises:
        ValueError: if KERASHASH_CACHE names the home folder of nobody, or is not set
            and no home folder is known, as in some containers.

    Example:
        >>> cache().is_absolute() or bool(os.environ.get("KERASHASH_CACHE"))
        True
    """
    name = os.environ.get("KERASHASH_CACHE")
    try:
        return pathlib.Path(name or USUAL_CACHE).expanduser()
    except RuntimeError as error:
        received = f"Received: {name!r}"
        if not name:
            received = f"It is not set, and {USUAL_CACHE} cannot be found"
        raise ValueError(
            f"`KERASHASH_CACHE` must be the path of a folder. {received}: {error}"
        ) from error
