"""CodeStore on both engines: what is written is read, whole and in order."""

import _thread
import concurrent.futures
import copy
import errno
import importlib.util
import itertools
import multiprocessing
import os
import pathlib
import pickle
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time

import keras
import numpy as np
import pytest
import scipy.sparse.csgraph

import kerashash
from kerashash import CodeStore
from kerashash.retrieval.distinct import _MULTIPLIER
from kerashash.store import Version, code_store, duplicates
from kerashash.store.rows import conditions_until

HAS_LANCE = importlib.util.find_spec("lancedb") is not None
ENGINES = [
    "folder",
    pytest.param(
        "lance",
        marks=pytest.mark.skipif(not HAS_LANCE, reason="lancedb is not installed"),
    ),
]
BITS = 20


def random_codes(n, seed=0):
    random = np.random.default_rng(seed)
    # Few distinct codes, so that there are ties.
    distinct = random.choice([-1, 1], (max(n // 3, 1), BITS)).astype(np.int8)
    return kerashash.codes.pack(distinct[random.integers(0, len(distinct), n)])


@pytest.fixture(params=ENGINES)
def store(request, tmp_path):
    return CodeStore.create(tmp_path / "codes.khs", bits=BITS, engine=request.param)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    return kerashash.AdaLabelHash(net, bits=BITS, num_classes=3)


def reopened(store, **options):
    return CodeStore.open(store.path, **options)


def test_rows_come_back_with_keys_and_metadata(store):
    codes = random_codes(6)
    columns = {
        "name": ["a", "b", "c", "d", "e", "ü'\""],
        "size": np.arange(6, dtype=np.uint8),
        "score": np.linspace(0, 1, 6),
        "seen": np.arange(6) % 2 == 0,
        "labels": np.eye(6, 3, dtype=np.float32),
        "raw": [bytes([i]) for i in range(6)],
    }
    store.add(codes[:4], columns={name: value[:4] for name, value in columns.items()})
    store.add(codes[4:], columns={name: value[4:] for name, value in columns.items()})
    for each in (store, reopened(store)):
        np.testing.assert_array_equal(each.codes(), codes)
        read = each.columns()
        assert read.pop("id").tolist() == [*range(6)]
        assert [*read] == [*columns]
        for name, value in columns.items():
            assert read[name].tolist() == np.asarray(value, read[name].dtype).tolist()
    assert (len(store), store.bits) == (6, BITS)


def test_a_column_that_comes_later_is_missing_in_earlier_rows(store):
    store.add(random_codes(2))
    store.add(random_codes(1), columns={"name": ["x"], "row_of": np.ones((1, 2))})
    columns = store.columns()
    assert columns["name"].tolist() == [None, None, "x"]
    assert columns["row_of"].tolist() == [[0, 0], [0, 0], [1, 1]]
    store.add(random_codes(2), columns={"seen": [True, False]})
    store.search(random_codes(1), k=5)
    assert str(store.columns()["seen"].tolist()) == "[None, None, None, True, False]"
    assert store.columns("id > 2")["seen"].tolist() == [True, False]
    old = reopened(store, version=store.versions()[1].version)
    assert "seen" not in old.columns()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1", "?"])
def test_long_rows_of_numbers_may_be_missing(store, dtype):
    """LanceDB takes them for vectors, of which it wants each."""
    labels = {"vector": np.ones((1, 2), dtype), "label": np.eye(1, 12, dtype=dtype)}
    store.add(random_codes(1), ids=["a"], columns=labels)
    store.add(random_codes(1), ids=["b"])
    store.upsert(random_codes(1), ids=["a"], keep=True)
    store.upsert(random_codes(1), ids=["c"], keep=True)
    read = store.columns()
    assert read["id"].tolist() == ["b", "a", "c"]
    for name, rows in labels.items():
        assert read[name].dtype == rows.dtype
        nothing = np.zeros_like(rows[0])
        np.testing.assert_array_equal(read[name], [nothing, rows[0], nothing])


def test_columns_are_read_by_name(store):
    assert store.columns(names=["id"])["id"].tolist() == []
    store.add(random_codes(3), columns={"n": [1, 2, 3], "name": ["a", "b", "c"]})
    before = store.versions()[-1].version
    store.add(random_codes(1), columns={"late": [7]})
    read = store.columns("n > 1", names=("name", "id", "name"))
    assert [*read] == ["name", "id"]
    assert read["name"].tolist() == ["b", "c"]
    assert read["id"].tolist() == [1, 2]
    assert [*store.columns("1 = 0", names=["n"])] == ["n"]
    assert store.columns(names=[]) == {}
    old = reopened(store, version=before)
    for each, name in ((store, "no_such"), (store, "N"), (store, "row"), (old, "late")):
        with pytest.raises(ValueError, match=rf"`names` must.*'id', 'n'.*'{name}'"):
            each.columns(names=["id", name])
    for names in ("id", {"id"}, 5):
        with pytest.raises(TypeError, match="`names` must be a list of names"):
            store.columns(names=names)


def test_numbers_come_back_as_they_were(store):
    columns = {
        "score": [1.5, float("nan"), -np.inf],
        "long": np.array([1, 2, 3], np.longdouble) / 4,
        "big": np.array([1, 2, 3], ">i4"),
    }
    store.add(random_codes(3), columns=columns)
    store.add(random_codes(1))
    read = reopened(store).columns()
    for name in ("score", "long"):
        expected = [*np.asarray(columns[name], np.float64), np.nan]
        assert read[name].dtype == np.float64
        np.testing.assert_array_equal(read[name], expected)
    assert read["big"].tolist() == [1, 2, 3, None]
    # No condition is true of what is not there.
    assert store.columns("score > 0 OR score <= 0")["id"].tolist() == [0, 2]
    assert store.columns("score IS NULL")["id"].tolist() == [1, 3]
    found = store.search(store.codes()[:1], k=1, where="id = 0")
    (first,) = found.rows()
    assert type(first["id"]) is int
    with pytest.raises(ValueError, match="`query` must be at most 0"):
        found.rows(3)


def test_search_is_that_of_the_ranker(store):
    codes, queries = random_codes(50), random_codes(4, seed=1)
    store.add(codes[:20])
    store.add(codes[20:])
    distances, indices = kerashash.HammingRanker(codes, BITS).top_k(queries, 7)
    found = reopened(store).search(queries, k=7)
    np.testing.assert_array_equal(found.distances, distances)
    np.testing.assert_array_equal(found.ids.astype(int), indices)
    # The ranker that is kept follows additions.
    assert store.search(queries, k=1000).distances.shape == (4, 50)
    store.add(codes[:1])
    assert store.search(queries, k=1000).distances.shape == (4, 51)
    assert len(store.ranker()) == 51


def test_conditions_restrict_search_within_and_what_is_read(store):
    codes, label = random_codes(30), np.arange(30) % 3
    store.add(codes, columns={"label": label})
    chosen = np.flatnonzero(label == 1)
    distances, indices = kerashash.HammingRanker(codes[chosen], BITS).top_k(codes, 4)
    found = store.search(codes, k=4, where="label = 1")
    np.testing.assert_array_equal(found.distances, distances)
    np.testing.assert_array_equal(found.ids.astype(int), chosen[indices])
    np.testing.assert_array_equal(store.codes("label = 1"), codes[chosen])
    within = store.within(codes[:3], radius=6, where="label = 1")
    for query, (ids, near) in enumerate(zip(within.ids, within.distances, strict=True)):
        all_near = kerashash.HammingRanker(codes, BITS).distances(codes[[query]])[0]
        expected = [i for i in np.argsort(all_near, kind="stable") if label[i] == 1]
        expected = [i for i in expected if all_near[i] <= 6]
        assert ids.tolist() == expected
        assert near.tolist() == all_near[expected].tolist()
        assert within.columns["label"][query].tolist() == [1] * len(expected)


def test_metadata_of_no_rows_have_the_types_of_the_others(store):
    columns = {
        "name": ["a"],
        "raw": [b"a"],
        "n": [1],
        "score": [0.5],
        "seen": [True],
        "label": np.ones((1, 3), np.float32),
        "flags": np.ones((1, 2), bool),
    }
    store.add(random_codes(1), columns=columns)
    some, none = store.columns(), store.columns("id = 99")
    assert [*some] == [*none] == ["id", *columns]
    for name, values in none.items():
        assert values.shape == (0, *some[name].shape[1:])
        if name != "id":
            assert values.dtype == some[name].dtype
    found = store.search(random_codes(2), where="id = 99").columns
    assert found["label"].shape == (2, 0, 3)


def test_an_empty_store_and_an_empty_selection_have_no_neighbours(store):
    queries = random_codes(2)
    assert store.search(queries).ids.shape == (2, 0)
    assert [len(ids) for ids in store.within(queries, 3).ids] == [0, 0]
    with pytest.raises(ValueError, match="It is empty"):
        store.ranker()
    store.add(queries)
    assert store.search(queries, where="id = 99").ids.shape == (2, 0)


def test_upsert_replaces_and_delete_removes(store):
    codes = random_codes(5)
    store.add(codes[:3], ids=["a", "b", "c"], columns={"n": [0, 1, 2]})
    store.upsert(codes[3:], ids=["b", "d"], columns={"n": [10, 11]})
    assert store.columns()["id"].tolist() == ["a", "c", "b", "d"]
    assert store.columns()["n"].tolist() == [0, 2, 10, 11]
    np.testing.assert_array_equal(store.codes(), codes[[0, 2, 3, 4]])
    assert store.delete("n >= 10 OR id = 'a'") == 3
    assert store.delete("id = 'a'") == 0
    assert reopened(store).columns()["id"].tolist() == ["c"]
    assert store.search(codes[2:3], k=5).ids.tolist() == [["c"]]


def test_upsert_may_keep_metadata_that_are_not_given(store):
    columns = {
        "n": [0, 1, 2],
        "name": ["a", "b", "c"],
        "label": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    store.add(random_codes(3), ids=["a", "b", "c"], columns=columns)
    store.delete("id = 'a'")
    store.upsert(
        random_codes(3), ids=["c", "a", "d"], columns={"n": [7, 8, 9]}, keep=True
    )
    read = store.columns()
    assert read["id"].tolist() == ["b", "c", "a", "d"]
    assert read["n"].tolist() == [1, 7, 8, 9]
    assert read["name"].tolist() == ["b", "c", None, None]
    assert read["label"].tolist() == [[2, 3], [4, 5], [0, 0], [0, 0]]
    store.upsert(random_codes(1), ids=["b"], keep=True)
    store.upsert(random_codes(1), ids=["c"])
    read = store.columns()
    assert read["n"].tolist() == [8, 9, 1, None]
    assert read["name"].tolist() == [None, None, "b", None]
    store.check()
    with pytest.raises(TypeError, match="`keep` must be True or False"):
        store.upsert(random_codes(1), ids=["b"], keep="no")


def test_numbered_rows_go_on_after_removal_and_compaction(store):
    store.add(random_codes(4))
    store.delete("id < 2")
    store.compact()
    store.add(random_codes(2))
    assert store.columns()["id"].tolist() == [2, 3, 4, 5]


def test_an_older_version_is_read_as_it_was_until_compaction(store):
    codes = random_codes(6)
    store.add(codes[:4])
    version = store.versions()[-1].version
    store.add(codes[4:])
    store.delete("id = 0")
    old = reopened(store, version=version)
    np.testing.assert_array_equal(old.codes(), codes[:4])
    assert len(old) == 4
    assert old.columns("id < 2")["id"].tolist() == [0, 1]
    assert old.search(codes[5:], k=9).ids.shape == (1, 4)
    with pytest.raises(ValueError, match="read-only"):
        old.add(codes)
    assert [v.rows for v in store.versions() if v.version == version] == [4]
    assert store.versions()[-1].rows == 5
    assert all(isinstance(v, Version) for v in store.versions())
    store.check()
    store.compact()
    np.testing.assert_array_equal(store.codes(), codes[1:])
    store.check()
    for unknown in (999, 2**63 - 1):
        with pytest.raises(ValueError, match="`version` must be one of"):
            reopened(store, version=unknown)
    with pytest.raises(ValueError, match="`version` must be at most"):
        reopened(store, version=2**70)
    newest = store.versions()[-1].version
    assert len(reopened(store, version=np.int64(newest))) == 5


def test_a_version_that_is_compacted_later_says_so(tmp_path):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    store.add(random_codes(3))
    old = reopened(store, version=1)
    store.compact()
    for use in (lambda: len(old), old.codes, lambda: old.search(random_codes(1))):
        with pytest.raises(
            ValueError, match="`version` 1 has been dropped by `compact"
        ):
            use()
    assert repr(old).endswith("codes.khs', unreadable)")


def test_images_vectors_and_data_sets_are_encoded(tmp_path, model):
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    expected = model.encode(x)
    store = CodeStore.create(tmp_path / "x.khs", model=model)
    store.add(x[:4])
    rows = tf.data.Dataset.from_tensor_slices((x[4:], {"label": np.arange(6)}))
    store.add(rows.batch(4))
    np.testing.assert_array_equal(store.codes(), expected)
    assert store.columns()["label"].tolist() == [None] * 4 + [*range(6)]
    assert store.search(x[:1], k=1).rows(0) == [{"id": 0, "distance": 0, "label": None}]
    with pytest.raises(ValueError, match=r"3 keys for 2 rows, which were added"):
        store.upsert(rows.take(2).batch(4), ids=[20, 21, 22])
    store = CodeStore.create(tmp_path / "y.khs", model=model)
    store.add(tf.data.Dataset.from_tensor_slices((x, np.arange(10))).batch(3))
    assert store.columns()["label"].tolist() == [*range(10)]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        # Labels were shifted to other rows, or dropped.
        (
            [(3, [0, 1]), (2, [2, 3, 4])],
            "a y for each row. Received: 3 rows in batch 0",
        ),
        ([(2, {"a": [1, 2]}), (1, {"b": [1]})], "the same y.*'b'. in batch 1, .'a'"),
        ([(2, {"a": [1, 2], "b": [1, 2]}), (1, {"a": [1]})], "the same y"),
        ([(2, None), (1, [1])], "the same y"),
        ([(2, [1, 2], [1, 1])], r"batches x or \(x, y\).*tuple of 3: \(ndarray, list"),
        ([(2,)], r"batches x or \(x, y\)"),
        ([(2, ([1, 2], [1, 2]))], r"batches x or \(x, y\)"),
        ([[2, [1, 2]]], "be one array"),
        ([(2, 5)], "a y for each row"),
        ([(2, np.array(5))], "a y for each row"),
        ([(2, {1, 2})], "a y for each row"),
        ([(2, np.ones((2, 2))), (1, np.ones((1, 3)))], "rows of one length"),
        ([(2, [[1], [1, 2]])], "rows of one length"),
        ([(2, [1, 2]), (1, ["a"])], "hold str, bytes, numbers"),
        ([None], r"batches x or \(x, y\)"),
    ],
)
def test_wrong_batches_are_named_and_add_nothing(tmp_path, batches, message):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)

    def given():
        for batch in batches:
            if batch is None:
                yield None
            else:
                yield type(batch)([random_codes(batch[0]), *batch[1:]])

    with pytest.raises(
        (TypeError, ValueError), match=f"`(x|columns.*)` must.*{message}"
    ):
        store.add(given())
    assert len(store) == 0


def test_batches_without_rows_add_nothing(store):
    before = len(store.versions())
    nothing = random_codes(1)[:0]
    for x in ([], nothing, iter([]), iter([nothing, nothing]), iter([(nothing, [])])):
        store.add(x)
        store.upsert(x, ids=[])
    assert (len(store), len(store.versions())) == (0, before)
    codes = random_codes(5)
    labels = np.arange(10).reshape(5, 2)
    # What an empty batch says of its labels is of no row.
    ends = ((0, 0), (0, 3), (3, 3), (3, 5), (5, 5))
    batches = [(codes[i:j], labels[i:j] if i < j else []) for i, j in ends]
    store.add(iter(batches))
    np.testing.assert_array_equal(store.codes(), codes)
    np.testing.assert_array_equal(store.columns()["label"], labels)


def test_batches_are_committed_when_they_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(code_store, "_COMMIT_ROWS", 4)
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    store.add(iter([random_codes(rows) for rows in (1, 2, 0, 1, 3, 0, 5, 1)]))
    assert [version.rows for version in store.versions()] == [0, 4, 12, 13]


@pytest.mark.parametrize(
    "x", [None, 5, {"a": 1}, {1, 2}, b"ab", np.array(5), pathlib.Path("a.jpg"), "a.jpg"]
)
def test_what_cannot_be_added_is_named(tmp_path, model, x):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    calls = [store.add, lambda x: store.upsert(x, ids=[1]), store.search, model.index]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match="`x` must "):
            call(x)
    assert len(store) == 0


def test_batches_of_keras_and_text_of_tensorflow_are_added(tmp_path, model):
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

    class Numbered(keras.utils.PyDataset):
        num_batches = 2

        def __len__(self):
            return self.num_batches

        def __getitem__(self, number):
            rows = slice(3 * number, 3 * number + 3)
            return x[rows], {"label": np.arange(5)[rows]}

    store = model.index(Numbered())
    np.testing.assert_array_equal(store.codes(), model.encode(x))
    assert store.columns()["label"].tolist() == [*range(5)]
    endless = Numbered()
    endless.num_batches = None
    with pytest.raises(ValueError, match="`x` must be finite"):
        store.add(endless)
    store = CodeStore.create(tmp_path / "text.khs", model=model)
    y = {"label": ["cat", "dog", "ü", "cat", "dog"], "raw": [b"\xff\0"] * 5}
    store.add(tf.data.Dataset.from_tensor_slices((x, y)).batch(3))
    assert store.columns("label = 'cat'")["id"].tolist() == [0, 3]
    assert store.columns()["raw"].tolist() == y["raw"]
    # Bytes of NumPy and Python are what they are; as NumPy's, they would lose zeros.
    store.add(iter([(x[:1], {"bytes": [b"a\0"]}), (x[1:2], {"bytes": [b"b"]})]))
    assert store.columns("bytes IS NOT NULL")["bytes"].tolist() == [b"a\0", b"b"]


def test_paths_are_keys(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        keras.utils.save_img(path, image)
    net = kerashash.backbones.get("efficientnet-lite0", image_size=32, weights=None)
    hasher = kerashash.AdaLabelHash(net, bits=BITS, num_classes=3)
    store = CodeStore.create(tmp_path / "lite.khs", model=hasher)
    store.add(paths)
    assert store.columns()["id"].tolist() == [str(path) for path in paths]
    store.upsert(paths[:1])
    assert len(store) == 3
    assert store.search(paths[:1], k=1).ids.tolist() == [[str(paths[0])]]
    monkeypatch.setenv("HOME", str(tmp_path))
    store.upsert(["~/0.png"])  # the same image
    assert len(store) == 3
    assert store.search("~/0.png", k=1).ids.tolist() == [[str(paths[0])]]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_store_will_not_take_is_named_before_it_is_encoded(
    engine, tmp_path, model, monkeypatch
):
    store = CodeStore.create(tmp_path / "a.khs", model, engine=engine)
    store.add(random_codes(1), ids=["a"], columns={"n": [1]})
    old = CodeStore.open(store.path, model, version=store.versions()[0].version)
    monkeypatch.setattr(type(model), "encode", lambda *_, **__: pytest.fail("encoded"))
    x = np.zeros((2, 4), np.float32)
    for each, arguments, message in [
        (store, {}, "`ids` must "),
        (store, {"ids": [1, 2]}, "`ids` must "),
        (store, {"ids": ["b", "c"], "columns": {"n": ["x", "y"]}}, r"`columns\['n'"),
        (store, {"ids": ["b", "c"], "columns": {"N": [1, 2]}}, "`columns` must have"),
        (old, {"ids": ["b", "c"]}, "read-only"),
    ]:
        with pytest.raises(ValueError, match=message):
            each.add(x, **arguments)
    with pytest.raises(ValueError, match="`ids` must "):
        store.add(iter([x]))
    assert len(store) == 1


def test_codes_of_another_model_are_refused(tmp_path, model):
    other = kerashash.AdaLabelHash(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]),
        bits=BITS,
        num_classes=3,
        name="other",
    )
    CodeStore.create(tmp_path / "a.khs", model=model)
    assert CodeStore.open(tmp_path / "a.khs", model=model).model is model
    with pytest.raises(ValueError, match=r"made the codes.*'other', of another weigh"):
        CodeStore.open(tmp_path / "a.khs", model=other)
    with pytest.raises(ValueError, match="needs its model"):
        CodeStore.open(tmp_path / "a.khs").search(np.zeros((1, 4), np.float32))
    CodeStore.create(tmp_path / "b.khs", bits=BITS)
    with pytest.raises(ValueError, match="was created without one"):
        CodeStore.open(tmp_path / "b.khs", model=model)
    for bits in (3, str(BITS)):
        with pytest.raises(ValueError, match=f"`bits` must be the .*: {bits!r}."):
            CodeStore.create(tmp_path / "c.khs", model=model, bits=bits)
    for call in (CodeStore.create, CodeStore.open):
        path = tmp_path / ("c.khs" if call == CodeStore.create else "a.khs")
        with pytest.raises(
            ValueError, match=r"`model` must be .*load_model.*'my\.keras'"
        ):
            call(path, model="my.keras")
    with pytest.raises(ValueError, match="`bits` or `model`"):
        CodeStore.create(tmp_path / "c.khs")
    assert not (tmp_path / "c.khs").exists()


def test_a_model_with_dropout_is_known_again(tmp_path):
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    model = kerashash.AdaLabelHash(net, bits=BITS, num_classes=3)
    CodeStore.create(tmp_path / "a.khs", model=model)
    net(np.ones((1, 4), np.float32), training=True)  # takes random numbers
    CodeStore.open(tmp_path / "a.khs", model=model)
    dense = kerashash.AdaLabelHash(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]), BITS, 3
    )
    before = code_store.model_identity(dense)["weights"]
    dense.backbone.layers[0].bias.assign([1.0, 0.0, 0.0, 0.0])
    assert code_store.model_identity(dense)["weights"] != before


@pytest.mark.parametrize("engine", ENGINES)
def test_a_store_in_the_place_of_another_is_noticed(tmp_path, model, engine):
    store = CodeStore.create(tmp_path / "a.khs", model=model, engine=engine)
    store.add(random_codes(2))
    (tmp_path / "a.khs").rename(tmp_path / "b.khs")
    other = CodeStore.create(tmp_path / "a.khs", bits=BITS, engine=engine)
    for use in (store.add, store.search):
        with pytest.raises(ValueError, match="replaced by a store of other codes"):
            use(random_codes(1))
    assert len(other) == 0


def test_a_store_that_is_made_again_is_searched_anew(store):
    """Of the same path, and with as many rows and versions."""
    codes, engine = random_codes(6), store._engine
    store.add(codes[:3])
    assert store.search(codes[:1], k=1).distances.tolist() == [[0]]
    snapshot = engine.snapshot()
    shutil.rmtree(store.path)
    again = CodeStore.create(
        store.path,
        bits=BITS,
        engine=type(engine).__name__.removesuffix("Engine").lower(),
    )
    again.add(codes[:0:-2], ids=["a", "b", "c"])
    assert again._engine.snapshot().identity != snapshot.identity
    for each in (store, again):
        found = each.search(codes[5:], k=1)
        assert found.ids.tolist() == [["a"]]
        assert found.distances.tolist() == [[0]]


def test_a_store_of_an_earlier_release_is_read_and_written(tmp_path):
    """It has no name of its own, nor the versions of its columns."""
    stores = [CodeStore.create(tmp_path / f"{i}.khs", bits=BITS) for i in range(2)]
    for store, codes in zip(
        stores, (random_codes(4)[:2], random_codes(4)[2:]), strict=True
    ):
        store.add(codes, ids=["a", "b"], columns={"name": ["x", "y"]})
        with sqlite3.connect(f"{store.path}/rows.sqlite") as connection:
            connection.execute("DELETE FROM meta WHERE name IN ('store', 'since')")
        connection.close()
    store = reopened(stores[0])
    assert store.search(random_codes(4)[:1], k=1).distances.tolist() == [[0]]
    store.add(random_codes(1), ids=["c"], columns={"size": [1]})
    assert [*reopened(store, version=1).columns()] == ["id", "name"]
    shutil.rmtree(store.path)
    os.rename(stores[1].path, store.path)
    assert store.search(random_codes(4)[3:], k=1).distances.tolist() == [[0]]


def test_a_search_goes_on_through_a_replacement(tmp_path, monkeypatch):
    """Codes of one store have no keys of another."""
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    store.add(random_codes(3))
    snapshots = iter([store._engine.snapshot()])
    shutil.rmtree(store.path)
    CodeStore.create(store.path, bits=BITS).add(random_codes(3), ids=[*"abc"])
    original = store._engine.snapshot
    monkeypatch.setattr(
        store._engine, "snapshot", lambda: next(snapshots, None) or original()
    )
    assert {*store.search(random_codes(1), k=3).ids[0]} == {*"abc"}


def test_a_store_stays_where_it_was_opened(tmp_path, monkeypatch):
    for engine in ["folder", "lance"][: 1 + HAS_LANCE]:
        for folder in ("a", "b"):
            (tmp_path / engine / folder).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / engine / "a")
        store = CodeStore.create("codes.khs", bits=BITS, engine=engine)
        opened = CodeStore.open("codes.khs")
        monkeypatch.chdir(tmp_path / engine / "b")
        other = CodeStore.create("codes.khs", bits=BITS, engine=engine)
        for each in (store, opened, copy.deepcopy(store)):
            each.add(random_codes(1))
        assert (len(store), len(opened), len(other)) == (3, 3, 0)
        assert store.path == "codes.khs"


def test_a_store_can_be_copied_and_pickled(tmp_path, model):
    store = CodeStore.create(tmp_path / "codes.khs", model=model)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    store.add(x)
    old = CodeStore.open(store.path, version=0)
    assert len(pickle.loads(pickle.dumps(old))) == 0
    for again in (copy.copy(store), pickle.loads(pickle.dumps(store))):
        assert again.search(x[1:2], k=1).distances.tolist() == [[0]]
    again.add(x)
    assert len(store) == 6


def test_keys_are_in_a_store(store):
    store.add(random_codes(2), ids=["a.jpg", "it's"])
    store.delete("id = 'a.jpg'")
    assert "it's" in store
    for key in (
        "a.jpg",
        "b.jpg",
        "",
        "\udcff",
        "' OR 1=1 --",
        0,
        2**70,
        None,
        True,
        b"",
    ):
        assert key not in store


def test_keys_may_be_paths_and_numbers_of_numpy(tmp_path):
    store = CodeStore.create(tmp_path / "paths.khs", bits=BITS)
    store.add(random_codes(2), ids=[pathlib.Path("a", "b.jpg"), "c.jpg"])
    assert store.columns()["id"].tolist() == [os.path.join("a", "b.jpg"), "c.jpg"]
    assert pathlib.Path("a", "b.jpg") in store
    assert pathlib.Path("a") not in store
    store = CodeStore.create(tmp_path / "numbers.khs", bits=BITS)
    store.add(random_codes(2))
    assert np.int64(1) in store
    assert np.uint8(2) not in store
    assert np.True_ not in store


def test_a_store_of_the_zoo_finds_its_model(tmp_path):
    store = CodeStore.create(tmp_path / "digits.khs", model="ssdh-digits-48")
    x = np.zeros((1, *store.model.backbone.input_shape[1:]), np.float32)
    store.add(x)
    again = reopened(store)
    assert again.search(x, k=1).distances.tolist() == [[0]]
    assert "model='ssdh-digits-48'" in repr(again)
    by_name = CodeStore.open(store.path, "ssdh-digits-48")
    assert by_name.search(x, k=1).distances.tolist() == [[0]]
    with pytest.raises(ValueError, match="must be 'ssdh-digits-48', which made"):
        CodeStore.open(store.path, "ddh-ldl-movie-128")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": ["a"]}, "`ids` must have a key for each of 2"),
        ({"ids": ["a", "a"]}, "`ids` must be distinct. Received: 'a' twice"),
        *(
            ({"ids": ids}, "`ids` must have a key for each of 2 rows, in a list")
            for ids in ("ab", b"ab", {"a", "b"}, {"a": 1, "b": 2}, 5, np.array(5))
        ),
        ({"ids": ["a", 1]}, "`ids` must all be str, or all int"),
        ({"ids": ["a", "\udcff"]}, "UTF-8"),
        ({"ids": ["a", ""]}, "at least one character"),
        ({"ids": [1, 2**63]}, "64 bits"),
        ({"ids": ["old", "new"]}, "new to the store.*'old', which is there"),
        ({"ids": [3, 4]}, "of the store's type|as in the store"),
        ({"ids": ["b", "c"], "columns": {"n": [1]}}, "value for each of 2 rows"),
        ({"ids": ["b", "c"], "columns": {"id": [1, 2]}}, "`columns` must have names"),
        ({"ids": ["b", "c"], "columns": {"n": ["x", "y"]}}, "`columns.'n'.*type"),
        (
            {"ids": ["b", "c"], "columns": {"u": np.array([1, 2**63], np.uint64)}},
            "less than",
        ),
        *(
            ({"ids": ["b", "c"], "columns": columns}, message)
            for columns, message in [
                ({"u": [2**63 + 1, 1]}, r"`columns\['u'\]` must.*less than 2\*\*63"),
                ({"u": [[2**63 + 1, 1], [1, 1]]}, r"`columns\['u'\]` must.*less than"),
                ({"u": [0.5, -(2**64)]}, r"`columns\['u'\]` must.*at least -2"),
                (
                    {"u": [[1, 2], [3]]},
                    r"`columns\['u'\]` must have rows of one length",
                ),
                (
                    {"u": np.array(5)},
                    r"`columns\['u'\]` must have a value for each of 2 rows",
                ),
                ({"u": 5}, r"`columns\['u'\]` must have a value for each of 2 rows"),
                *(
                    ({"u": u}, r"`columns\['u'\]` must have a value for each of 2 rows")
                    for u in ("ab", b"ab", {1, 2}, {1: 2, 3: 4}, iter([1]), iter("abc"))
                ),
                *((c, "`columns` must be a dict") for c in ([1], "ab", np.ones(2))),
                ({"u": ["a", "\ud800"]}, r"`columns\['u'\]` must hold text of UTF-8"),
                ({"u\0": [1, 2]}, "`columns` must have names"),
                ({"\ud800": [1, 2]}, "`columns` must have names"),
                ({"u": [1, 2], "U": [1, 2]}, "`columns` must.*more than case.*'U'"),
                ({"N": [1, 2]}, "`columns` must.*more than case.*'N', beside 'n'"),
            ]
        ),
    ],
)
def test_wrong_rows_are_refused_and_leave_the_store_as_it_was(
    store, arguments, message
):
    store.add(random_codes(1), ids=["old"], columns={"n": [1]})
    with pytest.raises((ValueError, TypeError), match=message):
        store.add(random_codes(2), **arguments)
    assert reopened(store).columns()["id"].tolist() == ["old"]
    np.testing.assert_array_equal(store.codes(), random_codes(1))
    store.check()


@pytest.mark.parametrize(
    "where",
    [
        "no_such = 1",
        "id =",
        "",
        "1); DROP TABLE rows; --",
        "id IN (SELECT writefile('x'))",
        # Not one condition: a store pastes it between others.
        "1) OR (1",
        "1) OR (row = 1",
        "1)) OR ((1",
        "1) UNION SELECT (1",
        "1) --",
        "1 /*",
        "1 ORDER BY id",
        "1 UNION SELECT 1",
        "id = 1; id = 2",
        "id = ?",
        "id IN (SELECT name FROM meta)",
        "id IN (select id FROM rows)",
        # SQLite would take them for text, which equals nothing.
        '"no_such" != 3',
        '"id" = 1 AND "i""d" = 1',
        'id = "\'" OR "it\'s" = 1',
        "[no_such] = 3",
        "id = '\ud800'",
        "id = 1\0",
    ],
)
def test_a_wrong_condition_is_named(store, where):
    store.add(random_codes(2))
    store.delete("id = 0")
    for call in (store.codes, store.delete):
        with pytest.raises(ValueError, match="`where` must be an SQL condition"):
            call(where)
    for each in (store, reopened(store)):
        assert each.columns()["id"].tolist() == [1]
        assert len(each) == 1


def test_a_condition_may_hold_parentheses_in_text_and_a_comment(store):
    store.add(random_codes(3), ids=["a) OR (b", "it's", "c"])
    for where in ("id = 'a) OR (b'", "(id = 'a) OR (b') -- it's"):
        assert store.columns(where)["id"].tolist() == ["a) OR (b"]
    assert store.delete("id = 'it''s' OR id = 'c' -- and (no more") == 2
    assert store.columns()["id"].tolist() == ["a) OR (b"]


def test_names_may_be_quoted_and_text_may_look_like_them(store):
    columns = {"select": [1, 2], "it's": [1, 2], "name": ['"x"', "select 1"]}
    store.add(random_codes(2), columns=columns)
    for where in (
        """name = '"x"' -- select "y\"""",
        "name != 'select 1'",
        '"select" = 1',
        '"it\'s" = 1 AND "id" = 0',
    ):
        assert store.columns(where)["id"].tolist() == [0]
    if "codes.lance" not in os.listdir(store.path):  # whose names have cases
        store.add(random_codes(1), columns={'a"b': [1]})
        assert store.columns('"A""b" = 1 /* "y" */')["id"].tolist() == [2]


#: A condition that takes milliseconds for each row.
SLOW = " OR ".join(["hex(randomblob(9900)) IS NULL"] * 100)


@pytest.fixture
def slow(tmp_path):
    """A store in a folder, of which `SLOW` takes many seconds to read."""
    store = CodeStore.create(tmp_path / "slow.khs", bits=BITS)
    columns = {"text": ["a"] * 1999 + ["a" * 50_000]}
    store.add(np.zeros((2000, 3), np.uint8), columns=columns)
    return store


def test_a_condition_ends_at_its_last_moment(slow):
    start = time.monotonic()
    with (
        conditions_until(start + 0.1),
        pytest.raises(TimeoutError, match="`where` must take less time"),
    ):
        slow.search(slow.codes("id = 3"), where=SLOW)
    assert time.monotonic() - start < 3
    with conditions_until(start + 1000):
        assert len(slow.codes("id > 0")) == 1999  # with the one that has a long text


@pytest.mark.parametrize(
    "where",
    [
        "randomblob(1000000) IS NULL",
        "zeroblob(1000000) IS NULL",
        "printf('%d', id) = '2'",
        "format('%d', id) = '2'",
        "'a' LIKE upper(hex(zeroblob(200)))",
    ],
)
def test_conditions_of_strangers_have_no_calls_that_nothing_ends(tmp_path, where):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    store.add(random_codes(3))
    with (
        conditions_until(time.monotonic() + 1000),
        pytest.raises(ValueError, match="`where` must be an SQL condition"),
    ):
        store.codes(where)
    assert len(store.codes(where)) == (1 if "id" in where else 0)


def test_a_condition_is_interrupted_by_a_signal(slow):
    # A shell lets what it starts in the background ignore the signal.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.monotonic()
    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            slow.delete(SLOW)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - start < 3
    assert len(slow) == 2000


def test_others_search_while_a_condition_is_read(store, monkeypatch):
    """Of any engine: the first search of all rows makes what the later ones use."""
    store.add(random_codes(3))
    kind = type(store._engine.snapshot())
    original, begun, free = kind.select, threading.Event(), threading.Event()

    def select(self, where):
        if where is not None:
            begun.set()
            assert free.wait(20)
        return original(self, where)

    monkeypatch.setattr(kind, "select", select)
    code = random_codes(1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        chosen = pool.submit(store.search, code, where="id = 1")
        try:
            assert begun.wait(20)
            found = pool.submit(store.search, code, 2).result(20)
        finally:
            free.set()
        assert found.ids.shape == (1, 2)
        assert chosen.result().ids.tolist() == [[1]]


def test_what_is_removed_is_not_removed_again(tmp_path, monkeypatch):
    """Whatever selects the rows, their number stays right."""
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    store.add(random_codes(3))
    store.delete("id = 0")
    monkeypatch.setattr(store._engine, "_select", lambda *_: np.arange(3))
    assert store.delete("id = 1") == 2
    assert len(store) == 0
    store.check()


def test_a_store_has_as_many_columns_as_its_table(tmp_path):
    store = CodeStore.create(tmp_path / "wide.khs", bits=BITS)
    columns = {f"c{number}": [number] for number in range(1_997)}
    store.add(random_codes(1), columns=columns)
    assert len(store.search(random_codes(1)).rows()[0]) == 2 + len(columns)
    with pytest.raises(ValueError, match="`columns` must be at most 1,997 in a store"):
        store.add(random_codes(1), columns={"more": [1]})
    assert len(reopened(store)) == 1


@pytest.mark.skipif(not HAS_LANCE, reason="lancedb is not installed")
@pytest.mark.parametrize("name", ["_rowid", "_distance", "query_index", "a.b", "a`b"])
def test_names_that_lancedb_has_or_does_not_take_are_refused(tmp_path, name):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS, engine="lance")
    with pytest.raises(ValueError, match="`columns` of engine='lance' must have names"):
        store.add(random_codes(1), columns={name: [1]})
    store.add(random_codes(1))
    assert reopened(store).columns()["id"].tolist() == [0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bits", [0, 65_535])
def test_codes_that_no_store_could_hold_are_refused(tmp_path, engine, bits):
    with pytest.raises(ValueError, match="`bits` must be at"):
        CodeStore.create(tmp_path / "codes.khs", bits=bits, engine=engine)
    assert not (tmp_path / "codes.khs").exists()


@pytest.mark.parametrize("path", ["", 5, None, b"x", "a\0b", "http://x/y"])
def test_what_is_no_path_is_named(path):
    if path == "http://x/y" and not HAS_LANCE:
        pytest.skip("lancedb is not installed")
    for call in (CodeStore.open, lambda path: CodeStore.create(path, bits=BITS)):
        with pytest.raises((TypeError, ValueError), match="`path` must be a path"):
            call(path)


def test_a_group_may_write_a_store(tmp_path):
    """If the umask lets it; SQLite would make the file of the rows for its user."""
    before = os.umask(0o002)
    try:
        CodeStore.create(tmp_path / "s.khs", bits=BITS).add(random_codes(3))
    finally:
        os.umask(before)
    for path in (tmp_path / "s.khs").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o664, path.name


def test_a_store_is_made_once_by_two(tmp_path, model, monkeypatch):
    """The second finds what the first has made, at whatever moment."""
    path, moments = tmp_path / "codes.khs", 0
    replace = os.replace

    def make_first(*arguments):
        nonlocal moments
        monkeypatch.setattr(os, "replace", replace)
        CodeStore.create(path, model).add(np.zeros((1, 4), np.float32))
        moments += 1
        return replace(*arguments)

    monkeypatch.setattr(os, "replace", make_first)
    assert len(code_store.open_or_create(path, model, model)) == moments == 1
    assert len(code_store.open_or_create(path, model, model)) == 1
    with pytest.raises(FileExistsError, match=r"`path` must not exist.*codes\.khs"):
        CodeStore.create(path, model)


def test_wrong_queries_are_named(store):
    store.add(random_codes(2))
    for x in (np.zeros((1, 9), np.uint8), [[1, 2]], "a.jpg"):
        with pytest.raises(ValueError, match="`x` must be codes of 20 bits"):
            store.search(x)
    with pytest.raises(TypeError, match=r"`x` must hold paths alone.*ndarray"):
        store.search(["a.jpg", np.zeros((8, 8, 3))])
    with pytest.raises(ValueError, match="`k` must be at least 1"):
        store.search(random_codes(1), k=0)
    with pytest.raises(ValueError, match="`radius` must be at most 20"):
        store.within(random_codes(1), radius=21)


def test_what_is_no_store_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        CodeStore.open(tmp_path / "none.khs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no rows\.sqlite"):
        CodeStore.open(tmp_path / "empty")
    with pytest.raises(FileExistsError):
        CodeStore.create(tmp_path / "empty", bits=8)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="`path` must be in a folder"):
        CodeStore.create(tmp_path / "file" / "x.khs", bits=8)
    with pytest.raises(ValueError, match="`engine` must be one of"):
        CodeStore.create(tmp_path / "x.khs", bits=8, engine="postgres")


def test_a_damaged_store_is_named(tmp_path):
    def fresh(name):
        store = CodeStore.create(tmp_path / name, bits=BITS)
        store.add(random_codes(200))
        return store, pathlib.Path(store.path)

    store, folder = fresh("cut.khs")
    with open(folder / "codes-0.bin", "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match=r"cut\.khs.*too short for its 200 codes"):
        store.search(random_codes(1))
    # Which an addition would hide.
    with pytest.raises(ValueError, match=r"cut\.khs.*too short for its 200 codes"):
        store.add(random_codes(1))
    assert (folder / "codes-0.bin").stat().st_size == 100
    store, folder = fresh("flipped.khs")
    content = bytearray((folder / "codes-0.bin").read_bytes())
    content[10] ^= 1
    (folder / "codes-0.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"flipped\.khs.*codes 0 to 199 have changed"):
        store.check()
    store, folder = fresh("garbage.khs")
    (folder / "rows.sqlite").write_bytes(b"no database" * 1000)
    for use in (lambda: reopened(store), lambda: len(store), lambda: 0 in store):
        with pytest.raises(ValueError, match=r"garbage\.khs"):
            use()
    store, folder = fresh("other.khs")
    with sqlite3.connect(folder / "rows.sqlite") as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'format'")
    connection.close()
    with pytest.raises(ValueError, match="of format 99"):
        reopened(store)
    store, folder = fresh("gone.khs")
    (folder / "codes-0.bin").unlink()
    for use in (
        store.codes,
        store.check,
        store.compact,
        lambda: store.add(random_codes(1)),
        lambda: store.upsert(random_codes(1), ids=[0]),
    ):
        with pytest.raises(ValueError, match=r"gone\.khs.*codes are missing"):
            use()
    shutil.rmtree(folder)
    uses = (lambda: len(store), lambda: store.add(random_codes(1)), store.compact)
    for use in (*uses, lambda: 0 in store):
        with pytest.raises(FileNotFoundError, match=r"The store is gone.*gone\.khs"):
            use()


def add_many(path, writer, commits):
    store = CodeStore.open(path)
    for commit in range(commits):
        numbers = np.arange(10) + 10**6 * writer + 10 * commit
        store.add(numbered(numbers), ids=numbers.tolist())


def numbered(numbers):
    """Codes that tell their row's key."""
    return kerashash.codes.pack(
        np.where(numbers[:, None] >> np.arange(BITS) & 1, 1, -1).astype(np.int8)
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_two_writers_and_a_kill_lose_no_commit_and_tear_none(tmp_path, engine):
    path = tmp_path / "codes.khs"
    CodeStore.create(path, bits=BITS, engine=engine)
    spawn = multiprocessing.get_context("spawn")
    victim = spawn.Process(target=add_many, args=(str(path), 1, 10**6))
    victim.start()
    # Two writers until the other one is killed, in the middle of some commit.
    own = itertools.count(0, 10)
    while not len(CodeStore.open(path).codes("id >= 1000000")):
        assert victim.is_alive()
        numbers = np.arange(10) + next(own)
        CodeStore.open(path).add(numbered(numbers), ids=numbers.tolist())
    time.sleep(0.1)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    store = CodeStore.open(path)
    store.check()
    ids = store.columns()["id"].astype(int)
    assert {*range(next(own))} <= {*ids.tolist()}
    assert len({*ids.tolist()}) == len(ids)
    assert len(ids) % 10 == 0
    np.testing.assert_array_equal(store.codes(), numbered(ids))
    store.add(numbered(np.array([10**9])), ids=[10**9])
    assert len(store) == len(ids) + 1


def test_a_commit_that_was_killed_half_written_is_rolled_back_by_a_reader(tmp_path):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    store.add(random_codes(5))
    # The state of the files within a commit, some pages of which are written.
    with sqlite3.connect(tmp_path / "codes.khs/rows.sqlite") as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE versions SET rows = 99")
        connection.executemany(
            "INSERT INTO meta VALUES (?, '0')", ((f"name {i}",) for i in range(5000))
        )
        shutil.copytree(store.path, tmp_path / "killed.khs")
        connection.rollback()
    connection.close()
    assert (tmp_path / "killed.khs/rows.sqlite-journal").stat().st_size
    killed = CodeStore.open(tmp_path / "killed.khs")
    assert len(killed) == 5
    assert killed.versions() == store.versions()
    killed.check()
    assert {*os.listdir(killed.path)} == {"codes-0.bin", "rows.sqlite"}


def test_a_killed_commit_and_a_killed_compaction_leave_no_trace(tmp_path):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    store.add(random_codes(5))
    folder = pathlib.Path(store.path)
    # What they leave: codes without rows, and codes of a compaction.
    with open(folder / "codes-0.bin", "ab") as file:
        file.write(b"torn")
    (folder / "codes-1.bin").write_bytes(b"half")
    np.testing.assert_array_equal(store.codes(), random_codes(5))
    store.check()
    store.delete("id = 0")
    store.add(random_codes(2))
    np.testing.assert_array_equal(
        store.codes(), [*random_codes(5)[1:], *random_codes(2)]
    )
    assert {*os.listdir(folder)} == {"codes-0.bin", "rows.sqlite"}


def test_a_search_goes_on_through_a_compaction(tmp_path, monkeypatch):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    codes = random_codes(6)
    store.add(codes, ids=[*"abcdef"])
    store.delete("id = 'a'")
    snapshot = store._engine.snapshot()
    reopened(store).compact()
    snapshots = iter([snapshot])
    original = type(store._engine).snapshot
    monkeypatch.setattr(
        store._engine,
        "snapshot",
        lambda: next(snapshots, None) or original(store._engine),
        raising=False,
    )
    assert store.search(codes[3:4], k=1).distances.tolist() == [[0]]
    assert store.search(codes, k=5).ids.shape == (6, 5)


READ_ONLY = """
import os
import sys

import numpy as np

import kerashash

folder = sys.argv[1]
code = np.zeros((1, 3), np.uint8)
store = kerashash.CodeStore.open(f"{folder}/codes.khs")
store.search(code)  # imports what another user may not read
if os.geteuid() == 0:  # who may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for store in (store, kerashash.CodeStore.open(f"{folder}/codes.khs")):
    assert len(store) == len(store.codes()) == 3
    assert store.search(code, k=2, where="id > 0").ids.shape == (1, 2)
    store.check()
    for write in (
        lambda: store.add(code),
        lambda: store.upsert(code, ids=[0]),
        lambda: store.delete("id = 0"),
        store.compact,
        lambda: kerashash.CodeStore.create(f"{folder}/new.khs", bits=20),
    ):
        try:
            write()
        except PermissionError as error:
            print(error)
        else:
            raise AssertionError("it was written")
assert len(store) == 3
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_folder_that_cannot_be_written_can_be_read(engine):
    # Not in `tmp_path`, where another user may not look.
    with tempfile.TemporaryDirectory() as folder:
        store = CodeStore.create(f"{folder}/codes.khs", bits=BITS, engine=engine)
        store.add(random_codes(3))
        paths = [pathlib.Path(folder), *pathlib.Path(folder).rglob("*")]
        modes = [path.stat().st_mode for path in paths]
        for path in paths:
            path.chmod(0o444 if path.is_file() else 0o555)
        try:
            run = subprocess.run(
                [sys.executable, "-c", READ_ONLY, folder],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            for path, mode in zip(paths, modes, strict=True):
                path.chmod(mode)
        assert run.returncode == 0, run.stderr
        said = run.stdout.splitlines()
        assert len(said) == 10
        for text in said[:4] + said[5:9]:
            assert "The store cannot be written" in text
            assert "codes.khs" in text


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk_loses_nothing(tmp_path, engine):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted")
    try:
        store = CodeStore.create(disk / "codes.khs", bits=BITS, engine=engine)
        store.add(random_codes(10))
        with pytest.raises(OSError, match="full") as error:
            [store.add(random_codes(20_000)) for _ in range(200)]
        assert error.value.errno == errno.ENOSPC
        whole = len(store)
        assert whole % 20_000 == 10
        reopened(store).check()
        assert len(reopened(store).codes()) == whole
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(
    not HAS_LANCE or importlib.util.find_spec("moto") is None,
    reason="lancedb or moto is not installed",
)
def test_the_same_code_works_on_object_storage(monkeypatch):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket="codes")
        url = "s3://codes/photos.khs"
        store = CodeStore.create(url, bits=BITS)
        codes = random_codes(50)
        store.add(codes, columns={"label": np.arange(50) % 2})
        store.delete("id = 3")
        again = CodeStore.open(url)
        np.testing.assert_array_equal(again.codes(), np.delete(codes, 3, axis=0))
        assert again.search(codes[:2], k=3, where="label = 0").distances[0, 0] == 0
        with pytest.raises(FileExistsError):
            CodeStore.create(url, bits=BITS)
        with pytest.raises(FileNotFoundError):
            CodeStore.open("s3://codes/none.khs")
    finally:
        server.stop()


def test_without_lancedb_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(ImportError, match=r'pip install "kerashash\[store\]"'):
        CodeStore.create(tmp_path / "x.khs", bits=8, engine="lance")


@pytest.mark.parametrize("small", [2, 64])
def test_groups_are_the_connected_components_of_near_pairs(monkeypatch, small):
    monkeypatch.setattr(duplicates, "_HELD", 50)  # joined many times
    monkeypatch.setattr(duplicates, "_SMALL", small)
    for n, bits, distinct in [(1, 8, 1), (400, 20, 200), (900, 12, 60), (700, 70, 500)]:
        rng = np.random.default_rng(n)
        codes = rng.integers(0, 2, (distinct, bits))
        # The second half is near the first: 0 to 4 bits differ.
        for code, origin in zip(codes[distinct // 2 :], codes, strict=False):
            code[:] = origin
            code[rng.choice(bits, rng.integers(5), replace=False)] ^= 1
        codes = codes[rng.integers(distinct, size=n)] * 2 - 1
        packed = kerashash.codes.pack(codes.astype(np.int8))
        for radius in (0, 1, 2, 3):
            near = (bits - codes @ codes.T) // 2 <= radius
            _, labels = scipy.sparse.csgraph.connected_components(near)
            rows = [np.flatnonzero(labels == label) for label in {*labels.tolist()}]
            expected = sorted(group.tolist() for group in rows if len(group) > 1)
            groups = duplicates.groups_within(packed, bits, radius)
            assert [group.tolist() for group in groups] == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_duplicates_are_keys_of_the_selected_rows(tmp_path, engine):
    store = CodeStore.create(tmp_path / "codes.khs", bits=8, engine=engine)
    assert store.duplicates() == []
    codes = np.array([[1], [240], [3], [1], [240], [15]], np.uint8)
    store.add(codes, ids=[*"abcdef"], columns={"year": [1, 1, 1, 1, 2, 2]})
    store.delete("id = 'a'")
    assert store.duplicates() == [["b", "e"]]
    assert store.duplicates(radius=1) == [["b", "e"], ["c", "d"]]
    assert store.duplicates(radius=1, where="year = 1") == [["c", "d"]]
    assert store.duplicates(radius=2) == [["b", "e"], ["c", "d", "f"]]
    with pytest.raises(ValueError, match="`radius` must be"):
        store.duplicates(radius=9)


def test_equal_codes_are_duplicates_whatever_their_hashes(tmp_path):
    # Two codes whose hashes differ in the last bit only, and whose rows alternate.
    inverse = pow(int(_MULTIPLIER), -1, 2**64)
    words = [hash_ * inverse % 2**64 for hash_ in (2**60, 2**60 + 1)]
    codes = np.array(words * 2, "<u8").view(np.uint8).reshape(4, 8)
    store = CodeStore.create(tmp_path / "s.khs", bits=64)
    store.add(codes, ids=[*"abcd"])
    assert store.duplicates(radius=0) == [["a", "c"], ["b", "d"]]


def test_duplicates_of_codes_need_no_tensorflow(tmp_path, monkeypatch):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    store.add(random_codes(1).repeat(3, axis=0))
    # As if nothing had been imported yet.
    monkeypatch.setitem(sys.modules, "kerashash.retrieval.ranker", None)
    monkeypatch.delitem(sys.modules, "kerashash.store.duplicates")
    monkeypatch.delattr("kerashash.store.duplicates")
    assert store.duplicates(radius=1) == [[0, 1, 2]]


def test_a_model_is_a_model(tmp_path):
    for call in (CodeStore.create, CodeStore.open):
        if call == CodeStore.open:
            CodeStore.create(tmp_path / "codes.khs", bits=8)
        with pytest.raises(TypeError, match="`model` must be a HashModel or the name"):
            call(tmp_path / "codes.khs", model=5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tilde_is_the_home_folder(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    store = kerashash.CodeStore.create("~/s.khs", bits=8, engine=engine)
    store.add(np.zeros((1, 1), np.uint8))
    assert len(kerashash.CodeStore.open(tmp_path / "s.khs")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s.khs"]
