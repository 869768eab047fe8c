r"""Fine-tune the backbone with DSRE on CIFAR-10, 5k-train, and keep its features.

    python benchmarks/fine_tune.py --features 'dsre-{seed}.npy' [--seeds 0 1 2]
    python benchmarks/cifar10.py dsre --features 'dsre-{seed}.npy' \
        --results dsre_cifar10_fine_tuned.csv --tag "fine-tuned ..."

Trains the layers of EfficientNet-Lite0 after block4c with 48 bits, on the seed's 5,000
training images only, and writes the features of all 60,000 images.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kerashash
from kerashash import backbones, recipe

parser = argparse.ArgumentParser()
parser.add_argument("--features", required=True)
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--cache-dir")
options = parser.parse_args()

for seed in options.seeds:
    keras.utils.set_random_seed(seed)
    data = kerashash.data.load("cifar10", "5k-train", seed)
    backbone = backbones.get("efficientnet-lite0", image_size=128)
    lower, upper = backbones.split(backbone, "block4c")
    recipe.freeze_statistics(upper)
    x, labels = data.arrays("train")
    features = recipe.mirrored_features(lower, x, options.cache_dir)
    model = kerashash.DSRE(
        upper, 48, data.num_classes, data.num_train, w_update="ridge"
    )
    rounds = [
        {"epochs": 4, "warmup_epochs": 1, "learning_rate": 5e-4, "augment": True},
        {"epochs": 1, "warmup_epochs": 0.1, "learning_rate": 3e-4, "augment": False},
    ]
    recipe.fit(
        model, features, labels, seed, batch_size=128, weight_decay=1e-4, rounds=rounds
    )
    # `upper` and `backbone` share their layers.
    codes = backbone.predict(data.x, batch_size=128, verbose=2)
    np.save(options.features.format(seed=seed), codes.astype(np.float16))
