"""What images and codes cost, for the arithmetic of docs/scale.md.

    python -m benchmarks scale FOLDER       # of photographs, the first 1,000 of which

Times are of the processor: on a busy machine they say more than a clock. Stores hold
random codes of 64 bits, with keys such as "photos/0000000123.jpg".
"""

import argparse
import contextlib
import importlib.util
import pathlib
import resource
import tempfile
import time

import numpy as np

import kerashash
from benchmarks.table import Table, versioned
from kerashash.backbones.images import input_size
from kerashash.data import read_images

ENTRY, BITS = "adalabel-cifar10-48", 64
RESULTS = Table("scale.csv", "what", "of")


@contextlib.contextmanager
def measured(what, of, count, unit="processor s a million"):
    start = time.process_time()
    yield
    seconds = time.process_time() - start
    value = seconds / count * 1e6
    RESULTS.add({"what": what, "of": of, "value": f"{value:.4g}", "unit": unit})


def images(folder, count=1000):
    paths = sorted(map(str, folder.glob("*.jpg")))[:count]
    model = kerashash.zoo.load(ENTRY)
    side, entry = input_size(model.backbone), versioned(ENTRY)
    model.encode(read_images(paths[:64], side), verbose=0)
    with measured("read and resize", f"JPEG, to {side} px", len(paths)):
        pixels = read_images(paths, side)
    with measured("encode", f"{entry}, arrays", len(paths)):
        model.encode(pixels, verbose=0)
    with measured("encode", f"{entry}, paths", len(paths)):
        model.encode(paths, verbose=0)
    size = sum(pathlib.Path(path).stat().st_size for path in paths) / len(paths) / 1e3
    row = {"what": "size", "of": "JPEG", "value": f"{size:.4g}", "unit": "GB a million"}
    RESULTS.add(row)


def stores(root, count=1_000_000):
    codes = np.random.default_rng(0).integers(0, 256, (count, BITS // 8), np.uint8)
    ids = [f"photos/{number:010}.jpg" for number in range(count)]
    for engine in [
        "folder",
        *(["lance"] if importlib.util.find_spec("lancedb") else []),
    ]:
        store = kerashash.CodeStore.create(root / engine, bits=BITS, engine=engine)
        with measured("add to a store", engine, count):
            store.add(codes, ids=ids)
        files = [path for path in (root / engine).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        row = {"what": "disk", "of": engine, "value": f"{size:.4g}"}
        RESULTS.add({**row, "unit": "MB a million"})
    with measured("load for exact search", "ranker", count):
        ranker = kerashash.HammingRanker(codes, BITS)
    for queries in (1, 64):
        ranker.top_k(codes[:queries], 100)
        start = time.process_time()
        for _ in range(20):
            ranker.top_k(codes[:queries], 100)
        value = (time.process_time() - start) / 20 / queries * 1e3
        row = {"what": "top 100 of a million", "of": f"batch of {queries}"}
        RESULTS.add({**row, "value": f"{value:.3g}", "unit": "processor ms a query"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    images(parser.parse_args().folder)
    with tempfile.TemporaryDirectory() as root:
        stores(pathlib.Path(root))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    row = {"what": "peak memory", "of": "this benchmark", "value": f"{peak:.0f}"}
    RESULTS.add({**row, "unit": "MB"})
