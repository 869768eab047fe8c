"""Training where Keras is set to float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_methods import build, rows_for

from kerashash.backbones.cnn_f import LocalResponseNormalization
from kerashash.methods import DCDH, DDH, DDHLDL, DSRE


@pytest.fixture(autouse=True)
def float64():
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [
        (DCDH, {"variant": "V", "pair_loss": "average_precision"}),
        (DDH, {}),
        (DDHLDL, {"code_epochs": 1}),
        (DSRE, {}),
    ],
)
def test_training(method, options, rng):
    x = rng.normal(size=(12, 8))
    labels = rows_for(method, np.eye(4)[np.arange(12) % 4])
    model = build(method, 8, 4, 12, bits=8, **options)
    model.compile(keras.optimizers.SGD(1e-3))
    epochs = 2 if method is DDHLDL else 1  # it has two stages
    model.fit(x, labels, batch_size=6, epochs=epochs, verbose=0)
    assert np.isfinite(model.continuous_codes(x)).all()
    assert model.encode(x).shape == (12, 1)


def test_response_normalization(rng):
    # CNN-F's; the network itself would take half a gigabyte.
    x = tf.constant(rng.normal(size=(1, 2, 2, 7)))
    y = LocalResponseNormalization()(x)
    assert y.dtype == tf.float64
    energy = np.sum(x[0, 0, 0, 1:6] ** 2)
    expected = x[0, 0, 0, 3] / (2 + 1e-4 * energy) ** 0.75
    np.testing.assert_allclose(y[0, 0, 0, 3], expected, rtol=1e-14)
