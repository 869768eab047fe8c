"""Encoders in files that other runtimes run: inputs in, packed codes out."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf

from kerashash import files
from kerashash.backbones.images import statistics_inlined
from kerashash.checks import check_choices, first_line
from kerashash.codes import packed_width
from kerashash.engines.network import silent
from kerashash.forks import check_not_forked
from kerashash.methods import HashModel
from kerashash.retrieval.serving import (
    check_parents,
    with_row,
    write_saved_model,
)

__all__ = ["export_encoder"]

# Ending of the file's name of each format; a SavedModel is a folder.
_SUFFIXES = {
    "saved_model": "",
    "onnx": ".onnx",
    "litert": ".tflite",
    "openvino": ".xml",
}


def export_encoder(
    model: HashModel, path: str | os.PathLike[str], format: str = "saved_model"
) -> None:
    """Write a trained model as an encoder for other runtimes.

    The encoder maps a batch of images or vectors to packed codes, those of
    ``model.encode``. It has one input, ``x``: uint8 images in [0, 255] or float32
    vectors, in batches of any size (a SavedModel takes 0 rows, too); and one output,
    ``codes``: uint8 ``(n, ceil(bits / 8))``. Images are of any size where the model
    takes any: the encoder resizes them as the model does. Unlike ``model.encode`` it
    does not check that vectors are finite.

    - "saved_model": a folder; after ``encoder = tf.saved_model.load(path)``,
      ``encoder.encode(x)`` gives the codes.
    - "onnx": a file for ONNX Runtime. Needs ``pip install "kerashash[onnx]"``.
    - "litert": a file for LiteRT, formerly TensorFlow Lite. The interpreter must be
      told the shape of each batch, by ``resize_tensor_input``. Running it needs
      ``pip install "kerashash[litert]"``, writing it does not.
    - "openvino": a ``.xml`` file, and the weights next to it in a ``.bin`` file. Needs
      ``pip install "kerashash[openvino]"``. Some processors compute in bfloat16 unless
      the model is compiled with ``{"INFERENCE_PRECISION_HINT": "f32"}``, and the codes
      differ.

    Bits whose continuous value is within rounding error of 0 may differ between
    runtimes.

    Args:
        model: `HashModel`; built, so that the shape of its inputs is known.
        path: path-like; the folder or file to write, which must not exist. Its name
            ends in ``.onnx``, ``.tflite`` or ``.xml`` for these three formats.
        format: str; "saved_model", "onnx", "litert" or "openvino".

    Raises:
        TypeError: if `model` is no `HashModel`.
        ValueError: if `model` is not built, `format` is none of these or cannot hold
            the network, `path` has another ending or lies in no folder; or if ONNX
            cannot have tensors of a layer of your own that are no weights.
        FileExistsError: if `path` exists.
        ImportError: if the packages that the format needs are not installed.

    Example:
        >>> import keras, kerashash
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> export_encoder(model, "encoder")
        >>> x = np.ones((1, 4), np.float32)
        >>> encoder = tf.saved_model.load("encoder")
        >>> bool((encoder.encode(x).numpy() == model.encode(x)).all())
        True
    """
    if not isinstance(model, HashModel):
        raise TypeError(f"`model` must be a HashModel. Received: {model!r}.")
    check_choices({"format": tuple(_SUFFIXES)}, format=format)
    shape = model._batch_shape()
    if shape is None or not model.built:
        raise ValueError(
            "`model` must be built, so that the shape of its inputs is known. "
            f"Received: {model.name}, which is not built."
        )
    target = files.as_path(path).absolute()
    suffix = _SUFFIXES[format]
    # A folder may have any name but one that is taken for a file of another format.
    if target.suffix != suffix and (suffix or target.suffix in _SUFFIXES.values()):
        rule = f"end in {suffix!r}" if suffix else "not have another format's ending"
        raise ValueError(
            f"`path` must {rule} for format={format!r}. Received: {os.fspath(path)!r}."
        )
    outputs = [target]
    if format == "openvino":
        outputs.append(target.with_suffix(".bin"))
    for output in outputs:
        if os.path.lexists(output):
            raise FileExistsError(f"`path` must not exist. Received: {str(output)!r}.")
    if suffix and not target.parent.is_dir():
        raise ValueError(
            f"`path` must lie in a folder that is there. Received: {os.fspath(path)!r}."
        )
    check_parents(target)
    check_not_forked()
    encoder = _Encoder(model, shape, takes_none=format == "saved_model")
    if format == "saved_model":
        write_saved_model(encoder, target, encoder.serve)
        return
    write = {"onnx": _write_onnx, "litert": _write_litert, "openvino": _write_openvino}
    with tempfile.TemporaryDirectory() as work, statistics_inlined(model):
        try:
            with files.naming_full(work):
                written = write[format](encoder, pathlib.Path(work))
        except (ImportError, ValueError, OSError):
            raise
        except Exception as error:  # converters have types of their own
            raise ValueError(
                "`format` must be one that can hold this network. Received: "
                f"{format!r}: {first_line(error)}."
            ) from error
        # The file that names the format comes last: it is only there with the other.
        with contextlib.ExitStack() as undo:
            for source, output in reversed([*zip(written, outputs, strict=True)]):
                with open(source, "rb") as content, files.replacing(output) as file:
                    shutil.copyfileobj(content, file)
                undo.callback(output.unlink)
            undo.pop_all()


class _Encoder(tf.Module):
    """A model and the packing of its codes, as one module to save."""

    def __init__(
        self, model: HashModel, shape: tuple[int | None, ...], takes_none: bool
    ) -> None:
        # Without rows, layers of TensorFlow fail. LiteRT could not add one.
        self._model, self._takes_none = model, takes_none
        self.weights = [variable.value for variable in model.variables]
        dtype = tf.uint8 if len(shape) == 4 else tf.float32
        self.spec = tf.TensorSpec((None, *shape[1:]), dtype, name="x")
        # `encode` is the public name of the SavedModel's function.
        self.encode = tf.function(self._encode, input_signature=[self.spec])
        self.serve = tf.function(
            lambda x: {"codes": self._encode(x)}, input_signature=[self.spec]
        )

    def _encode(self, x: tf.Tensor) -> tf.Tensor:
        """Packed codes, uint8 ``(n, ceil(bits / 8))``."""
        rows = with_row(x) if self._takes_none else x
        ones = tf.cast(self._model(rows, training=False) >= 0, tf.float32)
        ones = ones[: tf.shape(x)[0]] if self._takes_none else ones  # (n, bits)
        # Each byte is a product with powers of 2, which all formats have.
        bits = self._model.bits
        weights = np.zeros((bits, packed_width(bits)), np.float32)
        bit = np.arange(bits)
        weights[bit, bit // 8] = 2.0 ** (7 - bit % 8)
        return tf.cast(tf.matmul(ones, weights), tf.uint8, name="codes")


def _write_onnx(encoder: _Encoder, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the encoder as an ONNX file."""
    tf2onnx = _import("tf2onnx", "onnx")
    path = folder / "encoder.onnx"
    network, _ = tf2onnx.convert.from_function(
        encoder.serve, [encoder.spec], opset=18, output_path=str(path)
    )
    further = [source.name for source in network.graph.input if source.name != "x"]
    if further:
        raise ValueError(
            "`model` must hold its tensors as weights for format='onnx'. Received: "
            f"layers with tensors of their own, {further}."
        )
    return [path]


def _write_litert(encoder: _Encoder, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the encoder as a LiteRT file."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [encoder.serve.get_concrete_function()], encoder
    )
    path = folder / "encoder.tflite"
    with silent():
        path.write_bytes(converter.convert())
    return [path]


def _write_openvino(encoder: _Encoder, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the encoder as OpenVINO's pair of files."""
    openvino = _import("openvino", "openvino")
    with silent():
        network = openvino.convert_model(encoder.serve.get_concrete_function())
    network.inputs[0].tensor.set_names({"x"})
    network.outputs[0].tensor.set_names({"codes"})
    path = folder / "encoder.xml"
    try:
        # In float16, by default, the weights would give other codes.
        openvino.save_model(network, path, compress_to_fp16=False)
    except RuntimeError as error:  # of C++, where the disk is full
        raise OSError(f"{path} cannot be written: {first_line(error)}") from error
    return [path, path.with_suffix(".bin")]


def _import(module: str, extra: str) -> Any:
    """Import a package that only one format needs."""
    try:
        return __import__(module)
    except ImportError as error:
        raise ImportError(
            f"format={extra!r} needs the package {module}. Install it by: pip install "
            f'"kerashash[{extra}]".'
        ) from error
