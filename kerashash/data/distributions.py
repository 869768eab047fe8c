"""Data sets of label distribution learning."""

import csv
import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash import archives, files
from kerashash.checks import check_integer, check_number
from kerashash.data import protocols
from kerashash.data.sources import DatasetUnavailableError, prepared, reading

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
        >>> data
        DistributionData(train=2, query=1, validation=0, dim=5, num_classes=2)
    """

    x_train: npt.NDArray[np.float32]
    d_train: npt.NDArray[np.float32]
    x_query: npt.NDArray[np.float32]
    d_query: npt.NDArray[np.float32]
    x_validation: npt.NDArray[np.float32] | None = None
    d_validation: npt.NDArray[np.float32] | None = None

    def __repr__(self) -> str:
        validation = 0 if self.d_validation is None else len(self.d_validation)
        return (
            f"{type(self).__name__}(train={self.num_train}, query={self.num_query}, "
            f"validation={validation}, dim={self.x_train.shape[1]}, "
            f"num_classes={self.num_classes})"
        )

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
    name: str | os.PathLike[str] | tuple[npt.ArrayLike, npt.ArrayLike],
    seed: int = 0,
    query_share: float = 0.1,
    data_dir: str | os.PathLike[str] | None = None,
    validation: float = 0.0,
    num_classes: int | None = None,
) -> DistributionData:
    """Load features and label distributions, split at random.

    Args:
        name: str, path or pair of arrays; one of

            - `kerashash.data.distributions.NAMES`, which is read through TensorFlow
              Datasets;
            - the path of a .mat file as published, or of an .npz file, with the arrays
              ``features`` ``(n, dim)`` and ``labels`` ``(n, num_classes)``;
            - the path of a .csv file of numbers, whose last `num_classes` columns are
              the label distribution and the others features. A first line without any
              number is a header;
            - the two arrays ``(features, labels)``.

            ``~`` is the home folder.
        seed: int; the seed of the split.
        query_share: float in (0, 1); the share of the rows that become queries. Their
            number is rounded down.
        data_dir: path or None, as for `kerashash.data.load`.
        validation: float in [0, 1); the share of the training rows that are set apart,
            to choose options on. Their number is rounded down.
        num_classes: int or None; for a .csv file, the number of its label columns.

    Returns:
        `DistributionData`.

    Raises:
        DatasetUnavailableError: if the data set is not there or damaged; the error says
            what to do.
        TypeError, ValueError: if the file lacks an array or holds invalid values, or an
            argument is wrong.

    Example:
        >>> import kerashash, scipy.io
        >>> arrays = {"features": np.ones((20, 3)), "labels": np.full((20, 2), 0.5)}
        >>> scipy.io.savemat("tiny.mat", arrays)
        >>> data = kerashash.data.load_distributions("tiny.mat")
        >>> data.x_train.shape, data.d_query.shape
        ((18, 3), (2, 2))
        >>> pair = (arrays["features"], arrays["labels"])
        >>> kerashash.data.load_distributions(pair).x_train.shape
        (18, 3)
    """
    from kerashash.data.builders import ldl

    check_integer("seed", seed, least=0)
    check_number("query_share", query_share)
    if not 0 < query_share < 1:
        raise ValueError(f"`query_share` must be in (0, 1). Received: {query_share}.")
    protocols.check_share("validation", validation)
    if data_dir is not None:
        files.path_text(data_dir, "data_dir")  # a check: it may be a URL
    if isinstance(name, tuple | list):
        if len(name) != 2:
            raise ValueError(
                "`name` must be a pair of arrays (features, labels), a name or a path. "
                f"Received {len(name)} parts."
            )
        x, d = ldl.checked({"features": name[0], "labels": name[1]}, "`name`")
        return _split(x, d, seed, query_share, validation)
    path = str(files.as_path(name, "name"))
    if name in NAMES:
        builder = prepared(f"ldl/{name}", data_dir)
        with reading(f"ldl/{name}", builder.data_dir):
            rows = builder.as_dataset("train", batch_size=-1)
            x, d = rows["features"].numpy(), rows["distribution"].numpy()
    elif os.path.isfile(path):
        if path.lower().endswith(".npz"):
            x, d = ldl.checked(archives.read_npz(path), path)
        elif path.lower().endswith(".csv"):
            x, d = ldl.checked(_read_csv(path, num_classes), path)
        else:
            x, d = ldl.read_mat(path)
    else:
        fault = f"There is no file {path}"
        if os.path.exists(path):
            fault = f"{path} is no regular file"
        raise DatasetUnavailableError(
            f"{fault}. Pass the path of a .mat or .npz file with the arrays `features` "
            f"and `labels`, or of a .csv file, or one of {NAMES}."
        )
    return _split(x, d, seed, query_share, validation)


def _read_csv(path: str, num_classes: int | None) -> dict[str, npt.NDArray[Any]]:
    """Read a table of features and, in the last columns, label distributions."""
    if num_classes is None:
        raise ValueError(
            f"`num_classes` must be the number of label columns of {path}, which are "
            "its last. Received: None."
        )
    check_integer("num_classes", num_classes)
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file)
        try:
            lines = [(reader.line_num, line) for line in reader if line]
        except csv.Error as error:
            raise ValueError(
                f"{path} must be a CSV file. Received: {error}."
            ) from error
    # Without any number: a row of which one is missing is no header.
    if lines and not any(map(_is_number, lines[0][1])):
        del lines[0]
    rows: list[list[float]] = []
    for number, line in lines:
        for cell in line:
            if not _is_number(cell):
                raise ValueError(
                    f"{path} must hold numbers, below a line of names or none. Received"
                    f" in line {number}: {cell!r:.99}."
                )
        rows.append([float(cell) for cell in line])
        if len(line) != len(rows[0]):
            raise ValueError(
                f"{path} must hold numbers, as many in each line. Received in line "
                f"{number}: {len(line)}; before: {len(rows[0])}."
            )
    table = np.array(rows)
    if table.ndim != 2 or table.shape[1] <= num_classes:
        raise ValueError(
            f"{path} must have more than num_classes={num_classes} columns and at least"
            f" one row. Received a table of shape {table.shape}."
        )
    return {"features": table[:, :-num_classes], "labels": table[:, -num_classes:]}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # as in Python, where 1_5 is 15


def _split(
    x: npt.NDArray[np.float32],
    d: npt.NDArray[np.float32],
    seed: int,
    query_share: float,
    validation: float,
) -> DistributionData:
    """Draw the queries, and validation rows of the others, at random."""
    if not x.shape[1]:
        raise ValueError(
            f"`name` must have one or more features. Received: {x.shape[1]} of "
            f"{len(x)} rows."
        )
    order = np.random.default_rng(seed).permutation(len(x))
    queries = int(query_share * len(x))
    train, query = order[queries:], order[:queries]
    if not len(query) or not len(train):
        raise ValueError(
            "`query_share` must draw a row, and leave one. Received: "
            f"query_share={query_share} of {len(x)} rows."
        )
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
