"""Features of a frozen backbone for all images of a data set, computed once.

Heads train on them in seconds. `load` puts them in the place of the images:

    data = features.load("cifar10", "5k-train", seed=0, file="cifar10-lite0-128.npy")
"""

import dataclasses
import pathlib

import numpy as np

import kerashash


def load(name, protocol, seed, file, backbone="efficientnet-lite0", image_size=128):
    """A data set under a protocol, its images replaced by a backbone's features.

    Args:
        name, protocol, seed: as in `kerashash.data.load`.
        file: path of an .npy file of the features of all images, float16 ``(n, d)``
            in the data set's order; written if it is not there.
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
