"""Export entries of the zoo to every format, and compare the codes row by row.

    python -m benchmarks exports                       # every entry, a row each
    python -m benchmarks exports dcdh-cifar10-48 ...   # some

Each entry is written by `kerashash.export_encoder` and by `model.export`, to
SavedModel, ONNX, LiteRT and OpenVINO. The file is run on the entry's golden inputs and
on 28 further inputs, drawn at random, and its codes are compared with those of
`encode`. The column `margin` is that of the bits that differ: how far from 0, at most,
their continuous code is, whose sign is the bit; `error` is the largest difference of
continuous codes, which `model.export` gives. Both tell rounding from a fault. An
interrupted run can be started again.
"""

import argparse
import itertools
import logging
import os
import pathlib
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import kerashash
from benchmarks.table import Table

CALLS = ("export_encoder", "export")
# The ending of the file, and what `model.export` calls the format.
FORMATS = {
    "saved_model": ("", "tf_saved_model", "tensorflow"),
    "onnx": (".onnx", "onnx", "onnxruntime"),
    "litert": (".tflite", "litert", "ai_edge_litert"),
    "openvino": (".xml", "openvino", "openvino"),
}
DRAWN = 28


def in_order(names):
    """First an entry of each method and data set, then those of other lengths."""
    families = {}
    for name in names:
        families.setdefault(name.rsplit("-", 1)[0], []).append(name)
    rounds = itertools.zip_longest(*families.values())
    return [name for some in rounds for name in some if name is not None]


def inputs(entry, model):
    """The golden inputs of an entry, and as many drawn at random as make 32 rows."""
    golden = np.load(entry.path / "golden.npz")["inputs"]
    rng = np.random.default_rng(0)
    shape = (DRAWN, *golden.shape[1:])
    if golden.dtype == np.uint8:
        # Blurred noise: pictures have more in common with it than with white noise.
        coarse = rng.integers(0, 256, (DRAWN, 8, 8, 3), dtype=np.uint8)
        resized = tf.image.resize(coarse, shape[1:3], "bicubic")
        drawn = np.asarray(tf.clip_by_value(resized, 0, 255)).astype(np.uint8)
    else:
        drawn = rng.normal(size=shape).astype(golden.dtype)
    return np.concatenate([golden, drawn])


def write(model, path, format, call):
    """Write a model by one of the two calls."""
    if call == "export_encoder":
        kerashash.export_encoder(model, path, format=format)
    else:
        model.export(path, format=FORMATS[format][1], verbose=False)


def run(path, format, x):
    """The output of a written file for a batch of inputs."""
    if format == "saved_model":
        loaded = tf.saved_model.load(path)
        serve = loaded.encode if hasattr(loaded, "encode") else loaded.serve
        return serve(x).numpy()
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return session.run(None, {session.get_inputs()[0].name: x})[0]
    if format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path))
        (source,) = interpreter.get_input_details()
        (target,) = interpreter.get_output_details()
        interpreter.resize_tensor_input(source["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return compiled(x)[0]


def version(format):
    """The name and version of what runs a format."""
    name = FORMATS[format][2]
    return f"{name} {__import__(name).__version__}"


def compare(model, x, format, call):
    """Export a model, run the file, and compare; returns columns of a row."""
    continuous = model.continuous_codes(x, verbose=0)
    expected = model.encode(x, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"network{FORMATS[format][0]}"
        started = time.process_time()
        write(model, path, format, call)
        seconds = time.process_time() - started
        if call == "export_encoder":
            codes, error = run(path, format, x), ""
        else:
            result = run(path, format, x.astype(np.float32))
            codes = np.packbits(result >= 0, axis=1)
            error = f"{np.abs(result - continuous).max():.1e}"
    bits = [np.unpackbits(c, axis=1, count=model.bits) for c in (codes, expected)]
    differ = bits[0] != bits[1]
    return {
        "rows": len(x),
        "equal": int((codes == expected).all(axis=1).sum()),
        "bits_that_differ": int(differ.sum()),
        "margin": f"{np.abs(continuous[differ]).max():.1e}" if differ.any() else "",
        "error": error,
        "cpu_seconds": round(seconds, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("entries", nargs="*", help="names; without, all of the zoo")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # converters say much
    warnings.simplefilter("ignore")
    table = Table("exports.csv", "entry", "format", "call")
    for name in options.entries or in_order(kerashash.zoo.list()):
        keys = [(name, format, call) for format in FORMATS for call in CALLS]
        if not options.entries and all(key in table for key in keys):
            continue
        entry = kerashash.zoo.entry(name)
        model = kerashash.zoo.load(name)
        x = inputs(entry, model)
        for key in keys:
            _, format, call = key
            row = dict(zip(("entry", "format", "call"), key, strict=True))
            row |= compare(model, x, format, call)
            table.add({**row, "runtime": version(format)})


if __name__ == "__main__":
    main()
