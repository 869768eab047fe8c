"""Models saved by earlier versions load, and their codes are the same as then."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerashash.methods  # registers the classes  # noqa: F401
from kerashash import zoo

SAVED = pathlib.Path(__file__).parent / "data" / "saved_by_0_1_0"


# Version 0.1.0 gave networks that are never trained a place in the optimizer.
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@pytest.mark.parametrize("name", sorted(path.stem for path in SAVED.glob("*.keras")))
def test_models_of_version_0_1_0_load(name):
    stored = np.load(SAVED / "codes.npz")
    model = keras.saving.load_model(SAVED / f"{name}.keras")
    np.testing.assert_array_equal(model.encode(stored["x"]), stored[name])
    for consulted, attribute in (
        ("dsre_consulted", "p_features"),
        ("ddh_consulted", "neighbour_backbone"),
    ):
        if consulted.startswith(f"{name}_"):
            kernel = getattr(model, attribute).get_weights()[0]
            np.testing.assert_array_equal(kernel, stored[consulted])
    if f"{name}_learned" in stored:
        learned = stored[f"{name}_learned"]
        np.testing.assert_array_equal(model.learned_codes(), learned)


def without_modules(config):
    """A config in which every module of kerashash has a name that does not exist."""
    if isinstance(config, list):
        return [without_modules(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: without_modules(value) for key, value in config.items()}
    if str(config.get("module")).startswith("kerashash"):
        config["module"] = "kerashash.no_such_module"
    return config


def classes(config):
    """The classes of a config, as they are nested; all that is looked up by name."""
    if isinstance(config, list):
        return [classes(value) for value in config]
    if not isinstance(config, dict):
        return None
    own = [config.get(key) for key in ("module", "class_name", "registered_name")]
    return [own, [classes(value) for value in config.values()]]


def entries_of_distinct_classes():
    """An entry for each nesting of classes in the configs of all entries."""
    entries = {}
    for name in zoo.list():
        text = (zoo.entry(name).path / "config.json").read_text()
        entries[json.dumps(classes(json.loads(text)))] = name
    return sorted(entries.values())


@pytest.mark.parametrize("name", entries_of_distinct_classes())
def test_configs_of_the_zoo_need_no_module_path(name):
    """Keras finds a class by its registered name, so modules can be renamed."""
    text = (zoo.entry(name).path / "config.json").read_text()
    config = without_modules(json.loads(text))
    assert "kerashash.no_such_module" in json.dumps(config)
    model = keras.saving.deserialize_keras_object(config)
    assert type(model).__name__ == zoo.entry(name).card["method"]


# Runs in a new process, because this one has loaded the modules already.
OLD_PATHS = """
import importlib, sys, warnings
import kerashash
from kerashash.deprecation import MOVED_MODULES

for old, new in MOVED_MODULES.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(old)
    assert any(
        w.category is DeprecationWarning and new in str(w.message) for w in caught
    ), old
    assert module is importlib.import_module(new), old
    assert module.__spec__.name == new, old
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert getattr(kerashash, old.rpartition(".")[2]) is module, old
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from kerashash.layers import QuantileEncoding
assert QuantileEncoding is kerashash.backbones.QuantileEncoding
assert "kerashash.backbones.QuantileEncoding" in str(caught[-1].message)
try:
    import kerashash.lossess
except ModuleNotFoundError:
    print("done")
"""


def test_old_paths_are_the_new_modules_and_warn(tmp_path):
    run = [sys.executable, "-W", "ignore", "-c", OLD_PATHS]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
