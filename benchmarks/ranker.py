"""The ranker beside other exact Hamming searches, in one process, two threads each.

    pip install faiss-cpu usearch
    python benchmarks/ranker.py [--memory]

Random codes, and codes of which most are alike, as those of a trained model are
(`--clusters`). Engines take turns; a row holds medians of milliseconds a query and of
ratios within a turn. Slow engines get fewer queries. Results in
benchmarks/results/ranker.csv and ranker.png; with --memory, in ranker_memory.csv.
"""

import argparse
import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib.figure
import numpy as np
import tensorflow as tf
from table import FOLDER, Table

import kerashash

THREADS = 2
TURNS = 7
# Seconds before each turn, in which the last one's threads stop waiting for work; a
# search that is not timed then wakes the turn's own.
PAUSE = 0.2
# Queries for engines that take long on each.
FEW = 2
# (bits, database size, k, queries): one of them varies at a time.
CELLS = [
    *((bits, 1_000_000, 100, 64) for bits in (16, 32, 48, 64, 128, 256)),
    *((64, 1_000_000, k, 64) for k in (1, 10, 100, 1000, 5000)),
    *((64, n, 100, 64) for n in (10_000, 100_000, 1_000_000, 10_000_000)),
    *((64, n, 100, 1) for n in (10_000, 100_000, 1_000_000, 10_000_000)),
    (48, 200_000, 5000, 256),
]


def draw(rng, n, bits, clusters):
    """Packed codes: random, or near one of a few centres."""
    if not clusters:
        return rng.integers(0, 256, (n, bits // 8), dtype=np.uint8)
    centres = np.random.default_rng(0).integers(0, 256, (clusters, bits // 8), np.uint8)
    flips = rng.integers(0, 256, (4, n, bits // 8), dtype=np.uint8)
    # A bit flips where four coins fall the same way.
    return centres[rng.integers(0, clusters, n)] ^ np.bitwise_and.reduce(flips)


def engines(database, bits, k):
    """name -> (search of queries, whether it is fast)."""
    import faiss
    from usearch.index import MetricKind, search

    faiss.omp_set_num_threads(THREADS)
    heap, count = faiss.IndexBinaryFlat(bits), faiss.IndexBinaryFlat(bits)
    count.use_heap = False
    heap.add(database)
    count.add(database)
    ranker = kerashash.HammingRanker(database, bits)
    signs = None

    def numpy(queries):
        for query in queries:
            distances = np.bitwise_count(database ^ query).sum(axis=1, dtype=np.uint16)
            near = np.argpartition(distances, k - 1)[:k] if k < len(database) else ...
            near = np.arange(len(database)) if near is ... else near
            near[np.argsort(distances[near], kind="stable")]

    def argsort_loop(queries):
        nonlocal signs
        if signs is None:
            signs = kerashash.codes.unpack(database, bits).astype(np.float32)
        for query in kerashash.codes.unpack(queries, bits).astype(np.float32):
            distances = 0.5 * (bits - query @ signs.T)
            np.argsort(distances)[:k]

    found = {
        "kerashash": (lambda queries: ranker.top_k(queries, k), True),
        "faiss": (lambda queries: heap.search(queries, k), True),
        "faiss, counting": (lambda queries: count.search(queries, k), True),
        "usearch": (
            lambda queries: search(
                database, queries, k, MetricKind.Hamming, exact=True, threads=THREADS
            ),
            False,
        ),
        "numpy": (numpy, False),
    }
    # The loop's float32 codes take 32 times the memory.
    if database.size <= 16_000_000:
        found["argsort loop"] = (argsort_loop, False)
    return found


def measure(bits, n, k, queries, clusters):
    rng = np.random.default_rng(1)
    database = draw(rng, n, bits, clusters)
    asked = draw(rng, queries, bits, clusters)
    found = engines(database, bits, k)
    start = time.perf_counter()
    distances, _ = found["kerashash"][0](asked)
    first = time.perf_counter() - start
    np.testing.assert_array_equal(distances, found["faiss"][0](asked)[0])
    seconds = {name: [] for name in found}
    for turn in range(TURNS):
        for name, (search, fast) in found.items():
            if not fast and turn > 2:
                continue
            some = asked if fast else asked[:FEW]
            time.sleep(PAUSE)
            search(some)
            start = time.perf_counter()
            search(some)
            seconds[name].append((time.perf_counter() - start) / len(some))
    row = {
        "codes": f"{clusters} clusters" if clusters else "random",
        "bits": bits,
        "n": n,
        "k": k,
        "queries": queries,
        "first_call_s": round(first, 2),
    }
    for name in (*engines_names(), "argsort loop"):
        times = seconds.get(name)
        row[f"{name} ms/query"] = (
            f"{1000 * statistics.median(times):.4g}" if times else ""
        )
    for name in (*engines_names()[1:], "argsort loop"):
        pairs = zip(seconds.get(name, []), seconds["kerashash"], strict=False)
        ratios = [other / own for other, own in pairs]
        row[f"{name} / kerashash"] = (
            f"{statistics.median(ratios):.3g}" if ratios else ""
        )
    return row


def engines_names():
    return ("kerashash", "faiss", "faiss, counting", "usearch", "numpy")


def plot(rows):
    """Queries a second against the database's size and against k."""
    figure = matplotlib.figure.Figure(figsize=(9, 3.6), layout="constrained")
    panels = (("n", {"k": "100"}), ("k", {"n": "1000000"}))
    for axis, (x, fixed) in zip(figure.subplots(1, 2), panels, strict=True):
        fixed = {"codes": "random", "bits": "64", "queries": "64", **fixed}
        some = [r for r in rows if all(str(r[c]) == v for c, v in fixed.items())]
        some.sort(key=lambda row: int(row[x]))
        for name in (*engines_names(), "argsort loop"):
            points = [
                (int(row[x]), 1000 / float(row[f"{name} ms/query"]))
                for row in some
                if row[f"{name} ms/query"]
            ]
            axis.loglog(*zip(*points, strict=True), "o-", label=name, markersize=4)
        axis.set_xlabel({"n": "database size, k = 100", "k": "k, 1M codes"}[x])
        axis.set_ylabel("queries per second")
        axis.grid(alpha=0.3)
    figure.axes[1].legend(fontsize=8)
    figure.suptitle(f"Exact Hamming search, 64 bits, {THREADS} threads", fontsize=10)
    figure.savefig(FOLDER / "ranker.png", dpi=120)


def memory(n=10_000_000, bits=64):
    database = draw(np.random.default_rng(1), n, bits, 0)
    small = kerashash.HammingRanker(database[: 1 << 20], bits)
    small.top_k(database[:64], 100)  # compiled, and its block's memory is taken
    del small
    before = peak()
    ranker = kerashash.HammingRanker(database, bits)
    built = peak()
    ranker.top_k(database[:64], 100)
    row = {"n": n, "bits": bits, "packed_mb": round(database.nbytes / 1e6)}
    row |= {"built_mb": round(built - before), "ranked_mb": round(peak() - before)}
    Table("ranker_memory.csv", "n", "bits").add(row)


def peak():
    """The process' peak so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--clusters", type=int, default=0)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    if options.memory:
        return memory()
    table = Table("ranker.csv", "codes", "bits", "n", "k", "queries")
    for cell in dict.fromkeys(CELLS):
        table.add(measure(*cell, options.clusters))
    plot(table.rows.values())


if __name__ == "__main__":
    main()
