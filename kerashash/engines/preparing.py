"""A model's network, converted for an engine, checked against TensorFlow, and kept.

What an engine needs of a model is kept in ``engines/`` of the cache, by a digest of the
model's weights and config, and may be deleted at any time. Without a cache, and with
layers of users, whose code may change, networks are converted for each process.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import time
import warnings
import weakref
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import cached_files, installed
from kerashash.backbones.images import has_own_code, input_size, statistics_inlined
from kerashash.checks import check_array, first_line
from kerashash.engines.network import Model, Network
from kerashash.retrieval.layout import on_accelerator

#: What ``engine`` may be; "auto" takes one of the three others.
ENGINES = ("auto", "tensorflow", "openvino", "litert")
#: The engine whose codes are others: networks in 8-bit integers, on OpenVINO.
INT8 = "openvino-int8"

# The package that an engine imports, and the extra that installs it.
_PACKAGES = {"openvino": "openvino", "litert": "ai_edge_litert", INT8: "openvino"}
# Those that give the same codes, of which "auto" takes the fastest.
_AUTO = ("openvino", "litert")
_KIND = "kerashash engine 1"
# How many networks the cache keeps: those written last.
_KEPT = 16
# Inputs of the check and of the measurements of speed.
_INPUTS = 64
# Rows that may go through a network at a time; the fastest is taken.
_ROWS = (1, 4, 16, 64)

_Run = Callable[[npt.NDArray[Any]], Any]


class Prepared(NamedTuple):
    """A model's network on an engine.

    Attributes:
        engine: str; the engine's name.
        network: `Network`.
        rows: int; how many rows go through the network at a time, which has been
            measured on this machine.
        differing: int; bits of the codes of the check's inputs that are not those of
            TensorFlow.
        speed: float; how many times as fast it is as TensorFlow.
    """

    engine: str
    network: Network
    rows: int
    differing: int
    speed: float


# The networks of the models of this process, by engine and digest of what they were
# made of, or why there is none.
_made: weakref.WeakKeyDictionary[Any, dict[tuple[str, str], Prepared | str]] = (
    weakref.WeakKeyDictionary()
)


def fastest(model: Model, run: _Run, wait: bool = True) -> Prepared | None:
    """The fastest engine that is installed and gives a model's codes.

    Args:
        model: `HashModel`.
        run: function of a batch of inputs; TensorFlow's continuous codes.
        wait: bool; False looks only at what this process has prepared, which takes
            milliseconds. Otherwise a network may have to be converted.

    Returns:
        `Prepared`, or None if that is TensorFlow. A `UserWarning` says if another
        engine cannot run the network, or gives other codes.

    Example:
        >>> import keras, kerashash
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> fastest(model, model) is None  # vectors: there is nothing to gain
        True
    """
    shape = model._batch_shape()
    # The processor spends its time on images.
    if not model.built or shape is None or len(shape) != 4 or on_accelerator():
        return None
    usable = [engine for engine in _AUTO if is_installed(engine)]
    if not usable or (not wait and model not in _made):
        return None
    try:
        digest = _digest(model)
    except ValueError:  # what cannot be known again stays with TensorFlow
        return None
    found = []
    for engine in usable:
        known = _made.get(model, {}).get((engine, digest))
        if known is None and wait:
            known = _tried(model, engine, digest, run)
        if isinstance(known, Prepared) and not known.differing and known.speed > 1:
            found.append(known)
    return max(found, key=lambda prepared: prepared.speed, default=None)


def _tried(model: Model, engine: str, digest: str, run: _Run) -> Prepared | str:
    """Prepare a network, and warn if its codes cannot be TensorFlow's."""
    try:
        found = _prepared(model, engine, digest, run)
    except Exception as error:  # its package may be broken, too
        # Not the error itself, whose traceback would keep the model alive.
        why = f"{engine} cannot be used: {error} TensorFlow encodes."
        _made.setdefault(model, {})[engine, digest] = why
        warnings.warn(why, stacklevel=6)
        return why
    if found.differing:
        warnings.warn(
            f"{engine} gives other codes than TensorFlow on this machine: "
            f"{found.differing} bits of {_INPUTS} codes differ. TensorFlow encodes.",
            stacklevel=6,
        )
    return found


def prepared(model: Model, engine: str, run: _Run) -> Prepared:
    """A model's network on an engine: kept from before, or converted now.

    Args:
        model: `HashModel`.
        engine: str; "openvino", "litert" or "openvino-int8".
        run: function of a batch of inputs; TensorFlow's continuous codes.

    Returns:
        `Prepared`.

    Raises:
        ImportError: if the engine is not installed.
        ValueError: if the model is not built, the engine cannot run it, or nothing was
            quantised for "openvino-int8".
    """
    _check_installed(engine)
    digest = _digest(model)
    made = _made.get(model, {}).get((engine, digest))
    if isinstance(made, Prepared):
        return made
    return _prepared(model, engine, digest, run)


def _prepared(model: Model, engine: str, digest: str, run: _Run) -> Prepared:
    shape = _shape(model)
    file = _file(model, digest, engine)
    kept = cached_files.read(file, _KIND) if file else None
    if kept is not None:
        return _finished(model, engine, digest, *kept, run)
    if engine == INT8:
        raise ValueError(
            "`engine` must be one that has this network. Received: "
            f"{INT8!r}, for which nothing has been quantised. Pass some hundreds of "
            f"training images once: model.encoder({INT8!r}, calibration=images)."
        )
    content = _converted(model, engine, shape)
    return _finished(model, engine, digest, {}, content, run)


def quantized(model: Model, inputs: npt.ArrayLike, run: _Run) -> Prepared:
    """Quantise a model's network to 8-bit integers, and keep it.

    Args:
        model: `HashModel`; built.
        inputs: array ``(n, ...)``; some hundreds of inputs that it was trained on.
        run: function of a batch of inputs; TensorFlow's continuous codes.

    Returns:
        `Prepared` for "openvino-int8".

    Raises:
        ImportError: if OpenVINO or NNCF is not installed.
        TypeError, ValueError: if the inputs are not those of the model, or the network
            cannot be quantised.
    """
    _check_installed(INT8)
    if importlib.util.find_spec("nncf") is None:
        raise ImportError(
            "`calibration` needs the package nncf. Install it by: pip install "
            '"kerashash[int8]".'
        )
    from kerashash.engines import openvino_network, quantizing

    shape = _shape(model)
    rows = check_array(inputs, shape, "calibration").astype(np.float32)
    if not len(rows):
        raise ValueError("`calibration` must have at least one row. Received: 0 rows.")
    network = openvino_network.from_bytes(_converted(model, "openvino", shape))
    try:
        network = quantizing.quantized(network, rows)
    except Exception as error:  # NNCF has types of its own
        raise _cannot_run(INT8, error) from error
    content = openvino_network.as_bytes(network)
    return _finished(model, INT8, _digest(model), {}, content, run)


def _finished(
    model: Model,
    engine: str,
    digest: str,
    about: dict[str, Any],
    content: bytes,
    run: _Run,
) -> Prepared:
    """Load a network, measure it if `about` does not say how it is, and keep it."""
    try:
        if engine == "litert":
            from kerashash.engines import litert_network

            network: Network = litert_network.LiteRTNetwork(content)
        else:
            from kerashash.engines import openvino_network

            network = openvino_network.OpenVINONetwork(content)
        if not {"rows", "differing", "speed"} <= {*about}:
            about = _measured(model, network, run)
            _keep(_file(model, digest, engine), about, content)
    except Exception as error:  # runtimes have types of their own
        raise _cannot_run(engine, error) from error
    result = Prepared(
        engine, network, about["rows"], about["differing"], about["speed"]
    )
    # Of other weights, which training has changed, nothing is needed any more.
    _made[model] = {
        key: value for key, value in _made.get(model, {}).items() if key[1] == digest
    } | {(engine, digest): result}
    return result


def _measured(model: Model, network: Network, run: _Run) -> dict[str, Any]:
    """Compare a network's codes with TensorFlow's, and find how many rows are best."""
    x = _check_inputs(_shape(model), input_size(model.backbone))
    expected = np.asarray(run(x)) >= 0
    start = time.perf_counter()
    run(x)
    usual = time.perf_counter() - start
    seconds, differing = {}, 0
    for rows in _ROWS:
        codes = np.concatenate([*network.run([x], rows)]) >= 0
        differing = max(differing, int((codes != expected).sum()))
        start = time.perf_counter()
        for _ in network.run([x], rows):
            pass
        seconds[rows] = time.perf_counter() - start
    best = min(seconds, key=lambda rows: seconds[rows])
    return {
        "rows": best,
        "differing": differing,
        "speed": usual / seconds[best],
    }


def _check_inputs(shape: tuple[int | None, ...], side: int | None) -> npt.NDArray[Any]:
    """Inputs of many kinds: images of smooth colours with more or less grain."""
    rng = np.random.default_rng(0)
    if len(shape) != 4:
        sides = [size or 1 for size in shape[1:]]
        return rng.normal(size=(_INPUTS, *sides)).astype(np.float32)
    height, width = (size or side or 64 for size in shape[1:3])
    colours = rng.uniform(0, 255, (_INPUTS, 6, 6, shape[3] or 3))
    smooth = tf.image.resize(colours, (height, width), "bicubic").numpy()
    scale = rng.uniform(0, 40, (_INPUTS, 1, 1, 1))
    grain = rng.normal(0, 1, smooth.shape) * scale
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def _converted(model: Model, engine: str, shape: tuple[int | None, ...]) -> bytes:
    """A model's network as bytes that an engine takes."""
    spec = tf.TensorSpec((None, *shape[1:]), tf.float32, name="x")
    try:
        with statistics_inlined(model):
            function = tf.function(lambda x: model(x, training=False))
            concrete = function.get_concrete_function(spec)
            if engine == "litert":
                from kerashash.engines import litert_network

                return litert_network.converted(concrete)
            from kerashash.engines import openvino_network

            return openvino_network.as_bytes(openvino_network.converted(concrete))
    except Exception as error:  # converters have types of their own
        policies = {layer.dtype_policy.name for layer in model._flatten_layers()}
        raise _cannot_run(engine, error, policies) from error


def _cannot_run(
    engine: str, error: Exception, policies: AbstractSet[str] = frozenset()
) -> ValueError:
    other = sorted(policies - {"float32"})
    layers = f", for layers with the dtype policies {other}" if other else ""
    return ValueError(
        f"`engine` must be one that can run this network. Received: {engine!r}{layers}:"
        f" {first_line(error)}."
    )


def _digest(model: Model) -> str:
    """A digest of a model's weights and config."""
    try:
        config = json.dumps(keras.saving.serialize_keras_object(model), default=repr)
    except Exception as error:  # of layers of users
        raise ValueError(
            "`engine` must be 'tensorflow' for a network that Keras cannot write to a "
            f"file. Received: {model.name}: {first_line(error)}."
        ) from error
    digest = hashlib.sha256(config.encode())
    for variable in model.variables:
        value = np.ascontiguousarray(variable)
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(value.data)
    return digest.hexdigest()


def _file(model: Model, digest: str, engine: str) -> pathlib.Path | None:
    """Where a network is kept, for this machine and these versions; None if it is not:
    there is no cache, or the code of a layer is the user's and may change."""
    if has_own_code(model):
        return None
    runtime = "ai-edge-litert" if engine == "litert" else "openvino"
    packages = ("kerashash", "tensorflow", runtime)
    about = [
        digest,
        engine,
        *map(importlib.metadata.version, packages),
        _machine(engine),
    ]
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    try:
        return installed.cache() / "engines" / name
    except ValueError as error:
        _warn_once(str(error))
        return None


def _keep(file: pathlib.Path | None, about: dict[str, Any], content: bytes) -> None:
    """Write a network to the cache, if that can be written."""
    if file is None:
        return
    with contextlib.suppress(OSError, ValueError):
        cached_files.write(file, _KIND, about, content)
    if not os.path.isfile(file):
        _warn_once(
            f"{file.parent} cannot be written. Networks of engines are converted anew "
            "in each process; KERASHASH_CACHE names another folder for the cache."
        )
    else:
        _prune(file.parent)


@functools.cache
def _warn_once(message: str) -> None:
    """Warn of the cache, which stays as it is for all networks of a process."""
    warnings.warn(message, stacklevel=2)


def _machine(engine: str) -> str:
    """The processor, as far as codes and speeds depend on it."""
    if engine == "litert":
        return f"{platform.machine()} {platform.node()} {os.cpu_count()}"
    from kerashash.engines import openvino_network

    return f"{openvino_network.device()} {os.cpu_count()}"


def _prune(folder: pathlib.Path) -> None:
    """Remove all but the files written last."""
    with_times = []
    with contextlib.suppress(OSError):  # a folder that may not be listed
        for path in folder.iterdir():
            # Another process may have removed it.
            with contextlib.suppress(OSError):
                with_times.append((path.stat().st_mtime, path))
    for _, path in sorted(with_times, reverse=True)[_KEPT:]:
        with contextlib.suppress(OSError):
            path.unlink()


def _shape(model: Model) -> tuple[int | None, ...]:
    shape = model._batch_shape()
    if shape is None or not model.built:
        raise ValueError(
            "`engine` must be 'tensorflow' or 'auto' for a model that is not built. "
            f"Received: {model.name}, which is not."
        )
    return shape


def is_installed(engine: str) -> bool:
    """Whether the package of an engine is installed.

    Args:
        engine: str; "openvino", "litert" or "openvino-int8".

    Returns:
        bool.
    """
    return importlib.util.find_spec(_PACKAGES[engine]) is not None


def _check_installed(engine: str) -> None:
    if not is_installed(engine):
        extra = "litert" if engine == "litert" else "openvino"
        raise ImportError(
            f"engine={engine!r} needs the package {_PACKAGES[engine]}. Install it by: "
            f'pip install "kerashash[{extra}]".'
        )
