"""From photographs to a search in three lines, and what a notebook shows."""

import html
import os
import re
import tempfile

import keras
import numpy as np
import pytest
from PIL import Image

import kerashash
from kerashash import CodeStore, notebook, zoo
from kerashash.methods.encoder import Encoder
from kerashash.store import pictures


@pytest.fixture(scope="module")
def hasher():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
    return kerashash.AdaLabelHash(keras.Sequential(layers), bits=12, num_classes=3)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Names of three photographs in the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = ["a.png", "b & c.png", "d.png"]
    for name in names:
        pixels = rng.integers(0, 256, (4, 8, 3), np.uint8)
        Image.fromarray(pixels).save(name)
    return names


def test_photographs_are_indexed_and_found(hasher, photos):
    store = hasher.index(photos, verbose=0)
    found = store.search(photos[1], k=2)
    first = found.rows()[0]
    assert first["id"] == os.path.abspath(photos[1])
    assert first["distance"] == 0
    assert store.codes().tolist() == hasher.encode(photos).tolist()
    assert found.queries == [photos[1]]
    assert store.search(photos).queries == photos
    assert store.within(photos[1], 0).queries == [photos[1]]
    assert store.search(hasher.encode(photos)).queries is None


def test_a_folder_is_indexed_without_its_bad_files(hasher, photos):
    with open("bad\n.png", "w"):
        pass
    match = r"Skipped 1 file: '.*bad\\n.png' \(empty\)"  # in one line
    with pytest.warns(UserWarning, match=match):
        store = hasher.index(".", verbose=0)
    assert len(store) == 3
    assert len(hasher.index(iter(photos[:2]), verbose=0)) == 2


def test_a_temporary_index_goes_with_its_object(hasher, photos, collect_garbage):
    store = hasher.index(photos, verbose=0)
    folder = os.path.dirname(store.path)
    assert os.path.isdir(folder)
    del store
    collect_garbage()
    assert not os.path.exists(folder)


def test_an_index_with_a_path_stays_and_grows(hasher, photos, monkeypatch):
    hasher.index(photos[:2], "some.khs", verbose=0)
    encode = Encoder.encode
    encoded = []

    def counting(self, x, **options):
        encoded.append(len(x))
        return encode(self, x, **options)

    monkeypatch.setattr(Encoder, "encode", counting)
    assert len(hasher.index(photos, "some.khs", verbose=0)) == 3
    assert encoded == [1]


def test_an_index_of_a_zoo_model_finds_it_again(tmp_path):
    hasher = zoo.load("ssdh-digits-48")
    x = np.random.default_rng(0).normal(size=(5, 64)).astype("float32")
    hasher.index(x, tmp_path / "digits.khs")
    again = CodeStore.open(tmp_path / "digits.khs")
    assert again.search(x[2:3], k=1).ids.tolist() == [[2]]
    hasher.compile("adam")
    hasher.fit(x, np.arange(5), epochs=1, verbose=0)
    hasher.index(x, tmp_path / "trained.khs")
    with pytest.raises(ValueError, match="needs its model"):
        CodeStore.open(tmp_path / "trained.khs").search(x)


def test_what_cannot_be_indexed_is_refused_and_leaves_nothing(
    hasher, tmp_path, monkeypatch, collect_garbage
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    layers = [keras.layers.Flatten()]
    unbuilt = kerashash.AdaLabelHash(keras.Sequential(layers), bits=8, num_classes=2)
    with pytest.raises(ValueError, match="must be built"):
        unbuilt.index(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="'nowhere', where there is nothing"):
        hasher.index("nowhere")
    collect_garbage()
    assert not os.listdir(tmp_path)


def test_results_are_shown_as_thumbnails(hasher, photos):
    shown = hasher.index(photos, verbose=0).search(photos[1], k=2)._repr_html_()
    assert shown.count('src="data:image/jpeg;base64,') == 3
    captions = re.findall("<figcaption>(.*?)</figcaption>", shown)
    assert captions[0] == "query: b &amp; c.png"
    assert captions[1] == "0 bits: " + html.escape(os.path.abspath(photos[1]))


def test_results_without_pictures_are_shown_as_a_table(tmp_path):
    store = CodeStore.create(tmp_path / "codes.khs", bits=8)
    codes = np.arange(30, dtype=np.uint8)[:, None]
    store.add(codes, columns={"name": [f"<{n}>" for n in range(30)]})
    shown = store.search(codes[:8], k=30)._repr_html_()
    assert shown.count("<table>") == pictures._SHOWN_QUERIES
    assert "<td>0</td><td>0</td><td>&lt;0&gt;</td>" in shown
    assert "and 10 more rows" in shown
    assert "and 3 more queries" in shown
    assert store.within(codes[:1], 0)._repr_html_().count("<td>") == 3


def test_the_zoo_is_shown_as_tables():
    names = zoo.list()
    shown = names._repr_html_()
    assert names == sorted(names)
    assert all(f"<td>{name}" in shown for name in names)
    entry = zoo.entry("dcdh-nuswide-48")
    assert "surrogate" in entry._repr_html_()
    value = f"<td>{entry.card['metrics'][0]['value']:.4f}</td>"
    assert value in entry.card._repr_html_()
    assert value in shown


def test_a_table_escapes_and_shortens():
    shown = notebook.table(["<a>"], [["x" * 1000]])
    assert "<a>" not in shown
    assert "…" in shown
    assert len(shown) < 600
