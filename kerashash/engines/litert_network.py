"""Networks on LiteRT, formerly TensorFlow Lite."""

import collections
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from kerashash.engines.network import pieces, silent


def converted(function: Any) -> bytes:
    """Convert a TensorFlow graph.

    Args:
        function: concrete function of one input and one output.

    Returns:
        bytes, which `LiteRTNetwork` takes.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    with silent():
        content: bytes = converter.convert()
    return content


class LiteRTNetwork:
    """A network that LiteRT runs.

    Args:
        content: bytes of `converted`; the network takes float32.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._idle: collections.deque[Any] = collections.deque()

    def run(
        self, batches: Iterable[Any], rows: int
    ) -> Iterator[npt.NDArray[np.float32]]:
        try:
            interpreter = self._idle.pop()
        except IndexError:
            interpreter = Interpreter(
                model_content=self._content, num_threads=os.cpu_count()
            )
        (source,) = interpreter.get_input_details()
        (output,) = interpreter.get_output_details()
        shape: tuple[int, ...] = ()
        for piece in pieces(batches, rows):
            if piece.shape != shape:
                shape = piece.shape
                interpreter.resize_tensor_input(source["index"], shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(source["index"], piece.astype(np.float32))
            interpreter.invoke()
            yield interpreter.get_tensor(output["index"])
        self._idle.append(interpreter)
