"""A store's network as a frozen graph, for the first query of a process.

To build a Keras model and trace it takes seconds, to load its graph a part of one
(`benchmarks/search.py`).
The graph is kept in ``encoders/`` of the cache, and may be deleted at any time. Without
a cache, nothing is kept.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash import cached_files, installed
from kerashash.store.code_store import CodeStore

if TYPE_CHECKING:
    from kerashash.methods import HashModel

# A change of what a file holds changes its kind.
_KIND = "kerashash encoder 1"
_OUTPUT = "kerashash_continuous_codes"
# More photographs are worth the model, which encodes a batch in less time.
_MOST = 16


class _Kept(NamedTuple):
    """What a file holds: how photographs become squares, and the graph of squares."""

    side: int
    fit: str
    graph: bytes


def encode_queries(
    store: CodeStore, paths: Sequence[str | os.PathLike[str]]
) -> npt.NDArray[np.uint8]:
    """Encode photographs by a store's model, or by the graph of it that is kept.

    The graph is known by the weights that made the store's codes. A code differs from
    that of `HashModel.encode` only where a value is within rounding of 0.

    Args:
        store: `CodeStore` of a model of images.
        paths: sequence of paths of image files.

    Returns:
        uint8 array ``(n, ceil(bits / 8))``.

    Raises:
        ValueError: as for `HashModel.encode`.
        OSError: if the model cannot be loaded.
    """
    kept = _read(_file(store)) if len(paths) <= _MOST else None
    if kept is not None:
        return _encode(kept, paths)
    codes = store.model.encode([*paths], verbose=0)
    keep(store)
    return codes


def keep(store: CodeStore) -> None:
    """Keep the graph of a store's model, if it is one of the zoo and takes images.

    Args:
        store: `CodeStore`.

    Raises:
        OSError, ValueError: if the model cannot be loaded.
    """
    file = _file(store)
    if file is None or _read(file) is not None:
        return
    model = store.model
    try:
        kept = _frozen(model)
    except Exception:  # of TensorFlow: networks of users may hold what no graph can
        kept = None
    if kept is None or not _agrees(kept, model):
        return
    about = {"side": kept.side, "fit": kept.fit}
    with contextlib.suppress(ValueError):  # a folder that has the name of the file
        cached_files.write(file, _KIND, about, kept.graph)


def _file(store: CodeStore) -> pathlib.Path | None:
    """Where the graph of a store's model is kept; None if it is not."""
    # Of models that are not of the zoo, the identity does not say all.
    if not (store.model_identity or {}).get("in_zoo"):
        return None
    packages = ("kerashash", "tensorflow")
    versions = [importlib.metadata.version(name) for name in packages]
    key = json.dumps([store.model_identity, *versions], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    try:
        return installed.cache() / "encoders" / name
    except ValueError:  # there is no cache; the next process loads the model again
        return None


def _read(file: pathlib.Path | None) -> _Kept | None:
    """What a file holds; None if there is none, or it is damaged."""
    found = None if file is None else cached_files.read(file, _KIND)
    if found is None:
        return None
    about, graph = found
    return _Kept(about["side"], about["fit"], graph)


def _frozen(model: "HashModel") -> _Kept | None:
    """The graph from squares to continuous codes, its weights included."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    from kerashash.backbones.images import input_size, statistics_inlined

    side = input_size(model.backbone)
    if side is None:
        return None
    spec = tf.TensorSpec((None, side, side, 3), tf.uint8, name="x")
    with statistics_inlined(model):
        function = tf.function(lambda x: model(x, training=False))
        concrete = function.get_concrete_function(spec)
        frozen = convert_to_constants.convert_variables_to_constants_v2(concrete)
    if [tensor.name for tensor in frozen.inputs] != ["x:0"]:
        return None  # it holds tensors that are no weights
    graph = frozen.graph.as_graph_def()
    graph.node.add(op="Identity", name=_OUTPUT, input=[frozen.outputs[0].name])
    graph.node[-1].attr["T"].type = frozen.outputs[0].dtype.as_datatype_enum
    return _Kept(side, model.image_fit, graph.SerializeToString())


def _agrees(kept: _Kept, model: "HashModel") -> bool:
    """Whether a graph gives the continuous codes of its model, but for rounding."""
    shape = (2, kept.side, kept.side, 3)
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = model(x, training=False)
    return np.allclose(_run(kept.graph, x), expected, rtol=1e-3, atol=1e-3)


def _encode(
    kept: _Kept, paths: Sequence[str | os.PathLike[str]]
) -> npt.NDArray[np.uint8]:
    from kerashash.data.image_reading import read_images

    x = read_images(paths, kept.side, kept.fit)
    return np.packbits(_run(kept.graph, x) >= 0, axis=1)


def _run(graph: bytes, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The continuous codes of images, float32 ``(n, bits)``."""
    import tensorflow as tf

    built = tf.Graph()
    with built.as_default():
        definition = tf.compat.v1.GraphDef.FromString(graph)
        tf.graph_util.import_graph_def(definition, name="")
    # To optimize the graph takes longer than to run it once, and so does a GPU.
    options = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    options.graph_options.optimizer_options.opt_level = -1
    with tf.compat.v1.Session(graph=built, config=options) as session:
        return np.asarray(session.run(f"{_OUTPUT}:0", {"x:0": x}), np.float32)
