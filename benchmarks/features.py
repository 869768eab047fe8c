"""Load a data set as the features of a frozen backbone, computed once.

Models train on features in seconds:

    data = features.load("cifar10", "5k-train", seed=0, file="cifar10-lite0-128.npy")
"""

import dataclasses
import pathlib

import numpy as np

import kerashash


def load(name, protocol, seed, file, backbone="efficientnet-lite0", image_size=128):
    """Load a data set under a protocol, with features in place of the images.

    Args:
        name, protocol, seed: as in `kerashash.data.load`.
        file: path of an .npy file with the features of all images, float16 ``(n, d)``
            in the data set's order; written if it does not exist.
        backbone, image_size: as in `kerashash.backbones.get`.

    Returns:
        `kerashash.data.RetrievalData` of float32 vectors.
    """
    data = kerashash.data.load(name, protocol, seed)
    file = pathlib.Path(file)
    if not file.exists():
        network = kerashash.backbones.get(backbone, image_size=image_size)
        features = network.predict(data.x, batch_size=128, verbose=2)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, features.astype(np.float16))
    return dataclasses.replace(data, x=np.load(file).astype(np.float32))
