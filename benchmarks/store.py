"""Time and memory of CodeStore beside the ranker that searches in memory.

    python -m benchmarks store [speed N]  # 1,000,000 codes, or N; both engines
    python -m benchmarks store memory     # 10,000,000 codes, peak memory of a search
    python -m benchmarks store commits    # 10 rows more, in stores of several sizes
    python -m benchmarks store ivf        # the approximate index, in ivf.csv

Codes are random, of 64 bits; keys are paths, with one column of labels. `ratio` is the
time beside that of the ranker in the same run. The approximate index is measured on
random codes and on the crossed ones of benchmarks/index.py, with one query at a time.
"""

import argparse
import functools
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import kerashash
from benchmarks.index import draw
from benchmarks.table import Table
from benchmarks.turns import timed

BITS, K, QUERIES = 64, 100, 64
RESULTS = Table("store.csv", "engine", "what", "codes")
ENGINES = ["folder", *(["lance"] if importlib.util.find_spec("lancedb") else [])]


def random_codes(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, BITS // 8), np.uint8)


def seconds(call, repeats=5):
    """Median time of a call, after one that warms up."""
    call()
    return float(np.median([timed(call)[1] for _ in range(repeats)]))


def add(engine, what, n, value, ratio=None):
    row = {"engine": engine, "what": what, "codes": n, "value": f"{value:.3g}"}
    RESULTS.add({**row, "ratio": "" if ratio is None else f"{ratio:.2f}"})


def speed(folder, n):
    codes, queries = random_codes(n, 0), random_codes(QUERIES, 1)
    ranker = kerashash.HammingRanker(codes, BITS)

    def from_file():
        kerashash.HammingRanker(np.load(folder / "codes.npy"), BITS).top_k(queries, K)

    np.save(folder / "codes.npy", codes)
    cold = seconds(from_file)
    warm = seconds(lambda: ranker.top_k(queries, K))
    add("ranker", "load .npy, top 100 of 64 queries, s", n, cold, 1)
    add("ranker", "top 100 of 64 queries, s", n, warm, 1)
    ids = [f"photographs/{number:08d}.jpg" for number in range(n)]
    for engine in ENGINES:
        path = folder / f"{engine}.khs"
        store = kerashash.CodeStore.create(path, bits=BITS, engine=engine)
        start = time.perf_counter()
        store.add(codes, ids=ids, columns={"label": np.arange(n) % 10})
        add(engine, "add, s", n, time.perf_counter() - start)

        def from_store(path=path):
            kerashash.CodeStore.open(path).search(queries, K)

        opened = seconds(from_store)
        add(engine, "open, top 100 of 64 queries, s", n, opened, opened / cold)
        found = seconds(lambda store=store: store.search(queries, K))
        add(engine, "top 100 of 64 queries, s", n, found, found / warm)
        part = seconds(lambda store=store: store.search(queries, K, "label = 3"))
        add(engine, "top 100 of 64 queries where label = 3, s", n, part, part / warm)


# Prints the peak memory in MB of a process that does no more than this. Pages of the
# mapped codes count. (What `resource` says of a process counts its parent, too.)
SEARCH = """
import pathlib, re, sys
import numpy as np
what, path = sys.argv[1:]
if "TensorFlow" in what:
    import tensorflow
if "search" in what:
    import kerashash
    queries = np.random.default_rng(1).integers(0, 256, (64, 8), np.uint8)
    kerashash.CodeStore.open(path).search(queries, 100)
status = pathlib.Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024 / 1e6)
"""


def memory(folder, n=10_000_000):
    for engine in ENGINES:
        path = folder / f"{engine}.khs"
        store = kerashash.CodeStore.create(path, bits=BITS, engine=engine)
        for seed in range(10):
            store.add(random_codes(n // 10, seed))
        for what in ("search", "search with TensorFlow", "import TensorFlow"):
            command = [sys.executable, "-c", SEARCH, what, str(path)]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            add(engine, f"{what}: peak memory, MB", n, float(run.stdout))


def commits():
    """Time of a commit of ten rows, which should not depend on the rows present."""
    for engine in ENGINES:
        for n in (10_000, 100_000, 1_000_000):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "codes.khs"
                store = kerashash.CodeStore.create(path, bits=BITS, engine=engine)
                store.add(random_codes(n, 0))
                add_some = functools.partial(store.add, random_codes(10, 1))
                times = [timed(add_some) for _ in range(15)]
                # Processor time: a commit in a folder waits for the disk.
                milliseconds = 1000 * float(np.median([cpu for *_, cpu in times[1:]]))
                add(engine, "add 10 numbered rows, processor ms", n, milliseconds)


def ivf(n=1_000_000):
    table = Table("ivf.csv", "codes", "n", "nprobes")
    for kind in ("crossed", "random"):
        codes, queries = draw(kind, n)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "codes.khs"
            store = kerashash.CodeStore.create(path, bits=BITS, engine="lance")
            store.add(codes)
            _, build, build_cpu = timed(store.create_index)
            # The first search makes the ranker.
            store.search(queries[:1], K)
            for nprobes in (None, 1, 2, 5, 10, 20, 50, 100):
                search = functools.partial(store.search, k=K, nprobes=nprobes)
                searches = [functools.partial(search, x) for x in queries[:50, None]]
                times = [timed(each)[1:] for each in searches]
                seconds, cpu = np.median(times[3:], axis=0)
                recall = 1.0
                if nprobes is not None:
                    recall = store.recall(queries[:500], K, nprobes)
                row = {"codes": kind, "bits": BITS, "n": n, "k": K}
                row |= {"nprobes": nprobes or "exact", "recall": f"{recall:.4f}"}
                row |= {"ms/query": f"{1000 * seconds:.3g}"}
                row |= {"cpu ms/query": f"{1000 * cpu:.3g}"}
                row |= {"build s": f"{build:.3g}", "build cpu s": f"{build_cpu:.3g}"}
                table.add(row)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choices = ("speed", "memory", "commits", "ivf")
    parser.add_argument("what", nargs="?", choices=choices, default="speed")
    parser.add_argument("n", nargs="?", type=int, help="codes, for speed")
    options = parser.parse_args()
    if options.what in ("commits", "ivf"):
        return {"commits": commits, "ivf": ivf}[options.what]()
    with tempfile.TemporaryDirectory() as scratch:
        if options.what == "memory":
            return memory(pathlib.Path(scratch))
        return speed(pathlib.Path(scratch), options.n or 1_000_000)


if __name__ == "__main__":
    main()
