"""Encoding and search on Ray. `python tests/faults/cluster.py` does more of it."""

import importlib.util
import itertools
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerashash
from kerashash import cli
from kerashash.cluster import encoding, session
from kerashash.cluster.sharded_ranker import merged_top_k, merged_within

SCRIPT = pathlib.Path(__file__).parent / "faults" / "cluster.py"
HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="ray is not installed")


@needs_ray
@pytest.mark.slow
@pytest.mark.long
def test_a_killed_worker_changes_nothing(tmp_path):
    # In a process of its own: Ray starts others, and TensorFlow must not be forked.
    run = subprocess.run(
        [sys.executable, SCRIPT, "encode", "--actors", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["one"] == [392, 8]
    encoded = report["encode"]
    assert encoded["counts"] == [392, 8]
    assert encoded["equal"]  # rows and their order
    assert 0 < encoded["rows_at_kill"][0] < 392
    assert encoded["again"] == [0, 0, 392, 8]


@pytest.mark.parametrize("shards", [1, 2, 5, 40])
def test_merged_shards_are_one_ranker(rng, shards):
    # Few distinct codes, so that ties run over all shards.
    distinct = rng.choice([-1, 1], (6, 10))
    codes = distinct[rng.integers(0, 6, 40)]
    ranker, queries = kerashash.HammingRanker(codes), rng.choice([-1, 1], (7, 10))
    ends = np.linspace(0, len(codes), shards + 1).astype(int)
    parts = [
        kerashash.HammingRanker(codes[start:stop])
        for start, stop in itertools.pairwise(ends)
    ]
    for k in (1, 3, 9, 40):
        nearest = [part.top_k(queries, min(k, len(part))) for part in parts]
        merged = merged_top_k(nearest, ends[:-1], k)
        for found, expected in zip(merged, ranker.top_k(queries, k), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
    for radius in (0, 2, 5, 10):
        near = [part.within(queries, radius) for part in parts]
        merged = merged_within(near, ends[:-1])
        for lists in zip(merged, ranker.within(queries, radius), strict=True):
            for found, expected in zip(*lists, strict=True):
                np.testing.assert_array_equal(found, expected)
                assert found.dtype == expected.dtype


def test_indices_beyond_int32_are_int64():
    part = np.array([[1]], np.int32), np.array([[5]], np.int32)
    for merged in (
        merged_top_k([part, part], [0, 2**31], k=2)[1][0],
        merged_within([part, part], [0, 2**31])[1][0],
    ):
        assert merged.dtype == np.int64
        assert merged.tolist() == [5, 2**31 + 5]


@needs_ray
def test_an_actor_encodes_rows_of_parquet(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.dataset
    import pyarrow.parquet as pq
    import tensorflow as tf

    monkeypatch.setattr(encoding, "set_threads", lambda count: None)
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), bits=12, num_classes=3)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)
    images = [tf.io.encode_png(image).numpy() for image in pixels]
    images[2:4] = [b"none", None]
    columns = {"key": [*range(7)], "image": images, "year": [*range(2000, 2007)]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=5)
    (fragment,) = pyarrow.dataset.dataset(tmp_path / "a.parquet").get_fragments()
    groups = fragment.split_by_row_group()
    file = encoding._model_file(model)
    actor = encoding.Encoder(file, "image", "key", ["year"], [0, 5], 1, 2, groups)
    tables = pa.concat_tables(actor(pa.table([[0, 1]], [encoding._ROW_GROUP])))
    assert tables["id"].to_pylist() == [1, 2, 3, 4, 6]
    assert tables["year"].to_pylist() == [2001, 2002, 2003, 2004, 2006]
    expected = [bytes(code) for code in model.encode(pixels[[1, 4, 6]])]
    assert tables["code"].drop_null().to_pylist() == expected
    faults = tables["fault"].to_pylist()
    assert faults == [None, "not a readable image", "null", None, None]


@needs_ray
def test_of_a_store_the_keys_alone_are_read(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), bits=12, num_classes=3)
    store = kerashash.CodeStore.create(tmp_path / "codes.khs", model)
    store.add(np.zeros((1, 2), np.uint8), ids=["a"], columns={"wide": np.ones((1, 9))})
    pq.write_table(pa.table({"image": ["a"]}), tmp_path / "a.parquet")
    read, asked = store.columns, []

    def columns(where=None, names=None):
        asked.append(names)
        return read(where, names)

    def start(address):
        raise ConnectionError(address)

    monkeypatch.setattr(store, "columns", columns)
    monkeypatch.setattr(encoding, "session", start)
    with pytest.raises(ConnectionError):
        encoding.encode_parquet(str(tmp_path / "a.parquet"), store, image="image")
    assert asked == [["id"]]


@needs_ray
def test_what_a_store_will_not_take_is_named_before_ray_starts(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), bits=12, num_classes=3)
    store = kerashash.CodeStore.create(tmp_path / "codes.khs", model)
    store.add(np.zeros((1, 2), np.uint8), ids=["a"], columns={"year": [2000]})
    table = {"image": ["b"], "year": ["new"], "key": [3], "size": [1]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    monkeypatch.setattr(encoding, "session", lambda address: 1 / 0)
    file = str(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"`columns\['year'\]` must be of the store's"):
        encoding.encode_parquet(file, store, image="image", columns=["size", "year"])
    with pytest.raises(ValueError, match="`ids` must all be str"):
        encoding.encode_parquet(file, store, image="image", ids="key")
    numbered = kerashash.CodeStore.create(tmp_path / "numbered.khs", model)
    numbered.add(np.zeros((1, 2), np.uint8))
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match="`ids` must all be str"):
        encoding.encode_files(tmp_path, numbered)


def test_a_key_that_occurs_twice_is_refused():
    block = encoding.Block(["a", "b"], np.zeros((2, 1), np.uint8), {}, {})
    seen = set()
    assert [*encoding._distinct([block], seen)] == [block]
    assert seen == {"a", "b"}
    with pytest.raises(
        ValueError, match=r"`ids` must hold distinct keys\. Received: 'a'"
    ):
        [*encoding._distinct([block], seen)]


def test_without_ray_its_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "kerashash\[cluster\]"'):
        session.import_ray()
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), bits=12, num_classes=3)
    kerashash.save_model(model, tmp_path / "m.keras")
    (tmp_path / "a.png").touch()
    arguments = ["encode", str(tmp_path), "--out", str(tmp_path / "p.khs")]
    arguments += ["--model", str(tmp_path / "m.keras"), "--cluster", "auto"]
    assert cli.main(arguments) == 2
    assert "kerashash[cluster]" in capsys.readouterr().err
    assert not (tmp_path / "p.khs").exists()
