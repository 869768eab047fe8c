"""The graph of a store's model that is kept for the next process's first query."""

import keras
import numpy as np
import pytest
from PIL import Image

import kerashash
from kerashash import CodeStore, zoo
from kerashash.retrieval import HammingRanker
from kerashash.store import kept_encoder
from kerashash.store.kept_encoder import encode_queries, keep
from kerashash.store.scan import Scan

BITS = 12


def publish(root, seed, fit="pad"):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((16, 16, 3)),
        keras.layers.Conv2D(8, 3, strides=2),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
    ]
    net = keras.Sequential(layers)
    model = kerashash.AdaLabelHash(net, BITS, 3, image_fit=fit)
    zoo.round_weights(model)
    x = np.random.default_rng(seed).integers(0, 256, (6, 16, 16, 3), np.uint8)
    codes = {"query_codes": model.encode(x, verbose=0), "query_labels": np.eye(6)}
    codes |= {"database_codes": codes["query_codes"], "database_labels": np.eye(6)}
    metric = {"name": "mAP@ALL", "denominator": "relevant", "ties": "expected"}
    metric |= {"empty": "zero", "database": "encoded"}
    card = {"trained_on": "nothing", "metrics": [metric]}
    entry = zoo.save(model, "adalabel-tiny-12", card, codes, root=root, overwrite=True)
    return str(entry.path), zoo.load(str(entry.path))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("zoo"), seed=0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASHASH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "encoders"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(1)
    for number in range(17):
        low = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        Image.fromarray(low).resize((50, 30 + number)).save(folder / f"{number}.png")
    return sorted(map(str, folder.iterdir()))


def test_a_graph_gives_the_codes_of_its_model(
    tiny, cache, photographs, tmp_path, monkeypatch
):
    name, model = tiny
    CodeStore.create(tmp_path / "s.khs", name)
    expected = model.encode(photographs, verbose=0)
    squashed = model.encode(
        kerashash.data.read_images(photographs, 16, "squash"), verbose=0
    )
    assert not np.array_equal(expected, squashed)
    first = encode_queries(CodeStore.open(tmp_path / "s.khs"), photographs[:3])
    np.testing.assert_array_equal(first, expected[:3])
    (file,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(zoo, "load", lambda name: pytest.fail("the model was loaded"))
        store = CodeStore.open(tmp_path / "s.khs")
        for paths in (photographs[:1], photographs[:16]):
            codes = encode_queries(store, paths)
            assert codes.dtype == np.uint8
            np.testing.assert_array_equal(codes, expected[: len(paths)])
        before = file.stat().st_mtime_ns
        keep(store)
        assert file.stat().st_mtime_ns == before
        with pytest.raises(ValueError, match=r"none\.jpg"):
            encode_queries(store, ["none.jpg"])
    # More photographs are for the model.
    many = encode_queries(CodeStore.open(tmp_path / "s.khs"), photographs)
    np.testing.assert_array_equal(many, expected)


def test_a_damaged_graph_is_made_again(tiny, cache, photographs, tmp_path):
    name, model = tiny
    store = CodeStore.create(tmp_path / "s.khs", name)
    keep(store)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    expected = model.encode(photographs[:2], verbose=0)
    flipped = bytearray(whole)
    flipped[-20] ^= 1
    for content in (
        b"",
        whole[:-1],
        bytes(flipped),
        whole.replace(b"encoder 1", b"encoder 0"),
        b"kerashash encoder 1\n{\n",
        b"kerashash encoder 1\n[]\n",
        b"kerashash encoder 1\n{}\n",
    ):
        file.write_bytes(content)
        codes = encode_queries(store, photographs[:2])
        np.testing.assert_array_equal(codes, expected)
        assert len(file.read_bytes()) > len(whole) - 100


def test_without_a_cache_the_model_encodes(
    tiny, cache, photographs, tmp_path, monkeypatch
):
    name, model = tiny
    store = CodeStore.create(tmp_path / "s.khs", name)
    expected = model.encode(photographs[:2], verbose=0)
    keep(store)
    (file,) = cache.iterdir()
    file.unlink()
    file.mkdir()
    # There is a folder in place of the file, a file in place of the cache, or nobody.
    for place in (cache.parent, photographs[0], "~nobodyx/cache"):
        monkeypatch.setenv("KERASHASH_CACHE", str(place))
        keep(store)
        codes = encode_queries(store, photographs[:2])
        np.testing.assert_array_equal(codes, expected)


def test_another_model_has_another_graph(cache, photographs, tmp_path):
    for seed in (1, 2):
        name, model = publish(tmp_path / "zoo", seed)
        store = CodeStore.create(tmp_path / f"{seed}.khs", name)
        for _ in range(2):
            codes = encode_queries(store, photographs[:4])
            expected = model.encode(photographs[:4], verbose=0)
            np.testing.assert_array_equal(codes, expected)
    assert len([*cache.iterdir()]) == 2


def test_what_cannot_be_kept_is_encoded_all_the_same(
    tiny, cache, photographs, tmp_path
):
    name, model = tiny
    expected = model.encode(photographs[:2], verbose=0)
    # Of a model that is not of the zoo, the store does not know all.
    store = CodeStore.create(tmp_path / "own.khs", model)
    np.testing.assert_array_equal(encode_queries(store, photographs[:2]), expected)
    assert not cache.exists()
    cache.parent.write_text("a file, not a folder")
    store = CodeStore.create(tmp_path / "s.khs", name)
    np.testing.assert_array_equal(encode_queries(store, photographs[:2]), expected)
    codes = CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    with pytest.raises(ValueError, match="created without a model"):
        encode_queries(codes, photographs[:2])
    keep(codes)


def test_a_graph_that_does_not_agree_is_not_kept(
    tiny, cache, photographs, tmp_path, monkeypatch
):
    def fail(*arguments):
        raise RuntimeError("no graph can hold this")

    name, model = tiny
    store = CodeStore.create(tmp_path / "s.khs", name)
    expected = model.encode(photographs[:2], verbose=0)
    wrong = np.ones((2, BITS), np.float32)
    for function, replacement in (("_run", lambda *_: wrong), ("_frozen", fail)):
        with monkeypatch.context() as patch:
            patch.setattr(kept_encoder, function, replacement)
            codes = encode_queries(store, photographs[:2])
        np.testing.assert_array_equal(codes, expected)
        assert not cache.exists()


def test_the_first_few_queries_are_answered_by_a_scan(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (300, 4), np.uint8)
    CodeStore.create(tmp_path / "s.khs", bits=32).add(codes)

    def kinds(*counts, where=None):
        store = CodeStore.open(tmp_path / "s.khs")
        for count in counts:
            found = store.search(codes[:count], 5, where)
            assert found.ids[:, 0].tolist() == [*range(count)]
            yield None if store._ranked is None else type(store._ranked[1])

    assert [*kinds(8, 1, 1)] == [Scan, HammingRanker, HammingRanker]
    assert [*kinds(9)] == [HammingRanker]
    assert [*kinds(2, 2, where="id >= 0")] == [None, None]
