"""What Keras compiles by XLA, as it does by default where there is a GPU.

The rows are no multiple of the batch: the last batch is smaller.
"""

import keras
import numpy as np
import pytest
from conftest import mlp

from kerashash import backbones
from kerashash.backbones import efficientnet_lite
from kerashash.baselines import DTSH, NINH, SSDH, HashNet
from kerashash.methods import DCDH, DSRE, AdaLabelHash

ROWS = 13
METHODS = pytest.mark.parametrize(
    ("method", "options"),
    [
        (AdaLabelHash, {}),
        (
            DCDH,
            {"num_train": ROWS, "variant": "V", "pair_loss": "average_precision"},
        ),
        (DSRE, {}),
        (SSDH, {}),
    ],
)


def train(backbone, method, options, x):
    model = method(backbone, bits=8, num_classes=4, **options)
    model.compile(keras.optimizers.SGD(1e-3), jit_compile=True)
    labels = np.eye(4)[np.arange(len(x)) % 4]
    history = model.fit(x, labels, batch_size=8, epochs=2, verbose=0).history
    assert model.jit_compile
    assert np.isfinite(history["loss"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [(DTSH, {}), (NINH, {"units": 3}), (HashNet, {"continuous_similarity": True})],
)
def test_more_methods(method, options, rng):
    train(mlp(8, (8,)), method, options, rng.normal(size=(ROWS, 8)))


@METHODS
def test_methods(method, options, rng):
    train(mlp(8, (8,)), method, options, rng.normal(size=(ROWS, 8)))


@pytest.fixture
def one_block(monkeypatch):
    """EfficientNet-Lite of one block."""
    blocks = efficientnet_lite._LITE_BLOCKS[:1]
    monkeypatch.setattr(efficientnet_lite, "_LITE_BLOCKS", blocks)


@pytest.mark.slow
@pytest.mark.long
@METHODS
def test_methods_on_images(method, options, one_block, rng):
    images = rng.integers(0, 256, (ROWS, 9, 12, 3)).astype(np.uint8)
    backbone = backbones.get("efficientnet-lite0", image_size=32, weights=None)
    train(backbone, method, options, images)


def test_images_of_several_sizes(one_block, rng):
    """XLA compiles a program for each size."""
    backbone = backbones.get("efficientnet-lite0", image_size=32, weights=None)
    model = AdaLabelHash(backbone, bits=8, num_classes=4)
    model.compile(keras.optimizers.SGD(1e-3), jit_compile=True)
    for side in (9, 40):
        images = rng.integers(0, 256, (5, side, 12, 3)).astype(np.uint8)
        loss = model.train_on_batch(images, np.eye(4)[[0, 1, 2, 3, 0]])
        assert np.isfinite(loss).all()


@pytest.mark.slow
def test_a_network_of_images(rng):
    images = rng.integers(0, 256, (5, 9, 12, 3)).astype(np.uint8)
    model = AdaLabelHash(backbones.get("cnn-f"), bits=8, num_classes=4)
    model.compile(keras.optimizers.SGD(1e-3), jit_compile=True)
    history = model.fit(images, np.arange(5) % 4, batch_size=3, verbose=0).history
    assert model.jit_compile
    assert np.isfinite(history["loss"]).all()
