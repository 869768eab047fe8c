"""Models in files: written in one piece, and read without trust."""

import io
import json
import os
import stat
import zipfile

import h5py
import keras
import numpy as np
import pytest
from conftest import mlp
from fuzz import sign

import kerashash
from kerashash import files, saving, zoo


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    model = kerashash.AdaLabelHash(mlp(6, (4,)), bits=12, num_classes=3)
    model.compile("adam")
    model.fit(rng.normal(size=(8, 6)), np.arange(8) % 3, verbose=0)
    return model


@pytest.fixture(scope="module")
def content(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "m.keras"
    kerashash.save_model(model, path)
    return path.read_bytes()


@pytest.fixture
def path(content, tmp_path):
    (tmp_path / "m.keras").write_bytes(content)
    return tmp_path / "m.keras"


def changed(path, change_config=None, change_weights=None):
    """Write a model file anew, with another config or other weights."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if change_config:
        config = json.loads(members["config.json"])
        change_config(config)
        members["config.json"] = json.dumps(config)
    if change_weights:
        buffer = io.BytesIO(members["model.weights.h5"])
        with h5py.File(buffer, "r+") as file:
            change_weights(file)
        members["model.weights.h5"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


# Writing


def test_a_saved_model_has_its_codes_and_optimizer(model, path, rng):
    x = rng.normal(size=(9, 6))
    loaded = kerashash.load_model(path)
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    for new, old in zip(
        loaded.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(new, old)
    assert int(loaded.optimizer.iterations) == 1


def test_a_model_in_bfloat16_is_read_again(tmp_path, rng):
    dense = keras.layers.Dense(8, dtype="bfloat16")
    net = keras.Sequential([keras.Input((4,)), dense])
    model = kerashash.AdaLabelHash(net, bits=12, num_classes=3, dtype="bfloat16")
    kerashash.save_model(model, tmp_path / "b.keras")
    x, loaded = rng.normal(size=(9, 4)), kerashash.load_model(tmp_path / "b.keras")
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))


def test_a_model_that_cannot_be_written_leaves_the_old_one(model, path, monkeypatch):
    before = path.read_bytes()

    def fail(self, file, *_, **__):
        file.write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(keras.Model, "save", fail)
    with pytest.raises(OSError, match="no space"):
        kerashash.save_model(model, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["m.keras"]


def test_modes_and_links_are_kept(model, path):
    umask = os.umask(0o027)
    try:
        kerashash.save_model(model, path.with_name("new.keras"))
        assert stat.S_IMODE(path.with_name("new.keras").stat().st_mode) == 0o640
        path.chmod(0o664)
        link = path.with_name("latest.keras")
        link.symlink_to(path.name)
        kerashash.save_model(model, link)
    finally:
        os.umask(umask)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert kerashash.load_model(link).bits == 12


def test_what_a_killed_writer_has_left_is_removed(model, path):
    stale = path.with_name(".m.keras.kerashash-01234567")
    stale.mkdir()
    (stale / "model.keras").write_bytes(b"half of it")
    kerashash.save_model(model, path)
    assert os.listdir(path.parent) == ["m.keras"]


def test_wrong_arguments_of_save_model(model, path, tmp_path):
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"`model` must be a HashModel.*Sequential"):
        kerashash.save_model(mlp(4), path)
    unbuilt = kerashash.AdaLabelHash("features", bits=12, num_classes=3)
    with pytest.raises(ValueError, match="`model` must be built"):
        kerashash.save_model(unbuilt, path)
    with pytest.raises(ValueError, match=r"`path` must end in \.keras.*m\.h5"):
        kerashash.save_model(model, tmp_path / "m.h5")
    with pytest.raises(ValueError, match=r"`path` must end in \.keras.*n\.keras/"):
        kerashash.save_model(model, f"{tmp_path}/n.keras/")
    with pytest.raises(ValueError, match=r"overwrite=True.*m\.keras"):
        kerashash.save_model(model, path, overwrite=False)
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(ValueError, match="`path` must be a file"):
        kerashash.save_model(model, tmp_path / "folder.keras")
    assert path.read_bytes() == before


# Reading


@pytest.mark.parametrize("name", ["m.KERAS", "m.zip", "m"])
def test_a_model_under_a_name_that_keras_does_not_read(path, name):
    other = path.rename(path.with_name(name))
    with pytest.raises(ValueError, match=rf"{name}', whose name does not end in \.ker"):
        kerashash.load_model(other)


def place(file):
    """The name of a weight in a file."""
    names = []
    file.visititems(
        lambda name, item: (
            names.append(name) if isinstance(item, h5py.Dataset) else None
        )
    )
    return next(name for name in names if "optimizer" not in name)


def link(file, target):
    name = place(file)
    del file[name]
    file[name] = target


def outside(file):
    name = place(file)
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, shape, "f4", external=[("/etc/passwd", 0, 4096)])


@pytest.mark.parametrize(
    "change",
    [
        lambda file: link(file, h5py.ExternalLink("/etc/passwd", "/")),
        lambda file: link(file, h5py.SoftLink("/optimizer")),
        outside,
    ],
    ids=["external link", "soft link", "external storage"],
)
def test_weights_outside_of_the_file_are_refused_unread(path, change, monkeypatch):
    changed(path, change_weights=change)
    monkeypatch.setattr(keras.saving, "load_model", pytest.fail)
    with pytest.raises(ValueError, match=r"`path` must be.*m\.keras.*refused"):
        kerashash.load_model(path)


@pytest.mark.parametrize("units", [10**7, 10**9, 2**62])
def test_layers_larger_than_the_file_are_refused(path, units, monkeypatch):
    def grow(config):
        config["config"]["backbone"]["config"]["layers"][1]["config"]["units"] = units

    changed(path, grow)
    with pytest.raises(ValueError, match=r"m\.keras.*has a weight of shape \(6, "):
        kerashash.load_model(path)


@pytest.mark.parametrize("value", ["/etc/passwd", "imagenet", "../x.weights.h5"])
def test_a_config_that_names_a_file_of_weights_is_refused(path, value):
    changed(path, lambda config: config["config"].update(weights=value))
    with pytest.raises(ValueError, match=r"m\.keras.*`weights` = "):
        kerashash.load_model(path)


def test_damaged_files_are_named(path):
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        starts = [member.header_offset + 100 for member in archive.infolist()]
    for damage in (
        good[:-30],
        good[: len(good) // 2],
        *(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in starts),
    ):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"`path` must be.*m\.keras"):
            kerashash.load_model(path)
    path.write_bytes(good)
    changed(path, lambda config: config.clear())
    with pytest.raises(ValueError, match=r"`path` must be.*m\.keras"):
        kerashash.load_model(path)


def test_layers_of_others_are_not_limited():
    with saving.limited_weights(0), pytest.raises(ValueError, match="of shape"):
        keras.layers.Dense(10**6).build((None, 10**6))
    layer = keras.layers.Dense(2000)
    layer.build((None, 1000))
    assert layer.kernel.shape == (1000, 2000)


def test_an_entry_with_layers_larger_than_its_weights_is_refused(tmp_path, path):
    entry = zoo.export("ssdh-digits-48", tmp_path / "zoo")
    config = json.loads((entry.path / "config.json").read_text())

    def grow(item):
        if isinstance(item, dict):
            if "units" in item:
                item["units"] = 10**9
            for value in item.values():
                grow(value)
        elif isinstance(item, list):
            for value in item:
                grow(value)

    grow(config)
    (entry.path / "config.json").write_text(json.dumps(config))

    sign(entry.path, "config.json")
    with pytest.raises(ValueError, match=r"config\.json.*has a weight of shape"):
        zoo.load(entry.path)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Lambda(lambda x: 2 * x, name="twice"),
        keras.layers.Dense(6, activation=lambda x: 2 * x, name="twice"),
        keras.layers.Dense(6, kernel_regularizer=lambda x: 0.0, name="twice"),
    ],
)
def test_a_python_lambda_is_neither_written_nor_read(path, layer):
    network = keras.Sequential([keras.Input((6,)), layer])
    model = kerashash.AdaLabelHash(network, bits=12, num_classes=3)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"`model` must be .* loaded .*'twice', whose"):
        kerashash.save_model(model, path)
    assert path.read_bytes() == before
    model.save(path)
    with pytest.raises(ValueError, match="'twice', whose") as caught:
        kerashash.load_model(path)
    assert "safe_mode" not in str(caught.value)


@pytest.mark.parametrize("path", [None, 5, b"m.keras", "m\0.keras", "~nobodyx/m.keras"])
def test_what_is_no_path_is_named(model, path):
    for call in (
        lambda: kerashash.save_model(model, path),
        lambda: kerashash.load_model(path),
    ):
        with pytest.raises((TypeError, ValueError), match="`path` must be a path"):
            call()


def test_the_home_folder_may_be_a_part_of_a_path(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    kerashash.save_model(model, "~/m.keras")
    assert kerashash.load_model("~/m.keras").bits == 12
    assert (tmp_path / "m.keras").is_file()


def test_overwrite_is_a_bool(model, path):
    with pytest.raises(TypeError, match="`overwrite` must be True or False"):
        kerashash.save_model(model, path, overwrite="no")


def test_nothing_is_written_to_what_is_no_path():
    for path in (None, 5, b"x", "a\0b"):
        with (
            pytest.raises((TypeError, ValueError), match="`path` must be a path"),
            files.replacing(path),
        ):
            pass


def test_a_folder_that_is_missing_is_named_by_the_path_given(tmp_path):
    path = tmp_path / "none" / "model.keras"
    with pytest.raises(FileNotFoundError) as caught, files.replacing(path):
        pass
    assert caught.value.filename == str(path)
