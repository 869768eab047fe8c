"""DPSH: the likelihood of similar pairs, by the network's own codes."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kerashash.baselines.gradient import GradientHash, small_weights
from kerashash.checks import check_integer, check_least, refuse_arguments
from kerashash.maths import discrete, losses, similarity


@keras.saving.register_keras_serializable(package="kerashash")
class DPSH(GradientHash):
    """Deep pairwise-supervised hashing.

    Solves:
        min  J_1 + eta J_q  over the network, which gives u
        J_1 = mean over pairs of log(1 + exp(t_ij)) - s_ij t_ij,  t_ij = u_i . u_j / 2
        J_q = mean over images and bits of (u - b)^2,  b = sgn(u)

    s_ij is 1 if images i and j share a label and 0 if not. The pairs are those of a
    batch, so use batches of 64 images or more. The hash code of an image is b.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        quantization_weight: float; eta.
        hash_activation: str, callable or None; the activation of the hash layer. None,
            the identity, is the paper's.
        **kwargs: further arguments of `keras.Model`. Without `hash_initializer`, the
            weights of the hash layer begin small.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = DPSH(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        W.-J. Li, S. Wang, W.-C. Kang, Feature Learning based Deep Supervised Hashing
        with Pairwise Labels, IJCAI 2016.

    Differences:
        Terms are means over pairs, and over images and bits, where the paper sums: its
        eta means something else. Pairs are those of a batch; the published code pairs
        a batch with all training images, as their codes were when they were last seen.
    """

    reported = ("loss", "pair_loss", "quantization_loss")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        quantization_weight: float = 0.1,
        hash_activation: str | Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_arguments("DPSH", kwargs, "num_train")
        check_integer("num_classes", num_classes)
        check_least(0, quantization_weight=quantization_weight)
        kwargs["hash_activation"] = hash_activation
        kwargs.setdefault("hash_initializer", small_weights())
        super().__init__(backbone, bits, num_classes, **kwargs)
        self.options = {"quantization_weight": quantization_weight}
        self.build_if_known()

    def compute_losses(self, u: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch and its terms.

        Args:
            u: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``.

        Returns:
            dict of scalar float tensors: "loss"; "pair_loss", J_1; and
            "quantization_loss", J_q.
        """
        similar = tf.cast(similarity.shares_label(labels, labels), tf.float32)
        b = tf.stop_gradient(discrete.sign(u))  # (batch, bits)
        pair_loss = losses.pairwise_likelihood(u, similar)
        quantization_loss = tf.reduce_mean((u - b) ** 2)
        return {
            "loss": pair_loss + self.options["quantization_weight"] * quantization_loss,
            "pair_loss": pair_loss,
            "quantization_loss": quantization_loss,
        }
