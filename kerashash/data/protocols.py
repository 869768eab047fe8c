"""Protocols: which images train, which are queries, which are the database.

A protocol splits a data set by a function of the data set and a seed. Images have
names: the publisher's, or the sha256 of the pixels where there are none. Every split is
ordered by name, and what has to be drawn is drawn in the order of sha256(seed and
name): the same split comes out whatever the order in which the images were stored, and
whatever the version of any library.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kerashash.checks import check_integer


class Protocol(NamedTuple):
    """How a data set is used.

    Attributes:
        split: function of a `Source`, its rows that count in order of their names, and
            a seed; returns a dict of int arrays, the rows of each split.
        columns: function of the labels ``(n, classes)``; returns the int columns that
            count. None is all.
        labelled_only: bool; True leaves images out that have none of these labels.
            Otherwise they are relevant to nothing.
    """

    split: Callable
    columns: Callable | None = None
    labelled_only: bool = False

    def apply(self, source, seed):
        """The data set with the labels that count, and its splits."""
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


def most_frequent(labels, k):
    """The k labels that most images have, the customary choice of NUS-WIDE's concepts.

    Args:
        labels: array ``(n, num_classes)``, values in {0, 1}.
        k: int, 1 to num_classes.

    Returns:
        int array ``(k,)`` of columns, the most frequent first; of columns equally
        frequent the lower one.

    Raises:
        TypeError, ValueError: if `k` is wrong.

    Example:
        >>> most_frequent(np.array([[0, 1, 1], [0, 0, 1]]), k=2)
        array([2, 1])
    """
    check_integer("k", k, most=labels.shape[1])
    counts = labels.sum(axis=0, dtype=np.int64)
    return np.argsort(-counts, kind="stable")[:k]


def pixel_names(x):
    """Names of images that have none: sha256 of the pixels, str ``(n,)``."""
    return np.array([hashlib.sha256(row.tobytes()).hexdigest() for row in x])


def canonical_order(source, rows):
    """Rows in order of their names; equal images in order of their labels."""
    return rows[np.lexsort((source.labels[rows].argmax(axis=1), source.names[rows]))]


def shuffled(source, rows, seed):
    """Rows in the order of sha256(seed and name)."""
    names = source.names[rows]
    keys = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names]
    order = sorted(zip(keys, rows.tolist(), strict=True))
    return np.array([row for _, row in order], np.int64)


def draw(source, rows, per_class, seed):
    """Draw rows of each class, without replacement.

    Class by class in order of the label columns, the first ones in shuffled order that
    have the label and are not drawn yet.

    Args:
        source: `Source`.
        rows: int array, the rows to draw from.
        per_class: int, how many for each class; fewer where there are not so many.
        seed: int.

    Returns:
        ``(drawn, rest)``: int arrays, each in the order of `rows`.
    """
    order = shuffled(source, rows, seed)
    labels = source.labels[order] > 0
    taken = np.zeros(len(order), bool)
    for label in labels.T:
        taken[np.flatnonzero(label & ~taken)[:per_class]] = True
    return parted(rows, order[taken])


def parted(rows, drawn):
    """Those of the rows that are drawn and the others, each in the order of `rows`."""
    taken = np.isin(rows, drawn)
    return rows[taken], rows[~taken]


def official(source, rows, seed):
    """The publisher's training images are database and training set, its test images
    the queries. No seed."""
    train, query = rows[~source.is_test[rows]], rows[source.is_test[rows]]
    return {"train": train, "query": query, "database": train}


def drawn(queries, train=None, unlabelled=False):
    """Draw queries, and training images from the rest, by class.

    Args:
        queries: int, queries of each class; the rest is the database.
        train: int or None, training images of each class; None takes all.
        unlabelled: bool, whether the rest of the database trains without labels.

    Returns:
        `split` of a `Protocol`.
    """

    def split(source, rows, seed):
        query, database = draw(source, rows, queries, seed)
        splits = {"query": query, "database": database, "train": database}
        if train is not None:
            splits["train"], rest = draw(source, database, train, seed)
            if unlabelled:
                splits["unlabelled"] = rest
        return splits

    return split


def drawn_from_all(queries):
    """Draw queries whatever their labels; the rest trains and is the database.

    Args:
        queries: int.

    Returns:
        `split` of a `Protocol`.
    """

    def split(source, rows, seed):
        query, rest = parted(rows, shuffled(source, rows, seed)[:queries])
        return {"query": query, "database": rest, "train": rest}

    return split


def three_parts(train, validation):
    """Draw training images, which are the database too, and validation images by class;
    the rest are the queries.

    Args:
        train, validation: int, images of each class.

    Returns:
        `split` of a `Protocol`.
    """

    def split(source, rows, seed):
        database, rest = draw(source, rows, train, seed)
        held, query = draw(source, rest, validation, seed)
        return {
            "query": query,
            "database": database,
            "train": database,
            "validation": held,
        }

    return split


def stratified(share):
    """Draw the same share of each class as queries; the rest trains, the database too.

    The rarest label comes first. Of each it draws as many images as are lacking yet,
    one at least where two or more have the label; images without labels count as a
    class.

    Args:
        share: float in (0, 1).

    Returns:
        `split` of a `Protocol`.
    """

    def split(source, rows, seed):
        order = shuffled(source, rows, seed)
        labels = source.labels[order] > 0
        labels = np.column_stack([labels, ~labels.any(axis=1)])
        counts = labels.sum(axis=0)
        taken = np.zeros(len(order), bool)
        for c in np.argsort(counts, kind="stable"):
            wanted = max(round(share * counts[c]), int(counts[c] > 1))
            lacking = max(wanted - int(labels[taken, c].sum()), 0)
            taken[np.flatnonzero(labels[:, c] & ~taken)[:lacking]] = True
        query, rest = parted(rows, order[taken])
        return {"query": query, "database": rest, "train": rest}

    return split
