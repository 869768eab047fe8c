"""kerashash: a Keras 3 / TensorFlow model zoo for learning to hash.

Public names load on first use, so that ``import kerashash`` does not import
TensorFlow.
"""

import importlib
import sys

__version__ = "0.1.0"

_CLASSES = {
    "AdaLabelHash": "kerashash.methods.adalabel",
    "DCDH": "kerashash.methods.dcdh",
    "DDH": "kerashash.methods.ddh",
    "DDHLDL": "kerashash.methods.ddh_ldl",
    "DSRE": "kerashash.methods.dsre",
    "HammingRanker": "kerashash.ranker",
    "HashModel": "kerashash.hash_model",
    "evaluate": "kerashash.evaluation",
}
_MODULES = (
    "backbones",
    "callbacks",
    "codes",
    "data",
    "discrete",
    "evaluation",
    "hash_model",
    "label_distribution",
    "label_graph",
    "layers",
    "losses",
    "methods",
    "plots",
    "ranker",
    "similarity",
    "zoo",
)

__all__ = [*_CLASSES, *_MODULES]


def __getattr__(name):
    if name in _CLASSES:
        value = getattr(importlib.import_module(_CLASSES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"kerashash.{name}")
    else:
        raise AttributeError(f"module 'kerashash' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})


# `keras.saving.load_model` knows the classes that have been imported. Whoever has
# Keras loaded has paid for TensorFlow already: register them now.
if "keras" in sys.modules:
    importlib.import_module("kerashash.methods")
