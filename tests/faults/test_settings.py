"""Settings of Keras and of the process, whatever they are, change no code."""

import os
import signal

import keras
import numpy as np
import pytest

import kerashash
from kerashash import zoo


@pytest.fixture
def policy():
    """Sets a dtype policy, until the test has ended."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "int8_from_float32"])
def test_codes_of_an_entry_do_not_depend_on_the_dtype_policy(policy, name):
    policy(name)
    # The configs of its backbones say no dtype. This compares its golden codes.
    model = zoo.load("dcdh-ap-mirflickr-12", strict=True)
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()}
    assert dtypes == {"float32"}
    assert keras.config.dtype_policy().name == name


def test_codes_of_a_file_do_not_depend_on_the_dtype_policy(policy, tmp_path, rng):
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(64)])
    model = kerashash.AdaLabelHash(network, bits=64, num_classes=3)
    x = rng.normal(size=(20, 6)).astype(np.float32)
    codes = model.encode(x, verbose=0)
    kerashash.save_model(model, tmp_path / "m.keras")
    policy("mixed_bfloat16")
    loaded = kerashash.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.encode(x, verbose=0), codes)


def test_a_fork_that_loads_a_model_is_refused(tmp_path):
    model = zoo.load("ssdh-digits-48")
    kerashash.save_model(model, tmp_path / "m.keras")
    uses = (
        lambda: zoo.load("ssdh-digits-48"),
        lambda: kerashash.load_model(tmp_path / "m.keras"),
    )
    pid = os.fork()
    if not pid:
        signal.alarm(20)  # it would wait for ever
        refused = 0
        for use in uses:
            try:
                use()
            except RuntimeError as error:
                refused += "get_context('spawn')" in str(error)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == len(uses)
