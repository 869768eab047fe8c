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
# What some modules or their examples need, of the extras.
EXTRAS = {
    "kerashash.engines.litert_network": "ai_edge_litert",
    "kerashash.engines.openvino_network": "openvino",
    "kerashash.engines.quantizing": "openvino",
    "kerashash.store.code_store": "lancedb",
}


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run_as_printed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder()
    examples = finder.find(importlib.import_module("kerashash.methods.dcdh"))
    assert sum(len(test.examples) for test in examples) > 3
