"""Measure the peak memory of training DCDH at the size of NUS-WIDE.

    python -m benchmarks dcdh_memory [--num-train 190000] [--bits 48] [--patterns 8000]

Trains with `model.fit` on random vectors with random multi-label rows of 21 labels, of
which `patterns` are distinct: the first pass over the data, the initialization of B,
the steps of one epoch, and the update of B after it. Writes
benchmarks/results/dcdh_memory.csv.
"""

import argparse
import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kerashash
from benchmarks.table import Table

parser = argparse.ArgumentParser()
parser.add_argument("--num-train", type=int, default=190_000)
parser.add_argument("--bits", type=int, default=48)
parser.add_argument("--patterns", type=int, default=8_000)
options = parser.parse_args()
n, classes = options.num_train, 21


def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


rng = np.random.default_rng(0)
patterns = np.unique(rng.random((3 * options.patterns, classes)) < 0.15, axis=0)
patterns = rng.permutation(patterns)[: options.patterns].astype(np.float32)
pattern_of_row = rng.integers(0, len(patterns), n)
num_patterns = len(np.unique(pattern_of_row))
patterns, pattern_of_row = tf.constant(patterns), tf.constant(pattern_of_row)
x = tf.constant(rng.normal(size=(1024, 64)).astype(np.float32))


def make_batch(index):
    labels = tf.gather(patterns, tf.gather(pattern_of_row, index))
    return tf.gather(x, index % 1024), {"label": labels, "index": index}


dataset = tf.data.Dataset.range(n, output_type=tf.int32).batch(256).map(make_batch)
table = Table("dcdh_memory.csv", "b_update")
for update in ("epoch", "batch"):
    before = peak_megabytes()
    model = kerashash.DCDH(
        keras.Sequential([keras.Input((64,)), keras.layers.Dense(256, "relu")]),
        bits=options.bits,
        num_classes=classes,
        num_train=n,
        b_update=update,
        label_units=(256,),
        fusion_units=(256,),
    )
    model.compile(optimizer="adam")
    start = time.monotonic()
    model.fit(dataset, epochs=1, verbose=2)
    table.add(
        {
            "b_update": update,
            "num_train": n,
            "bits": options.bits,
            "patterns": num_patterns,
            "epoch_seconds": round(time.monotonic() - start, 1),
            "peak_mb": round(peak_megabytes()),
            "peak_mb_before_model": round(before),
        }
    )
