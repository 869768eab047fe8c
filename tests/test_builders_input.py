"""What the builders refuse, and what they say."""

import io
import os
import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.io
import tensorflow as tf
from test_builders import (
    TinyFlowers17,
    TinyLdl,
    TinyMirflickr25k,
    TinyNusWide,
    build,
    write_flowers17,
    write_ldl,
    write_mirflickr25k,
    write_nus_wide,
)

from kerashash.data import protocols
from kerashash.data.builders import flowers17, ldl, mirflickr25k, nus_wide
from kerashash.data.builders.image_files import jpeg_fault

CASES = {
    "mirflickr25k": TinyMirflickr25k,
    "flowers17": TinyFlowers17,
    "nus_wide": TinyNusWide,
    "ldl": TinyLdl,
}


def records(folder):
    return [path for path in folder.rglob("*") if "record" in path.name]


@pytest.mark.parametrize("name", CASES)
def test_empty_folders_say_what_to_put_there(tmp_path, name):
    cls = CASES[name]
    instructions = cls.MANUAL_DOWNLOAD_INSTRUCTIONS.split("\n")[0].strip()
    manual = tmp_path / "manual"
    for error in (AssertionError, FileNotFoundError):  # of TFDS, then of the builder
        with pytest.raises(error, match="no") as caught:
            build(cls, manual, tmp_path / "out")
        assert instructions in str(caught.value)
        assert not records(tmp_path / "out")
        (manual / name).mkdir(parents=True, exist_ok=True)


def test_missing_images_are_counted_and_the_first_ten_named(tmp_path):
    folder = write_mirflickr25k(tmp_path / "manual")
    for number in range(7, 22):
        (folder / "mirflickr" / f"im{number}.jpg").unlink()
    with pytest.raises(FileNotFoundError) as error:
        build(TinyMirflickr25k, tmp_path / "manual", tmp_path / "out")
    message = str(error.value)
    names = ", ".join(f"mirflickr/im{number}.jpg" for number in range(7, 17))
    assert (
        f"tiny_mirflickr25k must have all of its 24 images. Missing: 15 files: {names}"
        in message
    )
    assert f"{names} and 5 more. `allow_missing=True`" in message
    assert "unzip mirflickr25k.zip" in message
    assert not records(tmp_path / "out")


def test_no_image_at_all_is_refused_even_if_some_may_be_missing(tmp_path):
    folder = write_nus_wide(tmp_path / "manual")
    shutil.rmtree(folder / "Flickr")
    with pytest.raises(FileNotFoundError, match="Missing: 5 files: a/0000"):
        build(TinyNusWide, tmp_path / "manual", tmp_path, allow_missing=True)


def test_damaged_images_are_named_with_their_fault(tmp_path):
    folder = write_flowers17(tmp_path / "manual") / "jpg"
    (folder / "image_0002.jpg").write_bytes(b"")
    whole = (folder / "image_0009.jpg").read_bytes()
    (folder / "image_0009.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="2 files: ") as error:
        build(TinyFlowers17, tmp_path / "manual", tmp_path / "out")
    assert f"{folder / 'image_0002.jpg'} (empty)" in str(error.value)
    assert f"{folder / 'image_0009.jpg'} (not a JPEG image, or" in str(error.value)
    assert not records(tmp_path / "out")


def test_jpeg_faults():
    unreadable = "not a JPEG image, or truncated"
    image = np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3)
    for channels in (1, 3):
        for options in ({}, {"format": "", "progressive": True}):
            data = tf.io.encode_jpeg(image[..., :channels], **options).numpy()
            assert jpeg_fault(data) is None
            for cut in (1, 2, len(data) // 3, len(data) - 4):
                assert jpeg_fault(data[:-cut]) == unreadable
    assert jpeg_fault(tf.io.encode_png(image).numpy()) == unreadable
    file = io.BytesIO()
    PIL.Image.fromarray(image).convert("CMYK").save(file, "JPEG")
    assert jpeg_fault(file.getvalue()) == "4 channels"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n2\nthree\n", r"sky\.txt, line 3 must be an id from 1 to 24.*'three'"),
        ("1\n25\n", r"sky\.txt, line 2 must be an id from 1 to 24.*'25'"),
        ("0\n", r"sky\.txt, line 1 must be an id.*'0'"),
        ("-3\n", r"sky\.txt, line 1 must be an id.*'-3'"),
        ("4\n\n5\n", r"sky\.txt, line 2 must be an id.*''"),
        ("5\n4\n5\n", r"sky\.txt must hold each id once.*line 3: '5'"),
        ("1" * 5000, r"sky\.txt, line 1 must be an id.*'1{50}"),
        ("1\u20282\n", r"sky\.txt, line 1 must be an id"),
    ],
)
def test_wrong_annotations_are_named(tmp_path, content, message):
    folder = write_mirflickr25k(tmp_path / "manual")
    (folder / "mirflickr25k_annotations_v080" / "sky.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        mirflickr25k.read_annotations(folder, 24)
    with pytest.raises(ValueError, match=message):
        build(TinyMirflickr25k, tmp_path / "manual", tmp_path, allow_missing=True)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_named(tmp_path, kind):
    make = os.mkdir if kind == "folder" else os.mkfifo
    folder = write_mirflickr25k(tmp_path / "manual")
    image = folder / "mirflickr" / "im3.jpg"
    image.unlink()
    make(image)
    with pytest.raises(ValueError, match=r"im3\.jpg \(not a regular file\)"):
        build(TinyMirflickr25k, tmp_path / "manual", tmp_path / "out")
    labels = folder / "mirflickr25k_annotations_v080" / "sky.txt"
    labels.unlink()
    make(labels)
    with pytest.raises(ValueError, match=r"sky\.txt must be a file.*not a regular"):
        mirflickr25k.read_annotations(folder, 24)
    make(tmp_path / "datasplits.mat")
    with pytest.raises(ValueError, match=r"datasplits\.mat must be a file"):
        flowers17.read_splits(tmp_path)
    folder = write_nus_wide(tmp_path)
    labels = folder / "ImageList" / "Imagelist.txt"
    labels.unlink()
    make(labels)
    with pytest.raises(ValueError, match=r"Imagelist\.txt must be a file"):
        nus_wide.read_ground_truth(folder, 5, 3)


def test_missing_label_files_are_named(tmp_path):
    folder = write_mirflickr25k(tmp_path)
    (folder / "mirflickr25k_annotations_v080" / "sky.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"Missing 1 file: .*sky\.txt"):
        mirflickr25k.read_annotations(folder, 24)
    folder = write_nus_wide(tmp_path)
    for concept in nus_wide.CONCEPTS[20:]:
        (folder / "Groundtruth" / "AllLabels" / f"Labels_{concept}.txt").unlink()
    (folder / "ImageList" / "TestImagelist.txt").unlink()
    message = r"Missing 62 files: .*TestImagelist\.txt, .*_flags\.txt.* and 52 more"
    with pytest.raises(FileNotFoundError, match=message):
        nus_wide.read_ground_truth(folder, 5, 3)


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("lake", "0 1 0 0 -1130179", r"_lake\.txt must hold 0 or 1.*5: '-1130179'"),
        ("lake", "0 1 2 0 0", r"_lake\.txt must hold 0 or 1.*line 3: '2'"),
        ("lake", "0 1\0 0 0 0", r"_lake\.txt must hold 0 or 1.*line 2: '1.x00'"),
        ("lake", "0 1 0 0", r"_lake\.txt must have 5 lines.*Received: 4 lines"),
        ("lake", "", r"_lake\.txt must have 5 lines.*Received: 0 lines"),
        ("Train", "a/0000_077.jpg b/0001_177.jpg", r"Train.* must have 3 lines"),
        (
            "",
            "a/0000_077.jpg b/0001_177.jpg a/0000_077.jpg c/3_3.jpg a/4_4.jpg",
            r"Imagelist\.txt must hold each name once.*line 3: 'a/0000_077\.jpg'",
        ),
        (
            "",
            "a/0000_077.jpg ../../x.jpg b/2_2.jpg c/3_3.jpg a/4_4.jpg",
            r"must hold folder/number_number\.jpg.*line 2: '\.\./\.\./x\.jpg'",
        ),
        (
            "Test",
            "a/0000_077.jpg c/0003_377.jpg",
            r"must together hold .* differ in 1 file: b/0001_177\.jpg",
        ),
    ],
)
def test_wrong_ground_truth_is_named(tmp_path, file, lines, message):
    folder = write_nus_wide(tmp_path)
    path = folder / "Groundtruth" / "AllLabels" / f"Labels_{file}.txt"
    if file != "lake":
        path = folder / "ImageList" / f"{file}Imagelist.txt"
    path.write_text("".join(f"{line}\n" for line in lines.split()))
    with pytest.raises(ValueError, match=message):
        nus_wide.read_ground_truth(folder, 5, 3)


def test_most_frequent_names_bad_numbers():
    with pytest.raises(ValueError, match="`k` must be at most 3"):
        protocols.most_frequent(np.ones((2, 3)), 4)
    labels = np.array([[1, 0, 1, 1], [1, 0, 1, 0]])
    assert protocols.most_frequent(labels, 3).tolist() == [0, 2, 3]


def test_wrong_splits_of_flowers17_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"datasplits\.mat"):
        flowers17.read_splits(tmp_path)
    path = tmp_path / "datasplits.mat"
    path.write_text("trn1\n" * 100)
    with pytest.raises(ValueError, match=r"datasplits\.mat must be a \.mat file"):
        flowers17.read_splits(tmp_path)
    splits = {name: np.arange(1, 9)[None] for name in flowers17.SPLITS}
    for ids in ([0, 1], [1, 1361], [4, 4], [1, 2.7]):
        scipy.io.savemat(path, {**splits, "val2": ids})
        with pytest.raises(ValueError, match=r"`val2` must hold ids from 1 to 1360"):
            flowers17.read_splits(tmp_path)
    del splits["tst3"]
    scipy.io.savemat(path, splits)
    with pytest.raises(ValueError, match=r"Missing: \['tst3'\]"):
        flowers17.read_splits(tmp_path)


def test_wrong_distributions_are_named(tmp_path):
    path = write_ldl(tmp_path / "manual") / "Known.mat"
    arrays = scipy.io.loadmat(path)
    x, d = arrays["features"], arrays["labels"]
    cases = {
        "must hold the arrays `features` and `labels`": {"x": x, "labels": d},
        "rows that sum to 1": {"features": x, "labels": 2 * d},
        "one row for each of the 4": {"features": x, "labels": d[:2]},
        "must be finite": {"features": x * np.nan, "labels": d},
        r"4 rows of 3 features and 2 classes.*3 rows, 3": {
            "features": x[:3],
            "labels": d[:3],
        },
        r"of 3 features.*2 features, 2 classes": {"features": x[:, :2], "labels": d},
    }
    for message, content in cases.items():
        scipy.io.savemat(path, content)
        with pytest.raises(ValueError, match=message) as error:
            build(TinyLdl, tmp_path / "manual", tmp_path / "out")
        assert "Known.mat" in str(error.value)
        assert not records(tmp_path / "out")
    path.write_text("no .mat file\n" * 20)
    with pytest.raises(ValueError, match=r"Known\.mat must be a \.mat file"):
        ldl.read_mat(path)
