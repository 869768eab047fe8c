"""GradientHash: the base class of methods that gradients alone train."""

from typing import Any

import keras
import tensorflow as tf

from kerashash.methods.hash_model import HashModel


def small_weights() -> keras.initializers.Initializer:
    """Weights of a linear hash layer, with a quarter of the usual deviation.

    Without tanh, larger codes saturate the likelihood before anything is learned.

    Returns:
        `keras.initializers.Initializer`.

    Example:
        >>> small_weights().scale
        0.0625
    """
    return keras.initializers.VarianceScaling(1 / 16, "fan_avg")


class GradientHash(HashModel):
    """A network whose continuous codes minimise a loss; the hash codes are their signs.

    There is no discrete step, and no code of a training row is kept. A subclass writes
    `compute_losses`, names its terms in ``reported``, and sets ``self.options``.
    """

    supports_replicas = True

    def compute_losses(self, u: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch and its terms.

        Args:
            u: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``.

        Returns:
            dict of scalar float tensors, one of which is "loss".
        """
        raise NotImplementedError

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch = self.unpack(data)

        # Network step, over all weights of the model that are trained.
        with tf.GradientTape() as tape:
            u = self(batch.x, training=True)
            u, labels = self.gather(u, batch.labels)  # (batch, bits)
            values = self.compute_losses(u, labels)
            loss = values["loss"] = self.regularized(values["loss"])
        self.minimize(tape, loss)

        # Discrete step: none, the codes are sgn(u).

        # Metrics.
        return self.report(u, **values)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch = self.unpack(data)
        u, labels = self.gather(self(batch.x, training=False), batch.labels)
        values = self.compute_losses(u, labels)
        values["loss"] = self.regularized(values["loss"])
        return self.report(u, **values)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["num_train"]  # there are no learned codes
        return {**config, **self.options}
