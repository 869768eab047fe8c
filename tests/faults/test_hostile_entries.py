"""Entries of strangers: what they name, link to, claim and lack."""

import hashlib
import json
import os
import shutil
import socket

import h5py
import keras
import numpy as np
import pytest
from conftest import METRIC, mlp

import kerashash
from kerashash import archives, cli, files, zoo
from kerashash.zoo import loading, weight_files

NAME = "adalabel-noise-12"


def write(root, model, x, **options):
    codes = {}
    for split, rows in (("query", slice(0, 5)), ("database", slice(5, None))):
        codes[f"{split}_codes"] = model.encode(x[rows])
        codes[f"{split}_labels"] = np.eye(2, dtype=np.uint8)[
            np.arange(len(x))[rows] % 2
        ]
    card = {"licence": "Apache-2.0", "metrics": [METRIC]}
    return zoo.save(model, NAME, card, codes, "[entry]\n", root, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An entry that is made once, with a shared network; its model and inputs."""
    root = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_files, "_LARGE_PARAMETERS", 50)
        model = kerashash.AdaLabelHash(mlp(6), bits=12, num_classes=2)
        zoo.round_weights(model)
        x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
        return write(root, model, x).path, model, x


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    """A copy of the entry, to be damaged."""
    monkeypatch.setattr(weight_files, "_LARGE_PARAMETERS", 50)
    shutil.copytree(saved[0].parent, tmp_path / "zoo")
    return tmp_path / "zoo" / NAME


def edit(folder, **changes):
    """Change fields of the card; None removes one."""
    path = folder / "card.json"
    card = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in card.items() if v is not None}))


def sign(folder, file):
    """Let the card describe a file as it now is."""
    path = folder / file
    if not path.exists():
        path = folder.parent / "shared" / file
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    described = {"sha256": digest, "bytes": path.stat().st_size}
    card = json.loads((folder / "card.json").read_text())
    if file in card["files"]:
        card["files"][file] = described
    else:
        card["shared"] = [{"file": file, **described}]
    edit(folder, files=card["files"], shared=card.get("shared"))


# Names


@pytest.mark.parametrize(
    "name", ["../../outside", "/tmp/outside", "adalabel-other-12", "..", "", "a\0b", 3]
)
def test_a_card_with_another_name_is_refused_and_nothing_written(
    folder, tmp_path, name
):
    edit(folder, name=name)
    before = sorted(tmp_path.rglob("*"))
    for call in (
        lambda: zoo.export(folder, tmp_path / "mine"),
        lambda: zoo.entry(folder),
        lambda: zoo.load(folder),
    ):
        with pytest.raises(ValueError, match=r"card\.json"):
            call()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_to_the_folder_has_its_name(folder, tmp_path, monkeypatch):
    (tmp_path / "latest").symlink_to(folder)
    assert zoo.entry(tmp_path / "latest").name == NAME
    monkeypatch.chdir(folder)
    assert zoo.entry("./").name == NAME
    shutil.copytree(folder, tmp_path / "renamed")
    with pytest.raises(ValueError, match="must give its folder's name"):
        zoo.entry(tmp_path / "renamed")


@pytest.mark.parametrize("file", ["card.json", "codes.npz", "model.weights.h5"])
def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, file):
    shutil.move(folder / file, tmp_path / "elsewhere")
    (folder / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{file} must be a file of its folder"):
        zoo.entry(folder)


def test_export_leaves_the_networks_of_other_entries_alone(folder, tmp_path):
    (shared,) = (folder.parent / "shared").iterdir()
    taken = tmp_path / "mine" / "shared" / shared.name
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"of another entry")
    with pytest.raises(ValueError, match=f"no other network.*{shared.name}"):
        zoo.export(folder, tmp_path / "mine")
    assert taken.read_bytes() == b"of another entry"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["shared"]


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b"])
def test_names_that_no_file_can_have(name):
    with pytest.raises(ValueError, match="`name` must be"):
        zoo.entry(name)


# Links and external data in files of weights


def rewrite(path, change):
    """Replace the first array of a weights file."""
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(
            lambda name, item: names.append(name) if hasattr(item, "dtype") else None
        )
        dataset = file[names[0]]
        shape, dtype = dataset.shape, dataset.dtype
        del file[names[0]]
        change(file, names[0], shape, dtype)


def soft_link(file, name, shape, dtype):
    file["elsewhere"] = np.zeros(shape, dtype)
    file[name] = h5py.SoftLink("/elsewhere")


def external_link(file, name, shape, dtype):
    with h5py.File("secret.h5", "w") as secret:
        secret["x"] = np.ones(shape, dtype)
    file[name] = h5py.ExternalLink(os.path.abspath("secret.h5"), "/x")


def external_storage(file, name, shape, dtype):
    size = int(np.prod(shape)) * dtype.itemsize
    with open("secret.bin", "wb") as secret:
        secret.write(bytes(size))
    external = [(os.path.abspath("secret.bin"), 0, size)]
    file.create_dataset(name, shape, dtype, external=external)


def virtual(file, name, shape, dtype):
    layout = h5py.VirtualLayout(shape, dtype)
    layout[:] = h5py.VirtualSource("secret.h5", "x", shape)
    file.create_virtual_dataset(name, layout)


def circle(file, name, shape, dtype):
    file[name] = file["/"]


def empty(file, name, shape, dtype):
    file.create_dataset(name, (1 << 36,), dtype, chunks=(1 << 20,))


DISGUISES = [soft_link, external_link, external_storage, virtual, circle, empty]


@pytest.mark.parametrize("change", DISGUISES)
@pytest.mark.parametrize("own", [True, False])
def test_weights_in_other_files_are_refused_before_keras_reads(
    folder, tmp_path, monkeypatch, change, own
):
    monkeypatch.chdir(tmp_path)
    (shared,) = (folder.parent / "shared").iterdir()
    path = folder / "model.weights.h5" if own else shared
    rewrite(path, change)
    sign(folder, path.name)

    def never(*_, **__):
        raise AssertionError("Keras has been asked to read")

    monkeypatch.setattr(keras.saving, "load_weights", never)
    with pytest.raises(ValueError, match=f"{path.name} is not an HDF5 file of weights"):
        zoo.load(folder)


def test_weights_of_every_shipped_entry_are_plain():
    root = zoo.entry("adalabel-cifar10-48").path.parent
    paths = [*root.rglob("*.weights.h5")]
    assert len(paths) > 40
    for path in paths:
        archives.check_hdf5(path)


# Kills


def killed_between_the_renames(saved, root, monkeypatch):
    """Replace an entry, and stop at the moment when neither is there."""
    _, model, x = saved
    replace, calls = os.replace, []

    class Killed(BaseException):
        pass

    def stop(source, target):
        if str(source).startswith(str(root)) and calls:
            raise Killed
        if str(target).endswith("-old"):
            calls.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        # A killed process does not clean up either.
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            write(root, model, x + 1, overwrite=True)
    assert not (root / NAME).exists()
    assert len(hidden(root)) == 2


def hidden(root):
    return [path.name for path in root.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("how", ["path", "name", "list", "save", "export"])
def test_a_replacement_that_was_killed_halfway_is_completed(
    saved, folder, tmp_path, monkeypatch, how
):
    root = folder.parent
    old = (folder / "codes.npz").read_bytes()
    killed_between_the_renames(saved, root, monkeypatch)
    monkeypatch.setenv("KERASHASH_ZOO", str(root))
    if how == "path":
        zoo.load(folder)
    elif how == "name":
        assert zoo.entry(NAME).path == folder
    elif how == "list":
        assert NAME in zoo.list()
    elif how == "save":
        with pytest.raises(ValueError, match="`name` must be new"):
            write(root, saved[1], saved[2])
    else:
        assert zoo.export(NAME, tmp_path / "mine").name == NAME
    assert zoo.verify(folder)
    assert (folder / "codes.npz").read_bytes() != old
    assert hidden(root) == []


def test_work_of_killed_writers_is_removed_and_that_of_living_ones_is_not(
    saved, folder
):
    root, (_, model, x) = folder.parent, saved
    for name in (f".{NAME}.kerashash-00000000", f".{NAME}.kerashash-00000001-old"):
        (root / name).mkdir()
        (root / name / "codes.npz").write_bytes(b"half")
    (root / ".mine").mkdir()
    with files.staging(root / NAME) as living:
        write(root, model, x, overwrite=True)
        assert sorted(hidden(root)) == sorted([".mine", living.name])
        shutil.copytree(root / NAME, living, dirs_exist_ok=True)
    assert hidden(root) == [".mine"]
    assert zoo.verify(folder)


# Cards


@pytest.mark.parametrize(
    "changes",
    [
        {"files": 3},
        {"files": []},
        {"files": None},
        {"files": {"config.json": 3}},
        {"name": None},
        {"metrics": None},
        {"metrics": {}},
        {"metrics": []},
        {"metrics": [3]},
        {"metrics": [{"value": 1}]},
        {"metrics": [{"name": "mAP@ALL"}]},
        {"metrics": [{"name": "mAP@ALL", "value": "much"}]},
        {"metrics": [{"name": "mAP@ALL", "value": float("inf")}]},
        {"metrics": [{**METRIC, "value": 0.5, "by_seed": 3}]},
        {"bits": "12"},
        {"bits": 12.5},
        {"bits": 10**400},
        {"bits": 24},
        {"method": "DCDH"},
        {"method": []},
        {"bit_imbalance": "none"},
        {"shared": 3},
        {"shared": [3]},
        {"shared": []},
        {"shared": [{"file": "../x"}]},
        {"data": [3]},
        {"training": 3},
        {"nearest_concepts": {"cat": 3}},
        {"metrics": [{**METRIC, "value": None}]},
        {"metrics": [{"name": "mAP@ALL", "value": 0.5}]},
        {"metrics": [{**METRIC, "value": 0.5, "at": {}}]},
        {"metrics": [{**METRIC, "value": 0.5, "database": []}]},
        {"metrics": [{"name": "kl", "value": 0.5, "k": "many"}]},
        {"metrics": [{"name": "SVM accuracy", "value": 0.5}]},
    ],
)
def test_a_wrong_card_is_named(folder, changes):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=r"card\.json"):
        zoo.verify(folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\xff", "null", "", "{}"]
)
def test_what_is_no_card_is_named(folder, text, monkeypatch):
    (folder / "card.json").write_text(text, "latin-1")
    monkeypatch.setenv("KERASHASH_ZOO", str(folder.parent))
    for call in (lambda: zoo.entry(NAME), lambda: zoo.registry.card(NAME)):
        with pytest.raises(ValueError, match=r"card\.json"):
            call()


def test_a_card_that_says_little_is_enough(folder, tmp_path):
    card = json.loads((folder / "card.json").read_text())
    needed = ("name", "metrics", "files", "shared")
    edit(folder, training={}, **{k: None for k in card if k not in needed})
    assert zoo.verify(folder)
    assert zoo.export(folder, tmp_path / "mine").card["training"] == {}


# Files that are signed again


def damaged_configs():
    dense = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 4}}
    many = {"class_name": "Sequential", "config": {"layers": [dense] * 1000}}
    apart = {"module": "keras.layers", "class_name": "Dense", "registered_name": None}
    return {
        "no JSON": "{",
        "brackets": "[" * 100_000,
        "a list": "[]",
        "nothing": "{}",
        "no hashing model": json.dumps({**apart, "config": {"units": 4}}),
        "no such class": json.dumps({**apart, "class_name": "Dance", "config": {}}),
        "a thousand layers": json.dumps({**many, "module": "keras"}),
    }


@pytest.mark.parametrize("content", damaged_configs().values(), ids=damaged_configs())
def test_a_config_of_no_hashing_model_is_named(folder, content):
    (folder / "config.json").write_text(content)
    sign(folder, "config.json")
    with pytest.raises(ValueError, match=r"config\.json"):
        zoo.load(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (file, content)
        for file in ("model.weights.h5", "codes.npz", "golden.npz")
        for content in (b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\0" * 5000, None)
    ],
)
def test_a_damaged_file_with_an_honest_card_is_named(folder, file, content):
    path = folder / file
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    sign(folder, file)
    with pytest.raises(ValueError, match=file):
        zoo.verify(folder)


@pytest.mark.parametrize("file", ["codes.npz", "golden.npz"])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: {},
        lambda a: {k: v.astype(object) for k, v in a.items()},
        lambda a: {k: v.astype(str) for k, v in a.items()},
        lambda a: {k: v[..., :-1] for k, v in a.items()},
        lambda a: {k: v.ravel() for k, v in a.items()},
        lambda a: {k: np.zeros((1 << 26,), np.uint8) for k in a},
    ],
)
def test_arrays_that_do_not_fit_are_named(folder, file, change):
    arrays = dict(np.load(folder / file))
    np.savez_compressed(folder / file, **change(arrays))
    sign(folder, file)
    with pytest.raises(ValueError, match=file):
        zoo.verify(folder)


COMMANDS = {
    "evaluate": ["evaluate"],
    **{
        kind: ["plot", "--out", "x.png", "--kind", kind]
        for kind in ("pr", "pn", "tsne", "bits", "neighbours")
    },
}


def refusal(command, folder, capsys, monkeypatch):
    """What a command says of an entry that it refuses."""
    monkeypatch.chdir(folder.parent)
    assert cli.main([*COMMANDS[command], str(folder)]) == 2
    assert not (folder.parent / "x.png").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "pr", "pn", "tsne"])
@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("query_labels", None),
        ("query_codes", None),
        ("database_codes", None),
        ("database_labels", None),
        ("query_labels", lambda a: np.array(3)),
        ("query_labels", lambda a: np.zeros(5, [("a", "i4")])),
        ("query_labels", lambda a: a[:2]),
        ("query_labels", lambda a: a + 3),
        ("query_labels", lambda a: a.astype(str)),
        ("query_codes", lambda a: a.astype("f4")),
        ("query_codes", lambda a: a.ravel()),
        ("database_codes", lambda a: a[:0]),
    ],
)
def test_commands_name_arrays_that_do_not_fit(
    folder, command, key, change, capsys, monkeypatch
):
    arrays = dict(np.load(folder / "codes.npz"))
    array = arrays.pop(key)
    if change is not None:
        if command == "tsne" and key == "database_codes":
            return  # it does not draw them
        arrays[key] = change(array)
    np.savez_compressed(folder / "codes.npz", **arrays)
    sign(folder, "codes.npz")
    said = refusal(command, folder, capsys, monkeypatch)
    assert str(folder) in said
    assert "codes.npz" in said
    assert key in said


@pytest.mark.parametrize(
    ("command", "changes", "message"),
    [
        *(
            (command, {"bits": None}, "must have `bits`")
            for command in ("evaluate", "pr", "pn", "tsne", "bits")
        ),
        ("evaluate", {"metrics": [{"name": "mAP@ALL", "value": 0.5}]}, "Missing"),
        ("evaluate", {"metrics": [{**METRIC, "value": 0.5, "ties": "x"}]}, "ties"),
        ("neighbours", {}, "does not say which data"),
        ("neighbours", {"data": {"x": 3}}, "'x'"),
    ],
)
def test_commands_name_a_wrong_card(
    folder, command, changes, message, capsys, monkeypatch
):
    edit(folder, **changes)
    said = refusal(command, folder, capsys, monkeypatch)
    assert str(folder / "card.json") in said
    assert message in said


@pytest.mark.parametrize(
    "config", ["{}", "[1]", "{", '{"config": {"neighbours": "x"}}']
)
def test_commands_name_a_wrong_config(folder, config, capsys, monkeypatch):
    (folder / "config.json").write_text(config)
    sign(folder, "config.json")
    said = refusal("neighbours", folder, capsys, monkeypatch)
    assert str(folder / "config.json") in said


@pytest.mark.parametrize(
    "changes",
    [
        {"paper_value": 0.5},
        {"paper_value": ["mAP@ALL 0.5"]},
        {"paper_value": "mAP@ALL 0.5."},
        {"data": {"name": ["digits"]}},
        {"method": None},
        {"metrics": [{**METRIC, "measured": False, "value": None}]},
    ],
)
def test_a_card_of_any_texts_is_shown(folder, changes, monkeypatch):
    edit(folder, **changes)
    monkeypatch.chdir(folder.parent)
    assert cli.main([*COMMANDS["bits"], str(folder)]) == 0
    edit(folder, bits=None)
    assert cli.main(["compare", str(folder)]) == 0


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("query_labels", lambda a: np.array(3)),
        ("query_codes", lambda a: a.astype(np.int64)),
        ("query_codes", lambda a: a.astype(str)),
    ],
)
def test_arrays_that_no_codes_compare_with_are_named(key, change, tmp_path):
    folder = zoo.export("ssdh-digits-48", tmp_path).path
    arrays = dict(np.load(folder / "codes.npz"))
    np.savez_compressed(folder / "codes.npz", **arrays | {key: change(arrays[key])})
    sign(folder, "codes.npz")
    with pytest.raises(ValueError, match=r"codes\.npz"):
        zoo.compare_codes(folder, verbose=0)


# Networks by name


@pytest.mark.slow
def test_loading_a_network_by_name_fetches_nothing(tmp_path, monkeypatch):
    backbone = kerashash.backbones.get("MobileNetV2", image_size=32, weights=None)
    model = kerashash.AdaLabelHash(backbone, bits=12, num_classes=2)
    zoo.round_weights(model)
    x = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    entry = write(tmp_path, model, x)
    config = json.loads((entry.path / "config.json").read_text())
    config["config"]["backbone"] = "MobileNetV2"
    (entry.path / "config.json").write_text(json.dumps(config))
    sign(entry.path, "config.json")

    def refuse(*_):
        raise AssertionError("the network has been asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(keras.utils, "get_file", refuse)
    loaded = zoo.load(entry.path)
    for old, new in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_config_with_another_dtype_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    config["config"]["dtype"]["class_name"] = "x"
    (folder / "config.json").write_text(json.dumps(config))
    sign(folder, "config.json")
    with pytest.raises(ValueError, match=r"(?s)config\.json must.*`dtype` must be a "):
        zoo.load(folder)


@pytest.mark.filterwarnings("ignore:Model .* had a build config")
def test_a_config_of_a_network_that_does_not_run_is_named(tmp_path):
    backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    model = kerashash.AdaLabelHash(backbone, bits=12, num_classes=2)
    zoo.round_weights(model)
    x = np.zeros((8, 6), np.float32)
    folder = write(tmp_path, model, x).path
    config = json.loads((folder / "config.json").read_text())
    layers = config["config"]["backbone"]["config"]
    layers["layers"], layers["build_input_shape"] = layers["layers"][:1], [None, []]
    (folder / "config.json").write_text(json.dumps(config))
    sign(folder, "config.json")
    with pytest.raises(ValueError, match=r"golden\.npz and config\.json must hold"):
        zoo.verify(folder)


def test_a_config_that_names_a_file_of_weights_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    lite = {"variant": "lite0", "weights": str(tmp_path / "x.weights.h5")}
    config["config"]["backbone"] = {
        "module": "kerashash.backbones.efficientnet_lite",
        "class_name": "EfficientNetLite",
        "registered_name": "kerashash>EfficientNetLite",
        "config": lite,
    }
    (folder / "config.json").write_text(json.dumps(config))
    sign(folder, "config.json")
    with pytest.raises(ValueError, match=r"config\.json must.*weights"):
        zoo.load(folder)


def test_a_backbones_weights_in_another_file_are_refused(tmp_path):
    path = tmp_path / "lite.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(ValueError, match="ExternalLink, which is refused"):
        kerashash.backbones.get("efficientnet-lite0", image_size=32, weights=path)


# Claims that nothing is computed for


def test_a_value_that_nobody_has_measured_is_refused(folder, capsys, monkeypatch):
    claimed = {**METRIC, "value": 0.9999, "measured": False}
    for metric in (claimed, {**claimed, "value": None, "measured": 0}):
        edit(folder, metrics=[metric])
        for call in (zoo.verify, zoo.load, zoo.entry):
            with pytest.raises(ValueError, match=r"card\.json.*where `measured` is"):
                call(folder)
    monkeypatch.setenv("KERASHASH_ZOO", str(folder.parent))
    read, unread = zoo.registry.list_cards()
    assert [*unread] == [NAME]
    assert "where `measured` is" in unread[NAME]
    assert NAME not in read
    assert "adalabel-cifar10-48" in read  # one damaged card hides no other
    capsys.readouterr()
    assert cli.main(["zoo", "list"]) == 2
    captured = capsys.readouterr()
    assert "adalabel-cifar10-48" in captured.out
    assert f"{NAME}: {folder}/card.json" in captured.err
    edit(folder, metrics=[{**claimed, "value": None}])
    assert zoo.verify(folder)[0]["value"] is None


def test_a_card_and_its_model_take_images_in_one_way(folder):
    edit(folder, image_fit="crop")
    with pytest.raises(ValueError, match=r"card\.json says image_fit = 'crop'\. .*'sq"):
        zoo.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda golden: {key: value[:0] for key, value in golden.items()},
        lambda golden: {**golden, "codes": golden["codes"][:1]},
        lambda golden: {
            "inputs": np.full_like(golden["inputs"], np.nan),
            "codes": np.zeros_like(golden["codes"]),
        },
    ],
)
def test_golden_inputs_that_test_nothing_are_refused(folder, change):
    with np.load(folder / "golden.npz") as golden:
        changed = change({**golden})
    if len(changed["codes"]) == 1:  # all inputs have the code of the first
        changed["inputs"] = changed["inputs"][:1].repeat(4, axis=0)
    np.savez(folder / "golden.npz", **changed)
    sign(folder, "golden.npz")
    for call in (zoo.verify, lambda path: zoo.load(path, strict=True)):
        with pytest.raises(ValueError, match=r"golden\.npz and config\.json must hold"):
            call(folder)


def test_a_file_of_another_size_is_not_read(folder, monkeypatch):
    os.truncate(folder / "codes.npz", 1 << 40)  # holes, which take no place
    hashed = []
    monkeypatch.setattr(files, "sha256", hashed.append)
    monkeypatch.setattr("kerashash.zoo.entries.FILES", ("codes.npz",))
    with pytest.raises(ValueError, match=r"codes\.npz is not the file.*not computed"):
        zoo.entry(folder)
    assert hashed == []


def test_a_card_of_any_length_is_not_read(folder, monkeypatch):
    os.truncate(folder / "card.json", 1 << 40)
    monkeypatch.setenv("KERASHASH_ZOO", str(folder.parent))
    for call in (lambda: zoo.entry(folder), lambda: zoo.entry(NAME), zoo.versions):
        with pytest.raises(ValueError, match=r"card\.json must have at most"):
            call() if call is not zoo.versions else call(NAME)


# Entries that are replaced while they are read


@pytest.fixture
def replacements(saved, tmp_path, monkeypatch):
    """A function that replaces the entry of a folder by one of another model, when the
    model of an entry is built, for so many times; and the models."""
    models = [saved[1]]

    def plan(folder, times):
        build = loading.build_model

        def replaced_meanwhile(found):
            model = build(found)
            if len(models) <= times:
                models.append(kerashash.AdaLabelHash(mlp(6), bits=12, num_classes=2))
                zoo.round_weights(models[-1])
                with monkeypatch.context() as patch:
                    patch.setattr(loading, "build_model", build)
                    write(folder.parent, models[-1], saved[2], overwrite=True)
            return model

        monkeypatch.setattr(loading, "build_model", replaced_meanwhile)
        return models

    return plan


def test_a_replaced_entry_is_read_again(saved, folder, replacements):
    models = replacements(folder, 2)
    loaded = zoo.load(folder)
    assert len(models) == 3
    x = saved[2]
    np.testing.assert_array_equal(loaded.encode(x), models[-1].encode(x))
    assert (loaded.encode(x) != models[0].encode(x)).any()


def test_a_replaced_entry_is_verified_again(folder, replacements):
    models = replacements(folder, 1)
    assert zoo.verify(folder)
    assert len(models) == 2


def test_an_entry_that_is_replaced_all_the_time_is_an_error(folder, replacements):
    replacements(folder, 99)
    with pytest.raises(ValueError, match="replaced 5 times meanwhile"):
        zoo.load(folder)


def test_a_copy_is_of_one_entry(saved, folder, tmp_path, monkeypatch):
    copyfile, copied = shutil.copyfile, []

    def replaced_meanwhile(source, target):
        copyfile(source, target)
        copied.append(os.path.basename(source))
        if copied.count("config.json") == 1 and copied[-1] == "config.json":
            write(folder.parent, saved[1], saved[2] + 1, overwrite=True)

    monkeypatch.setattr(shutil, "copyfile", replaced_meanwhile)
    copy = zoo.export(folder, tmp_path / "mine")
    assert copied.count("config.json") == 2
    assert copy.card == zoo.entry(folder).card
    assert zoo.verify(copy.path)
