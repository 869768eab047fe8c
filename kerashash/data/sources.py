"""Where data sets come from: all images of one, with labels and official splits."""

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
    import tensorflow_datasets as tfds

    try:
        splits, info = tfds.load(
            "cifar10",
            split=["train", "test"],
            batch_size=-1,
            data_dir=data_dir,
            with_info=True,
        )
    # Whatever goes wrong in fetching, the user needs to know what to do instead.
    except Exception as error:
        where = data_dir or "TFDS_DATA_DIR, or ~/tensorflow_datasets"
        raise DatasetUnavailableError(
            "cifar10 is not prepared on this machine and could not be fetched "
            f"({type(error).__name__}). Looked in: {where}. On a machine with network "
            'run `python -c "import tensorflow_datasets as tfds; '
            "tfds.load('cifar10')\"`, copy its tensorflow_datasets/cifar10 folder "
            "there, or pass the folder that holds it as `data_dir`."
        ) from error
    train, test = tfds.as_numpy(splits)
    y = np.concatenate([train["label"], test["label"]])
    return Source(
        np.concatenate([train["image"], test["image"]]),
        np.eye(10, dtype=np.uint8)[y],
        np.arange(len(y)) >= len(train["label"]),
        tuple(info.features["label"].names),
    )
