"""DTSH: the likelihood that similar images are nearer than dissimilar ones."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kerashash.baselines.gradient import GradientHash, small_weights
from kerashash.checks import check_integer, check_least, refuse_arguments
from kerashash.maths import discrete, losses, similarity


@keras.saving.register_keras_serializable(package="kerashash")
class DTSH(GradientHash):
    """Deep supervised hashing with triplet labels.

    Solves:
        min  J_3 + lambda J_q  over the network, which gives u
        J_3 = mean over triplets (i, j, k) of log(1 + exp(m - t_ij + t_ik)),
              t_ij = u_i . u_j / 2
        J_q = mean over images and bits of (u - b)^2,  b = sgn(u)

    A triplet is an image i, an image j that shares a label with it, and an image k that
    does not. The triplets are all those of a batch, so use batches of 64 to 128 images:
    memory grows with the third power of the batch. The hash code of an image is b.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        margin: float; m, in units of t: 1 is a difference of one bit.
        quantization_weight: float; lambda.
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
        >>> model = DTSH(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        X. Wang, Y. Shi, K. M. Kitani, Deep Supervised Hashing with Triplet Labels, ACCV
        2016.

    Differences:
        Terms are means over triplets, and over images and bits, where the paper sums:
        its lambda means something else.
    """

    reported = ("loss", "triplet_loss", "quantization_loss")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        margin: float = 5.0,
        quantization_weight: float = 0.1,
        hash_activation: str | Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_arguments("DTSH", kwargs, "num_train")
        check_integer("num_classes", num_classes)
        options = {"margin": margin, "quantization_weight": quantization_weight}
        check_least(0, **options)
        kwargs["hash_activation"] = hash_activation
        kwargs.setdefault("hash_initializer", small_weights())
        super().__init__(backbone, bits, num_classes, **kwargs)
        self.options = options
        self.build_if_known()

    def compute_losses(self, u: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch and its terms.

        Args:
            u: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``.

        Returns:
            dict of scalar float tensors: "loss"; "triplet_loss", J_3; and
            "quantization_loss", J_q.
        """
        similar = tf.cast(similarity.shares_label(labels, labels), tf.float32)
        b = tf.stop_gradient(discrete.sign(u))  # (batch, bits)
        margin = self.options["margin"]
        triplet_loss = losses.triplet_likelihood(u, similar, margin)
        quantization_loss = tf.reduce_mean((u - b) ** 2)
        weight = self.options["quantization_weight"]
        return {
            "loss": triplet_loss + weight * quantization_loss,
            "triplet_loss": triplet_loss,
            "quantization_loss": quantization_loss,
        }
