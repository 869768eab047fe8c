"""DDH-LDL on a data set: six measures over three random splits, 90 % for training.

    python benchmarks/ddh_ldl.py [--path Movie.mat] [--seeds 0 1 2] [--methods NAME ...]

Writes benchmarks/results/ddh_ldl_<data set>.csv: the model by its defaults, its
ablations I (no graph) and II (no rotation) and the paper's preset, beside AA-kNN, on
the columns as they are and on those that the models get, and the mean label
distribution. The number of epochs of the function network is the one of least KL over
three tenths of the training rows, one held out at a time; the model is then trained on
all rows. The paper's preset trains as its authors' code does, for a fixed number of
epochs. Runs that are in the file are not made again.
"""

import argparse
import itertools
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from table import Table

import kerashash
from kerashash.backbones import QuantileEncoding
from kerashash.evaluation import label_distribution

BITS, CODE_EPOCHS, MOST_EPOCHS, BATCH, RATE = 128, 10, 6, 1024, 1e-3
FOLDS = 3
VARIANTS = {
    "DDH-LDL": {},
    "DDH-LDL-I": {"gcn": False},
    "DDH-LDL-II": {"rotation": False},
    "paper": {"preset": "paper", "code_epochs": 20},
}


def encoding(x):
    """A backbone for columns most of which are binary."""
    layer = QuantileEncoding()
    layer.adapt(x)
    return keras.Sequential([keras.Input((x.shape[1],)), layer])


class Validation(keras.callbacks.Callback):
    """KL on rows held out, after each epoch of the function network."""

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
    backbone = "features" if paper else encoding(x)
    options = {"code_epochs": CODE_EPOCHS, **options}
    model = kerashash.DDHLDL(backbone, BITS, d.shape[1], len(x), **options)
    batch = len(x) if paper else BATCH
    rate = 2e-4
    if not paper:
        # The schedule starts again with the function network.
        steps = -(-len(x) // batch) * CODE_EPOCHS
        rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(keras.optimizers.Adam(rate))
    epochs += options["code_epochs"]
    model.fit(
        x, d, batch_size=batch, epochs=epochs, verbose=0, callbacks=callback or []
    )
    return model


def trained(data, seed, options):
    """A model, its number of epochs of the function network, and seconds."""
    start = time.perf_counter()
    x, d = data.x_train, data.d_train
    if options.get("preset") == "paper":
        return fit(x, d, seed, options, 51), 51, time.perf_counter() - start
    kl = []
    for held in np.array_split(np.arange(len(x)), 10)[:FOLDS]:
        kept = np.delete(np.arange(len(x)), held)
        callback = Validation(x[kept], d[kept], x[held], d[held])
        fit(x[kept], d[kept], seed, options, MOST_EPOCHS, callback)
        kl.append(callback.kl)
    print("KL on the rows held out:", np.mean(kl, axis=0).round(4), flush=True)
    epochs = int(np.argmin(np.mean(kl, axis=0))) + 1
    start = time.perf_counter()
    return fit(x, d, seed, options, epochs), epochs, time.perf_counter() - start


def predictions(data, seed, name):
    """Predicted distributions, epochs and seconds of one of those compared."""
    if name == "mean distribution":
        return np.tile(data.d_train.mean(axis=0), (len(data.x_query), 1)), "", ""
    if name.startswith("AA-kNN"):
        x, query = data.x_train, data.x_query
        if name == "AA-kNN, encoded columns":
            network = encoding(x)
            x, query = network.predict(x, verbose=0), network.predict(query, verbose=0)
        found = label_distribution.knn_distribution(query, x, data.d_train, k=30)
        return found, "", ""
    model, epochs, seconds = trained(data, seed, VARIANTS[name])
    found = model.predict_distribution(data.x_query, k=30, verbose=0)
    return found, epochs, round(seconds, 1)


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
        found, epochs, seconds = predictions(data, seed, name)
        measures = label_distribution.measures(data.d_query, found)
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
