"""Data sets of label distribution learning."""

import os
from typing import NamedTuple

import numpy as np

from kerashash.data.sources import DatasetUnavailableError, prepared

#: The data sets of the builder ``ldl``.
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
    """Features and label distributions, cut at random into training rows and queries.

    Attributes:
        x_train: float32 array ``(n, dim)``.
        d_train: float32 array ``(n, num_classes)``; rows sum to 1.
        x_query: float32 array ``(q, dim)``.
        d_query: float32 array ``(q, num_classes)``.
        num_classes, num_train, num_query, num_database: int; the training rows are the
            database.
    """

    x_train: np.ndarray
    d_train: np.ndarray
    x_query: np.ndarray
    d_query: np.ndarray

    num_classes = property(lambda self: self.d_train.shape[1])
    num_train = property(lambda self: len(self.d_train))
    num_query = property(lambda self: len(self.d_query))
    num_database = num_train


def load_distributions(name, seed=0, query_share=0.1, data_dir=None):
    """Features and label distributions of a data set, split at random.

    Args:
        name: one of `NAMES`, read through TensorFlow Datasets; or the path of a .mat
            file with the arrays ``features`` ``(n, dim)`` and ``labels``
            ``(n, num_classes)``, as they are published. ``~`` is the home folder.
        seed: int, of the split.
        query_share: float in (0, 1), the share of the rows that are queries, rounded
            down.
        data_dir: as in `kerashash.data.load`.

    Returns:
        `DistributionData`.

    Raises:
        DatasetUnavailableError: if the data is not there; it says what to do.
        TypeError, ValueError: if the file does not hold that, or an argument is wrong.

    Example:
        >>> import scipy.io
        >>> arrays = {"features": np.ones((20, 3)), "labels": np.full((20, 2), 0.5)}
        >>> scipy.io.savemat("tiny.mat", arrays)
        >>> data = load_distributions("tiny.mat")
        >>> data.x_train.shape, data.d_query.shape
        ((18, 3), (2, 2))
    """
    from kerashash.data.builders import ldl

    if not 0 < query_share < 1:
        raise ValueError(f"`query_share` must be in (0, 1). Received: {query_share}.")
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
    return DistributionData(x[train], d[train], x[query], d[query])
