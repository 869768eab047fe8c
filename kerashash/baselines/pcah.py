"""PCAH: the signs of the principal components."""

from typing import Any

import keras
import numpy as np

from kerashash.baselines.shallow import Floats, ShallowHash
from kerashash.maths.projections import principal_components
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class PCAH(ShallowHash):
    """Hashing by principal components.

    Solves:
        max  tr(W^T C W)  subject to  W^T W = I,  u = (x - m) W

    with the mean m and the covariance C of the training rows: a bit for each of the
    directions in which features vary most. The loss that `fit` reports is the share of
    the variance that the other directions have.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length, at most the width of the features.
        num_classes: int or None; not used.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`, without labels. One epoch is all.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model, x = PCAH("features", bits=4), np.random.rand(32, 8)
        >>> history = model.fit(x, verbose=0)
        >>> model.encode(x).shape
        (32, 1)

    Reference:
        J. Wang, S. Kumar, S.-F. Chang, Semi-Supervised Hashing for Scalable Image
        Retrieval, CVPR 2010, which calls it PCA Hashing.
    """

    needs_labels = False

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, bits, num_classes, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[Floats, Arrays]:
        check_bits(self.bits, x)
        return x, {}

    def iterate(self, work: Floats, state: Arrays) -> tuple[Arrays, float]:
        mean, components, variances = principal_components(work, self.bits)
        self.hash_head.set(mean, components)
        rest = variances[self.bits :].sum() / max(variances.sum(), np.finfo(float).tiny)
        return state, float(rest)


def check_bits(bits: int, x: Floats) -> None:
    """Check that there are as many principal components as bits.

    Args:
        bits: int.
        x: array ``(n, d)``.

    Raises:
        ValueError: if d is less.

    Example:
        >>> check_bits(4, np.zeros((9, 3)))
        Traceback (most recent call last):
        ValueError: `bits` must be at most the width of the features, 3. Received: 4.
    """
    if bits > x.shape[1]:
        raise ValueError(
            f"`bits` must be at most the width of the features, {x.shape[1]}. "
            f"Received: {bits}."
        )
