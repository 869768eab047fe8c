"""What the weight files of entries hold, and what they leave out."""

import json
import shutil

import h5py
import keras
import numpy as np
import pytest
from conftest import METRIC, mlp

import kerashash
from kerashash import installed, zoo
from kerashash.zoo import weight_files

SPLITS = ("query", "database")


def trained(method, rng):
    """A small trained model with networks that only training uses, and its data."""
    x = rng.normal(size=(24, 6)).astype(np.float32)
    if method == "DCDH":
        y = np.arange(24) % 3
        model = kerashash.DCDH(
            mlp(6), 12, 3, len(x), label_units=(5,), fusion_units=(7,)
        )
    else:
        y = rng.random((24, 3)).astype(np.float32)
        y /= y.sum(axis=1, keepdims=True)
        model = kerashash.DDHLDL(
            mlp(6), 12, 3, len(x), code_epochs=1, code_units=(8,), function_units=(8,)
        )
    model.compile("adam")
    model.fit(x, y, epochs=2, verbose=0)
    return model, x, y


@pytest.fixture(scope="module", params=["DCDH", "DDHLDL"])
def entry(request, tmp_path_factory):
    """A model, its data, its name and the `Entry`."""
    rng = np.random.default_rng(0)
    model, x, y = trained(request.param, rng)
    zoo.round_weights(model)
    codes = {}
    for split in ("query", "database"):
        codes[f"{split}_codes"] = model.encode(x, verbose=0)
        codes[f"{split}_labels"] = np.eye(3, dtype=np.uint8)[np.arange(24) % 3]
    name = f"{request.param.lower()}-noise-12"
    root = tmp_path_factory.mktemp("zoo")
    return model, x, y, zoo.save(model, name, {"metrics": [METRIC]}, codes, root=root)


def test_networks_of_training_are_left_out(entry):
    model, x, _, found = entry
    with h5py.File(found.path / "model.weights.h5") as file:
        assert not {*model.training_networks} & {*file}
        codes = file["vars/0"][()]
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, kerashash.codes.pack(model.learned_codes()))
    loaded = zoo.load(found.path)
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    np.testing.assert_array_equal(loaded.learned_codes(), model.learned_codes())
    if isinstance(model, kerashash.DDHLDL):
        predicted = loaded.predict_distribution(x, k=3)
        np.testing.assert_array_equal(predicted, model.predict_distribution(x, k=3))


@pytest.mark.slow
def test_a_model_without_networks_of_training_begins_training_anew(entry):
    model, x, y, found = entry
    loaded = zoo.load(found.path)
    if isinstance(model, kerashash.DDHLDL):
        assert loaded.epochs_done.numpy() == 0
    loaded.compile("adam")
    history = loaded.fit(x, y, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    stages = {"code_loss", "function_loss"} & {*history}
    assert not isinstance(model, kerashash.DDHLDL) or len(stages) == 2
    assert loaded.learned_codes().shape == (24, 12)


def test_networks_that_an_earlier_entry_holds_are_loaded(entry, tmp_path):
    model, *_, found = entry
    path = tmp_path / "model.weights.h5"
    keras.saving.save_weights(model, path, objects_to_skip=[model._training_state])
    with h5py.File(path, "r+") as file:  # one number a bit, as it was
        del file["vars/0"]
        file["vars/0"] = model.learned_codes()
    loaded = zoo.load(found.path)
    weight_files.load(loaded, path, [])
    for new, old in zip(loaded.variables, model.variables, strict=True):
        if old.name != "seed_generator_state":
            np.testing.assert_array_equal(new.numpy(), old.numpy())


def saved(model, root):
    codes = {f"{split}_codes": np.zeros((2, 2), np.uint8) for split in SPLITS}
    labels = {f"{split}_labels": np.eye(3, dtype=np.uint8)[:2] for split in SPLITS}
    name = f"{type(model).__name__.lower()}-noise-12"
    return zoo.save(model, name, {"metrics": [METRIC]}, codes | labels, root=root)


@pytest.mark.parametrize("most", [None, 1_000_000])
def test_large_networks_of_training_are_of_entries_that_load(
    tmp_path, monkeypatch, most
):
    """They are larger than the other weights justify."""
    if most is not None:
        monkeypatch.setattr(weight_files, "TRAINING_VALUES", most)
    model = kerashash.DCDH(
        mlp(6), 12, 3, 4, label_units=(1100, 1100), fusion_units=(7,)
    )
    found = saved(model, tmp_path)
    with h5py.File(found.path / "model.weights.h5") as file:
        assert ("label_net" in file) == (most is not None)
    loaded = zoo.load(found.path)
    equal = np.array_equal(
        loaded.label_net.get_weights()[-2],
        model.label_net.get_weights()[-2].astype(np.float16),
    )
    assert equal == (most is not None)


def test_codes_of_many_training_rows_are_loaded(tmp_path):
    """A file holds eight of them in a byte."""
    model = kerashash.DSRE(mlp(6), bits=16, num_classes=3, num_train=150_000)
    model.train_codes.assign(np.ones((150_000, 16), np.int8))
    kerashash.save_model(model, tmp_path / "many.keras")
    loaded = kerashash.load_model(tmp_path / "many.keras")
    assert loaded.train_codes.numpy().all()


@pytest.mark.parametrize("shape", [(24, 1), (23, 2), (24, 2)])
def test_packed_codes_that_do_not_fit_are_refused(entry, tmp_path, shape):
    _, *_, found = entry
    path = tmp_path / "model.weights.h5"
    path.write_bytes((found.path / "model.weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["vars/0"]
        file["vars/0"] = np.full(shape, 255, np.uint8)  # padding bits must be 0
    with pytest.raises(ValueError, match=rf"{path.name} must hold the weights"):
        weight_files.load(zoo.load(found.path), path, [])


def test_codes_that_are_not_all_learned_are_saved_as_they_are(tmp_path):
    model = kerashash.DSRE(mlp(6), bits=12, num_classes=3, num_train=5)
    codes = np.sign(np.arange(60).reshape(5, 12) % 3 - 1)
    model.train_codes.assign(codes)
    kerashash.save_model(model, tmp_path / "part.keras")
    loaded = kerashash.load_model(tmp_path / "part.keras")
    np.testing.assert_array_equal(loaded.train_codes.numpy(), codes)


def test_backbones_of_earlier_cards_are_taken(tmp_path):
    """Entries of other registries name the file in which kernels were float32."""
    copy = tmp_path / "ddh-flowers17-64"
    shutil.copytree(zoo.entry(copy.name).path, copy)
    card = json.loads((copy / "card.json").read_text())
    for network in card["shared"]:
        path = installed.network(network["file"])
        (former,) = installed.backbone_card(path)["formerly"]
        assert former["bytes"] > 1.9 * path.stat().st_size  # which is in float16 now
        network |= former
    (copy / "card.json").write_text(json.dumps(card))
    assert zoo.verify(copy)
    network["sha256"] = network["sha256"][::-1]
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="is not the file that its card describes"):
        zoo.entry(copy)
    assert installed.backbone_card(tmp_path / path.name) == {}
