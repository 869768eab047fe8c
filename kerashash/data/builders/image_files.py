"""ImageFilesBuilder, the base class of builders of data sets of JPEG files."""

import pathlib
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from kerashash.checks import check_flag, listing
from kerashash.data.builders.files import find_folder
from kerashash.files import NOT_REGULAR


def jpeg_fault(data: bytes) -> str | None:
    """Say what is wrong with the content of a JPEG file.

    The image is decoded to its end. Changed bytes in the middle may still decode, to
    another image; no decoder can detect that.

    Args:
        data: bytes, the content of the file.

    Returns:
        str, or None for a complete JPEG image, RGB or grayscale.

    Example:
        >>> jpeg_fault(b"")
        'empty'
        >>> jpeg_fault(b"GIF89a")
        'not a JPEG image, or truncated'
    """
    if not data:
        return "empty"
    try:
        # `decode_jpeg` accepts other formats too, and converts four channels to three.
        channels = int(tf.io.extract_jpeg_shape(data)[2])
        tf.io.decode_jpeg(data)
    except tf.errors.InvalidArgumentError:
        return "not a JPEG image, or truncated"
    return None if channels in (1, 3) else f"{channels} channels"


# mypy does not see the base class, which takes the argument `skip_registration`.
class ImageFilesBuilder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """Base class of builders of data sets of JPEG files, which may be incomplete.

    The content of each file is checked by `jpeg_fault` and stored unchanged.

    A data set with missing files is a different data set: with ``allow_missing=True``
    it is the config "incomplete", in a folder of its own, and is never taken for the
    config "complete". ``builder.info.metadata`` says how many images were ``expected``,
    how many are ``missing``, and which of the missing ones exist but are ``damaged``.
    A data set that has been built stays as it is when more files arrive: remove
    ``builder.data_dir`` to build it anew.

    Subclasses set the class attributes `FOLDERS` and `LANDMARK` and define `_info` and
    `_split_generators`, with the help of `_folder`, `_present` and
    `_generate_examples`.

    Args:
        allow_missing: bool; whether to build from the files that are there.
        config: "complete", "incomplete" or None; None follows `allow_missing`.
        **kwargs: arguments of `tfds.core.GeneratorBasedBuilder`: ``data_dir``,
            ``file_format``, ``version``.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(
            name="complete", description="All images; one that is missing is an error."
        ),
        tfds.core.BuilderConfig(
            name="incomplete", description="The images that are there."
        ),
    )
    #: Possible names of the data set's folder in the manual folder.
    FOLDERS: tuple[str, ...]
    #: A file or folder that the data set's folder must hold.
    LANDMARK: str

    def __init__(
        self, *, allow_missing: bool = False, config: str | None = None, **kwargs: Any
    ) -> None:
        check_flag(allow_missing=allow_missing)
        if allow_missing and config not in (None, "incomplete"):
            raise ValueError(
                "`config` must be 'incomplete' or None with allow_missing=True. "
                f"Received: config={config!r}."
            )
        # A config survives pickling; an attribute would not.
        super().__init__(config="incomplete" if allow_missing else config, **kwargs)

    @property
    def allow_missing(self) -> bool:
        """Whether the data set is built from the files that are there."""
        return self.builder_config.name == "incomplete"

    def _image_info(
        self, id_feature: Any, label: str, label_feature: Any, **about: Any
    ) -> tfds.core.DatasetInfo:
        """Describe the data set; for `_info`.

        Args:
            id_feature: feature of an image's id.
            label: str; "label" or "labels".
            label_feature: feature of it.
            **about: further arguments of `tfds.core.DatasetInfo`: ``description``,
                ``homepage``, ``citation`` and ``license``.
        """
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": id_feature,
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    label: label_feature,
                }
            ),
            supervised_keys=("image", label),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
            **about,
        )

    def _folder(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        """Find the folder of the data set."""
        return find_folder(
            dl_manager, self.FOLDERS, self.LANDMARK, self.MANUAL_DOWNLOAD_INSTRUCTIONS
        )

    def _present(
        self, names: Sequence[str], paths: Sequence[pathlib.Path | None]
    ) -> dict[int, pathlib.Path]:
        """Select the files that exist; record how many are missing.

        Args:
            names: sequence of str; the names of all images.
            paths: sequence of paths, one for each name; None for an image without a
                file.

        Returns:
            dict of rows of `names` to paths, in ascending order of the rows.

        Raises:
            FileNotFoundError: if files are missing without `allow_missing`, or no file
                exists.
        """
        files = {row: path for row, path in enumerate(paths) if path and path.exists()}
        missing = [name for row, name in enumerate(names) if row not in files]
        if missing and not (self.allow_missing and files):
            raise FileNotFoundError(
                f"{self.name} must have all of its {len(names):,} images. Missing: "
                f"{listing(missing)}. `allow_missing=True` builds it from those that "
                "are there, if any.\n\n"
                f"{textwrap.dedent(self.MANUAL_DOWNLOAD_INSTRUCTIONS)}"
            )
        self.info.metadata.update(expected=len(names), missing=len(missing), damaged=[])
        return files

    def _generate_examples(
        self,
        names: Sequence[str],
        files: dict[int, pathlib.Path],
        features: Callable[[int], dict[str, Any]],
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Generate the examples in order of their rows.

        Args:
            names: sequence of str; the names of all images.
            files: dict of rows of `names` to paths, in ascending order of the rows.
            features: function of a row; it returns the example without its image.

        Yields:
            ``(key, example)``.

        Raises:
            ValueError: if files are damaged, without `allow_missing`.
        """
        # Above 1 GB, TFDS distributes examples over a thousand buckets by their keys,
        # which lie below 2^128, and sorts one bucket at a time in memory. Keys that are
        # all small would put the whole data set into the first bucket.
        spacing = 2**128 // len(names)
        damaged = {}
        for row, path in files.items():
            if not path.is_file():  # to read a pipe may never end
                damaged[row] = NOT_REGULAR
                continue
            data = path.read_bytes()
            fault = jpeg_fault(data)
            if fault is None:
                yield row * spacing, {**features(row), "image": data}
            else:
                damaged[row] = fault
        if damaged and not self.allow_missing:
            faults = [f"{files[row]} ({fault})" for row, fault in damaged.items()]
            raise ValueError(
                f"Images of {self.name} must be complete JPEG images, RGB or "
                f"grayscale. Received {listing(faults)}."
            )
        self.info.metadata["missing"] += len(damaged)
        self.info.metadata["damaged"] += [
            f"{names[row]} ({fault})" for row, fault in damaged.items()
        ]
