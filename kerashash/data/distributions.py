"""Data sets of label distribution learning."""

import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash.data import protocols
from kerashash.data.sources import DatasetUnavailableError, prepared

#: The data sets of the TensorFlow Datasets builder ``ldl``.
NAMES = (
    "movie",
    "scut_fbp",
    "emotion6",
    "sbu_3dfe",
    "sjaffe",
    "m2b",
    "natural_scene",
    "yeast_alpha",
    "raf_ml",
    "fbp5500",
    "flickr_ldl",
)


class DistributionData(NamedTuple):
    """Features and label distributions, split at random into training rows and queries.

    Attributes:
        x_train: float32 array ``(n, dim)``.
        d_train: float32 array ``(n, num_classes)``; rows sum to 1.
        x_query: float32 array ``(q, dim)``.
        d_query: float32 array ``(q, num_classes)``; rows sum to 1.
        x_validation, d_validation: float32 arrays, or None without validation rows.
        num_classes, num_train, num_query, num_database: int. The training rows are the
            database.

    Example:
        >>> x, d = np.ones((3, 5)), np.full((3, 2), 0.5)
        >>> data = DistributionData(x[:2], d[:2], x[2:], d[2:])
        >>> data.num_classes, data.num_train, data.num_query
        (2, 2, 1)
    """

    x_train: npt.NDArray[np.float32]
    d_train: npt.NDArray[np.float32]
    x_query: npt.NDArray[np.float32]
    d_query: npt.NDArray[np.float32]
    x_validation: npt.NDArray[np.float32] | None = None
    d_validation: npt.NDArray[np.float32] | None = None

    @property
    def num_classes(self) -> int:
        return self.d_train.shape[1]

    @property
    def num_train(self) -> int:
        return len(self.d_train)

    @property
    def num_query(self) -> int:
        return len(self.d_query)

    @property
    def num_database(self) -> int:
        return self.num_train


def load_distributions(
    name: str | os.PathLike[str],
    seed: int = 0,
    query_share: float = 0.1,
    data_dir: str | os.PathLike[str] | None = None,
    validation: float = 0.0,
) -> DistributionData:
    """Load features and label distributions, split at random.

    Args:
        name: str or path; one of `kerashash.data.distributions.NAMES`, which is read
            through TensorFlow Datasets, or the path of a .mat file as published, with
            the arrays ``features`` ``(n, dim)`` and ``labels`` ``(n, num_classes)``.
            ``~`` is the home folder.
        seed: int; the seed of the split.
        query_share: float in (0, 1); the share of the rows that become queries. Their
            number is rounded down.
        data_dir: path or None, as for `kerashash.data.load`.
        validation: float in [0, 1); the share of the training rows that are set apart,
            to choose options on. Their number is rounded down.

    Returns:
        `DistributionData`.

    Raises:
        DatasetUnavailableError: if the data set is not there; the error says what to
            do.
        TypeError, ValueError: if the file lacks an array or holds invalid values, or an
            argument is wrong.

    Example:
        >>> import kerashash, scipy.io
        >>> arrays = {"features": np.ones((20, 3)), "labels": np.full((20, 2), 0.5)}
        >>> scipy.io.savemat("tiny.mat", arrays)
        >>> data = kerashash.data.load_distributions("tiny.mat")
        >>> data.x_train.shape, data.d_query.shape
        ((18, 3), (2, 2))
    """
    from kerashash.data.builders import ldl

    if not 0 < query_share < 1:
        raise ValueError(f"`query_share` must be in (0, 1). Received: {query_share}.")
    protocols.check_share("validation", validation)
    path = os.path.expanduser(os.fspath(name))
    if name in NAMES:
        rows = prepared(f"ldl/{name}", data_dir).as_dataset("train", batch_size=-1)
        x, d = rows["features"].numpy(), rows["distribution"].numpy()
    elif os.path.isfile(path):
        x, d = ldl.read_mat(path)
    else:
        raise DatasetUnavailableError(
            f"There is no file {path}. Pass the path of a .mat file with the arrays "
            f"`features` and `labels`, or one of {NAMES}."
        )
    order = np.random.default_rng(seed).permutation(len(x))
    queries = int(query_share * len(x))
    train, query = order[queries:], order[:queries]
    if not validation:
        return DistributionData(x[train], d[train], x[query], d[query])
    held_out = int(validation * len(train))
    if not held_out:
        raise ValueError(
            "`validation` must draw a row. Received: "
            f"{validation} of {len(train)} training rows."
        )
    apart, train = train[:held_out], train[held_out:]
    return DistributionData(x[train], d[train], x[query], d[query], x[apart], d[apart])
