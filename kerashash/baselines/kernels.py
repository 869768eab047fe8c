"""Hash functions of Gaussian kernels, which SDH and KSH share."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.baselines.shallow import Projection, feature_width


@keras.saving.register_keras_serializable(package="kerashash")
class KernelProjection(Projection):
    """A linear function of the kernel values of anchors.

    Formula:
        u = (k(x) - m) W + c,  k_j(x) = exp(-g ||x - a_j||^2)

    Args:
        bits: int; the code length.
        anchors: int; how many anchors there are, at most.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 continuous codes ``(batch, bits)``.
    """

    def __init__(self, bits: int, anchors: int, **kwargs: Any) -> None:
        super().__init__(bits, **kwargs)
        self.num_anchors = anchors

    def build(self, input_shape: Any) -> None:
        width = feature_width(input_shape)
        super().build((None, self.num_anchors))
        self.anchors = self._fitted("anchors", (self.num_anchors, width))
        self.shift = self._fitted("shift", (width,))
        self.precision = self._fitted("precision", ())

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Differences do not change by a shift, and small numbers lose fewer digits.
        x, anchors = inputs - self.shift, self.anchors - self.shift
        squares = tf.reduce_sum(x**2, axis=1, keepdims=True)  # (batch, 1)
        squares += tf.reduce_sum(anchors**2, axis=1)  # (batch, anchors)
        distances = tf.nn.relu(squares - 2.0 * tf.matmul(x, anchors, transpose_b=True))
        return super().call(tf.exp(-self.precision * distances))

    def set_anchors(self, anchors: npt.NDArray[Any], precision: float) -> None:
        """Set a and g.

        Args:
            anchors: array ``(k, d)`` with k from 1 to the number of anchors. The
                others, of which there are none in small data, get no weight.
            precision: float.
        """
        missing = self.num_anchors - len(anchors)
        self.anchors.assign(np.pad(anchors, [(0, missing), (0, 0)]))
        self.shift.assign(anchors.mean(axis=0))
        self.precision.assign(precision)

    def set(self, mean: npt.ArrayLike, kernel: Any, bias: npt.ArrayLike = 0.0) -> None:
        missing = self.num_anchors - len(kernel)
        kernel = np.pad(kernel, [(0, missing), (0, 0)])
        super().set(np.pad(np.asarray(mean), (0, missing)), kernel, bias)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "anchors": self.num_anchors}
