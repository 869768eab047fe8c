"""Compare the training time of DDH-LDL with that of a plain eager loop, on Movie.

    python -m benchmarks ddh_ldl_speed [--path FILE] [--repeats 3]

Both run in one process and train the same networks on the same rows, with the same
optimizer, batch size and numbers of epochs: once those of our defaults, once those of
the authors' code, with one batch of all rows. The eager loop implements the method
literally, with a `tf.GradientTape` and the graph as an n x n matrix: each step
multiplies the rows of its batch by X and compares their entries with cosines. Times
cover everything from arrays to codes, including tracing. Writes
benchmarks/results/ddh_ldl_speed.csv.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kerashash
from benchmarks.table import Table
from kerashash.maths import discrete

BITS = 128
# Preset, batch size (0: all rows), epochs of the code network and of the function
# network.
RUNS = (("default", 1024, 10, 3), ("paper", 0, 20, 51))


def build(x, d, preset, code_epochs):
    keras.utils.set_random_seed(0)
    model = kerashash.DDHLDL(
        "features", BITS, d.shape[1], len(x), code_epochs=code_epochs, preset=preset
    )
    model.build((None, x.shape[1]))
    return model


def time_fit(x, d, preset, batch, code_epochs, function_epochs):
    model = build(x, d, preset, code_epochs)
    model.compile(keras.optimizers.Adam(2e-4))
    start = time.perf_counter()
    epochs = code_epochs + function_epochs
    model.fit(x, d, batch_size=batch, epochs=epochs, verbose=0)
    return time.perf_counter() - start


def time_eager_loop(x, d, preset, batch, code_epochs, function_epochs):
    """Train the same networks by hand."""
    model = build(x, d, preset, code_epochs)
    options = model.options
    code, function = model.code_network, model.hash_head
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    x, d = tf.constant(x), tf.math.l2_normalize(np.maximum(d, 1e-6), axis=1)
    s = tf.matmul(d, d, transpose_b=True)  # (n, n)
    s = tf.where(s < options["threshold"], 0.0, s)
    a = s
    if options["adjacency"] == "sym":
        degrees = tf.reduce_sum(s, axis=1, keepdims=True)  # (n, 1)
        a = s / tf.sqrt(degrees) / tf.transpose(tf.sqrt(degrees))  # (n, n)

    def step(network, optimizer, loss):
        with tf.GradientTape() as tape:
            value = loss()
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(value, variables), variables)

    def batches():
        order = rng.permutation(len(x))
        return (order[i : i + batch] for i in range(0, len(x), batch))

    optimizer = keras.optimizers.Adam(2e-4)
    for _ in range(code_epochs):
        for rows in batches():

            def code_loss(rows=rows):
                target = tf.gather(s, rows)
                inputs = [tf.gather(x, rows), tf.gather(a, rows) @ x]
                h = tf.math.l2_normalize(code(inputs, training=True), axis=1)
                cosines = tf.matmul(h, h, transpose_b=True)
                return tf.reduce_mean((cosines - tf.gather(target, rows, axis=1)) ** 2)

            step(code, optimizer, code_loss)
    h = code([x, a @ x], training=True)
    rotation, _, _ = discrete.label_rotation(
        h, d, options["label_weight"], options["dom_iterations"]
    )
    model.hash_head.layers[-1].matrix.assign(rotation)
    teacher_codes = h @ rotation  # (n, bits)
    optimizer = keras.optimizers.Adam(2e-4)
    for _ in range(function_epochs):
        for rows in batches():

            def function_loss(rows=rows):
                out = function(tf.gather(x, rows), training=True)
                target = tf.gather(teacher_codes, rows)
                return tf.reduce_mean((out - target) ** 2)

            step(function, optimizer, function_loss)
    discrete.sign(function(x, training=False))
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", default="movie", help="or the path of Movie.mat")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    data = kerashash.data.load_distributions(arguments.path)
    x, d = data.x_train, data.d_train
    table = Table("ddh_ldl_speed.csv", "preset")
    for preset, batch, *epochs in RUNS:
        run = preset, batch or len(x), *epochs
        # Alternating turns, so that other load on the machine slows both alike.
        times = [
            (time_fit(x, d, *run), time_eager_loop(x, d, *run))
            for _ in range(arguments.repeats)
        ]
        ratios = [a / b for a, b in times]
        table.add(
            {
                "preset": preset,
                "batch_size": run[1],
                "rows": len(x),
                "code_epochs": epochs[0],
                "function_epochs": epochs[1],
                "repeats": arguments.repeats,
                "ours_seconds": round(float(np.median([a for a, _ in times])), 1),
                "eager_seconds": round(float(np.median([b for _, b in times])), 1),
                "ratio": round(float(np.median(ratios)), 3),
            }
        )


if __name__ == "__main__":
    main()
