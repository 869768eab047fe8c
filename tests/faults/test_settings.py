"""Settings of Keras and of the process, whatever they are, change no code."""

import os
import pwd
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerashash
from kerashash import installed, keras_backend, zoo


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


def test_a_home_folder_that_is_not_known_is_said_of_no_variable(monkeypatch):
    """As in a container, whose user is in no list."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")
    for name in (None, ""):
        monkeypatch.delenv("KERASHASH_CACHE", raising=False)
        if name is not None:
            monkeypatch.setenv("KERASHASH_CACHE", name)
        message = r"`KERASHASH_CACHE` must be .* It is not set, and ~/\.cache/kerashash"
        with pytest.raises(ValueError, match=message):
            installed.cache()
    monkeypatch.setenv("KERASHASH_CACHE", "~nobodyx")
    with pytest.raises(ValueError, match=r"must be .* Received: '~nobodyx'"):
        installed.cache()


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


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The file of Keras' settings, which is not there."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path / "keras.json"


def test_another_backend_is_named_with_what_sets_it(settings, monkeypatch):
    keras_backend.check()
    for text in ("", "[]", '{"floatx": "float32"}', '{"backend": "tensorflow"}'):
        settings.write_text(text)
        keras_backend.check()
    settings.write_text('{"backend": "torch"}')
    with pytest.raises(ImportError, match=r"\"backend\": 'torch' in .*/keras\.json\. "):
        keras_backend.check()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    keras_backend.check()
    with pytest.raises(ImportError, match="Keras was imported with 'jax'"):
        keras_backend.check("jax")
    monkeypatch.setenv("KERAS_BACKEND", "xyz")
    with pytest.raises(ImportError, match=r"must be TensorFlow .* KERAS_BACKEND='xyz'"):
        keras_backend.check()


@pytest.mark.parametrize("variable", ["KERAS_HOME", "HOME"])
def test_the_backend_is_checked_before_kerashash_imports_keras_and_for_no_other(
    variable, tmp_path, monkeypatch
):
    for name in ("KERAS_HOME", "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    folder = tmp_path if variable == "KERAS_HOME" else tmp_path / ".keras"
    folder.mkdir(exist_ok=True)
    (folder / "keras.json").write_text('{"backend": "none"}')
    program = """
import kerashash.store
for name in ("kerashash.saving", "keras"):
    try:
        __import__(name)
    except Exception as error:
        print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    ours, of_keras = result.stdout.splitlines()
    assert f"Received: \"backend\": 'none' in {folder / 'keras.json'}. S" in ours
    assert of_keras == "Unable to import backend : none"


def test_tensorflow_that_kerashash_imports_does_not_meet_a_wrong_backend(monkeypatch):
    """It imports Keras too, and goes on without it: rankers need none."""
    finder = next(f for f in sys.meta_path if isinstance(f, keras_backend._Finder))
    monkeypatch.setenv("KERAS_BACKEND", "jax")

    def look(*modules):
        """Look for Keras in a module, which the next imports, and so on."""
        code = "finder.find_spec('keras')"
        for name in modules:
            code = f"exec({code!r}, {{'finder': finder, '__name__': {name!r}}})"
        exec(code, {"finder": finder, "__name__": "theirs"})

    look()
    look("tensorflow")
    for modules in (["kerashash.maths"], ["tensorflow", "kerashash.maths"]):
        with pytest.raises(ImportError, match="KERAS_BACKEND='jax'"):
            look(*modules)
    assert finder.find_spec("keras") is None  # in a function of others
