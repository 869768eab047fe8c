"""Deep baselines: what is special to each, and stage 1 of CNNH."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

from kerashash.baselines import CNNH, DISH, DPSH, DSDH, DTSH, NINH, HashNet
from kerashash.maths import factorization, losses
from kerashash.maths.factorization import similarity_codes


def objective(labels, h):
    s = np.where(labels @ labels.T > 0, 1, -1)
    return ((s - h @ h.T / h.shape[1]) ** 2).sum()


@pytest.mark.parametrize("several", [False, True])
def test_no_step_of_the_factorization_raises_its_objective(several, rng):
    labels = np.eye(4)[rng.integers(4, size=60)]
    if several:
        labels[::3, 0] = 1
        labels[7] = 0  # similar to no row, not even to itself
    similar = factorization._SignedSimilarity(labels)
    vector = rng.normal(size=60)
    s = np.where(labels @ labels.T > 0, 1, -1)
    np.testing.assert_allclose(similar.product(vector), s @ vector, rtol=1e-5)
    h = rng.uniform(-1, 1, (60, 8))
    values = [objective(labels, h)]
    for _, column in itertools.product(range(15), range(8)):
        h[:, column] = factorization._solved_column(h, column, similar)
        values.append(objective(labels, h))
    assert (np.diff(values) <= 1e-6 * values[0]).all()
    assert values[-1] < 0.8 * values[0]
    # At the end no coordinate alone can be moved to lower it by much.
    for row, column, value in itertools.product(range(0, 60, 7), range(8), (-1, 0, 1)):
        other = h.copy()
        other[row, column] = value
        assert objective(labels, other) > 0.99 * values[-1]


def test_two_classes_factorise_exactly():
    labels = np.eye(2)[np.arange(30) % 2]
    codes = similarity_codes(labels, bits=4)
    assert codes.dtype == np.int8
    assert objective(labels, codes.astype(float)) == 0


def test_codes_of_few_rows_are_near_the_best_of_all():
    labels = np.eye(3)[np.arange(6) % 3]
    signs = np.array([*itertools.product([-1.0, 1.0], repeat=6)])
    best = min(
        objective(labels, signs[[*columns]].T)
        for columns in itertools.combinations_with_replacement(range(64), 2)
    )
    found = min(
        objective(labels, similarity_codes(labels, 2, seed=seed).astype(float))
        for seed in range(3)
    )
    assert found == pytest.approx(best)


def test_codes_of_cnnh_are_those_of_its_training_rows():
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    model = CNNH(mlp(5, (4,)), 6, 3, 20)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    for ids in (np.arange(20) % 3, np.arange(20) % 2):
        model.fit(x, ids, verbose=0)
        expected = similarity_codes(np.eye(3)[ids], 6)
        np.testing.assert_array_equal(model.learned_codes(), expected)


def test_losses_of_triplets_are_zero_without_any():
    u = tf.constant([[1.0, -1.0], [0.5, 0.5]])
    for similar in (tf.eye(2), tf.ones((2, 2)), tf.zeros((2, 2))):
        assert float(losses.triplet_likelihood(u, similar)) == 0
        assert float(losses.triplet_hinge(u, similar)) == 0


def test_a_row_without_labels_is_no_triplet_with_itself():
    similar = tf.constant([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    u = tf.constant([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    assert float(losses.triplet_hinge(u, similar, margin=1.5)) == 0.5


def test_log_cosh_of_large_codes_is_finite():
    value = losses.log_cosh_quantization(tf.constant([[500.0, -500.0]]))
    np.testing.assert_allclose(float(value), 499 - np.log(2), rtol=1e-6)


@pytest.mark.parametrize("method", [DPSH, DTSH])
def test_linear_codes_begin_small(method, rng):
    x = 3 * rng.normal(size=(50, 512)).astype(np.float32)
    model = method("features", 48, 10)
    # The likelihood of a pair is saturated where |t_ij| is 10 or more.
    u = model(x).numpy()
    usual = method("features", 48, 10, hash_initializer="glorot_uniform")(x).numpy()
    for codes, bounds in ((u, (0.1, 5.0)), (usual, (20.0, 100.0))):
        t = (codes @ codes.T / 2)[np.triu_indices(50, 1)]
        assert bounds[0] < np.abs(t).mean() < bounds[1]


def test_hashnet_weighs_nothing_in_a_batch_of_one_kind_of_pair():
    model = HashNet(mlp(5, (4,)), 6, 2)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x = np.ones((4, 5), np.float32)
    for ids in (np.zeros(4, int), np.array([0])):
        loss = model.fit(x[: len(ids)], ids, verbose=0).history["loss"]
        assert np.isfinite(loss).all()


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        (DPSH, {"quantization_weight": -1}, ValueError, "`quantization_weight` must"),
        (DTSH, {"margin": -1}, ValueError, "`margin` must be at least 0"),
        (HashNet, {"growth": -1}, ValueError, "`growth` must be at least 0"),
        (HashNet, {"scale": -1}, ValueError, "`scale` must be at least 0"),
        (NINH, {"epsilon": 0}, ValueError, r"`epsilon` must be in \(0, 0.5\]"),
        (NINH, {"epsilon": 0.6}, ValueError, r"`epsilon` must be in \(0, 0.5\]"),
        (NINH, {"units": 0}, ValueError, "`units` must be at least 1"),
        (NINH, {"bits": 0}, ValueError, "`bits` must be"),
        (CNNH, {"num_train": 0}, ValueError, "`num_train` must be at least 1"),
        (CNNH, {"num_train": 9, "sweeps": 0}, ValueError, "`sweeps` must be"),
        (DSDH, {"num_train": None}, TypeError, "`num_train` must be an integer"),
        (DSDH, {"num_train": 9, "classification_weight": 0}, ValueError, "positive"),
        (DISH, {"num_classes": None}, ValueError, "`num_classes` must be"),
    ],
)
def test_wrong_options_are_named(method, options, error, message):
    with pytest.raises(error, match=message):
        method("features", **{"bits": 8, "num_classes": 3, **options})
