"""Recipes, end to end, on small data sets with an untrained backbone."""

import dataclasses
import json
import types
import weakref

import h5py
import keras
import numpy as np
import pytest
import scipy.io
import tensorflow as tf
from conftest import METRIC as MAP

import kerashash
from kerashash import archives, cli, files, recipes, zoo
from kerashash.backbones import efficientnet_lite
from kerashash.data import RetrievalData, feature_cache
from kerashash.data.augmentation import random_cutout, random_shift
from kerashash.evaluation import label_distribution
from kerashash.recipes import fitting, recipe, runs
from kerashash.zoo import encoding, weight_files

FINE_TUNED = """
seed = 3
fine_tune_after = "block2b"
batch_size = 8
weight_decay = 1e-4
shift = 1

[training.first_head]
epochs = 1
batch_size = 16
learning_rate = 2e-3

[[training.rounds]]
epochs = 1
warmup_epochs = 0.5
learning_rate = 1e-3
augment = true

[[training.rounds]]
epochs = 1
warmup_epochs = 0
learning_rate = 1e-3
augment = false

[training.head]
epochs = 2
batch_size = 12
learning_rate = 1e-3
"""
ON_FEATURES = "seed = 3\nepochs = 2\nbatch_size = 16\nlearning_rate = 1e-3"
DCDH = "label_units = [16]\nfusion_units = [16]"


def backbone(folder):
    weights = folder / "backbone.weights.h5"
    return f'name = "efficientnet-lite0"\nimage_size = 64\nweights = "{weights}"'


def write(folder, method, training, metrics=(MAP,), **tables):
    """Write the file of a recipe, with the given tables and metrics."""
    lines = ['[entry]\nname = "small-colours-12"\nlicence = "Apache-2.0"']
    lines.append(f'method = "{method}"')
    for metric in metrics:
        lines.append("[[entry.metrics]]")
        lines += [f"{name} = {value!r}" for name, value in metric.items()]
    tables = {
        "data": 'name = "cifar10"',
        "backbone": backbone(folder),
        "model": "",
        **tables,
    }
    tables["model"] = f"bits = 12\n{tables['model']}"
    lines += [f"[{name}]\n{content}" for name, content in tables.items()]
    path = folder / "recipe.toml"
    path.write_text("\n".join([*lines, f"[training]\n{training}"]))
    return path


def split_data(x, labels, rng):
    """Splits of 60 rows that share none, so that training on any other shows; but a
    third of the training images are in the database, where learned codes count."""
    rows = rng.permutation(60)
    return RetrievalData(
        name="colours",
        protocol="full",
        seed=0,
        class_names=tuple(f"class {c}" for c in range(labels.shape[1])),
        splits={
            "train": rows[:24],
            "database": rng.permutation(rows[16:40]),
            "unlabelled": rows[40:48],
            "validation": rows[48:52],
            "query": rows[52:],
        },
        x=x,
        labels=labels,
    )


@pytest.fixture
def small_world(tmp_path, rng, monkeypatch):
    """Images of two colours instead of CIFAR-10, a folder with the weights of a small
    backbone, and the seeds for which the images were loaded."""
    first, (_, *middle), last = efficientnet_lite._LITE_BLOCKS[::3]
    blocks = (first, (2, *middle), last)
    monkeypatch.setattr(efficientnet_lite, "_LITE_BLOCKS", blocks)
    monkeypatch.setattr(weight_files, "_LARGE_PARAMETERS", 100_000)
    labels = np.eye(2, dtype=np.uint8)[np.arange(60) % 2]
    x = rng.integers(0, 120, (60, 16, 16, 3)) + 120 * labels[:, None, None, [0, 1, 1]]
    data = split_data(x.astype(np.uint8), labels, rng)
    seeds = []

    def load(name, seed, **_):
        seeds.append(seed)
        return dataclasses.replace(data, seed=seed)

    monkeypatch.setattr(kerashash.data, "load", load)
    untrained = kerashash.backbones.get(
        "efficientnet-lite0", image_size=64, weights=None
    )
    untrained.save_weights(tmp_path / "backbone.weights.h5")
    return data, tmp_path, seeds


def check_learned(codes, model, data):
    """Learned codes stand where the database has the training images, only there."""
    train, database = data.splits["train"], data.splits["database"]
    learned = model.learned_codes()
    for row, image in enumerate(database):
        expected = codes["database_codes"][row]
        if image in train:
            (index,) = np.flatnonzero(train == image)
            expected = kerashash.codes.pack(learned[index : index + 1])[0]
        np.testing.assert_array_equal(codes["learned_database_codes"][row], expected)
    assert (codes["learned_database_codes"] != codes["database_codes"]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "database", "options"),
    [
        pytest.param("AdaLabelHash", "encoded", "margin = 3.0", marks=pytest.mark.long),
        ("DCDH", "learned", DCDH),
    ],
)
def test_recipe_makes_an_entry_that_loads_and_verifies(
    small_world, method, database, options, monkeypatch
):
    data, folder, _ = small_world
    heads, fit_head = [], fitting.fit_head

    def watched(model, features, labels, **training):
        heads.append(training)
        return fit_head(model, features, labels, **training)

    monkeypatch.setattr(fitting, "fit_head", watched)
    metrics = [{**MAP, "database": database}]
    path = write(folder, method, FINE_TUNED, metrics, model=options)
    entry = recipes.train(path, folder / "zoo", cache_dir=folder / "cache")
    assert entry.card["seed"] == 3
    assert entry.card["counts"] == {"train": 24, "query": 8, "database": 24}
    assert heads == [
        {"epochs": 1, "batch_size": 16, "learning_rate": 2e-3},
        {"epochs": 2, "batch_size": 12, "learning_rate": 1e-3},
    ]
    assert zoo.verify(entry.path)[0]["value"] == entry.card["metrics"][0]["value"]

    model = zoo.load(entry.path)
    with np.load(entry.path / "codes.npz") as codes:
        np.testing.assert_array_equal(model.encode(data.query), codes["query_codes"])
        np.testing.assert_array_equal(
            model.encode(data.database), codes["database_codes"]
        )
        if database == "learned":
            check_learned(codes, model, data)

    # The features of the frozen layers and of the trained network are in the cache, and
    # fine-tuning has changed the layers above the cut only.
    cached = {path: path.stat().st_mtime_ns for path in (folder / "cache").iterdir()}
    assert len(cached) == 2
    start = kerashash.backbones.get(
        "efficientnet-lite0",
        image_size=64,
        weights=str(folder / "backbone.weights.h5"),
    )
    lower, _ = kerashash.backbones.split(start, "block2b")
    feature_cache.mirrored_features(lower, data.arrays("train")[0], folder / "cache")
    kerashash.data.cache_features(data, model.backbone, folder / "cache")
    assert cached == {
        path: path.stat().st_mtime_ns for path in (folder / "cache").iterdir()
    }
    for name, same in (("block2a_project_conv", True), ("head_conv", False)):
        old = start.get_layer(name).kernel.numpy().astype(np.float16)
        new = model.backbone.get_layer(name).kernel.numpy().astype(np.float16)
        assert np.array_equal(old, new) == same


@pytest.mark.slow
def test_fine_tuning_resumes_where_it_was_stopped(small_world, monkeypatch):
    _, folder, _ = small_world
    path = write(folder, "AdaLabelHash", FINE_TUNED, model="margin = 3.0")
    callback, epochs, states = kerashash.callbacks.Backup, [], []
    begin, end = callback.on_train_begin, callback.on_epoch_end

    def on_train_begin(self, logs=None):
        begin(self, logs)
        states.append(self.model.hash_head.get_weights()[0])

    def on_epoch_end(self, epoch, logs=None):
        end(self, epoch, logs)
        epochs.append(epoch)
        if len(epochs) == 1:
            states.append(self.model.hash_head.get_weights()[0])
            raise InterruptedError

    monkeypatch.setattr(callback, "on_train_begin", on_train_begin)
    monkeypatch.setattr(callback, "on_epoch_end", on_epoch_end)
    with pytest.raises(InterruptedError):
        recipes.train(path, folder / "zoo", cache_dir=folder / "cache")
    assert not (folder / "zoo" / "small-colours-12").exists()
    path.write_text(path.read_text().replace("Apache-2.0", "MIT"))  # not trained on
    entry = recipes.train(path, folder / "zoo", cache_dir=folder / "cache")
    assert epochs == [0, 1]
    np.testing.assert_array_equal(states[2], states[1])  # as after the first round
    assert zoo.verify(entry.path)
    assert not list((folder / "cache").glob("*unfinished"))


@pytest.mark.slow
@pytest.mark.long
def test_entries_on_frozen_features_share_a_backbone(small_world):
    data, folder, seeds = small_world
    network = f"{backbone(folder)}\nencoding = 'standardized'\nhidden_units = 8"
    network += "\ndropout = 0.1"
    learned = [{**MAP, "database": "learned"}]
    cache = folder / "cache"
    path = write(
        folder,
        "DCDH",
        ON_FEATURES,
        learned,
        model=DCDH,
        backbone=network,
    )
    first = recipes.train(path, folder / "zoo", seeds=2, cache_dir=cache)
    assert seeds == [3, 4]  # each run draws its own splits
    (metric,) = first.card["metrics"]
    assert len(metric["by_seed"]) == 2
    assert metric["by_seed"][0] == metric["value"]
    model = zoo.load(first.path)
    with np.load(first.path / "codes.npz") as codes:
        np.testing.assert_array_equal(model.encode(data.query), codes["query_codes"])
        check_learned(codes, model, data)

    # Further recipes name only the entry whose backbone they use. The first also trains
    # on images without labels, the second without any labels.
    semi = ON_FEATURES + "\n[training.self_train]\nlearning_rate = 1e-3\nepochs = 1"
    neighbours = "neighbours = 3\nlists = 2\nneighbour_backbone = 'features'"
    for method, training, options in (
        ("AdaLabelHash", semi, ""),
        ("DDH", ON_FEATURES, neighbours),
    ):
        path = write(
            folder, method, training, model=options, backbone=f"of = '{first.path}'"
        )
        entry = recipes.train(path, folder / method, cache_dir=cache)
        assert entry.card["shared"][0]["sha256"] == first.card["shared"][0]["sha256"]
        assert zoo.verify(entry.path)
    # Features of the first network, and of it with the hidden layer.
    assert len([*cache.glob("*.npy")]) == 2
    with pytest.raises(ValueError, match="`seeds` must be at least 1"):
        recipes.train(path, folder / "zoo", seeds=0)
    path = write(
        folder, "DDH", ON_FEATURES, backbone=f"of = '{first.path}'\nencoding = 'x'"
    )
    with pytest.raises(ValueError, match=r"`encoding` must be one of.*'x'"):
        recipes.train(path, folder / "zoo", cache_dir=cache)
    path = write(folder, "DCH", ON_FEATURES, backbone=f"of = '{first.path}'")
    with pytest.raises(ValueError, match=r"`method` must be one of.*'DCH'"):
        recipes.train(path, folder / "zoo", cache_dir=cache)


@pytest.mark.slow
@pytest.mark.long
def test_mirror_images_have_the_codes_of_an_entry_on_mirrored_features(small_world):
    data, folder, _ = small_world
    cache = folder / "cache"
    network = f"{backbone(folder)}\nmirrored = true"
    path = write(folder, "AdaLabelHash", FINE_TUNED, backbone=network)
    first = recipes.train(path, folder / "zoo", cache_dir=cache)
    assert first.card["backbone"]["mirrored"] is True
    assert zoo.verify(first.path)
    path = write(folder, "DSRE", ON_FEATURES, backbone=f"of = '{first.path}'")
    head = recipes.train(path, folder / "head", cache_dir=cache)
    path = write(folder, "DSRE", ON_FEATURES, backbone=network)
    frozen = recipes.train(path, folder / "frozen", cache_dir=cache)
    images = data.arrays("query")[0]
    for entry in (first, head, frozen):
        model = zoo.load(entry.path)
        codes = model.encode(images)
        with np.load(entry.path / "codes.npz") as stored:
            np.testing.assert_array_equal(codes, stored["query_codes"])
        np.testing.assert_array_equal(model.encode(images[:, :, ::-1]), codes)
    # The head of the fine-tuned entry has been trained on averaged features.
    plain = write(folder, "AdaLabelHash", FINE_TUNED)
    other = recipes.train(plain, folder / "plain", cache_dir=cache)
    kernels = [
        zoo.load(entry.path).hash_head.get_weights()[0] for entry in (first, other)
    ]
    assert not np.array_equal(*kernels)


@pytest.mark.slow
@pytest.mark.long
def test_another_seed_trains_the_backbone_of_an_entry_anew(small_world):
    _, folder, seeds = small_world
    cache = folder / "cache"
    path = write(folder, "AdaLabelHash", FINE_TUNED)
    text = path.read_text()
    first = recipes.train(path, folder / "zoo", cache_dir=cache)
    other = recipes.train(path, folder / "other", seed=4, cache_dir=cache)
    expected, own = (
        zoo.load(entry.path).backbone.get_layer("head_conv").kernel.numpy()
        for entry in (other, first)
    )
    network = f"of = '{first.path}'"
    path = write(folder, "DSRE", ON_FEATURES, backbone=network)

    def train(seed):
        """Return the kernels of a head and of its backbone, and the seeds of data."""
        seeds.clear()
        entry = recipes.train(path, folder / "heads", seed=seed, cache_dir=cache)
        model = zoo.load(entry.path)
        kernel = model.backbone.get_layer("head_conv").kernel.numpy()
        return model.hash_head.get_weights()[0], kernel, [*seeds]

    head, kernel, loaded = train(4)
    assert loaded == [4, 4]  # the second for the backbone
    np.testing.assert_array_equal(kernel, expected)
    assert not np.array_equal(own, expected)
    # It is trained once, also if the entry gets another text, unless its files are
    # damaged; the head is the same.
    plain = folder / "text.toml"
    plain.write_text(text.replace("[entry]", '[entry]\nuse = "a test"'))
    recipes.train(plain, folder / "zoo", cache_dir=cache)
    assert zoo.entry(first.path).card["use"] == "a test"
    (weights,) = cache.glob("seed-4-*/*/model.weights.h5")
    for damage, times in ((0, 1), (1, 2)):
        content = weights.read_bytes()
        weights.write_bytes(content[: len(content) - damage])
        again, kernel, loaded = train(4)
        assert loaded == [4] * times
        np.testing.assert_array_equal(again, head)
        np.testing.assert_array_equal(kernel, expected)
    _, kernel, loaded = train(3)  # the entry's own
    assert loaded == [3]
    np.testing.assert_array_equal(kernel, own)
    # Splits that are fixed for all seeds: the entry's backbone has seen no query.
    fixed = 'name = "cifar10"\nseed = 3'
    path = write(folder, "DSRE", ON_FEATURES, backbone=network, data=fixed)
    np.testing.assert_array_equal(train(4)[1], own)


@pytest.mark.slow
def test_an_entry_of_codes_for_another_classifier(small_world):
    _, folder, _ = small_world
    path = write(
        folder,
        "AdaLabelHash",
        ON_FEATURES,
        [{"name": "SVM accuracy", "database": "encoded"}],
    )
    entry = recipes.train(path, folder / "zoo", cache_dir=folder / "cache")
    with np.load(entry.path / "codes.npz") as codes:
        pairs = [
            (codes[f"{split}_codes"], codes[f"{split}_labels"])
            for split in ("database", "validation", "query")
        ]
    value = kerashash.evaluation.svm_accuracy(*pairs, bits=12)
    assert zoo.verify(entry.path)[0]["recomputed"] == value


@pytest.mark.parametrize("method", ["IISLLD", "CPNN", "LDSVR"])
def test_an_entry_without_codes(method, tmp_path, rng, capsys):
    x = rng.normal(size=(60, 5))
    d = np.exp(x[:, :3])
    d /= d.sum(axis=1, keepdims=True)
    scipy.io.savemat(tmp_path / "rows.mat", {"features": x, "labels": d})
    rows = kerashash.data.load_distributions(tmp_path / "rows.mat", seed=4)
    metrics = [{"name": name} for name in label_distribution.MEASURES]
    file = write(
        tmp_path,
        method,
        "seed = 4",
        metrics,
        data='name = "ldl/movie"\nseed = 4',
        backbone="encoding = 'standardized'",
    )
    text = file.read_text().replace("small-colours-12", "small-colours")
    file.write_text(text.replace("bits = 12\n", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kerashash.data, "load", lambda name, **_: rows)
        entry = recipes.train(file, tmp_path / "zoo", seeds=2)
        verified = zoo.verify(entry.path, data_dir=tmp_path)
    model = zoo.load(entry.path)
    assert type(model).__name__ == method
    predicted = model.predict_distribution(rows.x_query)
    measured = label_distribution.measures(rows.d_query, predicted)
    values = {m["name"]: m["value"] for m in entry.card["metrics"]}
    assert values == pytest.approx(measured, abs=1e-6)
    assert [m["recomputed"] for m in verified] == pytest.approx([*values.values()])
    first, second = entry.card["metrics"][3]["by_seed"]
    # The weights of CPNN begin with the seed; the others have no chance in them.
    assert (first == second) == (method != "CPNN")
    mean = np.tile(rows.d_train.mean(axis=0), (6, 1))
    assert values["kl"] < 0.7 * label_distribution.kl_divergence(rows.d_query, mean)
    assert not {"bits", "bit_imbalance"} & {*entry.card}
    front = (entry.path / "card.md").read_text()
    assert 'name: "Label distributions"\n' in front
    assert "- label-distribution-learning" in front
    assert "hash-codes" not in front
    assert "name: kl\n" in front
    closeness = zoo.compare_codes(entry.path, rows)["query"]
    assert closeness.rows == 6
    assert closeness.difference < 1e-6
    assert cli.main(["evaluate", str(entry.path)]) == 0
    out = capsys.readouterr().out
    assert "  6 queries\n" in out
    assert f"{values['kl']:.4f}" in out
    assert cli.main(["compare", str(entry.path)]) == 0
    out = capsys.readouterr().out
    assert f"{values['kl']:.4f}" in out
    assert "bits" not in out
    assert zoo.export(entry.path, tmp_path / "copy").name == "small-colours"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASHASH_ZOO", str(tmp_path / "copy"))
        assert "small-colours" in zoo.list()._repr_html_()
    published = zoo.publish(model, rows, "small-rows", root=tmp_path, verbose=0)
    assert [m["name"] for m in published.card["metrics"]] == [*values]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kerashash.data, "load", lambda name, **_: rows)
        verify = ["zoo", "verify", str(entry.path), "--data-dir", str(tmp_path)]
        assert cli.main(verify) == 0
    assert "query distributions made again: 6 rows" in capsys.readouterr().out
    # Other rows, other distributions and other golden ones are seen.
    other = kerashash.data.load_distributions(tmp_path / "rows.mat", seed=5)
    with pytest.raises(ValueError, match="`data` must be those of the entry"):
        zoo.compare_codes(entry.path, other)
    for name, kind in (("codes", "query_distributions"), ("golden", "distributions")):
        arrays = dict(np.load(entry.path / f"{name}.npz"))
        changed = arrays | {kind: np.roll(arrays[kind], 1, axis=1)}
        rewrite(entry.path, f"{name}.npz", changed)
        with pytest.raises(ValueError, match=f"{name}.npz"):
            zoo.verify(entry.path)
        if name == "codes":
            with pytest.raises(ValueError, match=r"codes\.npz.*differ by at most"):
                zoo.compare_codes(entry.path, rows)
        else:
            with pytest.raises(ValueError, match=r"golden\.npz holds other"):
                zoo.load(entry.path, strict=True)
        rewrite(entry.path, f"{name}.npz", arrays)


def rewrite(path, file, arrays):
    """Change a file of an entry, and what its card says of it."""
    np.savez(path / file, **arrays)
    card = json.loads((path / "card.json").read_text())
    card["files"][file] = {
        "sha256": files.sha256(path / file),
        "bytes": (path / file).stat().st_size,
    }
    (path / "card.json").write_text(json.dumps(card))


def test_what_a_method_without_codes_does_not_take_is_named(tmp_path, rng):
    metric = {"name": "kl"}
    file = write(
        tmp_path,
        "IISLLD",
        "seed = 4",
        [metric],
        data='name = "digits"',
        backbone='name = "features"',
    )
    good = file.read_text().replace("small-colours-12", "small-colours")
    good = good.replace("bits = 12\n", "")
    for old, new, message in (
        ("[model]", "[model]\nbits = 12", r"`model` may have.*Received: \['bits'\]"),
        (
            "small-colours",
            "small-colours-12",
            "`entry.name` must be <method>-<dataset>,",
        ),
        ("'kl'", "'mAP@ALL'", "`metrics` must be measures of label distributions"),
        ("'kl'", "'kl'\nk = 5", "must not have the key 'k'"),
        ("seed = 4", "seed = 4\nfine_tune_after = 'block2b'", "`training` may have"),
        ("seed = 4", "seed = 4\nlearning_rate = 0.1", "`training` may have"),
    ):
        assert old in good
        file.write_text(good.replace(old, new))
        with pytest.raises(ValueError, match=message):
            recipes.read(file)
    file.write_text(good)
    with pytest.raises(ValueError, match="`data` must be of label distributions"):
        recipes.train(file, tmp_path / "zoo", cache_dir=tmp_path / "cache")
    digits = kerashash.data.load("digits")
    model = kerashash.baselines.IISLLD("features", 10)
    model.fit(*digits.arrays("train"), epochs=1, verbose=0)
    with pytest.raises(TypeError, match="`data` must be of label distributions"):
        zoo.publish(
            model, digits, "iis_lld-digits", {"metrics": [metric]}, root=tmp_path
        )
    zoo.round_weights(model)
    x, d = digits.arrays("query")
    codes = {"query_labels": d, "query_distributions": d + 1}
    card = {"metrics": [metric]}
    with pytest.raises(ValueError, match=r"query_distributions.*sum to 1"):
        zoo.save(model, "iis_lld-digits", card, codes, root=tmp_path)
    with pytest.raises(ValueError, match="'query_distributions' and 'query_labels'"):
        zoo.save(model, "iis_lld-digits", card, {"query_labels": d}, root=tmp_path)
    codes["query_distributions"] = model.predict_distribution(x, verbose=0)
    entry = zoo.save(model, "iis_lld-digits", card, codes, root=tmp_path)
    assert zoo.verify(entry.path)
    with pytest.raises(TypeError, match="`data` must be of label distributions"):
        zoo.compare_codes(entry.path, digits)
    # An entry with codes that stores distributions is none.
    path = zoo.export("ssdh-digits-48", tmp_path).path
    rewrite(path, "codes.npz", codes)
    for check in (zoo.verify, lambda path: zoo.compare_codes(path, digits)):
        with pytest.raises(ValueError, match=r"codes\.npz must hold"):
            check(path)


@pytest.mark.slow
def test_an_entry_of_label_distributions(tmp_path, rng):
    x = rng.normal(size=(60, 5))
    d = np.exp(x[:, :3])
    path = tmp_path / "rows.mat"
    labels = d / d.sum(axis=1, keepdims=True)
    scipy.io.savemat(path, {"features": x, "labels": labels})
    metrics = [
        {"name": name, "k": 5, "database": "encoded"}
        for name in label_distribution.MEASURES
    ]
    file = write(
        tmp_path,
        "DDHLDL",
        ON_FEATURES,
        metrics,
        data='name = "ldl/movie"\nseed = 4',
        backbone="encoding = 'quantiles'",
        model="code_epochs = 1\ncode_units = [8]\nfunction_units = [8]",
    )
    rows = kerashash.data.load_distributions(path, seed=4)
    seeds = []

    def load(name, seed, **_):
        seeds.append(seed)
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kerashash.data, "load", load)
        entry = recipes.train(file, tmp_path / "zoo", seeds=2)
    assert seeds == [4, 4]  # the recipe says which splits
    assert entry.card["counts"] == {"train": 54, "query": 6, "database": 54}
    assert [m["recomputed"] for m in zoo.verify(entry.path)] == pytest.approx(
        [m["by_seed"][0] for m in entry.card["metrics"]]
    )
    with h5py.File(entry.path / "model.weights.h5") as file:
        assert "optimizer" not in file
    model = zoo.load(entry.path)
    measured = label_distribution.measures(
        rows.d_query, model.predict_distribution(rows.x_query, k=5)
    )
    # The entry stores the distributions in half precision.
    stored = {m["name"]: m["value"] for m in entry.card["metrics"]}
    assert measured == pytest.approx(stored, abs=1e-3)


@pytest.mark.slow
def test_only_training_rows_train(tmp_path, rng, monkeypatch):
    """Other images, and other labels of all but the training rows, change no weight."""
    x = rng.normal(size=(60, 6)).astype(np.float32)
    labels = (np.eye(3)[np.arange(60) % 3]).astype(np.uint8)
    data = split_data(x, labels, rng)
    training = (
        ON_FEATURES
        + """
[training.self_train]
learning_rate = 2e-3
epochs = 1
rounds = 2
quantile = 0.5"""
    )
    network = 'name = "features"\nencoding = "standardized"\nhidden_units = 8'
    network += "\ndropout = 0.1"
    path = write(tmp_path, "AdaLabelHash", training, backbone=network)
    changed, trains = x.copy(), np.zeros(60, bool)
    trains[data.splits["train"]] = True
    seen = trains.copy()
    seen[data.splits["unlabelled"]] = True
    changed[~seen] = 50 + 9 * changed[~seen]
    mistaken = np.where(trains[:, None], labels, 1 - labels)
    calls, fit = [], kerashash.AdaLabelHash.fit

    def watched(model, *arguments, **options):
        rate = float(model.optimizer.learning_rate)
        calls.append((rate, options["epochs"], options.get("batch_size")))
        return fit(model, *arguments, **options)

    monkeypatch.setattr(kerashash.AdaLabelHash, "fit", watched)
    weights, codes = [], []
    for number, other in enumerate(
        (data, dataclasses.replace(data, x=changed, labels=mistaken))
    ):
        keras.utils.set_random_seed(3)
        folder = tmp_path / str(number)
        result = runs.run(recipes.read(path), other, 3, folder)
        weights.append(result.model.get_weights())
        codes.append(result.codes["database_codes"])
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)
    assert (codes[0] != codes[1]).any()
    # Training, and the rounds of self-training, with epochs counted on.
    assert calls[:3] == [
        (pytest.approx(1e-3), 2, 16),
        (pytest.approx(2e-3), 1, None),
        (pytest.approx(2e-3), 2, None),
    ]
    kinds = [type(layer).__name__ for layer in result.model.backbone.layers[1:]]
    assert kinds == ["Normalization", "Dropout", "Dense", "Dropout"]


def test_learned_codes_stand_at_their_images(tmp_path, rng):
    labels = np.eye(3, dtype=np.uint8)[np.arange(60) % 3]
    data = split_data(rng.normal(size=(60, 6)).astype(np.float32), labels, rng)
    path = write(
        tmp_path,
        "DCDH",
        "seed = 3\nepochs = 1\nbatch_size = 24\nlearning_rate = 1e-3",
        [{**MAP, "database": "learned"}],
        model='variant = "V"',
        backbone='name = "features"',
    )
    result = runs.run(recipes.read(path), data, 3, tmp_path)
    check_learned(result.codes, result.model, data)


@pytest.mark.parametrize(("epochs", "decay"), [(3, 2), (7, 5)])
def test_queries_of_label_distributions_do_not_train(tmp_path, rng, epochs, decay):
    x = rng.normal(size=(40, 4))
    d = rng.dirichlet([1.0, 1.0, 1.0], 40)
    scipy.io.savemat(tmp_path / "rows.mat", {"features": x, "labels": d})
    rows = kerashash.data.load_distributions(tmp_path / "rows.mat", seed=4)
    file = write(
        tmp_path,
        "DDHLDL",
        f"seed = 3\nepochs = {epochs}\nbatch_size = 9\nlearning_rate = 1e-3",
        data='name = "ldl/movie"',
        backbone="encoding = 'quantiles'",
        model="code_epochs = 2\ncode_units = [8]\nfunction_units = [8]",
    )
    weights = []
    for other in (
        rows,
        rows._replace(x_query=7 * rows.x_query + 1, d_query=rows.d_query[:, ::-1]),
    ):
        keras.utils.set_random_seed(3)
        model = runs.run(recipes.read(file), other, 3, tmp_path).model
        weights.append(model.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)
    # 36 rows in batches of 9. The rate begins again with the function network, and
    # decays over the epochs of the one that has more.
    assert int(model.optimizer.iterations) == 4 * (epochs - 2)
    rates = []
    for step in (0, 2 * decay, 4 * decay):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([1e-3, 0.5e-3, 0])


class Recorder:
    """Takes the place of a model, and keeps what it is trained with."""

    def __init__(self):
        self.optimizers, self.fits = [], []

    def compile(self, optimizer):
        self.optimizers.append(optimizer)

    def fit(self, dataset, **options):
        self.fits.append((dataset, options))


def test_rounds_of_fine_tuning(rng):
    features = rng.normal(size=(20, 2, 4, 4, 1)).astype(np.float16)
    labels = np.eye(20)
    rounds = (
        recipe.Round(epochs=4, warmup_epochs=1.5, learning_rate=0.3, augment=True),
        recipe.Round(epochs=2, warmup_epochs=0, learning_rate=0.1, augment=False),
    )
    model = Recorder()
    fitting.fit(
        model,
        features,
        labels,
        seed=5,
        batch_size=5,
        weight_decay=0.02,
        shift=1,
        rounds=rounds,
    )
    assert [options["epochs"] for _, options in model.fits] == [4, 6]
    assert [options["initial_epoch"] for _, options in model.fits] == [0, 4]
    # Four steps an epoch: up for 1.5 epochs or 0, then down to 0.
    for optimizer, steps, rates in zip(
        model.optimizers,
        [(0, 3, 6, 11, 16), (0, 4, 8)],
        [(0, 0.15, 0.3, 0.15, 0), (0.1, 0.05, 0)],
        strict=True,
    ):
        assert optimizer.weight_decay == 0.02
        actual = []
        for step in steps:
            optimizer.iterations.assign(step)
            actual.append(float(optimizer.learning_rate))
        assert actual == pytest.approx(rates)
    orders = []
    for (dataset, _), augment in zip(model.fits, (True, False), strict=True):
        views = set()
        for x, y in dataset:
            index = y["index"].numpy()
            orders.append(index)
            np.testing.assert_array_equal(y["label"], labels[index])
            assert len(index) == 5
            for image, row in zip(x.numpy(), index, strict=True):
                pads = [(1, 1), (1, 1), (0, 0)] if augment else [(0, 0)] * 3
                for view in (0, 1):
                    padded = np.pad(features[row, view], pads, "reflect")
                    windows = np.lib.stride_tricks.sliding_window_view(
                        padded, (4, 4, 1)
                    ).reshape(-1, 4, 4, 1)
                    if (windows == image).all(axis=(1, 2, 3)).any():
                        views.add(view)
                        break
                else:
                    raise AssertionError("neither the image nor its mirror image")
        assert views == ({0, 1} if augment else {0})
    assert sorted(np.concatenate(orders[:4])) == list(range(20))
    assert not np.array_equal(orders[:4], orders[4:8])


def test_steps_on_vectors_come_in_groups_and_give_the_same_weights(rng, monkeypatch):
    x = rng.normal(size=(80, 6)).astype(np.float32)
    labels = np.eye(5)[rng.integers(0, 5, 80)]
    trained = []
    for steps in (1, fitting._STEPS_A_CALL):
        monkeypatch.setattr(fitting, "_STEPS_A_CALL", steps)
        keras.utils.set_random_seed(0)
        model = kerashash.AdaLabelHash(fitting.network(x), 8, num_classes=5)
        # 40 steps an epoch: a whole group, and a part of one.
        options = {"epochs": 2, "batch_size": 2, "learning_rate": 0.01}
        fitting.fit_vectors(model, x, labels, **options)
        assert model.steps_per_execution == steps
        assert model.optimizer.iterations == 80
        trained.append(model.get_weights())
    assert 1 < steps < 40
    for one_by_one, grouped in zip(*trained, strict=True):
        np.testing.assert_array_equal(one_by_one, grouped)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    # The second passes over the images before the first epoch.
    [(kerashash.AdaLabelHash, {}), (kerashash.DSRE, {"num_train": 21})],
)
def test_resumed_fine_tuning_is_that_which_was_not_interrupted(
    method, options, tmp_path, rng, monkeypatch
):
    labels = np.eye(3)[np.arange(21) % 3]
    features = rng.normal(size=(21, 2, 3, 3, 1)).astype(np.float16)
    rounds = [recipe.Round(2, warmup_epochs=1, learning_rate=0.01, augment=True)]
    end, stops = kerashash.callbacks.Backup.on_epoch_end, []

    def on_epoch_end(self, epoch, logs=None):
        end(self, epoch, logs)
        if epoch in stops:
            raise InterruptedError

    monkeypatch.setattr(kerashash.callbacks.Backup, "on_epoch_end", on_epoch_end)

    def trained(folder):
        keras.utils.set_random_seed(7)
        layers = [
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            keras.layers.Dropout(0.3),
        ]
        network = keras.Sequential([keras.Input((3, 3, 1)), *layers])
        model = method(network, bits=8, num_classes=3, **options)
        fitting.fit(
            model,
            features,
            labels,
            seed=5,
            backup_dir=folder,
            batch_size=8,
            weight_decay=1e-3,
            shift=1,
            rounds=rounds,
        )
        return [variable.numpy() for variable in model.variables]

    expected = trained(tmp_path / "whole")
    stops.append(0)  # in the middle of the round
    with pytest.raises(InterruptedError):
        trained(tmp_path / "stopped")
    stops.clear()
    for weight, other in zip(expected, trained(tmp_path / "stopped"), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_the_card_names_the_machine(monkeypatch):
    assert runs._machine().endswith("CPU cores, no GPU")
    details = {"device_name": "NVIDIA H100"}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a", "b"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda device: details
    )
    assert runs._machine().endswith("CPU cores, NVIDIA H100 and NVIDIA H100")


def test_random_shift_moves_whole_images():
    x = tf.reshape(tf.range(2 * 4 * 4, dtype=tf.float32), (2, 4, 4, 1))
    np.testing.assert_array_equal(random_shift(x, 0), x)
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT").numpy()
    windows = [padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    for row, moved in enumerate(random_shift(x, 1).numpy()):
        assert any(np.array_equal(moved, window[row]) for window in windows)


def test_random_cutout_sets_one_square_to_0():
    x = tf.ones((200, 5, 6, 2))
    np.testing.assert_array_equal(random_cutout(x, 0), x)
    squares = []
    for i in range(-1, 4):
        for j in range(-1, 5):
            square = np.ones((5, 6))
            square[max(i, 0) : i + 3, max(j, 0) : j + 3] = 0
            squares.append(square)
    found = set()
    for image in random_cutout(x, 3).numpy():
        np.testing.assert_array_equal(image[..., 0], image[..., 1])
        found.add(next(i for i, s in enumerate(squares) if (image[..., 0] == s).all()))
    assert len(found) == 30  # its centre may be any cell


def test_squares_are_cut_out_of_augmented_features_alone():
    model = Recorder()
    fitting.fit(
        model,
        np.ones((64, 2, 4, 4, 1), np.float16),
        np.eye(64),
        seed=1,
        batch_size=64,
        weight_decay=0,
        shift=0,
        cutout=2,
        rounds=[recipe.Round(1, 0, 0.1, True), recipe.Round(1, 0, 0.1, False)],
    )
    for (dataset, _), least in zip(model.fits, (0, 1), strict=True):
        ((x, _),) = dataset.as_numpy_iterator()
        assert (x.min(axis=(1, 2, 3)) == least).all()


def test_the_side_of_the_square_of_a_recipe(small_world, monkeypatch):
    _, folder, _ = small_world
    text = FINE_TUNED.replace("shift = 1", "shift = 1\ncutout = 3")
    path = write(folder, "AdaLabelHash", text)
    sides = []

    def fit(*_, cutout, **options):
        sides.append(cutout)
        raise InterruptedError

    monkeypatch.setattr(fitting, "fit", fit)
    with pytest.raises(InterruptedError):
        recipes.train(path, folder / "zoo", cache_dir=folder / "cache")
    assert sides == [3]
    path.write_text(path.read_text().replace("cutout = 3", "cutout = -1"))
    with pytest.raises(ValueError, match=r"`training.cutout` must be at least 0"):
        recipes.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[entry]\n", r"Missing: \['data', 'backbone', 'model', 'training'\]"),
        (
            "[entry]\n[data]\n[backbone]\n[model]\n[training]",
            "`entry` must have the keys",
        ),
        ("[entry", "`recipe` must be a recipe file"),
        (None, "`recipe` must be a recipe file"),
    ],
)
def test_files_that_are_no_recipe_are_refused(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        recipes.read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "seed = 3",
            "",
            r"`training` must have the keys \['seed'\]. Missing: \['seed'\]",
        ),
        ("bits = 12", "", r"`model` must have the keys \['bits'\]"),
        ("bits = 12", "bits = 0", "`model.bits` must be at least 1"),
        ("bits = 12", "bits = 16", "`entry.name` must .* 16 bits. Rec.*colours-12'"),
        ("small-colours-12", "small", "`entry.name` must be <method>-<dataset>"),
        ("ties = ", "tie = ", r"'mAP@ALL' must .* Missing: \['ties'\]"),
        ("bits = 12", "bits = 12\nmargn = 3.0", r"`model` may.*Received: \['margn'\]"),
        ("bits = 12", "bits = 12\nnum_train = 9", r"Received: \['num_train'\]"),
        ("epochs = 2", "epoch = 2", r"`training`.*Missing: \['epochs'\]"),
        (
            "epochs = 2",
            "epochs = 2\nshift = 1",
            r"`training` may.*Received: \['shift'\]",
        ),
        ("epochs = 2", "epochs = 0", "`training.epochs` must be at least 1"),
        ("learning_rate = 1e-3", "learning_rate = -1.0", "learning_rate` must be at"),
        ('"AdaLabelHash"', '"AdaLabel"', "`method` must be one of"),
        ('"AdaLabelHash"', '"HashModel"', "`method` must be one of"),
        ("bits = 12", "bits = 12\nkwargs = 1", r"`model` may.*\['kwargs'\]"),
        (
            "image_size = 64",
            'image_size = 64\nencoding = "x"',
            "`encoding` must be one",
        ),
        (
            "image_size = 64",
            "image_size = 64\nmirrored = 'yes'",
            "`backbone.mirrored` must be true or false",
        ),
        (
            "image_size = 64",
            "image_size = 64\nof = 'y'",
            "`backbone` must have no other",
        ),
        ('name = "cifar10"', "", "`data` must have one of the keys 'name'"),
        ('name = "cifar10"', 'name = "x"\nfolder = "y"', "`data` must have one of"),
        ('name = "cifar10"', "folder = 3", "`data.folder` must be a str"),
        ('"cifar10"', '"cifar10"\nquery_share = 0.1', r"`data` may.*\['query_share'\]"),
        (
            'name = "cifar10"',
            'folder = "x"\nprotocol = "y"',
            r"`data` may.*\['protocol",
        ),
        ('"cifar10"', '"cifar10"\ndata_dir = "/x"', r"`data` may.*\['data_dir'\]"),
        (
            'licence = "Apache-2.0"',
            "licence = 2026-01-01",
            "`entry` must hold what JSON",
        ),
        ("'expected'", "'bogus'", "`metrics.ties` must be one of"),
        ("'relevant'", "5", "`metrics.denominator` must be one of"),
        ("'zero'", "['zero']", "`metrics.empty` must be one of"),
        ("'encoded'", "'x'", "`metrics.database` must be one of"),
        ("'encoded'", "'learned'", "must not be of learned codes.*AdaLabelHash"),
        ("'zero'", "'zero'\nat = -5", "`metrics.at` must be at least 1"),
        ("'zero'", "'zero'\nat = 'a'", "`metrics.at` must be an integer"),
        ("'zero'", "'zero'\nat = 5", r"`metrics.name` must be one of \['mAP@5',"),
        ("'zero'", "'zero'\nAt = 5", "'mAP@ALL' must have no other keys.*At"),
        ("'zero'", "'zero'\nk = 5", "'mAP@ALL' must have no other keys.*k"),
        ("'zero'", "'zero'\nof = 'x'", r"must have no other keys.*\['of'\]"),
        ("'zero'", "'zero'\nby_seed = [1.0]", r"no other keys.*\['by_seed'\]"),
        ("'zero'", "'zero'\nvalue = 1.0", r"no other keys.*\['value'\]"),
        ("'zero'", "'zero'\nmeasured = 'no'", "`metrics.measured` must be true or"),
        ("'zero'", "'zero'\nfirst_labels = [1]", "first_labels` must be an integer"),
        ("'mAP@ALL'", "'accuracyy'", "`metrics.name` must be one of.*'accuracyy'"),
        ("'mAP@ALL'", "'SVM accuracy'", "no other keys|must have no other"),
        ('licence = "Apache-2.0"', 'version = "x"', "`entry` must have a `version`"),
        ('licence = "Apache-2.0"', "version = 0", "`entry` must have a `version`"),
        ('licence = "Apache-2.0"', 'changes = "x"', "`entry` must have `changes`"),
        ('licence = "Apache-2.0"', "nearest_concepts = 5", "`nearest_concepts`"),
        ('licence = "Apache-2.0"', 'versions = "a"', "keys that the training writes"),
        ('licence = "Apache-2.0"', 'licence = "\\ud800"', "must be a recipe file"),
        ("seed = 3", "seed = 4_294_967_296", "`training.seed` must be at most"),
        ("learning_rate = 1e-3", "learning_rate = inf", "learning_rate` must be at"),
        ("learning_rate = 1e-3", "learning_rate = nan", "learning_rate` must be at"),
        ("learning_rate = 1e-3", "learning_rate = 1e300", "learning_rate` must be at"),
        ("learning_rate = 1e-3", "learning_rate = true", "learning_rate` must be a n"),
        ("seed = 3", "seed = 3\nself_train = 5", "`training.self_train` must be a t"),
        ("seed = 3", "seed = 3\nself_train = {}", r"self_train`.*\['learning_rate'\]"),
        ("seed = 3", "seed = 3\nself_train.rate = 1", "`training.self_train` must"),
        (
            "seed = 3",
            "seed = 3\nself_train = {learning_rate = 'a'}",
            "`training.self_train.learning_rate` must be a number",
        ),
        (
            "seed = 3",
            "seed = 3\nself_train = {learning_rate = 1, callbacks = []}",
            r"`training.self_train` may.*\['callbacks'\]",
        ),
        (
            "seed = 3",
            "seed = 3\nself_train = {learning_rate = 1, quantile = 1.5}",
            "`training.self_train.quantile` must be at least 0 and at most 1",
        ),
        (
            "seed = 3",
            "seed = 3\nself_train = {learning_rate = 1, rule = 'x'}",
            "`training.self_train.rule` must be one of",
        ),
        (
            "seed = 3",
            "seed = 3\nself_train = {learning_rate = 1, rounds = 1.0}",
            "`training.self_train.rounds` must be an integer",
        ),
        ('name = "efficientnet-lite0"', "", "`backbone` must have the key 'name' or"),
        ("image_size = 64", "dropout = 0.5", "`backbone.dropout` needs a layer"),
        (
            "image_size = 64",
            "hidden_units = 8\ndropout = 'x'",
            "`backbone.dropout` must be a number",
        ),
        (
            "image_size = 64",
            "hidden_units = 8\ndropout = 1.5",
            "`backbone.dropout` must be at least 0 and at most 1",
        ),
        (
            "image_size = 64",
            "hidden_units = 8\ndropout = 1.0",
            "`backbone.dropout` must be less than 1",
        ),
        *(
            ('licence = "Apache-2.0"', f"{key} = 3", f"`entry.{key}` must be a text")
            for key in ("licence", "paper", "trained_on", "use", "missing")
        ),
        *(
            (old, f"{old}\n{key} = 1{10 * '0'}", f"`{table}.{key}` must be at most")
            for old, table, key in (
                ("image_size = 64", "backbone", "hidden_units"),
                ("bits = 12", "model", "margin"),
                ('name = "cifar10"', "data", "seed"),
                ("seed = 3", "training", "self_train.rounds"),
            )
        ),
        ("bits = 12", "bits = 12\nunits = [1, -3_000_000_000]", "`model.units` must"),
        ("bits = 12", f"bits = 12\n{2000 * 'a.'}a = 1", "recursion depth"),
        ("epochs = 2", f"epochs = 1{20 * '0'}", "`training.epochs` must be at most"),
        (
            'name = "cifar10"',
            'folder = "x"\nlabels = 3',
            "`data.labels` must be a str, the name",
        ),
        ("[data]", "[dat]", r"Missing: \['data'\]"),
        ("[model]", "[extra]\nx = 1\n[model]", r"`recipe` may.*Received: \['extra'\]"),
    ],
)
def test_wrong_keys_of_a_recipe_are_named(tmp_path, old, new, message):
    path = write(tmp_path, "AdaLabelHash", ON_FEATURES)
    recipes.read(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refusals = (TypeError, ValueError, RecursionError)
    with pytest.raises(refusals, match=message) as caught:
        recipes.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("augment = true", "augment = 'yes'", "`training.rounds.augment` must be true"),
        ("warmup_epochs = 0.5", "warmup_epochs = 1", "warmup_epochs` must be less"),
        ("shift = 1", "shift = 1.5", "`training.shift` must be an integer"),
        ('"block2b"', "3", "`training.fine_tune_after` must be the name of a layer"),
        ("shift = 1", "shift = 1\nself_train = 5", "`training.self_train` needs"),
        ("image_size = 64", "hidden_units = 8", "`backbone` must be a network"),
        (
            'name = "efficientnet-lite0"\nimage_size = 64\nweights',
            "of",
            "`backbone` must",
        ),
    ],
)
def test_wrong_keys_of_fine_tuning_are_named(tmp_path, old, new, message):
    path = write(tmp_path, "AdaLabelHash", FINE_TUNED)
    recipes.read(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises((TypeError, ValueError), match=message):
        recipes.read(path)


@pytest.mark.parametrize("rounds", ["5", "[]", "[5]"])
def test_rounds_are_tables(tmp_path, rounds):
    head, _, end = FINE_TUNED.partition("[[training.rounds]]")
    text = head.replace("shift = 1", f"shift = 1\nrounds = {rounds}")
    text += end[end.index("[training.head]") :]
    path = write(tmp_path, "AdaLabelHash", text)
    with pytest.raises(ValueError, match=r"`training.rounds` must be"):
        recipes.read(path)


def test_a_measure_of_label_distributions_takes_a_number_of_neighbours(tmp_path):
    metrics = [{"name": "kl", "k": [5]}]
    path = write(tmp_path, "DDHLDL", ON_FEATURES, metrics)
    with pytest.raises(TypeError, match=r"`metrics.k` must be an integer"):
        recipes.read(path)
    # It is measured on the codes that are made of the data, which the card would deny.
    metrics = [{"name": "kl", "k": 5, "database": "learned"}]
    with pytest.raises(ValueError, match=r"`metrics.database` must be one of"):
        recipes.read(write(tmp_path, "DDHLDL", ON_FEATURES, metrics))


@pytest.mark.parametrize("method", ["SSDH", "AdaLabelHash", "SDH"])
def test_methods_that_learn_no_codes_are_not_measured_on_them(tmp_path, method):
    training = "seed = 3" if method == "SDH" else ON_FEATURES
    learned = [{**MAP, "database": "learned"}]
    with pytest.raises(ValueError, match=rf"must not be of learned codes.*{method}"):
        recipes.read(write(tmp_path, method, training, learned))


def test_self_training_is_of_methods_that_can(tmp_path):
    text = ON_FEATURES + "\n[training.self_train]\nlearning_rate = 1e-3"
    with pytest.raises(ValueError, match=r"self_train` needs a method that can.*SSDH"):
        recipes.read(write(tmp_path, "SSDH", text))


def test_recipes_are_utf_8(tmp_path):
    path = write(tmp_path, "AdaLabelHash", ON_FEATURES)
    text = path.read_text().replace("Apache-2.0", "d\u2019apr\u00e8s \U0001f4f7")
    for start in (b"", b"\xef\xbb\xbf"):  # some editors write a byte-order mark
        path.write_bytes(start + text.encode())
        recipe = recipes.read(path)
        assert recipe.entry["licence"] == "d\u2019apr\u00e8s \U0001f4f7"
        assert recipe.text == text
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match="`recipe` must be a recipe file"):
        recipes.read(path)


@pytest.mark.parametrize("path", [None, 5, b"recipe.toml"])
def test_a_recipe_is_read_from_a_path(path):
    with pytest.raises(TypeError, match="`path` must be a path"):
        recipes.read(path)


@pytest.fixture
def untrained(monkeypatch):
    """Fails a test that trains."""
    monkeypatch.setattr(runs, "run", lambda *_: pytest.fail("it trains"))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({**MAP, "name": "mAP@2000", "at": 2000}, "`metrics.at` must be at most 1497"),
        ({**MAP, "first_labels": 99}, "`metrics.first_labels` must be at most 10"),
        (
            {**MAP, "name": "mAP@9", "at": 9, "denominator": "retrieved"},
            "`ties` must be 'stable'",
        ),
        ({"name": "kl", "k": 5}, "`metrics` must fit the data.*'kl' of class labels"),
        ({"name": "SVM accuracy"}, "'SVM accuracy' needs validation images"),
    ],
)
def test_metrics_that_do_not_fit_the_data_are_refused_before_training(
    tmp_path, untrained, metric, message
):
    path = write(
        tmp_path,
        "SSDH",
        ON_FEATURES,
        [MAP, metric],
        data='name = "digits"',
        backbone='name = "features"',
    )
    with pytest.raises(ValueError, match=message):
        recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("method", "model", "message"),
    [
        ("AdaLabelHash", 'preset = "x"', "`preset` must be one of"),
        ("AdaLabelHash", 'margin = "a"', "`margin` must be a number"),
        ("AdaLabelHash", "floor = -5", "`floor` must be True or False"),
        ("DCDH", 'label_units = "big"', "`label_units` must be a list of widths"),
    ],
)
def test_options_are_refused_before_the_features(
    tmp_path, untrained, method, model, message
):
    tables = {"data": 'name = "digits"', "backbone": 'name = "features"'}
    path = write(tmp_path, method, ON_FEATURES, model=model, **tables)
    with pytest.raises((TypeError, ValueError), match=message):
        recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("model", "epochs", "code_epochs"),
    [("", 10, 10), ("code_epochs = 3", 3, 3), ('preset = "paper"', 20, 20)],
)
def test_the_network_that_encodes_has_epochs(
    tmp_path, untrained, model, epochs, code_epochs
):
    tables = {"data": 'name = "digits"', "backbone": 'name = "features"'}
    training = ON_FEATURES.replace("epochs = 2", f"epochs = {epochs}")
    path = write(tmp_path, "DDHLDL", training, model=model, **tables)
    message = f"`training.epochs` must be more than `model.code_epochs`.*{code_epochs}"
    with pytest.raises(ValueError, match=message):
        recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")
    # One more is enough.
    path.write_text(path.read_text().replace(f"epochs = {epochs}\nb", "epochs = 21\nb"))
    with pytest.raises(pytest.fail.Exception, match="it trains"):
        recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")]
)
@pytest.mark.parametrize("key", ["bits = 12", "hidden_units = 7"])
def test_a_model_without_memory_is_refused(
    tmp_path, untrained, monkeypatch, error, key
):
    add_weight = keras.layers.Layer.add_weight

    def full(layer, shape=None, *args, **kwargs):
        if shape and int(key[-2:]) in shape:
            raise error
        return add_weight(layer, shape, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Layer, "add_weight", full)
    table = 'name = "features"\nhidden_units = 7'
    path = write(
        tmp_path, "AdaLabelHash", ON_FEATURES, data='name = "digits"', backbone=table
    )
    key = key.replace(" = ", "': ")
    with pytest.raises(ValueError, match=f"`backbone` and `model` must.*{key}.*Error"):
        recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")


def test_a_file_in_place_of_a_folder_is_named_first(tmp_path, untrained, monkeypatch):
    path = write(tmp_path, "SSDH", ON_FEATURES, data='name = "digits"')
    for name, rule in (("log_dir", "lie in a folder"), ("cache_dir", "be a folder")):
        with pytest.raises(ValueError, match=f"`{name}` must {rule}"):
            recipes.train(path, tmp_path / "zoo", **{name: path})
    for wrong in (str(path), "/proc/x"):
        monkeypatch.setenv("KERASHASH_CACHE", wrong)
        with pytest.raises(ValueError, match=f"`KERASHASH_CACHE` must be.*{wrong}"):
            recipes.train(path, tmp_path / "zoo")


@pytest.mark.parametrize(
    ("backbone", "self_train", "message"),
    [
        ("hidden_units = 8", "", "`backbone` must name a network.*'hidden_units': 8"),
        ("name = 'features'", "{learning_rate = 1}", "data with unlabelled images"),
        (
            "name = 'features'",
            "{learning_rate = 1, rule = 'multi', top_k = 9, bottom_k = 9}",
            "`top_k`.*at most.* labels",
        ),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_training(
    tmp_path, rng, untrained, monkeypatch, backbone, self_train, message
):
    labels = np.eye(3, dtype=np.uint8)[np.arange(60) % 3]
    data = split_data(rng.normal(size=(60, 6)).astype(np.float32), labels, rng)
    if "unlabelled" in message:
        data.splits.pop("unlabelled")
    monkeypatch.setattr(kerashash.data, "load", lambda name, **_: data)
    training = ON_FEATURES + (self_train and f"\nself_train = {self_train}")
    path = write(tmp_path, "AdaLabelHash", training, backbone=backbone)
    with pytest.raises(ValueError, match=message):
        recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")


def test_columns_have_no_network_and_no_ranking(tmp_path, rng, untrained, monkeypatch):
    rows = kerashash.data.DistributionData(
        rng.normal(size=(9, 4)), np.full((9, 2), 0.5), np.ones((2, 4)), np.eye(2)
    )
    monkeypatch.setattr(kerashash.data, "load", lambda name, **_: rows)
    kl = {"name": "kl", "k": 5}
    for backbone, metric, message in (
        ("name = 'features'", kl, "`backbone` must have no network for columns"),
        ("encoding = 'quantiles'", MAP, "'mAP@ALL' of label distributions"),
        ("encoding = 'quantiles'", {**kl, "k": 10}, r"`metrics.k` must be at most 9"),
    ):
        path = write(tmp_path, "DDHLDL", ON_FEATURES, [metric], backbone=backbone)
        with pytest.raises(ValueError, match=message):
            recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")


def test_an_image_backbone_takes_no_vectors(tmp_path):
    table = 'name = "efficientnet-lite0"'
    path = write(tmp_path, "SSDH", ON_FEATURES, data='name = "digits"', backbone=table)
    with pytest.raises(ValueError, match=r"`backbone` must take images of shape \(64,"):
        recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")
    images = types.SimpleNamespace(x=np.zeros((3, 8, 8, 3)))
    path = write(tmp_path, "SSDH", ON_FEATURES, backbone='name = "features"')
    with pytest.raises(ValueError, match=r"`backbone` must be a network of images"):
        runs.check_data(recipes.read(path), images)
    resize = kerashash.backbones.images.ResizeImages(8)
    for call in (resize, lambda x: resize.compute_output_shape(x.shape)):
        with pytest.raises(ValueError, match=r"must take images of shape.*\(3, 64\)"):
            call(np.zeros((3, 64)))


def test_seeds_and_places_are_checked_first(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(
        runs.encoding, "load_data", lambda *_: pytest.fail("it loads the data")
    )
    photos(tmp_path / "photos", rng)
    path = write(tmp_path, "AdaLabelHash", ON_FEATURES, data='folder = "photos"')
    for options, message in (
        ({"seed": 2**32 - 1, "seeds": 2}, "`seeds` must be at most 1"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"seed": 2**32}, "`seed` must be at most"),
        ({"seeds": 0}, "`seeds` must be at least 1"),
        ({"root": tmp_path / "photos"}, "`root` must be a place apart"),
        ({"root": path}, "`root` must lie in a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.train(path, **{"root": tmp_path / "zoo", **options})
    # A folder that has the entry's name and is none, with the photographs or without.
    (tmp_path / "photos").rename(tmp_path / "small-colours-12")
    for folder, message in (
        ("small-colours-12", "`root` must be a place apart"),
        ("small-colours-12/cat", r"nothing else is replaced.*small-colours-12"),
        ("elsewhere", r"nothing else is replaced.*small-colours-12"),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.train(path, tmp_path, data_dir=tmp_path / folder)
    assert len([*tmp_path.rglob("*.png")]) == 20


def test_the_cache_is_that_of_the_package(tmp_path, monkeypatch):
    path = write(
        tmp_path,
        "SSDH",
        ON_FEATURES,
        data='name = "digits"',
        backbone='name = "features"',
    )
    folders = []

    def run(recipe, rows, seed, cache_dir, *_):
        folders.append(cache_dir)
        raise InterruptedError

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, expected in (
        (None, tmp_path / "kerashash"),
        ("~/own", tmp_path / "home" / "own"),
    ):
        monkeypatch.setenv("KERASHASH_CACHE", str(tmp_path / "kerashash"))
        with pytest.raises(InterruptedError):
            recipes.train(path, tmp_path / "zoo", cache_dir=given)
        assert folders.pop() == expected


def test_the_backbone_of_an_entry_is_named(tmp_path):
    path = write(tmp_path, "DSRE", ON_FEATURES, backbone="of = 5")
    with pytest.raises(TypeError, match=r"`backbone.of` must be the name of an entry"):
        recipes.read(path)


def test_columns_are_not_mirrored(tmp_path):
    path = write(tmp_path, "DSRE", ON_FEATURES, backbone="mirrored = true")
    with pytest.raises(ValueError, match=r"`backbone.mirrored` needs a network"):
        recipes.read(path)


def test_a_recipe_cannot_be_changed(tmp_path):
    recipe = recipes.read(write(tmp_path, "AdaLabelHash", FINE_TUNED))
    assert [choices.augment for choices in recipe.training.rounds] == [True, False]
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.training.shift = 2


@pytest.mark.parametrize("name", zoo.list())
def test_recipes_of_entries_are_recipes(name):
    recipe, card = recipes.read(zoo.recipe_path(name)), zoo.entry(name).card
    assert recipe.name == name
    assert recipe.method.__name__ == card["method"]
    if not card.get("surrogate"):  # their cards name a substitute backbone
        assert recipe.backbone.table() == card["backbone"]


def photos(folder, rng):
    """Write a folder of small images, with a folder for each class."""
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            keras.utils.save_img(folder / label / f"{i}.png", pixels, scale=False)


@pytest.mark.slow
def test_a_recipe_on_a_folder_of_images(tmp_path, rng, monkeypatch, capsys):
    def network(*_, **__):
        layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
        return keras.Sequential([keras.Input((8, 8, 3)), *layers])

    monkeypatch.setattr(runs, "backbones", types.SimpleNamespace(get=network))
    photos(tmp_path / "recipes" / "photos", rng)
    table = 'folder = "photos"\nquery_share = 0.2\nvalidation = 0.25\nfit = "crop"'
    table += "\nseed = 5"
    path = write(tmp_path / "recipes", "AdaLabelHash", ON_FEATURES, data=table)
    monkeypatch.chdir(tmp_path)
    options = ["--root", "zoo", "--cache-dir", "cache"]
    assert cli.main(["train", "--recipe", "recipes/recipe.toml", *options]) == 0
    entry = zoo.entry("zoo/small-colours-12")
    assert entry.card["counts"] == {"train": 12, "query": 4, "database": 16}
    assert entry.card["data"] == {
        "folder": "photos",
        "query_share": 0.2,
        "validation": 0.25,
        "fit": "crop",
        "seed": 5,
    }
    assert zoo.load(entry.path).image_fit == entry.card["image_fit"] == "crop"
    text = (entry.path / "card.md").read_text()
    assert "split: 0.2 of each class are queries, the rest trains and" in text
    assert "images that are no squares: crop" in text
    data = kerashash.data.from_directory(
        "recipes/photos", query_share=0.2, validation=0.25, seed=5
    )
    agreement = zoo.compare_codes(entry.path, data, verbose=0)
    assert agreement["query"] == (4, 4, 0)
    assert agreement["validation"] == (4, 4, 0)
    # The folder may lie elsewhere, and its labels in a CSV file in it.
    (tmp_path / "recipes" / "photos").rename(tmp_path / "elsewhere")
    lines = [
        f"{file.parent.name}/{file.name},{file.parent.name}"
        for file in sorted((tmp_path / "elsewhere").rglob("*.png"))
    ]
    (tmp_path / "elsewhere" / "l.csv").write_text("\n".join(["file,labels", *lines]))
    path.write_text(path.read_text().replace("seed = 5", 'seed = 5\nlabels = "l.csv"'))
    elsewhere = ["--data-dir", "elsewhere"]
    train = ["train", "--recipe", "recipes/recipe.toml", *options]
    assert cli.main(train) == 2
    assert "`path` must be a folder" in capsys.readouterr().err
    assert cli.main([*train, *elsewhere]) == 0
    verify = ["zoo", "verify", "zoo/small-colours-12"]
    assert cli.main([*verify, *elsewhere]) == 0
    assert "database codes made again: 16 of 16 equal" in capsys.readouterr().out
    (tmp_path / "elsewhere" / "cat" / "0.png").unlink()
    assert cli.main([*verify, *elsewhere]) == 2


def test_the_counts_of_a_card_are_those_of_its_codes(tmp_path, rng, monkeypatch):
    def network(*_, **__):
        return keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])

    load_data = encoding.load_data
    loaded, sizes = [], []

    def load(*arguments):
        assert not any(rows() for rows in loaded)  # each may fill the memory
        rows = load_data(*arguments)
        loaded.append(weakref.ref(rows))
        sizes.append(rows.num_query)
        return rows

    monkeypatch.setattr(runs, "backbones", types.SimpleNamespace(get=network))
    monkeypatch.setattr(encoding, "load_data", load)
    folder = tmp_path / "photos"
    photos(folder, rng)
    lines = ["file,labels"]
    for file in sorted(folder.rglob("*.png")):
        labels = rng.choice([*"abcd"], rng.integers(1, 4), replace=False)
        lines.append(f"{file.relative_to(folder).as_posix()},{';'.join(labels)}")
    (folder / "labels.csv").write_text("\n".join(lines))
    path = write(
        tmp_path,
        "ITQ",
        "seed = 0\nepochs = 1",
        data='folder = "photos"\nlabels = "labels.csv"\nquery_share = 0.2',
    )
    entry = recipes.train(path, tmp_path / "zoo", seeds=2, cache_dir=tmp_path / "cache")
    assert sizes[0] != sizes[1]  # of images with several labels, each draws others
    stored = archives.read_npz(entry.path / "codes.npz")
    assert entry.card["counts"]["query"] == len(stored["query_codes"]) == sizes[0]
    assert entry.card["counts"]["database"] == len(stored["database_codes"])


@pytest.mark.parametrize(
    "hidden", ["hidden_units = 8", "", 'encoding = "whitened"\ncomponents = 9']
)
def test_a_recipe_on_vectors(tmp_path, hidden):
    table = f'name = "features"\n{hidden}'
    path = write(tmp_path, "SSDH", ON_FEATURES, backbone=table, data='name = "digits"')
    entry = recipes.train(path, tmp_path / "zoo", cache_dir=tmp_path / "cache")
    assert zoo.verify(entry.path)
    model = zoo.load(entry.path)
    assert type(model).__name__ == "SSDH"
    if "whitened" in hidden:
        assert model.backbone.output_shape == (None, 9)


@pytest.mark.parametrize("method", ["ITQ", "SDH", "FastH"])
def test_a_recipe_of_a_shallow_method(method, tmp_path):
    file = write(
        tmp_path,
        method,
        "seed = 3\nepochs = 2",
        backbone='name = "features"',
        data='name = "digits"',
        model={"FastH": "trees = 5"}.get(method, ""),
    )
    entry = recipes.train(file, tmp_path / "zoo", cache_dir=tmp_path / "cache")
    assert zoo.verify(entry.path)
    model = zoo.load(entry.path)
    assert type(model).__name__ == method
    x, _ = kerashash.data.load("digits").arrays("query")
    # Each of the two epochs of FastH adds a bit.
    assert len(np.unique(model.encode(x), axis=0)) >= 4


def test_components_are_those_of_whitening(tmp_path):
    table = 'name = "features"\nencoding = "standardized"\ncomponents = 9'
    path = write(tmp_path, "SSDH", ON_FEATURES, backbone=table, data='name = "digits"')
    with pytest.raises(ValueError, match=r"components.*whitened.*'standardized'"):
        recipes.read(path)


def test_feature_maps_smaller_than_the_shift_are_refused(small_world):
    _, folder, _ = small_world
    path = write(folder, "AdaLabelHash", FINE_TUNED)
    path.write_text(path.read_text().replace("shift = 1", "shift = 16"))
    with pytest.raises(ValueError, match="16 x 16 after 'block2b'"):
        recipes.train(path, folder / "zoo", cache_dir=folder / "cache")
    assert not [*(folder / "cache").iterdir()]  # no features
