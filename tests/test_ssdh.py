"""SSDH: its terms, and training on several labels per image."""

import keras
import pytest
import tensorflow as tf
from conftest import mlp

from kerashash import evaluation
from kerashash.baselines import SSDH
from kerashash.maths import losses


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
