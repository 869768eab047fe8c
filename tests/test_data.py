import dataclasses
import hashlib
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import load_once

import kerashash
from kerashash.data import loading, protocols, sources

COUNTS = {
    ("digits", "default"): {"train": 1497, "query": 300, "database": 1497},
    ("cifar10", "full"): {"train": 50_000, "query": 10_000, "database": 50_000},
    ("cifar10", "5k-train"): {"train": 5_000, "query": 1_000, "database": 59_000},
    ("cifar10", "semi"): {
        "train": 5_000,
        "query": 1_000,
        "database": 59_000,
        "unlabelled": 54_000,
    },
    ("mirflickr25k", "38-labels"): {
        "train": 23_300,
        "query": 1_700,
        "database": 23_300,
    },
    ("mirflickr25k", "24-labels"): {
        "train": 23_300,
        "query": 1_700,
        "database": 23_300,
    },
    ("flowers17", "40-20-20"): {
        "train": 680,
        "validation": 340,
        "query": 340,
        "database": 680,
    },
}


@pytest.fixture(scope="module", params=COUNTS, ids="-".join)
def data(request):
    return load_once(*request.param)


def image_names(data, split):
    x, _ = data.arrays(split)
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in x]


def test_counts_and_disjoint_splits(data):
    expected = COUNTS[data.name, data.protocol]
    assert {split: len(rows) for split, rows in data.splits.items()} == expected
    query, database = (set(data.splits[s]) for s in ("query", "database"))
    assert not query & database
    assert set(data.splits["train"]) <= database
    names = set(image_names(data, "query"))
    assert len(names) == data.num_query
    assert not names & set(image_names(data, "database"))
    if "unlabelled" in expected:
        assert set(data.splits["unlabelled"]) == database - set(data.splits["train"])


def test_classes_are_balanced_where_drawn(data):
    if data.name == "mirflickr25k":
        pytest.skip("its queries are drawn whatever their labels")
    each = data.query_labels.sum(axis=0)
    assert (each == data.num_query // data.num_classes).all()
    if data.name != "digits":
        each = data.train_labels.sum(axis=0)
        assert (each == data.num_train // data.num_classes).all()


def test_train_rows_point_into_the_database(data):
    database = data.splits["database"]
    np.testing.assert_array_equal(database[data.train_rows], data.splits["train"])


def test_data_sets_hold_the_arrays(data):
    for split in ("query", "database"):
        x, labels = data.arrays(split)
        for batch, y in getattr(data, split).batch(64).take(2):
            rows = y["index"].numpy()
            np.testing.assert_array_equal(batch, x[rows])
            np.testing.assert_array_equal(y["label"], labels[rows])
        assert rows[-1] == 127
    x, labels = data.arrays("train")
    orders = []
    for _ in range(2):
        batch, y = next(iter(data.train.batch(64)))
        orders.append(y["index"].numpy())
        np.testing.assert_array_equal(batch, x[orders[-1]])
        np.testing.assert_array_equal(y["label"], labels[orders[-1]])
    assert not np.array_equal(*orders)
    assert int(data.train.cardinality()) == data.num_train


def test_every_training_row_once_an_epoch():
    digits = kerashash.data.load("digits")
    epochs = [[int(y["index"]) for _, y in digits.train] for _ in range(2)]
    for rows in epochs:
        assert sorted(rows) == list(range(digits.num_train))
    assert epochs[0] != epochs[1]
    again = kerashash.data.load("digits")
    assert [[int(y["index"]) for _, y in again.train] for _ in range(2)] == epochs


def test_unlabelled_images_come_without_labels(digits):
    rows = np.arange(6)
    splits = {"train": rows[:2], "database": rows[1:], "query": rows[:1]}
    data = dataclasses.replace(digits, splits={**splits, "unlabelled": rows[2:]})
    assert int(data.unlabelled.cardinality()) == 4
    elements = {int(y.pop("index")): (x.numpy(), y) for x, y in data.unlabelled}
    assert sorted(elements) == [0, 1, 2, 3]
    for index, (x, y) in elements.items():
        np.testing.assert_array_equal(x, digits.x[2 + index])
        assert y == {}
    assert data.train_rows.dtype == np.int32
    assert data.train_rows.tolist() == [-1, 0]


def test_splits_hold_no_copies(digits):
    data = dataclasses.replace(digits, x=digits.x.copy())
    train, query = data.train, data.query
    data.x[:] = 7
    for split in (train, query):
        x, _ = next(iter(split.batch(8)))
        assert (x.numpy() == 7).all()


def test_storage_order_does_not_change_a_split(rng):
    source = sources.digits()
    order = rng.permutation(len(source.x))
    shuffled = sources.Source(
        *(value[order] for value in source[:3]), (), source.names[order]
    )
    for split in (
        protocols.drawn(30),
        protocols.drawn(20, 40, unlabelled=True),
        protocols.drawn_from_all(50),
        protocols.three_parts(40, 20),
        protocols.stratified(0.1),
    ):
        manifests = []
        for s in (source, shuffled):
            _, splits = protocols.Protocol(split).apply(s, 5)
            manifests.append(loading.manifest(splits, s.names))
        assert manifests[0] == manifests[1]


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        (protocols.drawn(30), {"query": 300, "train": 1497, "database": 1497}),
        (
            protocols.drawn(20, 40, unlabelled=True),
            {"query": 200, "train": 400, "database": 1597, "unlabelled": 1197},
        ),
        (
            protocols.drawn_from_all(50),
            {"query": 50, "train": 1747, "database": 1747},
        ),
        (
            protocols.three_parts(40, 20),
            {"query": 1197, "train": 400, "database": 400, "validation": 200},
        ),
        (protocols.stratified(0.1), {"query": 179, "train": 1618, "database": 1618}),
        (protocols.official, {"query": 599, "train": 1198, "database": 1198}),
    ],
)
def test_splits_share_no_image_but_training_ones_of_the_database(split, counts):
    source = sources.digits()
    is_test = np.arange(len(source.x)) % 3 == 2
    source = source._replace(is_test=is_test)
    draws = []
    for seed in (0, 1):
        _, splits = protocols.Protocol(split).apply(source, seed)
        rows = {name: set(rows.tolist()) for name, rows in splits.items()}
        assert {name: len(of) for name, of in rows.items()} == counts
        assert {name: len(of) for name, of in splits.items()} == counts
        draws.append(rows)
        assert rows["train"] <= rows["database"]
        assert rows["query"].isdisjoint(rows["database"])
        assert rows.get("validation", set()).isdisjoint(
            rows["query"] | rows["database"]
        )
        if "unlabelled" in rows:
            assert rows["unlabelled"] == rows["database"] - rows["train"]
        union = set().union(*rows.values())
        assert len(union) == len(source.x)
        if split is protocols.official:
            assert rows["query"] == {*np.flatnonzero(is_test).tolist()}
    assert (draws[0] == draws[1]) == (split is protocols.official)


def test_equal_images_are_drawn_alike_in_any_order(rng):
    # 40 images, each there twice: once with the same label, once with another.
    x = np.repeat(rng.normal(size=(40, 3)), 2, axis=0)
    labels = np.eye(2, dtype=np.uint8)[np.arange(80) // 2 % 2]
    labels[1:40:2] = 1 - labels[1:40:2]
    drawn = []
    for order in (np.arange(80), rng.permutation(80)):
        source = sources.Source(
            x[order],
            labels[order],
            np.zeros(80, bool),
            (),
            protocols.pixel_names(x[order]),
        )
        _, splits = protocols.Protocol(protocols.drawn(7, 9)).apply(source, 0)
        assert (source.labels[splits["query"]].sum(axis=0) == 7).all()
        drawn.append({s: (source.x[r], source.labels[r]) for s, r in splits.items()})
    for split in drawn[0]:
        for first, second in zip(drawn[0][split], drawn[1][split], strict=True):
            np.testing.assert_array_equal(first, second)


def test_seeds_draw_differently(digits):
    other = kerashash.data.load("digits", seed=1)
    assert set(other.splits["query"]) != set(digits.splits["query"])
    again = kerashash.data.load("digits", seed=1)
    np.testing.assert_array_equal(again.splits["query"], other.splits["query"])


def test_validation_images_are_cut_from_the_training_images_alone(digits):
    data = kerashash.data.load("digits", validation=0.2)
    train, validation = data.splits["train"], data.splits["validation"]
    assert sorted([*train, *validation]) == sorted(digits.splits["train"])
    for split in ("query", "database"):
        np.testing.assert_array_equal(data.splits[split], digits.splits[split])
    counts = digits.train_labels.sum(axis=0)
    held_out = data.labels[validation].sum(axis=0)
    np.testing.assert_array_equal(held_out, np.round(0.2 * counts))
    x, y = next(iter(data.validation.batch(len(validation))))
    np.testing.assert_array_equal(x, data.x[validation])
    np.testing.assert_array_equal(y["label"], data.labels[validation])
    assert digits.validation is None

    view = data.for_validation()
    np.testing.assert_array_equal(view.splits["query"], validation)
    np.testing.assert_array_equal(view.splits["database"], train)
    np.testing.assert_array_equal(view.train_rows, np.arange(len(train)))
    with pytest.raises(ValueError, match="has no validation images"):
        digits.for_validation()
    # Learned codes have the rows of the images that train.
    assert (data.train_rows >= 0).all()
    assert (data.splits["database"][data.train_rows] == train).all()


def test_validation_uses_no_label_that_the_protocol_withholds(rng):
    labels = np.eye(3, dtype=np.uint8)[np.arange(90) % 3]
    x = rng.normal(size=(90, 4))
    source = sources.Source(
        x, labels, np.zeros(90, bool), ("a", "b", "c"), protocols.pixel_names(x)
    )
    split = protocols.drawn(queries=5, train=10, unlabelled=True)
    source, splits = protocols.Protocol(split).apply(source, 0)
    cut = protocols.with_validation(source, splits, 0.3, 0)
    assert {name: len(rows) for name, rows in cut.items()} == {
        "query": 15,
        "database": 75,
        "train": 21,
        "unlabelled": 45,
        "validation": 9,
    }
    others = source.labels.copy()
    others[np.setdiff1d(np.arange(90), splits["train"])] = 0
    without = protocols.with_validation(source._replace(labels=others), splits, 0.3, 0)
    for name, rows in cut.items():
        np.testing.assert_array_equal(without[name], rows)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1, r"`validation` must be in \[0, 1\)"),
        (-0.1, "`validation` must be in"),
        (float("nan"), "`validation` must be in"),
        ("0.1", "`validation` must be a number"),
        (True, "`validation` must be a number"),
        (0.001, "`validation` must leave training images and draw others"),
    ],
)
def test_wrong_shares_for_validation_are_refused(share, message):
    source = sources.Source(
        np.arange(20), np.eye(2)[np.arange(20) % 2], np.zeros(20), (), np.arange(20)
    )
    with pytest.raises((TypeError, ValueError), match=message):
        protocols.with_validation(source, {"train": np.arange(1)}, share, 0)
    with pytest.raises(ValueError, match="that has validation images"):
        protocols.with_validation(source, {"validation": np.arange(9)}, 0.1, 0)


def test_images_that_are_not_the_published_ones_are_refused(monkeypatch):
    source = sources.digits()
    source.x[0, 0] += 1
    source = source._replace(names=protocols.pixel_names(source.x))
    changed = loading._DATASETS["digits"]._replace(source=lambda data_dir: source)
    monkeypatch.setitem(loading._DATASETS, "digits", changed)
    with pytest.raises(ValueError, match="is not the published one"):
        kerashash.data.load("digits")


def test_unavailable_data_says_what_to_do(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route to host")

    # What a builder is in a folder without data, on a machine without network.
    builder = types.SimpleNamespace(
        is_prepared=lambda: False,
        url_infos=["https://example.com/data.zip"],
        data_dir=f"{tmp_path}/cifar10/3.0.2",
        data_dir_root=str(tmp_path),
        MANUAL_DOWNLOAD_INSTRUCTIONS=None,
        download_and_prepare=pytest.fail,
    )
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
    monkeypatch.setattr(requests, "head", fail)
    message = rf"(?s)not prepared in {tmp_path}/cifar10.*no route to host.*`data_dir`"
    with pytest.raises(kerashash.data.DatasetUnavailableError, match=message):
        kerashash.data.load("cifar10", data_dir=tmp_path)


@pytest.fixture
def small_cifar10(tmp_path, rng):
    """A folder with 30 images in the place and form of CIFAR-10, and the images."""
    pytest.importorskip("importlib_resources", reason="tensorflow_datasets needs it")
    x = rng.integers(0, 256, (30, 32, 32, 3), np.uint8)
    y = np.arange(30) % 10
    x[25] = x[15]  # the same image, once a training and once a test image
    images = {"id": np.array([f"image_{i:02}" for i in range(30)])}
    images |= {"image": x, "label": y}
    rows = {"train": slice(0, 20), "test": slice(20, 30)}
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version=str(tfds.builder("cifar10", data_dir=tmp_path).version),
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices(
                {key: value[r] for key, value in images.items()}
            )
            for split, r in rows.items()
        },
    )
    return tmp_path, x, y


def test_cifar10_is_read_as_stored(small_cifar10, monkeypatch):
    folder, x, y = small_cifar10
    monkeypatch.setenv("HOME", str(folder.parent))
    source = sources.cifar10(f"~/{folder.name}")
    expected = {
        (row.tobytes(), c, i >= 20) for i, (row, c) in enumerate(zip(x, y, strict=True))
    }
    actual = zip(source.x, source.labels.argmax(axis=1), source.is_test, strict=True)
    assert {(row.tobytes(), c, test) for row, c, test in actual} == expected
    assert (source.labels.sum(axis=1) == 1).all()


def test_official_splits_are_those_of_the_publisher(small_cifar10):
    folder, x, _ = small_cifar10
    data = kerashash.data.load("cifar10", "full", seed=1, data_dir=folder)
    for split, rows in {"database": x[:20], "train": x[:20], "query": x[20:]}.items():
        expected = sorted(hashlib.sha256(row.tobytes()).hexdigest() for row in rows)
        assert image_names(data, split) == expected
    with pytest.raises(ValueError, match="copy of cifar10 is not the published one"):
        kerashash.data.load("cifar10", "full", seed=0, data_dir=folder)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("cifar-10",), ValueError, "`name` must be one of.*Did you mean .'cifar10'"),
        (("digits", "full"), ValueError, r"`protocol` must be one of \['default'\]"),
        (("cifar10", "5k"), ValueError, "`protocol` must be one of.*'5k'"),
        (("digits", None, 1.5), TypeError, "`seed` must be an integer"),
        (("digits", None, "0"), TypeError, "`seed` must be an integer"),
        (("digits", None, True), TypeError, "`seed` must be an integer"),
        (("digits", None, -1), ValueError, "`seed` must be at least 0"),
        (("digits", None, 2**32), ValueError, "`seed` must be at most"),
        (("digits", ""), ValueError, "`protocol` must be one of"),
        ((["digits"],), ValueError, r"`name` must be one of.*: \['digits'\]\.$"),
        (("cifar10", None, 0, 5), TypeError, "`data_dir` must be a path"),
        (
            ("cifar10", None, 0, None, 64),
            ValueError,
            "are for photographs, not for cif",
        ),
        (
            ("cifar10", None, 0, None, None, False, 0.0, "crop"),
            ValueError,
            "are for photographs, not for cifar10. Received: {'fit': 'crop'}",
        ),
        (
            ("flowers17", None, 0, None, 0),
            ValueError,
            "`image_size` must be at least 1",
        ),
        (("flowers17", None, 0, None, 10**30), ValueError, "`image_size` must be at m"),
        (
            ("flowers17", None, 0, None, None, "false"),
            TypeError,
            "`allow_missing` must be True or False",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        kerashash.data.load(*arguments)


def test_unknown_split_is_named(digits):
    with pytest.raises(ValueError, match=r"`split` must be one of.*'gallery'"):
        digits.arrays("gallery")
    assert digits.unlabelled is None


def test_list_names_data_sets_and_protocols():
    datasets = kerashash.data.list()
    for name, protocol in COUNTS:
        assert protocol in datasets[name]
    assert datasets["nus_wide"][0] == "21-full"


@pytest.mark.parametrize("as_dict", [False, True])
def test_indexed_numbers_the_rows(as_dict):
    labels = np.eye(4)
    y = {"label": labels} if as_dict else labels
    pairs = tf.data.Dataset.from_tensor_slices((np.arange(4.0)[:, None], y))
    for number, (x, y) in enumerate(kerashash.data.indexed(pairs, start=10)):
        assert x.numpy() == [number]
        assert (y["index"].dtype, int(y["index"])) == (tf.int32, number + 10)
        assert y["label"].dtype == tf.float32
        np.testing.assert_array_equal(y["label"], labels[number])


def test_indexed_takes_images_without_labels():
    images = tf.data.Dataset.from_tensor_slices(np.zeros((3, 2)))
    assert [int(y["index"]) for _, y in kerashash.data.indexed(images)] == [0, 1, 2]
    _, y = kerashash.data.indexed(images).element_spec
    assert set(y) == {"index"}


def test_indexed_keeps_other_items():
    y = {"label": [0, 1], "weight": [2.0, 3.0]}
    pairs = tf.data.Dataset.from_tensor_slices((np.zeros((2, 3)), y))
    rows = [y for _, y in kerashash.data.indexed(pairs, 2**31 - 2).as_numpy_iterator()]
    assert [row["index"] for row in rows] == [2**31 - 2, 2**31 - 1]
    assert [row["weight"] for row in rows] == [2.0, 3.0]


def test_indexed_names_bad_input():
    with pytest.raises(TypeError, match=r"`dataset` must be a tf\.data\.Dataset"):
        kerashash.data.indexed([1, 2])
    x = np.zeros((4, 2))
    pairs, classes = map(tf.data.Dataset.from_tensor_slices, [(x, x), (x, x[:, 0])])
    wrong = [(x, np.arange(4.0)), (x, {"class": x}), (x, x, x), (x, x.astype(str))]
    wrong = [tf.data.Dataset.from_tensor_slices(elements) for elements in wrong]
    for dataset in (*wrong, pairs.batch(2), classes.batch(2)):
        with pytest.raises(ValueError, match="`dataset` must have elements"):
            kerashash.data.indexed(dataset)
    with pytest.raises(TypeError, match="`start` must be an integer"):
        kerashash.data.indexed(pairs, start=0.5)
    with pytest.raises(ValueError, match="`start` must be at least 0"):
        kerashash.data.indexed(pairs, start=-1)
    for dataset in (pairs, pairs.map(lambda x, y: x)):
        with pytest.raises(ValueError, match=r"`start` must leave .*, 4 elements"):
            kerashash.data.indexed(dataset, start=2**31 - 3)
    with pytest.raises(ValueError, match=r"`dataset` must .* not numbered yet"):
        kerashash.data.indexed(kerashash.data.indexed(pairs))


def test_manifests_are_small():
    folder = pathlib.Path(kerashash.data.__file__).parent / "manifests"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10_000


def test_a_data_set_says_what_it_is(digits):
    lines = repr(digits).splitlines()
    assert lines[0].startswith("RetrievalData(name='digits', protocol='default'")
    assert "'database': 1497, 'query': 300, 'train': 1497" in lines[1]
    assert "float32 (1797, 64), num_classes=10)" in lines[2]


def test_evaluate_names_what_is_no_data_set(digits):
    with pytest.raises(TypeError, match=r"`data` must be.*ndarray.*model\.evaluate"):
        kerashash.evaluate(None, digits.x)


def test_an_example_without_arguments_says_what_it_takes(tmp_path):
    example = pathlib.Path(__file__).parents[1] / "examples" / "own_images.py"
    # The imports take seconds, and are not what is asked.
    code = (
        "import runpy, sys; sys.modules['kerashash'] = sys.modules['keras'] = sys;"
        f"sys.argv = ['own_images.py']; runpy.run_path({str(example)!r})"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage: own_images.py" in done.stderr


def by_hand(**changes):
    """A data set of 5 images as a user makes it, with changes."""
    rows = np.arange(5, dtype=np.int32)
    parts = {
        "name": "mine",
        "protocol": "none",
        "seed": 0,
        "class_names": ["a", "b"],
        "splits": {"train": rows[1:], "query": [0], "database": range(1, 5)},
        "x": np.ones((5, 3), np.float32),
        "labels": np.eye(2)[rows % 2],
    }
    splits = changes.pop("of_splits", {})
    return kerashash.data.RetrievalData(
        **{**parts, "splits": {**parts["splits"], **splits}, **changes}
    )


def test_a_data_set_made_by_hand():
    data = by_hand(of_splits={"unlabelled": [], "validation": np.array([4], np.uint64)})
    assert data.class_names == ("a", "b")
    assert data.labels.dtype == np.uint8
    assert data.train_rows.tolist() == [0, 1, 2, 3]
    assert [len([*data.query]), len([*data.unlabelled]), len([*data.train])] == [
        1,
        0,
        4,
    ]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"of_splits": {"query": np.arange(5) < 2}}, "splits"),
        ({"of_splits": {"query": [-1]}}, "splits"),
        ({"of_splits": {"query": [5]}}, "splits"),
        ({"of_splits": {"query": [0.0]}}, "splits"),
        ({"of_splits": {"query": [[0]]}}, "splits"),
        ({"of_splits": {"query": np.ma.masked_array([0, 1], [0, 1])}}, "splits"),
        ({"splits": {"train": [0], "database": [1]}}, "splits"),
        ({"splits": [0, 1]}, "splits"),
        ({"labels": np.arange(5) % 2}, "labels"),
        ({"labels": np.full((5, 2), 2)}, "labels"),
        ({"labels": np.full((5, 2), "a")}, "labels"),
        ({"labels": np.eye(2)}, "splits"),  # too short
        ({"x": np.ma.masked_array(np.ones((5, 3)), np.eye(5, 3))}, "x"),
        ({"x": ["0.png"] * 5}, "x"),
        ({"seed": "a"}, "seed"),
        ({"class_names": ("a", "b", "c")}, "class_names"),
        ({"class_names": "ab"}, "class_names"),
        ({"class_names": (0, 1)}, "class_names"),
        ({"names": ["0.png"]}, "names"),
        ({"image_fit": "foo"}, "image_fit"),
        ({"image_fit": True}, "image_fit"),
        ({"x": np.ones((5, 3), complex)}, "x"),
    ],
)
def test_wrong_data_sets_made_by_hand_are_refused(changes, name):
    with pytest.raises((TypeError, ValueError), match=f"^`{name}` must"):
        by_hand(**changes)


def test_a_data_set_without_training_images_does_not_train():
    with pytest.raises(ValueError, match="`x` must have a row for each of the 5"):
        by_hand(x=np.ones((4, 3)))
    data = by_hand(of_splits={"train": []})
    with pytest.raises(ValueError, match="`splits` must have training images"):
        data.train  # noqa: B018
