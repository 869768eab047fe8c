"""Data sets of label distribution learning: feature vectors and distributions."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from kerashash.checks import check_array, check_distributions
from kerashash.data.builders.files import find_folder, load_mat


def read_mat(
    path: str | os.PathLike[str],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Read features and label distributions from a .mat file.

    Args:
        path: path of a file with the arrays ``features`` ``(n, dim)`` and ``labels`` or
            ``label_distribution`` ``(n, num_classes)``.

    Returns:
        ``(features, distributions)``: float32 arrays ``(n, dim)`` and
        ``(n, num_classes)``; rows of the latter sum to 1.

    Raises:
        FileNotFoundError: if there is no such file.
        TypeError, ValueError: if the file lacks an array or holds invalid values.

    Example:
        >>> import scipy.io
        >>> arrays = {"features": np.ones((4, 3)), "labels": np.full((4, 2), 0.5)}
        >>> scipy.io.savemat("tiny.mat", arrays)
        >>> [array.shape for array in read_mat("tiny.mat")]
        [(4, 3), (4, 2)]
    """
    return checked(load_mat(path), os.fspath(path))


def checked(
    arrays: Mapping[str, Any], source: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Check the arrays of a file, of whatever format.

    Args:
        arrays: dict; the arrays by name, as in `read_mat`.
        source: str; where they come from, for errors.

    Returns:
        As `read_mat`.

    Raises:
        TypeError, ValueError: if an array is missing or holds invalid values.

    Example:
        >>> arrays = {"features": np.ones((4, 3)), "labels": np.full((4, 2), 0.5)}
        >>> [array.shape for array in checked(arrays, "mine")]
        [(4, 3), (4, 2)]
    """
    name = "labels" if "labels" in arrays else "label_distribution"
    if "features" not in arrays or name not in arrays:
        raise ValueError(
            f"{source} must hold the arrays `features` and `labels` (or "
            "`label_distribution`), neither sparse nor complex. Received: "
            f"{sorted(key for key in arrays if not key.startswith('__'))}."
        )
    features = check_array(arrays["features"], (None, None), f"features of {source}")
    d = check_distributions(arrays[name], n=len(features), name=f"{name} of {source}")
    return features.astype(np.float32), d


@dataclasses.dataclass(eq=False, kw_only=True)
class LdlConfig(tfds.core.BuilderConfig):
    """Config of one data set.

    Attributes:
        file: str; the name of its file.
        rows: int; the number of rows.
        dim: int or None; the number of features. None accepts any.
        num_classes: int; the number of classes.
    """

    file: str
    rows: int
    dim: int | None
    num_classes: int


def _config(
    file: str, rows: int, dim: int | None, num_classes: int, description: str
) -> LdlConfig:
    """Build a config that is named after its file."""
    return LdlConfig(
        name=file.removesuffix(".mat").lower(),
        description=description,
        file=file,
        rows=rows,
        dim=dim,
        num_classes=num_classes,
    )


class Ldl(tfds.core.GeneratorBasedBuilder):
    """Builder of data sets of label distribution learning, with a config for each.

    The only split is "train", in the order of the rows of the file.

    Reference:
        X. Geng, Label Distribution Learning, TKDE 2016.
    """

    name = "ldl"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        _config("Movie.mat", 7755, 1869, 5, "Films, and the ratings of their viewers"),
        _config("SCUT_FBP.mat", 1500, 300, 5, "Faces, and ratings of their beauty"),
        _config("emotion6.mat", 1980, 168, 7, "Images, and the emotions they evoke"),
        _config("SBU_3DFE.mat", 2500, 243, 6, "Faces of BU-3DFE, and their emotions"),
        _config("SJAFFE.mat", 213, 243, 6, "Faces of JAFFE, and their emotions"),
        _config("M2B.mat", 1240, 250, 5, "Faces, and ratings of their beauty"),
        _config("Natural_Scene.mat", 2000, 294, 9, "Scenes, and what they show"),
        _config("Yeast_alpha.mat", 2465, 24, 18, "Genes, and when they are expressed"),
        _config("RAF_ML.mat", 4908, None, 6, "Faces, and their emotions"),
        _config("fbp5500.mat", 5500, None, 5, "Faces, and ratings of their beauty"),
        _config("Flickr_ldl.mat", 11150, None, 8, "Photos, and emotions they evoke"),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Put the data set's .mat file, with the arrays `features` and `labels`, in the folder
    ldl of TFDS's manual folder, ~/tensorflow_datasets/downloads/manual by default:

        ldl/
          Movie.mat, SCUT_FBP.mat, emotion6.mat, SBU_3DFE.mat, SJAFFE.mat, M2B.mat,
          Natural_Scene.mat, Yeast_alpha.mat, RAF_ML.mat, fbp5500.mat, Flickr_ldl.mat

    http://palm.seu.edu.cn/xgeng/LDL/download.htm publishes Movie, Natural_Scene,
    SBU_3DFE, SJAFFE and Yeast_alpha; https://github.com/SpriteMisaka/PyLDL holds Movie,
    SBU_3DFE, SJAFFE, Yeast_alpha, SCUT_FBP, emotion6 and M2B. Their authors state the
    terms of use. The number of features of RAF_ML, fbp5500 and Flickr_ldl is not
    checked.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Feature vectors, each with a label distribution: how far each class "
                "describes it, at least 0, all together 1."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "features": tfds.features.Tensor(
                        shape=(config.dim,), dtype=np.float32
                    ),
                    "distribution": tfds.features.Tensor(
                        shape=(config.num_classes,), dtype=np.float32
                    ),
                }
            ),
            supervised_keys=("features", "distribution"),
            homepage="http://palm.seu.edu.cn/xgeng/LDL/index.htm",
            citation="""\
            @article{geng2016label,
              author = {Xin Geng},
              title = {Label Distribution Learning},
              journal = {IEEE Transactions on Knowledge and Data Engineering},
              volume = {28},
              number = {7},
              pages = {1734--1748},
              year = {2016},
            }""",
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        config = self.builder_config
        folder = find_folder(
            dl_manager, ("ldl",), config.file, self.MANUAL_DOWNLOAD_INSTRUCTIONS
        )
        path = folder / config.file
        features, distributions = read_mat(path)
        expected = (config.rows, config.dim or features.shape[1], config.num_classes)
        received = (*features.shape, distributions.shape[1])
        if received != expected:
            raise ValueError(
                f"{path} must have {expected[0]} rows of {expected[1]} features and "
                f"{expected[2]} classes. Received: {received[0]} rows, {received[1]} "
                f"features, {received[2]} classes."
            )
        return {"train": self._generate_examples(features, distributions)}

    def _generate_examples(
        self,
        features: npt.NDArray[np.float32],
        distributions: npt.NDArray[np.float32],
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, (x, d) in enumerate(zip(features, distributions, strict=True)):
            yield row, {"features": x, "distribution": d}
