"""Models in files: `save_model` and `load_model`."""

import contextlib
import io
import json
import math
import os
import threading
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

# Importing these registers their classes with Keras.
import kerashash.baselines
import kerashash.methods  # noqa: F401
from kerashash import archives, files
from kerashash.backbones import by_name
from kerashash.backbones.images import dtype_policy
from kerashash.checks import close_names
from kerashash.forks import check_not_forked
from kerashash.methods import HashModel

__all__ = ["load_model", "save_model"]

# Most layers of a config, counted with their initializers and the like. The largest
# network of `keras.applications` has 1,041 layers of up to 6 parts.
_MAX_LAYERS = 10_000
# A model has as many values as its file of weights, or eight codes for each: they are
# packed. What layers make for a moment, or do not save, may come on top: so many.
_VALUES_RATIO, _FREE_VALUES = 8, 1 << 20
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_limiting = threading.RLock()


def save_model(
    model: HashModel, path: str | os.PathLike[str], overwrite: bool = True
) -> None:
    """Write a model to a file, in one piece.

    The file is that of ``model.save(path)``. But where that is interrupted, the earlier
    file of that name is lost. Here it stays until the new one is complete, whenever the
    process is killed, and what a killed process has left is removed by the next call.

    A file that is replaced keeps its mode, and a symbolic link stays one. A model that
    `load_model` would refuse is refused before anything is written.

    Args:
        model: a built `HashModel`.
        path: path of the file, which ends in ``.keras``. ``~`` is the home folder.
        overwrite: bool; whether the file may exist already.

    Raises:
        TypeError: if `model` is not a `HashModel`, `path` no path or `overwrite` no
            bool.
        ValueError: if the model is not built, or has a layer that is a Python lambda;
            if `path` does not end in ``.keras`` or is no file, or it exists and
            `overwrite` is False.
        OSError: if the file cannot be written.

    Example:
        >>> import kerashash
        >>> model = kerashash.AdaLabelHash("features", bits=12, num_classes=3)
        >>> x = [[1.0, 2.0]]
        >>> codes = model.encode(x, verbose=0)
        >>> save_model(model, "small.keras")
        >>> loaded = load_model("small.keras")
        >>> bool((loaded.encode(x, verbose=0) == codes).all())
        True
    """
    if not isinstance(model, HashModel):
        raise TypeError(
            "`model` must be a HashModel; others have `save`. Received type: "
            f"{type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            "`model` must be built: it must have seen a batch, or know its inputs."
            f" Received: {model.name}, which is not."
        )
    if not isinstance(overwrite, bool):
        raise TypeError(
            f"`overwrite` must be True or False. Received: overwrite={overwrite!r}."
        )
    file = files.as_path(path)
    # Not of "folder.keras/", which a path does not keep.
    if file.suffix != ".keras" or os.fspath(path).endswith(("/", os.sep)):
        raise ValueError(f"`path` must end in .keras. Received: {os.fspath(path)!r}.")
    if not overwrite and os.path.lexists(file):
        raise ValueError(
            f"`path` must be new, or overwrite=True. Received: {str(file)!r}, which "
            "exists."
        )
    check_writable(model)
    with files.replacing_by_name(file, "model.keras") as work:
        model.save(work)


def check_writable(model: HashModel) -> None:
    """Refuse a model whose config `check_config` would refuse when it is loaded.

    Args:
        model: `HashModel`.

    Raises:
        ValueError: if it does.

    Example:
        >>> import kerashash
        >>> check_writable(kerashash.AdaLabelHash("features", bits=12, num_classes=3))
    """
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    try:
        check_config(config)
    except ValueError as error:
        raise ValueError(
            "`model` must be one that can be loaded again. Received a model with "
            f"{error}."
        ) from error


def load_model(path: str | os.PathLike[str]) -> HashModel:
    """Load a model that `save_model` or ``model.save(path)`` has written.

    `keras.saving.load_model` reads the same files, but only knows classes that have
    been imported, and trusts the file more. This function imports all model classes of
    kerashash. It follows no links to other files, and takes no memory that the size of
    the file does not justify.

    Args:
        path: path of a ``.keras`` file. ``~`` is the home folder.

    Returns:
        The `HashModel`, with its weights, learned codes and optimizer.

    Raises:
        TypeError: if `path` is no path.
        ValueError: if there is no such file, it is damaged, or it holds no `HashModel`.

    Example:
        >>> import kerashash
        >>> model = kerashash.AdaLabelHash("features", bits=12, num_classes=3)
        >>> x = [[1.0, 2.0]]
        >>> codes = model.encode(x, verbose=0)
        >>> kerashash.save_model(model, "small.keras")
        >>> loaded = load_model("small.keras")
        >>> bool((loaded.encode(x, verbose=0) == codes).all())
        True
    """
    check_not_forked()
    path = str(files.as_path(path))
    rule = (
        f"`path` must be a .keras file that holds a kerashash model. Received: {path!r}"
    )
    if not os.path.isfile(path):
        exists = os.path.exists(path)
        problem = "which is not one." if exists else "which does not exist."
        raise ValueError(f"{rule}, {problem}{_hint(path)}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{rule}, which is not one.")
    if not path.endswith(".keras"):  # Keras would not read it
        raise ValueError(f"{rule}, whose name does not end in .keras.")
    try:
        with zipfile.ZipFile(path) as archive:
            # All of them, which compares their checksums.
            members = {
                member.filename: archive.read(member)
                for member in archives.zip_members(archive)
            }
        check_config(json.loads(members[_CONFIG]))
        # Before Keras opens it: some of its versions follow links to other files.
        values = archives.check_hdf5(path, io.BytesIO(members[_WEIGHTS]))
        del members
        # Not Keras' setting, where the config says nothing: codes would be others.
        with limited_weights(values), dtype_policy("float32"):
            model = keras.saving.load_model(path)
    except Exception as error:  # Keras, h5py and TensorFlow have types of their own
        raise ValueError(f"{rule}: {type(error).__name__}: {cause(error)}") from error
    if not isinstance(model, HashModel):
        raise ValueError(
            f"{rule}, which holds a {type(model).__name__}. Load it with "
            "keras.saving.load_model."
        )
    return model


def cause(error: Exception) -> str:
    """What an error of Keras says in the end, without the configs of all layers around.

    Args:
        error: Exception.

    Returns:
        str; all of its message where it is no such error.

    Example:
        >>> cause(ValueError("a layer. Exception encountered: no such class"))
        'no such class'
    """
    return str(error).rpartition("Exception encountered: ")[2]


def _hint(path: str) -> str:
    """Say what else a path that is no model's file may have been meant to be."""
    if os.path.isfile(os.path.join(path, "card.json")):
        return " Entries of the zoo are loaded by `kerashash.zoo.load`."
    folder, name = os.path.split(path)
    try:
        models = [file for file in os.listdir(folder or ".") if file.endswith(".keras")]
    except OSError:
        models = []
    # Not itself: a link that leads nowhere has its name.
    return close_names(name, {*models} - {name})


def check_config(config: Any, max_sequential: int | None = None) -> None:
    """Refuse a model's config that would read other files, or would never end.

    Args:
        config: what JSON can hold; the config.
        max_sequential: int or None; most layers of one sequence, None for any number.

    Raises:
        ValueError: if it names a file of weights, holds a Python lambda, or has too
            many layers.

    Example:
        >>> check_config({"class_name": "Dense", "config": {"units": 4}})
    """
    layers = 0
    level: list[Any] = [config]
    while level:
        values: list[Any] = []
        for item in level:
            if not isinstance(item, dict):
                values += item
                continue
            layers += "class_name" in item and "config" in item
            _refuse_lambdas(item)
            children = item.get("layers")
            if (
                max_sequential is not None
                and isinstance(children, list)
                and "input_layers" not in item
                and len(children) > max_sequential
            ):
                raise ValueError(f"more than {max_sequential} layers in a sequence")
            # Of a backbone by name: the path of a file, or a download.
            if isinstance(item.get("weights"), str):
                raise ValueError(f"`weights` = {item['weights'][:100]!r}")
            values += item.values()
        level = [value for value in values if isinstance(value, dict | list)]
    if layers > _MAX_LAYERS:
        raise ValueError(f"{layers} layers and parts of layers")


def _refuse_lambdas(layer: dict[str, Any]) -> None:
    """Refuse a layer that holds a Python lambda: its code would run unseen."""
    options = layer.get("config")
    if not isinstance(options, dict):
        return
    for name, value in options.items():
        if isinstance(value, dict) and (
            value.get("class_name") == "__lambda__"
            # What Keras makes of a lambda that is an activation.
            or (name == "activation" and value.keys() == {"value"})
        ):
            raise ValueError(
                f"the layer {str(options.get('name'))[:100]!r}, whose `{name}` is a "
                "Python lambda: in a file, that is code which could do anything. A "
                "subclass of keras.layers.Layer can take its place"
            )


@contextlib.contextmanager
def limited_weights(values: int, left_out: int = 0) -> Iterator[None]:
    """Build models from configs in a block, as large as their files of weights.

    Networks of `keras.applications` are built without weights: the files have them.

    Args:
        values: int; the number of values in the files.
        left_out: int; how many values the files may leave out.

    Raises:
        ValueError: in the block, before a weight is made that is too large.

    Example:
        >>> with limited_weights(40):
        ...     layer = keras.layers.Dense(4)
        ...     layer.build((None, 8))
        >>> layer.kernel.shape
        TensorShape([8, 4])
    """
    left = _VALUES_RATIO * values + _FREE_VALUES + left_out
    thread = threading.get_ident()

    def add_limited(
        layer: keras.layers.Layer, shape: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        nonlocal left
        if threading.get_ident() == thread and shape is not None:
            left -= math.prod(shape if isinstance(shape, tuple | list) else (shape,))
            if left < 0:
                raise ValueError(
                    f"the layer {layer.name} of the config has a weight of shape "
                    f"{tuple(shape)}; the file of weights has {values} values"
                )
        return add_weight(layer, shape, *args, **kwargs)

    # Every layer makes its weights by this method, and nothing else sees their shapes
    # before they take memory.
    with _limiting, by_name.without_weights():
        add_weight = keras.layers.Layer.add_weight
        keras.layers.Layer.add_weight = add_limited
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = add_weight
