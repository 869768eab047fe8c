"""Networks on OpenVINO, which runs several batches at a time, each on its own cores."""

import collections
import functools
import pathlib
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from kerashash.engines.network import pieces, silent

# bfloat16, which OpenVINO takes where the processor has it, gives other codes.
_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
# Requests for each stream of OpenVINO: one that runs, and one that waits for its turn.
_REQUESTS = 2


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


def device() -> str:
    """What processor OpenVINO sees, and what it can do."""
    able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return f"{_core().get_property('CPU', 'FULL_DEVICE_NAME')} {sorted(able)}"


def converted(function: Any) -> openvino.Model:
    """Convert a TensorFlow graph.

    Args:
        function: concrete function of one input and one output.

    Returns:
        `openvino.Model`.
    """
    with silent():
        network = openvino.convert_model(function)
    # Without what the converter takes for further outputs.
    return openvino.Model([network.outputs[0]], network.get_parameters())


def as_bytes(network: openvino.Model) -> bytes:
    """A network as bytes, which `OpenVINONetwork` takes.

    Args:
        network: `openvino.Model`.

    Returns:
        bytes: the length of the graph, the graph, the weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.xml")
        # In float16, by default, the weights would give other codes.
        openvino.save_model(network, path, compress_to_fp16=False)
        graph, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    return struct.pack("<Q", len(graph)) + graph + weights


def from_bytes(content: bytes) -> openvino.Model:
    """The network that `as_bytes` wrote.

    Args:
        content: bytes.

    Returns:
        `openvino.Model`.
    """
    (length,) = struct.unpack_from("<Q", content)
    return _core().read_model(content[8 : 8 + length], content[8 + length :])


class OpenVINONetwork:
    """A network that OpenVINO runs.

    Args:
        content: bytes of `as_bytes`; the network takes float32.
    """

    def __init__(self, content: bytes) -> None:
        self._network = from_bytes(content)
        # One for each dtype and shape of images, with its requests that do nothing.
        self._compiled: dict[Any, tuple[openvino.CompiledModel, Any]] = {}
        self._lock = threading.Lock()

    def run(
        self, batches: Iterable[Any], rows: int
    ) -> Iterator[npt.NDArray[np.float32]]:
        running: collections.deque[Any] = collections.deque()
        most, key = 0, None
        idle: Any = None

        def finished() -> npt.NDArray[np.float32]:
            request, idle = running.popleft()
            request.wait()
            result = request.get_output_tensor(0).data.copy()
            idle.append(request)
            return result

        try:
            for piece in pieces(batches, rows):
                if key != (piece.dtype, piece.shape[1:]):
                    key = (piece.dtype, piece.shape[1:])
                    compiled, idle = self._compiled_for(*key)
                    most = _REQUESTS * compiled.get_property("NUM_STREAMS")
                if len(running) >= most:
                    yield finished()
                try:
                    request = idle.pop()
                except IndexError:
                    request = compiled.create_infer_request()
                request.start_async({0: piece})
                running.append((request, idle))
            while running:
                yield finished()
        finally:  # nobody may want the rest
            while running:
                finished()

    def _compiled_for(
        self, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> tuple[openvino.CompiledModel, Any]:
        with self._lock:
            key = dtype.name, shape
            if key not in self._compiled:
                network = self._network.clone()
                if dtype == np.uint8:
                    steps = openvino.preprocess.PrePostProcessor(network)
                    steps.input().tensor().set_element_type(openvino.Type.u8)
                    network = steps.build()
                # What depends on the size of images is computed once.
                network.reshape([-1, *shape])
                compiled = _core().compile_model(network, "CPU", _OPTIONS)
                self._compiled[key] = compiled, collections.deque()
            return self._compiled[key]
