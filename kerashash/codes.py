"""Hash codes, packed and unpacked.

A hash code is ``bits`` bits. Unpacked it is an int8 row over {-1, +1}; packed
it is a uint8 row of ``ceil(bits / 8)`` bytes, most significant bit first, with
padding bits zero. A bit is 1 where the code is +1.
"""

import numpy as np

from kerashash.checks import check_integer

__all__ = [
    "as_packed",
    "bit_imbalance",
    "check_codes",
    "check_packed",
    "pack",
    "packed_width",
    "unpack",
]


def packed_width(bits):
    """Number of bytes of one packed code.

    Args:
        bits: int, at least 1.

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


def check_codes(codes, bits=None, name="codes"):
    """Validate unpacked codes.

    Args:
        codes: array ``(n, bits)`` of any numeric dtype, values in {-1, +1}.
        bits: int or None; the number of columns to demand.
        name: str, the argument to name in an error.

    Returns:
        int8 array ``(n, bits)``.

    Raises:
        ValueError: if the shape is wrong or a value is neither -1 nor +1.

    Example:
        >>> check_codes([[1, -1.0]])
        array([[ 1, -1]], dtype=int8)
    """
    codes = np.asarray(codes)
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
    return codes.astype(np.int8)


def check_packed(packed, bits, name="codes"):
    """Validate packed codes.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``.
        bits: int, the code length.
        name: str, the argument to name in an error.

    Returns:
        C-contiguous uint8 array of the same shape.

    Raises:
        TypeError: if the dtype is not uint8.
        ValueError: if the shape does not match `bits` or a padding bit is set.
    """
    width = packed_width(bits)
    packed = np.asarray(packed)
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


def pack(codes):
    """Pack codes over {-1, +1} into bytes.

    Args:
        codes: array ``(n, bits)``, values in {-1, +1}.

    Returns:
        uint8 array ``(n, ceil(bits / 8))``, most significant bit first.

    Raises:
        ValueError: if the shape is wrong or a value is neither -1 nor +1.

    Example:
        >>> pack([[1, -1, -1]])
        array([[128]], dtype=uint8)
    """
    return np.packbits(check_codes(codes) > 0, axis=1)


def unpack(packed, bits):
    """Unpack bytes into codes over {-1, +1}.

    Args:
        packed: uint8 array ``(n, ceil(bits / 8))``.
        bits: int, the code length.

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


def as_packed(codes, bits=None, name="codes"):
    """Accept packed or unpacked codes and return packed ones.

    uint8 arrays are read as packed codes, every other dtype as codes over
    {-1, +1}.

    Args:
        codes: uint8 ``(n, ceil(bits / 8))``, or ``(n, bits)`` over {-1, +1}.
        bits: int, the code length; may be None for unpacked codes, whose width
            says it.
        name: str, the argument to name in an error.

    Returns:
        ``(packed, bits)``: a uint8 array ``(n, ceil(bits / 8))`` and the code
        length.

    Raises:
        TypeError, ValueError: as `check_packed` and `check_codes`, or if packed
            codes come without `bits`.
    """
    codes = np.asarray(codes)
    if codes.dtype != np.uint8:
        codes = check_codes(codes, bits, name)
        return np.packbits(codes > 0, axis=1), codes.shape[1]
    if bits is None:
        raise ValueError(
            f"`bits` is required for packed codes: {codes.shape[-1]} bytes hold "
            f"between {8 * codes.shape[-1] - 7} and {8 * codes.shape[-1]} bits. "
            "Received: bits=None."
        )
    return check_packed(codes, bits, name), int(bits)


def bit_imbalance(codes, bits=None):
    """How far the bits are from halving a set of codes.

    Formula:
        the mean over bits of |the mean of a bit over the codes|, bits in {-1, +1}

    Args:
        codes: uint8 ``(n, ceil(bits / 8))``, or ``(n, bits)`` over {-1, +1}.
        bits: int, the code length; may be None for unpacked codes.

    Returns:
        float in [0, 1]: 0 if each bit halves the codes, 1 if all codes are equal.

    Raises:
        TypeError, ValueError: as `as_packed`.

    Example:
        >>> bit_imbalance([[1, -1], [1, 1]])
        0.5
    """
    codes = unpack(*as_packed(codes, bits))
    return float(np.abs(codes.mean(axis=0)).mean())
