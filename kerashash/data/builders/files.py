"""The files a user has put into the manual folder."""

import pathlib
import textwrap

from kerashash.checks import listing


def check_files(files):
    """Refuse a list of paths of which some do not exist, naming them.

    Raises:
        FileNotFoundError: if a file is missing.
    """
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(f"Missing {listing(missing)}.")


def find_folder(dl_manager, names, landmark, instructions):
    """The folder of a data set: one of some names in the manual folder, or that itself.

    Args:
        dl_manager: `tfds.download.DownloadManager`.
        names: tuple of str, the folder's names, the documented one first.
        landmark: str, a file or folder that it must hold.
        instructions: str, added to the error.

    Returns:
        `pathlib.Path`.

    Raises:
        FileNotFoundError: if there is none.
    """
    manual = pathlib.Path(dl_manager.manual_dir)
    for folder in (*(manual / name for name in names), manual):
        if (folder / landmark).exists():
            return folder
    raise FileNotFoundError(
        f"There is no `{landmark}` in {manual / names[0]}.\n\n"
        f"{textwrap.dedent(instructions)}"
    )


def load_mat(path):
    """Arrays of a .mat file, a dict by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no .mat file, naming it.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = pathlib.Path(path)
    check_files([path])
    try:
        return loadmat(path)
    except (MatReadError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"{path} must be a .mat file. Received: {type(error).__name__}: {error}."
        ) from error
