"""Protocols: which images train, which are queries, which are the database.

A protocol is a function of the data set and a seed. An image is named by the sha256
of its pixels. Every split is ordered by that name, and what has to be drawn is drawn
in the order of sha256(seed and name): the same split comes out whatever the order in
which the images were stored, and whatever the version of any library.
"""

import hashlib

import numpy as np


def names(source):
    """Names of all images: hexadecimal sha256 of the pixels, str ``(n,)``."""
    return np.array([hashlib.sha256(row.tobytes()).hexdigest() for row in source.x])


def canonical_order(source, image_names):
    """Rows in order of their names; equal images in order of their labels."""
    return np.lexsort((source.labels.argmax(axis=1), image_names))


def draw(source, image_names, rows, per_class, seed):
    """Draw rows of each class, without replacement.

    Args:
        source: `Source` with one label an image.
        image_names: str array ``(n,)``.
        rows: int array, the rows to draw from.
        per_class: int, how many of each class.
        seed: int.

    Returns:
        ``(drawn, rest)``: int arrays, each in the order of `rows`.
    """
    keys = [
        hashlib.sha256(f"{seed}:{image_names[row]}".encode()).digest() for row in rows
    ]
    shuffled = np.array([row for _, row in sorted(zip(keys, rows, strict=True))])
    classes = source.labels.argmax(axis=1)[shuffled]
    drawn = np.concatenate(
        [shuffled[classes == c][:per_class] for c in range(source.labels.shape[1])]
    )
    taken = np.isin(rows, drawn)
    return rows[taken], rows[~taken]


def official(source, image_names, seed):
    """The publisher's training images are database and training set, its test images
    the queries. No seed."""
    rows = canonical_order(source, image_names)
    train, query = rows[~source.is_test[rows]], rows[source.is_test[rows]]
    return {"train": train, "query": query, "database": train}


def drawn(queries, train=None, unlabelled=False):
    """A protocol that draws queries, and training images from the rest, by class.

    Args:
        queries: int, queries of each class; the rest is the database.
        train: int or None, training images of each class; None takes all.
        unlabelled: bool, whether the rest of the database trains without labels.

    Returns:
        Protocol: function of a source, its names and a seed.
    """

    def protocol(source, image_names, seed):
        rows = canonical_order(source, image_names)
        query, database = draw(source, image_names, rows, queries, seed)
        splits = {"query": query, "database": database, "train": database}
        if train is not None:
            splits["train"], rest = draw(source, image_names, database, train, seed)
            if unlabelled:
                splits["unlabelled"] = rest
        return splits

    return protocol
