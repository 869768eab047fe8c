"""Features of a frozen backbone, computed once and cached on disk."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import backbones
from kerashash.backbones.images import input_size, leaves
from kerashash.checks import check_integer
from kerashash.data import inputs
from kerashash.data.images import EncodedImages
from kerashash.data.retrieval_data import RetrievalData


def cache_features(
    data: RetrievalData,
    backbone: str | keras.Model,
    folder: str | os.PathLike[str],
    batch_size: int = 128,
    verbose: str | int = "auto",
) -> RetrievalData:
    """Replace the images of a data set by the features of a frozen backbone.

    Methods then train on vectors, in seconds. All images of the data set, whatever
    their split, pass through the backbone once. Their features are cached in a file in
    `folder`, named by a digest of the images and the backbone. Later calls, with any
    protocol and seed, read that file. A call that was interrupted is resumed.

    Args:
        data: `RetrievalData`.
        backbone: str or `keras.Model`; images -> features, or a name for
            `kerashash.backbones.get`. It runs in inference mode.
        folder: path; created if it does not exist. ``~`` is the home folder.
        batch_size: int, at least 1; the images that pass through the backbone at a
            time.
        verbose: "auto", 0 or 1; "auto" shows a progress bar on long work, 1 always, 0
            never.

    Returns:
        `RetrievalData` whose `x` is a float32 array ``(n, ...)``, mapped from the file.
        `HashModel.with_backbone` puts a model that was trained on it behind the
        backbone.

    Raises:
        TypeError: if `data` is not a `RetrievalData` or `batch_size` not an integer.
        ValueError: if `batch_size` is less than 1, or the backbone is unknown or takes
            images of another shape.
        OSError: if the file cannot be written. Finished batches are kept.

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
    network = backbones.get(backbone)
    images = data.x
    if isinstance(images, EncodedImages):
        images = images.at_size(input_size(network))
    try:
        shape = network.compute_output_shape((None, *images.shape[1:]))
    except ValueError as error:
        raise ValueError(
            f"`backbone` must take images of shape {images.shape[1:]}. Received a "
            f"network of input shape {getattr(network, 'input_shape', None)}."
        ) from error
    file = pathlib.Path(folder).expanduser() / f"{_digest(network, images)}.npy"
    run = tf.function(
        lambda x: tf.cast(network(x, training=False), tf.float32),
        reduce_retracing=True,
    )
    x = computed(
        file,
        (len(images), *shape[1:]),
        np.float32,
        lambda start: run(images[start : start + batch_size]).numpy(),
        batch_size,
        verbose=verbose,
    )
    return dataclasses.replace(data, x=x)


def mirrored_features(
    lower: keras.Model, x: npt.NDArray[Any], cache_dir: str | os.PathLike[str]
) -> npt.NDArray[np.float16]:
    """Compute the feature maps of all images and of their mirror images, or read them.

    Args:
        lower: `keras.Model`, images -> feature maps ``(batch, h, w, c)``: the frozen
            part of a backbone, as `kerashash.backbones.split` gives it.
        x: array ``(n, height, width, channels)``, the images.
        cache_dir: path of the folder that caches the feature maps.

    Returns:
        float16 array ``(n, 2, h, w, c)``, mapped from the file: of each image, then of
        its mirror image.
    """
    # The name of the file: a digest of everything that the feature maps depend on.
    digest = hashlib.sha256(lower.to_json().encode())
    for array in (x, *lower.get_weights()):
        digest.update(_bytes_of(array))
    run = tf.function(lambda batch: lower(batch, training=False), reduce_retracing=True)

    def rows(start: int) -> npt.NDArray[Any]:
        batch = x[start : start + 128]
        return np.stack([run(batch), run(batch[:, :, ::-1])], axis=1)

    return computed(
        pathlib.Path(cache_dir) / f"{digest.hexdigest()[:16]}.npy",
        (len(x), 2, *lower.output.shape[1:]),
        np.float16,
        rows,
        step=128,
    )


def computed(
    file: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    function: Callable[[int], npt.NDArray[Any]],
    step: int,
    verbose: str | int = "auto",
) -> npt.NDArray[Any]:
    """Open an array on disk; if the file does not exist, compute it in steps first.

    The computation is atomic and resumable: rows are appended in order to
    ``file + ".part"``, which is renamed when it is complete and resumed where it ends
    after an interruption.

    Args:
        file: path that ends in ``.npy``.
        shape: tuple of int; the number of rows and the shape of a row.
        dtype: NumPy dtype.
        function: function of the number of the first row; it returns `step` rows, or
            fewer at the end.
        step: int; the number of rows computed at a time.
        verbose: as for `kerashash.data.inputs.progress`.

    Returns:
        Array of that shape and dtype, memory-mapped and read-only.

    Raises:
        OSError: if the file cannot be written, or another process is writing it.
    """
    file = pathlib.Path(file)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".npy.part")
        _write(part, shape, np.dtype(dtype), function, step, verbose)
        os.replace(part, file)
    return np.load(file, mmap_mode="r")


def _write(
    part: pathlib.Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    function: Callable[[int], npt.NDArray[Any]],
    step: int,
    verbose: str | int,
) -> None:
    """Write the rows that are still missing from a partial file."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": dtype.str, "fortran_order": False, "shape": shape}
    )
    header = buffer.getvalue()
    row_size = dtype.itemsize * int(np.prod(shape[1:]))  # bytes
    # Not mode "a", which writes at the end of the file even if another process has
    # moved it.
    part.touch()
    with part.open("r+b") as stream:
        size = os.fstat(stream.fileno()).st_size
        done = 0
        if stream.read(len(header)) == header:
            # Whole steps only: in another batch, the same row may differ in its last
            # digits.
            done = (size - len(header)) // row_size // step * step
        else:
            stream.seek(0)
            stream.write(header)
        end = len(header) + done * row_size
        stream.truncate(end)
        stream.seek(end)
        starts = range(done, shape[0], step)
        for start in inputs.progress(starts, len(starts), "Features", verbose):
            rows = np.asarray(function(start), dtype)
            if os.fstat(stream.fileno()).st_size != stream.tell():
                raise OSError(f"Another process is writing {part}.")
            stream.write(_bytes_of(rows))
            stream.flush()


def _digest(backbone: keras.layers.Layer, x: npt.NDArray[Any] | EncodedImages) -> str:
    """Digest everything that the features depend on: layers, weights and images."""
    digest = hashlib.sha256()
    for layer in leaves(backbone):
        config = layer.get_config()
        # Keras numbers the layers of a process: equal networks have unequal names.
        config.pop("name", None)
        # `trainable` makes no difference in inference mode.
        if "trainable" in config:
            config["trainable"] = True
        text = json.dumps([type(layer).__name__, config], default=str)
        digest.update(text.encode())
    for array in backbone.get_weights():
        digest.update(_bytes_of(array))
    if isinstance(x, EncodedImages):
        digest.update(f"{x.shape} {x.stamp}".encode())
    else:
        digest.update(_bytes_of(x))
    return digest.hexdigest()[:16]


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """View an array as bytes, without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
