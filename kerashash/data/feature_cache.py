"""Features of a frozen backbone, computed once and cached on disk."""

import dataclasses
import hashlib
import io
import math
import os
import pathlib
import secrets
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import backbones, files
from kerashash.backbones.by_name import output_shape
from kerashash.backbones.images import has_own_code, input_size
from kerashash.checks import check_integer
from kerashash.data.images import EncodedImages
from kerashash.data.network_description import NetworkDescription
from kerashash.data.progress import progress
from kerashash.data.resizing import FITS
from kerashash.data.retrieval_data import RetrievalData
from kerashash.forks import check_not_forked

# What follows the array in a file: magic bytes, its writer's number, rows of a block.
_TRAILER = struct.Struct("<8sQQ")
_MAGIC = b"kh-sums1"


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
    protocol and seed, read that file. A call that was interrupted is resumed, and what
    is damaged in a file is computed again.

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
        backbone. Its `image_fit` is that of the images, "squash" where that is open.

    Raises:
        TypeError: if `data` is not a `RetrievalData`, `folder` no path or `batch_size`
            not an integer.
        ValueError: if `batch_size` is less than 1, `folder` is no folder in which one
            can write, or no regular file is where the features are to be, the backbone
            is unknown or takes images of another shape, or files of images have changed
            since they were found.
        OSError: if the file cannot be read or written. Finished batches are kept.

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
    folder = files.as_path(folder, "folder")
    network = backbones.get(backbone)
    images, fit = data.x, data.image_fit
    if isinstance(images, EncodedImages):
        fit = images.fit or FITS[0]
        images = images.as_taken(input_size(network), fit)
        images.check_unchanged()
    shape = _output_shape(network, images.shape, images.dtype)
    file = folder / f"{_digest(network, images)}.npy"
    run = _traced(lambda x: tf.cast(network(x, training=False), tf.float32))

    def features() -> npt.NDArray[Any]:
        return computed(
            file,
            (len(images), *shape[1:]),
            np.float32,
            lambda start: run(images[start : start + batch_size]).numpy(),
            batch_size,
            verbose=verbose,
            argument="folder",
        )

    x = features()
    if has_own_code(network) and len(x):
        # The code of a layer may have changed since, which no digest knows.
        few = run(images[:4]).numpy()
        if not np.allclose(x[:4], few, rtol=1e-2, atol=1e-2 * np.abs(few).max()):
            file.unlink()
            x = features()
    if isinstance(images, EncodedImages):
        try:
            images.check_unchanged()
        except ValueError:  # the features may be of other images than those found
            del x
            file.unlink(missing_ok=True)
            raise
    return dataclasses.replace(data, x=x, image_fit=fit)


def _traced(function: Callable[[Any], tf.Tensor]) -> Callable[[Any], tf.Tensor]:
    """A function of a batch as a graph."""
    graph = tf.function(function, reduce_retracing=True)

    def run(batch: Any) -> tf.Tensor:
        check_not_forked()  # features that are in the file can be read in a fork
        return graph(batch)

    return run


def _output_shape(
    network: keras.Model, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[int, ...]:
    """The shape of the features of images; refuses a network of other images.

    It builds a network that is not built: without its weights, no digest knows it.
    """
    expected = getattr(network, "input_shape", None)
    # Layers need not expect another number of axes, and fail in ways of their own.
    fits = not isinstance(expected, tuple) or len(expected) == len(shape)
    try:
        if fits:
            if not network.built:
                network(keras.KerasTensor((None, *shape[1:]), dtype.name))
            output: tuple[int, ...] = output_shape(network, (None, *shape[1:]))
            return output
        error = None
    except ValueError as refusal:
        error = refusal
    raise ValueError(
        f"`backbone` must take images of shape {shape[1:]}. Received a network of "
        f"input shape {expected}."
    ) from error


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
    file = files.as_path(cache_dir, "cache_dir") / f"{_digest(lower, x)}-mirrored.npy"
    run = _traced(lambda batch: lower(batch, training=False))

    def rows(start: int) -> npt.NDArray[Any]:
        batch = x[start : start + 128]
        return np.stack([run(batch), run(batch[:, :, ::-1])], axis=1)

    return computed(
        file,
        (len(x), 2, *lower.output.shape[1:]),
        np.float16,
        rows,
        step=128,
        argument="cache_dir",
    )


def computed(
    file: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    function: Callable[[int], npt.NDArray[Any]],
    step: int,
    verbose: str | int = "auto",
    argument: str = "file",
) -> npt.NDArray[Any]:
    """Open an array on disk; if the file does not exist, compute it in steps first.

    The computation is atomic and resumable: the rows are written to ``file + ".part"``,
    which is renamed when it is complete and resumed after an interruption. Checksums
    follow the array in the file, one for each step. Steps of a file that do not match
    theirs are computed again. Nothing is written through a symbolic link: it is
    replaced by a file.

    Args:
        file: path that ends in ``.npy``.
        shape: tuple of int; the number of rows and the shape of a row.
        dtype: NumPy dtype.
        function: function of the number of the first row; it returns `step` rows, or
            fewer at the end.
        step: int; the number of rows computed at a time.
        verbose: as for `kerashash.data.progress.progress`.
        argument: str; the argument to name if the file's folder cannot be written.

    Returns:
        Array of that shape and dtype, memory-mapped and read-only.

    Raises:
        ValueError: if what has the name of the file is no regular file, as a pipe, or
            its folder is none, or none in which one can write.
        OSError: if the file cannot be read or written, or another process is writing
            it.
    """
    file = pathlib.Path(file)
    part = file.with_suffix(".npy.part")
    layout = _Layout(shape, np.dtype(dtype))
    if file.exists():
        with files.regular(file) as stream:
            complete = layout.valid_rows(stream).all()
        if not complete and file.is_symlink():
            file.unlink()
        elif not complete:
            os.replace(file, part)
    if not file.exists():
        files.make_folder(file.parent, argument)
        _write(part, layout, function, step, verbose)
        os.replace(part, file)
    return np.load(file, mmap_mode="r")


class _Layout:
    """Where the rows of an array and the checksums of its blocks lie in a file.

    The file is that of `np.save`, followed by `_MAGIC`, a number that its writer has
    drawn, the rows of a block, and 8 bytes of the sha256 of each block. All these
    places are known before the first row is written.

    Args:
        shape: tuple of int; the shape of the array.
        dtype: NumPy dtype.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": dtype.str, "fortran_order": False, "shape": shape}
        )
        self.header = buffer.getvalue()
        self.rows, self.dtype = shape[0], dtype
        self.row_size = dtype.itemsize * math.prod(shape[1:])  # bytes
        self.end_of_rows = len(self.header) + self.rows * self.row_size

    def size(self, step: int) -> int:
        """The size of the file in bytes, with blocks of `step` rows."""
        return self.end_of_rows + _TRAILER.size + 8 * -(-self.rows // step)

    def place(self, row: int) -> int:
        """The position of a row in the file."""
        return len(self.header) + row * self.row_size

    def checksum(self, stream: BinaryIO, start: int, step: int) -> bytes:
        """The checksum of the block that begins with row `start`, as it is on disk."""
        stream.seek(self.place(start))
        size = (min(start + step, self.rows) - start) * self.row_size
        return hashlib.sha256(stream.read(size)).digest()[:8]

    def writer(self, stream: BinaryIO) -> tuple[bytes, int, int]:
        """The magic bytes, the writer's number and the rows of a block, all 0 where the
        file is too short."""
        stream.seek(self.end_of_rows)
        trailer = stream.read(_TRAILER.size)
        return _TRAILER.unpack(trailer.ljust(_TRAILER.size, b"\0"))

    def valid_rows(self, stream: BinaryIO) -> npt.NDArray[np.bool_]:
        """Which rows lie in blocks that match their checksums."""
        valid = np.zeros(self.rows, bool)
        stream.seek(0)
        if stream.read(len(self.header)) != self.header:
            return valid
        magic, _, step = self.writer(stream)
        if magic != _MAGIC or step < 1:
            return valid
        starts = range(0, self.rows, step)
        checksums = stream.read(8 * len(starts)).ljust(8 * len(starts), b"\0")
        for block, start in enumerate(starts):
            expected = checksums[8 * block : 8 * block + 8]
            valid[start : start + step] = self.checksum(stream, start, step) == expected
        return valid


def _write(
    part: pathlib.Path,
    layout: _Layout,
    function: Callable[[int], npt.NDArray[Any]],
    step: int,
    verbose: str | int,
) -> None:
    """Write the rows that are still missing from a partial file."""
    number = secrets.randbits(64)
    # Not mode "a", which writes at the end of the file even if another process has
    # moved it.
    with files.open_in_place(part) as raw:
        stream = cast(BinaryIO, raw)
        valid = layout.valid_rows(stream)
        starts = range(0, layout.rows, step)
        # Whole blocks only: in another batch, the same row may differ in its last
        # digits.
        missing = [s for s in starts if not valid[s : s + step].all()]
        present = {*starts} - {*missing}
        checksums = [
            layout.checksum(stream, s, step) if s in present else bytes(8)
            for s in starts
        ]
        trailer = _TRAILER.pack(_MAGIC, number, step)
        with files.naming_full(part):
            stream.truncate(layout.size(step))
            _write_at(stream, 0, layout.header)
            _write_at(stream, layout.end_of_rows, trailer + b"".join(checksums))
        table = layout.end_of_rows + len(trailer)
        for start in progress(
            missing,
            sum(min(step, layout.rows - s) for s in missing),
            "Features",
            verbose,
            count=lambda start: min(step, layout.rows - start),
        ):
            rows = np.asarray(function(start), layout.dtype)
            size = os.fstat(stream.fileno()).st_size
            if layout.writer(stream)[1] != number or size != layout.size(step):
                raise OSError(f"Another process is writing {part}.")
            data = _bytes_of(rows)
            checksum = hashlib.sha256(data).digest()[:8]
            with files.naming_full(part):
                # The checksum last: a block is there once it matches.
                _write_at(stream, layout.place(start), data)
                _write_at(stream, table + 8 * (start // step), checksum)


def _write_at(stream: BinaryIO, position: int, data: bytes | memoryview) -> None:
    """Write all of the data at a position of an unbuffered file."""
    stream.seek(position)
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _digest(backbone: keras.layers.Layer, x: npt.NDArray[Any] | EncodedImages) -> str:
    """Digest everything that the features depend on: the network and the images."""
    digest = hashlib.sha256()
    description = NetworkDescription()
    for text in description.of(backbone):
        digest.update(text.encode())
    for weight in backbone.weights:
        digest.update(f"{description.place(weight)} ".encode())
        _update(digest, np.asarray(weight))
    if isinstance(x, EncodedImages):
        fit = "" if x.fit in (None, FITS[0]) else f" {x.fit}"
        digest.update(f"{x.shape} {x.stamp}{fit}".encode())
    else:
        _update(digest, x)
    return digest.hexdigest()[:16]


def _update(digest: Any, array: npt.NDArray[Any]) -> None:
    """Digest an array: the same bytes mean another in another dtype or shape."""
    digest.update(f"{array.dtype} {array.shape} ".encode())
    digest.update(_bytes_of(array))


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """View an array as bytes, without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
