"""The registry that comes with the package: entries, recipes, backbones."""

import importlib.resources
import pathlib


def folder():
    """Path of the registry's folder."""
    return pathlib.Path(str(importlib.resources.files("kerashash.pretrained")))


def backbones():
    """Paths of the weights of the package's backbones."""
    return sorted((folder() / "backbones").glob("*.weights.h5"))


def network(file):
    """Path of a network's weights that entries share, by the name of its file; None if
    the package does not have it."""
    for path in (folder() / "shared" / file, *backbones()):
        if path.name == file and path.is_file():
            return path
    return None
