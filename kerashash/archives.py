"""Files of arrays from strangers: checked before they are read.

A file says how large its arrays are, whatever it has. Nothing here takes memory that
the size of the file does not justify.
"""

import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from kerashash import files

# How many times the bytes in a file its content may have: what is stored compresses to
# a 40th at most, and a deflated stream of zeros to a 1,000th.
_MAX_RATIO = 200
# Those of .npz files, the strongest first.
_COMPRESSIONS = (zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
_FREE_BYTES = 1 << 20


def read_npz(
    path: str | os.PathLike[str], compressed: bool = True
) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a file that `np.savez` wrote, after a check of their sizes.

    Nothing is unpickled, and nothing takes memory that the file's size does not
    justify.

    Args:
        path: path of the file.
        compressed: bool; whether `np.savez_compressed` may have written the file.

    Returns:
        dict of arrays by name.

    Raises:
        ValueError: if the file is no such file, or damaged; the error names it.
        OSError: if the file cannot be read.

    Example:
        >>> np.savez("two.npz", a=[1, 2])
        >>> read_npz("two.npz")
        {'a': array([1, 2])}
    """
    with files.regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = zip_members(archive, _MAX_RATIO if compressed else 1)
                return {
                    member.filename.removesuffix(".npy"): _read_npy(archive, member)
                    for member in members
                }
        except (
            Exception
        ) as error:  # zlib, lzma, struct and others have types of their own
            raise ValueError(
                f"{os.fspath(path)} is not a file of arrays, or is damaged. Received: "
                f"{type(error).__name__}: {error}."
            ) from error


def write_npz(
    path: str | os.PathLike[str], arrays: Mapping[str, npt.ArrayLike]
) -> None:
    """Write a file of arrays, as `np.savez_compressed` does, and smaller.

    Args:
        path: path of the file, which is replaced.
        arrays: dict of arrays by name.

    Raises:
        OSError: if the file cannot be written.

    Example:
        >>> write_npz("two.npz", {"a": [1, 2]})
        >>> read_npz("two.npz")
        {'a': array([1, 2])}
    """
    # bzip2 makes codes and labels a quarter smaller than deflating. But constant arrays
    # become so small that `read_npz` would refuse them.
    for compression in _COMPRESSIONS:
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as stream:
                    np.lib.format.write_array(
                        stream, np.asanyarray(array), allow_pickle=False
                    )
            whole = sum(member.file_size for member in archive.infolist())
        if whole <= _MAX_RATIO * os.path.getsize(path):
            return


def zip_members(
    archive: zipfile.ZipFile, ratio: int = _MAX_RATIO
) -> list[zipfile.ZipInfo]:
    """The members of a zip archive, after a check of their names and sizes.

    Args:
        archive: `zipfile.ZipFile`, open for reading.
        ratio: int; how many times the bytes of the archive its members may have.

    Returns:
        list of `zipfile.ZipInfo`.

    Raises:
        ValueError: if two members have one name, or they are larger together.

    Example:
        >>> with zipfile.ZipFile("small.zip", "w") as archive:
        ...     archive.writestr("greeting.txt", "hello")
        >>> with zipfile.ZipFile("small.zip") as archive:
        ...     [member.filename for member in zip_members(archive)]
        ['greeting.txt']
    """
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise ValueError("a name twice")
    assert archive.fp is not None  # it is open
    available = archive.fp.seek(0, os.SEEK_END)
    if sum(member.file_size for member in members) > available * ratio:
        raise ValueError(f"members too large for its {available} bytes")
    return members


def check_hdf5(path: str | os.PathLike[str], content: BinaryIO | None = None) -> int:
    """Check that an HDF5 file of numbers holds all that it says, and nothing else.

    An HDF5 file may point to any other file: by soft or external links, external
    storage or virtual data sets. None of these belongs into a file of weights.

    Args:
        path: path of the file.
        content: binary file, or None; what to check in place of the file, of which it
            is a part.

    Returns:
        int, the number of values in the file.

    Raises:
        ValueError: if the file is not HDF5 or damaged, if it has links or data outside
            of itself, values that are not numbers, or larger arrays than its size
            justifies; the error names the file.
        OSError: if there is no such file.

    Example:
        >>> with h5py.File("numbers.h5", "w") as file:
        ...     file["x"] = [1.0, 2.0]
        >>> check_hdf5("numbers.h5")
        2
    """
    path = os.fspath(path)
    if content is None:
        available = os.stat(path).st_size
    else:
        available = content.seek(0, os.SEEK_END)
    size = values = 0
    try:
        with h5py.File(path if content is None else content, "r") as file:
            for name, dataset in _datasets(file):
                size += _checked_size(dataset, name)
                values += dataset.size
    except Exception as error:  # h5py raises many types for damaged files
        raise ValueError(
            f"{path} is not an HDF5 file of weights, or is damaged. Received: "
            f"{type(error).__name__}: {error}."
        ) from error
    if size > _MAX_RATIO * available:
        raise ValueError(
            f"{path} must not hold more than its size justifies. Received: arrays of "
            f"{size} bytes in a file of {available}."
        )
    return values


def _datasets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """The data sets below a group, each once; refuses links."""
    groups, seen = [group], set()
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            where = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(link, h5py.HardLink):
                raise ValueError(
                    f"{where} is a {type(link).__name__}, which is refused"
                )
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise ValueError(f"{where} is a second name of something, or a circle")
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                yield where, item
            else:
                raise ValueError(f"{where} is neither a group nor an array")


def _checked_size(dataset: h5py.Dataset, name: str) -> int:
    """The bytes of a data set; refuses one whose data is elsewhere."""
    if dataset.external or dataset.id.get_create_plist().get_external_count():
        raise ValueError(f"{name} has its data in another file, which is refused")
    if dataset.is_virtual:
        raise ValueError(f"{name} is a virtual data set, which is refused")
    # Keras writes bfloat16, which HDF5 does not know, as two bytes with a mark.
    is_bfloat16 = dataset.dtype == "V2" and dataset.attrs.get("dtype") == "bfloat16"
    if dataset.dtype.kind not in "biuf" and not is_bfloat16:
        raise ValueError(f"{name} must hold numbers, not {dataset.dtype}")
    size = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
    if size > _MAX_RATIO * dataset.id.get_storage_size() + _FREE_BYTES:
        raise ValueError(
            f"{name} has {size} bytes, of which the file stores "
            f"{dataset.id.get_storage_size()}"
        )
    return size


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Read an array of a .npz file, whose header must agree with its size."""
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{member.filename} has an unknown compression")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(stream)
        else:
            header = np.lib.format.read_array_header_2_0(stream)
        shape, fortran, dtype = header
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != member.file_size - stream.tell():
            raise ValueError(
                f"{member.filename} says shape {shape}, {dtype}, and has "
                f"{member.file_size} bytes"
            )
        content = bytearray(stream.read(size))
        if len(content) != size or stream.read(1):
            raise ValueError(f"{member.filename} has {len(content)} bytes, not {size}")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
