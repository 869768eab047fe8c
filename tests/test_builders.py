"""Builders on small data sets that are laid out as the published ones."""

import pickle

import numpy as np
import pytest
import scipy.io
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from kerashash.data.builders import flowers17, ldl, mirflickr25k, nus_wide

pytest.importorskip("importlib_resources", reason="tensorflow_datasets needs it")

SKIP = {"image": tfds.decode.SkipDecoding()}


class TinyMirflickr25k(mirflickr25k.Mirflickr25k):
    NUM_IMAGES = 24


class TinyFlowers17(flowers17.Flowers17):
    IMAGES_A_CLASS = 1


class TinyNusWide(nus_wide.NusWide):
    NUM_IMAGES = 5
    NUM_TRAIN = 3


class TinyLdl(ldl.Ldl):
    BUILDER_CONFIGS = (
        ldl.LdlConfig(name="known", file="Known.mat", rows=4, dim=3, num_classes=2),
        ldl.LdlConfig(
            name="unknown", file="Unknown.mat", rows=4, dim=None, num_classes=2
        ),
    )


def jpeg(seed, channels=3):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (8 + seed % 3, 9, channels), np.uint8)
    return tf.io.encode_jpeg(image).numpy()


def write_mirflickr25k(manual, count=24):
    folder = manual / "mirflickr25k"
    (folder / "mirflickr").mkdir(parents=True)
    notes = folder / "mirflickr25k_annotations_v080"
    notes.mkdir()
    (notes / "README.txt").write_text("Not a label.")
    for number in range(1, count + 1):
        data = jpeg(number, channels=1 if number == 3 else 3)
        (folder / "mirflickr" / f"im{number}.jpg").write_bytes(data)
    for column, label in enumerate(mirflickr25k.LABELS):
        # Image i has the labels whose column is a multiple of i.
        ids = [i for i in range(1, count + 1) if column % i == 0]
        (notes / f"{label}.txt").write_text("".join(f"{i}\r\n" for i in ids))
    return folder


def write_flowers17(manual):
    folder = manual / "flowers17"
    (folder / "jpg").mkdir(parents=True)
    for number in range(1, 18):
        (folder / "jpg" / f"image_{number:04d}.jpg").write_bytes(jpeg(number))
    return folder


NUS_NAMES = [f"{folder}\\{i:04d}_{i}77.jpg" for i, folder in enumerate("abbca")]
NUS_TRAIN = [0, 2, 4]


def write_nus_wide(manual, name="nus_wide", images="Flickr", flat=False):
    folder = manual / name
    lists, labels = folder / "ImageList", folder / "Groundtruth" / "AllLabels"
    labels.mkdir(parents=True)
    lists.mkdir()
    rows = {"": range(5), "Train": NUS_TRAIN, "Test": [1, 3]}
    for part, part_rows in rows.items():
        lines = "".join(f"{NUS_NAMES[row]}\r\n" for row in part_rows)
        (lists / f"{part}Imagelist.txt").write_text(lines)
    for column, concept in enumerate(nus_wide.CONCEPTS):
        lines = "".join(f"{int(column % 5 == row)}\n" for row in range(5))
        (labels / f"Labels_{concept}.txt").write_text(lines)
    for row, image in enumerate(NUS_NAMES):
        place, file = image.split("\\")
        path = folder / images / ("" if flat else place) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(row))
    return folder


def write_ldl(manual):
    folder = manual / "ldl"
    folder.mkdir(parents=True)
    x = np.arange(12.0).reshape(4, 3)
    d = np.array([[0.25, 0.75], [1, 0], [0.5, 0.5], [0, 1]])
    scipy.io.savemat(folder / "Known.mat", {"features": x, "labels": d})
    arrays = {"features": x[:, :2], "label_distribution": d, "logical_label": d}
    scipy.io.savemat(folder / "Unknown.mat", arrays)
    return folder


def build(cls, manual, data_dir, file_format="array_record", **options):
    builder = cls(data_dir=data_dir, file_format=file_format, **options)
    builder.download_and_prepare(
        download_dir=data_dir / "downloads",
        download_config=tfds.download.DownloadConfig(manual_dir=manual),
    )
    return builder


def test_builders_are_registered(tmp_path):
    names = {"mirflickr25k", "flowers17", "nus_wide", "ldl"}
    assert names <= set(tfds.list_builders())
    for name in names:
        builder = tfds.builder(name, data_dir=tmp_path)
        assert builder.name == name
        assert f"{name}/" in builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    for config in ("raf_ml", "fbp5500", "flickr_ldl", "scut_fbp", "emotion6"):
        builder = tfds.builder(f"ldl/{config}", data_dir=tmp_path)
        assert builder.builder_config.file.lower() == f"{config}.mat"


def test_mirflickr25k_by_row(tmp_path):
    folder = write_mirflickr25k(tmp_path / "manual")
    builder = build(TinyMirflickr25k, tmp_path / "manual", tmp_path)
    source = builder.as_data_source("train", decoders=SKIP)
    labels = mirflickr25k.read_annotations(folder, 24)
    for row in (23, 0, 2, 11):
        example = source[row]
        assert example["id"] == row + 1
        file = folder / "mirflickr" / f"im{row + 1}.jpg"
        assert example["image"] == file.read_bytes()
        np.testing.assert_array_equal(example["labels"], np.flatnonzero(labels[row]))
    assert builder.info.features["labels"].names == list(mirflickr25k.LABELS)
    assert dict(builder.info.metadata) == {"expected": 24, "missing": 0, "damaged": []}


def test_mirflickr25k_as_tf_data(tmp_path):
    write_mirflickr25k(tmp_path / "manual")
    builder = build(TinyMirflickr25k, tmp_path / "manual", tmp_path, "tfrecord")
    examples = list(builder.as_dataset(split="train"))
    assert [int(example["id"]) for example in examples] == list(range(1, 25))
    # Also of the third, which is grayscale.
    assert all(example["image"].shape[-1] == 3 for example in examples)


def test_large_data_sets_stay_in_order_and_out_of_memory(tmp_path, monkeypatch):
    # TFDS reads one bucket of what does not fit in memory at a time.
    buckets = []

    def record(**kwargs):
        buckets.append(number(**kwargs))
        return buckets[-1]

    number = shuffle.get_bucket_number
    monkeypatch.setattr(shuffle, "get_bucket_number", record)
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    write_mirflickr25k(tmp_path / "manual")
    builder = build(TinyMirflickr25k, tmp_path / "manual", tmp_path)
    assert len(set(buckets)) == 24
    source = builder.as_data_source("train", decoders=SKIP)
    assert [example["id"] for example in source] == list(range(1, 25))


def test_flowers17_labels_and_official_splits(tmp_path):
    folder = write_flowers17(tmp_path / "manual")
    splits = {
        name: np.arange(1, 18)[None, i % 3 :: 3]
        for i, name in enumerate(flowers17.SPLITS)
    }
    scipy.io.savemat(folder / "datasplits.mat", splits)
    build(TinyFlowers17, tmp_path / "manual", tmp_path)
    builder = TinyFlowers17(data_dir=tmp_path)
    source = builder.as_data_source("train")
    assert [example["id"] for example in source] == list(range(1, 18))
    assert [example["label"] for example in source] == list(range(17))
    assert source[0]["image"].shape == (9, 9, 3)
    datasplits = builder.info.metadata["datasplits"]
    assert datasplits == {name: ids.ravel().tolist() for name, ids in splits.items()}


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"name": "nuswide", "flat": True},
        {"name": "NUS-WIDE", "images": "images", "flat": True},
        {"name": ""},
    ],
    ids=str,
)
def test_nus_wide_layouts(tmp_path, layout):
    folder = write_nus_wide(tmp_path / "manual", **layout)
    builder = build(TinyNusWide, tmp_path / "manual", tmp_path)
    truth = nus_wide.read_ground_truth(folder, 5, 3)
    names = [name.replace("\\", "/") for name in NUS_NAMES]
    np.testing.assert_array_equal(truth.names, names)
    np.testing.assert_array_equal(np.flatnonzero(truth.is_train), NUS_TRAIN)
    for split, rows in (("train", NUS_TRAIN), ("test", [1, 3])):
        source = builder.as_data_source(split, decoders=SKIP)
        for row, example in zip(rows, source, strict=True):
            assert example["id"].decode() == names[row]
            assert example["image"] == jpeg(row)
            assert example["labels"] == list(range(row, 81, 5))
            np.testing.assert_array_equal(
                example["labels"], np.flatnonzero(truth.labels[row])
            )


@pytest.mark.parametrize(("config", "dim"), [("known", 3), ("unknown", 2)])
def test_ldl_rows(tmp_path, config, dim):
    folder = write_ldl(tmp_path / "manual")
    builder = build(TinyLdl, tmp_path / "manual", tmp_path, config=config)
    features, d = ldl.read_mat(folder / f"{config.title()}.mat")
    assert (features.dtype, features.shape) == (np.float32, (4, dim))
    for row, example in enumerate(builder.as_data_source("train")):
        np.testing.assert_array_equal(example["features"], features[row])
        np.testing.assert_array_equal(example["distribution"], d[row])


def test_incomplete_data_sets_never_pass_for_complete_ones(tmp_path):
    folder = write_mirflickr25k(tmp_path / "manual") / "mirflickr"
    whole = (folder / "im2.jpg").read_bytes()
    (folder / "im1.jpg").rename(tmp_path / "im1.jpg")
    (folder / "im2.jpg").write_bytes(whole[:-9])
    builder = build(TinyMirflickr25k, tmp_path / "manual", tmp_path, allow_missing=True)
    expected = {
        "expected": 24,
        "missing": 2,
        "damaged": ["mirflickr/im2.jpg (not a JPEG image, or truncated)"],
    }
    reloaded = tfds.builder("tiny_mirflickr25k", data_dir=tmp_path, allow_missing=True)
    for b in (builder, reloaded, pickle.loads(pickle.dumps(builder))):
        assert b.allow_missing
        assert b.is_prepared()
        assert dict(b.info.metadata) == expected
        source = b.as_data_source("train", decoders=SKIP)
        assert [example["id"] for example in source] == list(range(3, 25))

    for name in ("tiny_mirflickr25k", "tiny_mirflickr25k:1.0.0"):
        assert not tfds.builder(name, data_dir=tmp_path).is_prepared()
    (tmp_path / "im1.jpg").rename(folder / "im1.jpg")
    (folder / "im2.jpg").write_bytes(whole)
    complete = build(TinyMirflickr25k, tmp_path / "manual", tmp_path)
    assert complete.info.splits["train"].num_examples == 24
    assert complete.info.metadata["missing"] == 0
    incomplete = TinyMirflickr25k(data_dir=tmp_path, config="incomplete")
    assert incomplete.info.metadata["missing"] == 2
    with pytest.raises(ValueError, match="`config` must be 'incomplete' or None"):
        TinyMirflickr25k(data_dir=tmp_path, config="complete", allow_missing=True)


def test_splits_without_images_are_left_out(tmp_path):
    folder = write_nus_wide(tmp_path / "manual", flat=True)
    for row in NUS_TRAIN:
        (folder / "Flickr" / NUS_NAMES[row].split("\\")[1]).unlink()
    builder = build(TinyNusWide, tmp_path / "manual", tmp_path, allow_missing=True)
    assert list(builder.info.splits) == ["test"]
    assert builder.info.metadata["missing"] == 3
