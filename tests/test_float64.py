"""Training where Keras is set to float64."""

import keras
import numpy as np
import pytest
from conftest import mlp

from kerashash.methods import DCDH


@pytest.fixture
def float64():
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


def test_average_precision(float64, rng):
    options = {"variant": "V", "pair_loss": "average_precision"}
    model = DCDH(mlp(8), bits=8, num_classes=4, num_train=13, **options)
    model.compile(keras.optimizers.SGD(1e-3))
    x = rng.normal(size=(13, 8))
    loss = model.fit(x, np.arange(13) % 4, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    assert model.encode(x).shape == (13, 1)
