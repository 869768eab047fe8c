"""SSDH: a classifier whose last hidden layer becomes the hash code."""

from typing import Any

import keras
import tensorflow as tf

from kerashash.baselines.gradient import GradientHash
from kerashash.checks import (
    check_choices,
    check_integer,
    check_least,
    refuse_arguments,
)
from kerashash.maths import losses
from kerashash.methods.hash_model import build_once

CHOICES = {"classification": ("softmax", "hinge")}


@keras.saving.register_keras_serializable(package="kerashash")
class SSDH(GradientHash):
    """Supervised semantics-preserving deep hashing.

    A latent layer, with one unit per bit, precedes a linear classifier. The classifier
    sees nothing else, so images of one class are driven to similar codes.

    Solves:
        min  alpha E_1 + beta E_2 + gamma E_3  over the network and the classifier
        E_1 = mean over images of the classification loss of W^T a + c
        E_2 = - mean over images and bits of (a - 1/2)^2
        E_3 = mean over images of (mean over bits of a - 1/2)^2

    with the latent activations a in (0, 1). E_2 drives each of them to 0 or 1; E_3
    balances each image, half of whose bits are to be 1. A bit of the hash code is 1 if
    a is at least 1/2.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        classification: str; the classification loss: "softmax" for one label per image,
            "hinge" for several (`kerashash.maths.losses.squared_hinge`).
        classification_weight: float; alpha.
        binary_weight: float; beta.
        balance_weight: float; gamma.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = SSDH(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        H.-F. Yang, K. Lin, C.-S. Chen, Supervised Learning of Semantics-Preserving Hash
        via Deep Convolutional Neural Networks, TPAMI 40(2), 2018. The published network
        gives each term the weight 1.

    Differences:
        Terms are means over images and, E_2, over bits: the same weight may count
        otherwise than in the published code. The latent activations are a = (1 + u) /
        2, where u = tanh(z) are the continuous codes; that is, the sigmoid of 2 z
        instead of z.
    """

    reported = ("loss", "class_loss", "binary_loss", "balance_loss")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        classification: str = "softmax",
        classification_weight: float = 1.0,
        binary_weight: float = 1.0,
        balance_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        refuse_arguments("SSDH", kwargs, "num_train")
        check_integer("num_classes", num_classes)
        check_choices(CHOICES, classification=classification)
        weights = {
            "classification_weight": classification_weight,
            "binary_weight": binary_weight,
            "balance_weight": balance_weight,
        }
        check_least(0, **weights)
        super().__init__(backbone, bits, num_classes, **kwargs)
        self.options = {"classification": classification, **weights}
        self.classifier = keras.layers.Dense(
            self.num_classes, dtype="float32", name="classifier"
        )
        self.build_if_known()

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        build_once(self.classifier, (None, self.bits))

    def compute_losses(self, u: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch and its terms.

        Args:
            u: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``.

        Returns:
            dict of scalar float tensors: "loss"; "class_loss", E_1; "binary_loss", E_2;
            and "balance_loss", E_3.
        """
        a = (1.0 + u) / 2.0  # (batch, bits)
        logits = self.classifier(a)  # (batch, num_classes)
        softmax = self.options["classification"] == "softmax"
        classification = losses.cross_entropy if softmax else losses.squared_hinge
        class_loss = classification(labels, logits)
        binary_loss = -tf.reduce_mean((a - 0.5) ** 2)
        balance_loss = tf.reduce_mean((tf.reduce_mean(a, axis=1) - 0.5) ** 2)
        loss = (
            self.options["classification_weight"] * class_loss
            + self.options["binary_weight"] * binary_loss
            + self.options["balance_weight"] * balance_loss
        )
        return {
            "loss": loss,
            "class_loss": class_loss,
            "binary_loss": binary_loss,
            "balance_loss": balance_loss,
        }
