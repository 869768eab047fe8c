"""Loading a data set under a protocol, by name."""

import difflib
import hashlib
import importlib.resources
import json

import numpy as np
import tensorflow as tf

from kerashash.data import protocols, sources
from kerashash.data.retrieval_data import RetrievalData

# Name: source, and its protocols; the first is the default.
_DATASETS = {
    "digits": (sources.digits, {"default": protocols.drawn(queries=30)}),
    "cifar10": (
        sources.cifar10,
        {
            "full": protocols.official,
            "5k-train": protocols.drawn(queries=100, train=500),
            "semi": protocols.drawn(queries=100, train=500, unlabelled=True),
        },
    ),
}


def list():
    """The data sets and their protocols, the default one first.

    Returns:
        dict of str to tuple of str.

    Example:
        >>> list()["cifar10"]
        ('full', '5k-train', 'semi')
    """
    return {name: tuple(choices) for name, (_, choices) in _DATASETS.items()}


def load(name, protocol=None, seed=0, data_dir=None):
    """A data set under a retrieval protocol.

    ======== ======== ====== ======= ======== =========================================
    name     protocol train  query   database source of the protocol
    ======== ======== ====== ======= ======== =========================================
    digits   default  1,497  300     1,497    30 queries a class, the rest trains
    cifar10  full     50,000 10,000  50,000   official splits; AdaLabelHash, table 3
    cifar10  5k-train 5,000  1,000   59,000   100 queries and 500 training images a
                                              class; DSRE, setting 1
    cifar10  semi     5,000  1,000   59,000   as 5k-train, and 54,000 unlabelled
                                              images; AdaLabelHash, table 4
    ======== ======== ====== ======= ======== =========================================

    Two images are relevant to each other if they share a label. In every protocol
    here the database includes the training images, and no query.

    Args:
        name: str, see `list`.
        protocol: str or None for the data set's first.
        seed: int, which draw; official splits have none to draw.
        data_dir: path of the folder in which TensorFlow Datasets keeps its data;
            None for its default.

    Returns:
        `RetrievalData`.

    Raises:
        TypeError: if `seed` is not an integer.
        ValueError: if there is no such data set or protocol, or if the images are
            not the published ones.
        DatasetUnavailableError: if the data set is not there and cannot be fetched;
            it says what to do.

    Example:
        >>> data = load("digits")
        >>> data.num_train, data.num_query, data.num_database
        (1497, 300, 1497)
    """
    source, choices = _DATASETS[_choice("name", name, _DATASETS)]
    protocol = _choice("protocol", protocol or next(iter(choices)), choices)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"`seed` must be an integer. Received: seed={seed!r}.")
    source = source(data_dir)
    names = protocols.names(source)
    splits = choices[protocol](source, names, int(seed))
    _check_manifest(name, protocol, seed, manifest(splits, names))
    return RetrievalData(
        name=name,
        protocol=protocol,
        seed=int(seed),
        class_names=source.class_names,
        splits=splits,
        x=source.x,
        labels=source.labels,
    )


def manifest(splits, names):
    """Count and sha256 of the images' names of each split, in order."""
    return {
        split: {
            "count": len(rows),
            "sha256": hashlib.sha256("\n".join(names[rows]).encode()).hexdigest(),
        }
        for split, rows in splits.items()
    }


def _check_manifest(name, protocol, seed, found):
    file = importlib.resources.files("kerashash.data") / "manifests" / f"{name}.json"
    published = json.loads(file.read_text()).get(f"{protocol}, seed {seed}", found)
    for split, stated in published.items():
        if found[split] != stated:
            raise ValueError(
                f"The {split} split of {name} ({protocol}, seed {seed}) is not the "
                f"published one: its images differ. Received: {found[split]}. "
                f"Published: {stated}."
            )


def _choice(argument, value, choices):
    if value not in choices:
        close = difflib.get_close_matches(str(value), choices, n=3)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`{argument}` must be one of {[*choices]}. Received: {value!r}.{hint}"
        )
    return value


def indexed(dataset, start=0):
    """Add to each element its number, the row of the learned codes it belongs to.

    Apply it before `shuffle` and `batch`.

    Args:
        dataset: `tf.data.Dataset`, not batched, of ``(x, label)`` or ``(x, {"label":
            label})`` with a label row ``(num_classes,)``.
        start: int, the number of the first element.

    Returns:
        `tf.data.Dataset` of ``(x, {"label": float32, "index": int32})``.

    Raises:
        TypeError: if `dataset` is not a `tf.data.Dataset`.
        ValueError: if its elements are not such pairs.

    Example:
        >>> pairs = tf.data.Dataset.from_tensor_slices((np.zeros((3, 4)), np.eye(3)))
        >>> [int(y["index"]) for _, y in indexed(pairs)]
        [0, 1, 2]
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "`dataset` must be a tf.data.Dataset. Received type: "
            f"{type(dataset).__name__}."
        )
    spec = dataset.element_spec
    y = spec[1] if isinstance(spec, tuple) and len(spec) == 2 else None
    label = y.get("label") if isinstance(y, dict) else y
    if not isinstance(label, tf.TensorSpec) or label.shape.rank not in (1, None):
        raise ValueError(
            "`dataset` must have elements (x, label) or (x, {'label': label}), not "
            f"batched, with a label row (num_classes,). Received elements: {spec}."
        )

    def element(index, pair):
        x, y = pair
        label = y["label"] if isinstance(y, dict) else y
        return x, {
            "label": tf.cast(label, tf.float32),
            "index": tf.cast(index, tf.int32),
        }

    return dataset.enumerate(start).map(element)
