"""ImageFilesBuilder: what the builders of data sets of JPEG files share."""

import textwrap

import tensorflow as tf
import tensorflow_datasets as tfds

from kerashash.checks import listing
from kerashash.data.builders.files import find_folder


def jpeg_fault(data):
    """What is wrong with the bytes of a JPEG file.

    The image is decoded to its end. Bytes that were changed in the middle may still
    decode, to another image: no decoder can tell.

    Args:
        data: bytes.

    Returns:
        str, or None for a whole JPEG image, RGB or grayscale.

    Example:
        >>> jpeg_fault(b"")
        'empty'
        >>> jpeg_fault(b"GIF89a")
        'no JPEG image, or cut off'
    """
    if not data:
        return "empty"
    try:
        # `decode_jpeg` takes other formats too and turns four channels into three.
        channels = int(tf.io.extract_jpeg_shape(data)[2])
        tf.io.decode_jpeg(data)
    except tf.errors.InvalidArgumentError:
        return "no JPEG image, or cut off"
    return None if channels in (1, 3) else f"{channels} channels"


class ImageFilesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builder of a data set of JPEG files, all of them or those that are there.

    The files' bytes are stored as they are, each checked by `jpeg_fault`.

    A data set of which files are missing is another data set: with
    ``allow_missing=True`` it is the config "incomplete", in a folder of its own, and
    never stands in for the config "complete". ``builder.info.metadata`` says how many
    images were ``expected``, how many are ``missing``, and which of these were there
    but ``damaged``. Once built it is what TFDS finds, also after more files have come:
    remove ``builder.data_dir`` to build it anew.

    Subclasses set the class attributes below and define `_info` and
    `_split_generators`, with `_folder`, `_present` and `_generate_examples`.

    Args:
        allow_missing: bool, whether to build from the files that are there.
        config: "complete", "incomplete", or None for what `allow_missing` says.
        **kwargs: of `tfds.core.GeneratorBasedBuilder`: ``data_dir``,
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
    # Names of the folder in the manual folder, and what it must hold.
    FOLDERS = ()
    LANDMARK = None

    def __init__(self, *, allow_missing=False, config=None, **kwargs):
        if allow_missing and config not in (None, "incomplete"):
            raise ValueError(
                "`config` must be 'incomplete' or None with allow_missing=True. "
                f"Received: config={config!r}."
            )
        # As a config it also survives pickling.
        super().__init__(config="incomplete" if allow_missing else config, **kwargs)

    @property
    def allow_missing(self):
        """Whether the data set is built from the files that are there."""
        return self.builder_config.name == "incomplete"

    def _folder(self, dl_manager):
        return find_folder(
            dl_manager, self.FOLDERS, self.LANDMARK, self.MANUAL_DOWNLOAD_INSTRUCTIONS
        )

    def _present(self, names, paths):
        """The files that are there; refuse or record that others are missing.

        Args:
            names: sequence of str, of all images.
            paths: sequence of paths, one a name; None where none was found.

        Returns:
            dict of row in `names` to path, rows ascending.

        Raises:
            FileNotFoundError: if some are missing and may not be, or all are.
        """
        files = {row: path for row, path in enumerate(paths) if path and path.exists()}
        missing = [name for row, name in enumerate(names) if row not in files]
        if missing and not (self.allow_missing and files):
            raise FileNotFoundError(
                f"Of the {len(names):,} images of {self.name} there are missing "
                f"{listing(missing)}. `allow_missing=True` builds from those that are "
                "there, if any.\n\n"
                f"{textwrap.dedent(self.MANUAL_DOWNLOAD_INSTRUCTIONS)}"
            )
        self.info.metadata.update(expected=len(names), missing=len(missing), damaged=[])
        return files

    def _generate_examples(self, names, files, features):
        """Examples in order of their rows.

        Args:
            names: sequence of str, of all images.
            files: dict of row in `names` to path, rows ascending.
            features: function of a row; returns the example without its image.

        Raises:
            ValueError: if files are damaged and may not be missing.
        """
        # Beyond 1 GB, TFDS sorts examples by keys below 2^128 in a thousand buckets,
        # one at a time. Small keys would put the whole data set into the first.
        spacing = 2**128 // len(names)
        damaged = {}
        for row, path in files.items():
            data = path.read_bytes()
            fault = jpeg_fault(data)
            if fault is None:
                yield row * spacing, {**features(row), "image": data}
            else:
                damaged[row] = fault
        if damaged and not self.allow_missing:
            faults = [f"{files[row]} ({fault})" for row, fault in damaged.items()]
            raise ValueError(
                f"Images of {self.name} must be whole JPEG images, RGB or grayscale. "
                f"Received {listing(faults)}."
            )
        self.info.metadata["missing"] += len(damaged)
        self.info.metadata["damaged"] += [
            f"{names[row]} ({fault})" for row, fault in damaged.items()
        ]
