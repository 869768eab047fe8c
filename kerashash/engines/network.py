"""What all engines have in common."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Model(Protocol):
    """What an engine needs of a `HashModel`."""

    name: Any
    built: Any
    backbone: Any
    variables: Any

    def _batch_shape(self) -> tuple[int | None, ...] | None: ...

    def _flatten_layers(self) -> Any: ...

    def __call__(self, inputs: Any, training: bool | None = None) -> Any: ...


class Network(Protocol):
    """A network that an engine runs; threads may share it."""

    def run(
        self, batches: Iterable[Any], rows: int
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Run the network over batches.

        Args:
            batches: iterable of arrays or tensors ``(n, ...)``.
            rows: int; how many rows go through the network at a time.

        Yields:
            float32 arrays ``(m, bits)``, m at most `rows`: the continuous codes of the
            rows of all batches, in order.
        """
        ...


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Drop what libraries write to the file of standard error in a block.

    Converters write pages there of a network that they cannot convert, and then raise.
    What a caller has put in the place of `sys.stderr` is not touched.

    Example:
        >>> with silent():
        ...     os.write(2, b"pages")
        5
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def pieces(batches: Iterable[Any], rows: int) -> Iterator[npt.NDArray[Any]]:
    """Cut batches into pieces of uint8 or float32.

    Args:
        batches: iterable of arrays or tensors ``(n, ...)``.
        rows: int; the most rows of a piece.

    Yields:
        Arrays ``(m, ...)``.

    Example:
        >>> [piece.tolist() for piece in pieces([np.arange(3, dtype=np.uint8)], rows=2)]
        [[0, 1], [2]]
    """
    for batch in batches:
        array = np.asarray(batch)
        if array.dtype != np.uint8:
            array = array.astype(np.float32, copy=False)
        for start in range(0, len(array), rows):
            yield array[start : start + rows]
