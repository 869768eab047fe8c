"""Compare when DSDH, DSRE with a learned B, updates B.

    python -m benchmarks dsre_codes [--seeds 0 1 2] [--update NAME]

Trains on digits and on pairs of noisy digits with one or two labels, with a network of
128 units, with and without dropout, 16 bits, 8 epochs. Writes mAP@ALL of queries
against encoded and against learned database codes to benchmarks/results/dsre_codes.csv;
runs that are already there are skipped.

`update` says when B is updated: "last step" of each epoch, all of B, from U without
dropout, as the package does it; "each step", the rows of its batch, with W solved again
after each, which was tried; and "epoch", after each epoch and outside the training
step, from U with dropout, as the package did it up to commit cecc0b6, under which this
script gave these rows with ``--update epoch``.
"""

import argparse
import itertools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kerashash
from benchmarks.table import Table
from kerashash import evaluation

DSDH = {"divergence": None, "b_update": "dcc", "w_update": "ridge"}


def arrays(name):
    """Queries and database: two pairs of vectors and label rows."""
    data = kerashash.data.load("digits")
    query, database = data.arrays("query"), data.arrays("database")
    if name == "digits":
        return query, database
    rng = np.random.default_rng(0)
    x, labels = database
    a, b = rng.integers(0, len(x), (2, 1800))
    noise = 0.3 * rng.normal(size=(1800, 128))
    pairs = np.float32(np.concatenate([x[a], x[b]], axis=1) + noise)
    labels = labels[a] | labels[b]
    return (pairs[:300], labels[:300]), (pairs[300:], labels[300:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--update", default="last step")
    arguments = parser.parse_args()
    table = Table("dsre_codes.csv", "data", "dropout", "update", "seed")
    runs = itertools.product(("digits", "digit pairs"), (0.0, 0.5), arguments.seeds)
    for name, dropout, seed in runs:
        if (name, dropout, arguments.update, seed) in table:
            continue
        (x_query, query_labels), (x, labels) = arrays(name)
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Dense(128, "relu"), keras.layers.Dropout(dropout)]
        network = keras.Sequential(
            [keras.Input(x.shape[1:]), *layers[: 2 if dropout else 1]]
        )
        model = kerashash.DSRE(network, 16, 10, num_train=len(x), **DSDH)
        model.compile(keras.optimizers.Adam(1e-3))
        start = time.perf_counter()
        model.fit(x, labels, batch_size=64, epochs=8, verbose=0)
        seconds = time.perf_counter() - start
        query = model.encode(x_query)
        encoded, learned = (
            evaluation.mean_average_precision(
                query, query_labels, codes, labels, bits=model.bits
            )
            for codes in (model.encode(x), np.packbits(model.learned_codes() > 0, 1))
        )
        table.add(
            {
                "data": name,
                "dropout": dropout,
                "update": arguments.update,
                "seed": seed,
                "encoded": round(float(encoded), 4),
                "learned": round(float(learned), 4),
                "train_seconds": round(seconds, 1),
            }
        )


if __name__ == "__main__":
    main()
