"""Measure time and memory of DDH's neighbourhoods at the size of CIFAR-10.

    python -m benchmarks neighbours [--features FILE]

FILE is that of benchmarks/cifar10.py. Writes benchmarks/results/neighbours.csv.
"""

import argparse
import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import features
from benchmarks.table import Table
from kerashash.maths import similarity

parser = argparse.ArgumentParser()
parser.add_argument("--features", default="cifar10-efficientnet-lite0-128.npy")
data = features.load("cifar10", "full", 0, parser.parse_args().features)
x, labels = data.arrays("train")
del data


def peak_megabytes():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


before, start = peak_megabytes(), time.monotonic()
similar = similarity.expanded_neighbours(x)
seconds = time.monotonic() - start
rows, columns = similar.nonzero()
same_class = float((labels[rows] * labels[columns]).sum() / len(rows))
Table("neighbours.csv", "n").add(
    {
        "n": x.shape[0],
        "d": x.shape[1],
        "seconds": round(seconds),
        "peak_mb": peak_megabytes(),
        "peak_mb_before": before,
        "similar_per_row": round(similar.nnz / len(x), 1),
        "longest_row": int((similar.indptr[1:] - similar.indptr[:-1]).max()),
        "same_class": round(same_class, 4),
    }
)
