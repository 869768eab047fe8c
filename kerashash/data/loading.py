"""Load a data set under a protocol, by name."""

import functools
import hashlib
import importlib.resources
import json
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import check_choices, check_flag, check_integer, close_names
from kerashash.data import distributions, protocols, sources
from kerashash.data.distributions import load_distributions
from kerashash.data.protocols import Protocol, Rows, Split
from kerashash.data.resizing import FITS, check_image_size
from kerashash.data.retrieval_data import RetrievalData


class _Dataset(NamedTuple):
    """Where a data set comes from, and its protocols by name, the default first."""

    source: Callable[..., sources.Source]
    protocols: dict[str, Protocol]
    # Whether `source` takes `image_size`, `allow_missing` and `fit`.
    photographs: bool = False


def _nus_wide_21(split: Split) -> Protocol:
    """A protocol on the 21 most frequent concepts of NUS-WIDE."""
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


# Not named `list`, which it is in `kerashash.data`: that would shadow the builtin here.
def list_datasets() -> dict[str, tuple[str, ...]]:
    """List the data sets and their protocols.

    Returns:
        dict of the name of each data set to the names of its protocols, the default
        first.

    Example:
        >>> import kerashash
        >>> kerashash.data.list()["cifar10"]
        ('full', '5k-train', 'semi')
    """
    retrieval = {name: tuple(dataset.protocols) for name, dataset in _DATASETS.items()}
    return retrieval | dict.fromkeys(_DISTRIBUTIONS, ("90-10",))


# The type for ``ldl/...`` is `Any` rather than `DistributionData`, so that callers who
# ask for images need no `isinstance` to please a type checker.
def load(
    name: str,
    protocol: str | None = None,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    allow_missing: bool = False,
    validation: float = 0.0,
    fit: str | None = None,
) -> RetrievalData | Any:
    """Load a data set under a retrieval protocol.

    ============ ============== ======= ====== ======== ================================
    name         protocol       train   query  database contents
    ============ ============== ======= ====== ======== ================================
    digits       default        1,497   300    1,497    30 queries a class, the rest
                                                        trains
    cifar10      full           50,000  10,000 50,000   the publisher's splits [1,
                                                        supervised; 2, second setting]
    cifar10      5k-train       5,000   1,000  59,000   100 queries and 500 training
                                                        images a class [2, first
                                                        setting]
    cifar10      semi           5,000   1,000  59,000   as 5k-train; the other 54,000
                                                        images train without labels [1,
                                                        semi-supervised]
    mirflickr25k 38-labels      23,300  1,700  23,300   1,700 queries drawn from all
                                                        images, the rest trains [3]
    mirflickr25k 24-labels      23,300  1,700  23,300   the same images, with the
                                                        potential labels only
    nus_wide     21-full        193,734 2,100  193,734  images with one of the 21 most
                                                        frequent concepts; 100 queries a
                                                        concept, the rest trains [3; 2,
                                                        second setting]
    nus_wide     21-10.5k-train 10,500  2,100  193,734  as 21-full; 500 training images
                                                        a concept [2, first setting]
    nus_wide     21-semi        10,500  2,100  193,734  as 21-10.5k-train; the other
                                                        183,234 images train without
                                                        labels [1, semi-supervised]
    nus_wide     81-official    161,789 107,859 161,789 the publisher's splits, all
                                                        concepts
    flowers17    40-20-20       680     340    680      40 training, 20 validation, 20
                                                        query images a class [4]
    ldl/movie    90-10          6,980   775    -        label distributions; likewise
                                                        the other names in
                                                        `kerashash.data.distributions`
    ============ ============== ======= ====== ======== ================================

    Images of cifar10 are uint8 ``(32, 32, 3)``. Those of digits are float32 vectors
    ``(64,)`` in [0, 1] that need no file and no network. Those of mirflickr25k,
    nus_wide and flowers17 are photographs, uint8 ``(image_size, image_size, 3)``,
    decoded as they are read. Photographs must be downloaded by hand:
    `DatasetUnavailableError` says from where, and where to put them.

    Two images are relevant to each other if they share a label; an image without labels
    is relevant to none. In every protocol here the database includes the training
    images and excludes the queries. The papers draw at random and do not publish their
    draws: here each seed is one draw, the same on every machine.

    Args:
        name: str; one of `kerashash.data.list`.
        protocol: str or None; one of the protocols of the data set. None is the first.
        seed: int in [0, 2^32); which draw, and the seed of the order of the training
            images. The publisher's splits do not depend on it.
        data_dir: path or None; the folder in which TensorFlow Datasets keeps its data.
            None is the environment variable TFDS_DATA_DIR or, without it,
            ~/tensorflow_datasets.
        image_size: int up to 4096, or None; the side in pixels of photographs, resized.
            None is the side that the model takes to which they are passed, and
            otherwise 224; it is the only value for other data sets.
        allow_missing: bool; whether photographs may be missing. The protocol then
            applies to those that are there, and a `UserWarning` says how many are not.
        validation: float in [0, 1); the share of each class of the training images that
            becomes the split ``validation``, to choose options on, and does not train.
            `RetrievalData.for_validation` measures on them.
        fit: str or None; how photographs become squares, as for
            `kerashash.data.from_directory`.

    Returns:
        `RetrievalData`, or `DistributionData` for ``ldl/...``.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there is no such data set or protocol, an argument is out of
            range or not for this data set, or the images are not the published ones.
        DatasetUnavailableError: if the data set is not there and cannot be downloaded,
            or is damaged; the error says what to do.

    Reference:
        [1] H.-F. Yang, C.-H. Tu, C.-S. Chen, Adaptive Labeling for Deep Learning to
        Hash, CVPR Workshops 2019, table 1. Its 162,289 images of NUS-WIDE, those that
        its authors could download, are not published.
        [2] X. Zhang, L. Zhou, X. Bai, X. Luan, J. Luo, E. R. Hancock, Deep Supervised
        Hashing using Symmetric Relative Entropy, Pattern Recognition Letters 2019,
        section 4.1.
        [3] J. Wang et al., Deep Collaborative Discrete Hashing with Semantic-Invariant
        Structure, SIGIR 2019, section 3.1.
        [4] J. Song et al., Deep Discrete Hashing with Self-supervised Pairwise Labels,
        ECML PKDD 2017, section 4.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> data.num_train, data.num_query, data.num_database
        (1497, 300, 1497)
    """
    datasets = list_datasets()
    _check_choice("name", name, datasets)
    if protocol is None:
        protocol = datasets[name][0]
    _check_choice("protocol", protocol, datasets[name])
    check_integer("seed", seed, least=0, most=2**32 - 1)
    if data_dir is not None:
        files.path_text(data_dir, "data_dir")  # a check: it may be a URL
    check_image_size(image_size)
    check_flag(allow_missing=allow_missing)
    if fit is not None:
        check_choices({"fit": FITS}, fit=fit)
    protocols.check_share("validation", validation)  # before the data are read
    photographs = name in _DATASETS and _DATASETS[name].photographs
    given = {"image_size": image_size, "allow_missing": allow_missing, "fit": fit}
    given = {key: value for key, value in given.items() if value not in (None, False)}
    if not photographs and given:
        raise ValueError(
            "`image_size`, `allow_missing` and `fit` are for photographs, not for "
            f"{name}. Received: {given}."
        )
    if name in _DISTRIBUTIONS:
        return load_distributions(
            name.removeprefix("ldl/"), seed, data_dir=data_dir, validation=validation
        )
    dataset = _DATASETS[name]
    options = (image_size, allow_missing, fit) if photographs else ()
    source = dataset.source(data_dir, *options)
    source, splits = dataset.protocols[protocol].apply(source, int(seed))
    if not source.missing:
        _check_manifest(name, protocol, seed, manifest(splits, source.names))
    splits = protocols.with_validation(source, splits, validation, int(seed))
    return source.retrieval_data(name, protocol, int(seed), splits)


def manifest(
    splits: dict[str, Rows], names: npt.NDArray[np.str_]
) -> dict[str, dict[str, Any]]:
    """Return the count of each split and the sha256 of its names, in order."""
    return {
        split: {
            "count": len(rows),
            "sha256": hashlib.sha256("\n".join(names[rows]).encode()).hexdigest(),
        }
        for split, rows in splits.items()
    }


def published(name: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Read the published manifests of a data set, by "<protocol>, seed <seed>"."""
    file = importlib.resources.files("kerashash.data") / "manifests" / f"{name}.json"
    return json.loads(file.read_text())


def _check_manifest(
    name: str, protocol: str, seed: int, actual: dict[str, dict[str, Any]]
) -> None:
    """Refuse splits that differ from the published ones; other seeds pass."""
    expected = published(name).get(f"{protocol}, seed {seed}", actual)
    for split in expected:
        if actual[split] != expected[split]:
            raise ValueError(
                f"This copy of {name} is not the published one: the images of the "
                f"{split} split ({protocol}, seed {seed}) differ. "
                f"Received: {actual[split]}. Published: {expected[split]}."
            )


def _check_choice(argument: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a value that is not among the choices, with the closest one as a hint."""
    if not isinstance(value, str) or value not in choices:
        hint = close_names(value, choices) if isinstance(value, str) else ""
        raise ValueError(
            f"`{argument}` must be one of {[*choices]}. Received: {value!r}.{hint}"
        )
