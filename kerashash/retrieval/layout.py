"""How a database of hash codes lies in memory: chunks, blocks of queries."""

import numpy as np

#: Codes of a chunk; as many values of a byte fill one AVX2 register.
LANES = 32
#: Chunks are allocated by so many, which keeps the selection's groups whole.
CHUNKS = 32
#: Queries compared at a time, at most.
QUERIES = 64


def chunked(packed, chunks):
    """Lay packed codes out in chunks.

    Args:
        packed: uint8 ``(n, width)``, at least one row.
        chunks: int, at least ``n / LANES``. What is left is filled with copies of the
            last code, which change no chunk's minimum.

    Returns:
        uint8 ``(chunks, width, LANES)``.

    Example:
        >>> chunked(np.array([[7, 8], [9, 0]], np.uint8), chunks=1)[0, :, :3]
        array([[7, 9, 9],
               [8, 0, 0]], dtype=uint8)
    """
    padding = chunks * LANES - len(packed)
    padded = np.concatenate([packed, np.repeat(packed[-1:], padding, axis=0)])
    rows = padded.reshape(chunks, LANES, -1)
    return np.ascontiguousarray(rows.transpose(0, 2, 1))


def unchunked(codes, n):
    """The first n of the packed codes that `chunked` laid out."""
    return codes.transpose(0, 2, 1).reshape(-1, codes.shape[1])[:n]


def host(tensor):
    """A tensor's values as an array, where possible without a copy; not to be
    written to."""
    return np.asarray(memoryview(tensor))


def query_blocks(queries, most):
    """Cut queries into blocks of few shapes.

    Args:
        queries: uint8 ``(q, width)``.
        most: int, rows of a block, at most; no more than `QUERIES`.

    Yields:
        A slice of the rows, and the rows, filled up to a power of two.
    """
    most = 1 << max(1, min(most, QUERIES)).bit_length() - 1
    for start in range(0, len(queries), most):
        some = queries[start : start + most]
        padding = (1 << (len(some) - 1).bit_length()) - len(some)
        rows = slice(start, start + len(some))
        yield rows, np.pad(some, ((0, padding), (0, 0))) if padding else some


def roomy(count):
    """The least of a few numbers of chunks, eight an octave, that holds `count`.

    Rounded sizes let a growing database keep its compiled kernels.

    Example:
        >>> roomy(1), roomy(1000), roomy(1030)
        (32, 1024, 1152)
    """
    step = max(CHUNKS, 1 << max(0, count.bit_length() - 4))
    return -(-count // step) * step


def chunks_for(k, chunks):
    """How many chunks to look into for the k nearest codes; 0 if all, at once."""
    wanted = roomy(k)
    return wanted if 3 * wanted <= chunks else 0
