"""Where data sets come from: all images of one, with labels and official splits."""

import os
from typing import NamedTuple

import numpy as np


class DatasetUnavailableError(RuntimeError):
    """A data set is not on this machine and cannot be fetched."""


class Source(NamedTuple):
    """A whole data set.

    Attributes:
        x: array ``(n, ...)``.
        labels: uint8 array ``(n, classes)``, values in {0, 1}.
        is_test: bool array ``(n,)``, the publisher's test split.
        class_names: tuple of str.
    """

    x: np.ndarray
    labels: np.ndarray
    is_test: np.ndarray
    class_names: tuple


def digits(data_dir=None):
    """scikit-learn's handwritten digits: 1,797 vectors of 8x8 pixels in [0, 1]."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    labels = np.eye(10, dtype=np.uint8)[y]
    names = tuple(map(str, range(10)))
    return Source((x / 16).astype(np.float32), labels, np.zeros(len(x), bool), names)


def cifar10(data_dir=None):
    """CIFAR-10 from TensorFlow Datasets: 60,000 uint8 images of 32x32x3."""
    builder = prepared("cifar10", data_dir)
    features, splits = builder.info.features, builder.info.splits
    num_train, num_test = splits["train"].num_examples, splits["test"].num_examples
    n = num_train + num_test
    x = np.empty((n, *features["image"].shape), np.uint8)
    y = np.empty(n, np.int64)
    filled = 0
    for split in ("train", "test"):
        for batch in _batches(builder, split):
            rows = slice(filled, filled + len(batch["label"]))
            x[rows], y[rows] = batch["image"], batch["label"]
            filled = rows.stop
    names = tuple(features["label"].names)
    labels = np.eye(len(names), dtype=np.uint8)[y]
    return Source(x, labels, np.arange(n) >= num_train, names)


def prepared(name, data_dir=None):
    """TensorFlow Datasets' builder of a data set, which it fetches if need be.

    Args:
        name: str, TensorFlow Datasets' name of the data set.
        data_dir: path of the folder in which it keeps its data; None for its default.

    Returns:
        `tfds.core.DatasetBuilder`, ready to be read.

    Raises:
        DatasetUnavailableError: if the data set is neither there nor to be fetched.
    """
    import requests
    import tensorflow_datasets as tfds

    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    builder = tfds.builder(name, data_dir=data_dir)
    if builder.is_prepared():
        return builder
    try:
        # Without a network TFDS goes on trying for minutes: see first if there is one.
        for url in builder.url_infos:
            requests.head(url, timeout=10)
        builder.download_and_prepare()
    # Whatever went wrong, the user needs to know what to do about it.
    except Exception as error:
        raise DatasetUnavailableError(
            f"{name} is not prepared in {builder.data_dir}, and to fetch it failed "
            f"with {type(error).__name__}: {error}\n"
            'On a machine with network run `python -c "import tensorflow_datasets as '
            f"tfds; tfds.load('{name}')\"`, then copy its folder "
            f"~/tensorflow_datasets/{name} to {builder.data_dir_root}, or pass the "
            "folder that it is in as `data_dir`."
        ) from error
    return builder


def _batches(builder, split):
    import tensorflow_datasets as tfds

    # The images are about to be held in one array: no second copy in a cache.
    config = tfds.ReadConfig(try_autocache=False)
    dataset = builder.as_dataset(split=split, batch_size=1000, read_config=config)
    return dataset.as_numpy_iterator()
