"""Compare the evaluation with the per-query loop of most papers' code.

    python -m benchmarks evaluation

Computes mAP over all ranks on random codes of the size of NUS-WIDE: 2,100 queries,
190,000 database items, 21 labels, 48 bits. The loop ranks with `np.argsort`, which
leaves tied items in any order, so only its time is compared, not its mAP. It runs on a
part of the queries, and its time is scaled up to all of them. Both take alternating
turns in one process. Medians are written to benchmarks/results/evaluation.csv. The peak
memory is that of the process before the loop; of it, `before_mb` are imports, codes and
labels. TensorFlow is not imported: that alone takes a process about 800 MB.

On a processor with AVX-512, NumPy can be as on one with AVX2 only; the other variable
lets the row say so:

    NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR" \
    XLA_FLAGS=--xla_cpu_max_isa=AVX2 python -m benchmarks evaluation
"""

import resource
import statistics
import sys
import time

import numpy as np

from benchmarks.table import Table
from kerashash import codes, evaluation

QUERIES, DATABASE, LABELS, BITS = 2100, 190_000, 21, 48
LOOP_QUERIES = 40
TURNS = 5


def per_query_loop(query, query_labels, database, database_labels):
    """Compute mAP one query at a time, with float32 codes."""
    total = 0.0
    for code, labels in zip(query, query_labels, strict=True):
        relevant = (labels @ database_labels.T > 0).astype(np.float32)
        distances = 0.5 * (BITS - code @ database.T)
        ranks = np.flatnonzero(relevant[np.argsort(distances)]) + 1
        if len(ranks):
            total += np.mean(np.arange(1, len(ranks) + 1) / ranks)
    return total / len(query)


def peak_mb():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


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
    arguments = (packed[0], labels[0], packed[1], labels[1], BITS)
    seconds = {"kerashash": [], "loop": []}
    before = peak_mb()
    start = time.perf_counter()
    result = evaluation.evaluate_codes(*arguments)
    first = time.perf_counter() - start
    peak = peak_mb()
    assert "tensorflow" not in sys.modules
    query, database = (codes.unpack(rows, BITS).astype(np.float32) for rows in packed)
    query_labels, database_labels = (rows.astype(np.float32) for rows in labels)
    loop_arguments = (
        query[:LOOP_QUERIES],
        query_labels[:LOOP_QUERIES],
        database,
        database_labels,
    )
    for _ in range(TURNS):
        for name, run, queries in (
            ("kerashash", lambda: evaluation.evaluate_codes(*arguments), QUERIES),
            ("loop", lambda: per_query_loop(*loop_arguments), LOOP_QUERIES),
        ):
            start = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - start) * QUERIES / queries)
    start = time.perf_counter()
    evaluation.evaluate_codes(*arguments, protocol="dcdh@5000")
    stable = time.perf_counter() - start
    pairs = zip(seconds["loop"], seconds["kerashash"], strict=True)
    Table("evaluation.csv", "queries", "database", "bits", "machine", "isa").add(
        {
            "queries": QUERIES,
            "database": DATABASE,
            "labels": LABELS,
            "bits": BITS,
            "mAP@ALL": round(result["mAP@ALL"], 4),
            "first_s": round(first, 2),
            "all_measures_s": round(statistics.median(seconds["kerashash"]), 2),
            "stable_at_5000_s": round(stable, 2),
            "argsort_loop_s": round(statistics.median(seconds["loop"]), 1),
            "loop / kerashash": round(statistics.median(a / b for a, b in pairs), 1),
            "before_mb": before,
            "peak_mb": peak,
            "turns": TURNS,
        }
    )


if __name__ == "__main__":
    main()
