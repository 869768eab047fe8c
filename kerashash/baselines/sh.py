"""SH: the smoothest waves along the principal components."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerashash.baselines.shallow import Floats, Projection, ShallowHash
from kerashash.maths.projections import principal_components
from kerashash.maths.spectral import smoothest_modes
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class Waves(Projection):
    """Cosines of linear functions of features, u = cos((x - m) W + c).

    Args:
        bits: int; the code length.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 continuous codes ``(batch, bits)``.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cos(super().call(inputs))


@keras.saving.register_keras_serializable(package="kerashash")
class SH(ShallowHash):
    """Spectral hashing.

    Formula:
        v = (x - m) P
        u_j = sin(pi/2 + w_j (v_i - min_i)),  w_j = k pi / (max_i - min_i)

    with the principal components P. Bit j is a wave along one direction i = i(j). The
    codes of near vectors differ least if, of the waves of all directions i and numbers
    k = 1, 2, ..., those with the smallest frequencies w are taken, for vectors that are
    uniform in a box. The loss that `fit` reports is the mean of w^2, with which the
    eigenvalues of the graph Laplacian grow.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int or None; not used.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`, without labels. One epoch is all.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model, x = SH("features", bits=16), np.random.rand(32, 8)
        >>> history = model.fit(x, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        Y. Weiss, A. Torralba, R. Fergus, Spectral Hashing, NIPS 2008.

    Differences:
        As in the paper, waves along more than one direction are left out. There are as
        many directions as bits, at most.
    """

    needs_labels = False

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        head = Waves(bits, name="hash_head")
        super().__init__(backbone, bits, num_classes, fitted=head, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[Floats, Arrays]:
        return x, {}

    def iterate(self, work: Floats, state: Arrays) -> tuple[Arrays, float]:
        dim = min(self.bits, work.shape[1])
        mean, components, _ = principal_components(work, dim)
        v = ((work - mean) @ components).astype(np.float64)  # (n, dim)
        lowest = v.min(axis=0)
        directions, frequencies = smoothest_modes(v.max(axis=0) - lowest, self.bits)
        kernel = components[:, directions] * frequencies
        # sin(pi/2 + t) = cos(t)
        self.hash_head.set(mean, kernel, -frequencies * lowest[directions])
        return state, float(np.square(frequencies).mean())
