"""Features of a frozen backbone, computed once and kept on disk."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib

import numpy as np
import tensorflow as tf

from kerashash import backbones
from kerashash.backbones.images import leaves
from kerashash.checks import check_integer
from kerashash.data import inputs
from kerashash.data.images import EncodedImages
from kerashash.data.retrieval_data import RetrievalData


def cache_features(data, backbone, folder, batch_size=128, verbose="auto"):
    """A data set with a backbone's features in the place of its images.

    Methods then train on vectors, in seconds. All images pass through the backbone
    once, those of the queries and the database included. What it gives is a file in
    `folder`, named by a digest of the images and of the backbone: a later call, with
    any protocol and seed, reads it; a call that was stopped goes on where it was.

    Args:
        data: `RetrievalData`.
        backbone: images -> features: a name known to `kerashash.backbones.get` or any
            `keras.Model`. It is used as in inference.
        folder: path, made if it is not there. ``~`` is the home folder.
        batch_size: int, images at a time.
        verbose: "auto" shows a progress bar on long work, 1 always, 0 never.

    Returns:
        `RetrievalData` whose `x` is float32 ``(n, ...)``, read from disk as needed.
        `HashModel.with_backbone` puts a model trained on it behind the backbone.

    Raises:
        TypeError, ValueError: if an argument is wrong.
        OSError: if the file cannot be written; what is done is kept.

    Example:
        >>> import keras, kerashash
        >>> data = kerashash.data.load("digits")
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(8)])
        >>> cache_features(data, net, "features").x.shape
        (1797, 8)
    """
    if not isinstance(data, RetrievalData):
        raise TypeError(
            f"`data` must be a RetrievalData. Received type: {type(data).__name__}."
        )
    check_integer("batch_size", batch_size)
    backbone = backbones.get(backbone)
    try:
        shape = backbone.compute_output_shape((None, *data.x.shape[1:]))
    except ValueError as error:
        raise ValueError(
            f"`backbone` must take images of shape {data.x.shape[1:]}. Received a "
            f"network of input shape {getattr(backbone, 'input_shape', None)}."
        ) from error
    file = pathlib.Path(folder).expanduser() / f"{_digest(backbone, data.x)}.npy"
    run = tf.function(
        lambda x: tf.cast(backbone(x, training=False), tf.float32),
        reduce_retracing=True,
    )
    x = computed(
        file,
        (len(data.x), *shape[1:]),
        np.float32,
        lambda start: run(data.x[start : start + batch_size]).numpy(),
        batch_size,
        verbose=verbose,
    )
    return dataclasses.replace(data, x=x)


def mirrored_features(lower, x, cache_dir):
    """Features of all images and mirror images, float16 ``(n, 2, h, w, c)``."""
    # Named by all that they depend on.
    digest = hashlib.sha256(lower.to_json().encode())
    for array in (x, *lower.get_weights()):
        digest.update(np.ascontiguousarray(array))
    run = tf.function(lambda batch: lower(batch, training=False), reduce_retracing=True)

    def rows(start):
        batch = x[start : start + 128]
        return np.stack([run(batch), run(batch[:, :, ::-1])], axis=1)

    return computed(
        pathlib.Path(cache_dir) / f"{digest.hexdigest()[:16]}.npy",
        (len(x), 2, *lower.output.shape[1:]),
        np.float16,
        rows,
        step=128,
    )


def computed(file, shape, dtype, function, step, verbose="auto"):
    """An array on disk, computed some rows at a time if it is not there.

    Until all rows are written they are in ``file + ".part"``, in order: where it ends,
    a later call goes on.

    Args:
        file: path ending in .npy.
        shape: tuple of ints; n rows and their shape.
        dtype: NumPy dtype.
        function: from the number of the first row to up to `step` rows.
        step: int.
        verbose: as in `kerashash.data.inputs.progress`.

    Returns:
        Array of that shape and dtype, mapped to memory, read-only.

    Raises:
        OSError: if the file cannot be written, or another process writes it.
    """
    file = pathlib.Path(file)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".npy.part")
        _write(part, shape, np.dtype(dtype), function, step, verbose)
        os.replace(part, file)
    return np.load(file, mmap_mode="r")


def _write(part, shape, dtype, function, step, verbose):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": dtype.str, "fortran_order": False, "shape": shape}
    )
    header = header.getvalue()
    row = dtype.itemsize * int(np.prod(shape[1:]))
    # Not "a": it would write at the end, wherever another process has put that.
    part.touch()
    with part.open("r+b") as stream:
        size = os.fstat(stream.fileno()).st_size
        done = 0
        if stream.read(len(header)) == header:
            # Whole steps: rows computed in other company differ in the last digits.
            done = (size - len(header)) // row // step * step
        else:
            stream.seek(0)
            stream.write(header)
        end = len(header) + done * row
        stream.truncate(end)
        stream.seek(end)
        starts = range(done, shape[0], step)
        for start in inputs.progress(starts, len(starts), "Features", verbose):
            rows = np.ascontiguousarray(function(start), dtype)
            if os.fstat(stream.fileno()).st_size != stream.tell():
                raise OSError(f"Another process is writing {part}.")
            stream.write(rows)
            stream.flush()


def _digest(backbone, x):
    """Name of a file of features: all that they depend on."""
    digest = hashlib.sha256()
    for layer in leaves(backbone):
        config = layer.get_config()
        # Keras numbers the layers of a process: the names would tell nothing.
        config.pop("name", None)
        if "trainable" in config:
            config["trainable"] = True  # or not: in inference it is the same
        text = json.dumps([type(layer).__name__, config], default=str)
        digest.update(text.encode())
    images = [] if isinstance(x, EncodedImages) else [x]
    for array in (*backbone.get_weights(), *images):
        digest.update(np.ascontiguousarray(array))
    if not images:
        digest.update(f"{x.shape} {x.stamp}".encode())
    return digest.hexdigest()[:16]
