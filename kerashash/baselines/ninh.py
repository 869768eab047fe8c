"""NINH, also called DNNH: triplets, and a branch of the features for each bit."""

from typing import Any

import keras
import tensorflow as tf

from kerashash.baselines.gradient import GradientHash
from kerashash.checks import check_integer, check_least, refuse_arguments
from kerashash.maths import losses, similarity


@keras.saving.register_keras_serializable(package="kerashash")
class DivideAndEncode(keras.layers.Layer):
    """The hash layer of NINH: each bit sees a slice of the features of its own.

    A dense layer with ReLU gives ``units`` features for each bit. Each slice of them
    gives one activation a by a dense layer with a sigmoid, which becomes 0 below 1/2 -
    epsilon and 1 above 1/2 + epsilon. The continuous code is u = 2 a - 1.

    Args:
        bits: int; the code length.
        units: int; the features of each slice.
        epsilon: float in (0, 1/2]; 1/2 leaves the activations as they are.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 continuous codes ``(batch, bits)`` in
        [-1, 1].

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> DivideAndEncode(12, units=5)(tf.ones((2, 7))).shape
        TensorShape([2, 12])
    """

    def __init__(
        self, bits: int, units: int = 50, epsilon: float = 0.5, **kwargs: Any
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.bits = check_integer("bits", bits)
        self.units = check_integer("units", units)
        if not 0 < epsilon <= 0.5:
            raise ValueError(
                f"`epsilon` must be in (0, 0.5]. Received: epsilon={epsilon}."
            )
        self.epsilon = float(epsilon)
        self.divide = keras.layers.Dense(
            self.bits * self.units, "relu", dtype="float32", name="divide"
        )

    def build(self, input_shape: Any) -> None:
        self.divide.build(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.bits, self.units),
            initializer=keras.initializers.VarianceScaling(
                mode="fan_avg", distribution="uniform"
            ),
        )
        self.bias = self.add_weight(name="bias", shape=(self.bits,))
        self.bias.assign(tf.zeros(self.bits))

    def call(self, features: tf.Tensor) -> tf.Tensor:
        slices = tf.reshape(self.divide(features), (-1, self.bits, self.units))
        z = tf.reduce_sum(slices * self.kernel, axis=2) + self.bias  # (batch, bits)
        u = tf.tanh(z / 2.0)  # 2 sigmoid(z) - 1
        low, high = u < -2.0 * self.epsilon, u > 2.0 * self.epsilon
        return tf.where(low, -1.0, tf.where(high, 1.0, u))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (input_shape[0], self.bits)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {
            **config,
            "bits": self.bits,
            "units": self.units,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="kerashash")
class NINH(GradientHash):
    """Simultaneous feature learning and hash coding; papers also call it DNNH.

    Solves:
        min  mean over triplets (i, j, k) of max(0, m + d_ij - d_ik)  over the network
        d_ij = ||u_i - u_j||^2 / 4, which is the Hamming distance of codes over {-1, +1}

    A triplet is an image i, an image j that shares a label with it, and an image k that
    does not. The triplets are all those of a batch, so use batches of 64 to 128 images:
    memory grows with the third power of the batch. The hash layer divides its features
    among the bits (`DivideAndEncode`). The hash code of an image is sgn(u).

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        margin: float; m, in bits.
        units: int; the features of each bit in the hash layer.
        epsilon: float in (0, 1/2]; activations a = (1 + u) / 2 farther than this from
            1/2 become 0 or 1, which also ends their gradient. 1/2 leaves them.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = NINH(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        H. Lai, Y. Pan, Y. Liu, S. Yan, Simultaneous Feature Learning and Hash Coding
        with Deep Neural Networks, CVPR 2015.

    Differences:
        The mean over triplets replaces the sum. The triplets are all those of a batch,
        where the paper draws some beforehand. Any backbone takes the place of the
        paper's; a dense layer makes the features that are divided. The paper leaves
        epsilon open.
    """

    reported = ("loss",)

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        margin: float = 1.0,
        units: int = 50,
        epsilon: float = 0.5,
        **kwargs: Any,
    ) -> None:
        refused = ("num_train", "hash_activation", "hash_initializer", "head")
        refuse_arguments("NINH", kwargs, *refused)
        check_integer("num_classes", num_classes)
        check_least(0, margin=margin)
        head = DivideAndEncode(bits, units, epsilon, name="hash_head")
        super().__init__(backbone, bits, num_classes, head=head, **kwargs)
        self.options = {
            "margin": margin,
            "units": head.units,
            "epsilon": float(epsilon),
        }
        self.build_if_known()

    # --------------------------------------------------------------- objective

    def compute_losses(self, u: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch.

        Args:
            u: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``.

        Returns:
            dict of a scalar float tensor, "loss".
        """
        similar = tf.cast(similarity.shares_label(labels, labels), tf.float32)
        margin = self.options["margin"]
        return {"loss": losses.triplet_hinge(u, similar, margin)}

    # ---------------------------------------------------------------- plumbing

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("hash_activation", "hash_initializer", "head"):
            del config[name]  # the hash layer is the method's
        return config
