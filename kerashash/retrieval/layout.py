"""Memory layout of a database of hash codes, and blocks of queries."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

#: Codes per chunk: one byte of each fills an AVX2 register.
LANES = 32
#: Chunks per group. The selection of the nearest codes counts by groups, so a database
#: is padded with chunks until every group is full.
CHUNKS_PER_GROUP = 32
#: Largest number of queries compared at a time.
MAX_QUERIES = 64
# What the full name of a device of this process begins with.
_THIS_PROCESS = "/job:localhost/replica:0/task:0"


def chunked(packed: npt.NDArray[np.uint8], chunks: int) -> npt.NDArray[np.uint8]:
    """Lay packed codes out in chunks, byte by byte.

    Args:
        packed: uint8 array ``(n, width)``; packed codes, at least one row.
        chunks: int; number of chunks, at least ``n / LANES``. Copies of the last code
            fill the rest: they change the minimum distance of no chunk that holds a
            code.

    Returns:
        uint8 array ``(chunks, width, LANES)``.

    Example:
        >>> chunked(np.array([[7, 8], [9, 0]], np.uint8), chunks=1)[0, :, :3]
        array([[7, 9, 9],
               [8, 0, 0]], dtype=uint8)
    """
    padding = chunks * LANES - len(packed)
    padded = np.concatenate([packed, np.repeat(packed[-1:], padding, axis=0)])
    rows = padded.reshape(chunks, LANES, -1)
    return np.ascontiguousarray(rows.transpose(0, 2, 1))


def unchunked(codes: npt.NDArray[np.uint8], n: int) -> npt.NDArray[np.uint8]:
    """The packed codes that `chunked` laid out.

    Args:
        codes: uint8 array ``(chunks, width, LANES)``; the chunks.
        n: int; how many codes they hold.

    Returns:
        uint8 array ``(n, width)``.

    Example:
        >>> unchunked(chunked(np.array([[7, 8], [9, 0]], np.uint8), chunks=1), n=2)
        array([[7, 8],
               [9, 0]], dtype=uint8)
    """
    return codes.transpose(0, 2, 1).reshape(-1, codes.shape[1])[:n]


def on_device(name: str | None) -> contextlib.AbstractContextManager[Any]:
    """Place new tensors, and run operations, on a device.

    Args:
        name: str or None; the name of a device of TensorFlow, such as "GPU:1". None
            leaves it to TensorFlow.

    Returns:
        A context manager.

    Example:
        >>> with on_device("CPU:0"):
        ...     on_accelerator()
        False
    """
    return contextlib.nullcontext() if name is None else tf.device(name)


def check_devices(devices: Iterable[str] | None) -> list[str] | None:
    """Check names of devices of this process.

    Args:
        devices: iterable of str, or None; each as TensorFlow writes it: "GPU:1",
            "/GPU:1", "/device:GPU:1" or "/job:localhost/replica:0/task:0/device:GPU:1",
            in either case.

    Returns:
        List of str, such as "GPU:1", or None.

    Raises:
        TypeError: if it is no iterable of str, or a str itself.
        ValueError: if it is empty, TensorFlow has no such device, or one occurs twice.

    Example:
        >>> check_devices(["/cpu:0"])
        ['CPU:0']
    """
    if devices is None:
        return None
    try:
        listed = [*devices]
    except TypeError:  # arrays without axes are of the type Iterable, too
        listed = [devices]  # type: ignore[list-item]
    if isinstance(devices, str) or not all(isinstance(name, str) for name in listed):
        raise TypeError(
            "`devices` must be a list of names of devices, such as 'GPU:0'. Received: "
            f"{devices if isinstance(devices, str) else listed!r}."
        )
    known = [
        device.name.removeprefix(_THIS_PROCESS).removeprefix("/device:")
        for device in tf.config.list_logical_devices()
    ]
    spellings = {
        f"{prefix}{name}".lower(): name
        for name in known
        for prefix in ("", "/", "/device:", f"{_THIS_PROCESS}/device:")
    }
    names = [spellings.get(name.lower(), "") for name in listed]
    if not names or not all(names) or len({*names}) < len(names):
        raise ValueError(
            f"`devices` must be different ones of {known}, at least one. Received: "
            f"{listed}."
        )
    return names


def on_accelerator() -> bool:
    """Whether TensorFlow places new tensors on a GPU or another accelerator, and not in
    the memory of the processor.

    Returns:
        bool; False within ``tf.device("CPU")``.

    Example:
        >>> import tensorflow as tf
        >>> with tf.device("CPU"):
        ...     on_accelerator()
        False
    """
    return not _is_on_host(tf.constant(0, tf.uint8))


def _is_on_host(tensor: tf.Tensor) -> bool:
    """Whether an eager tensor is in the memory of the processor."""
    device = tf.DeviceSpec.from_string(tensor.backing_device)
    return device.device_type == "CPU"


def as_array(tensor: tf.Tensor) -> npt.NDArray[Any]:
    """A tensor's values, without a copy where possible; they must not be changed.

    Args:
        tensor: eager tensor, on any device.

    Returns:
        Array of the tensor's shape and dtype.

    Example:
        >>> import tensorflow as tf
        >>> as_array(tf.constant([1, 2]))
        array([1, 2], dtype=int32)
    """
    # Only memory of the processor can be viewed.
    return np.asarray(memoryview(tensor)) if _is_on_host(tensor) else tensor.numpy()


def query_blocks(
    queries: npt.NDArray[np.uint8], max_rows: int
) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
    """Split queries into blocks of few different shapes, which saves compilations.

    Args:
        queries: uint8 array ``(q, width)``; packed codes.
        max_rows: int; largest number of rows of a block. It is never more than
            `MAX_QUERIES`.

    Yields:
        ``(rows, block)``: a slice of the queries, and the queries of that slice,
        followed by rows of zeros up to a power of two.

    Example:
        >>> queries = np.ones((7, 1), np.uint8)
        >>> [(rows, len(block)) for rows, block in query_blocks(queries, max_rows=4)]
        [(slice(0, 4, None), 4), (slice(4, 7, None), 4)]
    """
    # The largest power of two in the limits.
    size = 1 << max(1, min(max_rows, MAX_QUERIES)).bit_length() - 1
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        rows = slice(start, start + len(block))
        padding = (1 << (len(block) - 1).bit_length()) - len(block)
        if padding:
            block = np.pad(block, ((0, padding), (0, 0)))
        yield rows, block


def round_up_chunks(count: int) -> int:
    """Round a number of chunks up to whole groups and to one of few sizes.

    There are eight sizes per octave, so that a growing database can mostly keep its
    compiled kernels.

    Args:
        count: int; the number of chunks needed.

    Returns:
        int, at least `count`.

    Example:
        >>> round_up_chunks(1), round_up_chunks(1000), round_up_chunks(1030)
        (32, 1024, 1152)
    """
    step = max(CHUNKS_PER_GROUP, 1 << max(0, count.bit_length() - 4))
    return -(-count // step) * step


def chunks_to_search(k: int, chunks: int) -> int:
    """In how many chunks to search for the k nearest codes.

    Args:
        k: int; the number of codes.
        chunks: int; the number of chunks of the database.

    Returns:
        int, at least k; or 0 if the database has less than three times as many chunks,
        too few to gain from a selection of chunks.

    Example:
        >>> chunks_to_search(k=100, chunks=1024), chunks_to_search(k=500, chunks=1024)
        (128, 0)
    """
    selected = round_up_chunks(k)
    return selected if 3 * selected <= chunks else 0
