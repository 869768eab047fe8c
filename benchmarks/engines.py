"""Images to codes by each engine of encoding, beside OpenVINO's own pace.

    python -m benchmarks engines speed FOLDER     # arrays in memory, and JPEG files
    python -m benchmarks engines int8             # mAP and bits of 8-bit integers
    python -m benchmarks engines mirrored         # mAP of features of mirror images too
    python -m benchmarks engines load             # seconds to load a zoo entry

OpenVINO's own pace is that of its network on inputs that are there already, in the
mode that it calls throughput, as its tool benchmark_app measures it: batches of eight,
as many as its streams ask for at a time, of which nobody reads the results.

FOLDER holds JPEG files. "int8" and "mirrored" take CIFAR-10 of TensorFlow Datasets, of
which all queries and the database are encoded. 512 training images calibrate "int8".
"mirrored" averages the features of each image and its mirror image
(`kerashash.backbones.mirrored`); the hash head stays as it is.
"""

import argparse
import itertools
import time

import numpy as np

import kerashash
from benchmarks.table import Table, versioned
from benchmarks.turns import take_turns
from kerashash.backbones.images import input_size
from kerashash.data import read_images
from kerashash.data.finding import image_paths
from kerashash.engines import INT8, openvino_network
from kerashash.engines.preparing import _converted

SPEEDS = Table("engines.csv", "network", "engine", "input")
CALIBRATION = 512


def anchor(network, x):
    """OpenVINO's own loop over images in memory, uint8 ``(n, ...)``."""
    import openvino

    steps = openvino.preprocess.PrePostProcessor(network.clone())
    steps.input().tensor().set_element_type(openvino.Type.u8)
    network = steps.build()
    network.reshape([8, *x.shape[1:]])
    compiled = openvino.Core().compile_model(network, "CPU", openvino_network._OPTIONS)
    queue = openvino.AsyncInferQueue(compiled, 0)
    for request in queue:
        request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(x[:8])))

    def run():
        for _ in range(0, len(x), 8):
            queue.start_async()
        queue.wait_all()

    return run


def speed(options):
    model = kerashash.zoo.load(options.model)
    paths = [*itertools.islice(image_paths(options.folder), options.images)]
    x = read_images(paths, input_size(model.backbone))
    encoders = {
        name: model.encoder(name) for name in ("tensorflow", "openvino", "litert")
    }
    encoders[INT8] = model.encoder(INT8, calibration=x[:CALIBRATION])
    content = _converted(model, "openvino", model._batch_shape())
    calls = {"anchor": anchor(openvino_network.from_bytes(content), x)}
    for name, encoder in encoders.items():
        calls[name] = lambda encoder=encoder: encoder.encode(x, verbose=0)
        calls[f"{name}, files"] = lambda encoder=encoder: encoder.encode(
            paths, verbose=0
        )
    expected = encoders["tensorflow"].encode(x, verbose=0)
    times = take_turns(calls, options.turns, pause=1.0)
    for name, encoder in encoders.items():
        equal = (encoder.encode(x, verbose=0) == expected).all(axis=1).mean()
        for source, call in (("arrays", name), ("JPEG files", f"{name}, files")):
            SPEEDS.add(
                {
                    "network": versioned(options.model),
                    "engine": name,
                    "input": source,
                    "images": len(x),
                    "side": x.shape[1],
                    "images a second": round(len(x) / times.median(call)),
                    "of OpenVINO's pace": f"{times.ratio('anchor', call):.3g}",
                    "of arrays": f"{times.ratio(name, call):.3g}",
                    "times TensorFlow": f"{times.ratio('tensorflow', call):.3g}",
                    "equal codes": f"{equal:.6g}",
                }
            )


def int8(options):
    """8-bit integers: what they cost in mAP, by data of the zoo's entry."""
    model, data = kerashash.zoo.load(options.model), _data(options)
    x = data.arrays("train")[0]
    chosen = np.random.default_rng(0).choice(len(x), CALIBRATION, False)
    encoder = model.encoder(INT8, calibration=x[np.sort(chosen)])
    Table("int8.csv", "network").add(
        {
            "network": versioned(options.model),
            "calibration": f"{CALIBRATION} training images",
            **_beside_stored_codes(options, encoder, data),
        }
    )


def mirrored(options):
    """Features averaged over mirror images: what they give in mAP, for their time."""
    model, data = kerashash.zoo.load(options.model), _data(options)
    encoder = model.encoder("openvino")
    averaging = model.with_backbone(kerashash.backbones.mirrored(model.backbone))
    averaged = averaging.encoder("openvino")
    x = data.arrays("query")[0][: options.images]
    calls = {
        name: lambda encoder=encoder: encoder.encode(x, verbose=0)
        for name, encoder in (("plain", encoder), ("mirrored", averaged))
    }
    times = take_turns(calls, options.turns, pause=1.0)
    Table("mirrored.csv", "network").add(
        {
            "network": versioned(options.model),
            **_beside_stored_codes(options, averaged, data),
            "times the pace": f"{times.ratio('plain', 'mirrored'):.3g}",
        }
    )


def _data(options):
    """The data set of the entry."""
    return kerashash.data.load(**kerashash.zoo.entry(options.model).card["data"])


def _beside_stored_codes(options, encoder, data):
    """Encode the queries and the database, and compare with the entry's codes."""
    stored = np.load(kerashash.zoo.entry(options.model).path / "codes.npz")
    codes = {
        split: encoder.encode(data.arrays(split)[0]) for split in ("query", "database")
    }
    labels = [stored["query_labels"], stored["database_labels"]]

    def value(query, database):
        measured = kerashash.evaluation.evaluate_codes(
            query, labels[0], database, labels[1], encoder.bits
        )
        return f"{measured['mAP@ALL']:.6f}"

    differ = np.unpackbits(codes["query"] ^ stored["query_codes"], axis=1)
    return {
        "mAP@ALL": value(codes["query"], codes["database"]),
        "mAP@ALL of the entry": value(stored["query_codes"], stored["database_codes"]),
        "equal bits": f"{1 - differ[:, : encoder.bits].mean():.6f}",
        "queries": len(differ),
    }


def load(options):
    import tensorflow as tf

    assert tf.__version__
    seconds = []
    for _ in range(options.turns):
        start = time.perf_counter()
        kerashash.zoo.load(options.model)
        seconds.append(time.perf_counter() - start)
    Table("loading.csv", "network").add(
        {
            "network": versioned(options.model),
            "first_s": f"{seconds[0]:.2f}",
            "next_s": f"{np.median(seconds[1:]):.2f}",
        }
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "int8", "mirrored", "load"))
    parser.add_argument("folder", nargs="?", help="of JPEG files, for speed")
    parser.add_argument("--model", default="adalabel-cifar10-48")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    if options.what == "speed" and not options.folder:
        parser.error("speed needs a FOLDER of JPEG files")
    runs = {"speed": speed, "int8": int8, "mirrored": mirrored, "load": load}
    runs[options.what](options)


if __name__ == "__main__":
    main()
