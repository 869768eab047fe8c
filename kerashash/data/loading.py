"""Loading a data set under a protocol, by name."""

import difflib
import hashlib
import importlib.resources
import json
import os

from kerashash.data import protocols, sources
from kerashash.data.retrieval_data import RetrievalData
from kerashash.options import check_integer

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

    ======== ======== ====== ====== ======== ==========================================
    name     protocol train  query  database what it is
    ======== ======== ====== ====== ======== ==========================================
    digits   default  1,497  300    1,497    30 queries a class, the rest trains
    cifar10  full     50,000 10,000 50,000   the publisher's splits [1, supervised],
                                             [2, second setting]
    cifar10  5k-train 5,000  1,000  59,000   100 queries and 500 training images a
                                             class [2, first setting]
    cifar10  semi     5,000  1,000  59,000   as 5k-train, the other 54,000 images train
                                             without labels [1, semi-supervised]
    ======== ======== ====== ====== ======== ==========================================

    Images of cifar10 are uint8 ``(32, 32, 3)``; those of digits are float32 vectors
    ``(64,)`` in [0, 1], and need no file and no network. Two images are relevant to
    each other if they share a label. In every protocol here the database includes
    the training images, and no query. The papers draw at random and publish no
    draw: seeds stand for such draws, and every machine gets the same one.

    Args:
        name: str, see `list`.
        protocol: str or None for the data set's first.
        seed: int in [0, 2^32), which draw; the publisher's splits are not drawn. It
            seeds the order of the training images too.
        data_dir: path of the folder in which TensorFlow Datasets keeps its data;
            None for the environment's TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Returns:
        `RetrievalData`.

    Raises:
        TypeError: if `seed` is not an integer or `data_dir` not a path.
        ValueError: if there is no such data set or protocol, if `seed` is out of
            range, or if the images are not the published ones.
        DatasetUnavailableError: if the data set is not there and cannot be fetched;
            it says what to do.

    Reference:
        [1] H.-F. Yang, C.-H. Tu, C.-S. Chen, Adaptive Labeling for Deep Learning to
        Hash, CVPR Workshops 2019, table 1.
        [2] X. Zhang, L. Zhou, X. Bai, X. Luan, J. Luo, E. R. Hancock, Deep Supervised
        Hashing using Symmetric Relative Entropy, Pattern Recognition Letters 2019,
        section 4.1.

    Example:
        >>> data = load("digits")
        >>> data.num_train, data.num_query, data.num_database
        (1497, 300, 1497)
    """
    source, choices = _DATASETS[_choice("name", name, _DATASETS)]
    if protocol is None:
        protocol = next(iter(choices))
    _choice("protocol", protocol, choices)
    check_integer("seed", seed, least=0, most=2**32 - 1)
    if not isinstance(data_dir, str | os.PathLike | None):
        raise TypeError(
            f"`data_dir` must be a path or None. Received: data_dir={data_dir!r}."
        )
    images = source(data_dir)
    names = protocols.names(images)
    splits = choices[protocol](images, names, int(seed))
    _check_manifest(name, protocol, seed, manifest(splits, names))
    return RetrievalData(
        name=name,
        protocol=protocol,
        seed=int(seed),
        class_names=images.class_names,
        splits=splits,
        x=images.x,
        labels=images.labels,
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
                f"This copy of {name} is not the published one: the images of the "
                f"{split} split ({protocol}, seed {seed}) differ. "
                f"Received: {found[split]}. Published: {stated}."
            )


def _choice(argument, value, choices):
    if not isinstance(value, str) or value not in choices:
        close = difflib.get_close_matches(str(value), choices, n=3)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`{argument}` must be one of {[*choices]}. Received: {value!r}.{hint}"
        )
    return value
