"""Training time of DDH-LDL against a plain eager loop, in one process, on Movie.

    python benchmarks/ddh_ldl_speed.py [--path Movie.mat] [--epochs 4]

Both train the networks of the paper's preset on the same rows, in the same order, with
the same optimizer and batch size: first epochs of the code network, then as many of the
function network, for one batch of all rows (the authors' way) and for batches of 1024
(ours). The eager loop is the method written down as it stands: a `tf.GradientTape`, the
graph as an n x n matrix whose rows are multiplied by X in each step, and the cosines to
be reached as another. Writes benchmarks/results/ddh_ldl_speed.csv.
"""

import argparse
import csv
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kerashash
from kerashash import discrete

BITS, BETA = 128, 0.5


def build(n, width, classes, epochs):
    keras.utils.set_random_seed(0)
    model = kerashash.DDHLDL(
        "features", BITS, classes, n, code_epochs=epochs, preset="paper"
    )
    model.build((None, width))
    return model


def ours(x, d, batch, epochs):
    model = build(len(x), x.shape[1], d.shape[1], epochs)
    model.compile(keras.optimizers.Adam(2e-4))
    start = time.perf_counter()
    model.fit(x, d, batch_size=batch, epochs=2 * epochs, verbose=0)
    return time.perf_counter() - start


def eager(x, d, batch, epochs):
    """The same networks, trained by hand."""
    model = build(len(x), x.shape[1], d.shape[1], epochs)
    code, function = model.code_network, model.hash_head
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    x, d = tf.constant(x), tf.math.l2_normalize(np.maximum(d, 1e-6), axis=1)
    s = tf.matmul(d, d, transpose_b=True)
    s = tf.where(s < BETA, 0.0, s)

    def step(network, optimizer, loss):
        with tf.GradientTape() as tape:
            value = loss()
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(value, variables), variables)

    def batches():
        order = rng.permutation(len(x))
        return (order[i : i + batch] for i in range(0, len(x), batch))

    optimizer = keras.optimizers.Adam(2e-4)
    for _ in range(epochs):
        for rows in batches():

            def code_loss(rows=rows):
                target = tf.gather(s, rows)
                inputs = [tf.gather(x, rows), target @ x]
                h = tf.math.l2_normalize(code(inputs, training=True), axis=1)
                cosines = tf.matmul(h, h, transpose_b=True)
                return tf.reduce_mean((cosines - tf.gather(target, rows, axis=1)) ** 2)

            step(code, optimizer, code_loss)
    h = code([x, s @ x], training=True)
    rotation, _, _ = discrete.label_rotation(h, d, iterations=1)
    model.hash_head.layers[-1].matrix.assign(rotation)
    wanted = h @ rotation
    optimizer = keras.optimizers.Adam(2e-4)
    for _ in range(epochs):
        for rows in batches():

            def function_loss(rows=rows):
                out = function(tf.gather(x, rows), training=True)
                return tf.reduce_mean((out - tf.gather(wanted, rows)) ** 2)

            step(function, optimizer, function_loss)
    discrete.sign(function(x, training=False))
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    folder = "~/tensorflow_datasets/downloads/manual/ldl"
    parser.add_argument("--path", default=f"{folder}/Movie.mat")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    data = kerashash.data.load_distributions(arguments.path)
    x, d = data.x_train, data.d_train
    rows = []
    for batch in (len(x), 1024):
        # Alternating, so that a busy machine slows both; the median of the ratios.
        times = [
            (ours(x, d, batch, arguments.epochs), eager(x, d, batch, arguments.epochs))
            for _ in range(arguments.repeats)
        ]
        ratios = [a / b for a, b in times]
        row = {
            "batch_size": batch,
            "rows": len(x),
            "epochs": f"{arguments.epochs} + {arguments.epochs}",
            "ours_seconds": round(float(np.median([a for a, _ in times])), 1),
            "eager_seconds": round(float(np.median([b for _, b in times])), 1),
            "ratio": round(float(np.median(ratios)), 3),
            "machine": f"{os.cpu_count()} CPU cores",
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "command": "python benchmarks/ddh_ldl_speed.py",
        }
        print(row, flush=True)
        rows.append(row)
    path = pathlib.Path(__file__).parent / "results" / "ddh_ldl_speed.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
