"""Hash functions of boosted decision trees, which FastH has."""

from typing import Any

import keras
import tensorflow as tf

from kerashash.baselines.shallow import feature_width
from kerashash.maths.fasth import Trees


@keras.saving.register_keras_serializable(package="kerashash")
class TreeProjection(keras.layers.Layer):
    """Sums of decision trees, in float32, which a solver sets.

    Formula:
        u_k = sum_t leaf_kt(x)

    Args:
        bits: int; the code length.
        trees: int; how many trees a bit has.
        depth: int; how many features a tree asks for, one after another.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 continuous codes ``(batch, bits)``.
    """

    def __init__(self, bits: int, trees: int, depth: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.bits, self.trees, self.depth = bits, trees, depth

    def build(self, input_shape: Any) -> None:
        feature_width(input_shape)
        nodes = 2**self.depth - 1
        self.features = self._fitted("features", nodes, "int32")
        self.thresholds = self._fitted("thresholds", nodes, "float32")
        self.leaves = self._fitted("leaves", nodes + 1, "float32")

    def _fitted(self, name: str, width: int, dtype: str) -> keras.Variable:
        """A weight of all trees that a solver sets."""
        shape = (self.bits, self.trees, width)
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        count, nodes = self.bits * self.trees, 2**self.depth - 1
        features, thresholds, leaves = (
            tf.reshape(tf.convert_to_tensor(value), (-1,))
            for value in (self.features, self.thresholds, self.leaves)
        )
        node = tf.zeros((tf.shape(inputs)[0], count), tf.int32)  # in each tree
        for _ in range(self.depth):
            place = node + nodes * tf.range(count)
            values = tf.gather(inputs, tf.gather(features, place), batch_dims=1, axis=1)
            above = values > tf.gather(thresholds, place)
            node = 2 * node + 1 + tf.cast(above, tf.int32)
        reached = tf.gather(leaves, node - nodes + (nodes + 1) * tf.range(count))
        return tf.reduce_sum(tf.reshape(reached, (-1, self.bits, self.trees)), axis=2)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (input_shape[0], self.bits)

    def get_config(self) -> dict[str, Any]:
        options = {"bits": self.bits, "trees": self.trees, "depth": self.depth}
        return {**super().get_config(), **options}

    def set(self, trees: Trees) -> None:
        """Set all trees.

        Args:
            trees: `Trees`, whose arrays are of shape ``(bits, trees, ...)``.
        """
        self.features.assign(trees.features)
        self.thresholds.assign(trees.thresholds)
        self.leaves.assign(trees.leaves)
