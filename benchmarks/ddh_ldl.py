"""Measure DDH-LDL on three random splits of a data set, 90 % of it for training.

    python -m benchmarks ddh_ldl [--path Movie.mat] [--seeds 0 1 2] [--methods NAME ...]

Writes six measures of each run to benchmarks/results/ddh_ldl_<data set>.csv; runs that
are already there are skipped. Compared are the model with default options, its
ablations I (no graph) and II (no rotation), the paper's preset, AA-kNN on the raw
columns and on the encoded columns that the models get, and the mean label distribution.

The number of epochs of the function network is chosen by the lowest KL over three
folds, each of which holds out a tenth of the training rows; the model is then trained
on all rows. The paper's preset trains for a fixed number of epochs, as the authors'
code does.
"""

import argparse
import itertools
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kerashash
from benchmarks.table import Table
from kerashash.backbones import QuantileEncoding
from kerashash.evaluation import label_distribution

BITS, CODE_EPOCHS, BATCH, RATE = 128, 10, 1024, 1e-3
# The largest number of epochs of the function network that is tried.
MAX_FUNCTION_EPOCHS = 6
FOLDS = 3
VARIANTS = {
    "DDH-LDL": {},
    "DDH-LDL-I": {"gcn": False},
    "DDH-LDL-II": {"rotation": False},
    "paper": {"preset": "paper", "dom_iterations": 1},
}


def encoder(x):
    """Build a backbone for tables in which most columns are binary."""
    layer = QuantileEncoding()
    layer.adapt(x)
    return keras.Sequential([keras.Input((x.shape[1],)), layer])


class Validation(keras.callbacks.Callback):
    """Computes KL on held-out rows after each epoch of the function network."""

    def __init__(self, x, d, x_held, d_held):
        super().__init__()
        self.x, self.d, self.x_held, self.d_held = x, d, x_held, d_held
        self.kl = []

    def on_epoch_end(self, epoch, logs=None):
        if "function_loss" not in logs:
            return
        codes = (self.model.encode(x, 1024, verbose=0) for x in (self.x_held, self.x))
        predicted = label_distribution.hashed_distribution(*codes, self.d, bits=BITS)
        self.kl.append(label_distribution.kl_divergence(self.d_held, predicted))


def fit(x, d, seed, options, epochs, callback=None):
    keras.utils.set_random_seed(seed)
    paper = options.get("preset") == "paper"
    backbone = "features" if paper else encoder(x)
    options = {"code_epochs": CODE_EPOCHS, **options}
    model = kerashash.DDHLDL(backbone, BITS, d.shape[1], len(x), **options)
    batch = len(x) if paper else BATCH
    rate = 2e-4
    if not paper:
        # The schedule restarts with the function network.
        steps = -(-len(x) // batch) * CODE_EPOCHS
        rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(keras.optimizers.Adam(rate))
    epochs += options["code_epochs"]
    model.fit(
        x, d, batch_size=batch, epochs=epochs, verbose=0, callbacks=callback or []
    )
    return model


def train(data, seed, options):
    """Return a model, its epochs of the function network and the seconds it took."""
    start = time.perf_counter()
    x, d = data.x_train, data.d_train
    if options.get("preset") == "paper":
        return fit(x, d, seed, options, 51), 51, time.perf_counter() - start
    kl = []
    for held in np.array_split(np.arange(len(x)), 10)[:FOLDS]:
        rest = np.delete(np.arange(len(x)), held)
        callback = Validation(x[rest], d[rest], x[held], d[held])
        fit(x[rest], d[rest], seed, options, MAX_FUNCTION_EPOCHS, callback)
        kl.append(callback.kl)
    print("KL on the held-out rows:", np.mean(kl, axis=0).round(4), flush=True)
    epochs = int(np.argmin(np.mean(kl, axis=0))) + 1
    start = time.perf_counter()
    return fit(x, d, seed, options, epochs), epochs, time.perf_counter() - start


def predict(data, seed, name):
    """Return a method's predicted distributions, its epochs and its seconds."""
    if name == "mean distribution":
        return np.tile(data.d_train.mean(axis=0), (len(data.x_query), 1)), "", ""
    if name.startswith("AA-kNN"):
        x, query = data.x_train, data.x_query
        if name == "AA-kNN, encoded columns":
            network = encoder(x)
            x, query = network.predict(x, verbose=0), network.predict(query, verbose=0)
        predicted = label_distribution.knn_distribution(query, x, data.d_train, k=30)
        return predicted, "", ""
    model, epochs, seconds = train(data, seed, VARIANTS[name])
    predicted = model.predict_distribution(data.x_query, k=30, verbose=0)
    return predicted, epochs, round(seconds, 1)


def main():
    parser = argparse.ArgumentParser()
    folder = "~/tensorflow_datasets/downloads/manual/ldl"
    names = ["mean distribution", "AA-kNN", "AA-kNN, encoded columns", *VARIANTS]
    parser.add_argument("--path", default=f"{folder}/Movie.mat")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    dataset = pathlib.Path(arguments.path).stem
    table = Table(f"ddh_ldl_{dataset.lower()}.csv", "method", "seed")
    for seed, name in itertools.product(arguments.seeds, arguments.methods):
        if (name, seed) in table:
            continue
        data = kerashash.data.load_distributions(arguments.path, seed)
        predicted, epochs, seconds = predict(data, seed, name)
        measures = label_distribution.measures(data.d_query, predicted)
        table.add(
            {
                "method": name,
                "data": dataset,
                "protocol": "random 90/10 split, 128 bits, k = 30",
                "seed": seed,
                **{key: round(value, 4) for key, value in measures.items()},
                "function_epochs": epochs,
                "train_seconds": seconds,
            }
        )


if __name__ == "__main__":
    main()
