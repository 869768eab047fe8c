"""Files that a user has put into the manual folder of TensorFlow Datasets."""

import pathlib
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kerashash.checks import listing
from kerashash.files import NOT_REGULAR
from kerashash.mat_files import read_mat

if TYPE_CHECKING:
    import os

    import tensorflow_datasets as tfds


def check_files(files: Iterable[pathlib.Path]) -> None:
    """Check that files exist, and are files: to read a pipe may never end.

    Raises:
        FileNotFoundError: if files are missing; the error names them.
        ValueError: if one is a folder, a pipe or a device; the error names it.
    """
    files = [*files]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(f"Missing {listing(missing)}.")
    for file in files:
        if not file.is_file():
            raise ValueError(f"{file} must be a file. Received: {NOT_REGULAR}.")


def find_folder(
    dl_manager: "tfds.download.DownloadManager",
    names: tuple[str, ...],
    landmark: str,
    instructions: str,
) -> pathlib.Path:
    """Find the folder of a data set: a subfolder of the manual folder, or itself.

    Args:
        dl_manager: `tfds.download.DownloadManager`.
        names: tuple of str; possible names of the subfolder, the documented one first.
        landmark: str; a file or folder that the folder must hold.
        instructions: str; appended to the error.

    Returns:
        `pathlib.Path`.

    Raises:
        FileNotFoundError: if no folder holds the landmark.
    """
    manual = pathlib.Path(dl_manager.manual_dir)
    for folder in (*(manual / name for name in names), manual):
        if (folder / landmark).exists():
            return folder
    raise FileNotFoundError(
        f"There is no `{landmark}` in {manual / names[0]}.\n\n"
        f"{textwrap.dedent(instructions)}"
    )


def load_mat(path: "str | os.PathLike[str]") -> dict[str, Any]:
    """Read the arrays of a .mat file, by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no regular file, no .mat file or damaged; the error names
            it.
    """
    path = pathlib.Path(path)
    check_files([path])
    return read_mat(path)
