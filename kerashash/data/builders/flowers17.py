"""Oxford Flowers 17: 1,360 photographs of 17 kinds of flowers, 80 of each."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from kerashash.data.builders.files import load_mat
from kerashash.data.builders.image_files import ImageFilesBuilder

CLASSES = (
    "daffodil",
    "snowdrop",
    "lily of the valley",
    "bluebell",
    "crocus",
    "iris",
    "tiger lily",
    "tulip",
    "fritillary",
    "sunflower",
    "daisy",
    "coltsfoot",
    "dandelion",
    "cowslip",
    "buttercup",
    "windflower",
    "pansy",
)
SPLITS = tuple(f"{part}{draw}" for draw in (1, 2, 3) for part in ("trn", "val", "tst"))


def read_splits(
    folder: str | os.PathLike[str], num_images: int = 1360
) -> dict[str, npt.NDArray[np.int64]]:
    """Read the publisher's three draws of training, validation and test images.

    Args:
        folder: path of the folder that holds ``datasplits.mat``.
        num_images: int; the number of images, which is also the largest id.

    Returns:
        dict of the names in `SPLITS` to int arrays of ids, from 1. "trn1", "val1" and
        "tst1" are the first draw.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it lacks an array or holds wrong ids; the error names them.

    Example:
        >>> splits = read_splits("manual/flowers17")  # doctest: +SKIP
        >>> [len(splits[name]) for name in ("trn1", "val1", "tst1")]  # doctest: +SKIP
        [680, 340, 340]
    """
    path = pathlib.Path(folder) / "datasplits.mat"
    arrays = load_mat(path)
    missing = [name for name in SPLITS if name not in arrays]
    if missing:
        raise ValueError(f"{path} must hold the arrays {SPLITS}. Missing: {missing}.")
    splits = {}
    for name in SPLITS:
        ids = np.asarray(arrays[name]).ravel()
        if ids.dtype.kind not in "uif" or not np.isfinite(ids).all():
            raise ValueError(
                f"{path}: `{name}` must hold numbers. Received dtype: {ids.dtype}."
            )
        values, counts = np.unique(ids, return_counts=True)
        outside = (values < 1) | (values > num_images) | (values % 1 != 0)
        wrong = values[(counts > 1) | outside]
        if wrong.size:
            raise ValueError(
                f"{path}: `{name}` must hold ids from 1 to {num_images}, each once. "
                f"Received: {wrong[:10].tolist()}."
            )
        splits[name] = ids.astype(np.int64)
    return splits


class Flowers17(ImageFilesBuilder):
    """Builder of Oxford Flowers 17, with the arguments of `ImageFilesBuilder`.

    The only split is "train", in order of the ids. If ``datasplits.mat`` is there when
    the data set is built, ``builder.info.metadata["datasplits"]`` holds the ids of the
    publisher's splits, as `read_splits` returns them.

    Reference:
        M.-E. Nilsback, A. Zisserman, A Visual Vocabulary for Flower Classification,
        CVPR 2006.
    """

    name = "flowers17"
    FOLDERS = ("flowers17",)
    LANDMARK = "jpg"
    IMAGES_A_CLASS = 80
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    From https://www.robots.ox.ac.uk/~vgg/data/flowers/17/ download the images,
    17flowers.tgz, and, if you need the publisher's splits, datasplits.mat. Unpack the
    images in the folder flowers17 of TFDS's manual folder,
    ~/tensorflow_datasets/downloads/manual by default:

        tar -xzf 17flowers.tgz

        flowers17/
          jpg/image_0001.jpg ... image_1360.jpg
          datasplits.mat (optional)
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self._image_info(
            np.int64,
            "label",
            tfds.features.ClassLabel(names=CLASSES),
            description=(
                "1,360 photographs of 17 kinds of flowers common in the UK, 80 of "
                "each. `id` is the publisher's, from 1; the label is "
                "(id - 1) // 80."
            ),
            homepage="https://www.robots.ox.ac.uk/~vgg/data/flowers/17/",
            citation="""\
            @inproceedings{nilsback2006visual,
              author = {Maria-Elena Nilsback and Andrew Zisserman},
              title = {A Visual Vocabulary for Flower Classification},
              booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
              year = {2006},
            }""",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        folder = self._folder(dl_manager)
        num_images = self.IMAGES_A_CLASS * len(CLASSES)
        names = [f"jpg/image_{i:04d}.jpg" for i in range(1, num_images + 1)]
        files = self._present(names, [folder / name for name in names])
        if (folder / "datasplits.mat").exists():
            splits = read_splits(folder, num_images)
            self.info.metadata["datasplits"] = {
                name: ids.tolist() for name, ids in splits.items()
            }

        def features(row: int) -> dict[str, Any]:
            return {"id": row + 1, "label": row // self.IMAGES_A_CLASS}

        return {"train": self._generate_examples(names, files, features)}
