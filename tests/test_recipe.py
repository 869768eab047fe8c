"""A recipe, end to end, on a small data set with an untrained backbone."""

import numpy as np
import pytest
import tensorflow as tf

import kerashash
from kerashash import recipe, zoo
from kerashash.data import RetrievalData
from kerashash.data.augmentation import random_shift

TEXT = """
[entry]
name = "{name}"
method = "{method}"
trained_on = "random images"
licence = "Apache-2.0"

[[entry.metrics]]
name = "mAP@ALL"
denominator = "relevant"
ties = "expected"
empty = "zero"
database = "{database}"

[data]
name = "cifar10"
protocol = "full"

[backbone]
name = "efficientnet-lite0"
image_size = 64
weights = "{weights}"

[model]
bits = 12
{options}

[training]
seed = 3
fine_tune_after = "block6d"
batch_size = 8
weight_decay = 1e-4

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
batch_size = 16
learning_rate = 1e-3
"""


@pytest.fixture
def small_world(tmp_path, rng, monkeypatch):
    """Images of two colours in place of CIFAR-10, and a backbone's weights."""
    labels = np.eye(2, dtype=np.uint8)[np.arange(60) % 2]
    x = rng.integers(0, 120, (60, 16, 16, 3)) + 120 * labels[:, None, None, [0, 1, 1]]
    rows = np.arange(60)
    data = RetrievalData(
        name="colours",
        protocol="full",
        seed=0,
        class_names=("red", "blue"),
        splits={"train": rows[:40], "database": rows[:40], "query": rows[40:]},
        x=x.astype(np.uint8),
        labels=labels,
    )
    monkeypatch.setattr(kerashash.data, "load", lambda *_, **__: data)
    backbone = kerashash.backbones.get(
        "efficientnet-lite0", image_size=64, weights=None
    )
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    return data, tmp_path


@pytest.mark.parametrize(
    ("method", "database", "options"),
    [
        ("AdaLabelHash", "encoded", "margin = 3.0"),
        ("DCDH", "learned", "label_units = [16]\nfusion_units = [16]"),
    ],
)
def test_recipe_makes_an_entry_that_loads_and_verifies(
    small_world, method, database, options
):
    data, folder = small_world
    path = folder / "recipe.toml"
    path.write_text(
        TEXT.format(
            name="small",
            method=method,
            database=database,
            options=options,
            weights=folder / "backbone.weights.h5",
        )
    )
    entry = recipe.train(path, folder / "zoo", cache_dir=folder / "cache")
    assert entry.card["seed"] == 3
    assert entry.card["counts"] == {"train": 40, "query": 20, "database": 40}
    assert zoo.verify(entry.path)[0]["value"] == entry.card["metrics"][0]["value"]

    model = zoo.load(entry.path)
    with np.load(entry.path / "codes.npz") as codes:
        np.testing.assert_array_equal(model.encode(data.query), codes["query_codes"])
        np.testing.assert_array_equal(
            model.encode(data.database), codes["database_codes"]
        )

    # The features of the frozen layers are found again, and fine-tuning changed
    # what lies above the cut, and only that.
    (cached,) = (folder / "cache").glob("*.npy")
    before = cached.stat().st_mtime_ns
    start = kerashash.backbones.get(
        "efficientnet-lite0",
        image_size=64,
        weights=str(folder / "backbone.weights.h5"),
    )
    lower, _ = kerashash.backbones.split(start, "block6d")
    recipe.mirrored_features(lower, data.arrays("train")[0], folder / "cache")
    assert cached.stat().st_mtime_ns == before
    assert [*(folder / "cache").iterdir()] == [cached]
    for name, same in (("block5a_project_conv", True), ("head_conv", False)):
        old = start.get_layer(name).kernel.numpy().astype(np.float16)
        new = model.backbone.get_layer(name).kernel.numpy().astype(np.float16)
        assert np.array_equal(old, new) == same


def test_entries_on_frozen_features_share_a_backbone(small_world):
    data, folder = small_world
    text = TEXT.format(
        name="first",
        method="DCDH",
        database="learned",
        options="label_units = [16]\nfusion_units = [16]",
        weights=folder / "backbone.weights.h5",
    )
    start, _ = text.split("[training]")
    start = start.replace("image_size = 64", "image_size = 64\nhidden_units = 8")
    training = "[training]\nseed = 3\nepochs = 2\nbatch_size = 16\nlearning_rate = 1e-3"
    path = folder / "recipe.toml"
    path.write_text(start + training)
    cache = folder / "cache"
    first = recipe.train(path, folder / "zoo", seeds=2, cache_dir=cache)
    (metric,) = first.card["metrics"]
    assert len(metric["by_seed"]) == 2
    assert metric["by_seed"][0] == metric["value"]
    model = zoo.load(first.path)
    with np.load(first.path / "codes.npz") as codes:
        np.testing.assert_array_equal(model.encode(data.query), codes["query_codes"])

    # Another entry on the same network, of which it says only whose it is.
    entry, rest = start.replace('"first"', '"second"').split("[backbone]")
    _, options = rest.split("[model]")
    path.write_text(
        f"{entry}[backbone]\nof = '{first.path}'\n[model]{options}{training}"
    )
    second = recipe.train(path, folder / "zoo", cache_dir=cache)
    assert second.card["shared"]["sha256"] == first.card["shared"]["sha256"]
    assert len([*(folder / "zoo" / "shared").iterdir()]) == 1
    assert zoo.verify(second.path)
    with pytest.raises(ValueError, match="`seeds` must be at least 1"):
        recipe.train(path, folder / "zoo", seeds=0)


def test_random_shift_moves_whole_images():
    x = tf.reshape(tf.range(2 * 4 * 4, dtype=tf.float32), (2, 4, 4, 1))
    np.testing.assert_array_equal(random_shift(x, 0), x)
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT").numpy()
    windows = [padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    for row, moved in enumerate(random_shift(x, 1).numpy()):
        assert any(np.array_equal(moved, window[row]) for window in windows)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[entry]\n", "lacks"), ("[entry", "recipe"), (None, "recipe")],
)
def test_wrong_recipe_is_refused(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        recipe.read(path)


def test_feature_maps_too_small_to_be_moved_are_refused(small_world):
    _, folder = small_world
    text = TEXT.format(
        name="small",
        method="AdaLabelHash",
        database="encoded",
        weights=folder / "backbone.weights.h5",
        options="",
    )
    path = folder / "recipe.toml"
    path.write_text(text.replace("image_size = 64", "image_size = 32"))
    with pytest.raises(ValueError, match="block6d', which leaves 1 x 1"):
        recipe.train(path, folder / "zoo", cache_dir=folder / "cache")
    assert not (folder / "cache").exists()
