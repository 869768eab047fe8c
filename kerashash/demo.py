"""The main job on embedded data: train, evaluate, save, reload, rank, verify."""

import pathlib
import time

import keras
import numpy as np

import kerashash
from kerashash import evaluation, zoo
from kerashash.evaluation.relevance import Relevance
from kerashash.monitoring import plots

BITS = 48
ZOO_ENTRY = "adalabel-cifar10-48"


def run(output):
    """Run the demo and write its logs, model and picture to a folder.

    Args:
        output: path of the folder.
    """
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
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
    model.save(path)
    reloaded = keras.saving.load_model(path)
    codes = reloaded.encode(data.database)
    queries = reloaded.encode(data.query)
    if not np.array_equal(codes, model.encode(data.database)):
        raise RuntimeError(f"{path} gives other codes than the model saved in it.")

    print(f"\n{'':34}mAP@ALL   bytes per image")
    for name, value, size in _compare(data, queries, codes):
        print(f"{name:34}{value:7.4f}   {size:15}")

    ranker = kerashash.HammingRanker(codes, bits=BITS)
    picture = output / "retrieval.png"
    _draw(data, ranker, queries, picture)
    print(
        f"\nSaved, reloaded: {path}\nQueries with their top 10: {picture}\n"
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


def _train(data, logs):
    network = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(256, activation="relu"),
        ]
    )
    model = kerashash.DCDH(
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
        callbacks=[
            kerashash.callbacks.RetrievalEvaluation(data, log_dir=logs, every=3),
            keras.callbacks.TensorBoard(logs),
        ],
    )
    return model


def _compare(data, queries, codes):
    """Rows of the table: name, mAP@ALL, bytes an image."""
    labels = (data.query_labels, data.database_labels)
    random = np.random.default_rng(0).choice([-1, 1], (data.num_database, BITS))
    random_queries = np.random.default_rng(1).choice([-1, 1], (data.num_query, BITS))
    yield (
        f"random codes, {BITS} bits",
        evaluation.mean_average_precision(random_queries, labels[0], random, labels[1]),
        BITS // 8,
    )
    x, _ = data.arrays("database")
    yield "cosine of the pixels, float32", _cosine(data), x[0].nbytes
    yield (
        f"DCDH, {BITS} bits",
        evaluation.mean_average_precision(
            queries, labels[0], codes, labels[1], bits=BITS
        ),
        BITS // 8,
    )


def _cosine(data):
    """mAP@ALL of ranking by the cosine of the inputs themselves."""
    from sklearn.metrics import average_precision_score

    query, database = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (data.arrays("query")[0], data.arrays("database")[0])
    )
    relevant = _relevance(data).of(slice(None))
    return np.mean(
        [
            average_precision_score(truth, score)
            for truth, score in zip(relevant, query @ database.T, strict=True)
        ]
    )


def _draw(data, ranker, queries, path):
    """Ten queries, one of each class, with their ten nearest neighbours."""
    rows = data.query_labels.argmax(axis=0)  # the first query of each class
    _, nearest = ranker.top_k(queries[rows], k=10)
    x, _ = data.arrays("query")
    y, _ = data.arrays("database")
    relevant = _relevance(data).of(rows, nearest)
    plots.retrieval_grid(
        x[rows].reshape(-1, 8, 8), y[nearest].reshape(-1, 10, 8, 8), relevant, path
    )


def _relevance(data):
    return Relevance(
        data.query_labels, data.database_labels, data.num_query, data.num_database
    )
