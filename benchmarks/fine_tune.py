r"""Fine-tune the backbone with a method on CIFAR-10 and save its features.

    python -m benchmarks fine_tune dsre --features 'dsre-{seed}.npy' [--seeds 0 1 2]
    python -m benchmarks cifar10 dsre --features 'dsre-{seed}.npy' \
        --results dsre_cifar10_fine_tuned.csv --tag "fine-tuned ..."

Trains the layers of EfficientNet-Lite0 after block4c with 48 bits, only on the 5,000
labelled images of each seed, and writes the features of all 60,000 images. The hash
head is trained first, on frozen features, so that the backbone does not get the
gradients of a random head. The features of the frozen layers are computed once for all
seeds and cached (1.2 GB).
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kerashash
from kerashash import backbones
from kerashash.data import feature_cache
from kerashash.recipes import fitting
from kerashash.recipes.recipe import Round

METHODS = {
    "dsre": (kerashash.DSRE, "5k-train", {"w_update": "ridge"}),
    "adalabel": (kerashash.AdaLabelHash, "semi", {}),
}
ROUNDS = [
    Round(epochs=4, warmup_epochs=1, learning_rate=3e-4, augment=True),
    Round(epochs=1, warmup_epochs=0.1, learning_rate=1e-4, augment=False),
]


def fine_tune(name, seed, cache_dir):
    """Return the frozen layers' features of all images, and a model trained on them."""
    method, protocol, options = METHODS[name]
    keras.utils.set_random_seed(seed)
    data = kerashash.data.load("cifar10", protocol, seed)
    if name != "adalabel":
        options = {**options, "num_train": data.num_train}
    backbone = backbones.get("efficientnet-lite0", image_size=128)
    lower, upper = backbones.split(backbone, "block4c")
    fitting.freeze_statistics(upper)
    frozen = feature_cache.mirrored_features(lower, data.x, cache_dir)
    rows = data.splits["train"]
    x, labels = frozen[rows], data.labels[rows]
    model = method(upper, 48, num_classes=data.num_classes, **options)
    head = {"epochs": 20, "batch_size": 128, "learning_rate": 1e-3}
    model, _ = fitting.fit_head(model, x[:, :1], labels, **head)
    options = {"batch_size": 128, "weight_decay": 1e-4, "shift": 1, "rounds": ROUNDS}
    fitting.fit(model, x, labels, seed, **options)
    return frozen, model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=METHODS)
    parser.add_argument(
        "--features",
        required=True,
        help="file to write; {seed} is replaced by the seed",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--cache-dir",
        type=pathlib.Path,
        default=pathlib.Path("~/.cache/kerashash").expanduser(),
        help="folder to cache the features of the frozen layers",
    )
    options = parser.parse_args()
    for seed in options.seeds:
        frozen, model = fine_tune(options.method, seed, options.cache_dir)
        vectors = fitting.outputs(model.backbone, frozen[:, 0])
        np.save(options.features.format(seed=seed), vectors.astype(np.float16))


if __name__ == "__main__":
    main()
