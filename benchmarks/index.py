"""Compare the ranker's index with its scan of all codes, with two threads each.

    python -m benchmarks index [--sizes 50000 1000000 10000000] [--codes tiled random]
    python -m benchmarks index --aims
    python -m benchmarks index --large

Codes are those of a database of the zoo, tiled with noise (each bit flips with
probability 1/32), crossed (half of one code, half of another) or as they are; or they
are random, all or 10,000 distinct ones. Queries are the entry's query codes, or random.

A scan and an index take turns in one process, with the same queries, and must give the
same results. A row has the medians of milliseconds per query, of processor time over
all threads, and of the ratios within a turn. On a machine that others use, compare
processor times: a scan shares them between the threads, tables use one. Results are
written to benchmarks/results/index.csv. `--aims` measures a part, in some minutes on a
machine that is free, and says which aims it meets. `--large` measures an index of
100,000,000 codes alone, with its memory, in index_large.csv.
"""

import argparse
import functools
import os
import pathlib
import resource
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import kerashash
from benchmarks.table import Table, versioned
from benchmarks.turns import timed

ZOO = pathlib.Path(__file__).parent.parent / "zoo"
THREADS = 2
KEYS = ("codes", "bits", "n", "search", "k or radius", "queries")
# Turns of searches of one query, and of many.
TURNS = {1: 10, 64: 4}
SEARCHES = [("top_k", k) for k in (1, 100, 5000, 20_000)]
SEARCHES += [("within", radius) for radius in (2, 10)]
CODES = {
    "tiled": ("ddh-cifar10-64", 64),
    "crossed": ("ddh-cifar10-64", 64),
    "random": (None, 64),
    "10,000 distinct": (None, 64),
    "as they are": ("dsre-full-cifar10-48", 48),
    "crossed, 128": ("ddh-cifar10-64", 128),
    "random, 128": (None, 128),
}


def draw(kind, n):
    """Draw a database of packed codes and 1,024 queries."""
    rng = np.random.default_rng(1)
    entry, bits = CODES[kind]
    if entry is None:
        queries = rng.integers(0, 256, (1024, bits // 8), np.uint8)
        if kind != "10,000 distinct":
            return rng.integers(0, 256, (n, bits // 8), np.uint8), queries
        some = rng.integers(0, 256, (10_000, bits // 8), np.uint8)
        return some[rng.integers(0, len(some), n)], queries
    with np.load(ZOO / entry / "codes.npz") as arrays:
        real, queries = arrays["database_codes"], arrays["query_codes"]
    if kind.startswith("crossed"):
        part = bits // 16
        columns = [real[rng.integers(0, len(real), n), :part] for _ in range(2)]
        # Halves of 128 bits are whole codes of 64.
        queries = queries[:1024] if bits == 64 else queries[:2048].reshape(1024, -1)
        if bits == 64:
            columns[1] = real[rng.integers(0, len(real), n), part:]
        return np.concatenate(columns, axis=1), queries
    database = np.resize(real, (n, real.shape[1]))
    if kind == "tiled":
        flips = rng.integers(0, 256, database.shape, np.uint8)
        for _ in range(4):
            flips &= rng.integers(0, 256, database.shape, np.uint8)
        database ^= flips
    return database, queries[:1024]


def call(search, limit, queries):
    return search(queries, limit)


def per_query(search, queries):
    """Search; return the results, and seconds and processor seconds per query."""
    results, *seconds = timed(lambda: search(queries))
    return results, [value / len(queries) for value in seconds]


def measure(table, kind, n):
    """Measure all searches of one database; add rows to the table, and return them."""
    rows = []
    database, queries = draw(kind, n)
    entry, bits = CODES[kind]
    scan = kerashash.HammingRanker(database, bits, index="scan")
    index = kerashash.HammingRanker(database, bits, index="multi")
    _, (build, build_cpu) = per_query(lambda query: index.top_k(query, 1), queries[:1])
    for name, limit in SEARCHES:
        for count, turns in TURNS.items():
            if name == "within" and count > 1 and n > 1_000_000:
                count, turns = 16, 2  # the scan takes seconds
            searches = [
                functools.partial(call, getattr(ranker, name), limit)
                for ranker in (scan, index)
            ]
            times = []
            # The first turns compile, and are not counted.
            for turn in range(-3 if count == 1 else -1, turns):
                some = queries[(turn * count) % 960 :][:count]
                # In turn, the other is first: the second one may find the processor
                # less free.
                pair = [
                    per_query(search, some) for search in searches[:: 1 - turn % 2 * 2]
                ]
                pair = pair[:: 1 - turn % 2 * 2]
                for expected, actual in zip(pair[0][0], pair[1][0], strict=True):
                    for row in range(len(some)):
                        np.testing.assert_array_equal(actual[row], expected[row])
                if turn >= 0:
                    times.append([seconds for _, seconds in pair])
            (scan_s, scan_cpu), (index_s, index_cpu) = np.median(times, axis=0)
            ratio = statistics.median(t[0][0] / t[1][0] for t in times)
            cpu_ratio = statistics.median(t[0][1] / t[1][1] for t in times)
            rows.append(
                {
                    "codes": kind,
                    "entry": versioned(entry) if entry else "",
                    "bits": bits,
                    "n": n,
                    "search": name,
                    "k or radius": limit,
                    "queries": count,
                    "scan ms/query": f"{1000 * scan_s:.3g}",
                    "index ms/query": f"{1000 * index_s:.3g}",
                    "scan / index": f"{ratio:.3g}",
                    "scan cpu ms/query": f"{1000 * scan_cpu:.3g}",
                    "index cpu ms/query": f"{1000 * index_cpu:.3g}",
                    "scan / index, cpu": f"{cpu_ratio:.3g}",
                    "build s": f"{build:.3g}",
                    "build cpu s": f"{build_cpu:.3g}",
                    "used": repr(index).split(": ", 1)[1][:-1],
                }
            )
            table.add(rows[-1])
    return rows


# What `--aims` measures: kinds of codes by the size of the database.
MEASURED = {
    10_000_000: ("crossed", "10,000 distinct", "random"),
    1_000_000: ("crossed", "10,000 distinct", "random", "as they are"),
}


def measure_aims(table):
    rows = [
        row
        for n, kinds in MEASURED.items()
        for kind in kinds
        for row in measure(table, kind, n)
    ]

    def say(aim, row, column, met):
        """`column` is of times by the clock; there is one of processor times, too."""
        where = " ".join(str(row[key]) for key in ("codes", "n", *KEYS[3:]))
        cpu = {"scan / index": "scan / index, cpu"}.get(column, "index cpu ms/query")
        print(
            f"{'met' if met(float(row[column])) else 'MISSED'}: {aim}: {row[column]} "
            f"({row[cpu]} in processor time; {where})"
        )

    def row_of(*key):
        (row,) = [r for r in rows if tuple(r[name] for name in KEYS) == key]
        return row

    def worst(some):
        return min(some, key=lambda row: float(row["scan / index"]))

    n, ratio = 10_000_000, "scan / index"
    one = row_of("crossed", 64, n, "top_k", 100, 1)
    say("ms of one query, at most 1.2", one, "index ms/query", lambda ms: ms <= 1.2)
    say("one query, at least 10 x", one, ratio, lambda x: x >= 10)
    near = row_of("crossed", 64, n, "within", 2, 1)
    say("within(2), at least 50 x", near, ratio, lambda x: x >= 50)
    few = row_of("10,000 distinct", 64, n, "top_k", 100, 1)
    say("few distinct codes, at least 20 x", few, ratio, lambda x: x >= 20)
    say("everything, at least 0.8 x", worst(rows), ratio, lambda x: x >= 0.8)
    # Equal times differ by so much from turn to turn.
    batches = worst([row for row in rows if row["queries"] > 1])
    say("batches, at least 0.95 x", batches, ratio, lambda x: x >= 0.95)


def measure_large(kind="crossed", n=100_000_000):
    database, queries = draw(kind, n)
    before = peak_gigabytes()
    ranker = kerashash.HammingRanker(database, 64, index="multi")
    del database
    scanner = peak_gigabytes()
    _, (build, build_cpu) = per_query(lambda query: ranker.top_k(query, 1), queries[:1])
    row = {"codes": kind, "bits": 64, "n": n}
    row |= {"build s": f"{build:.3g}", "build cpu s": f"{build_cpu:.3g}"}
    row |= {"before GB": f"{before:.3g}", "scan GB": f"{scanner:.3g}"}
    row |= {"peak GB": f"{peak_gigabytes():.3g}", "now GB": f"{gigabytes_now():.3g}"}
    for name, limit in (("top_k", 100), ("within", 2)):
        search = functools.partial(call, getattr(ranker, name), limit)
        times = [per_query(search, query[None])[1] for query in queries[:103]]
        milliseconds = 1000 * np.array(times[3:])  # the first ones make masks
        row[f"{name} {limit} ms"] = f"{np.median(milliseconds[:, 0]):.3g}"
        row[f"{name} {limit} cpu ms"] = f"{np.median(milliseconds[:, 1]):.3g}"
    row["used"] = repr(ranker).split(": ", 1)[1][:-1]
    Table("index_large.csv", "codes", "bits", "n").add(row)


def peak_gigabytes():
    """The peak memory of the process so far, in GB (1e9 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def gigabytes_now():
    """The memory of the process, in GB (1e9 bytes)."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--aims", action="store_true")
    parser.add_argument("--large", action="store_true")
    sizes = [50_000, 200_000, 1_000_000, 10_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes)
    parser.add_argument("--codes", choices=CODES, nargs="+", default=[*CODES])
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    if options.large:
        return measure_large()
    table = Table("index.csv", *KEYS)
    if options.aims:
        return measure_aims(table)
    for n in options.sizes:
        for kind in options.codes:
            measure(table, kind, n)
    return None


if __name__ == "__main__":
    main()
