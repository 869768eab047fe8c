"""Forks of a process in which TensorFlow has run: what is refused, and what works."""

import concurrent.futures
import dataclasses
import os
import pickle
import signal
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash
from kerashash import backbones, data, forks
from kerashash.data import feature_cache, resizing
from kerashash.evaluation import compiled_counts
from kerashash.evaluation.relevance import Relevance
from kerashash.maths import discrete, label_graph, losses, similarity
from kerashash.retrieval.kernels import kernels_for
from kerashash.retrieval.program import AcceleratorBlock


def in_fork(*functions):
    """The result or the error of each function, all of them in one fork."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(20)  # what is not refused would wait for ever
        answers = []
        for function in functions:
            try:
                answers.append(function())
            except BaseException as error:
                answers.append(error)
        with open(writing, "wb") as file:
            pickle.dump(answers, file)
            file.flush()
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        answers = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return pickle.loads(answers)


def check_refused(*functions):
    tf.constant(1) + 1
    for answer in in_fork(*functions):
        assert isinstance(answer, RuntimeError), answer
        assert "get_context('spawn')" in str(answer)


@pytest.fixture
def model():
    model = kerashash.AdaLabelHash(mlp(6), bits=16, num_classes=3)
    model.compile("adam")
    return model


@pytest.fixture
def images(tmp_path):
    """Image files that are no squares."""
    paths = [tmp_path / label / f"{i}.png" for label in "ab" for i in range(4)]
    for path in paths:
        file = tf.io.encode_png(tf.zeros((8, 4, 3), tf.uint8))
        tf.io.write_file(str(path), file)
    return paths


def test_models_are_refused(model, rng, tmp_path):
    x, y = rng.normal(size=(3, 6)).astype(np.float32), np.arange(3)
    model.encode(x)
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)  # programs that have been traced ask nothing
    check_refused(
        lambda: model.encode(x),
        lambda: model.continuous_codes(x),
        lambda: model.predict(x),
        lambda: model.fit(x, y),
        lambda: model.evaluate(x, y),
        lambda: model.train_on_batch(x, y),
        lambda: model.test_on_batch(x, y),
        lambda: kerashash.AdaLabelHash("features", bits=8, num_classes=2),
        lambda: kerashash.export_encoder(model, tmp_path / "encoder"),
    )
    assert model.encode(x).shape[0] == 3


def test_networks_are_refused():
    check_refused(
        lambda: backbones.get("efficientnet-lite0", weights=None),
        lambda: backbones.get("cnn-f"),
        lambda: backbones.get("MobileNetV2", weights=None, image_size=32),
    )


def test_searches_by_kernels_are_refused(model, rng, tmp_path):
    codes = rng.integers(0, 256, (140_000, 2), dtype=np.uint8)
    large = kerashash.HammingRanker(codes, bits=16, index="scan")
    small = kerashash.HammingRanker(codes[:500], bits=16)
    block, kernels = AcceleratorBlock(codes[:5], start=0), kernels_for(16)
    relevance = Relevance([0], [0, 1], num_queries=1, num_items=2)
    check_refused(
        lambda: large.top_k(codes[:1], 3),
        lambda: large.within(codes[:1], 3),
        lambda: large.distances(codes[:1]),
        lambda: small.top_k(codes[:100], 3),
        lambda: kerashash.HammingRanker(codes[:500], bits=16).top_k(codes[:100], 3),
        lambda: small.to_saved_model(model, tmp_path / "search", k=3),
        lambda: block.nearest(kernels, codes[:1], 2),
        lambda: block.distances(kernels, codes[:1]),
        lambda: compiled_counts.histograms(codes[:1], codes[:2], 16, relevance),
    )


def test_images_are_refused(images):
    folder = images[0].parents[1]
    found = data.from_directory(folder, query_share=0.5, image_size=6)
    assert found.x[:1].shape == (1, 6, 6, 3)
    square = images[0].with_name("square.png")
    tf.io.write_file(str(square), tf.io.encode_png(tf.zeros((6, 6, 3), tf.uint8)))
    check_refused(
        lambda: data.read_images([square], 6),  # which is not resized
        lambda: resizing.resize(np.zeros((8, 4, 3), np.uint8), 6),
        lambda: found.x[:1],
        lambda: found.query,
    )


def test_data_sets_are_refused(digits):
    splits = {**digits.splits, "unlabelled": digits.splits["train"]}
    found = dataclasses.replace(digits, splits=splits)
    assert found.train is found.train  # made once: before the fork
    assert found.unlabelled is found.unlabelled
    check_refused(lambda: found.train, lambda: found.unlabelled, lambda: found.query)


def test_features_are_refused_but_for_those_on_disk(digits, tmp_path):
    net = mlp(64, [2])
    kept = data.cache_features(digits, net, tmp_path).x
    (read,) = in_fork(lambda: data.cache_features(digits, net, tmp_path).x[:5])
    np.testing.assert_array_equal(read, kept[:5])
    image = keras.Input((4, 4, 3))
    lower = keras.Model(image, keras.layers.Conv2D(2, 3)(image))
    images = np.zeros((2, 4, 4, 3), np.float32)
    check_refused(
        lambda: data.cache_features(digits, net, tmp_path / "other"),
        lambda: feature_cache.mirrored_features(lower, images, tmp_path),
    )


def test_maths_by_tensorflow_is_refused(rng):
    x, d = rng.normal(size=(9, 4)), np.eye(3)[[0, 1, 2] * 3]
    check_refused(
        lambda: similarity.nearest_neighbours(x, 2),
        lambda: similarity.expanded_neighbours(x, 2),
        lambda: similarity.shares_label(d, d),
        lambda: discrete.sign(x),
        lambda: losses.bit_balance(x),
        lambda: next(label_graph.adjacency_blocks(d, adjacency="raw")),
        lambda: label_graph.aggregate(d, x),
    )


def test_what_numpy_does_alone_works(digits, rng, tmp_path):
    codes = rng.integers(0, 256, (1000, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, 1000)
    store = kerashash.CodeStore.create(tmp_path / "s", bits=24)
    store.add(codes, ids=[f"{i}" for i in range(1000)])
    ranker = kerashash.HammingRanker(codes, bits=24)
    near, new, scores, few, many, x, features, size = in_fork(
        lambda: ranker.top_k(codes[:3], 5),
        lambda: kerashash.HammingRanker(codes[:, :1], bits=8).top_k(codes[:1, :1], 1),
        lambda: kerashash.evaluation.evaluate_codes(
            codes[:99], labels[:99], codes, labels, bits=24
        ),
        lambda: store.search(codes[:2], k=1).rows(1),
        lambda: store.search(codes[:500], k=1).rows(499),  # by a ranker, but in forks
        lambda: data.load("digits").arrays("query")[0],
        lambda: backbones.get("features").name,
        lambda: len(store.ranker()),
    )
    np.testing.assert_array_equal(near, ranker.top_k(codes[:3], 5))
    assert new[0].tolist() == [[0]]
    assert scores["mAP@ALL"] > 0.3
    assert few == [{"id": "1", "distance": 0}]
    assert many == [{"id": "499", "distance": 0}]
    assert x.shape == digits.arrays("query")[0].shape
    assert (features, size) == ("features", 1000)


def test_a_fork_made_before_tensorflow_has_run_is_not_refused(monkeypatch):
    name = "tensorflow.python.eager.context"
    for module in (None, types.SimpleNamespace(_context=None)):
        monkeypatch.setitem(sys.modules, name, module)
        assert in_fork(forks.is_forked, forks.check_not_forked) == [False, None]
    monkeypatch.undo()
    # Nor is a fork of a fork let through.
    assert in_fork(forks.is_forked, lambda: in_fork(forks.is_forked)) == [True, [True]]


def test_threads_of_several_devices_are_not_in_a_fork(monkeypatch):
    ranker = kerashash.HammingRanker(np.arange(6, dtype=np.uint8)[:, None], 8, 2)
    monkeypatch.setattr(ranker, "_places", 2 * ranker._places)  # as of two devices
    pool = concurrent.futures.ThreadPoolExecutor(2)
    monkeypatch.setattr(ranker, "_pool", pool, raising=False)
    query = np.zeros((1, 1), np.uint8)
    assert ranker.top_k(query, 2)[1].tolist() == [[0, 1]]
    monkeypatch.setattr(forks, "_is_forked", True)
    with pytest.raises(RuntimeError, match="was forked after TensorFlow has run"):
        ranker.top_k(query, 2)
