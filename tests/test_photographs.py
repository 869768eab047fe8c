"""Data sets of photographs, from the publisher's files to batches."""

import pickle

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import kerashash
from kerashash.data import EncodedImages, loading, sources
from kerashash.data.builders import flowers17

pytest.importorskip("importlib_resources", reason="tensorflow_datasets needs it")


def jpeg(number):
    """One colour, by class and number."""
    color = (10 * ((number - 1) // 80), (number - 1) % 80 * 3, 0)
    image = np.full((24, 40, 3), color, np.uint8)
    return tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """1,360 images where the user of Flowers 17 would have put them."""
    folder = tmp_path_factory.mktemp("data")
    images = folder / "downloads" / "manual" / "flowers17" / "jpg"
    images.mkdir(parents=True)
    for number in range(1, 1361):
        (images / f"image_{number:04d}.jpg").write_bytes(jpeg(number))
    return folder


def test_photographs_are_prepared_and_read(folder):
    data = kerashash.data.load("flowers17", data_dir=folder, image_size=16)
    assert data.class_names == flowers17.CLASSES
    assert (data.num_train, data.num_query, len(data.splits["validation"])) == (
        680,
        340,
        340,
    )
    for split in ("query", "validation"):
        x, labels = data.arrays(split)
        assert (x.shape[1:], x.dtype) == ((16, 16, 3), np.uint8)
        # Red tells the class; JPEG may be a level off.
        red = np.rint(x[:, 8, 8, 0].astype(int) / 10)
        np.testing.assert_array_equal(red, labels.argmax(axis=1))
    batch, y = next(iter(data.train.batch(64)))
    rows = data.splits["train"][y["index"].numpy()]
    np.testing.assert_array_equal(batch, data.x[rows])
    np.testing.assert_array_equal(y["label"], data.labels[rows])
    # The order in which rows are asked for is the order in which they come.
    np.testing.assert_array_equal(data.x[[700, 3, 700, 50]][1], data.x[3])


def test_photographs_are_read_after_pickling(folder):
    data = kerashash.data.load("flowers17", data_dir=folder, image_size=16)
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again.x[[700, 3]], data.x[[700, 3]])
    np.testing.assert_array_equal(again.splits["query"], data.splits["query"])
    assert again.x.stamp == data.x.stamp


def test_the_draw_is_the_published_one(folder, monkeypatch):
    kerashash.data.load("flowers17", seed=2, data_dir=folder)
    other = loading.published("flowers17")["40-20-20, seed 1"]
    monkeypatch.setattr(loading, "published", lambda _: {"40-20-20, seed 2": other})
    with pytest.raises(ValueError, match="copy of flowers17 is not the published one"):
        kerashash.data.load("flowers17", seed=2, data_dir=folder)


def test_missing_images_are_refused_or_counted(folder, tmp_path):
    images = tmp_path / "downloads" / "manual" / "flowers17" / "jpg"
    images.mkdir(parents=True)
    for number in range(1, 1361):
        if number % 80 != 7:
            (images / f"image_{number:04d}.jpg").write_bytes(jpeg(number))
    with pytest.raises(
        kerashash.data.DatasetUnavailableError,
        match=r"(?s)17 files: jpg/image_0007\.jpg.* and 7 more.*`allow_missing=True`",
    ):
        kerashash.data.load("flowers17", data_dir=tmp_path)
    with pytest.warns(UserWarning, match="flowers17: 17 of 1,360 images are missing"):
        data = kerashash.data.load("flowers17", data_dir=tmp_path, allow_missing=True)
    assert (data.num_train, data.num_query, len(data.x)) == (680, 323, 1343)


def test_nothing_there_says_what_to_do(tmp_path):
    message = r"(?s)mirflickr25k is not prepared.*mirflickr25k_annotations_v080\.zip"
    with pytest.raises(kerashash.data.DatasetUnavailableError, match=message):
        kerashash.data.load("mirflickr25k", data_dir=tmp_path)


def test_a_data_set_in_another_format_says_what_to_do(folder, tmp_path):
    (tmp_path / "downloads").symlink_to(folder / "downloads")
    builder = tfds.builder("flowers17", data_dir=tmp_path)
    builder.download_and_prepare()
    message = r"flowers17/complete/1\.0\.0 in .* array_record\. Remove that folder"
    with pytest.raises(kerashash.data.DatasetUnavailableError, match=message):
        kerashash.data.load("flowers17", data_dir=tmp_path)


def test_records_of_two_splits_are_one_array(tmp_path, monkeypatch):
    """NUS-WIDE has training and test images in files of their own."""
    from test_builders import TinyNusWide, write_nus_wide

    write_nus_wide(tmp_path)
    builder = TinyNusWide(data_dir=tmp_path / "data", file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=tmp_path)
    builder.download_and_prepare(download_config=config)
    monkeypatch.setattr(sources, "prepared", lambda *_, **__: builder)
    source = sources.photographs("nus_wide", image_size=8)
    assert source.is_test.tolist() == [False] * 3 + [True] * 2
    names = source.names.tolist()
    assert sorted(names) != names
    assert source.labels.shape == (5, 81)
    parts = {
        record["id"].decode(): record["image"]
        for split in ("train", "test")
        for record in builder.as_data_source(
            split, decoders={"image": tfds.decode.SkipDecoding()}
        )
    }
    rows = np.array([4, 0, 3, 1, 2, 0])
    files = source.x.encoded(rows)
    assert [*files] == [parts[names[row]] for row in rows]


def test_images_are_resized_only_if_need_be(rng):
    image = rng.integers(0, 256, (9, 9, 3), np.uint8)
    gray = rng.integers(0, 256, (9, 9, 1), np.uint8)
    files = [tf.io.encode_png(image).numpy(), tf.io.encode_png(gray).numpy()]
    same = EncodedImages(lambda rows: [files[row] for row in rows], 2, 9, stamp="")
    np.testing.assert_array_equal(same[0], image)
    np.testing.assert_array_equal(same[1], np.repeat(gray, 3, axis=2))
    assert same[1:1].shape == (0, 9, 9, 3)
    small = EncodedImages(lambda rows: [files[row] for row in rows], 2, 3, stamp="")
    np.testing.assert_allclose(
        small[:1].mean(axis=(0, 1, 2)), image.mean(axis=(0, 1)), atol=12
    )
