"""A SavedModel from inputs to the nearest codes of a database."""

import os
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from kerashash.retrieval import kernels, layout


def save(model, ranker, path, k):
    """Write the SavedModel; see `HammingRanker.to_saved_model`."""
    shape = model._batch_shape()
    if shape is None or not model.built:
        raise ValueError(
            "`model` must be built, to know the shape of its inputs. Received: "
            f"{model.name}, which has seen none."
        )
    if model.bits != ranker.bits:
        raise ValueError(
            f"`model` must have bits={ranker.bits}, as the database. Received: "
            f"bits={model.bits}."
        )
    path = os.path.abspath(path)
    if os.path.exists(path):
        raise FileExistsError(f"`path` must not be there. Received: {path!r}.")
    module = _Search(model, ranker, k)
    x = tf.TensorSpec((None, *shape[1:]), tf.float32, name="x")
    module.search = tf.function(module.search, input_signature=[x])
    default = tf.function(
        lambda x: dict(zip(("distances", "indices"), module.search(x), strict=True)),
        input_signature=[x],
    )
    part = tempfile.mkdtemp(dir=os.path.dirname(path))
    try:
        tf.saved_model.save(module, part, signatures=default)
        os.chmod(part, 0o755)
        os.rename(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


class _Search(tf.Module):
    def __init__(self, model, ranker, k):
        self._model = model
        self._kernels = kernels.kernels_for(ranker.bits)
        self._k = k
        # Variables: a constant would be limited to the 2 GB of a graph.
        self.weights = [variable.value for variable in model.variables]
        self.codes = [tf.Variable(b.codes, trainable=False) for b in ranker.blocks]
        self._sizes = [(b.start, b.size) for b in ranker.blocks]

    def search(self, x):
        """The k nearest codes of inputs: int32 distances and indices ``(q, k)``."""
        queries = _pack(self._model(x, training=False) >= 0)
        found = []
        for codes, (start, size) in zip(self.codes, self._sizes, strict=True):
            k = min(self._k, size)
            chunks = layout.chunks_for(k, codes.shape[0])
            counts = tf.constant(size), tf.constant(k), tf.constant(chunks)
            near, index = self._kernels.top_k(queries, codes, *counts)
            found.append((tf.cast(near, tf.int32), index + start))
        near, index = (tf.concat(part, axis=1) for part in zip(*found, strict=True))
        # They come by index, so that a stable sort gives the order.
        order = tf.argsort(near, axis=1, stable=True)[:, : self._k]
        return (
            tf.gather(near, order, batch_dims=1),
            tf.gather(index, order, batch_dims=1),
        )


def _pack(bits):
    """Bits ``(q, bits)`` -> packed codes, uint8 ``(q, ceil(bits / 8))``."""
    bits = tf.pad(tf.cast(bits, tf.int32), ((0, 0), (0, -bits.shape[1] % 8)))
    octets = tf.reshape(bits, (-1, bits.shape[1] // 8, 8))
    return tf.cast(tf.reduce_sum(octets * (1 << np.arange(7, -1, -1)), 2), tf.uint8)
