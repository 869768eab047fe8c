"""DHN: the likelihood of similar pairs, and a prior that drives codes to -1 or 1."""

from typing import Any

import keras
import tensorflow as tf

from kerashash.baselines.gradient import GradientHash
from kerashash.checks import check_integer, check_least, refuse_arguments
from kerashash.maths import losses, similarity


@keras.saving.register_keras_serializable(package="kerashash")
class DHN(GradientHash):
    """The deep hashing network.

    Solves:
        min  L + lambda Q  over the network, which gives u = tanh(z)
        L = mean over pairs of log(1 + exp(t_ij)) - s_ij t_ij,  t_ij = u_i . u_j
        Q = mean over images and bits of log cosh(|u| - 1)

    s_ij is 1 if images i and j share a label and 0 if not. The pairs are those of a
    batch, so use batches of 64 images or more. The hash code of an image is sgn(u).

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        quantization_weight: float; lambda.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = DHN(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        H. Zhu, M. Long, J. Wang, Y. Cao, Deep Hashing Network for Efficient Similarity
        Retrieval, AAAI 2016.

    Differences:
        Terms are means over pairs, and over images and bits, where the paper sums over
        pairs in both: its lambda means something else.
    """

    reported = ("loss", "pair_loss", "quantization_loss")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        quantization_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        refuse_arguments("DHN", kwargs, "num_train")
        check_integer("num_classes", num_classes)
        check_least(0, quantization_weight=quantization_weight)
        super().__init__(backbone, bits, num_classes, **kwargs)
        self.options = {"quantization_weight": quantization_weight}
        self.build_if_known()

    def compute_losses(self, u: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch and its terms.

        Args:
            u: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``.

        Returns:
            dict of scalar float tensors: "loss"; "pair_loss", L; and
            "quantization_loss", Q.
        """
        similar = tf.cast(similarity.shares_label(labels, labels), tf.float32)
        pair_loss = losses.pairwise_likelihood(u, similar, scale=1.0)
        quantization_loss = losses.log_cosh_quantization(u)
        return {
            "loss": pair_loss + self.options["quantization_weight"] * quantization_loss,
            "pair_loss": pair_loss,
            "quantization_loss": quantization_loss,
        }
