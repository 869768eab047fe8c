"""A SavedModel from inputs to neighbours, without kerashash."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash

PROGRAM = """
import sys
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
x = np.load(sys.argv[2])
distances, indices = loaded.search(x)
named = loaded.signatures["serving_default"](x=tf.constant(x))
assert (named["indices"].numpy() == indices.numpy()).all()
assert "kerashash" not in sys.modules
np.savez(sys.argv[3], distances=distances.numpy(), indices=indices.numpy())
"""


@pytest.fixture
def model():
    return kerashash.AdaLabelHash(mlp(6), bits=12, num_classes=3)


def test_a_fresh_process_searches_without_kerashash(model, rng, tmp_path):
    x = rng.normal(size=(5, 6)).astype(np.float32)
    database = model.encode(rng.normal(size=(5100, 6)))
    ranker = kerashash.HammingRanker(database, bits=12, block_size=5000)
    path = tmp_path / "model"
    ranker.to_saved_model(model, path, k=20)
    np.save(tmp_path / "x.npy", x)
    subprocess.run(
        [sys.executable, "-c", PROGRAM, path, tmp_path / "x.npy", tmp_path / "found"],
        check=True,
        cwd=tmp_path,
    )
    saved = np.load(tmp_path / "found.npz")
    distances, indices = ranker.top_k(model.encode(x), 20)
    np.testing.assert_array_equal(saved["distances"], distances)
    np.testing.assert_array_equal(saved["indices"], indices)


def test_bad_input_is_named_and_nothing_written(model, tmp_path):
    ranker = kerashash.HammingRanker(np.ones((3, 12)))
    (tmp_path / "taken").mkdir()
    with pytest.raises(FileExistsError, match="`path` must not exist"):
        ranker.to_saved_model(model, tmp_path / "taken", k=1)
    (tmp_path / "taken" / "file").touch()
    for wrong, error in (
        (None, TypeError),
        ("a\0b", ValueError),
        ("", ValueError),
        (tmp_path / "taken" / "file" / "x" / "y", ValueError),
    ):
        with pytest.raises(error, match="`path` must "):
            ranker.to_saved_model(model, wrong, k=1)
    with pytest.raises(ValueError, match=r"size 3.*k=4"):
        ranker.to_saved_model(model, tmp_path / "new", k=4)
    with pytest.raises(ValueError, match=r"`model` must have bits=8.*bits=12"):
        kerashash.HammingRanker(np.ones((3, 8))).to_saved_model(model, "new", k=1)
    with pytest.raises(TypeError, match="`model` must be a HashModel"):
        ranker.to_saved_model(mlp(6), tmp_path / "new", k=1)
    unbuilt = kerashash.AdaLabelHash("features", bits=12, num_classes=3)
    with pytest.raises(ValueError, match="`model` must be built"):
        ranker.to_saved_model(unbuilt, tmp_path / "new", k=1)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_images_without_rows_have_no_neighbours(tmp_path, monkeypatch):
    layers = [keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()]
    net = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
    monkeypatch.setenv("HOME", str(tmp_path))
    kerashash.HammingRanker(np.ones((3, 12))).to_saved_model(model, "~/model", k=2)
    loaded = tf.saved_model.load(tmp_path / "model")
    distances, indices = loaded.search(np.zeros((0, 8, 8, 3), np.float32))
    assert distances.shape == indices.shape == (0, 2)
    assert loaded.search(np.zeros((1, 8, 8, 3), np.float32))[0].shape == (1, 2)
