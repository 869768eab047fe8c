"""Photographs to codes by path: speed beside arrays, kills, memory, large files.

    python -m benchmarks encoding speed FOLDER     # by path, and the same from memory
    python -m benchmarks encoding kills FOLDER     # killed twice, beside undisturbed
    python -m benchmarks encoding memory FOLDER    # a generator of 1,000,000 paths
    python -m benchmarks encoding large FOLDER     # files of 12 million pixels

FOLDER holds JPEG files; --images says how many of them are taken. The network is that
of a zoo entry, --model. Speed is that of blocks in turn, from memory and by path, so
that both meet the same machine; `processor` is in milliseconds of all cores an image,
which other programs disturb less than the clock.
"""

import argparse
import io
import itertools
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import kerashash
from benchmarks.table import Table, versioned
from kerashash.backbones.images import input_size
from kerashash.data import image_reading, read_images, resizing
from kerashash.data.finding import image_paths

TABLE = Table("encoding.csv", "what", "network", "images")
BLOCK = 512


def files_in(options):
    paths = [*itertools.islice(image_paths(options.folder), options.images)]
    if len(paths) < options.images:
        raise SystemExit(f"FOLDER must hold {options.images} images: {len(paths)}.")
    return paths


def add(what, options, images, network=None, **values):
    network = network or versioned(options.model)
    row = {"what": what, "network": network, "images": images}
    shown = {name: f"{value:.6g}" for name, value in values.items()}
    columns = ("value", "from memory", "ratio", "processor", "processor ratio")
    TABLE.add(row | {name: shown.get(name, "") for name in columns})


def measured(call):
    """Seconds by the clock, and of the processor, of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return np.array([time.perf_counter() - wall, time.process_time() - processor])


def speed(options):
    model = kerashash.zoo.load(options.model)
    side = input_size(model.backbone)
    paths = files_in(options)
    model.encode(paths[:BLOCK], verbose=0)
    from_memory, by_path = np.zeros(2), np.zeros(2)
    for start in range(0, len(paths), BLOCK):
        block = paths[start : start + BLOCK]
        x = read_images(block, side)
        from_memory += measured(lambda x=x: model.encode(x, verbose=0))
        by_path += measured(lambda block=block: model.encode(block, verbose=0))
    rates = len(paths) / from_memory[0], len(paths) / by_path[0]
    add(
        "encode by path, images a second",
        options,
        len(paths),
        value=rates[1],
        ratio=rates[1] / rates[0],
        processor=1000 * by_path[1] / len(paths),
        **{"from memory": rates[0], "processor ratio": from_memory[1] / by_path[1]},
    )


def kills(options):
    paths = files_in(options)
    with tempfile.TemporaryDirectory() as folder:
        names = pathlib.Path(folder, "names")
        names.write_text("\n".join(paths))
        whole, killed = pathlib.Path(folder, "a.khs"), pathlib.Path(folder, "b.khs")

        def begun(store):
            command = [
                "-m",
                "benchmarks.encoding",
                "--model",
                options.model,
                "fill",
                str(names),
            ]
            return subprocess.Popen([sys.executable, *command, "--store", str(store)])

        if begun(whole).wait():
            raise SystemExit("The undisturbed run has failed.")
        survived = []
        for share in (1 / 4, 1 / 2):
            process = begun(killed)
            while rows_of(killed) < share * len(paths):
                if process.poll() is not None:
                    raise SystemExit("A run has ended before it was killed.")
                time.sleep(0.2)
            time.sleep(1)  # into the work after a commit
            process.send_signal(signal.SIGKILL)
            process.wait()
            survived.append(rows_of(killed))
        if begun(killed).wait():
            raise SystemExit("The run after the kills has failed.")
        stores = [kerashash.CodeStore.open(path) for path in (whole, killed)]
        one, other = (store.columns() | {"code": store.codes()} for store in stores)
        equal = one.keys() == other.keys() and all(
            np.array_equal(one[name], other[name]) for name in one
        )
        print(f"rows after the kills: {survived}")
        what = "rows in order as of an undisturbed run, killed twice"
        add(what, options, len(paths), value=len(stores[1]), ratio=float(equal))


def rows_of(store):
    try:
        return len(kerashash.CodeStore.open(store))
    except FileNotFoundError:
        return 0


def fill(options):
    try:
        store = kerashash.CodeStore.open(options.store)
    except FileNotFoundError:
        store = kerashash.CodeStore.create(options.store, options.model)
    paths = pathlib.Path(options.folder).read_text().split("\n")
    kerashash.store.encode_files(paths, store, verbose=0)


def memory(options):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((32, 32, 3)), keras.layers.Flatten()]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), 64, num_classes=2)
    paths = files_in(options)

    def peak(count):
        model.encode(itertools.islice(itertools.cycle(paths), count), verbose=0)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    few, many = peak(10_000), peak(1_000_000)
    add(
        "MiB of memory for 990,000 paths more, by a generator",
        options,
        1_000_000,
        network="flat 32 x 32",
        value=many - few,
    )


def large(options):
    """Photographs made large, with the grain of a camera, as JPEG files."""
    model = kerashash.zoo.load(options.model)
    side = input_size(model.backbone)
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 4, (3000, 4000, 1))
    files = []
    for path in files_in(options):
        picture = Image.open(path).convert("RGB").resize((4000, 3000), Image.BICUBIC)
        picture = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=92)
        files.append(buffer.getvalue())
    print(f"{np.mean([len(file) for file in files]) / 1e6:.1f} MB a file")
    resizing.resize(image_reading.decode(files[0]), side)
    exact = None
    for ratio in (1, 2, 4, 8):
        images = []

        def read(ratio=ratio, images=images):
            for file in files:
                image = tf.io.decode_jpeg(file, channels=3, ratio=ratio)
                image = np.asarray(memoryview(image))
                images.append(resizing.resize(image, side))

        processor = 1000 * measured(read)[1] / len(files)
        codes = model.encode(np.stack(images), packed=False, verbose=0)
        exact = codes if exact is None else exact
        add(
            f"12 million pixels, decoded to 1/{ratio}: share of bits that change",
            options,
            len(files),
            value=(codes != exact).mean(),
            processor=processor,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=["speed", "kills", "memory", "large", "fill"])
    parser.add_argument("folder", type=os.path.abspath)
    parser.add_argument("--images", type=int)
    parser.add_argument("--model", default="adalabel-cifar10-48")
    parser.add_argument("--store", help=argparse.SUPPRESS)
    options = parser.parse_args()
    usual = {"speed": 5000, "kills": 20_000, "memory": 100, "large": 20}
    options.images = options.images or usual.get(options.what)
    globals()[options.what](options)


if __name__ == "__main__":
    main()
