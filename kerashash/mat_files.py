"""MATLAB's .mat files, read with a check of every size before its data.

SciPy's reader trusts the sizes in a file: a damaged one can end the process, or fill
its memory. This one reads what data sets and networks are published in: arrays of
numbers, text, structures and cells, of the versions 4 to 7.

Reference:
    The MathWorks, MAT-File Format, R2024a.
"""

import math
import os
import struct
import types
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import said

# Data types of elements; text is decoded from UTF-8 and from UTF-16 in BMP.
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
    18: "u4",
}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}
_TYPES_V4 = ("f8", "f4", "i4", "i2", "u2", "u1")
_COMPLEX = 0x0800
# How many times its compressed bytes an array may have: Movie's features, 116 MB of
# mostly zeros, have 480 times as many. Zeros alone have a thousand.
_MAX_RATIO = 600
_FREE_BYTES = 1 << 20
_MAX_DEPTH, _MAX_DIMS = 16, 32


def read_mat(path: str | os.PathLike[str], squeeze: bool = False) -> dict[str, Any]:
    """Read the arrays of a .mat file.

    Args:
        path: path of the file, of version 4, 5, 6 or 7. (Version 7.3 is HDF5.)
        squeeze: bool; whether to drop axes of length 1, and give what has one item as
            that item.

    Returns:
        dict by name: arrays of numbers; str for text; `types.SimpleNamespace` with the
        fields of a structure; object arrays for cells and for several structures.
        Other kinds of values, such as sparse arrays, are left out.

    Raises:
        TypeError: if `path` is no path.
        ValueError: if it is no such file, or damaged, or if its arrays are larger than
            its size justifies; the error names the file.
        OSError: if the file cannot be read.

    Example:
        >>> import scipy.io
        >>> scipy.io.savemat("pair.mat", {"pair": [[1, 2]], "name": "a pair"})
        >>> read_mat("pair.mat")
        {'pair': array([[1, 2]]), 'name': 'a pair'}
    """
    path = files.as_path(path)
    content = files.read_regular(path)
    try:
        if content[126:128] in (b"IM", b"MI") and content[:4].count(0) == 0:
            order = "<" if content[126:128] == b"IM" else ">"
            (version,) = struct.unpack(f"{order}H", content[124:126])
            if version != 0x0100:
                raise ValueError("not of version 7 or older; save it with -v7")
            reader = _Reader(content, order, squeeze)
            return reader.variables()
        if content.startswith(b"\x89HDF"):
            raise ValueError("HDF5, as of version 7.3; save it with -v7")
        return _read_version_4(content, squeeze)
    except (ValueError, TypeError, struct.error, zlib.error, MemoryError) as error:
        raise ValueError(
            f"{path} must be a .mat file. Received: {type(error).__name__}: "
            f"{said(error)}."
        ) from error


class _Reader:
    """The elements of a file of version 5 to 7.

    Args:
        content: bytes; the file.
        order: str; "<" or ">", the order of the bytes of numbers.
        squeeze: bool; as of `read_mat`.
    """

    def __init__(self, content: bytes, order: str, squeeze: bool) -> None:
        self._content = memoryview(content)
        self._order = order
        self._squeeze = squeeze
        # Structures and cells together: each is some hundred bytes in Python.
        self._items_left = len(content)

    def variables(self) -> dict[str, Any]:
        """The variables of the file by name."""
        variables, position = {}, 128
        while position < len(self._content):
            kind, data, position = self._element(self._content, position)
            if kind == _COMPRESSED:
                kind, data, _ = self._element(self._inflated(data), 0)
            if kind == _MATRIX:
                name, value = self._matrix(data, depth=0)
                if value is not None:
                    variables[name] = value
        return variables

    def _element(self, data: memoryview, position: int) -> tuple[int, memoryview, int]:
        """The type and data of the element at a position, and the next one's."""
        kind, size = struct.unpack_from(f"{self._order}II", data, position)
        if kind >> 16:  # a small one, of at most four bytes, next to its tag
            kind, size = kind & 0xFFFF, kind >> 16
            start, following = position + 4, position + 8
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        else:
            start = position + 8
            padding = 0 if kind == _COMPRESSED else -size % 8
            following = start + size + padding
        if start + size > len(data):
            raise ValueError(
                f"cut: {size} bytes from {start} on, of which {len(data)} are there"
            )
        return kind, data[start : start + size], following

    def _inflated(self, data: memoryview) -> memoryview:
        """Decompress an element, of the size that it states itself."""
        stream = zlib.decompressobj()
        tag = stream.decompress(data, 8)
        if len(tag) < 8:
            raise ValueError("a compressed element without a size")
        kind, size = struct.unpack(f"{self._order}II", tag)
        if kind != _MATRIX or size > _MAX_RATIO * len(data) + _FREE_BYTES:
            raise ValueError(f"{size} bytes, compressed to {len(data)}")
        body = stream.decompress(stream.unconsumed_tail, size) if size else b""
        # Some writers leave out the last padding.
        rest = stream.decompress(stream.unconsumed_tail, 8)
        if len(body) < size or len(rest) > 7 or not stream.eof:
            raise ValueError(f"{len(body)} bytes in place of {size}, or damaged ones")
        return memoryview(tag + body)

    def _matrix(self, data: memoryview, depth: int) -> tuple[str, Any]:
        """The name and value of a variable, a field or a cell; None if left out."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"structures in structures, more than {_MAX_DEPTH}")
        self._items_left -= 1
        if self._items_left < 0:
            raise ValueError("more cells than bytes")
        if not data:  # MATLAB's []
            return "", np.zeros((0, 0))
        kind, flags, position = self._element(data, 0)
        if kind != 6 or len(flags) != 8:
            raise ValueError("an array without its flags")
        (word,) = struct.unpack_from(f"{self._order}I", flags)
        kind, raw_dims, position = self._element(data, position)
        if kind != 5 or not 2 <= len(raw_dims) // 4 <= _MAX_DIMS:
            raise ValueError("an array without its shape")
        shape = struct.unpack(f"{self._order}{len(raw_dims) // 4}i", raw_dims)
        if min(shape) < 0:
            raise ValueError(f"an array of shape {shape}")
        _, raw_name, position = self._element(data, position)
        name = bytes(raw_name).decode("latin-1")
        array_class = word & 0xFF
        if array_class in _NUMBERS:
            value = self._numbers(data, position, shape)
            if word & _COMPLEX:
                return name, None
            array = value.astype(np.dtype(_NUMBERS[array_class]))
            return name, self._shaped(array, shape)
        if array_class == _CHAR:
            return name, self._text(data, position, shape)
        if array_class == _CELL:
            cells, _ = self._items(data, position, math.prod(shape), depth)
            return name, self._of_objects(cells, shape, squeeze_one=False)
        if array_class == _STRUCT:
            return name, self._structures(data, position, shape, depth)
        return name, None

    def _numbers(
        self, data: memoryview, position: int, shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        kind, raw, _ = self._element(data, position)
        if kind not in _TYPES:
            raise ValueError(f"numbers of type {kind}")
        dtype = np.dtype(self._order + _TYPES[kind])
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(raw)} bytes for shape {shape} of {dtype}")
        return np.frombuffer(raw, dtype)

    def _text(
        self, data: memoryview, position: int, shape: tuple[int, ...]
    ) -> str | npt.NDArray[Any]:
        kind, raw, _ = self._element(data, position)
        encodings = {2: "u1", 4: "u2", 17: "u2", 18: "u4"}
        if kind in encodings:
            dtype = np.dtype(self._order + encodings[kind])
            text = "".join(map(chr, np.frombuffer(raw, dtype)))
        else:
            text = bytes(raw).decode("utf-8")
        if len(text) != math.prod(shape):
            raise ValueError(f"{len(text)} characters for shape {shape}")
        if shape[0] <= 1:
            return text
        rows = [text[row :: shape[0]] for row in range(shape[0])]
        return np.array(rows, dtype=object)

    def _structures(
        self, data: memoryview, position: int, shape: tuple[int, ...], depth: int
    ) -> Any:
        _, raw_length, position = self._element(data, position)
        (length,) = struct.unpack(f"{self._order}i", raw_length)
        _, raw_names, position = self._element(data, position)
        if length < 1 or len(raw_names) % length:
            raise ValueError(f"names of {length} bytes in {len(raw_names)}")
        names = [
            bytes(raw_names[i : i + length]).split(b"\0")[0].decode("latin-1")
            for i in range(0, len(raw_names), length)
        ]
        structures = []
        # Without fields, nothing in the file would limit their number.
        for _ in range(math.prod(shape) if names else 0):
            values, position = self._items(data, position, len(names), depth)
            fields = dict(zip(names, values, strict=True))
            structures.append(types.SimpleNamespace(**fields))
        shape = shape if names else (0, 0)
        return self._of_objects(structures, shape, squeeze_one=True)

    def _items(
        self, data: memoryview, position: int, count: int, depth: int
    ) -> tuple[list[Any], int]:
        """Arrays that follow each other, and where they end."""
        if 8 * count > len(data):
            raise ValueError(f"{count} cells in {len(data)} bytes")
        items = []
        for _ in range(count):
            kind, content, position = self._element(data, position)
            if kind != _MATRIX:
                raise ValueError(f"a cell of type {kind}")
            items.append(self._matrix(content, depth + 1)[1])
        return items, position

    def _of_objects(
        self, items: list[Any], shape: tuple[int, ...], squeeze_one: bool
    ) -> Any:
        if len(items) == 1 and (squeeze_one or self._squeeze):
            return items[0]
        array = np.empty(len(items), dtype=object)
        array[:] = items
        return self._shaped(array, shape)

    def _shaped(
        self, array: npt.NDArray[Any], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        return _shaped(array, shape, self._squeeze)


def _shaped(
    array: npt.NDArray[Any], shape: tuple[int, ...], squeeze: bool
) -> npt.NDArray[Any]:
    """Give an array its shape; MATLAB counts along the first axis first."""
    array = array.reshape(shape[::-1]).T
    return array.squeeze() if squeeze else array


def _read_version_4(content: bytes, squeeze: bool) -> dict[str, Any]:
    """The full arrays of numbers of a file of version 4."""
    variables: dict[str, Any] = {}
    position = 0
    if len(content) < 20:
        raise ValueError(f"only {len(content)} bytes")
    while position < len(content):
        order = (
            "<" if 0 <= struct.unpack_from("<i", content, position)[0] < 5000 else ">"
        )
        header = struct.unpack_from(f"{order}5i", content, position)
        code, rows, columns, imaginary, name_length = header
        order_code, zero, kind, array_class = (
            code // 1000,
            code // 100 % 10,
            code // 10 % 10,
            code % 10,
        )
        if (
            order_code != (order == ">")
            or zero
            or kind >= len(_TYPES_V4)
            or array_class > 2
            or min(rows, columns, name_length - 1) < 0
            or imaginary not in (0, 1)
        ):
            raise ValueError(f"no header of an array: {header}")
        dtype = np.dtype(order + _TYPES_V4[kind])
        start = position + 20 + name_length
        size = rows * columns * dtype.itemsize
        position = start + size * (1 + imaginary)
        if position > len(content):
            raise ValueError(f"cut: an array of {size} bytes at {start}")
        name = content[start - name_length : start].split(b"\0")[0].decode("latin-1")
        if not array_class and not imaginary:
            array = np.frombuffer(content, dtype, rows * columns, start)
            native = array.astype(dtype.newbyteorder("="))
            variables[name] = _shaped(native, (rows, columns), squeeze)
    return variables
