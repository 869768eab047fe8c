"""NUS-WIDE: 269,648 photographs from Flickr with 81 concepts."""

import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from kerashash.checks import listing
from kerashash.data.builders.files import check_files
from kerashash.data.builders.image_files import ImageFilesBuilder

# fmt: off
CONCEPTS = (
    "airport", "animal", "beach", "bear", "birds", "boats", "book", "bridge",
    "buildings", "cars", "castle", "cat", "cityscape", "clouds", "computer",
    "coral", "cow", "dancing", "dog", "earthquake", "elk", "fire", "fish", "flags",
    "flowers", "food", "fox", "frost", "garden", "glacier", "grass", "harbor",
    "horses", "house", "lake", "leaf", "map", "military", "moon", "mountain",
    "nighttime", "ocean", "person", "plane", "plants", "police", "protest",
    "railroad", "rainbow", "reflection", "road", "rocks", "running", "sand", "sign",
    "sky", "snow", "soccer", "sports", "statue", "street", "sun", "sunset", "surf",
    "swimmers", "tattoo", "temple", "tiger", "tower", "town", "toy", "train",
    "tree", "valley", "vehicle", "water", "waterfall", "wedding", "whales",
    "window", "zebra",
)
# fmt: on
_NAME = re.compile(r"[^/]+/\d+_\d+\.jpg")


class GroundTruth(NamedTuple):
    """Labels and splits of NUS-WIDE, in the order of ``Imagelist.txt``.

    Attributes:
        names: str array ``(n,)``, such as "actor/0001_2124494179.jpg".
        labels: uint8 array ``(n, 81)``, values in {0, 1}; the columns are `CONCEPTS`.
        is_train: bool array ``(n,)``; whether the publisher trains on an image or tests
            on it.
    """

    names: npt.NDArray[np.str_]
    labels: npt.NDArray[np.uint8]
    is_train: npt.NDArray[np.bool_]


def read_ground_truth(
    folder: str | os.PathLike[str], num_images: int = 269_648, num_train: int = 161_789
) -> GroundTruth:
    """Read the names, labels and splits, without the images.

    Args:
        folder: path of the folder that holds ``ImageList`` (``Imagelist.txt``,
            ``TrainImagelist.txt`` and ``TestImagelist.txt``, a name in each line) and
            ``Groundtruth/AllLabels`` (``Labels_<concept>.txt`` for each of
            `CONCEPTS`, 0 or 1 in each line).
        num_images: int; the number of images.
        num_train: int; how many of them are training images.

    Returns:
        `GroundTruth`.

    Raises:
        FileNotFoundError: if files are missing; the error names them.
        ValueError: if a file does not have one line for each image, a line is wrong, a
            name is repeated, or the training and test images together are not all
            images, each once. The error names the file, the line and the value.

    Example:
        >>> truth = read_ground_truth("manual/nus_wide")  # doctest: +SKIP
        >>> truth.labels.shape, truth.is_train.sum()  # doctest: +SKIP
        ((269648, 81), 161789)
    """
    folder = pathlib.Path(folder)
    lists = [
        folder / "ImageList" / f"{part}Imagelist.txt" for part in ("", "Train", "Test")
    ]
    tables = [
        folder / "Groundtruth" / "AllLabels" / f"Labels_{concept}.txt"
        for concept in CONCEPTS
    ]
    check_files([*lists, *tables])
    names = _read_names(lists[0], num_images)
    train = set(_read_names(lists[1], num_train))
    test = set(_read_names(lists[2], num_images - num_train))
    # The numbers of lines are checked: a name in both lists means that one is missing.
    wrong = set(names) ^ (train | test)
    if wrong:
        raise ValueError(
            f"{lists[1]} and {lists[2]} must together hold the images of {lists[0]}, "
            f"each once. They differ in {listing(sorted(wrong))}."
        )
    labels = np.empty((num_images, len(CONCEPTS)), np.uint8)
    for column, file in enumerate(tables):
        labels[:, column] = _read_labels(file, num_images)
    is_train = np.array([name in train for name in names])
    return GroundTruth(np.array(names), labels, is_train)


def _read_lines(file: pathlib.Path, count: int) -> list[bytes]:
    """Read the lines of a file; refuse another number of them."""
    lines = file.read_bytes().splitlines()
    if len(lines) != count:
        raise ValueError(
            f"{file} must have {count:,} lines, one for each image. "
            f"Received: {len(lines):,} lines."
        )
    return lines


def _read_names(file: pathlib.Path, count: int) -> list[str]:
    """Read the names of images, each once, with forward slashes."""
    names = [
        line.decode("utf-8", "replace").strip().replace("\\", "/")
        for line in _read_lines(file, count)
    ]
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if name in seen or not _NAME.fullmatch(name):
            rule = "each name once" if name in seen else "folder/number_number.jpg"
            raise ValueError(
                f"{file} must hold {rule}. Received in line {number}: {name!r}."
            )
        seen.add(name)
    return names


def _read_labels(file: pathlib.Path, count: int) -> npt.NDArray[np.bool_]:
    """Read a column of labels, 0 or 1 in each line."""
    # As objects: NumPy's own bytes lose the zeros at their end.
    lines = np.array(_read_lines(file, count), object)
    ones = lines == b"1"
    wrong = np.flatnonzero(~ones & (lines != b"0"))
    if wrong.size:
        value = lines[wrong[0]].decode("utf-8", "replace")
        raise ValueError(
            f"{file} must hold 0 or 1. Received in line {wrong[0] + 1}: {value!r}."
        )
    return ones


class NusWide(ImageFilesBuilder):
    """Builder of NUS-WIDE, with the arguments of `ImageFilesBuilder`.

    It has the publisher's splits "train" (161,789) and "test" (107,859), each in the
    order of ``Imagelist.txt``. Many of the images are no longer on Flickr: a copy that
    was downloaded by the images' addresses needs ``allow_missing=True``.

    Reference:
        T.-S. Chua, J. Tang, R. Hong, H. Li, Z. Luo, Y. Zheng, NUS-WIDE: A Real-World
        Web Image Database from National University of Singapore, CIVR 2009.
    """

    name = "nus_wide"
    FOLDERS = ("nus_wide", "nuswide", "NUS-WIDE")
    LANDMARK = "Groundtruth"
    NUM_IMAGES = 269_648
    NUM_TRAIN = 161_789
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    From https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html
    download the ground truth and the image list. The images are sent by the publisher
    to researchers who return the signed agreement form of that page; there is also a
    list of their addresses at Flickr, many of which are dead. Unpack everything in the
    folder nus_wide (or nuswide, or NUS-WIDE) of TFDS's manual folder,
    ~/tensorflow_datasets/downloads/manual by default:

        nus_wide/
          Groundtruth/AllLabels/Labels_airport.txt ... Labels_zebra.txt (81 concepts)
          ImageList/Imagelist.txt, TrainImagelist.txt, TestImagelist.txt
          Flickr/actor/0001_2124494179.jpg ...

    Images are found by their file names, which are unique, anywhere below Flickr or
    images: a single folder with all of them, images/0001_2124494179.jpg, works too.

    The agreement form states the terms of use.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self._image_info(
            tfds.features.Text(),
            "labels",
            tfds.features.Sequence(tfds.features.ClassLabel(names=CONCEPTS)),
            description=(
                "269,648 photographs from Flickr, annotated with 81 concepts. `id` is "
                "the image's name in Imagelist.txt."
            ),
            homepage=(
                "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/"
                "NUS-WIDE.html"
            ),
            citation="""\
            @inproceedings{chua2009nuswide,
              author = {Tat-Seng Chua and Jinhui Tang and Richang Hong and Haojie Li and
                Zhiping Luo and Yantao Zheng},
              title = {{NUS-WIDE}: A Real-World Web Image Database from National
                University of Singapore},
              booktitle = {ACM International Conference on Image and Video Retrieval},
              year = {2009},
            }""",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        folder = self._folder(dl_manager)
        truth = read_ground_truth(folder, self.NUM_IMAGES, self.NUM_TRAIN)
        names: list[str] = truth.names.tolist()
        paths = {
            path.name: path
            for images in ("Flickr", "images")
            for path in (folder / images).rglob("*.jpg")
        }
        files = self._present(names, [paths.get(n.split("/")[1]) for n in names])

        def features(row: int) -> dict[str, Any]:
            return {"id": names[row], "labels": np.flatnonzero(truth.labels[row])}

        splits = {
            split: {
                row: path for row, path in files.items() if truth.is_train[row] == train
            }
            for split, train in (("train", True), ("test", False))
        }
        # TFDS refuses empty splits.
        return {
            split: self._generate_examples(names, split_files, features)
            for split, split_files in splits.items()
            if split_files
        }
