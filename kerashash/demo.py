"""A tour on a built-in data set: train, evaluate, save, reload, rank, verify."""

import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

import keras
import numpy as np
import numpy.typing as npt

import kerashash
from kerashash import evaluation, files, zoo
from kerashash.codes import in_bits
from kerashash.data import RetrievalData
from kerashash.evaluation.relevance import Relevance
from kerashash.methods import DCDH
from kerashash.monitoring import plots
from kerashash.retrieval import HammingRanker

BITS = 48
ZOO_ENTRY = "adalabel-cifar10-48"


def run(output: str | os.PathLike[str]) -> None:
    """Run the demo and write its logs, model and picture to a folder.

    Args:
        output: path of the folder; it is created if missing.

    Raises:
        OSError: if the folder cannot be written.
    """
    output = files.as_path(output, "output")
    try:  # before the training, not after it
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        raise OSError(
            "`output` must be a folder that can be written. Received: "
            f"'{output}': {error.strerror}."
        ) from error
    start = time.monotonic()
    keras.utils.set_random_seed(0)
    data = kerashash.data.load("digits")
    print(
        f"digits: {data.num_train} training images = database, {data.num_query} "
        f"queries\n\nTraining DCDH, {BITS} bits"
    )
    logs = output / "logs" / time.strftime("%Y%m%d-%H%M%S")
    model = _train(data, logs)

    path = output / "dcdh-digits-48.keras"
    kerashash.save_model(model, path)
    reloaded = kerashash.load_model(path)
    codes = reloaded.encode(data.database)
    queries = reloaded.encode(data.query)
    if not np.array_equal(codes, model.encode(data.database)):
        raise RuntimeError(
            f"The model loaded from {path} gives other codes than the saved one."
        )

    print(f"\n{'':34}mAP@ALL   bytes per image")
    for name, value, size in _compare(data, queries, codes):
        print(f"{name:34}{value:7.4f}   {size:15}")

    ranker = HammingRanker(codes, bits=BITS)
    picture = output / "retrieval.png"
    _draw(data, ranker, queries, picture)
    print(
        f"\nSaved, reloaded: {path}\nHardest queries, their top 10: {picture}\n"
        f"Watch the training: tensorboard --logdir {output / 'logs'}\n"
    )

    entry = zoo.entry(ZOO_ENTRY)
    zoo.load(ZOO_ENTRY)
    print(f"Zoo: loaded {entry.name}, trained on {entry.card['trained_on']}")
    for metric in zoo.verify(ZOO_ENTRY):
        print(
            f"  {metric['name']}, {metric['ties']} ties: card {metric['value']:.4f}, "
            f"recomputed from its codes {metric['recomputed']:.4f}"
        )
    print(f"\nDone in {time.monotonic() - start:.0f} s")


def _train(data: RetrievalData, logs: pathlib.Path) -> DCDH:
    network = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(256, activation="relu"),
        ]
    )
    model = DCDH(
        network,
        bits=BITS,
        num_classes=data.num_classes,
        num_train=data.num_train,
        label_units=(256,),
        fusion_units=(256,),
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.fit(
        data.train.batch(64),
        epochs=15,
        callbacks=kerashash.callbacks.monitor(data, logs, every=5),
    )
    return model


def _compare(
    data: RetrievalData, queries: npt.NDArray[np.uint8], codes: npt.NDArray[np.uint8]
) -> Iterator[tuple[str, float, int]]:
    """Yield the rows of the table: name, mAP@ALL, bytes per image."""
    query_labels, labels = data.query_labels, data.database_labels
    random_codes = np.random.default_rng(0).choice([-1, 1], (data.num_database, BITS))
    random_queries = np.random.default_rng(1).choice([-1, 1], (data.num_query, BITS))
    yield (
        f"random codes, {BITS} bits",
        evaluation.mean_average_precision(
            random_queries, query_labels, random_codes, labels
        ),
        BITS // 8,
    )
    x, _ = data.arrays("database")
    yield "cosine of the pixels, float32", _cosine_map(data), x[0].nbytes
    yield (
        f"DCDH, {BITS} bits",
        evaluation.mean_average_precision(
            queries, query_labels, codes, labels, bits=BITS
        ),
        BITS // 8,
    )


def _cosine_map(data: RetrievalData) -> float:
    """mAP@ALL of ranking by cosine similarity of the pixels."""
    from sklearn.metrics import average_precision_score

    query, database = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (data.arrays("query")[0], data.arrays("database")[0])
    )
    relevant = _relevance(data).of(slice(None))
    return float(
        np.mean(
            [
                average_precision_score(truth, score)
                for truth, score in zip(relevant, query @ database.T, strict=True)
            ]
        )
    )


def _draw(
    data: RetrievalData,
    ranker: HammingRanker,
    queries: npt.NDArray[np.uint8],
    path: pathlib.Path,
) -> None:
    """Plot the hardest query of each class with its ten nearest neighbours."""
    distances, nearest = ranker.top_k(queries, k=10)
    relevant = _relevance(data).of(slice(None), nearest)  # (q, 10)
    hits = np.where(data.query_labels.T > 0, relevant.sum(axis=1), np.inf)
    rows = hits.argmin(axis=1)  # of each class, the query with the most misses
    x, _ = data.arrays("query")
    y, _ = data.arrays("database")
    captions = [[in_bits(distance) for distance in row] for row in distances[rows]]
    plots.retrieval_grid(
        1 - x[rows].reshape(-1, 8, 8),  # the digits are bright on black
        1 - y[nearest[rows]].reshape(-1, 10, 8, 8),
        relevant[rows],
        path,
        captions,
        title="Of each digit, the query with the most misses, and its 10 nearest",
    )


def _relevance(data: RetrievalData) -> Relevance:
    return Relevance(
        data.query_labels, data.database_labels, data.num_query, data.num_database
    )
