"""SpH: bits that say whether a vector is within a ball."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerashash.baselines.shallow import Floats, Projection, ShallowHash
from kerashash.checks import check_least
from kerashash.maths import spherical
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class Balls(Projection):
    """Balls in the space of features, u = r^2 - ||x - m - w||^2.

    The columns w of the kernel are the pivots as seen from m, and the bias is r^2.

    Args:
        bits: int; the code length.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 continuous codes ``(batch, bits)``.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = inputs - self.mean
        squares = tf.reduce_sum(x**2, axis=1, keepdims=True)  # (batch, 1)
        pivots = tf.reduce_sum(self.kernel**2, axis=0)  # (bits,)
        return self.bias - (squares + pivots - 2.0 * tf.matmul(x, self.kernel))


@keras.saving.register_keras_serializable(package="kerashash")
class SpH(ShallowHash):
    """Spherical hashing.

    Formula:
        u_k = r_k^2 - ||x - p_k||^2

    A bit is 1 within a ball, around a pivot p_k, that holds half of the training rows.
    The pivots are moved until any two balls share a quarter of the rows, as of
    independent bits. The loss that `fit` reports is the mean of |o_ij - n/4| / (n/4)
    over pairs of balls, with the numbers o of rows that they share.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int or None; not used.
        mean_tolerance: float; `fit` ends once the loss is at most this, and
        deviation_tolerance: float; the standard deviation of o_ij / (n/4) at most this.
        seed: int; of the rows of which the first pivots are means.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`, without labels. By default at most 100 epochs.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model, x = SpH("features", bits=16), np.random.rand(64, 8)
        >>> history = model.fit(x, verbose=0)
        >>> model.encode(x).shape
        (64, 2)

    Reference:
        J.-P. Heo, Y. Lee, J. He, S.-F. Chang, S.-E. Yoon, Spherical Hashing, CVPR 2012.

    Differences:
        Codes are ranked by the Hamming distance, as those of all methods, not by the
        paper's spherical Hamming distance, which divides it by the number of common
        ones.
    """

    needs_labels = False
    default_epochs = 100

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int | None = None,
        mean_tolerance: float = 0.1,
        deviation_tolerance: float = 0.15,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        options = {
            "mean_tolerance": mean_tolerance,
            "deviation_tolerance": deviation_tolerance,
        }
        check_least(0, **options)
        options["seed"] = seed
        head = Balls(bits, name="hash_head")
        super().__init__(
            backbone, bits, num_classes, fitted=head, options=options, **kwargs
        )

    def begin(self, x: Floats, labels: Any) -> tuple[Floats, Arrays]:
        mean = x.mean(axis=0)
        pivots = spherical.first_pivots(x - mean, self.bits, self.options["seed"])
        return x, {"pivots": pivots, "moved": np.array(0)}

    def iterate(self, work: Floats, state: Arrays) -> tuple[Arrays, float]:
        mean, pivots = work.mean(axis=0), state["pivots"]
        x = work - mean
        balls = spherical.spheres(x, pivots)
        if state["moved"] and not self._done(balls):
            pivots = spherical.move(pivots, balls.overlaps)
            # Where most rows are equal, balls share too many wherever they are.
            if np.abs(pivots).max() > 1e3 * np.abs(x).max():
                raise np.linalg.LinAlgError("the balls move away from all rows")
            balls = spherical.spheres(x, pivots)
        self.hash_head.set(mean, pivots.T, balls.radii**2)
        self.stop_training = self._done(balls)
        loss = balls.errors.mean() if self.bits > 1 else 0.0
        return {"pivots": pivots, "moved": np.array(1)}, float(loss)

    def _done(self, balls: spherical.Spheres) -> bool:
        if self.bits == 1:
            return True
        overlaps = 4.0 * balls.overlaps[np.triu_indices(self.bits, 1)]
        return bool(
            balls.errors.mean() <= self.options["mean_tolerance"]
            and overlaps.std() <= self.options["deviation_tolerance"]
        )
