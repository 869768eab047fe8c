"""ITQ: principal components, rotated so that their signs lose least."""

from types import SimpleNamespace
from typing import Any

import keras

from kerashash.baselines.pcah import check_bits
from kerashash.baselines.shallow import Floats, ShallowHash
from kerashash.maths.itq import quantization_loss, rotation_step
from kerashash.maths.projections import principal_components, random_rotation
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class ITQ(ShallowHash):
    """Iterative quantization.

    Solves:
        min  ||B - V R||_F^2  over B and R                                      (eq. 2)
        subject to  B in {-1, +1}^(n x bits),  R^T R = I

    with the projections V = (X - m) W to the first principal components, by turns: B =
    sgn(V R), then the rotation R that is best for B. The loss never rises. A code is
    sgn((x - m) W R).

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length, at most the width of the features.
        num_classes: int or None; not used.
        seed: int; of the first rotation, which is drawn at random.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`, without labels. By default 50 epochs, as in
        the paper.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model, x = ITQ("features", bits=4), np.random.rand(32, 8)
        >>> loss = model.fit(x, verbose=0).history["loss"]
        >>> loss[-1] <= loss[0], model.encode(x).shape
        (True, (32, 1))

    Reference:
        Y. Gong, S. Lazebnik, Iterative Quantization: A Procrustean Approach to Learning
        Binary Codes, CVPR 2011.

    Differences:
        The unsupervised form, by principal components; not that by canonical
        correlation analysis with labels.
    """

    needs_labels = False
    default_epochs = 50

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        options = {"seed": seed}
        super().__init__(backbone, bits, num_classes, options=options, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[SimpleNamespace, Arrays]:
        check_bits(self.bits, x)
        mean, components, _ = principal_components(x, self.bits)
        work = SimpleNamespace(
            mean=mean, components=components, v=(x - mean) @ components
        )
        return work, {"rotation": random_rotation(self.bits, self.options["seed"])}

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        rotation = rotation_step(work.v, state["rotation"])
        self.hash_head.set(work.mean, work.components @ rotation)
        return {"rotation": rotation}, quantization_loss(work.v, rotation)
