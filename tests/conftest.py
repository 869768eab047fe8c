"""Fixtures and helpers that several test modules use."""

import functools
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

import kerashash
from kerashash.data import builders, loading  # noqa: F401, builders registers

# What was imported stays, and networks are of very many objects: to look for garbage as
# often as Python does took a fifth of the time of tests that build some.
gc.freeze()
gc.set_threshold(50_000, 20, 20)

DATASETS = dict(loading._DATASETS)
#: A metric of a zoo entry's card.
METRIC = {
    "name": "mAP@ALL",
    "denominator": "relevant",
    "ties": "expected",
    "empty": "zero",
    "database": "encoded",
}


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def collect_garbage():
    """A function that collects what the test has left. What all tests before it in the
    process have left takes up to a minute to collect."""
    gc.disable()  # new objects stay among those that are looked at
    yield lambda: gc.collect(0)
    gc.enable()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def digits():
    return kerashash.data.load("digits")


@pytest.fixture(scope="session")
def digit_pairs():
    """Pairs of noisy digits with one or two labels: x, labels, and the number of
    queries, which are the first rows."""
    rng = np.random.default_rng(0)
    x, labels = kerashash.data.load("digits").arrays("database")
    a, b = rng.integers(0, len(x), (2, 1800))
    noise = 0.3 * rng.normal(size=(1800, 128))
    pairs = np.concatenate([x[a], x[b]], axis=1) + noise
    return pairs.astype(np.float32), labels[a] | labels[b], 300


def mlp(width, units=(128,)):
    """Make a small network on vectors."""
    layers = [keras.layers.Dense(u, activation="relu") for u in units]
    return keras.Sequential([keras.Input((width,)), *layers])


@functools.cache
def _source(name):
    size = (32,) if DATASETS[name].photographs else ()
    return DATASETS[name].source(None, *size)


def load_once(name, protocol, seed=0):
    """Call `kerashash.data.load`, reading each data set only once for all tests; skip
    the test if the data set is not prepared."""
    if name != "digits" and not tfds.builder(name).is_prepared():
        pytest.skip(f"{name} is not prepared on this machine")
    with pytest.MonkeyPatch.context() as patch:
        read = DATASETS[name]._replace(source=lambda *_: _source(name))
        patch.setitem(loading._DATASETS, name, read)
        return kerashash.data.load(name, protocol, seed)
