"""The order of the package: a room (a folder or file) imports only earlier rooms."""

import ast
import pathlib

import pytest

import kerashash

PLAN = [
    "deprecation",
    "keras_backend",
    "installed",
    "notes",
    "forks",
    "files",
    "archives",
    "cached_files",
    "checks",
    "mat_files",
    "notebook",
    "codes",
    "maths",
    "backbones",
    "data",
    "retrieval",
    "engines",
    "methods",
    "baselines",
    "saving",
    "exporting",
    "evaluation",
    "monitoring",
    "zoo",
    "store",
    "cluster",
    "recipes",
    "comparison",
    "demo",
    "page",
    "cli",
    "__main__",
]
# Convenience methods of a class may import a later room inside the method.
SHORTCUTS = {"methods/hash_model.py": {"zoo", "store"}}  # from_preset, index
PACKAGE = pathlib.Path(kerashash.__file__).parent
FILES = [p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"]


def room_of(path):
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imported(tree):
    """Rooms that a file imports, also inside functions."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "kerashash":
                names = [f"kerashash.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("kerashash."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_reach_only_earlier_rooms(path):
    if "pretrained" in path.parts:
        return
    own = PLAN.index(room_of(path))
    rooms = {*imported(ast.parse(path.read_text()))}
    assert rooms <= {*PLAN}
    rooms -= SHORTCUTS.get(path.relative_to(PACKAGE).as_posix(), set())
    later = [room for room in rooms if PLAN.index(room) > own]
    assert not later
