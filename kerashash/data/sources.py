"""Where data sets come from: all images of one, with labels and official splits."""

import os
import warnings
from typing import NamedTuple

import numpy as np

from kerashash.data.images import EncodedImages
from kerashash.data.inputs import progress
from kerashash.data.protocols import pixel_names

# Records of a data set read at a time.
_BLOCK = 256


class DatasetUnavailableError(RuntimeError):
    """A data set is not on this machine and cannot be fetched."""


class Source(NamedTuple):
    """A whole data set.

    Attributes:
        x: array ``(n, ...)`` or `EncodedImages`.
        labels: uint8 array ``(n, classes)``, values in {0, 1}.
        is_test: bool array ``(n,)``, the publisher's test split.
        class_names: tuple of str.
        names: str array ``(n,)``, of the images.
        missing: int, how many images of the data set are not in it.
    """

    x: np.ndarray
    labels: np.ndarray
    is_test: np.ndarray
    class_names: tuple
    names: np.ndarray
    missing: int = 0


def digits(data_dir=None):
    """scikit-learn's handwritten digits: 1,797 vectors of 8x8 pixels in [0, 1]."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    labels = np.eye(10, dtype=np.uint8)[y]
    names = tuple(map(str, range(10)))
    return Source(x, labels, np.zeros(len(x), bool), names, pixel_names(x))


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
    return Source(x, labels, np.arange(n) >= num_train, names, pixel_names(x))


def photographs(name, data_dir=None, image_size=None, allow_missing=False):
    """A data set of `kerashash.data.builders`, its images left encoded.

    Args:
        name: str, "mirflickr25k", "nus_wide" or "flowers17".
        data_dir: path, as in `prepared`.
        image_size: int or None for 224.
        allow_missing: bool, whether a data set of which images are missing will do.

    Returns:
        `Source`. Missing images are not in it; a `UserWarning` says how many.
    """
    import tensorflow_datasets as tfds

    builder = prepared(
        name, data_dir, file_format="array_record", allow_missing=allow_missing
    )
    missing = builder.info.metadata["missing"]
    if missing:
        expected = builder.info.metadata["expected"]
        warnings.warn(
            f"{name}: {missing:,} of {expected:,} images are missing. Results are not "
            "comparable to those on all of them.",
            stacklevel=4,
        )
    features = builder.info.features
    single = "label" in features
    classes = tuple((features["label"] if single else features["labels"].feature).names)
    splits = [split for split in ("train", "test") if split in builder.info.splits]
    skip = {"image": tfds.decode.SkipDecoding()}
    parts = [builder.as_data_source(split, decoders=skip) for split in splits]
    starts = np.cumsum([0, *map(len, parts)])
    n = int(starts[-1])

    def records(rows):
        part = np.searchsorted(starts, rows, "right") - 1
        return [
            record
            for p in np.unique(part)
            for record in parts[p].__getitems__((rows[part == p] - starts[p]).tolist())
        ]

    def read(rows):
        # Sorted for the sake of `records`, and back.
        order = np.argsort(rows, kind="stable")
        found = [record["image"] for record in records(np.asarray(rows)[order])]
        return [found[position] for position in np.argsort(order, kind="stable")]

    labels, names = np.zeros((n, len(classes)), np.uint8), []
    blocks = np.split(np.arange(n), range(_BLOCK, n, _BLOCK))
    for rows in progress(blocks, len(blocks), f"Reading the labels of {name}"):
        for row, record in zip(rows, records(rows), strict=True):
            labels[row, record["label" if single else "labels"]] = 1
            key = record["id"]
            names.append(key.decode() if isinstance(key, bytes) else str(key))

    # The same names may be copies of another size.
    stamp = f"{builder.info.dataset_size} {names}"
    return Source(
        EncodedImages(read, n, image_size or 224, stamp),
        labels,
        np.repeat([split == "test" for split in splits], [*map(len, parts)]),
        classes,
        np.array(names),
        missing,
    )


def prepared(name, data_dir=None, **options):
    """TensorFlow Datasets' builder of a data set, which it fetches if need be.

    Args:
        name: str, TensorFlow Datasets' name of the data set.
        data_dir: path of the folder in which it keeps its data; None for its default.
        **options: further arguments of `tfds.builder`.

    Returns:
        `tfds.core.DatasetBuilder`, ready to be read.

    Raises:
        DatasetUnavailableError: if the data set is neither there nor to be fetched.
    """
    import requests
    import tensorflow_datasets as tfds

    from kerashash.data import builders  # noqa: F401, registers ours

    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir, **options)
    except ValueError as error:
        if "File format" not in str(error):
            raise
        folder = tfds.builder(name, data_dir=data_dir).data_dir
        raise DatasetUnavailableError(
            f"{name} has been prepared as a sequence of records in {folder}; rows in "
            "any order need the file format array_record. Remove that folder, and "
            "`kerashash.data.load` prepares the data set anew."
        ) from error
    if builder.is_prepared():
        return builder
    try:
        # Without a network TFDS goes on trying for minutes: see first if there is one.
        for url in builder.url_infos or ():
            requests.head(url, timeout=10)
        builder.download_and_prepare()
    # Whatever went wrong, the user needs to know what to do about it.
    except Exception as error:
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise DatasetUnavailableError(
                f"{name} is not prepared in {builder.data_dir}, and to do so failed "
                f"with {type(error).__name__}: {error}"
            ) from error
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
