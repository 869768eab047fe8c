"""SSDH: its objective by hand, and training on several labels per image."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

from kerashash import evaluation
from kerashash.baselines import SSDH
from kerashash.maths import losses


@pytest.mark.parametrize("classification", ["softmax", "hinge"])
def test_loss_is_the_objective_by_hand(classification, rng):
    weights = {
        "classification_weight": 0.7,
        "binary_weight": 1.3,
        "balance_weight": 2.1,
    }
    model = SSDH("features", 6, 3, classification=classification, **weights)
    model.build((None, 4))
    u = np.tanh(rng.normal(size=(5, 6))).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 0]]
    a = (u + 1) / 2
    z = a @ model.classifier.kernel.numpy() + model.classifier.bias.numpy()
    if classification == "softmax":
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        e1 = -np.log(p[labels == 1]).mean()
    else:
        gap = np.where(labels == 1, np.maximum(1 - z, 0), np.maximum(z, 0))
        e1 = (gap**2 / 2).sum(axis=1).mean()
    e2 = -((a - 0.5) ** 2).mean()
    e3 = ((a.mean(axis=1) - 0.5) ** 2).mean()
    values = model.compute_losses(tf.constant(u), tf.constant(labels))
    expected = [0.7 * e1 + 1.3 * e2 + 2.1 * e3, e1, e2, e3]
    np.testing.assert_allclose([*values.values()], expected, rtol=1e-5)


def test_terms_push_activations_apart_and_balance_each_image():
    model = SSDH("features", 4, 2)
    model.build((None, 4))
    labels = tf.constant([[1.0, 0.0]])

    def terms(*u):
        values = model.compute_losses(tf.constant([u]), labels)
        return float(values["binary_loss"]), float(values["balance_loss"])

    assert terms(1.0, 1.0, -1.0, -1.0) == (-0.25, 0.0)
    assert terms(1.0, 1.0, 1.0, 1.0) == (-0.25, 0.25)
    assert terms(0.0, 0.0, 0.0, 0.0) == (0.0, 0.0)


def test_learns_images_of_several_labels(digit_pairs):
    x, labels, queries = digit_pairs
    model = SSDH(mlp(128), 16, 10, classification="hinge")
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(x[queries:], labels[queries:], batch_size=64, epochs=20, verbose=0)
    codes = model.encode(x)
    mean_ap = evaluation.mean_average_precision(
        codes[:queries], labels[:queries], codes[queries:], labels[queries:], bits=16
    )
    assert mean_ap > 0.45  # random codes: 0.34


def test_squared_hinge_is_zero_beyond_the_margins():
    labels = tf.constant([[1.0, 0.0, 1.0]])
    assert float(losses.squared_hinge(labels, tf.constant([[1.0, 0.0, 3.0]]))) == 0
    assert float(losses.squared_hinge(labels, tf.constant([[0.0, 2.0, 3.0]]))) == 2.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classification": "mse"}, "`classification` must be one of"),
        ({"binary_weight": -1}, "`binary_weight` must be at least 0"),
        ({"num_classes": 0}, "`num_classes` must be at least 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SSDH("features", **{"bits": 8, "num_classes": 3, **options})
