"""Models in files."""

import os
import zipfile

import keras

# Both register their classes with Keras.
import kerashash.baselines
import kerashash.methods  # noqa: F401
from kerashash.methods import HashModel

__all__ = ["load_model"]


def load_model(path: str | os.PathLike[str]) -> HashModel:
    """Load a model that ``model.save(path)`` wrote.

    `keras.saving.load_model` reads the same files, but knows a class only once it has
    been imported: this function imports all of kerashash's.

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
        what = "which is no such file" if os.path.exists(path) else "which is not there"
        raise ValueError(f"{rule} Received: {os.fspath(path)!r}, {what}.")
    model = keras.saving.load_model(path)
    if not isinstance(model, HashModel):
        raise ValueError(
            f"{rule} Received: {os.fspath(path)!r}, which holds a "
            f"{type(model).__name__}; keras.saving.load_model reads it."
        )
    return model
