"""Train and measure one method on one data set: a cell of a table."""

import contextlib
import inspect
import os
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from kerashash import backbones, baselines, data, methods
from kerashash.baselines.shallow import ShallowHash
from kerashash.comparison.tables import Part, Row
from kerashash.data import DistributionData, RetrievalData
from kerashash.evaluation import label_distribution, precision_recall
from kerashash.evaluation.choices import PROTOCOLS
from kerashash.methods import HashModel
from kerashash.recipes import fitting
from kerashash.recipes.recipe import ENCODINGS
from kerashash.zoo import card_metrics, encoding

#: The baseline that has no class: the nearest neighbours of the features themselves.
NEAREST = "AA-kNN"
#: The methods and baselines by name, with those that have no codes.
CLASSES = {
    name: getattr(module, name)
    for module in (methods, baselines)
    for name in module.__all__
}
# The hidden layer of methods that are trained by gradients, on frozen features.
_UNITS, _DROPOUT = 512, 0.3
# Points of a curve, evenly spaced on a logarithmic axis of ranks.
_POINTS = 60


class Cell(NamedTuple):
    """What was measured.

    Attributes:
        values: dict of float by the name of the measure.
        train_seconds: float; without the features, which are computed once for all.
        test_seconds: float; of encoding and, for label distributions, predicting.
        curve: dict of float arrays ``(n,)``, for `kerashash.plots.retrieval_curves`:
            ``ranks``, ``precision_at`` and ``recall_at``; empty for measures that are
            not of a ranking.
    """

    values: dict[str, float]
    train_seconds: float
    test_seconds: float
    curve: Mapping[str, npt.NDArray[np.float64]] = MappingProxyType({})


def load(
    part: Part,
    seed: int,
    cache_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
) -> RetrievalData | DistributionData:
    """Load the data of a part, and compute the features of its images, once.

    Args:
        part: `Part`.
        seed: int; which draw of the splits.
        cache_dir: path of the folder for features.
        data_dir: path or None; as for `kerashash.data.load`.

    Returns:
        `RetrievalData` of features, or `DistributionData`.

    Raises:
        DatasetUnavailableError: if the data are not there.
    """
    # TensorFlow Datasets says on standard output what it prepares.
    with contextlib.redirect_stdout(sys.stderr):
        rows = encoding.load_data({"seed": seed, **part.data}, data_dir)
    if isinstance(rows, DistributionData):
        return rows
    if isinstance(rows.x, np.ndarray) and rows.x.ndim == 2:  # vectors
        return rows
    return data.cache_features(rows, backbones.get(**part.features), cache_dir)


def measures(part: Part) -> list[str]:
    """Name what is measured in each cell of a part.

    Args:
        part: `Part`.

    Returns:
        list of str: the paper's choice first, then the library's own.
    """
    return [*part.measures] or [metric["name"] for metric in _metrics(part)]


def run(
    part: Part, row: Row, bits: int, seed: int, rows: RetrievalData | DistributionData
) -> Cell:
    """Train a method, and measure it.

    Args:
        part: `Part`.
        row: `Row` with a method.
        bits: int; the code length.
        seed: int.
        rows: the data, from `load`.

    Returns:
        `Cell`.

    Raises:
        TypeError, ValueError: if the method cannot be trained on the data.
    """
    keras.utils.set_random_seed(seed)
    if isinstance(rows, DistributionData):
        return _on_columns(part, row, bits, rows)
    x, labels = rows.arrays("train")
    start = time.perf_counter()
    model = _fitted(part, row, bits, seed, x, labels)
    if row.self_train is not None:
        options = dict(row.self_train)
        model.compile(keras.optimizers.Adam(options.pop("learning_rate")))
        unlabelled, _ = rows.arrays("unlabelled")
        model.self_train((x, labels), unlabelled, first_epochs=0, verbose=0, **options)
    trained = time.perf_counter()
    codes = encoding.encode_splits(model, rows, verbose=0)
    encoded = time.perf_counter()
    metrics = _metrics(part)
    values = card_metrics.measure(metrics, codes, bits)
    named = zip(metrics, values, strict=True)
    return Cell(
        {metric["name"]: float(value) for metric, value in named if value is not None},
        trained - start,
        encoded - trained,
        {} if part.metric == "SVM accuracy" else _curve(codes, bits),
    )


def _curve(
    codes: Mapping[str, npt.NDArray[Any]], bits: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Precision and recall of the nearest items, up to the whole database."""
    size = len(codes["database_codes"])
    ranks = np.unique(np.geomspace(1, size, _POINTS).round().astype(int))
    curve = precision_recall(
        codes["query_codes"],
        codes["query_labels"],
        codes["database_codes"],
        codes["database_labels"],
        bits=bits,
        at=ranks,
    )
    return {"ranks": ranks.astype(float)} | {
        name: curve[name] for name in ("precision_at", "recall_at")
    }


def _on_columns(part: Part, row: Row, bits: int, rows: DistributionData) -> Cell:
    """Predict the label distributions of the queries."""
    x, d = rows.x_train, rows.d_train
    layers = _encoded(part, x)
    start = trained = time.perf_counter()
    if row.method == NEAREST:
        features, queries = (_output(layers, part) for part in (x, rows.x_query))
        predicted = label_distribution.knn_distribution(
            queries, features, d, k=part.neighbours
        )
    else:
        model: Any = _fitted(part, row, bits, 0, x, d)
        trained = time.perf_counter()
        if hasattr(model, "predict_distribution"):
            predicted = model.predict_distribution(rows.x_query, verbose=0)
        else:
            queries, database = (
                model.encode(x, verbose=0, engine="tensorflow")
                for x in (rows.x_query, x)
            )
            predicted = label_distribution.hashed_distribution(
                queries, database, d, k=part.neighbours, bits=bits
            )
    seconds = (trained - start, time.perf_counter() - trained)
    values = label_distribution.measures(rows.d_query, predicted)
    values |= {"train seconds": seconds[0], "test seconds": seconds[1]}
    return Cell({name: values[name] for name in measures(part)}, *seconds)


def _fitted(
    part: Part,
    row: Row,
    bits: int,
    seed: int,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
) -> Any:
    """Train a method on features, with the same layers on them as all others."""
    assert row.method is not None
    cls: Any = CLASSES[row.method]
    parameters = inspect.signature(cls.__init__).parameters
    options = {**row.options}
    if "bits" in parameters:
        options["bits"] = bits
    if "num_train" in parameters:
        options["num_train"] = len(x)
    classes = parameters.get("num_classes")
    supervised = row.options.get("similarity") == "labels"
    if classes is not None and (classes.default is classes.empty or supervised):
        options["num_classes"] = y.shape[1]
    layers = _encoded(part, x)
    if issubclass(cls, ShallowHash):
        if "seed" in parameters:
            options["seed"] = seed
        model: HashModel = cls(fitting.network(x, layers), **options)
        model.fit(x, y if model.needs_labels else None, verbose=0)
        return model
    if part.metric != "label distributions":
        layers += [
            keras.layers.Dense(_UNITS, "relu"),
            keras.layers.Dropout(_DROPOUT),
        ]
    model = cls(fitting.network(x, layers), **options)
    training = {**part.training, **row.training}
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        fitting.fit_vectors(model, x, y, **training)
    return model


def _encoded(part: Part, x: npt.NDArray[Any]) -> list[keras.layers.Layer]:
    """The layer that scales features, fitted to the training rows."""
    name = part.features.get("encoding", "standardized")
    if name == "none":
        return []
    layer = ENCODINGS[name]()
    layer.adapt(np.asarray(x))
    return [layer]


def _output(
    layers: list[keras.layers.Layer], x: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """The scaled features of rows."""
    return fitting.outputs(fitting.network(x, layers), x)


def _metrics(part: Part) -> list[dict[str, Any]]:
    """What a card says of the metrics of a part."""
    if part.metric == "SVM accuracy":
        return [{"name": "SVM accuracy"}]
    paper = {**PROTOCOLS[part.metric], "database": "encoded"}
    own = {
        **paper,
        "denominator": "min" if paper["at"] else "relevant",
        "ties": "expected",
        "empty": "zero",
    }
    named = {"mAP": paper, "mAP, ties averaged": own}
    return [
        {"name": name, **{k: v for k, v in choices.items() if v is not None}}
        for name, choices in named.items()
    ]


def definition(part: Part) -> str:
    """Say by what the values of a part are measured.

    Args:
        part: `Part`.

    Returns:
        str.
    """
    if part.measures:
        return f"label distributions of {part.neighbours} neighbours, where by codes"
    if part.metric == "SVM accuracy":
        return "accuracy of a linear support vector machine on the codes of queries"
    chosen: Mapping[str, Any] = _metrics(part)[0]
    at = chosen.get("at", "ALL")
    words = ", ".join(
        f"{name} {chosen[name]}" for name in ("denominator", "ties", "empty")
    )
    return f"mAP@{at}: {words}, database encoded"
