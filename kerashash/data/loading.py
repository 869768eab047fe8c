"""Loading a data set under a protocol, by name."""

import difflib
import functools
import hashlib
import importlib.resources
import json
import os
from collections.abc import Callable
from typing import NamedTuple

from kerashash.checks import check_integer
from kerashash.data import distributions, protocols, sources
from kerashash.data.distributions import load_distributions
from kerashash.data.protocols import Protocol
from kerashash.data.retrieval_data import RetrievalData


class _Dataset(NamedTuple):
    source: Callable
    protocols: dict  # the first is the default
    # Photographs, to be decoded to a size, of which some may be missing.
    photographs: bool = False


def _nus_wide_21(split):
    columns = functools.partial(protocols.most_frequent, k=21)
    return Protocol(split, columns, labelled_only=True)


_DATASETS = {
    "digits": _Dataset(sources.digits, {"default": Protocol(protocols.drawn(30))}),
    "cifar10": _Dataset(
        sources.cifar10,
        {
            "full": Protocol(protocols.official),
            "5k-train": Protocol(protocols.drawn(queries=100, train=500)),
            "semi": Protocol(protocols.drawn(100, train=500, unlabelled=True)),
        },
    ),
    "mirflickr25k": _Dataset(
        functools.partial(sources.photographs, "mirflickr25k"),
        {
            "38-labels": Protocol(protocols.drawn_from_all(queries=1700)),
            "24-labels": Protocol(
                protocols.drawn_from_all(queries=1700), lambda labels: range(24)
            ),
        },
        photographs=True,
    ),
    "nus_wide": _Dataset(
        functools.partial(sources.photographs, "nus_wide"),
        {
            "21-full": _nus_wide_21(protocols.drawn(queries=100)),
            "21-10.5k-train": _nus_wide_21(protocols.drawn(queries=100, train=500)),
            "21-semi": _nus_wide_21(protocols.drawn(100, train=500, unlabelled=True)),
            "81-official": Protocol(protocols.official),
        },
        photographs=True,
    ),
    "flowers17": _Dataset(
        functools.partial(sources.photographs, "flowers17"),
        {"40-20-20": Protocol(protocols.three_parts(train=40, validation=20))},
        photographs=True,
    ),
}


_DISTRIBUTIONS = tuple(f"ldl/{name}" for name in distributions.NAMES)


def list():
    """The data sets and their protocols, the default one first.

    Returns:
        dict of str to tuple of str.

    Example:
        >>> list()["cifar10"]
        ('full', '5k-train', 'semi')
    """
    retrieval = {name: tuple(dataset.protocols) for name, dataset in _DATASETS.items()}
    return retrieval | dict.fromkeys(_DISTRIBUTIONS, ("90-10",))


def load(
    name, protocol=None, seed=0, data_dir=None, image_size=None, allow_missing=False
):
    """A data set under a retrieval protocol.

    ============ ============== ======= ====== ======== ================================
    name         protocol       train   query  database what it is
    ============ ============== ======= ====== ======== ================================
    digits       default        1,497   300    1,497    30 queries a class, the rest
                                                        trains
    cifar10      full           50,000  10,000 50,000   the publisher's splits [1,
                                                        supervised; 2, second setting]
    cifar10      5k-train       5,000   1,000  59,000   100 queries and 500 training
                                                        images a class [2, first
                                                        setting]
    cifar10      semi           5,000   1,000  59,000   as 5k-train, the other 54,000
                                                        images train without labels [1,
                                                        semi-supervised]
    mirflickr25k 38-labels      23,300  1,700  23,300   1,700 queries of all, the rest
                                                        trains [3]
    mirflickr25k 24-labels      23,300  1,700  23,300   the same images, the potential
                                                        labels alone
    nus_wide     21-full        193,734 2,100  193,734  the 21 most frequent concepts,
                                                        images with one of them; 100
                                                        queries a concept, the rest
                                                        trains [3; 2, second setting]
    nus_wide     21-10.5k-train 10,500  2,100  193,734  as 21-full, 500 training images
                                                        a concept [2, first setting]
    nus_wide     21-semi        10,500  2,100  193,734  as 21-10.5k-train, the other
                                                        183,234 images train without
                                                        labels [1, semi-supervised]
    nus_wide     81-official    161,789 107,859 161,789 the publisher's splits, all
                                                        concepts
    flowers17    40-20-20       680     340    680      40 training, 20 validation, 20
                                                        query images a class [4]
    ldl/movie    90-10          6,980   775    -        label distributions; also other
                                                        names of
                                                        `kerashash.data.distributions`
    ============ ============== ======= ====== ======== ================================

    Images of cifar10 are uint8 ``(32, 32, 3)``; those of digits are float32 vectors
    ``(64,)`` in [0, 1], and need no file and no network. Those of mirflickr25k,
    nus_wide and flowers17 are photographs, uint8 ``(image_size, image_size, 3)``,
    decoded as they are read; their files have to be fetched by hand, and
    `DatasetUnavailableError` says where from and where to put them.

    Two images are relevant to each other if they share a label; one without labels is
    relevant to none. In every protocol here the database includes the training images,
    and no query. The papers draw at random and publish no draw: seeds stand for such
    draws, and every machine gets the same one.

    Args:
        name: str, see `list`.
        protocol: str or None for the data set's first.
        seed: int in [0, 2^32), which draw; the publisher's splits are not drawn. It
            seeds the order of the training images too.
        data_dir: path of the folder in which TensorFlow Datasets keeps its data;
            None for the environment's TFDS_DATA_DIR, or ~/tensorflow_datasets.
        image_size: int, the side in pixels to which photographs are resized; None for
            224. Not for other data sets.
        allow_missing: bool, whether photographs may be missing: the protocol then
            applies to those that are there, and a `UserWarning` says how many are not.

    Returns:
        `RetrievalData`; for ldl, `DistributionData`.

    Raises:
        TypeError: if `seed` is not an integer or `data_dir` not a path.
        ValueError: if there is no such data set or protocol, if `seed` or `image_size`
            is out of range, or if the images are not the published ones.
        DatasetUnavailableError: if the data set is not there and cannot be fetched;
            it says what to do.

    Reference:
        [1] H.-F. Yang, C.-H. Tu, C.-S. Chen, Adaptive Labeling for Deep Learning to
        Hash, CVPR Workshops 2019, table 1; its 162,289 images of NUS-WIDE, those its
        authors could fetch, are not published.
        [2] X. Zhang, L. Zhou, X. Bai, X. Luan, J. Luo, E. R. Hancock, Deep Supervised
        Hashing using Symmetric Relative Entropy, Pattern Recognition Letters 2019,
        section 4.1.
        [3] J. Wang et al., Deep Collaborative Discrete Hashing with Semantic-Invariant
        Structure, SIGIR 2019, section 3.1.
        [4] J. Song et al., Deep Discrete Hashing with Self-supervised Pairwise Labels,
        ECML PKDD 2017, section 4.

    Example:
        >>> data = load("digits")
        >>> data.num_train, data.num_query, data.num_database
        (1497, 300, 1497)
    """
    protocols_of = list()
    _choice("name", name, protocols_of)
    if protocol is None:
        protocol = protocols_of[name][0]
    _choice("protocol", protocol, protocols_of[name])
    check_integer("seed", seed, least=0, most=2**32 - 1)
    if not isinstance(data_dir, str | os.PathLike | None):
        raise TypeError(
            f"`data_dir` must be a path or None. Received: data_dir={data_dir!r}."
        )
    if image_size is not None:
        check_integer("image_size", image_size)
    photographs = name in _DATASETS and _DATASETS[name].photographs
    if not photographs and (image_size is not None or allow_missing):
        raise ValueError(
            f"`image_size` and `allow_missing` are for photographs, not for {name}. "
            f"Received: image_size={image_size}, allow_missing={allow_missing}."
        )
    if name in _DISTRIBUTIONS:
        return load_distributions(name.removeprefix("ldl/"), seed, data_dir=data_dir)
    dataset = _DATASETS[name]
    options = (image_size, allow_missing) if photographs else ()
    source = dataset.source(data_dir, *options)
    source, splits = dataset.protocols[protocol].apply(source, int(seed))
    if not source.missing:
        _check_manifest(name, protocol, seed, manifest(splits, source.names))
    return RetrievalData(
        name=name,
        protocol=protocol,
        seed=int(seed),
        class_names=source.class_names,
        splits=splits,
        x=source.x,
        labels=source.labels,
        names=source.names,
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


def published(name):
    """The manifests of a data set: dict of "<protocol>, seed <seed>" to `manifest`."""
    file = importlib.resources.files("kerashash.data") / "manifests" / f"{name}.json"
    return json.loads(file.read_text())


def _check_manifest(name, protocol, seed, found):
    for split, stated in published(name).get(f"{protocol}, seed {seed}", found).items():
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
