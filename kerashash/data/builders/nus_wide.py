"""NUS-WIDE: 269,648 photographs from Flickr with 81 concepts."""

import pathlib
import re
from typing import NamedTuple

import numpy as np
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
        names: str array ``(n,)``, as "actor/0001_2124494179.jpg".
        labels: uint8 array ``(n, 81)``, values in {0, 1}; the columns are `CONCEPTS`.
        is_train: bool array ``(n,)``, the publisher's training images; the others are
            its test images.
    """

    names: np.ndarray
    labels: np.ndarray
    is_train: np.ndarray


def read_ground_truth(folder, num_images=269_648, num_train=161_789):
    """Read names, labels and splits; no image is needed.

    Args:
        folder: path of the folder that holds ``ImageList`` (``Imagelist.txt``,
            ``TrainImagelist.txt`` and ``TestImagelist.txt``, one name a line) and
            ``Groundtruth/AllLabels`` (``Labels_<concept>.txt`` for each of
            `CONCEPTS`, 0 or 1 a line).
        num_images: int, the number of images.
        num_train: int, how many of them are training images.

    Returns:
        `GroundTruth`.

    Raises:
        FileNotFoundError: if files are missing, naming them.
        ValueError: if a file has not one line for each image, if a line is wrong or
            a name repeated, naming file, line and value; or if the training and test
            images are not all images, each once.

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
    counts = (num_images, num_train, num_images - num_train)
    names, train, test = map(_read_names, lists, counts)
    wrong = set(names) ^ {*train, *test}
    if wrong:
        raise ValueError(
            f"{lists[1]} and {lists[2]} must hold between them the images of "
            f"{lists[0]}, each once. Received wrongly {listing(sorted(wrong))}."
        )
    labels = np.empty((num_images, len(CONCEPTS)), np.uint8)
    for column, file in enumerate(tables):
        labels[:, column] = _read_labels(file, num_images)
    train = set(train)
    is_train = np.array([name in train for name in names])
    return GroundTruth(np.array(names), labels, is_train)


def _read_lines(file, count):
    lines = file.read_bytes().splitlines()
    if len(lines) != count:
        raise ValueError(
            f"{file} must have {count:,} lines, one an image. "
            f"Received: {len(lines):,} lines."
        )
    return lines


def _read_names(file, count):
    names = [
        line.decode("utf-8", "replace").strip().replace("\\", "/")
        for line in _read_lines(file, count)
    ]
    seen = set()
    for number, name in enumerate(names, 1):
        if name in seen or not _NAME.fullmatch(name):
            rule = "each name once" if name in seen else "folder/number_number.jpg"
            raise ValueError(
                f"{file} must hold {rule}. Received in line {number}: {name!r}."
            )
        seen.add(name)
    return names


def _read_labels(file, count):
    lines = np.array(_read_lines(file, count))
    ones = lines == b"1"
    wrong = np.flatnonzero(~ones & (lines != b"0"))
    if wrong.size:
        value = lines[wrong[0]].decode("utf-8", "replace")
        raise ValueError(
            f"{file} must hold 0 or 1. Received in line {wrong[0] + 1}: {value!r}."
        )
    return ones


class NusWide(ImageFilesBuilder):
    """Builder of NUS-WIDE; see `ImageFilesBuilder` for its arguments.

    The publisher's splits "train" (161,789) and "test" (107,859), each in the order
    of ``Imagelist.txt``. Many of the images have been taken off Flickr since: whoever
    has fetched them by their addresses needs ``allow_missing=True``.

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
    list of their addresses at Flickr, of which many are gone. Unpack all in the folder
    nus_wide (nuswide and NUS-WIDE do too) of TFDS's manual folder,
    ~/tensorflow_datasets/downloads/manual by default:

        nus_wide/
          Groundtruth/AllLabels/Labels_airport.txt ... Labels_zebra.txt (81 concepts)
          ImageList/Imagelist.txt, TrainImagelist.txt, TestImagelist.txt
          Flickr/actor/0001_2124494179.jpg ...

    Images are found by their file names, which are unique, anywhere below Flickr or
    images: one folder of all of them, images/0001_2124494179.jpg, will do.

    The agreement form states the terms of use.
    """

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "269,648 photographs from Flickr, annotated with 81 concepts. `id` is "
                "the image's name in Imagelist.txt."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "labels": tfds.features.Sequence(
                        tfds.features.ClassLabel(names=CONCEPTS)
                    ),
                }
            ),
            supervised_keys=("image", "labels"),
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
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        folder = self._folder(dl_manager)
        names, labels, is_train = read_ground_truth(
            folder, self.NUM_IMAGES, self.NUM_TRAIN
        )
        names = names.tolist()
        paths = {
            path.name: path
            for images in ("Flickr", "images")
            for path in (folder / images).rglob("*.jpg")
        }
        files = self._present(names, [paths.get(n.split("/")[1]) for n in names])

        def features(row):
            return {"id": names[row], "labels": np.flatnonzero(labels[row])}

        splits = {
            split: {row: path for row, path in files.items() if is_train[row] == train}
            for split, train in (("train", True), ("test", False))
        }
        # TFDS takes no empty split.
        return {
            split: self._generate_examples(names, found, features)
            for split, found in splits.items()
            if found
        }
