"""Sources: all images of a data set, with its labels and the publisher's splits."""

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash.data.images import EncodedImages
from kerashash.data.progress import progress
from kerashash.data.protocols import pixel_names
from kerashash.data.retrieval_data import RetrievalData

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Records that are read at a time.
_BLOCK = 256


# TensorFlow Datasets knows them once the data are prepared.
_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


class DatasetUnavailableError(RuntimeError):
    """A data set is not on this machine and cannot be downloaded, or is damaged."""


class Source(NamedTuple):
    """A whole data set.

    Attributes:
        x: array ``(n, ...)`` or `EncodedImages`.
        labels: uint8 array ``(n, classes)``, values in {0, 1}.
        is_test: bool array ``(n,)``, the publisher's test split.
        class_names: tuple of str, in order of the label columns.
        names: str array ``(n,)``, the names of the images.
        missing: int; how many images of the published data set are missing.
    """

    x: npt.NDArray[Any] | EncodedImages
    labels: npt.NDArray[np.uint8]
    is_test: npt.NDArray[np.bool_]
    class_names: tuple[str, ...]
    names: npt.NDArray[np.str_]
    missing: int = 0

    def retrieval_data(
        self, name: str, protocol: str, seed: int, splits: dict[str, npt.NDArray[Any]]
    ) -> RetrievalData:
        """The data set under a protocol that has cut it into splits."""
        return RetrievalData(
            name=name,
            protocol=protocol,
            seed=seed,
            class_names=self.class_names,
            splits=splits,
            x=self.x,
            labels=self.labels,
            names=self.names,
        )


def known_class_names(name: str) -> tuple[str, ...]:
    """Name the classes of a data set of images without reading it.

    Args:
        name: str; one of `kerashash.data.list`.

    Returns:
        tuple of str, in order of the label columns under a protocol with all labels;
        empty if they are not known.

    Example:
        >>> known_class_names("cifar10")[3]
        'cat'
    """
    from kerashash.data import builders

    return {
        "digits": tuple(map(str, range(10))),
        "cifar10": _CIFAR10,
        "mirflickr25k": builders.mirflickr25k.LABELS,
        "nus_wide": builders.nus_wide.CONCEPTS,
        "flowers17": builders.flowers17.CLASSES,
    }.get(name, ())


def digits(data_dir: str | os.PathLike[str] | None = None) -> Source:
    """scikit-learn's handwritten digits: 1,797 vectors of 8x8 pixels in [0, 1]."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    labels = np.eye(10, dtype=np.uint8)[y]
    class_names = tuple(map(str, range(10)))
    return Source(x, labels, np.zeros(len(x), bool), class_names, pixel_names(x))


def cifar10(data_dir: str | os.PathLike[str] | None = None) -> Source:
    """CIFAR-10 from TensorFlow Datasets: 60,000 uint8 images of 32x32x3."""
    builder = prepared("cifar10", data_dir)
    features, splits = builder.info.features, builder.info.splits
    with reading("cifar10", builder.data_dir):
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
    class_names = tuple(features["label"].names)
    labels = np.eye(len(class_names), dtype=np.uint8)[y]
    return Source(x, labels, np.arange(n) >= num_train, class_names, pixel_names(x))


def photographs(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    allow_missing: bool = False,
    fit: str | None = None,
) -> Source:
    """A data set of `kerashash.data.builders`, with its images left encoded.

    Args:
        name: str; "mirflickr25k", "nus_wide" or "flowers17".
        data_dir: path or None, as for `prepared`.
        image_size, fit: as of `EncodedImages`.
        allow_missing: bool; whether to accept a data set with missing images.

    Returns:
        `Source` without the missing images; a `UserWarning` says how many they are.
    """
    import tensorflow_datasets as tfds

    builder = prepared(
        name, data_dir, file_format="array_record", allow_missing=allow_missing
    )
    folder = builder.data_dir
    features = builder.info.features
    label_key = "label" if "label" in features else "labels"
    label = features[label_key]
    class_names = tuple((label if label_key == "label" else label.feature).names)
    splits = [split for split in ("train", "test") if split in builder.info.splits]
    skip = {"image": tfds.decode.SkipDecoding()}
    with reading(name, folder):
        parts = [builder.as_data_source(split, decoders=skip) for split in splits]
        starts = np.cumsum([0, *map(len, parts)])
        n = int(starts[-1])
        metadata = builder.info.metadata or {}
        expected, missing = metadata.get("expected"), metadata.get("missing")
        if not isinstance(missing, int) or n + missing != expected:
            raise ValueError(
                "metadata.json must say how many images there are. Received: "
                f"expected={expected!r}, missing={missing!r}; there are {n}"
            )
    if missing:
        warnings.warn(
            f"{name}: {missing:,} of {expected:,} images are missing. Results are not "
            "comparable to those on the whole data set.",
            stacklevel=4,
        )

    records = _Records(name, folder, parts, starts)
    labels, names = np.zeros((n, len(class_names)), np.uint8), []
    blocks = np.split(np.arange(n), range(_BLOCK, n, _BLOCK))
    for rows in progress(blocks, n, f"Reading the labels of {name}"):
        for row, record in zip(rows, records.at(rows), strict=True):
            labels[row, record[label_key]] = 1
            key = record["id"]
            names.append(key.decode() if isinstance(key, bytes) else str(key))

    # The size too: copies with the same names may hold images of another resolution.
    stamp = f"{builder.info.dataset_size} {names}"
    return Source(
        EncodedImages(records.read, n, image_size, stamp, fit, names),
        labels,
        np.repeat([split == "test" for split in splits], [*map(len, parts)]),
        class_names,
        np.array(names),
        missing,
    )


class _Records(NamedTuple):
    """The records of a prepared data set; a class, so that it can be pickled.

    Attributes:
        name: str; the name of the data set.
        folder: path of the folder in which it is prepared.
        parts: list of TensorFlow Datasets' data sources, of records left encoded.
        starts: int array ``(parts + 1,)``; the first row of each part, and the number
            of all rows.
    """

    name: str
    folder: str | os.PathLike[str]
    parts: list[Any]
    starts: npt.NDArray[np.int64]

    def at(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Read the records of ascending rows, one call for each part."""
        part = np.searchsorted(self.starts, rows, "right") - 1
        found: list[dict[str, Any]] = []
        with reading(self.name, self.folder):
            for p in np.unique(part):
                own = (rows[part == p] - self.starts[p]).tolist()
                found += self.parts[p].__getitems__(own)
            # A file that is cut while it is open gives records without content.
            if any(record["image"] is None for record in found):
                raise EOFError("records are empty")
        return found

    def read(self, rows: npt.NDArray[np.int64]) -> list[bytes]:
        """The contents of the image files of rows in any order."""
        # `at` needs ascending rows: sort them, then restore their order.
        order = np.argsort(rows, kind="stable")
        files = [record["image"] for record in self.at(np.asarray(rows)[order])]
        return [files[position] for position in np.argsort(order, kind="stable")]


def prepared(
    name: str, data_dir: str | os.PathLike[str] | None = None, **options: Any
) -> "tfds.core.DatasetBuilder":
    """Return TensorFlow Datasets' builder of a data set, prepared if need be.

    Args:
        name: str; TensorFlow Datasets' name of the data set.
        data_dir: path or None; the folder of the prepared data sets. None is the
            default of TensorFlow Datasets.
        **options: further arguments of `tfds.builder`.

    Returns:
        `tfds.core.DatasetBuilder`, ready to be read.

    Raises:
        DatasetUnavailableError: if the data set is not there and cannot be downloaded,
            or what is there cannot be read.
    """
    import requests
    import tensorflow_datasets as tfds

    from kerashash.data import builders  # noqa: F401, registers them

    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir, **options)
    # Of a damaged file: errors of TFDS, of protobuf, of json.
    except Exception as error:
        folder = _folder(name, data_dir, options)
        if not (isinstance(error, ValueError) and "File format" in str(error)):
            raise _unreadable(name, folder, error) from error
        raise DatasetUnavailableError(
            f"{name} has been prepared in {folder} in a format for sequential reading; "
            "rows are read in any order, which needs the format array_record. Remove "
            "that folder, and `kerashash.data.load` prepares the data set anew."
        ) from error
    if builder.is_prepared():
        return _with_splits(name, builder)
    try:
        # Without a network, TensorFlow Datasets retries for minutes: fail at once.
        for url in builder.url_infos or ():
            requests.head(url, timeout=10)
        builder.download_and_prepare()
    # Whatever the error is, tell the user what to do about it.
    except Exception as error:
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise DatasetUnavailableError(
                f"{name} is not prepared in {builder.data_dir}, and preparing it "
                f"failed with {type(error).__name__}: {error}"
            ) from error
        raise DatasetUnavailableError(
            f"{name} is not prepared in {builder.data_dir}, and downloading it failed "
            f"with {type(error).__name__}: {error}\n"
            'On a machine with network run `python -c "import tensorflow_datasets as '
            f"tfds; tfds.load('{name}')\"`, then copy its folder "
            f"~/tensorflow_datasets/{name} to {builder.data_dir_root}, or pass the "
            "folder that it is in as `data_dir`."
        ) from error
    return _with_splits(name, builder)


@contextlib.contextmanager
def reading(name: str, folder: str | os.PathLike[str]) -> Iterator[None]:
    """Name a prepared data set that cannot be read in a block.

    Args:
        name: str; the name of the data set.
        folder: path of the folder in which it is prepared.

    Raises:
        DatasetUnavailableError: in place of any error but one of memory.

    Example:
        >>> with reading("flowers17", "/data/flowers17/complete/1.0.0"):
        ...     raise EOFError("a truncated record")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        kerashash.data.sources.DatasetUnavailableError: flowers17 cannot be read ...
    """
    try:
        yield
    except (DatasetUnavailableError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(name, folder, error) from error


def _unreadable(
    name: str, folder: str | os.PathLike[str], error: Exception
) -> DatasetUnavailableError:
    """An error that names the folder, the reason in one line, and the remedy."""
    cause: BaseException = error
    while cause.__cause__ is not None:  # the innermost: TFDS puts its arguments before
        cause = cause.__cause__
    # Without the names of TensorFlow's operations.
    text = re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", str(cause)).strip()
    line = next(iter(text.splitlines()), "").rstrip(".")
    return DatasetUnavailableError(
        f"{name} cannot be read from {os.fspath(folder)}: {type(cause).__name__}: "
        f"{line:.200}. If it is damaged, remove that folder, and "
        "`kerashash.data.load` prepares the data set anew."
    )


def _folder(
    name: str, data_dir: str | os.PathLike[str] | None, options: dict[str, Any]
) -> str:
    """The folder of a prepared data set of which no builder can be made."""
    import tensorflow_datasets as tfds

    root = os.path.expanduser(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    )
    with tempfile.TemporaryDirectory() as empty:
        folder = tfds.builder(name, data_dir=empty, **options).data_dir
        return os.path.join(root, os.path.relpath(folder, empty))


def _with_splits(
    name: str, builder: "tfds.core.DatasetBuilder"
) -> "tfds.core.DatasetBuilder":
    """The builder, unless what it describes has no examples."""
    with reading(name, builder.data_dir):
        if not builder.info.splits:
            raise ValueError("dataset_info.json is missing or names no splits")
    return builder


def _batches(
    builder: "tfds.core.DatasetBuilder", split: str
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Iterate over a split in batches of NumPy arrays."""
    import tensorflow_datasets as tfds

    # The images are copied into one array: a cache of them would double the memory.
    config = tfds.ReadConfig(try_autocache=False)
    dataset = builder.as_dataset(split=split, batch_size=1000, read_config=config)
    return dataset.as_numpy_iterator()
