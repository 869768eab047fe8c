"""kerashash: a Keras 3 / TensorFlow model zoo for learning to hash.

Methods:
    AdaLabelHash, DCDH, DSRE, DDH, DDHLDL: Keras models from images to hash codes.
        HashModel is their base class; `baselines` has the methods that papers compare
        with.

Functions and classes:
    zoo.load: load a trained model by name.
    save_model, load_model: your own model in a file.
    export_encoder: write a model for ONNX Runtime, LiteRT, OpenVINO or TensorFlow.
    data.load: load a data set under a protocol.
    data.from_directory: load your own folder of images.
    HammingRanker: find the exact nearest neighbours of hash codes.
    CodeStore: keep hash codes on disk, with keys and metadata, and search them.
    evaluate: measure retrieval, with the definition of each number.
    callbacks.RetrievalEvaluation: measure it while a model trains.
    callbacks.monitor: watch retrieval, codes and options in TensorBoard.
    callbacks.Backup: resume training after an interruption.

Modules:
    backbones, baselines, callbacks, cluster, codes, comparison, data, evaluation,
    maths, methods, monitoring, plots, recipes, retrieval, store, zoo.

Public names load on first use, so ``import kerashash`` does not import TensorFlow.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from kerashash import deprecation, forks, keras_backend

if TYPE_CHECKING:  # what `__getattr__` gives, for editors and type checkers
    from kerashash import (
        backbones,
        baselines,
        cluster,
        codes,
        comparison,
        data,
        evaluation,
        maths,
        methods,
        monitoring,
        recipes,
        retrieval,
        store,
        zoo,
    )
    from kerashash.evaluation import evaluate
    from kerashash.exporting import export_encoder
    from kerashash.methods import (
        DCDH,
        DDH,
        DDHLDL,
        DSRE,
        AdaLabelHash,
        HashModel,
    )
    from kerashash.monitoring import callbacks, plots
    from kerashash.retrieval import HammingRanker
    from kerashash.saving import load_model, save_model
    from kerashash.store import CodeStore

__version__ = "0.2.0.dev0"

_NAMES = {
    "AdaLabelHash": "kerashash.methods",
    "CodeStore": "kerashash.store",
    "DCDH": "kerashash.methods",
    "DDH": "kerashash.methods",
    "DDHLDL": "kerashash.methods",
    "DSRE": "kerashash.methods",
    "HammingRanker": "kerashash.retrieval",
    "HashModel": "kerashash.methods",
    "evaluate": "kerashash.evaluation",
    "export_encoder": "kerashash.exporting",
    "load_model": "kerashash.saving",
    "save_model": "kerashash.saving",
}
_MODULES = {
    name: f"kerashash.{name}"
    for name in (
        "backbones",
        "baselines",
        "cluster",
        "codes",
        "comparison",
        "data",
        "evaluation",
        "maths",
        "methods",
        "monitoring",
        "recipes",
        "retrieval",
        "store",
        "zoo",
    )
} | {
    "callbacks": "kerashash.monitoring.callbacks",
    "plots": "kerashash.monitoring.plots",
}

__all__ = [
    "DCDH",
    "DDH",
    "DDHLDL",
    "DSRE",
    "AdaLabelHash",
    "CodeStore",
    "HammingRanker",
    "HashModel",
    "backbones",
    "baselines",
    "callbacks",
    "cluster",
    "codes",
    "comparison",
    "data",
    "evaluate",
    "evaluation",
    "export_encoder",
    "load_model",
    "maths",
    "methods",
    "monitoring",
    "plots",
    "recipes",
    "retrieval",
    "save_model",
    "store",
    "zoo",
]


def __getattr__(name: str) -> Any:
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


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


deprecation.install()
forks.install()
keras_backend.install()

# `keras.saving.load_model` knows the classes that have been imported. Where Keras is
# loaded, so is TensorFlow, and importing them costs little.
if "keras" in sys.modules:
    importlib.import_module("kerashash.saving")
