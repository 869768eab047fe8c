"""Models saved by earlier versions load, and give the codes that they gave then."""

import pathlib

import keras
import numpy as np
import pytest

import kerashash.methods  # registers the classes  # noqa: F401

SAVED = pathlib.Path(__file__).parent / "data" / "saved_by_0_1_0"


@pytest.mark.parametrize("name", sorted(path.stem for path in SAVED.glob("*.keras")))
def test_models_of_version_0_1_0_load(name):
    stored = np.load(SAVED / "codes.npz")
    model = keras.saving.load_model(SAVED / f"{name}.keras")
    np.testing.assert_array_equal(model.encode(stored["x"]), stored[name])
    if f"{name}_learned" in stored:
        learned = stored[f"{name}_learned"]
        np.testing.assert_array_equal(model.learned_codes(), learned)
