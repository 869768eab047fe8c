"""A layer that encodes the numeric columns of a table by their quantiles."""

import keras
import numpy as np
import tensorflow as tf

from kerashash.checks import check_array, check_integer


@keras.saving.register_keras_serializable(package="kerashash")
class QuantileEncoding(keras.layers.Layer):
    """Columns of a table, the numeric ones standardized and cut at their quantiles.

    A column of two values or one passes unchanged. Each other column is standardized,
    and indicators [x > q_t] of its quantiles q_t, t = 1 ... steps - 1, are added at
    the end. Where most values of a column lie close together and a few far away, a
    standardized column hardly tells the rows apart; the indicators do.

    Call `adapt` before use; what it finds is saved with the layer.

    Args:
        steps: int, at least 2, the number of parts of like size.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        ``(batch, d)`` -> float32 ``(batch, d + m (steps - 1))`` for m numeric columns.

    Raises:
        TypeError, ValueError: if `steps` is out of range, or `adapt` comes too late or
            not at all.

    Example:
        >>> layer = QuantileEncoding(steps=2)
        >>> layer.adapt([[0, 1.0], [1, 2.0], [1, 3.0]])
        >>> layer(tf.constant([[1.0, 2.5]])).numpy().round(2)
        array([[1.  , 0.61, 1.  ]], dtype=float32)
    """

    def __init__(self, steps=16, **kwargs):
        check_integer("steps", steps, least=2)
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.steps = steps
        self.adapted = None

    def adapt(self, x):
        """Take up which columns are numeric, their scale and quantiles.

        Args:
            x: array ``(n, d)``, the training rows.

        Raises:
            TypeError, ValueError: if `x` is not such an array; if the layer has been
                used.
        """
        if self.built:
            raise ValueError("`adapt` must come before the layer's first use.")
        x = check_array(x, (None, None)).astype(np.float32)
        if not len(x):
            raise ValueError("`x` must have a row or more. Received: none.")
        numeric = np.array([len(np.unique(column)) > 2 for column in x.T])
        self.adapted = {
            "columns": np.flatnonzero(numeric).tolist(),
            "mean": np.where(numeric, x.mean(axis=0), 0.0).tolist(),
            "scale": np.where(numeric, x.std(axis=0), 1.0).tolist(),
            "quantiles": [
                _cuts(column, self.steps).tolist() for column in x.T[numeric]
            ],
        }

    def build(self, input_shape):
        if self.adapted is None:
            raise ValueError("`QuantileEncoding` needs `adapt` before its first use.")
        width = len(self.adapted["mean"])
        if input_shape[-1] != width:
            raise ValueError(
                f"`QuantileEncoding` was adapted to {width} columns. "
                f"Received shape: {tuple(input_shape)}."
            )

    def call(self, inputs):
        inputs, found = tf.cast(inputs, tf.float32), self.adapted
        standardized = (inputs - found["mean"]) / tf.constant(found["scale"])
        if not found["columns"]:
            return standardized
        numeric = tf.gather(inputs, found["columns"], axis=1)[:, :, None]
        above = tf.cast(numeric > tf.constant(found["quantiles"]), tf.float32)
        width = len(found["columns"]) * (self.steps - 1)
        return tf.concat([standardized, tf.reshape(above, (-1, width))], axis=1)

    def compute_output_shape(self, input_shape):
        batch, d = input_shape
        return (batch, d + len(self.adapted["columns"]) * (self.steps - 1))

    def get_config(self):
        config = super().get_config()
        config.pop("dtype")
        return {**config, "steps": self.steps, "adapted": self.adapted}

    @classmethod
    def from_config(cls, config):
        adapted = config.pop("adapted")
        layer = cls(**config)
        layer.adapted = adapted
        return layer


def _cuts(column, steps):
    """Values above which the shares 1 / steps, 2 / steps ... end.

    A value that many rows share lies at the middle of the ranks that they take up, so
    that both what is below and what is above it are told apart from it.
    """
    values, counts = np.unique(column, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(column)
    shares = np.arange(1, steps) / steps
    return values[np.maximum(np.searchsorted(middle, shares, "right") - 1, 0)]
