"""Whitening, a layer that keeps the leading principal components of features."""

from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import check_array, check_integer

# Rows that are summed at a time, in float64.
_BLOCK_ROWS = 4096
# Variances below this share of the largest one are rounding errors.
_LEAST_SHARE = 1e-10


@keras.saving.register_keras_serializable(package="kerashash")
class Whitening(keras.layers.Layer):
    """Projects features on their leading principal components, each of variance 1.

    Formula:
        y = V^T G^-1 (x - m)

    for the means m and the diagonal matrix G of the standard deviations of the columns
    of X. The columns of V are the `components` first eigenvectors of the covariance of
    the rows of G^-1 (x - m), each divided by the square root of its eigenvalue. Columns
    of X that have one value only count as 0.

    A hash layer on thousands of features of few training rows can fit their similarity
    in many ways, most of which tell nothing about new rows. The leading components
    leave it less room. No labels are needed.

    Call `adapt` before the first use. The statistics are weights of the layer, which
    are not trained.

    Args:
        components: int; the number of components, less than the number of rows and at
            most that of columns.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        ``(batch, d)`` -> float32 ``(batch, components)``.

    Raises:
        TypeError, ValueError: if `components` is out of range, or the layer is used
            before `adapt`.

    Example:
        >>> layer = Whitening(components=1)
        >>> layer.adapt([[0.0, 1.0], [2.0, 5.0], [4.0, 9.0]])
        >>> layer(tf.constant([[4.0, 9.0]])).numpy().round(2)
        array([[1.22]], dtype=float32)
    """

    def __init__(self, components: int = 128, **kwargs: Any) -> None:
        check_integer("components", components)
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.components = components
        self.adapted = False

    def adapt(self, x: npt.ArrayLike) -> None:
        """Compute the means and the projection, from the training rows.

        Args:
            x: array ``(n, d)``, the training rows.

        Raises:
            TypeError: if the values of `x` are not numbers.
            ValueError: if `x` has another shape, too few rows or columns for the
                components, or values that are not finite, or if the layer has been used
                already.
        """
        if self.built:
            raise ValueError("`adapt` must come before the layer's first use.")
        x = check_array(x, (None, None))
        n, d = x.shape
        blocks = [
            x[start : start + _BLOCK_ROWS].astype(np.float64)
            for start in range(0, n, _BLOCK_ROWS)
        ]
        mean = sum((block.sum(axis=0) for block in blocks), np.zeros(d)) / max(n, 1)
        covariance = sum(
            ((block - mean).T @ (block - mean) for block in blocks), np.zeros((d, d))
        ) / max(n, 1)
        scale = np.sqrt(np.diag(covariance))
        # A column that does not vary has rounding errors alone.
        varies = scale > np.finfo(np.float32).eps * np.abs(mean)
        scale = np.divide(1.0, scale, out=np.zeros(d), where=varies)
        variances, vectors = np.linalg.eigh(covariance * scale * scale[:, None])
        variances, vectors = variances[::-1], vectors[:, ::-1]  # the largest first
        rank = int((variances > _LEAST_SHARE * max(variances[0], 1e-300)).sum())
        if self.components > rank:
            raise ValueError(
                "`components` must be at most the number of directions in which the "
                f"training rows vary. Received: {self.components}, and {n} rows of {d} "
                f"columns that vary in {rank} directions."
            )
        vectors = vectors[:, : self.components]
        # An eigenvector and its opposite are alike: take the one whose largest entry,
        # by magnitude, is positive.
        largest = np.abs(vectors).argmax(axis=0)
        vectors = vectors * np.sign(vectors[largest, np.arange(self.components)])
        self.adapted = True
        self.build((None, d))
        self.mean.assign(mean)
        self.projection.assign(
            scale[:, None] * vectors / np.sqrt(variances[: self.components])
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.adapted:
            raise ValueError("`Whitening` needs `adapt` before its first use.")
        width = input_shape[-1]
        self.mean = self.add_weight(
            name="mean", shape=(width,), initializer="zeros", trainable=False
        )
        self.projection = self.add_weight(
            name="projection",
            shape=(width, self.components),
            initializer="zeros",
            trainable=False,
        )
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        width = self.mean.shape[0]
        if inputs.shape[-1] not in (None, width):
            raise ValueError(
                f"`Whitening` was adapted to {width} columns. "
                f"Received shape: {tuple(inputs.shape)}."
            )
        inputs = tf.cast(inputs, tf.float32)
        return tf.matmul(inputs - self.mean, self.projection)  # (batch, components)

    def compute_output_shape(
        self, input_shape: tuple[int | None, int]
    ) -> tuple[int | None, int]:
        return (input_shape[0], self.components)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("dtype")
        return {**config, "components": self.components, "adapted": self.adapted}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        adapted = config.pop("adapted")
        layer = cls(**config)
        layer.adapted = adapted  # the weights follow, where the layer had any
        return layer
