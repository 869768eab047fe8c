"""Weight files of zoo entries: what encoding needs, kernels in float16, and each large
network once.

A large network in a backbone, which several entries may use, has a file of its own:
the package's, if it is one of the package's backbones; otherwise one in ``shared/``
next to the entries, named after a digest of its content. The entry's own file holds
the other weights.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from kerashash import files, installed
from kerashash.checks import said

if TYPE_CHECKING:  # they import TensorFlow
    import keras

    from kerashash.methods import HashModel

#: Most values of the networks of training that an entry leaves out. Its loader makes
#: them, half a gigabyte, for a config alone; the file must justify what is larger.
TRAINING_VALUES = 1 << 27
# Networks of at least so many parameters have files of their own.
_LARGE_PARAMETERS = 1_000_000
# Arrays up to this size are not compressed.
_SMALL_BYTES = 4096


def round_weights(model: "keras.Model") -> None:
    """Round a model's weights in place to the precision that an entry stores.

    Matrices and tensors of float32 are rounded to float16, unless one of their values
    would become infinite. Vectors and integers stay as they are.

    Args:
        model: a built `keras.Model`, a `HashModel` or a backbone.

    Raises:
        TypeError: if `model` is no `keras.Model`.

    Example:
        >>> import keras
        >>> from kerashash import zoo
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[0.1]]), np.array([0.1])])
        >>> zoo.round_weights(model)
        >>> kernel, bias = model.get_weights()
        >>> kernel.item(), bias.item()
        (0.0999755859375, 0.10000000149011612)
    """
    import keras

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model. Received type: {type(model).__name__}."
        )
    for variable in model.variables:
        value = variable.numpy()
        half = _half_precision(value)
        if half.dtype != value.dtype:
            variable.assign(half.astype(value.dtype))


def save(
    model: "HashModel", path: pathlib.Path, folder: pathlib.Path
) -> list[dict[str, Any]]:
    """Write a model's weights, without the large networks in its backbone.

    Args:
        model: a built `HashModel`.
        path: `pathlib.Path` of the file to write, ending in ``.weights.h5``.
        folder: `pathlib.Path` of the folder for the files of large networks.

    Returns:
        List of dicts, what the card says of each large network: its ``file``, in
        `folder` or of the package, with ``sha256`` and ``bytes``.
    """
    import keras

    networks = _large_networks(model.backbone)
    # What training needs, or needs to resume: encoding does not.
    of_training = [*_training_networks(model).values()]
    if sum(network.count_params() for network in of_training) > TRAINING_VALUES:
        of_training = []
    skipped = [*networks, *of_training, model._training_state]
    keras.saving.save_weights(model, path, objects_to_skip=skipped)
    # The optimizer of a compiled model is saved too.
    arrays = _read_arrays(path)
    arrays = {k: v for k, v in arrays.items() if not k.startswith("optimizer/")}
    _write_arrays(path, arrays)
    shared = []
    for network in networks:
        part = path.with_name("shared.weights.h5")
        file = _package_file(save_network(network, part))
        if file is None:
            folder.mkdir(exist_ok=True)
            file = folder / f"{files.sha256(part)[:16]}.weights.h5"
            os.replace(part, file)
        part.unlink(missing_ok=True)
        digest, size = files.sha256(file), file.stat().st_size
        shared.append({"file": file.name, "sha256": digest, "bytes": size})
    return shared


def save_network(
    network: "keras.Model", path: pathlib.Path
) -> dict[str, npt.NDArray[Any]]:
    """Write the weights of one network, kernels in float16.

    Args:
        network: a built `keras.Model`.
        path: `pathlib.Path` of the file to write, ending in ``.weights.h5``.

    Returns:
        dict of arrays, what the file holds.

    Example:
        >>> import keras
        >>> network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> arrays = save_network(network, pathlib.Path("small.weights.h5"))
        >>> sorted(array.dtype.name for array in arrays.values())
        ['float16', 'float32']
    """
    network.save_weights(path)
    arrays = _read_arrays(path)
    _write_arrays(path, arrays)
    return arrays


def load(
    model: "HashModel", path: pathlib.Path, shared: Sequence[pathlib.Path]
) -> None:
    """Load what `save` wrote.

    Args:
        model: a built `HashModel`.
        path: path of the model's own file.
        shared: paths of the files of its large networks, in the order of `save`.

    Raises:
        ValueError: if a file is not that of the model; the error names the file. It
            must have passed `kerashash.archives.check_hdf5`.
    """
    import keras

    networks = _large_networks(model.backbone)
    if len(networks) != len(shared):
        raise ValueError(
            f"{path.parent / 'card.json'} must list the {len(networks)} networks that "
            f"the model shares. Received: {len(shared)}."
        )
    try:
        file = path
        with h5py.File(path, "r") as stored:
            # Entries of before kerashash 0.2 hold the networks of training too, and so
            # do those of very large ones.
            absent = [
                network
                for name, network in _training_networks(model).items()
                if name not in stored
            ]
        skipped = [*networks, *absent, model._training_state]
        keras.saving.load_weights(model, path, objects_to_skip=skipped)
        for network, file in zip(networks, shared, strict=True):
            network.load_weights(file)
    except Exception as error:  # Keras, h5py and TensorFlow have types of their own
        raise ValueError(
            f"{file} must hold the weights of the model that config.json describes. "
            f"Received: {type(error).__name__}: {said(error)}."
        ) from error
    if absent:
        model.restart()


def _half_precision(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Round float32 kernels to float16; vectors, which are small, and integers stay."""
    if array.dtype != np.float32 or array.ndim < 2:
        return array
    half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array


def _training_networks(model: "HashModel") -> "dict[str, keras.layers.Layer]":
    """The networks of a model that only training uses, by name."""
    networks = {name: getattr(model, name) for name in model.training_networks}
    return {name: net for name, net in networks.items() if net is not None}


def _large_networks(network: "keras.Layer") -> "list[keras.Model]":
    """The networks to store in files of their own, in order: the innermost large ones
    in a network, or the network itself."""
    import keras

    if not isinstance(network, keras.Model):
        return []
    inner = [large for layer in network.layers for large in _large_networks(layer)]
    if not inner and network.count_params() >= _LARGE_PARAMETERS:
        return [network]
    return [*dict.fromkeys(inner)]


def _package_file(arrays: dict[str, npt.NDArray[Any]]) -> pathlib.Path | None:
    """The file of the package's backbone that has these weights, if there is one."""
    for file in installed.backbones():
        packaged = _read_arrays(file)
        if packaged.keys() == arrays.keys() and all(
            np.array_equal(packaged[key], arrays[key]) for key in packaged
        ):
            return file
    return None


def _read_arrays(path: pathlib.Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a Keras weights file by their keys, kernels in float16."""
    arrays = {}

    def visit(key: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[key] = _half_precision(item[()])

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return arrays


def _write_arrays(path: pathlib.Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write a Keras weights file."""
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            # By bytes of equal place, since exponents compress and fractions do not:
            # floats shrink by a seventh, learned codes and labels to a tenth.
            large = array.nbytes > _SMALL_BYTES
            dataset = file.create_dataset(
                key,
                data=array,
                chunks=array.shape if large else None,
                compression="gzip" if large else None,
                shuffle=large,
            )
            if array.dtype == "V2":  # as Keras marks what HDF5 has no type for
                dataset.attrs["dtype"] = "bfloat16"
