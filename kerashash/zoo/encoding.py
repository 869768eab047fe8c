"""Encode the data of an entry: to write its codes, and to compare them later.

A model without codes predicts label distributions in their place.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash import archives, files
from kerashash.checks import check_distributions, renamed
from kerashash.zoo import loading
from kerashash.zoo.entries import Entry, reading

if TYPE_CHECKING:  # they import TensorFlow
    from kerashash.data import DistributionData, RetrievalData
    from kerashash.methods import HashModel

# Another machine may round a value next to 0 to the other side, and flip its bit.
_MOST_FLIPPED_BITS = 1e-3
# Codes that are made of the data, and those that are made in training.
_ENCODED = ("query_codes", "database_codes", "validation_codes")
_CODES = (*_ENCODED, "learned_database_codes")


class Agreement(NamedTuple):
    """How far codes of one split agree with those that an entry stores.

    Attributes:
        codes: int, the number of codes.
        equal: int, how many of them are equal in all bits.
        flipped_bits: float, the share of all bits that differ.

    Example:
        >>> Agreement(codes=4, equal=3, flipped_bits=0.01).equal
        3
    """

    codes: int
    equal: int
    flipped_bits: float

    def __str__(self) -> str:
        return (
            f"{self.equal:,} of {self.codes:,} equal; {self.flipped_bits:.2%} of their "
            "bits differ"
        )


class Closeness(NamedTuple):
    """How far label distributions agree with those that an entry stores.

    Attributes:
        rows: int, the number of distributions.
        difference: float, the largest difference of two values.

    Example:
        >>> print(Closeness(rows=1500, difference=2e-7))
        1,500 rows, whose values differ by at most 2e-07
    """

    rows: int
    difference: float

    def __str__(self) -> str:
        return f"{self.rows:,} rows, whose values differ by at most {self.difference:g}"


def load_data(
    choices: Mapping[str, Any], data_dir: str | os.PathLike[str] | None
) -> Any:
    """Load the data that a card or a recipe names.

    Args:
        choices: dict, arguments of `kerashash.data.load`, or of
            `kerashash.data.from_directory` with ``folder`` in place of ``path``, in
            which the CSV file ``labels`` is.
        data_dir: path or None; as for `kerashash.data.load`. In place of ``folder``, if
            there is one.

    Returns:
        `kerashash.data.RetrievalData`, or `kerashash.data.DistributionData`.

    Raises:
        TypeError, ValueError, DatasetUnavailableError: as these two functions.

    Example:
        >>> load_data({"name": "digits"}, None).num_query
        300
    """
    from kerashash import data

    if "folder" not in choices:
        return data.load(**choices, data_dir=data_dir)
    options = {**choices}
    named = options.pop("folder")
    folder = files.as_path(data_dir or named, "data_dir")
    if "labels" in options:
        options["labels"] = folder / options["labels"]
    return data.from_directory(folder, **options)


def data_of(zoo_entry: Entry, data_dir: str | os.PathLike[str] | None) -> Any:
    """Load the data that an entry has encoded.

    Args:
        zoo_entry: `Entry`.
        data_dir: path or None; as for `load_data`.

    Returns:
        As `load_data`.

    Raises:
        ValueError: if the card does not say which data, or as `load_data`; the error
            names the card.
        TypeError, DatasetUnavailableError: as `load_data`.

    Example:
        >>> from kerashash import zoo
        >>> data_of(zoo.entry("ssdh-digits-48"), None).num_query
        300
    """
    card = zoo_entry.path / "card.json"
    if not zoo_entry.card.get("data"):
        raise ValueError(
            f"{card} does not say which data the entry has encoded, and none are given."
        )
    try:
        return load_data(zoo_entry.card["data"], data_dir)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} From {card}.") from error


def counts(data: "RetrievalData | DistributionData") -> dict[str, int]:
    """What a card says of how many rows the data of its entry have.

    Args:
        data: `kerashash.data.RetrievalData` or `kerashash.data.DistributionData`.

    Returns:
        dict of int, by ``train``, ``query`` and ``database``.

    Example:
        >>> counts(load_data({"name": "digits"}, None))
        {'train': 1497, 'query': 300, 'database': 1497}
    """
    return {
        "train": data.num_train,
        "query": data.num_query,
        "database": data.num_database,
    }


def encode_splits(
    model: "HashModel",
    data: "RetrievalData | DistributionData",
    learned: bool = False,
    verbose: str | int = "auto",
) -> dict[str, npt.NDArray[Any]]:
    """Encode queries, database and, if there are any, validation images.

    A model without codes predicts the label distributions of the queries.

    Args:
        model: `HashModel`.
        data: `kerashash.data.RetrievalData` or `kerashash.data.DistributionData`, whose
            training rows are the database.
        learned: bool; whether to add the codes that were learned in training.
        verbose: as in `HashModel.encode`.

    Returns:
        dict of arrays, the codes and labels that `kerashash.zoo.save` takes.

    Raises:
        TypeError: if the model has no codes, and the data no label distributions.
        ValueError: if the model has not learned the codes of these training rows.

    Example:
        >>> import kerashash
        >>> digits = kerashash.data.load("digits")
        >>> model = kerashash.AdaLabelHash("features", bits=12, num_classes=10)
        >>> sorted(encode_splits(model, digits, verbose=0))[:2]
        ['database_codes', 'database_labels']
    """
    if not model.has_codes:
        x, d = _queries(model, data)
        predicted = model.predict_distribution(x, verbose=verbose)
        return {"query_distributions": predicted, "query_labels": d}
    if learned:  # checked before the long encoding
        learned_codes = np.packbits(model.learned_codes() > 0, axis=1)
        rows: Any = getattr(data, "train_rows", ())  # label distributions have none
        if len(rows) != len(learned_codes):
            raise ValueError(
                "`model` must have learned the codes of the data's training rows: was "
                "it trained on other data, or under another protocol?"
            )
    codes = {}
    for split, (x, labels) in _splits(data).items():
        with renamed("x", "data"):
            made = model.encode(x, verbose=verbose, engine="tensorflow")
        codes[f"{split}_codes"] = made
        codes[f"{split}_labels"] = labels
    if learned:
        inside = rows >= 0  # training images outside the database have the row -1
        database_codes = codes["database_codes"].copy()
        database_codes[rows[inside]] = learned_codes[inside]
        codes["learned_database_codes"] = database_codes
    return codes


def compare_codes(
    name: str | os.PathLike[str],
    data: "RetrievalData | DistributionData | None" = None,
    data_dir: str | os.PathLike[str] | None = None,
    verbose: str | int = "auto",
) -> dict[str, Agreement | Closeness]:
    """Encode an entry's data again, and compare all its codes and labels.

    `verify` takes seconds and needs no data; this encodes every query and the whole
    database with the entry's model. Without codes, it predicts the label distribution
    of every query.

    Args:
        name: str, a name of `kerashash.zoo.list`, or the path of an entry's folder.
        data: `kerashash.data.RetrievalData` or `kerashash.data.DistributionData`, the
            data of the entry. None loads what the card names.
        data_dir: path or None; the folder of TensorFlow Datasets, as for
            `kerashash.data.load`. For an entry of a folder of images, that folder.
        verbose: as in `HashModel.encode`.

    Returns:
        dict of `Agreement`, for "query", "database" and, if the entry has them,
        "validation" and "learned_database"; or, of a model without codes, of
        `Closeness` for "query".

    Raises:
        TypeError, OSError, WeightsUnavailableError: as `kerashash.zoo.entry`.
        DatasetUnavailableError: if the data are not there.
        ValueError: as `kerashash.zoo.entry`; or if `data_dir` is no folder, the data
            have other rows or labels than the entry, more than a thousandth of the bits
            of a split differ, or values of label distributions by more than 1e-4.

    Example:
        >>> from kerashash import zoo
        >>> agreement = zoo.compare_codes("ssdh-digits-48", verbose=0)["query"]
        >>> agreement.codes, agreement.flipped_bits < 0.001
        (300, True)
    """
    check_data_dir(data_dir)
    if data is not None:
        from kerashash.data import DistributionData, RetrievalData

        if not isinstance(data, RetrievalData | DistributionData):
            raise TypeError(
                "`data` must be a RetrievalData or a DistributionData. Received type: "
                f"{type(data).__name__}."
            )

    def parts(
        found: Entry,
    ) -> tuple[Entry, "HashModel", dict[str, npt.NDArray[Any]]]:
        stored = archives.read_npz(found.path / "codes.npz")
        return found, loading.build_model(found), stored

    found, model, stored = reading(name, parts)
    loading.warn_of_surrogate(found)
    return compare_with_data(found, model, stored, data, data_dir, verbose)


def check_data_dir(data_dir: str | os.PathLike[str] | None) -> None:
    """Check that the folder of an entry's data is there.

    Args:
        data_dir: path, or None for the usual folder.

    Raises:
        TypeError: if it is no path.
        ValueError: if it is no folder.

    Example:
        >>> check_data_dir(None)
    """
    if data_dir is not None and not files.as_path(data_dir, "data_dir").is_dir():
        raise ValueError(
            "`data_dir` must be a folder. Received: "
            f"data_dir={os.fspath(data_dir)!r}, which is none."
        )


def compare_with_data(
    zoo_entry: Entry,
    model: "HashModel",
    stored: Mapping[str, npt.NDArray[Any]],
    data: "RetrievalData | DistributionData | None",
    data_dir: str | os.PathLike[str] | None,
    verbose: str | int,
) -> dict[str, Agreement | Closeness]:
    """Compare all codes of an entry that has been found.

    Args:
        zoo_entry: `Entry`.
        model: `HashModel` of the entry.
        stored: dict of arrays, those of the entry's codes.npz.
        data, data_dir, verbose: as for `compare_codes`.

    Returns:
        As `compare_codes`.

    Raises:
        TypeError, OSError, ValueError, DatasetUnavailableError: as `compare_codes`.
    """
    _, path, card = zoo_entry
    file = path / "codes.npz"
    if data is None:
        data = data_of(zoo_entry, data_dir)
    if "query_distributions" in stored:
        return {"query": _compare_distributions(zoo_entry, stored, model, data)}
    # The labels of a surrogate are those of another data set.
    surrogate = card.get("surrogate", False)
    for split, (_, labels) in _splits(data).items():
        stored_labels = stored.get(f"{split}_labels", labels)
        if stored_labels.shape[:1] != (len(labels),) or not (
            surrogate or np.array_equal(stored_labels, labels)
        ):
            raise ValueError(
                f"`data` must be those of the entry. Received other {split} rows or "
                f"labels than {file} holds."
            )
    learned = "learned_database_codes" in stored and not surrogate
    made = {f"{split}_codes" for split in _splits(data)}
    made |= {"learned_database_codes"} if learned else set()
    # Those of label rows, which a surrogate has as well, belong to no data.
    there = {key for key in stored if key in _CODES and (learned or key in _ENCODED)}
    if not {"query_codes", "database_codes"} <= there <= made:
        raise ValueError(
            f"{file} must hold the codes of the data's splits, {sorted(made)}. "
            f"Received: {sorted(there)}."
        )
    codes = encode_splits(model, data, learned, verbose)
    agreements: dict[str, Agreement | Closeness] = {}
    for key in sorted(there):
        split = key.removesuffix("_codes")
        if stored[key].shape != codes[key].shape or stored[key].dtype != np.uint8:
            raise ValueError(
                f"{file} must hold codes of shape {codes[key].shape}, uint8. Received "
                f"{key} of shape {stored[key].shape}, {stored[key].dtype}."
            )
        different = stored[key] ^ codes[key]
        n = len(different)
        flipped = int(np.unpackbits(different).sum()) / (n * model.bits)
        equal = int((~different.any(axis=1)).sum())
        if flipped > _MOST_FLIPPED_BITS:
            raise ValueError(
                f"{file} must hold the codes that the model gives. Received: {equal:,} "
                f"of {n:,} {split} codes that are equal; {flipped:.2%} of their bits "
                "differ."
            )
        agreements[split] = Agreement(n, equal, flipped)
    return agreements


def _queries(
    model: "HashModel", data: "RetrievalData | DistributionData"
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The queries and their label distributions, for a model without codes."""
    from kerashash.data import DistributionData

    if not isinstance(data, DistributionData):
        raise TypeError(
            "`data` must be of label distributions, as `model` has no codes. Received: "
            f"{type(data).__name__} and {type(model).__name__}."
        )
    return data.x_query, data.d_query


def _compare_distributions(
    zoo_entry: Entry,
    stored: Mapping[str, npt.NDArray[Any]],
    model: "HashModel",
    data: "RetrievalData | DistributionData",
) -> Closeness:
    """Compare the label distributions that an entry stores with those of its model."""
    file = zoo_entry.path / "codes.npz"
    if model.has_codes:
        raise ValueError(
            f"{file} must hold codes, as the model does. Received: {sorted(stored)}."
        )
    x, d = _queries(model, data)
    of_entry = check_distributions(
        stored["query_distributions"], name=f"{file}, query_distributions"
    )
    true = stored.get("query_labels", np.empty(0))
    if not np.array_equal(true, d) or of_entry.shape != d.shape:
        raise ValueError(
            "`data` must be those of the entry. Received other query rows or labels "
            f"than {file} holds."
        )
    predicted = model.predict_distribution(x, verbose=0)
    closeness = Closeness(len(d), float(np.abs(predicted - of_entry).max()))
    if not closeness.difference <= loading.MOST_DIFFERENCE:
        raise ValueError(
            f"{file} must hold the label distributions that the model gives. Received "
            f"{closeness}."
        )
    return closeness


def _splits(
    data: "RetrievalData | DistributionData",
) -> dict[str, tuple[Any, npt.NDArray[Any]]]:
    """The inputs and labels of the splits whose codes an entry stores."""
    from kerashash.data import DistributionData

    if isinstance(data, DistributionData):
        return {
            "query": (data.x_query, data.d_query),
            "database": (data.x_train, data.d_train),
        }
    return {
        split: (getattr(data, split), data.labels[data.splits[split]])
        for split in ("query", "database", "validation")
        if split in data.splits
    }
