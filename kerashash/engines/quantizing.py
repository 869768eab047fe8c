"""Networks in 8-bit integers, by OpenVINO's NNCF."""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino


def quantized(
    network: openvino.Model, inputs: npt.NDArray[np.float32]
) -> openvino.Model:
    """Quantise a network's weights and activations, after its training.

    The resizing of images and the first convolution stay in float32: the first
    convolution takes few operations, and its error goes through all layers. Ranges are
    those between the least and the greatest value of each activation, and biases are
    corrected layer by layer. All of this was chosen by the bits that change on other
    training images.

    Args:
        network: `openvino.Model` of float32.
        inputs: float32 array ``(n, ...)``; inputs like those it was trained on.

    Returns:
        `openvino.Model`.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    network = network.clone()
    network.reshape([-1, *inputs.shape[1:]])
    with _quietly():
        return nncf.quantize(
            network,
            nncf.Dataset([row[None] for row in inputs]),
            # Activations may be asymmetric: those of ReLU6 are.
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(names=_first_layers(network)),
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )


def _first_layers(network: openvino.Model) -> list[str]:
    """Names of what computes with numbers, up to the first convolution."""
    names = []
    arithmetic = ("Add", "Divide", "Einsum", "MatMul", "Multiply", "Subtract")
    operations = network.get_ordered_ops()
    convolutions = [op for op in operations if op.get_type_name() == "Convolution"]
    if not convolutions:
        return []
    for op in operations[: operations.index(convolutions[0])]:
        if op.get_type_name() in arithmetic:
            names.append(op.get_friendly_name())
    return [*names, convolutions[0].get_friendly_name()]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without NNCF's progress bars and log."""
    logger: Any = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
