"""Train the methods on CIFAR-10, on features of a frozen backbone, with three seeds.

    python -m benchmarks cifar10 dsre|dcdh|adalabel|ddh [--features FILE]

Each method's network is one hidden layer on the features of EfficientNet-Lite0 at 128
pixels. The features are computed first, in minutes, and cached in FILE. Each run is
written as a row to benchmarks/results/<method>_cifar10.csv; runs that are already there
are skipped.

- dsre: protocol 5k-train, mAP@ALL; symmetric, plain and no relative entropy, and DSDH;
- dcdh: protocol 5k-train, mAP@ALL; the full model and its ablations -V and -S;
- adalabel: protocol semi, mAP@ALL; the 5,000 labelled images alone, the same for as
  many steps as with self-training, and self-training on the most confident of the
  54,000 unlabelled images;
- ddh: protocol full, no labels, mAP@1000; compared with iterative quantization (ITQ).
"""

import argparse
import itertools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kerashash
from benchmarks import features
from benchmarks.table import Table
from kerashash import evaluation
from kerashash.maths import discrete


def network(width, units):
    return keras.Sequential(
        [keras.Input((width,)), keras.layers.Dense(units, activation="relu")]
    )


def train(model, data, epochs, batch_size):
    x, labels = data.arrays("train")
    steps = epochs * -(-len(x) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(x, labels, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


def dsre(data, seed):
    options = {
        "symmetric relative entropy": {"divergence": "js"},
        "relative entropy (DISH)": {"divergence": "kl"},
        "no divergence": {"divergence": None},
        "ridge": {"divergence": "js", "w_update": "ridge"},
        "DSDH": {"divergence": None, "w_update": "ridge", "b_update": "dcc"},
    }

    def run(bits, variant):
        model = kerashash.DSRE(
            network(data.x.shape[1], 512),
            bits,
            data.num_classes,
            data.num_train,
            **options[variant],
        )
        return train(model, data, epochs=20, batch_size=128)

    return (12, 24, 32, 48), options, run


def dcdh(data, seed):
    def run(bits, variant):
        model = kerashash.DCDH(
            network(data.x.shape[1], 512),
            bits,
            data.num_classes,
            data.num_train,
            variant=variant,
            b_update="epoch",
            label_units=(256, 256),
            fusion_units=(256, 256),
        )
        return train(model, data, epochs=20, batch_size=128)

    return (12, 24, 32, 48), ("full", "V", "S"), run


def adalabel(data, seed):
    # The share of the unlabelled images in the last round of self-training. 0 takes the
    # same number of steps on the labelled images alone; None takes no further steps.
    shares = {
        "labelled only": None,
        "labelled only, as many steps": 0.0,
        "self-trained": 0.3,
        "self-trained on nearly all": 0.9,
    }

    def run(bits, variant):
        model = kerashash.AdaLabelHash(
            network(data.x.shape[1], 512), bits, data.num_classes
        )
        # The epochs were chosen with 1,000 of the unlabelled images as queries. More
        # epochs saturate the codes even where the network is uncertain, which lowers
        # mAP.
        train(model, data, epochs=5, batch_size=128)
        share = shares[variant]
        if share is None:
            return model
        model.compile(keras.optimizers.Adam(3e-4))
        labelled = data.arrays("train")
        unlabelled, _ = data.arrays("unlabelled")
        if share:
            model.self_train(
                labelled,
                unlabelled,
                epochs=1,
                first_epochs=0,
                batch_size=256,
                quantile=share,
                verbose=0,
            )
        else:
            # Self-training with a share of 0.3 takes 186 steps; an epoch here has 20.
            model.fit(*labelled, batch_size=256, epochs=9, verbose=0)
        return model

    return (24, 32, 48), shares, run


def ddh(data, seed):
    def run(bits, variant):
        if variant == "ITQ":
            return ITQ(data, bits, seed)
        model = kerashash.DDH(
            network(data.x.shape[1], 512),
            bits,
            num_train=data.num_train,
            neighbour_backbone="features",  # not the hidden layer's output
        )
        return train(model, data, epochs=10, batch_size=256)

    return (16, 32, 64), ("DDH", "ITQ"), run


class ITQ:
    """Iterative quantization: principal components, rotated to be close to their signs.

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

    def encode(self, x, verbose=0):
        return kerashash.codes.pack(
            np.where((x - self.mean) @ self.projection >= 0, 1, -1)
        )


def measure(model, data, protocol):
    """Evaluate mAP by the paper's definition and by the default one of kerashash."""
    codes_and_labels = []
    for split in ("query", "database"):
        x, labels = data.arrays(split)
        codes_and_labels += [model.encode(x, verbose=0), labels]
    by_paper = evaluation.evaluate_codes(
        *codes_and_labels, model.bits, protocol, database="encoded"
    )
    at = by_paper["definition"]["at"]
    by_default = evaluation.evaluate_codes(*codes_and_labels, model.bits, at=at)
    metric = next(iter(by_paper))
    return {
        "metric": metric,
        "protocol": protocol,
        "value": round(by_paper[metric], 4),
        "expected_ties": round(by_default[metric], 4),
    }


METHODS = {
    "dsre": (dsre, "5k-train", "dsre-cifar10"),
    "dcdh": (dcdh, "5k-train", "dcdh"),
    "adalabel": (adalabel, "semi", "adalabelhash-cifar10"),
    "ddh": (ddh, "full", "ddh-cifar10"),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--features", default="cifar10-efficientnet-lite0-128.npy")
    parser.add_argument("--tag", default="frozen EfficientNet-Lite0 at 128 px")
    parser.add_argument("--results", help="file name of the results")
    parser.add_argument(
        "--variants", nargs="+", help="variants of the method (default: all)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    method, split, protocol = METHODS[options.method]
    name = options.results or f"{options.method}_cifar10.csv"
    table = Table(name, "variant", "bits", "seed")
    for seed in options.seeds:
        data = features.load("cifar10", split, seed, options.features.format(seed=seed))
        lengths, variants, run = method(data, seed)
        for bits, variant in itertools.product(lengths, options.variants or variants):
            if (variant, bits, seed) in table:
                continue
            keras.utils.set_random_seed(seed)
            start = time.monotonic()
            result = measure(run(bits, variant), data, protocol)
            table.add(
                {
                    "method": options.method,
                    "variant": variant,
                    "data": f"cifar10 {split}",
                    "features": options.tag,
                    "bits": bits,
                    "seed": seed,
                    **result,
                    "seconds": round(time.monotonic() - start),
                }
            )


if __name__ == "__main__":
    main()
