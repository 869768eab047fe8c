"""HashNet: weighted pairs, and an activation that sharpens towards the sign."""

from typing import Any

import keras
import tensorflow as tf

from kerashash.baselines.gradient import GradientHash
from kerashash.checks import check_flag, check_integer, check_least, refuse_arguments
from kerashash.maths import losses, similarity


@keras.saving.register_keras_serializable(package="kerashash")
class HashNet(GradientHash):
    """Deep learning to hash by continuation.

    Solves:
        min  mean over pairs of w_ij (log(1 + exp(t_ij)) - s_ij t_ij)  over the network
        t_ij = alpha u_i . u_j,  u = tanh(beta z)
        w_ij = c_ij n / n_1 if s_ij = 1, and n / n_0 if s_ij = 0

    The network gives z. s_ij is 1 if images i and j share a label and 0 if not; n_1 and
    n_0 of the n pairs are similar and dissimilar, so that both kinds weigh the same.
    beta grows with the steps k of the optimizer, beta = (1 + growth k)^(1/2): so tanh
    sharpens into the sign, which has no gradient of its own. The pairs are those of a
    batch, so use batches of 64 images or more. The hash code of an image is sgn(z).

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        scale: float or None; alpha. None is 10 / bits, as in the published code.
        growth: float; how fast beta grows, from 1. 0 leaves it at 1: tanh alone, the
            ablation HashNet-sgn of the paper.
        weighted: bool; False sets all w_ij to 1: the ablation HashNet-W.
        continuous_similarity: bool; True sets c_ij to the share of the labels of two
            images that both have, ``|y_i and y_j| / |y_i or y_j|``: HashNet+C, for
            images with several labels. False is 1.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = HashNet(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        Z. Cao, M. Long, J. Wang, P. S. Yu, HashNet: Deep Learning to Hash by
        Continuation, ICCV 2017.

    Differences:
        The mean over pairs replaces the sum. n_1 and n_0 are counts of the batch, as in
        the published code, and beta has that code's schedule, but grows with each step:
        the paper trains to convergence with each of a sequence of beta. c_ij is 1 for
        dissimilar pairs, which share no label.
    """

    reported = ("loss",)

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        scale: float | None = None,
        growth: float = 0.005,
        weighted: bool = True,
        continuous_similarity: bool = False,
        **kwargs: Any,
    ) -> None:
        refuse_arguments("HashNet", kwargs, "num_train", "hash_activation")
        check_integer("num_classes", num_classes)
        check_flag(weighted=weighted, continuous_similarity=continuous_similarity)
        check_least(0, growth=growth, **({} if scale is None else {"scale": scale}))
        super().__init__(backbone, bits, num_classes, hash_activation=None, **kwargs)
        self.options = {
            "scale": scale,
            "growth": growth,
            "weighted": bool(weighted),
            "continuous_similarity": bool(continuous_similarity),
        }
        self.build_if_known()

    # --------------------------------------------------------------- objective

    def compute_losses(self, z: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch.

        Args:
            z: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``.

        Returns:
            dict of a scalar float tensor, "loss".
        """
        step = tf.cast(self.optimizer.iterations, tf.float32)
        beta = tf.sqrt(1.0 + self.options["growth"] * step)
        u = tf.tanh(beta * z)  # (batch, bits)
        similar = tf.cast(similarity.shares_label(labels, labels), tf.float32)
        scale = self.options["scale"]
        scale = 10.0 / self.bits if scale is None else scale
        weights = self._pair_weights(labels, similar)
        return {"loss": losses.pairwise_likelihood(u, similar, scale, weights)}

    def _pair_weights(self, labels: tf.Tensor, similar: tf.Tensor) -> tf.Tensor:
        """w: float tensor ``(batch, batch)``."""
        weights = tf.ones_like(similar)
        if self.options["weighted"]:
            off_diagonal = 1.0 - tf.eye(tf.shape(similar)[0])
            pairs = tf.reduce_sum(off_diagonal)
            n_1 = tf.reduce_sum(similar * off_diagonal)
            # A batch with only one kind of pair has no other to weigh.
            weights = tf.where(
                similar > 0.5,
                tf.math.divide_no_nan(pairs, n_1),
                tf.math.divide_no_nan(pairs, pairs - n_1),
            )
        if self.options["continuous_similarity"]:
            both = tf.matmul(labels, labels, transpose_b=True)
            count = tf.reduce_sum(labels, axis=1)
            shared = tf.math.divide_no_nan(both, count[:, None] + count - both)
            weights *= tf.where(similar > 0.5, shared, 1.0)
        return weights

    # ---------------------------------------------------------------- plumbing

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["hash_activation"]  # it is the method's
        return config
