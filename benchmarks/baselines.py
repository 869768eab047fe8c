"""Time the shallow baselines.

    python -m benchmarks baselines [--rows 50000] [--columns 512] [--bits 48] [NAME ...]

Features are drawn around ten centres, one for each label. A time is that of a whole
`fit`, from arrays to weights, with the method's own number of iterations and other
defaults, after a short `fit` on few rows. faiss's iterative quantization, which is
compiled, is beside ITQ if faiss is installed. Times are written to
benchmarks/results/baselines.csv.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.table import Table
from kerashash import baselines
from kerashash.baselines.distributions import DistributionModel
from kerashash.baselines.shallow import ShallowHash

CLASSES = 10
NAMES = [
    name
    for name in baselines.__all__
    if issubclass(getattr(baselines, name), ShallowHash)
    and not issubclass(getattr(baselines, name), DistributionModel)
]
#: Seconds that a method may take with the default numbers of rows, columns and bits.
LIMITS = {"SDH": 60, "COSDISH": 60, "ITQ": 20}


def features(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around a centre for each label, and the labels."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, CLASSES, rows)
    x = rng.normal(size=(CLASSES, columns)).astype(np.float32)[ids]
    x += 2 * rng.standard_normal(x.shape, np.float32)
    return x, np.eye(CLASSES, dtype=np.float32)[ids]


def seconds_of_faiss(x: np.ndarray, bits: int) -> float | None:
    """How long faiss's iterative quantization takes; None without faiss."""
    try:
        import faiss
    except ImportError:
        return None
    start = time.perf_counter()
    faiss.ITQTransform(x.shape[1], bits, True).train(x)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks baselines")
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    for name, default in (("rows", 50000), ("columns", 512), ("bits", 48)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    x, labels = features(options.rows, options.columns)
    table = Table("baselines.csv", "method", "rows", "columns", "bits", "isa")
    for name in options.names:
        method = getattr(baselines, name)
        method("features", options.bits, CLASSES).fit(
            x[:200], labels[:200], epochs=1, verbose=0
        )
        model = method("features", options.bits, CLASSES)
        start = time.perf_counter()
        losses = model.fit(x, labels, verbose=0).history["loss"]
        seconds = time.perf_counter() - start
        beside = seconds_of_faiss(x, options.bits) if name == "ITQ" else None
        table.add(
            {
                "method": name,
                "rows": options.rows,
                "columns": options.columns,
                "bits": options.bits,
                "iterations": len(losses),
                "seconds": round(seconds, 2),
                "limit_s": LIMITS.get(name, ""),
                "faiss_s": "" if beside is None else round(beside, 2),
                "load": round(os.getloadavg()[0], 1),
            }
        )


if __name__ == "__main__":
    main()
