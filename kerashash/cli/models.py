"""Models and data that commands name."""

import contextlib
import pathlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerashash.methods import HashModel


def load(name: str) -> "HashModel":
    """Load a model.

    Args:
        name: str; a name of the zoo, the folder of an entry, or a ``.keras`` file.

    Returns:
        `HashModel`.
    """
    if name.endswith(".keras"):
        from kerashash.saving import load_model

        return load_model(name)
    from kerashash import zoo

    return zoo.load(name)


def load_rows(name: str, protocol: str | None, seed: int, data_dir: str | None) -> Any:
    """Load a data set, or the images of a folder.

    Args:
        name: str; one of `kerashash.data.list`, or the path of a folder.
        protocol: str or None; of a data set.
        seed: int; which draw of the queries.
        data_dir: str or None; the folder of TensorFlow Datasets.

    Returns:
        `kerashash.data.RetrievalData` or `kerashash.data.DistributionData`.
    """
    from kerashash import data

    # TensorFlow Datasets says on standard output what it prepares.
    with contextlib.redirect_stdout(sys.stderr):
        return _rows(data, name, protocol, seed, data_dir)


def _rows(
    data: Any, name: str, protocol: str | None, seed: int, data_dir: str | None
) -> Any:
    if name in data.list() or not pathlib.Path(name).expanduser().is_dir():
        return data.load(name, protocol, seed, data_dir)
    if protocol is not None:
        raise ValueError(
            "--protocol is for data sets; of a folder, a tenth of each class are "
            f"queries. Received: {name!r}, a folder."
        )
    return data.from_directory(name, seed=seed)
