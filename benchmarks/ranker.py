"""Compare the ranker with other exact Hamming searches, with two threads each.

    pip install faiss-cpu usearch
    python -m benchmarks ranker [--memory] [--largest N]
    XLA_FLAGS=--xla_cpu_max_isa=AVX2 FAISS_SIMD_LEVEL=AVX2 python -m benchmarks ranker

The last imitates a processor without AVX-512, for XLA, which compiles kerashash's
searches, and for faiss; the column `isa` keeps the rows apart.

Codes are random or, with `--clusters`, concentrated around a few centres, as those of a
trained model are. Engines take turns in one process; a row has the medians of
milliseconds per query and of the ratios within a turn. A turn is a search of all
queries or, of single ones, 32 searches one after another. Slow engines get fewer
queries and turns. Results are written to benchmarks/results/ranker.csv; with
`--memory`, to ranker_memory.csv.
"""

import argparse
import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import kerashash
from benchmarks.table import Table

THREADS = 2
TURNS = 7
# Turns of slow engines.
SLOW_TURNS = 3
# Seconds before each turn, in which the threads of the previous engine stop waiting for
# work. A search that is not timed then wakes the threads of the turn's engine.
PAUSE = 0.2
# Queries per turn of slow engines.
SLOW_QUERIES = 2
# Searches per turn where each has one query.
SINGLE = 32
# (bits, database size, k, queries): one of them varies at a time.
CELLS = [
    *((bits, 1_000_000, 100, 64) for bits in (16, 32, 48, 64, 128, 256)),
    *((64, 1_000_000, k, 64) for k in (1, 10, 100, 1000, 5000)),
    *((64, n, 100, 64) for n in (10_000, 30_000, 100_000, 1_000_000, 10_000_000)),
    *((64, n, 100, 1) for n in (10_000, 100_000, 1_000_000, 10_000_000)),
    *((bits, n, 100, 1) for bits in (128, 256) for n in (10_000, 100_000, 1_000_000)),
    (48, 200_000, 5000, 256),
]
# The names of the engines, in the order of the columns.
ENGINES = ("kerashash", "faiss", "faiss, counting", "usearch", "numpy", "argsort loop")


def draw(rng, n, bits, clusters):
    """Draw packed codes, uniformly or near one of a few centres."""
    if not clusters:
        return rng.integers(0, 256, (n, bits // 8), dtype=np.uint8)
    centres = np.random.default_rng(0).integers(0, 256, (clusters, bits // 8), np.uint8)
    flips = rng.integers(0, 256, (4, n, bits // 8), dtype=np.uint8)
    # The conjunction of four random bits flips a bit with probability 1/16.
    return centres[rng.integers(0, clusters, n)] ^ np.bitwise_and.reduce(flips)


def engines(database, bits, k):
    """Map the names of engines to their search and to whether they are fast."""
    import faiss
    from usearch.index import MetricKind, search

    faiss.omp_set_num_threads(THREADS)
    heap_index = faiss.IndexBinaryFlat(bits)
    counting_index = faiss.IndexBinaryFlat(bits)
    counting_index.use_heap = False
    heap_index.add(database)
    counting_index.add(database)
    ranker = kerashash.HammingRanker(database, bits)
    signs = None

    def numpy_search(queries):
        for query in queries:
            distances = np.bitwise_count(database ^ query).sum(axis=1, dtype=np.uint16)
            if k < len(database):
                nearest = np.argpartition(distances, k - 1)[:k]
            else:
                nearest = np.arange(len(database))
            nearest[np.argsort(distances[nearest], kind="stable")]

    def argsort_loop(queries):
        nonlocal signs
        if signs is None:
            signs = kerashash.codes.unpack(database, bits).astype(np.float32)
        for query in kerashash.codes.unpack(queries, bits).astype(np.float32):
            distances = 0.5 * (bits - query @ signs.T)
            np.argsort(distances)[:k]

    searches = {
        "kerashash": (lambda queries: ranker.top_k(queries, k), True),
        "faiss": (lambda queries: heap_index.search(queries, k), True),
        "faiss, counting": (lambda queries: counting_index.search(queries, k), True),
        "usearch": (
            lambda queries: search(
                database, queries, k, MetricKind.Hamming, exact=True, threads=THREADS
            ),
            False,
        ),
        "numpy": (numpy_search, False),
    }
    # The float32 codes of the loop take 32 times the memory of packed ones.
    if database.size <= 16_000_000:
        searches["argsort loop"] = (argsort_loop, False)
    return searches


def measure(bits, n, k, queries, clusters):
    rng = np.random.default_rng(1)
    database = draw(rng, n, bits, clusters)
    all_queries = draw(rng, SINGLE if queries == 1 else queries, bits, clusters)
    searches = engines(database, bits, k)
    start = time.perf_counter()
    distances, _ = searches["kerashash"][0](all_queries[:queries])
    first = time.perf_counter() - start
    nearest, _ = searches["faiss"][0](all_queries[:queries])
    np.testing.assert_array_equal(distances, nearest)
    seconds = {name: [] for name in searches}
    for turn in range(TURNS):
        for name, (search, fast) in searches.items():
            if not fast and turn >= SLOW_TURNS:
                continue
            turn_queries = all_queries if fast else all_queries[:SLOW_QUERIES]
            calls = range(0, len(turn_queries), queries)
            time.sleep(PAUSE)
            search(turn_queries[:queries])
            start = time.perf_counter()
            for i in calls:
                search(turn_queries[i : i + queries])
            seconds[name].append((time.perf_counter() - start) / len(turn_queries))
    row = {
        "codes": f"{clusters} clusters" if clusters else "random",
        "bits": bits,
        "n": n,
        "k": k,
        "queries": queries,
        "first_call_s": round(first, 2),
    }
    for name in ENGINES:
        times = seconds.get(name)
        row[f"{name} ms/query"] = (
            f"{1000 * statistics.median(times):.4g}" if times else ""
        )
    for name in ENGINES[1:]:
        pairs = zip(seconds.get(name, []), seconds["kerashash"], strict=False)
        ratios = [other / own for other, own in pairs]
        row[f"{name} / kerashash"] = (
            f"{statistics.median(ratios):.3g}" if ratios else ""
        )
    return row


def measure_memory(n=10_000_000, bits=64):
    database = draw(np.random.default_rng(1), n, bits, 0)
    small = kerashash.HammingRanker(database[: 1 << 20], bits)
    small.top_k(database[:64], 100)  # compiles, and allocates the memory of a block
    del small
    before = peak_megabytes()
    ranker = kerashash.HammingRanker(database, bits)
    built = peak_megabytes()
    ranker.top_k(database[:64], 100)
    row = {"n": n, "bits": bits, "packed_mb": round(database.nbytes / 1e6)}
    row |= {
        "built_mb": round(built - before),
        "ranked_mb": round(peak_megabytes() - before),
    }
    Table("ranker_memory.csv", "n", "bits").add(row)


def peak_megabytes():
    """Return the peak memory of the process so far, in MB (1e6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--largest", type=int, help="leave out larger databases")
    parser.add_argument("--clusters", type=int, default=0)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    if options.memory:
        return measure_memory()
    table = Table("ranker.csv", "codes", "bits", "n", "k", "queries", "isa")
    for cell in dict.fromkeys(CELLS):
        if cell[1] > (options.largest or cell[1]):
            continue
        table.add(measure(*cell, options.clusters))
        # A row that does not say its instructions gives way to one that does.
        cells = {key[:-1] for key in table.rows if key[-1]}
        table.keep({key for key in table.rows if key[-1] or key[:-1] not in cells})


if __name__ == "__main__":
    main()
