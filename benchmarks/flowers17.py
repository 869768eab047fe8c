"""Measure DDH on Oxford Flowers-17 by a linear SVM on its unsupervised codes.

    python -m benchmarks flowers17 --images DIR [--seeds 0 1 2]

DIR contains image_0001.jpg to image_1360.jpg, 80 images per class, one class after the
other, as published. Of each class, 40 images train the codes (without labels) and then
the SVM (with labels), 20 select its penalty, and 20 test it; the seed draws which.
Features are those of a frozen EfficientNet-Lite2 at 224 pixels; for the codes they are
standardized with the statistics of the training images. The neighbourhood and the
number of epochs were chosen on the validation images of seed 0. Writes
benchmarks/results/flowers17.csv.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.svm import SVC

import kerashash
from benchmarks.table import Table
from kerashash.data import inputs

parser = argparse.ArgumentParser()
parser.add_argument("--images", required=True)
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
options = parser.parse_args()

folder = pathlib.Path(options.images)
paths = [folder / f"image_{number:04d}.jpg" for number in range(1, 1361)]
images = np.stack([np.rint(inputs.read_image(path, 224)) for path in paths]).astype(
    "uint8"
)
y = np.arange(1360) // 80
backbone = kerashash.backbones.get("efficientnet-lite2", image_size=224)
features = backbone.predict(images, batch_size=64, verbose=2)


def accuracy(x, train, validation, test):
    """Test the SVM whose penalty is best on the validation images."""
    best_svm = max(
        (
            SVC(kernel="linear", C=c).fit(x[train], y[train])
            for c in 10.0 ** np.arange(-5, 1)
        ),
        key=lambda svm: svm.score(x[validation], y[validation]),
    )
    return best_svm.score(x[test], y[test])


table = Table("flowers17.csv", "input of the SVM", "seed")
for seed in options.seeds:
    keras.utils.set_random_seed(seed)
    order = np.random.default_rng(seed).permuted(
        np.arange(1360).reshape(17, 80), axis=1
    )
    splits = [order[:, a:b].ravel() for a, b in ((0, 40), (40, 60), (60, 80))]
    results = {"features": accuracy(features, *splits)}
    for bits in (64, 256):
        train = features[splits[0]]
        standardize = keras.layers.Normalization()
        standardize.adapt(train)
        network = keras.Sequential(
            [
                keras.Input((features.shape[1],)),
                standardize,
                keras.layers.Dense(1024, "relu"),
            ]
        )
        model = kerashash.DDH(
            network,
            bits,
            num_train=len(train),
            neighbours=8,
            lists=3,
            neighbour_backbone="features",
        )
        model.compile(keras.optimizers.Adam(1e-3))
        model.fit(train, batch_size=64, epochs=200, verbose=0)
        codes = model.encode(features, packed=False).astype(np.float32)
        results[f"DDH, {bits} bits"] = accuracy(codes, *splits)
    for name, value in results.items():
        table.add(
            {
                "input of the SVM": name,
                "split": "40/20/20 a class",
                "seed": seed,
                "accuracy": round(value, 4),
            }
        )
