"""A SavedModel that maps inputs to the nearest codes of a database."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from kerashash import files
from kerashash.checks import first_line
from kerashash.forks import check_not_forked
from kerashash.retrieval import kernels, layout

if TYPE_CHECKING:
    import keras

    from kerashash.retrieval.blocks import Block


def save(
    model: "keras.Model",
    bits: int,
    blocks: "Sequence[Block]",
    path: os.PathLike[str] | str,
    k: int,
) -> None:
    """Write the SavedModel, atomically; see `HammingRanker.to_saved_model`."""
    # By what it has: the class is in a room that imports this one.
    if not (hasattr(model, "bits") and hasattr(model, "_batch_shape")):
        raise TypeError(f"`model` must be a HashModel. Received: {model!r}.")
    shape = model._batch_shape()
    if shape is None or not model.built:
        raise ValueError(
            "`model` must be built, so that the shape of its inputs is known. "
            f"Received: {model.name}, which is not built."
        )
    if model.bits != bits:
        raise ValueError(
            f"`model` must have bits={bits}, as the database. Received: "
            f"bits={model.bits}."
        )
    target = files.as_path(path).absolute()
    if os.path.lexists(target):
        raise FileExistsError(f"`path` must not exist. Received: {str(target)!r}.")
    check_parents(target)
    x = tf.TensorSpec((None, *shape[1:]), tf.float32, name="x")
    check_not_forked()
    module = _Search(model, blocks, k, x)
    default = tf.function(
        lambda x: dict(zip(("distances", "indices"), module.search(x), strict=True)),
        input_signature=[x],
    )
    write_saved_model(module, target, default)


def write_saved_model(
    module: tf.Module, path: pathlib.Path, signatures: Callable[..., Any]
) -> None:
    """Write a SavedModel, whole or not at all.

    Args:
        module: `tf.Module`.
        path: `pathlib.Path` of the folder to write, which must not exist.
        signatures: `tf.function`; the default signature.

    Raises:
        FileExistsError: if `path` exists.
        OSError: if the folder cannot be written.

    Example:
        >>> double = tf.function(lambda x: {"y": 2 * x}, [tf.TensorSpec((), tf.int32)])
        >>> write_saved_model(tf.Module(), pathlib.Path("double"), double)
    """
    with files.staging(path, overwrite=False) as folder:
        try:
            tf.saved_model.save(module, folder, signatures=signatures)
        # What TensorFlow makes of a full disk, and of a limit on the size of files.
        except (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError) as error:
            raise OSError(f"{path} cannot be written: {first_line(error)}") from error


def check_parents(path: pathlib.Path) -> None:
    """Refuse a path of which no folder can be made, since a file is in its way.

    Args:
        path: `pathlib.Path`, absolute.

    Raises:
        ValueError: if what would be the folder of `path`, or one above, is none.
    """
    above = next(parent for parent in path.parents if os.path.lexists(parent))
    if not above.is_dir():
        raise ValueError(
            f"`path` must lie in a folder. Received: {str(path)!r}, and {str(above)!r} "
            "is none."
        )


def with_row(x: tf.Tensor) -> tf.Tensor:
    """Add a row of zeros to a batch without rows, which networks and kernels refuse.

    Args:
        x: tensor ``(n, ...)``.

    Returns:
        Tensor ``(max(n, 1), ...)``.

    Example:
        >>> with_row(tf.zeros((0, 2))).shape, with_row(tf.zeros((3, 2))).shape
        (TensorShape([1, 2]), TensorShape([3, 2]))
    """
    shape = tf.shape(x)
    missing = tf.cast(shape[:1] == 0, tf.int32)
    # Not by `tf.pad`, which TensorFlow puts into a convolution after it, and loses.
    return tf.concat([x, tf.zeros(tf.concat([missing, shape[1:]], 0), x.dtype)], 0)


class _Search(tf.Module):
    """The model, the database and the search, as one module to save."""

    def __init__(
        self,
        model: "keras.Model",
        blocks: "Sequence[Block]",
        k: int,
        x: tf.TensorSpec,
    ) -> None:
        self._model = model
        self._kernels = kernels.kernels_for(model.bits)
        self._k = k
        # Variables, because constants count towards the 2 GB limit of a graph.
        self.weights = [variable.value for variable in model.variables]
        self.codes = [tf.Variable(b.codes, trainable=False) for b in blocks]
        self._blocks = [(b.start, b.size) for b in blocks]
        # The public name of the SavedModel's function.
        self.search = tf.function(self._search, input_signature=[x])

    def _search(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k nearest codes of inputs: int32 distances and indices ``(q, k)``."""
        # As `encode`, which refuses them: NaN would have neighbours otherwise.
        tf.debugging.assert_all_finite(x, "`x` must be finite.")
        rows = tf.shape(x)[0]
        queries = _pack(self._model(with_row(x), training=False) >= 0)
        results = []
        for codes, (start, size) in zip(self.codes, self._blocks, strict=True):
            k = min(self._k, size)
            chunks = layout.chunks_to_search(k, codes.shape[0])
            distances, indices = self._kernels.top_k(
                queries, codes, tf.constant(size), tf.constant(k), tf.constant(chunks)
            )
            results.append((tf.cast(distances, tf.int32), indices + start))
        distances, indices = (
            tf.concat(parts, axis=1) for parts in zip(*results, strict=True)
        )
        # They are ordered by index, so a stable sort orders by (distance, index).
        order = tf.argsort(distances, axis=1, stable=True)[:rows, : self._k]
        return (
            tf.gather(distances[:rows], order, batch_dims=1),
            tf.gather(indices[:rows], order, batch_dims=1),
        )


def _pack(bits: tf.Tensor) -> tf.Tensor:
    """Pack bits ``(q, bits)`` into uint8 ``(q, ceil(bits / 8))``."""
    bits = tf.pad(tf.cast(bits, tf.int32), ((0, 0), (0, -bits.shape[1] % 8)))
    octets = tf.reshape(bits, (-1, bits.shape[1] // 8, 8))
    return tf.cast(tf.reduce_sum(octets * (1 << np.arange(7, -1, -1)), 2), tf.uint8)
