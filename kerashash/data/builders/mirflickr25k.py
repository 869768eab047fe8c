"""MIRFLICKR-25000: 25,000 photographs from Flickr with 38 annotations."""

import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from kerashash.data.builders.files import check_files
from kerashash.data.builders.image_files import ImageFilesBuilder

# fmt: off
POTENTIAL = (
    "animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food",
    "indoor", "lake", "male", "night", "people", "plant_life", "portrait", "river",
    "sea", "sky", "structures", "sunset", "transport", "tree", "water",
)
RELEVANT = (
    "baby_r1", "bird_r1", "car_r1", "clouds_r1", "dog_r1", "female_r1", "flower_r1",
    "male_r1", "night_r1", "people_r1", "portrait_r1", "river_r1", "sea_r1",
    "tree_r1",
)
# fmt: on
LABELS = POTENTIAL + RELEVANT

_ANNOTATIONS = "mirflickr25k_annotations_v080"
# Every label occurs all over the data set: the chance that its ids end so early by
# themselves, and its share of the images. In the first 20,000 images the least are
# 0.01 and 0.005.
_LEAST_CHANCE = 1e-6
_LEAST_SHARE = 1e-3


def read_annotations(
    folder: str | os.PathLike[str], num_images: int = 25_000, complete: bool = False
) -> npt.NDArray[np.uint8]:
    """Read the 38 annotation files.

    Each line of a file that has been cut may be right. What is wrong shows in its ids:
    the last one is the start of a number, or they end where other labels go on.

    Args:
        folder: path of the folder that holds ``mirflickr25k_annotations_v080``, with a
            file ``<label>.txt`` for each of `LABELS`: the id of one image in each line.
        num_images: int; the number of images, which is also the largest id.
        complete: bool; whether the files are for all images. If not, they may all end
            at a smaller id.

    Returns:
        uint8 array ``(num_images, 38)``, values in {0, 1}. Row i is the image with id
        i + 1; the columns are `LABELS`, the 24 potential labels first.

    Raises:
        FileNotFoundError: if files are missing; the error names them.
        ValueError: if one is no regular file or has been cut, or a line is not an id or
            repeats one; the error names the file, the line and the value.

    Example:
        >>> labels = read_annotations("manual/mirflickr25k")  # doctest: +SKIP
        >>> labels.shape  # doctest: +SKIP
        (25000, 38)
    """
    folder = pathlib.Path(folder) / _ANNOTATIONS
    files = [folder / f"{label}.txt" for label in LABELS]
    check_files(files)
    labels = np.zeros((num_images, len(LABELS)), np.uint8)
    for column, file in enumerate(files):
        # Bytes, whose lines end as those of files: text has further ends of lines.
        content = file.read_bytes()
        row, line = -1, b""
        for number, line in enumerate(content.rstrip().splitlines(), 1):
            text = line.strip()
            # Of thousands of digits Python makes no number.
            row = int(text) - 1 if text.isdigit() and len(text) < 20 else -1
            received = f"{line.decode('utf-8', 'replace')!r:.99}"
            if not 0 <= row < num_images:
                raise ValueError(
                    f"{file}, line {number} must be an id from 1 to {num_images}. "
                    f"Received: {received}."
                )
            if labels[row, column]:
                raise ValueError(
                    f"{file} must hold each id once. Received again in line {number}: "
                    f"{received}."
                )
            labels[row, column] = 1
        # The first digits of a number are a smaller number.
        if not content.endswith((b"\n", b"\r")) and labels[row + 1 :, column].any():
            raise ValueError(
                f"{file} must end with a line end: it has been cut. Received last: "
                f"{line.decode()!r}."
            )
    _check_ends(labels, files, num_images if complete else None)
    return labels


def _check_ends(
    labels: npt.NDArray[np.uint8], files: list[pathlib.Path], last: int | None
) -> None:
    """Refuse files that have been cut at the end of a line.

    Args:
        labels: uint8 array ``(n, classes)``.
        files: list of paths, one for each column.
        last: int or None; the largest id that is annotated, None for that of `labels`.

    Raises:
        ValueError: if a file is empty, or its ids end too early.
    """
    if last is None:
        last = int(np.flatnonzero(labels.any(axis=1)).max(initial=-1)) + 1
    least = math.log(_LEAST_CHANCE)
    for column, file in enumerate(files):
        ids = np.flatnonzero(labels[:, column]) + 1
        # The chance that, of so many ids anywhere, none is larger than the last one.
        if (
            ids.size <= _LEAST_SHARE * last
            or ids.size * math.log(ids[-1] / last) < least
        ):
            raise ValueError(
                f"{file} must hold ids from all over the data set, to about {last}: it "
                f"has been cut. Received: {ids.size} ids, to {ids.max(initial=0)}."
            )


class Mirflickr25k(ImageFilesBuilder):
    """Builder of MIRFLICKR-25000, with the arguments of `ImageFilesBuilder`.

    The only split is "train", in order of the ids. Grayscale images are stored
    unchanged; `tfds.load` converts them to RGB.

    Reference:
        M. J. Huiskes, M. S. Lew, The MIR Flickr Retrieval Evaluation, ACM
        International Conference on Multimedia Information Retrieval 2008.
    """

    name = "mirflickr25k"
    FOLDERS = ("mirflickr25k",)
    LANDMARK = _ANNOTATIONS
    NUM_IMAGES = 25_000
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    From http://press.liacs.nl/mirflickr/mirdownload.html download the images,
    mirflickr25k.zip (about 2.9 GB), and the annotations,
    mirflickr25k_annotations_v080.zip, and unpack them in the folder mirflickr25k of
    TFDS's manual folder, ~/tensorflow_datasets/downloads/manual by default:

        unzip mirflickr25k.zip
        unzip mirflickr25k_annotations_v080.zip -d mirflickr25k_annotations_v080

        mirflickr25k/
          mirflickr/im1.jpg ... im25000.jpg
          mirflickr25k_annotations_v080/animals.txt ... water.txt (38 labels)

    The images are under Creative Commons licences of their photographers, listed in
    mirflickr/meta/license: credit them; some licences restrict use further.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self._image_info(
            np.int64,
            "labels",
            tfds.features.Sequence(tfds.features.ClassLabel(names=LABELS)),
            description=(
                "25,000 photographs from Flickr, annotated with 24 potential labels "
                "(the topic is visible to some extent) and 14 relevant ones (`_r1`: "
                "it is also salient). `id` is the publisher's, from 1."
            ),
            homepage="http://press.liacs.nl/mirflickr/",
            citation="""\
            @inproceedings{huiskes2008mirflickr,
              author = {Mark J. Huiskes and Michael S. Lew},
              title = {The {MIR} {Flickr} Retrieval Evaluation},
              booktitle = {ACM International Conference on Multimedia Information
                Retrieval},
              year = {2008},
            }""",
            license="Creative Commons, one of several for each image",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        folder = self._folder(dl_manager)
        names = [f"mirflickr/im{i}.jpg" for i in range(1, self.NUM_IMAGES + 1)]
        files = self._present(names, [folder / name for name in names])
        labels = read_annotations(folder, self.NUM_IMAGES, not self.allow_missing)

        def features(row: int) -> dict[str, Any]:
            return {"id": row + 1, "labels": np.flatnonzero(labels[row])}

        return {"train": self._generate_examples(names, files, features)}
