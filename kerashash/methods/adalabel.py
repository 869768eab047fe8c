"""AdaLabelHash: codes attracted by codewords that are learned for the labels."""

from typing import Any

import keras
import tensorflow as tf

from kerashash.checks import check_integer, from_preset
from kerashash.maths import losses
from kerashash.methods.hash_model import HashModel
from kerashash.methods.layers import LabelCodewords
from kerashash.methods.self_training import self_train


def presets(bits):
    """The options that the paper sets differently."""
    return {"default": {"margin": bits / 4}, "paper": {"margin": 1.0}}


@keras.saving.register_keras_serializable(package="kerashash")
class AdaLabelHash(HashModel):
    """Adaptive labeling: each label owns a codeword, learned with the network.

    Solves:
        min over the network and z of the mean over positive (i, j) of
        max(0, m - u_i . v_j + max_t u_i . v_t [t not a label of i])
        with u = tanh(F(x)), v = tanh(z)

    All of it by back-propagation; the method has no discrete variable. The hash
    code of an image is sgn(u).

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int, the code length.
        num_classes: int, the number of labels.
        margin: float, m, in units of the inner product of two codes (range
            +-bits). None for the preset's.
        floor: bool; True puts a floor of 0 under the hardest negative score, as
            the equation is printed; False takes it as it is.
        preset: "default": margin ``bits / 4``, which retrieves better, most of all with
            several labels an image; "paper": margin 1, half a bit.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``: 1 has the label, 0 has it not, -1 unknown. `self_train` adds
        images without labels.

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
        Hash, CVPR Workshops 2019.

    Differences:
        The loss is the mean over positives instead of the sum.
    """

    unknown_labels = True

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        margin: float | None = None,
        floor: bool = True,
        preset: str = "default",
        **kwargs: Any,
    ):
        check_integer("num_classes", num_classes)
        super().__init__(backbone, bits, num_classes, **kwargs)
        margin = from_preset(presets(bits), preset, margin=margin)["margin"]
        if not margin > 0:
            raise ValueError(f"`margin` must be positive. Received: margin={margin}.")
        self.margin = float(margin)
        self.floor = bool(floor)
        self.codewords = LabelCodewords(num_classes, bits, name="codewords")
        self.build_if_known()

    def build(self, input_shape):
        super().build(input_shape)
        self.codewords.build((None, self.bits))

    def compute_hash_loss(self, u: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The objective on one batch.

        Args:
            u: float tensor ``(batch, bits)``, continuous codes.
            labels: float tensor ``(batch, num_classes)``.

        Returns:
            Scalar float tensor.
        """
        scores = self.codewords(u)  # (batch, num_classes)
        return losses.codeword_hinge(labels, scores, self.margin, self.floor)  # eq. 1

    def train_step(self, data):
        x, labels, _ = self.unpack(data)

        # Network step: eq. 1, over the network's weights and the codewords.
        with tf.GradientTape() as tape:
            u = self(x, training=True)  # (batch, bits)
            loss = self.regularized(self.compute_hash_loss(u, labels))
        self.minimize(tape, loss)

        # Discrete step: none, the codes are sgn(u).

        # Metrics.
        return self.report(loss=loss)

    def test_step(self, data):
        x, labels, _ = self.unpack(data)
        u = self(x, training=False)
        return self.report(loss=self.regularized(self.compute_hash_loss(u, labels)))

    def scores(self, x: tf.Tensor) -> tf.Tensor:
        """Scores of the labels, by inference.

        Args:
            x: tensor ``(batch, ...)``, images or vectors.

        Returns:
            float32 tensor ``(batch, num_classes)``: inner products of continuous codes
            and codewords.
        """
        return self.codewords(self(x, training=False))

    self_train = self_train

    def get_config(self):
        config = super().get_config()
        del config["num_train"]
        return {**config, "margin": self.margin, "floor": self.floor}
