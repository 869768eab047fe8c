"""Load models from files."""

import os
import zipfile

import keras

# Importing these registers their classes with Keras.
import kerashash.baselines
import kerashash.methods  # noqa: F401
from kerashash.methods import HashModel

__all__ = ["load_model"]


def load_model(path: str | os.PathLike[str]) -> HashModel:
    """Load a model that ``model.save(path)`` has written.

    `keras.saving.load_model` reads the same files, but only knows classes that have
    been imported. This function imports all model classes of kerashash.

    Args:
        path: path of a ``.keras`` file.

    Returns:
        The `HashModel`, with its weights, learned codes and optimizer.

    Raises:
        ValueError: if there is no such file, or it holds no `HashModel`.

    Example:
        >>> import kerashash
        >>> model = kerashash.AdaLabelHash("features", bits=12, num_classes=3)
        >>> codes = model.encode([[1.0, 2.0]])
        >>> model.save("small.keras")
        >>> bool((load_model("small.keras").encode([[1.0, 2.0]]) == codes).all())
        True
    """
    rule = "`path` must be a .keras file that holds a kerashash model."
    if not os.path.isfile(path) or not zipfile.is_zipfile(path):
        exists = os.path.exists(path)
        problem = "which is not one" if exists else "which does not exist"
        raise ValueError(f"{rule} Received: {os.fspath(path)!r}, {problem}.")
    model = keras.saving.load_model(path)
    if not isinstance(model, HashModel):
        raise ValueError(
            f"{rule} Received: {os.fspath(path)!r}, which holds a "
            f"{type(model).__name__}. Load it with keras.saving.load_model."
        )
    return model
