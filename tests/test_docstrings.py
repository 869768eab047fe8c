import doctest
import importlib
import pkgutil

import pytest

import kerashash

MODULES = [
    "kerashash",
    *(
        module.name
        for module in pkgutil.walk_packages(kerashash.__path__, "kerashash.")
        if not module.name.endswith("__main__")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run_as_printed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    if name == "kerashash.store.code_store":
        pytest.importorskip("lancedb")  # of the extra `store`
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder()
    examples = finder.find(importlib.import_module("kerashash.methods.dcdh"))
    assert sum(len(test.examples) for test in examples) > 3
