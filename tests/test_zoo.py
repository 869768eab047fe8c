import collections
import concurrent.futures
import csv
import dataclasses
import errno
import functools
import hashlib
import json
import pathlib
import subprocess
import sys
import threading
import types
import warnings

import h5py
import keras
import numpy as np
import pytest
from conftest import METRIC, load_once, mlp

import kerashash
from kerashash import archives, cli, files, zoo
from kerashash.data.sources import DatasetUnavailableError
from kerashash.recipes import read, runs
from kerashash.zoo import cards, loading, weight_files, writing
from kerashash.zoo.entries import FILES


def make(root, rng, model=None, **changes):
    """Save a small entry; return its model, inputs, codes, and the `Entry`."""
    if model is None:
        model = kerashash.AdaLabelHash(mlp(6), bits=12, num_classes=2)
        zoo.round_weights(model)
    x = rng.normal(size=(50, 6)).astype(np.float32)
    labels = np.eye(2, dtype=np.uint8)[np.arange(50) % 2]
    codes = {
        "query_codes": model.encode(x[:10]),
        "query_labels": labels[:10],
        "database_codes": model.encode(x[10:]),
        "database_labels": labels[10:],
    }
    arguments = {
        "name": "adalabel-noise-12",
        "card": {"licence": "Apache-2.0", "metrics": [METRIC]},
        "codes": codes,
        "recipe": "[entry]\n",
        "root": root,
        **changes,
    }
    return model, x, codes, zoo.save(model, **arguments)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The arguments of `zoo.save` for a small entry, as a dict."""
    rng = np.random.default_rng(0)
    model, _, codes, _ = make(tmp_path_factory.mktemp("parts"), rng)
    card = {"metrics": [METRIC]}
    return {"model": model, "name": "adalabel-noise-12", "card": card, "codes": codes}


def test_an_entry_loads_from_any_folder_in_a_fresh_process(tmp_path, rng):
    model, x, *_ = make(tmp_path / "mine", rng)
    np.savez(tmp_path / "x.npz", x=x, codes=model.encode(x))
    (tmp_path / "elsewhere").mkdir()
    code = (
        "import kerashash, numpy as np; d = np.load('../x.npz');"
        "m = kerashash.zoo.load('../mine/adalabel-noise-12');"
        "assert (m.encode(d['x']) == d['codes']).all()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "elsewhere", check=True)


def test_a_large_network_is_stored_once_and_exported_with_an_entry(
    tmp_path, rng, monkeypatch
):
    monkeypatch.setattr(weight_files, "_LARGE_PARAMETERS", 50)
    net = mlp(6)
    hidden = keras.Sequential([net, keras.layers.Dense(5)])
    for name, backbone in (("a-x-12", net), ("b-x-12", hidden)):
        model = kerashash.AdaLabelHash(backbone, bits=12, num_classes=2)
        zoo.round_weights(model)
        _, x, _, entry = make(tmp_path / "zoo", rng, name=name, model=model)
    (shared,) = (tmp_path / "zoo" / "shared").iterdir()
    with h5py.File(entry.path / "model.weights.h5") as own, h5py.File(shared) as net:
        sizes = [sum(d.size for d in datasets(file)) for file in (own, net)]
    assert sum(sizes) == sum(np.size(v) for v in model.variables)
    assert sizes[1] == hidden.layers[0].count_params()
    copy = zoo.export(entry.path, tmp_path / "mine")
    loaded = zoo.load(copy.path)
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    with pytest.raises(ValueError, match="`root` must have no b-x-12"):
        zoo.export(entry.path, tmp_path / "mine")

    exported = tmp_path / "mine" / "shared" / shared.name
    exported.write_bytes(exported.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{shared.name} is not the file"):
        zoo.load(copy.path)


def test_backbones_of_the_package_are_not_stored_again(tmp_path, rng):
    network = kerashash.backbones.get("efficientnet-lite0", image_size=32)
    backbone = keras.Sequential([network, keras.layers.Dense(8)])
    model = kerashash.AdaLabelHash(backbone, bits=12, num_classes=2)
    zoo.round_weights(model)
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    codes = model.encode(images)
    arrays = {
        "query_codes": codes,
        "query_labels": [0, 1],
        "database_codes": codes,
        "database_labels": [0, 1],
    }
    card = {"licence": "Apache-2.0", "metrics": [METRIC]}
    entry = zoo.save(model, "a-x-12", card, arrays, "[entry]\n", tmp_path)
    files = [shared["file"] for shared in entry.card["shared"]]
    assert files == ["efficientnet-lite0.weights.h5"]
    assert (entry.path / "model.weights.h5").stat().st_size < 200_000
    assert [*tmp_path.iterdir()] == [entry.path]
    np.testing.assert_array_equal(zoo.load(entry.path).encode(images), codes)
    assert zoo.verify(entry.path)


def datasets(file):
    """The data sets of an HDF5 file."""
    items = []
    file.visititems(lambda _, x: items.append(x) if hasattr(x, "size") else None)
    return items


def test_verify_hashes_each_file_once(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(weight_files, "_LARGE_PARAMETERS", 50)
    *_, entry = make(tmp_path, rng)
    hashed = collections.Counter()
    sha256 = files.sha256

    def counting(path):
        hashed[path] += 1
        return sha256(path)

    monkeypatch.setattr(files, "sha256", counting)
    zoo.verify(entry.path)
    (shared,) = (tmp_path / "shared").iterdir()
    assert hashed == dict.fromkeys([shared, *(entry.path / f for f in FILES)], 1)


def test_a_surrogate_warns_and_may_leave_a_metric_unmeasured(tmp_path, rng, capsys):
    unknown = {"name": "mAP@ALL on real images", "measured": False}
    card = {
        "licence": "Apache-2.0",
        "surrogate": True,
        "trained_on": "noise",
        "metrics": [METRIC, unknown],
    }
    *_, entry = make(tmp_path, rng, card=card)
    assert entry.card["metrics"][1]["value"] is None
    for function in (zoo.load, zoo.verify):
        message = "noise-12 is a surrogate, trained on noise"
        with pytest.warns(UserWarning, match=message) as warnings:
            function(entry.path)
        assert [warning.filename for warning in warnings] == [__file__]
    with pytest.warns(UserWarning, match="surrogate"):
        assert cli.main(["zoo", "verify", str(entry.path)]) == 0
    assert "mAP@ALL on real images  not measured" in capsys.readouterr().out
    assert "**A surrogate" in (entry.path / "card.md").read_text()


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("dcdh-ap-mirflickr-48", "squash"),
        ("dsre-cifar10-12", "squash"),
        ("ddh-ldl-movie-128", None),
        ("ssdh-digits-48", None),
    ],
)
def test_a_card_of_images_says_how_they_become_squares(name, fit):
    facts = cards.facts(zoo.entry(name).card)
    assert facts.get("images that are no squares") == fit


def test_golden_codes_of_another_model_are_refused(tmp_path, rng):
    *_, entry = make(tmp_path, rng)
    with np.load(entry.path / "golden.npz") as golden:
        changed = {**golden, "codes": golden["codes"] ^ 16}
    np.savez(entry.path / "golden.npz", **changed)
    card = json.loads((entry.path / "card.json").read_text())
    content = (entry.path / "golden.npz").read_bytes()
    card["files"]["golden.npz"] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (entry.path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"than model\.weights.*\[0, 1, 2, 3\]"):
        zoo.verify(entry.path)


def test_golden_inputs_are_far_from_a_change_of_sign(tmp_path, rng):
    model, *_, entry = make(tmp_path, rng)
    with np.load(entry.path / "golden.npz") as golden:
        inputs = golden["inputs"]
    margins = [
        np.abs(model.continuous_codes(x)).min(axis=1)
        for x in (inputs, rng.normal(size=(200, 6)))
    ]
    assert min(margins[0]) > np.quantile(margins[1], 0.8)


def test_the_metric_is_computed_from_the_codes(tmp_path):
    _, _, codes, entry = make(tmp_path, np.random.default_rng(1))
    value = kerashash.evaluation.mean_average_precision(**codes, bits=12)
    assert entry.card["metrics"][0]["value"] == value
    assert entry.card["bits"] == 12
    of_queries, of_database = (
        kerashash.codes.bit_imbalance(codes[f"{name}_codes"], 12)
        for name in ("query", "database")
    )
    assert entry.card["bit_imbalance"] == of_database != of_queries
    assert zoo.verify(entry.path) == [{**METRIC, "value": value, "recomputed": value}]


def test_a_metric_may_count_only_the_first_labels(tmp_path, rng):
    metric = {**METRIC, "first_labels": 1, "empty": "skip"}
    card = {"licence": "Apache-2.0", "metrics": [metric]}
    _, _, codes, entry = make(tmp_path, rng, card=card)
    # Queries of the second class then have no label that counts.
    rows = codes["query_labels"][:, 0] == 1
    first = {name: codes[name][rows] for name in ("query_codes", "query_labels")}
    value = kerashash.evaluation.mean_average_precision(**{**codes, **first}, bits=12)
    assert entry.card["metrics"][0]["value"] == pytest.approx(value)
    assert entry.card["metrics"][0]["first_labels"] == 1
    card = {**card, "metrics": [{**metric, "first_labels": 3}]}
    with pytest.raises(ValueError, match="first_labels=3"):
        make(tmp_path, rng, name="other-noise-12", card=card)


def test_kernels_are_stored_in_half_precision(tmp_path, rng):
    model = kerashash.AdaLabelHash(mlp(6), bits=12, num_classes=2)
    bias = rng.normal(size=12).astype(np.float32)
    model.hash_head.bias.assign(bias)
    zoo.round_weights(model)
    *_, entry = make(tmp_path, rng, model=model)
    loaded = zoo.load(entry.path)
    np.testing.assert_array_equal(loaded.hash_head.bias, bias)  # as it was
    for old, new in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    floats = sum(4 * np.prod(w.shape) for w in model.weights)
    model.save_weights(tmp_path / "full.weights.h5")
    saved = (tmp_path / "full.weights.h5").stat().st_size
    stored = entry.card["files"]["model.weights.h5"]["bytes"]
    assert saved - stored > 0.4 * floats


@pytest.mark.parametrize(
    "file", ["config.json", "model.weights.h5", "codes.npz", "recipe.toml"]
)
def test_a_wrong_byte_or_missing_file_is_refused_by_name(tmp_path, rng, file):
    *_, entry = make(tmp_path, rng)
    path = entry.path / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for call in (zoo.load, zoo.verify, zoo.entry):
        with pytest.raises(ValueError, match=f"{file} is not the file.*sha256"):
            call(entry.path)
    path.unlink()
    with pytest.raises(ValueError, match=f"{file} is missing"):
        zoo.load(entry.path)


def test_a_card_that_claims_other_values_is_refused(tmp_path, rng):
    *_, entry = make(tmp_path, rng)
    card = json.loads((entry.path / "card.json").read_text())
    card["bit_imbalance"] -= 0.01
    (entry.path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"says bit_imbalance = .*codes\.npz gives"):
        zoo.verify(entry.path)
    del card["bit_imbalance"]  # a card may be silent about it
    (entry.path / "card.json").write_text(json.dumps(card))
    assert zoo.verify(entry.path)
    assert "imbalance" not in cards.markdown(card)
    card["metrics"][0]["value"] += 0.01
    (entry.path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"says mAP@ALL = .*codes\.npz gives"):
        zoo.verify(entry.path)
    (entry.path / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"card\.json is not a card"):
        zoo.load(entry.path)


def test_nothing_is_left_half_written(tmp_path, rng, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(archives, "write_npz", fail)
    with pytest.raises(OSError, match="disk full"):
        make(tmp_path, rng)
    assert list(tmp_path.iterdir()) == []


def test_codes_and_labels_are_packed_small_and_what_is_constant_is_read(tmp_path, rng):
    labels = np.eye(10, dtype=np.uint8)[rng.integers(0, 10, 20_000)]
    np.savez_compressed(tmp_path / "deflated.npz", labels=labels)
    for name, array in {
        "labels": labels,
        "sorted": labels[np.lexsort(labels.T)],
        "zeros": np.zeros((100_000, 8), np.uint8),
        "empty": np.zeros((0, 8), np.uint8),
    }.items():
        path = tmp_path / f"{name}.npz"
        archives.write_npz(path, {name: array})
        np.testing.assert_array_equal(archives.read_npz(path)[name], array)
        with np.load(path) as loaded:
            np.testing.assert_array_equal(loaded[name], array)
    sizes = [(tmp_path / f"{x}.npz").stat().st_size for x in ("labels", "deflated")]
    assert sizes[0] < 0.85 * sizes[1]


def test_finding_entries_does_not_import_tensorflow(tmp_path):
    code = (
        "import sys; from kerashash import zoo; zoo.list();"
        "zoo.entry('ddh-ldl-movie-128'); zoo.recipe_path('ddh-ldl-movie-128');"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_an_entry_is_not_replaced_by_accident(tmp_path, rng):
    *_, entry = make(tmp_path, rng)
    with pytest.raises(ValueError, match="`name` must be new, or overwrite=True"):
        make(tmp_path, rng)
    assert make(tmp_path, rng, overwrite=True)[-1].path == entry.path


@pytest.mark.parametrize("name", zoo.recipe_only())
def test_the_error_of_an_untrained_entry_says_what_it_needs(name):
    with pytest.raises(zoo.WeightsUnavailableError, match=f"{name} .* needs .*train"):
        zoo.load(name)
    recipe = read(zoo.recipe_path(name))
    assert recipe.name == name
    assert name.endswith(f"-{recipe.model['bits']}")
    images = types.SimpleNamespace(num_classes=21, num_train=20)
    model = runs.model_for(recipe, mlp(6), images, seed=0)
    assert model.encode(np.zeros((1, 6), np.float32)).shape[0] == 1


def test_tables_agree_with_the_cards():
    all_cards = [zoo.entry(name).card for name in zoo.list()]
    folder = pathlib.Path(__file__).parent.parent
    with (folder / "zoo" / "results.csv").open() as file:
        table = [*csv.DictReader(file)]
    assert table == [row for card in all_cards for row in cards.rows(card)]
    page = (folder / "docs" / "zoo-table.md").read_text()
    assert all(f"| `{card['name']}`" in page for card in all_cards)


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", ".hidden", "", 12, "mine", "mine-12", "a-b-13", "a-b-012", "A-b-12"],
)
def test_names_of_another_form_are_refused(tmp_path, parts, name):
    with pytest.raises(ValueError, match="`name` must be <method>-<dataset>-<bits>"):
        zoo.save(**{**parts, "name": name}, root=tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "`codes` must be a dict of arrays. Received type: NoneType"),
        ({1: [[0, 0]]}, "`codes` must have keys of lower-case letters.* Received: 1"),
        ({"../x": [[0, 0]]}, "`codes` must have keys of lower-case letters.*'../x'"),
        ({"query_labels": None}, "`codes.'query_labels'.` must be an array of numbers"),
        ({"query_labels": [["a"]]}, "`codes.'query_labels'.` must be an array of num"),
        ({"query_labels": [[1], [1, 0]]}, "`codes.'query_labels'.` must be one array"),
    ],
)
def test_codes_that_are_no_arrays_are_refused(tmp_path, parts, changes, message):
    codes = None if changes is None else {**parts["codes"], **changes}
    with pytest.raises((TypeError, ValueError), match=message):
        zoo.save(**{**parts, "codes": codes}, root=tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"card": {}}, "`card` .* `metrics` must be a list of dicts"),
        ({"card": None}, "`card` must be a dict"),
        ({"card": {"metrics": []}}, "`metrics` must be a list of dicts"),
        ({"card": {"metrics": "mAP"}}, "`metrics` must be a list of dicts"),
        ({"card": {"metrics": [{"at": 5}]}}, "`metrics` must be a list of dicts"),
        ({"card": {"metrics": [{"name": "mAP@ALL"}]}}, r"Missing: \['denominator', 't"),
        ({"card": {"metrics": [{"name": "kl"}]}}, r"'kl'.*Missing: \['k'\]"),
        ({"card": {"metrics": [METRIC], "data": "x"}}, "`card` must have `data`.*dict"),
        ({"card": {"metrics": [METRIC], "x": {1, 2}}}, "`card` .* JSON.*set"),
        ({"card": {"metrics": [METRIC], "x": np.nan}}, "`card` .* JSON"),
        (
            {"card": {"metrics": [{"name": "SVM accuracy"}]}},
            r"Missing: \['validation_codes', 'validation_labels'\]",
        ),
        (
            {"card": {"metrics": [{**METRIC, "database": "learned"}]}},
            r"Missing: \['learned_database_codes'\]",
        ),
        ({"recipe": None}, "`recipe` must be a str"),
        ({"recipe": "seed 3"}, "`recipe` must be TOML"),
        ({"recipe": "# \ud800"}, "`recipe` must be TOML"),
        ({"recipe": "entry = 3"}, "`recipe` must be TOML with a table"),
        ({"recipe": "[entry]\nname = 'b-c-12'"}, "`recipe` must be that of 'adalabel"),
    ],
)
def test_what_no_entry_can_hold_is_named(tmp_path, parts, changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        zoo.save(**{**parts, **changes}, root=tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("query_codes", np.zeros((10, 2)), r"codes\['query_codes'\]` must be packed"),
        ("database_codes", np.zeros((40, 1), np.uint8), r"codes\['database_codes'\]`"),
        ("query_labels", np.eye(2)[[0]], "'query_labels' for each of 'query_codes'"),
        ("validation_codes", np.zeros((1, 2), np.uint8), "'validation_labels' for"),
    ],
)
def test_codes_that_do_not_fit_are_named(tmp_path, parts, key, value, message):
    codes = {**parts["codes"], key: value}
    with pytest.raises((TypeError, ValueError), match=message):
        zoo.save(**{**parts, "codes": codes}, root=tmp_path)
    assert not [*tmp_path.iterdir()]


def test_an_entry_without_a_recipe_does_not_say_how_to_train_it(
    tmp_path, parts, capsys
):
    entry = zoo.save(**parts, recipe=" \n", root=tmp_path)
    assert "kerashash train" not in (entry.path / "card.md").read_text()
    assert zoo.verify(entry.path)
    copy = zoo.export(entry.path, tmp_path / "copies")
    assert "kerashash train" not in (copy.path / "card.md").read_text()
    with pytest.raises(ValueError, match="does not say how it was trained"):
        zoo.recipe_path(entry.path)
    assert cli.main(["train", "--recipe", str(entry.path)]) == 2
    assert "an entry with a recipe" in capsys.readouterr().err


@pytest.fixture(scope="module")
def published(tmp_path_factory, digits):
    """A trained model, its entry in a registry, and the weights before that."""
    root = tmp_path_factory.mktemp("zoo")
    model = kerashash.DCDH(
        mlp(64, (16,)), 12, 10, digits.num_train, variant="V", b_update="batch"
    )
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(digits.train.batch(512), verbose=0)
    weights = model.get_weights()
    metrics = [METRIC, {**METRIC, "database": "learned"}]
    card = {"licence": "MIT", "metrics": metrics}
    name = "dcdh-my_digits-12"
    entry = zoo.publish(model, digits, name, card, root=root, verbose=0)
    return model, entry, weights


def test_publish(published, digits, capsys, monkeypatch):
    model, entry, weights = published
    monkeypatch.setenv("KERASHASH_ZOO", str(entry.path.parent))
    for own, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(own, before)
    assert entry.card["counts"] == {"train": 1497, "query": 300, "database": 1497}
    assert entry.card["data"] == {"name": "digits", "protocol": "default", "seed": 0}
    loaded = zoo.load(entry.name)
    with np.load(entry.path / "codes.npz") as codes:
        np.testing.assert_array_equal(loaded.encode(digits.query), codes["query_codes"])
        learned = kerashash.codes.unpack(codes["learned_database_codes"], 12)
        np.testing.assert_array_equal(learned[digits.train_rows], model.learned_codes())
    value = kerashash.evaluate(loaded, digits, verbose=0)["mAP@ALL"]
    assert entry.card["metrics"][0]["value"] == pytest.approx(value)
    assert cli.main(["zoo", "verify", entry.name]) == 0
    output = capsys.readouterr().out
    assert "database codes made again: 1,497 of 1,497 equal" in output


def test_codes_that_the_model_does_not_give_are_found(published, digits, tmp_path):
    model, entry, _ = published
    agreement = zoo.compare_codes(entry.path, verbose=0)
    everything = {"database": 1497, "learned_database": 1497, "query": 300}
    assert agreement == {split: (n, n, 0.0) for split, n in everything.items()}
    with np.load(entry.path / "codes.npz") as stored:
        codes = {**stored}
    codes["database_codes"][:2, 0] ^= 1  # below what another machine may round
    card = {**entry.card, "data": {"name": "digits", "seed": 1}}
    arguments = {"root": tmp_path, "overwrite": True}
    path = tmp_path / entry.name
    zoo.save(model, entry.name, card, codes, **arguments)
    agreement = zoo.compare_codes(path, digits, verbose=0)
    with pytest.raises(TypeError, match="`data` must be a RetrievalData"):
        zoo.compare_codes(path, digits.x)
    assert agreement["database"] == (1497, 1495, pytest.approx(2 / 1497 / 12))
    with pytest.raises(ValueError, match="other query rows"):
        zoo.compare_codes(path)  # of another draw
    codes["database_codes"][2:40, 0] ^= 1
    zoo.save(model, entry.name, card, codes, **arguments)
    with pytest.raises(ValueError, match=r"1,457 of 1,497 database codes"):
        zoo.compare_codes(path, digits, verbose=0)
    del card["data"]
    zoo.save(model, entry.name, card, codes, **arguments)
    with pytest.raises(ValueError, match="does not say which data"):
        zoo.compare_codes(path)


def test_verify_says_what_was_not_checked(tmp_path, rng, capsys, monkeypatch):
    card = {"metrics": [METRIC], "data": {"name": "cifar10"}}
    *_, entry = make(tmp_path, rng, card=card)
    assert cli.main(["zoo", "verify", str(entry.path)]) == 0
    assert "codes were not made again from the data; --data-dir does" in (
        capsys.readouterr().out
    )

    def unavailable(*_, **__):
        raise DatasetUnavailableError("no CIFAR-10 here")

    monkeypatch.setattr(kerashash.data, "load", unavailable)
    options = ["--data-dir", str(tmp_path)]
    assert cli.main(["zoo", "verify", str(entry.path), *options]) == 2
    assert "no CIFAR-10 here" in capsys.readouterr().err
    # Of all entries, those are checked whose data are there, and the others are named.
    monkeypatch.setattr(zoo, "list", lambda: [str(entry.path)])
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", SameProcess)
    assert cli.main(["zoo", "verify", "--all", *options]) == 2
    output = capsys.readouterr()
    assert "not made again from the data: no CIFAR-10 here" in output.out
    assert f"must hold the data of ['{entry.path}']" in output.err


class SameProcess(concurrent.futures.Executor):
    """An executor that runs in the process itself, where patches are."""

    def __init__(self, *_):
        pass

    def map(self, function, *iterables):
        return map(function, *iterables)


def test_publish_checks_before_it_encodes(tmp_path, digits, published, monkeypatch):
    model = kerashash.AdaLabelHash(mlp(64, (8,)), bits=12, num_classes=10)
    monkeypatch.setattr(model, "encode", None)
    for name, data, card, message in (
        ("mine", digits, None, "`name` must be"),
        ("a-b-12", digits.query, None, "`data` must be a RetrievalData"),
        ("a-b-12", digits, {"metrics": []}, "`metrics` must be"),
        ("a-b-12", digits, "MIT", "`card` must be a dict"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            zoo.publish(model, data, name, card, root=tmp_path)
    learned = {"metrics": [{**METRIC, "database": "learned"}]}
    few = {**digits.splits, "train": digits.splits["train"][:9]}
    few = dataclasses.replace(digits, splits=few)
    dcdh = published[0]
    monkeypatch.setattr(dcdh, "encode", None)
    for untaught, data, message in (
        (model, digits, "learns no codes"),
        (dcdh, few, "learned the codes of the data's training rows"),
    ):
        with pytest.raises(ValueError, match=message):
            zoo.publish(untaught, data, "a-b-12", learned, root=tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_publish_label_distributions(tmp_path, rng):
    x, d = rng.normal(size=(40, 5)), rng.random((40, 3))
    d = (d / d.sum(axis=1, keepdims=True)).astype(np.float32)
    data = kerashash.data.DistributionData(x[:30], d[:30], x[30:], d[30:])
    model = kerashash.AdaLabelHash(mlp(5, (8,)), bits=12, num_classes=3)
    entry = zoo.publish(model, data, "ada-noise-12", root=tmp_path, verbose=0)
    assert [metric["k"] for metric in entry.card["metrics"]] == [30] * 6
    assert zoo.verify(entry.path)
    agreement = zoo.compare_codes(entry.path, data, verbose=0)
    assert agreement == {"query": (10, 10, 0), "database": (30, 30, 0)}


def test_codes_without_a_required_array_are_refused(tmp_path, rng):
    with pytest.raises(ValueError, match=r"Received codes without.*query_codes"):
        make(tmp_path, rng, codes={})


def test_unknown_names_list_close_ones(tmp_path):
    with pytest.raises(ValueError, match=r"Did you mean \['adalabel-cifar10-48'"):
        zoo.load("adalabel-cifar-48")
    with pytest.raises(ValueError, match=r"which has none\.$"):
        zoo.load(tmp_path)
    (tmp_path / "ddh-mine-12").mkdir()
    (tmp_path / "ddh-mine-12" / "card.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has none\. Did you mean \['ddh-mine-12'\]"):
        zoo.load(tmp_path / "ddh-min-12")
    (tmp_path / "m.keras").touch()
    with pytest.raises(ValueError, match=r"by `kerashash\.load_model`"):
        zoo.load(tmp_path / "m.keras")
    with pytest.raises(TypeError, match="`name` must be a name or a path"):
        zoo.load(None)
    with pytest.raises(ValueError, match=r"Did you mean \['adalabel-cifar10-48'"):
        zoo.load("ADALABEL-cifar10-48")


# One entry for each method and data set; `kerashash zoo verify --all` takes all.
ONE_EACH = [*{name.rpartition("-")[0]: name for name in zoo.list()}.values()]


@pytest.mark.parametrize("name", zoo.list())
def test_cards_of_shipped_entries_are_complete(name):
    card = zoo.entry(name).card
    assert {"paper", "trained_on", "licence", "seed", "data", "versions"} <= set(card)
    assert name.endswith(f"-{card['bits']}")


@pytest.mark.filterwarnings("ignore:.*surrogate")
@pytest.mark.parametrize(
    "name",
    ["dcdh-cifar10-48", "dcdh-nuswide-48", "ddh-flowers17-64", "ddh-ldl-movie-128"],
)
def test_shipped_entries_verify(name):
    measured = [m for m in zoo.verify(name) if m.get("measured", True)]
    assert measured
    assert all(m["value"] == pytest.approx(m["recomputed"]) for m in measured)


@functools.cache
def real_data(name, **options):
    if name == "cifar10":
        return load_once(name, **options)
    try:
        return kerashash.data.load(name, **options)
    except DatasetUnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.filterwarnings("ignore:.*surrogate", "ignore:.*are missing")
@pytest.mark.parametrize("name", ONE_EACH)
def test_shipped_codes_are_those_of_the_shipped_model(name):
    """On some queries of the real data set, bit for bit except for rounding."""
    entry = zoo.entry(name)
    card = entry.card
    data = real_data(**card["data"])
    if isinstance(data, kerashash.data.DistributionData):
        x = data.x_query[:128]
    else:
        x = data.x[data.splits["query"][:128]]
    model = zoo.load(name)
    assert (type(model).__name__, model.bits) == (card["method"], card["bits"])
    with np.load(entry.path / "codes.npz") as stored:
        expected = kerashash.codes.unpack(stored["query_codes"][:128], model.bits)
    codes = model.encode(x, packed=False)
    # Another machine may round a value next to 0 to the other side.
    assert np.mean(codes != expected) < 1e-3


def test_the_registry_is_small():
    root = pathlib.Path(kerashash.zoo.entry("adalabel-cifar10-48").path).parent
    sizes = [file.stat().st_size for file in root.rglob("*") if file.is_file()]
    assert max(sizes) < 25e6
    assert sum(sizes) < 100e6


def edit_card(entry, **changes):
    path = entry.path / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_strictly_an_entry_is_what_it_says_or_an_error(tmp_path, rng, monkeypatch):
    model, x, _, entry = make(tmp_path, rng)
    monkeypatch.setenv("KERASHASH_ZOO", str(tmp_path))
    loaded = zoo.load(entry.name, strict=True)
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    assert loaded.entry == entry.name
    assert zoo.load(f"{entry.name}@1", strict=True).entry == f"{entry.name}@1"
    with pytest.raises(TypeError, match=r"`strict` must be True or False.*'yes'"):
        zoo.load(entry.name, strict="yes")

    edit_card(entry, surrogate=True, trained_on="noise")
    with pytest.raises(ValueError, match=r"no surrogate .*noise-12', trained on noise"):
        zoo.load(entry.name, strict=True)
    edit_card(entry, surrogate=False)
    versions = entry.card["versions"]
    for stated in ("99.0", "soon", 3, None):
        edit_card(entry, versions={**versions, "kerashash": stated})
        zoo.load(entry.name)
        with pytest.raises(ValueError, match=r"of kerashash .* or older .*card says"):
            zoo.load(entry.name, strict=True)
    edit_card(entry, versions={})
    with pytest.raises(ValueError, match="card says None"):
        zoo.load(entry.name, strict=True)
    edit_card(entry, versions={**versions, "kerashash": "0.1.0"})
    zoo.load(entry.name, strict=True)

    build = loading.build_model
    with monkeypatch.context() as patch:

        def warning(found):
            warnings.warn("skipped some weights", stacklevel=2)
            return build(found)

        patch.setattr(loading, "build_model", warning)
        with pytest.raises(UserWarning, match="skipped"):
            zoo.load(entry.name, strict=True)

    def while_another_warns(found):
        other = threading.Thread(target=warnings.warn, args=["of another thread"])
        other.start()
        other.join()
        return build(found)

    def load_in_threads():
        threads = [
            threading.Thread(target=zoo.load, args=[entry.name, True]) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    filters = [*warnings.filters]
    with monkeypatch.context() as patch:
        patch.setattr(loading, "build_model", while_another_warns)
        with pytest.warns(UserWarning, match="of another") as caught:
            load_in_threads()
    assert len(caught) == 3  # none ended a load, and none was lost
    assert warnings.filters == filters
    with pytest.raises(TypeError, match="`strict` must be True or False"):
        zoo.entry(entry.name, strict="false")
    with pytest.raises(TypeError, match="`private` must be True or False"):
        zoo.push(entry.name, "me/mine", private="false")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`root` must lie in a folder"):
        zoo.export(entry.name, tmp_path / "file")
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setenv("KERASHASH_ZOO", tmp_path.name)
    assert zoo.entry(entry.name).path.is_absolute()
    names = zoo.list()
    names.append("of-nobody-8")
    assert "<td>of-nobody-8</td>" in names._repr_html_()
    monkeypatch.setenv("KERASHASH_ZOO", str(tmp_path))
    edit_card(entry, surrogate="false")
    with pytest.raises(ValueError, match="`surrogate` that is true or false"):
        zoo.entry(entry.name)
    edit_card(entry, surrogate=False)

    with np.load(entry.path / "golden.npz") as golden:
        changed = {**golden, "codes": golden["codes"] ^ 16}
    np.savez(entry.path / "golden.npz", **changed)
    content = (entry.path / "golden.npz").read_bytes()
    described = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    edit_card(entry, files={**entry.card["files"], "golden.npz": described})
    zoo.load(entry.name)
    with pytest.raises(ValueError, match=r"other codes than model\.weights"):
        zoo.load(entry.name, strict=True)


def test_an_entry_of_0_2_loads_for_ever(tmp_path):
    # Never write it anew: entries of this format are on people's disks.
    path = pathlib.Path(__file__).parent / "data" / "entry_of_0_2" / "dcdh-digits-12"
    model = zoo.load(path, strict=True)
    with np.load(path / "golden.npz") as golden:
        np.testing.assert_array_equal(model.encode(golden["inputs"]), golden["codes"])
    values = [metric["recomputed"] for metric in zoo.verify(path, data_dir=tmp_path)]
    assert values == pytest.approx([0.7398556347937846, 0.8540622643149156])
    assert zoo.entry(path).card["changes"][0]["text"] == "the first"


def test_verify_compares_with_the_data(published, digits, tmp_path):
    model, entry, _ = published
    assert zoo.verify(entry.path, data_dir=tmp_path)
    with np.load(entry.path / "codes.npz") as stored:
        codes = {**stored}
    # Codes of rows with the same labels change places: all metrics stay.
    rows = np.flatnonzero(codes["database_labels"][:, 0])
    codes["database_codes"][rows] = np.roll(codes["database_codes"][rows], 1, axis=0)
    path = zoo.save(model, entry.name, entry.card, codes, root=tmp_path).path
    zoo.verify(path)
    with pytest.raises(ValueError, match=r"database codes that are equal"):
        zoo.verify(path, data_dir=tmp_path)
    del codes["learned_database_codes"]
    validation = {"validation_codes": codes["query_codes"]}
    validation |= {"validation_labels": codes["query_labels"]}
    card = {**entry.card, "metrics": [METRIC]}
    more = {**codes, **validation}
    path = zoo.save(model, entry.name, card, more, root=tmp_path, overwrite=True).path
    with pytest.raises(ValueError, match=r"must hold the codes of the data's splits"):
        zoo.verify(path, data_dir=tmp_path)


def photographs(folder):
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(b"a cat")


def photographs_beside_a_card(folder):
    photographs(folder)
    (folder / "card.json").write_text("{}")


def photographs_below(folder):
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    photographs(folder / "shared")


def a_file(folder):
    folder.write_bytes(b"a cat")


def a_link(folder):
    photographs(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def a_link_to_nothing(folder):
    folder.symlink_to(folder.parent / "nowhere")


def contents(root):
    return {path: path.is_file() and path.read_bytes() for path in root.rglob("*")}


@pytest.mark.parametrize(
    ("make_other", "why"),
    [
        (photographs, "has no card.json"),
        (photographs_beside_a_card, r"has 1 file: cat\.jpg, of no entry"),
        (photographs_below, r"has 1 file: shared/cat\.jpg, of no entry"),
        (a_file, "is a file"),
        (a_link, "is a link"),
        (a_link_to_nothing, "is a link"),
    ],
)
def test_nothing_but_an_entry_is_replaced(tmp_path, parts, make_other, why):
    make_other(tmp_path / parts["name"])
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"`name` must be new, or that .*{why}"):
        zoo.save(**parts, root=tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="`name` must be new, or overwrite=True"):
        zoo.save(**parts, root=tmp_path)
    assert contents(tmp_path) == before


def test_what_appears_while_an_entry_is_written_is_not_replaced(
    tmp_path, parts, monkeypatch
):
    golden = writing._golden

    def meanwhile(model):
        photographs(tmp_path / parts["name"])
        return golden(model)

    monkeypatch.setattr(writing, "_golden", meanwhile)
    with pytest.raises(ValueError, match="`name` must be new, or that"):
        zoo.save(**parts, root=tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == [parts["name"], "cat.jpg"]


def test_a_folder_takes_the_place_of_folders_alone(tmp_path):
    a_file(tmp_path / "letters")
    for _ in range(2):
        with (
            pytest.raises(ValueError, match="letters must be a folder"),
            files.staging(tmp_path / "letters"),
        ):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_full_disk_is_that_of_the_folder_to_write(tmp_path):
    with (
        pytest.raises(OSError, match=r"Full: '.*letters'"),
        files.staging(tmp_path / "letters"),
    ):
        raise OSError(errno.ENOSPC, "Full")
    assert not [*tmp_path.iterdir()]


def test_a_card_says_nothing_of_another_entrys_files(tmp_path, parts):
    others = {
        "shared": [{"file": "../x"}],
        "files": {},
        "bits": 99,
        "image_fit": "crop",
        "bit_imbalance": 3,
    }
    entry = zoo.save(
        **{**parts, "card": {**parts["card"], **others, "use": "tests"}}, root=tmp_path
    )
    assert zoo.verify(entry.path)
    assert entry.card["bits"] == 12
    assert entry.card["use"] == "tests"
    assert not {"shared", "image_fit"} & {*entry.card}


class Doubling(keras.layers.Layer):
    """A layer that is not registered with Keras, which then does not find it."""

    def call(self, inputs):
        return 2 * inputs


def with_layer(layer):
    network = keras.Sequential([keras.Input((6,)), layer])
    return kerashash.AdaLabelHash(network, bits=12, num_classes=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"card": {"metrics": [METRIC], "note": "x" * 5_000_000}}, "`card` must have"),
        (
            {"model": with_layer(keras.layers.Lambda(lambda x: 2 * x, name="twice"))},
            "`model` must be one that can be loaded.*'twice', whose `function`",
        ),
        (
            {"model": with_layer(Doubling())},
            "`model` must be .*TypeError: Could not loc",
        ),
        ({"overwrite": "no"}, "`overwrite` must be True or False"),
        ({"model": None}, "`model` must be a HashModel"),
        ({"model": mlp(6)}, "`model` must be a HashModel"),
    ],
)
def test_what_cannot_be_loaded_again_does_not_replace_an_entry(
    tmp_path, parts, changes, message
):
    entry = zoo.save(**parts, root=tmp_path)
    before = contents(tmp_path)
    with pytest.raises((TypeError, ValueError), match=message):
        zoo.save(**{**parts, "overwrite": True, **changes}, root=tmp_path)
    assert contents(tmp_path) == before
    assert zoo.verify(entry.path)


def test_nothing_is_left_of_a_network_that_would_have_been_shared(
    tmp_path, parts, monkeypatch
):
    monkeypatch.setattr(weight_files, "_LARGE_PARAMETERS", 50)
    monkeypatch.setattr(loading, "check_golden", lambda *_: "x".index("y"))
    with pytest.raises(ValueError, match="`model` must be one that can be loaded"):
        zoo.save(**parts, root=tmp_path)
    assert not [*tmp_path.iterdir()]


def test_publish_takes_no_other_model(tmp_path, digits):
    for model in (None, mlp(64)):
        with pytest.raises(TypeError, match="`model` must be a HashModel"):
            zoo.publish(model, digits, "a-b-12", root=tmp_path)
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model"):
        zoo.round_weights(None)


def test_cards_of_any_text_are_written_and_printed(tmp_path, parts, capsys):
    card = {
        "metrics": [METRIC],
        "note": "red \x1b[31m \x9b31m, half \ud800, turned \u202e, é,\ttab",
        "backbone": {"name": 5, "image_size": 32},
        "data": {1: ("a", "b")},
    }
    entry = zoo.save(**{**parts, "card": card}, root=tmp_path)
    text = r"red \x1b[31m \x9b31m, half \ud800, turned \u202e, é," + "\ttab"
    assert text in (entry.path / "card.md").read_text("utf-8")
    assert entry.card["data"] == {"1": ["a", "b"]}
    assert cli.main(["zoo", "info", str(entry.path)]) == 0
    assert text in capsys.readouterr().out
    row = {"name": "\x1b[31m", "value": 0.5, "of": "\x07"}
    assert cards.rows({"name": "a", "metrics": [row]})[0] == {
        "entry": "a",
        "metric": r"\x1b[31m",
        "definition": r"of \x07",
        "value": "0.5000",
        "over_seeds": "",
    }
    copy = zoo.export(entry.path, tmp_path / "copies")
    assert text in (copy.path / "card.md").read_text("utf-8")


def test_the_home_folder_may_be_a_part_of_a_root(tmp_path, parts, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    entry = zoo.save(**parts, root="~/mine")
    assert entry.path == tmp_path / "mine" / parts["name"]
    assert zoo.export(entry.path, "~/copies").path.parent == tmp_path / "copies"
    assert zoo.load(f"~/mine/{parts['name']}").bits == 12


@pytest.mark.parametrize("root", [None, 5, b"mine", "a\0b", "\ud800", "~nobodyx/a"])
def test_a_root_that_is_no_path_is_named(parts, root):
    for call in (
        lambda: zoo.save(**parts, root=root),
        lambda: zoo.export("ssdh-digits-48", root),
    ):
        with pytest.raises((TypeError, ValueError), match="`root` must be a path"):
            call()


def test_verify_refuses_a_data_folder_that_is_missing(tmp_path, capsys):
    missing = str(tmp_path / "none")
    for call in (zoo.verify, zoo.compare_codes):
        with pytest.raises(ValueError, match=r"`data_dir` must be a folder.*none"):
            call("ssdh-digits-48", data_dir=missing)
    arguments = ["zoo", "verify", "ssdh-digits-48", "--data-dir", missing]
    assert cli.main(arguments) == 2
    assert "must be a folder" in capsys.readouterr().err
