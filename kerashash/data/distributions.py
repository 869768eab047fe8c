"""Data sets of label distribution learning, from the .mat files that are published."""

import os
from typing import NamedTuple

import numpy as np

from kerashash.data.sources import DatasetUnavailableError
from kerashash.inputs import check_array
from kerashash.label_distribution import check_distributions


class DistributionData(NamedTuple):
    """Features and label distributions, cut at random into training rows and queries.

    Attributes:
        x_train: float32 array ``(n, dim)``.
        d_train: float32 array ``(n, num_classes)``; rows sum to 1.
        x_query: float32 array ``(q, dim)``.
        d_query: float32 array ``(q, num_classes)``.
    """

    x_train: np.ndarray
    d_train: np.ndarray
    x_query: np.ndarray
    d_query: np.ndarray


def load_distributions(path, seed=0, query_share=0.1):
    """Read a file of features and label distributions, and split it at random.

    Args:
        path: str or path of a .mat file with the arrays ``features`` ``(n, dim)`` and
            ``labels`` ``(n, num_classes)``, as the field's data sets (Movie, SCUT-FBP,
            Emotion6, SBU-3DFE and others) are published. ``~`` is the home folder.
        seed: int, of the split.
        query_share: float in (0, 1), the share of the rows that are queries, rounded
            down.

    Returns:
        `DistributionData`.

    Raises:
        DatasetUnavailableError: if there is no such file.
        TypeError, ValueError: if the file does not hold that, or an argument is wrong.

    Example:
        >>> import scipy.io
        >>> arrays = {"features": np.ones((20, 3)), "labels": np.full((20, 2), 0.5)}
        >>> scipy.io.savemat("tiny.mat", arrays)
        >>> data = load_distributions("tiny.mat")
        >>> data.x_train.shape, data.d_query.shape
        ((18, 3), (2, 2))
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not 0 < query_share < 1:
        raise ValueError(f"`query_share` must be in (0, 1). Received: {query_share}.")
    path = os.path.expanduser(os.fspath(path))
    if not os.path.isfile(path):
        raise DatasetUnavailableError(
            f"There is no file {path}. Download a data set of label distribution "
            "learning as a .mat file with the arrays `features` and `labels`, as of "
            "http://palm.seu.edu.cn/xgeng/LDL/download.htm, and pass its path."
        )
    try:
        arrays = loadmat(path)
        x, d = arrays["features"], arrays["labels"]
    except (MatReadError, KeyError, ValueError, NotImplementedError) as error:
        raise ValueError(
            "`path` must be a .mat file with the arrays `features` and `labels`. "
            f"Received: {path!r} ({type(error).__name__}: {error})."
        ) from error
    d = check_distributions(d, n=len(x), name=f"labels of {path}")
    x = check_array(x, (None, None), f"features of {path}")
    order = np.random.default_rng(seed).permutation(len(x))
    queries = int(query_share * len(x))
    train, query = order[queries:], order[:queries]
    return DistributionData(x[train], d[train], x[query], d[query])
