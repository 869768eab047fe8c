"""AdaLabelHash: hash codes attracted by codewords, which are learned for the labels."""

from typing import Any

import keras
import tensorflow as tf

from kerashash.checks import (
    check_above,
    check_flag,
    check_integer,
    check_least,
    from_preset,
    refuse_arguments,
)
from kerashash.maths import losses
from kerashash.methods.hash_model import HashModel, build_once
from kerashash.methods.layers import LabelCodewords
from kerashash.methods.self_training import self_train


def presets(bits: int) -> dict[str, dict[str, Any]]:
    """Return the options that depend on the preset."""
    return {"default": {"margin": bits / 4}, "paper": {"margin": 1.0}}


@keras.saving.register_keras_serializable(package="kerashash")
class AdaLabelHash(HashModel):
    """Adaptive labeling: every label has a codeword, learned with the network.

    Solves:
        min over the network F and z of the mean over positives (i, j) of
        max(0, m - u_i . v_j + max_t u_i . v_t [t is not a label of i])
        with u_i = tanh(F(x_i)) and v_j = tanh(z_j)

    where (i, j) is a positive if image i has label j. There is no discrete variable:
    everything is learned by back-propagation. The hash code of an image is sgn(u).

    Extension:
        ``balance_weight`` is not in the paper. Where most images share a few labels,
        most bits are the same for most of them. It weights the bit balance
        (`kerashash.maths.losses.bit_balance`), which is added to the objective.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        margin: float or None; m, in units of the inner product of two codes, which lies
            between -bits and bits. None takes the preset's.
        floor: bool; True counts the score of the hardest negative as at least 0, as the
            equation is printed; False takes the score itself.
        preset: str; "default" has the margin ``bits / 4``, which retrieves better,
            above all if images have several labels. "paper" has the margin 1, which is
            half a bit.
        balance_weight: float; the weight of the bit balance. 0 is the paper's; the rest
            of the loss grows with the code length, so a fifth of `bits` is much.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``: 1 if the image has the label, 0 if not, -1 if unknown.
        `self_train` also learns from images without labels.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = AdaLabelHash(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        H.-F. Yang, C.-H. Tu, C.-S. Chen, Adaptive Labeling for Deep Learning to
        Hash, CVPR Workshops 2019, eq. 1.

    Differences:
        The loss is the mean over positives instead of the sum.
    """

    unknown_labels = True
    supports_replicas = True

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        margin: float | None = None,
        floor: bool = True,
        preset: str = "default",
        balance_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        refuse_arguments("AdaLabelHash", kwargs, "num_train")
        check_integer("num_classes", num_classes)
        super().__init__(backbone, bits, num_classes, **kwargs)
        margin = from_preset(presets(bits), preset, margin=margin)["margin"]
        check_above(0, margin=margin)
        check_flag(floor=floor)
        check_least(0, balance_weight=balance_weight)
        self.margin = float(margin)
        self.balance_weight = float(balance_weight)
        self.floor = bool(floor)
        self.codewords = LabelCodewords(num_classes, bits, name="codewords")
        self.build_if_known()

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        build_once(self.codewords, (None, self.bits))

    # --------------------------------------------------------------- objective

    def compute_hash_loss(self, u: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Compute the objective on one batch, eq. 1.

        Args:
            u: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``; values in {-1, 0, 1}.

        Returns:
            Scalar float tensor.
        """
        scores = self.codewords(u)  # u_i . v_j: (batch, num_classes)
        loss = losses.codeword_hinge(labels, scores, self.margin, self.floor)  # eq. 1
        if self.balance_weight:
            loss += self.balance_weight * losses.bit_balance(u)
        return loss

    # -------------------------------------------------------------- train_step

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, labels, _ = self.unpack(data)

        # Network step: eq. 1, over the network's weights and the codewords.
        with tf.GradientTape() as tape:
            u, labels = self.gather(self(x, training=True), labels)  # (batch, bits)
            loss = self.regularized(self.compute_hash_loss(u, labels))
        self.minimize(tape, loss)

        # Discrete step: none, the codes are sgn(u).

        # Metrics.
        return self.report(u, loss=loss)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, labels, _ = self.unpack(data)
        u, labels = self.gather(self(x, training=False), labels)
        loss = self.regularized(self.compute_hash_loss(u, labels))
        return self.report(u, loss=loss)

    # ---------------------------------------------------------------- plumbing

    def scores(self, x: tf.Tensor) -> tf.Tensor:
        """Score the labels of images, as at inference.

        Args:
            x: tensor ``(batch, ...)``; images or vectors.

        Returns:
            float32 tensor ``(batch, num_classes)``; inner products of continuous codes
            and codewords.
        """
        return self.codewords(self(x, training=False))

    self_train = self_train

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["num_train"]  # there are no learned codes
        return {
            **config,
            "margin": self.margin,
            "floor": self.floor,
            "balance_weight": self.balance_weight,
        }
