"""mAP of all ranks beside the per-query loop that most programs of papers share.

    python benchmarks/evaluation.py

2,100 queries, 190,000 database items, 21 labels, 48 bits, as of NUS-WIDE; random. The
loop ranks with `np.argsort`, so its tied items come in any order: it is timed, on a
part of the queries, and not compared. Alternating turns in one process; medians in
benchmarks/results/evaluation.csv. The peak is that of the process before the loop.
"""

import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from table import Table

from kerashash import codes, evaluation

QUERIES, DATABASE, LABELS, BITS = 2100, 190_000, 21, 48
LOOP_QUERIES = 40
TURNS = 3


def loop(query, query_labels, database, database_labels):
    """Mean of average precisions, a query at a time, over float32 codes."""
    total = 0.0
    for code, labels in zip(query, query_labels, strict=True):
        relevant = (labels @ database_labels.T > 0).astype(np.float32)
        distances = 0.5 * (BITS - code @ database.T)
        ranks = np.flatnonzero(relevant[np.argsort(distances)]) + 1
        if len(ranks):
            total += np.mean(np.arange(1, len(ranks) + 1) / ranks)
    return total / len(query)


def main():
    rng = np.random.default_rng(0)
    packed = [
        rng.integers(0, 256, (n, BITS // 8), dtype=np.uint8)
        for n in (QUERIES, DATABASE)
    ]
    labels = [
        (rng.random((n, LABELS), np.float32) < 0.1).astype(np.uint8)
        for n in (QUERIES, DATABASE)
    ]
    ranked = (packed[0], labels[0], packed[1], labels[1], BITS)
    seconds = {"one": [], "stable": [], "loop": []}
    start = time.perf_counter()
    result = evaluation.evaluate_codes(*ranked)
    first = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    floats = [codes.unpack(rows, BITS).astype(np.float32) for rows in packed]
    wide = [rows.astype(np.float32) for rows in labels]
    part = (floats[0][:LOOP_QUERIES], wide[0][:LOOP_QUERIES], floats[1], wide[1])
    for _ in range(TURNS):
        for name, run, queries in (
            ("one", lambda: evaluation.evaluate_codes(*ranked), QUERIES),
            ("loop", lambda: loop(*part), LOOP_QUERIES),
        ):
            start = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - start) * QUERIES / queries)
    start = time.perf_counter()
    evaluation.evaluate_codes(*ranked, protocol="dcdh@5000")
    stable = time.perf_counter() - start
    pairs = zip(seconds["loop"], seconds["one"], strict=True)
    Table("evaluation.csv", "queries", "database", "labels", "bits").add(
        {
            "queries": QUERIES,
            "database": DATABASE,
            "labels": LABELS,
            "bits": BITS,
            "mAP@ALL": round(result["mAP@ALL"], 4),
            "first_s": round(first, 2),
            "all_measures_s": round(statistics.median(seconds["one"]), 2),
            "stable_at_5000_s": round(stable, 2),
            "argsort_loop_s": round(statistics.median(seconds["loop"]), 1),
            "loop / kerashash": round(statistics.median(a / b for a, b in pairs), 1),
            "peak_mb": round(peak),
            "turns": TURNS,
        }
    )


if __name__ == "__main__":
    main()
