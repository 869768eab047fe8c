"""AdaLabelHash: codes attracted by codewords that are learned for the labels."""

import keras
import tensorflow as tf

from kerashash import losses
from kerashash.hash_model import HashModel
from kerashash.layers import LabelCodewords


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
            `kerashash.backbones.get` or any `keras.Model`.
        bits: int, the code length.
        num_classes: int, the number of labels.
        margin: float, m, in units of the inner product of two codes (range
            +-bits). The paper's 1 is half a bit; ``bits / 4`` retrieves better,
            most of all with several labels an image.
        floor: bool; True puts a floor of 0 under the hardest negative score, as
            the equation is printed; False takes it as it is.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``: 1 has the label, 0 has it not, -1 unknown.

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

    def __init__(self, backbone, bits, num_classes, margin=1.0, floor=True, **kwargs):
        if num_classes is None:
            raise ValueError("`num_classes` must be an integer. Received: None.")
        if not margin > 0:
            raise ValueError(f"`margin` must be positive. Received: margin={margin}.")
        super().__init__(backbone, bits, num_classes, **kwargs)
        self.margin = float(margin)
        self.floor = bool(floor)
        self.codewords = LabelCodewords(num_classes, bits, name="codewords")
        self.build_if_known()

    def build(self, input_shape):
        super().build(input_shape)
        self.codewords.build((None, self.bits))

    def compute_hash_loss(self, u, labels):
        scores = self.codewords(u)  # (batch, num_classes)
        return losses.codeword_hinge(labels, scores, self.margin, self.floor)  # eq. 1

    def train_step(self, data):
        x, labels = self.unpack(data, index=False)

        # Network step: eq. 1, over the network's weights and the codewords.
        with tf.GradientTape() as tape:
            u = self(x, training=True)  # (batch, bits)
            loss = self.regularized(self.compute_hash_loss(u, labels))
        self.minimize(tape, loss)

        # Discrete step: none, the codes are sgn(u).

        # Metrics.
        return self.report(loss=loss)

    def test_step(self, data):
        x, labels = self.unpack(data, index=False)
        u = self(x, training=False)
        return self.report(loss=self.regularized(self.compute_hash_loss(u, labels)))

    def get_config(self):
        config = super().get_config()
        del config["num_train"]
        return {**config, "margin": self.margin, "floor": self.floor}
