"""Protocols: which images train, which are queries, which are the database.

A protocol is a function of a data set and a seed that returns the rows of each split.
Every image has a name: the publisher's or, without one, the sha256 of its pixels.
Splits are ordered by name, and random draws take images in the order of sha256(seed and
name). A split thus depends neither on the order in which images are stored nor on the
version of any library.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer, check_number

if TYPE_CHECKING:
    from kerashash.data.sources import Source

Rows = npt.NDArray[np.int64]
#: Function of a `Source`, its rows in order of their names, and a seed; it returns the
#: rows of each split.
Split = Callable[["Source", Rows, int], dict[str, Rows]]


class Protocol(NamedTuple):
    """How a data set is split, and which of its labels are used.

    Attributes:
        split: function of a `Source`, an int array of the rows to split, in order of
            their names, and a seed; it returns a dict of int arrays, the rows of each
            split.
        columns: function of the labels ``(n, classes)`` that returns the label columns
            to use, ints. None uses all.
        labelled_only: bool; True leaves out images that have none of these labels.
            Otherwise they stay, relevant to no other image.
    """

    split: Split
    columns: Callable[[npt.NDArray[np.uint8]], Sequence[int] | Rows] | None = None
    labelled_only: bool = False

    def apply(self, source: "Source", seed: int) -> "tuple[Source, dict[str, Rows]]":
        """Return the data set with the labels of the protocol, and its splits."""
        if self.columns is not None:
            columns = self.columns(source.labels)
            source = source._replace(
                labels=source.labels[:, columns],
                class_names=tuple(source.class_names[c] for c in columns),
            )
        rows = np.arange(len(source.labels))
        if self.labelled_only:
            rows = rows[source.labels.any(axis=1)]
        return source, self.split(source, canonical_order(source, rows), seed)


def most_frequent(labels: npt.NDArray[np.integer], k: int) -> Rows:
    """Return the k most frequent labels, as is customary for NUS-WIDE's concepts.

    Args:
        labels: array ``(n, num_classes)``, values in {0, 1}.
        k: int, 1 to num_classes.

    Returns:
        int array ``(k,)`` of columns, the most frequent first; of equally frequent
        columns the lowest first.

    Raises:
        TypeError, ValueError: if `k` is not an integer or out of range.

    Example:
        >>> most_frequent(np.array([[0, 1, 1], [0, 0, 1]]), k=2)
        array([2, 1])
    """
    check_integer("k", k, most=labels.shape[1])
    counts = labels.sum(axis=0, dtype=np.int64)
    return np.argsort(-counts, kind="stable")[:k]


def pixel_names(x: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    """Name images that have no names by the sha256 of their pixels, str ``(n,)``."""
    return np.array([hashlib.sha256(row.tobytes()).hexdigest() for row in x])


def canonical_order(source: "Source", rows: Rows) -> Rows:
    """Sort rows by name; equal images by their first label."""
    return rows[np.lexsort((source.labels[rows].argmax(axis=1), source.names[rows]))]


def shuffled(source: "Source", rows: Rows, seed: int) -> Rows:
    """Sort rows by sha256(seed and name)."""
    names = source.names[rows]
    keys = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names]
    order = sorted(zip(keys, rows.tolist(), strict=True))
    return np.array([row for _, row in order], np.int64)


def draw(source: "Source", rows: Rows, per_class: int, seed: int) -> tuple[Rows, Rows]:
    """Draw rows of each class, without replacement.

    Class by class, in order of the label columns: the first `per_class` rows, in
    shuffled order, that have the label and are not drawn yet.

    Args:
        source: `Source`.
        rows: int array, the rows to draw from.
        per_class: int; how many to draw for each class, or all if it has fewer.
        seed: int.

    Returns:
        ``(drawn, rest)``: int arrays, each in the order of `rows`.
    """
    order = shuffled(source, rows, seed)
    labels = source.labels[order] > 0
    taken = np.zeros(len(order), bool)
    for label in labels.T:
        taken[np.flatnonzero(label & ~taken)[:per_class]] = True
    return partition(rows, order[taken])


def partition(rows: Rows, drawn: Rows) -> tuple[Rows, Rows]:
    """Return the rows that are drawn and the rest, each in the order of `rows`."""
    taken = np.isin(rows, drawn)
    return rows[taken], rows[~taken]


def official(source: "Source", rows: Rows, seed: int) -> dict[str, Rows]:
    """Split as the publisher does: its training images train and are the database, its
    test images are the queries. The seed has no effect."""
    train, query = rows[~source.is_test[rows]], rows[source.is_test[rows]]
    return {"train": train, "query": query, "database": train}


def drawn(queries: int, train: int | None = None, unlabelled: bool = False) -> Split:
    """Draw queries by class; the rest is the database, and the training images are
    drawn from it by class.

    Args:
        queries: int; the number of queries of each class.
        train: int or None; the number of training images of each class. None trains on
            the whole database.
        unlabelled: bool; whether the rest of the database trains without labels.

    Returns:
        `split` of a `Protocol`.
    """

    def split(source: "Source", rows: Rows, seed: int) -> dict[str, Rows]:
        query, database = draw(source, rows, queries, seed)
        splits = {"query": query, "database": database, "train": database}
        if train is not None:
            splits["train"], rest = draw(source, database, train, seed)
            if unlabelled:
                splits["unlabelled"] = rest
        return splits

    return split


def with_validation(
    source: "Source", splits: dict[str, Rows], share: float, seed: int
) -> dict[str, Rows]:
    """Draw a share of each class of the training images as validation images.

    They train no longer. All else stays: in the database they are still found.

    Args:
        source: `Source`.
        splits: dict of int arrays, the rows of each split.
        share: float in [0, 1); 0 draws none.
        seed: int.

    Returns:
        dict of int arrays.

    Raises:
        TypeError, ValueError: if the share is out of range, draws no image or all of
            them, or the protocol has validation images of its own.
    """
    check_share("validation", share)
    if not share:
        return splits
    if "validation" in splits:
        raise ValueError(
            "`validation` must be 0 for a protocol that has validation images. "
            f"Received: {share}."
        )
    parts = stratified(share)(source, splits["train"], seed)
    if not len(parts["query"]) or not len(parts["train"]):
        raise ValueError(
            "`validation` must leave training images and draw others. Received: "
            f"{share} of {len(splits['train'])} training images."
        )
    return {**splits, "train": parts["train"], "validation": parts["query"]}


def check_share(name: str, share: float) -> None:
    """Check that an argument is a share of rows, a number in [0, 1)."""
    check_number(name, share)
    if not 0 <= share < 1:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {share!r}.")


def drawn_from_all(queries: int) -> Split:
    """Draw queries whatever their labels; the rest trains and is the database.

    Args:
        queries: int; the number of queries.

    Returns:
        `split` of a `Protocol`.
    """

    def split(source: "Source", rows: Rows, seed: int) -> dict[str, Rows]:
        query, rest = partition(rows, shuffled(source, rows, seed)[:queries])
        return {"query": query, "database": rest, "train": rest}

    return split


def three_parts(train: int, validation: int) -> Split:
    """Draw training images, which are also the database, and validation images by
    class; the rest are the queries.

    Args:
        train, validation: int; the number of images of each class.

    Returns:
        `split` of a `Protocol`.
    """

    def split(source: "Source", rows: Rows, seed: int) -> dict[str, Rows]:
        database, rest = draw(source, rows, train, seed)
        validation_rows, query = draw(source, rest, validation, seed)
        return {
            "query": query,
            "database": database,
            "train": database,
            "validation": validation_rows,
        }

    return split


def stratified(share: float) -> Split:
    """Draw the same share of each class as queries; the rest trains and is the
    database.

    Label by label, the rarest first: as many images as the share still lacks after the
    draws for earlier labels, and at least one if two or more images have the label.
    Images without labels count as one more class.

    Args:
        share: float in (0, 1).

    Returns:
        `split` of a `Protocol`.
    """

    def split(source: "Source", rows: Rows, seed: int) -> dict[str, Rows]:
        order = shuffled(source, rows, seed)
        labels = source.labels[order] > 0
        labels = np.column_stack([labels, ~labels.any(axis=1)])
        counts = labels.sum(axis=0)
        taken = np.zeros(len(order), bool)
        for c in np.argsort(counts, kind="stable"):
            target = max(round(share * counts[c]), int(counts[c] > 1))
            lacking = max(target - int(labels[taken, c].sum()), 0)
            taken[np.flatnonzero(labels[:, c] & ~taken)[:lacking]] = True
        query, rest = partition(rows, order[taken])
        return {"query": query, "database": rest, "train": rest}

    return split
