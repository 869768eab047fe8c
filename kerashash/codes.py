"""Hash codes, packed and unpacked.

A hash code has ``bits`` bits. Unpacked, it is an int8 row over {-1, +1}. Packed, it is
a uint8 row of ``ceil(bits / 8)`` bytes: most significant bit first, 1 for +1 and 0 for
-1, padding bits 0.
"""

import numpy as np
import numpy.typing as npt

from kerashash.checks import as_array, check_integer

__all__ = [
    "as_packed",
    "as_words",
    "bit_imbalance",
    "check_codes",
    "check_packed",
    "pack",
    "packed_width",
    "unpack",
]
__dir__ = __all__.copy  # what completion offers


def packed_width(bits: int) -> int:
    """Number of bytes of a packed code.

    Args:
        bits: int; the code length, at least 1.

    Returns:
        int, ``ceil(bits / 8)``.

    Raises:
        TypeError: if `bits` is not an integer.
        ValueError: if `bits` is below 1.

    Example:
        >>> packed_width(12)
        2
    """
    return -(-check_integer("bits", bits) // 8)


def check_codes(
    codes: npt.ArrayLike, bits: int | None = None, name: str = "codes"
) -> npt.NDArray[np.int8]:
    """Check unpacked codes.

    Args:
        codes: array ``(n, bits)`` of any numeric dtype; values in {-1, +1}.
        bits: int or None; the number of columns required, None for any.
        name: str; the argument to name in the error.

    Returns:
        C-contiguous int8 array ``(n, bits)``.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong or a value is neither -1 nor +1.

    Example:
        >>> check_codes([[1, -1.0]])
        array([[ 1, -1]], dtype=int8)
    """
    if bits is not None:
        check_integer("bits", bits)
    codes = as_array(codes, name)
    if codes.dtype.kind not in "uifb":
        raise TypeError(
            f"`{name}` must hold numbers, -1 and +1. Received dtype: {codes.dtype}."
        )
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise ValueError(
            f"`{name}` must have shape (n, bits). Received shape: {codes.shape}."
        )
    if bits is not None and codes.shape[1] != bits:
        raise ValueError(
            f"`{name}` must have bits={bits} columns. Received shape: {codes.shape}."
        )
    valid = (codes == 1) | (codes == -1)
    if not np.all(valid):
        wrong = np.unique(codes[~valid])[:5]
        raise ValueError(
            f"`{name}` must contain only -1 and +1. Received values: {wrong}."
        )
    # Else packed codes would take over the order of Fortran, and of .mat files.
    return codes.astype(np.int8, order="C")


def check_packed(
    packed: npt.ArrayLike, bits: int, name: str = "codes"
) -> npt.NDArray[np.uint8]:
    """Check packed codes.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``; the codes.
        bits: int; the code length.
        name: str; the argument to name in the error.

    Returns:
        C-contiguous uint8 array of the same shape.

    Raises:
        TypeError: if the dtype is not uint8.
        ValueError: if the shape does not match `bits` or a padding bit is set.

    Example:
        >>> check_packed(np.array([[128]], np.uint8), bits=3)
        array([[128]], dtype=uint8)
    """
    width, bits = packed_width(bits), int(bits)
    packed = as_array(packed, name)
    if packed.dtype != np.uint8:
        raise TypeError(
            f"`{name}` must be packed codes of dtype uint8. "
            f"Received dtype: {packed.dtype}."
        )
    if packed.ndim != 2 or packed.shape[1] != width:
        raise ValueError(
            f"`{name}` must have shape (n, {width}) for bits={bits}. "
            f"Received shape: {packed.shape}."
        )
    padding = np.uint8((1 << (8 * width - bits)) - 1)
    if padding and np.any(packed[:, -1] & padding):
        raise ValueError(
            f"`{name}` must have zero padding bits after bits={bits}. Received codes "
            "with padding bits set: were they packed with another number of bits?"
        )
    return np.ascontiguousarray(packed)


def pack(codes: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Pack codes over {-1, +1} into bytes.

    Args:
        codes: array ``(n, bits)``; values in {-1, +1}.

    Returns:
        uint8 array ``(n, ceil(bits / 8))``, most significant bit first.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong or a value is neither -1 nor +1.

    Example:
        >>> pack([[1, -1, -1]])
        array([[128]], dtype=uint8)
    """
    return np.packbits(check_codes(codes) > 0, axis=1)


def unpack(packed: npt.ArrayLike, bits: int) -> npt.NDArray[np.int8]:
    """Unpack bytes into codes over {-1, +1}.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``; the codes.
        bits: int; the code length.

    Returns:
        int8 array ``(n, bits)`` over {-1, +1}.

    Raises:
        TypeError: if `packed` is not uint8.
        ValueError: if the shape does not match `bits` or a padding bit is set.

    Example:
        >>> unpack(np.array([[128]], np.uint8), bits=3)
        array([[ 1, -1, -1]], dtype=int8)
    """
    packed = check_packed(packed, bits, name="packed")
    ones = np.unpackbits(packed, axis=1, count=int(bits))
    return (2 * ones.astype(np.int8)) - 1


def as_packed(
    codes: npt.ArrayLike, bits: int | None = None, name: str = "codes"
) -> tuple[npt.NDArray[np.uint8], int]:
    """Packed codes of packed or unpacked ones.

    A uint8 array is read as packed codes, an array of any other dtype as codes over
    {-1, +1}.

    Args:
        codes: uint8 array ``(n, ceil(bits / 8))``, or array ``(n, bits)`` over
            {-1, +1}.
        bits: int or None; the code length. None is allowed for unpacked codes, which
            have one column per bit.
        name: str; the argument to name in the error.

    Returns:
        ``(packed, bits)``: a uint8 array ``(n, ceil(bits / 8))`` and the code length.

    Raises:
        TypeError: if `bits` is not an integer, or the values are not numbers.
        ValueError: if the codes are wrong or do not match `bits`, or if `bits` is None
            for packed codes.

    Example:
        >>> as_packed([[1, -1, -1]])
        (array([[128]], dtype=uint8), 3)
    """
    codes = as_array(codes, name)
    if codes.dtype != np.uint8:
        codes = check_codes(codes, bits, name)
        return np.packbits(codes > 0, axis=1), codes.shape[1]
    if bits is None:
        width = codes.shape[-1] if codes.ndim else 1
        raise ValueError(
            f"`bits` is required for packed codes: {width} bytes hold between "
            f"{8 * width - 7} and {8 * width} bits. Received: bits=None."
        )
    return check_packed(codes, bits, name), int(bits)


def as_words(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Packed codes in words of 8 bytes, the last of which is filled with zeros.

    Args:
        packed: uint8 array ``(n, width)``.

    Returns:
        uint64 array ``(ceil(width / 8), n)``.

    Example:
        >>> as_words(np.ones((3, 9), np.uint8)).shape
        (2, 3)
    """
    padding = -packed.shape[1] % 8
    if padding:
        packed = np.pad(packed, ((0, 0), (0, padding)))
    return np.ascontiguousarray(np.ascontiguousarray(packed).view(np.uint64).T)


def in_bits(distance: int) -> str:
    """Write a Hamming distance for people.

    Args:
        distance: int.

    Returns:
        str.

    Example:
        >>> in_bits(1), in_bits(2)
        ('1 bit', '2 bits')
    """
    return f"{distance} bit" if distance == 1 else f"{distance} bits"


def bit_imbalance(codes: npt.ArrayLike, bits: int | None = None) -> float:
    """How far the bits are from being balanced, +1 in one half of the codes.

    Formula:
        mean over bits k of |mean over codes i of b_ik|,  b_ik in {-1, +1}

    Args:
        codes: uint8 array ``(n, ceil(bits / 8))``, or array ``(n, bits)`` over
            {-1, +1}.
        bits: int or None; the code length. None is allowed for unpacked codes.

    Returns:
        float in [0, 1]: 0 if every bit is +1 in half of the codes, 1 if all codes are
        equal.

    Raises:
        TypeError, ValueError: as `as_packed`, or if there are no codes.

    Example:
        >>> bit_imbalance([[1, -1], [1, 1]])
        0.5
    """
    unpacked = unpack(*as_packed(codes, bits))
    if not len(unpacked):
        raise ValueError("`codes` must have at least one row. Received: 0 rows.")
    return float(np.abs(unpacked.mean(axis=0)).mean())
