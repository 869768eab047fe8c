"""kerashash: a Keras 3 / TensorFlow model zoo for learning to hash.

Public names load on first use, so that ``import kerashash`` does not import
TensorFlow.
"""

import importlib
import sys

from kerashash import deprecation

__version__ = "0.2.0.dev0"

_NAMES = {
    "AdaLabelHash": "kerashash.methods",
    "DCDH": "kerashash.methods",
    "DDH": "kerashash.methods",
    "DDHLDL": "kerashash.methods",
    "DSRE": "kerashash.methods",
    "HammingRanker": "kerashash.retrieval",
    "HashModel": "kerashash.methods",
    "evaluate": "kerashash.evaluation",
    "load_model": "kerashash.saving",
}
_MODULES = {
    name: f"kerashash.{name}"
    for name in (
        "backbones",
        "baselines",
        "codes",
        "data",
        "evaluation",
        "maths",
        "methods",
        "monitoring",
        "recipes",
        "retrieval",
        "zoo",
    )
} | {
    "callbacks": "kerashash.monitoring.callbacks",
    "plots": "kerashash.monitoring.plots",
}

__all__ = [*_NAMES, *_MODULES]


def __getattr__(name):
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif f"kerashash.{name}" in deprecation.MOVED_MODULES:
        new = deprecation.MOVED_MODULES[f"kerashash.{name}"]
        deprecation.warn_deprecated(f"kerashash.{name}", new)
        return importlib.import_module(new)
    else:
        raise AttributeError(f"module 'kerashash' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return __all__


deprecation.install()

# `keras.saving.load_model` knows the classes that have been imported. Where Keras is
# loaded, so is TensorFlow, and importing them costs little.
if "keras" in sys.modules:
    importlib.import_module("kerashash.saving")
