"""Weight files of zoo entries: float16 kernels, and large networks kept once.

A large network in a backbone, which several entries may use, is a file of its own:
that of the package, if it is one of the package's backbones, or one in ``shared/``
beside the entries, named by a digest of its bytes. The entry's file has the rest.
"""

import hashlib
import os

import h5py
import numpy as np

from kerashash import installed

# A network of as many parameters is kept apart from the entry.
_LARGE = 1_000_000


def round_weights(model):
    """Round a model's weights in place to what an entry stores."""
    for variable in model.variables:
        value = variable.numpy()
        half = _half(value)
        if half.dtype != value.dtype:
            variable.assign(half.astype(value.dtype))


def save(model, path, folder):
    """Write a model's weights, without the large networks in its backbone.

    Args:
        model: a built `HashModel`.
        path: path of the file, ending in ``.weights.h5``.
        folder: path of the folder for the large networks' files.

    Returns:
        List of dicts, what a card says of each large network: its ``file`` in `folder`
        or of the package, ``sha256`` and ``bytes``.
    """
    import keras

    networks = _large(model.backbone)
    keras.saving.save_weights(model, path, objects_to_skip=networks)
    # A compiled model's optimizer comes along; no one needs it to encode.
    arrays = {k: v for k, v in _read(path).items() if not k.startswith("optimizer/")}
    _write(path, arrays)
    shared = []
    for network in networks:
        part = path.with_name("shared.weights.h5")
        network.save_weights(part)
        arrays = _read(part)
        file = _of_package(arrays)
        if file is None:
            _write(part, arrays)
            folder.mkdir(exist_ok=True)
            file = folder / f"{sha256(part)[:16]}.weights.h5"
            os.replace(part, file)
        part.unlink(missing_ok=True)
        about = {"sha256": sha256(file), "bytes": file.stat().st_size}
        shared.append({"file": file.name, **about})
    return shared


def load(model, path, shared):
    """Load what `save` wrote.

    Args:
        model: a built `HashModel`.
        path: path of the model's file.
        shared: paths of the files of its large networks, in the order of `save`.
    """
    import keras

    networks = _large(model.backbone)
    keras.saving.load_weights(model, path, objects_to_skip=networks)
    for network, file in zip(networks, shared, strict=True):
        network.load_weights(file)
        round_weights(network)  # the package's files are not rounded


def sha256(path):
    """Hexadecimal sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _half(array):
    """Kernels in float16; vectors, which cost little, and integers as they are."""
    if array.dtype != np.float32 or array.ndim < 2:
        return array
    half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array


def _large(network):
    """The networks in one that are to be kept apart, itself if there are none in it,
    in order."""
    import keras

    if not isinstance(network, keras.Model):
        return []
    within = [large for layer in network.layers for large in _large(layer)]
    if not within and network.count_params() >= _LARGE:
        within = [network]
    return [*dict.fromkeys(within)]


def _of_package(arrays):
    """The file of the package's backbone with these weights, or None."""
    for file in installed.backbones():
        its = _read(file)
        if its.keys() == arrays.keys() and all(
            np.array_equal(its[key], arrays[key]) for key in its
        ):
            return file
    return None


def _read(path):
    """Arrays of a Keras weights file by their keys, kernels in float16."""
    found = {}

    def visit(key, item):
        if isinstance(item, h5py.Dataset):
            found[key] = _half(item[()])

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def _write(path, arrays):
    """Write a Keras weights file."""
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            # Learned codes and labels take a tenth; floats gain nothing.
            integers = array.ndim and array.dtype.kind in "iu"
            file.create_dataset(
                key, data=array, compression="gzip" if integers else None
            )
