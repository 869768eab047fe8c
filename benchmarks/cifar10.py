"""DSRE, DCDH and DDH on CIFAR-10, three seeds, on features of a frozen backbone.

    python benchmarks/cifar10.py dsre|dcdh|ddh [--features FILE] [--seeds 0 1 2]

Each method's network is one hidden layer on the features of EfficientNet-Lite0 at 128
pixels (computed first, in minutes, and kept in FILE). Writes one row for each run to
benchmarks/results/<method>_cifar10.csv.

- dsre: protocol 5k-train, mAP@ALL, with symmetric, plain and no relative entropy, and
  DSDH;
- dcdh: protocol 5k-train, mAP@ALL, the full model and its ablations -V and -S;
- ddh: protocol full, no labels, mAP@1000, beside iterative quantization (ITQ).
"""

import argparse
import csv
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import features
import keras
import numpy as np
import tensorflow as tf

import kerashash
from kerashash import discrete

RESULTS = pathlib.Path(__file__).parent / "results"


def network(width, units):
    return keras.Sequential(
        [keras.Input((width,)), keras.layers.Dense(units, activation="relu")]
    )


def train(model, data, epochs, batch_size, learning_rate=1e-3):
    x, labels = data.arrays("train")
    steps = epochs * -(-len(x) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(x, labels, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


def dsre(data, seed):
    rows = {
        "symmetric relative entropy": {"divergence": "js"},
        "relative entropy (DISH)": {"divergence": "kl"},
        "no divergence": {"divergence": None},
        "ridge": {"divergence": "js", "w_update": "ridge"},
        "DSDH": {"divergence": None, "w_update": "ridge", "b_update": "dcc"},
    }
    for bits in (12, 24, 32, 48):
        for name, options in rows.items():
            model = kerashash.DSRE(
                network(data.x.shape[1], 512),
                bits,
                data.num_classes,
                data.num_train,
                **options,
            )
            train(model, data, epochs=20, batch_size=128)
            yield bits, name, measure(model, data, "dsre-cifar10")


def dcdh(data, seed):
    for bits in (12, 24, 32, 48):
        for variant in ("full", "V", "S"):
            model = kerashash.DCDH(
                network(data.x.shape[1], 512),
                bits,
                data.num_classes,
                data.num_train,
                variant=variant,
                label_units=(256, 256),
                fusion_units=(256, 256),
            )
            train(model, data, epochs=20, batch_size=128)
            yield bits, variant, measure(model, data, "dcdh", database="encoded")


def ddh(data, seed):
    for bits in (16, 32, 64):
        model = kerashash.DDH(
            network(data.x.shape[1], 512), bits, num_train=data.num_train
        )
        train(model, data, epochs=10, batch_size=256)
        yield bits, "DDH", measure(model, data, "ddh-cifar10")
        yield bits, "ITQ", measure(ITQ(data, bits, seed), data, "ddh-cifar10")


class ITQ:
    """Iterative quantization: principal components, turned to fit their signs.

    Y. Gong et al., Iterative Quantization, TPAMI 2013.
    """

    def __init__(self, data, bits, seed, steps=50):
        x, _ = data.arrays("train")
        self.bits = bits
        self.mean = x.mean(axis=0)
        _, vectors = np.linalg.eigh(np.cov(x - self.mean, rowvar=False))
        components = vectors[:, ::-1][:, :bits]
        projected = tf.constant((x - self.mean) @ components, tf.float32)
        rng = np.random.default_rng(seed)
        start = np.linalg.qr(rng.normal(size=(bits, bits)))[0]
        rotation = tf.constant(start, tf.float32)
        for _ in range(steps):
            codes = discrete.sign(projected @ rotation)
            rotation = discrete.procrustes_rotation(codes, projected)
        self.projection = components @ rotation.numpy()

    def encode(self, dataset, batch_size, verbose):
        x = np.concatenate([x for x, _ in dataset.batch(1024).as_numpy_iterator()])
        return kerashash.codes.pack(
            np.where((x - self.mean) @ self.projection >= 0, 1, -1)
        )


def measure(model, data, protocol, **choices):
    """The paper's mAP and kerashash's own definition of it."""
    paper = kerashash.evaluate(model, data, protocol, **choices)
    name, definition = next(iter(paper)), paper["definition"]
    own = kerashash.evaluate(model, data, at=definition["at"])
    return {
        "metric": name,
        "protocol": protocol,
        "value": round(paper[name], 4),
        "expected_ties": round(own[name], 4),
    }


def main():
    methods = {
        "dsre": (dsre, "5k-train"),
        "dcdh": (dcdh, "5k-train"),
        "ddh": (ddh, "full"),
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=methods)
    parser.add_argument("--features", default="cifar10-efficientnet-lite0-128.npy")
    parser.add_argument("--tag", default="frozen EfficientNet-Lite0 at 128 px")
    parser.add_argument("--results", help="name of the file of results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    method, protocol = methods[options.method]
    rows = []
    for seed in options.seeds:
        file = options.features.format(seed=seed)
        data = features.load("cifar10", protocol, seed, file)
        keras.utils.set_random_seed(seed)
        start = time.monotonic()
        for bits, variant, result in method(data, seed):
            rows.append(
                {
                    "method": options.method,
                    "variant": variant,
                    "data": f"cifar10 {protocol}",
                    "features": options.tag,
                    "bits": bits,
                    "seed": seed,
                    **result,
                    "seconds": round(time.monotonic() - start),
                    "machine": f"{os.cpu_count()} CPU cores",
                    "keras": keras.__version__,
                    "tensorflow": tf.__version__,
                    "command": f"python benchmarks/cifar10.py {options.method}",
                }
            )
            start = time.monotonic()
            print(rows[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    name = options.results or f"{options.method}_cifar10.csv"
    with open(RESULTS / name, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
