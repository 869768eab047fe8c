"""LSH: random hyperplanes."""

from typing import Any

import keras
import numpy as np

from kerashash.baselines.shallow import Floats, ShallowHash
from kerashash.checks import check_flag
from kerashash.maths.projections import signs
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class LSH(ShallowHash):
    """Locality-sensitive hashing by random hyperplanes.

    Formula:
        u = (x - m) W,  W_ij ~ N(0, 1)

    A bit of two vectors differs with a probability that is proportional to the angle
    between them, as seen from the mean m of the training rows. Nothing is learned but
    that mean. The loss that `fit` reports is the imbalance of the bits, the mean over
    bits of (mean over rows of b)^2, which LSH does not minimise.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int or None; not used.
        center: bool; False takes m = 0.
        seed: int; of the random directions.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`, without labels. One epoch is all.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model, x = LSH("features", bits=16), np.random.rand(32, 8)
        >>> history = model.fit(x, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        M. S. Charikar, Similarity Estimation Techniques from Rounding Algorithms, STOC
        2002, section 3.

    Differences:
        Features are centred, by default, which papers that compare with LSH often do
        before.
    """

    needs_labels = False

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int | None = None,
        center: bool = True,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_flag(center=center)
        options = {"center": bool(center), "seed": seed}
        super().__init__(backbone, bits, num_classes, options=options, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[Floats, Arrays]:
        return x, {}

    def iterate(self, work: Floats, state: Arrays) -> tuple[Arrays, float]:
        random = np.random.default_rng(self.options["seed"])
        kernel = random.normal(size=(work.shape[1], self.bits)).astype(np.float32)
        mean = work.mean(axis=0, dtype=np.float64) * self.options["center"]
        self.hash_head.set(mean, kernel)
        codes = signs((work - mean.astype(np.float32)) @ kernel)
        return state, float(np.square(codes.mean(axis=0)).mean())
