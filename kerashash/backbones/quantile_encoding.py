"""QuantileEncoding, a layer for tables with numeric columns."""

from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import check_array, check_integer

# What `adapt` computes, and the dtypes in files of weights.
_DTYPES = {
    "columns": "int64",
    "mean": "float64",
    "scale": "float64",
    "quantiles": "float64",
}


@keras.saving.register_keras_serializable(package="kerashash")
class QuantileEncoding(keras.layers.Layer):
    """Standardizes the numeric columns of a table and appends quantile indicators.

    A column with one or two distinct values passes unchanged. Any other column counts
    as numeric: it is standardized, and the indicators [x > q_t] of its quantiles q_t,
    t = 1 ... steps - 1, are appended after the last column. If most values of a column
    lie close together and a few far away, the standardized column hardly separates the
    rows; the indicators do.

    Call `adapt` before the first use. The statistics are saved with the layer.

    Args:
        steps: int, at least 2; the number of quantile bins, which hold about equally
            many rows.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        ``(batch, d)`` -> float32 ``(batch, d + m (steps - 1))`` for m numeric columns.

    Raises:
        TypeError, ValueError: if `steps` is out of range, or the layer is used before
            `adapt`.

    Example:
        >>> layer = QuantileEncoding(steps=2)
        >>> layer.adapt([[0, 1.0], [1, 2.0], [1, 3.0]])
        >>> layer(tf.constant([[1.0, 2.5]])).numpy().round(2)
        array([[1.  , 0.61, 1.  ]], dtype=float32)
    """

    def __init__(self, steps: int = 16, **kwargs: Any) -> None:
        check_integer("steps", steps, least=2)
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.steps = steps
        self.adapted: dict[str, Any] | None = None
        self._refused = ""  # why weights were not loaded

    def adapt(self, x: npt.ArrayLike) -> None:
        """Compute which columns are numeric, and their mean, scale and quantiles.

        Args:
            x: array ``(n, d)``, the training rows.

        Raises:
            TypeError: if the values of `x` are not numbers.
            ValueError: if `x` has another shape, no rows or values that are not finite,
                or if the layer has been used already.
        """
        if self.built:
            raise ValueError("`adapt` must come before the layer's first use.")
        rows = check_array(x, (None, None)).astype(np.float32)
        if not len(rows):
            raise ValueError("`x` must have at least one row. Received: no rows.")
        numeric = np.array([len(np.unique(column)) > 2 for column in rows.T])
        # In float64: float32 sums of many rows lose digits, and squares overflow.
        mean = rows.mean(axis=0, dtype=np.float64)
        scale = rows.std(axis=0, dtype=np.float64)
        # TensorFlow rounds smaller scales to 0, which it would divide by.
        scale = np.maximum(scale, np.finfo(np.float32).tiny)
        self.adapted = {
            "columns": np.flatnonzero(numeric).tolist(),
            "mean": np.where(numeric, mean, 0.0).tolist(),
            "scale": np.where(numeric, scale, 1.0).tolist(),
            # By the shortest digits of a float32: they fill most of a saved config.
            "quantiles": [
                [float(str(q)) for q in _quantiles(column, self.steps)]
                for column in rows.T[numeric]
            ],
        }

    def _statistics(self) -> dict[str, Any]:
        """Return what `adapt` has computed; raise if it has not been called."""
        if self.adapted is None:
            raise ValueError("`QuantileEncoding` needs `adapt` before its first use.")
        return self.adapted

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = len(self._statistics()["mean"])
        if input_shape[-1] != width:
            raise ValueError(
                f"`QuantileEncoding` was adapted to {width} columns. "
                f"Received shape: {tuple(input_shape)}."
            )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        statistics = self._statistics()
        columns, quantiles = statistics["columns"], statistics["quantiles"]
        inputs = tf.cast(inputs, tf.float32)  # (batch, d)
        standardized = (inputs - statistics["mean"]) / tf.constant(statistics["scale"])
        if not columns:
            return standardized
        numeric = tf.gather(inputs, columns, axis=1)[:, :, None]  # (batch, m, 1)
        above = tf.cast(numeric > tf.constant(quantiles), tf.float32)
        above = tf.reshape(above, (-1, len(columns) * (self.steps - 1)))
        return tf.concat([standardized, above], axis=1)

    def compute_output_shape(
        self, input_shape: tuple[int | None, int]
    ) -> tuple[int | None, int]:
        batch, d = input_shape
        return (batch, d + len(self._statistics()["columns"]) * (self.steps - 1))

    def save_own_variables(self, store: Any) -> None:
        for name, value in (self.adapted or {}).items():
            store[name] = np.asarray(value, _DTYPES[name])

    def load_own_variables(self, store: Any) -> None:
        loaded = {name: np.asarray(store[name]) for name in store.keys()}  # noqa: SIM118
        # Keras offers one file under several names of the layer, of which all but one
        # are empty, and takes the last answer.
        if loaded:
            self._refused = self._fault(loaded)
        if self._refused:
            raise ValueError(self._refused)
        if loaded:  # files of version 0.1 have them in the config alone
            self.adapted = {name: loaded[name].tolist() for name in _DTYPES}

    def _fault(self, loaded: dict[str, npt.NDArray[Any]]) -> str:
        """Say why the layer cannot take statistics; "" if it can."""
        if {*loaded} != {*_DTYPES}:
            return (
                f"`{self.name}` must be loaded from the weights of a "
                f"`QuantileEncoding`. Received: {sorted(loaded)}."
            )
        received = len(loaded["mean"]), len(loaded["columns"])
        if loaded["quantiles"].shape != (received[1], self.steps - 1):
            return (
                f"`{self.name}` has steps={self.steps}. Received weights of one with "
                f"quantiles of shape {loaded['quantiles'].shape}."
            )
        if self.built:  # the layers after it have inputs for these
            adapted = self._statistics()
            own = len(adapted["mean"]), len(adapted["columns"])
            if own != received:
                return (
                    f"`{self.name}` was adapted to a table of {own[0]} columns, "
                    f"{own[1]} of them numeric. Received weights of one adapted to "
                    f"{received[0]} columns, {received[1]} of them numeric."
                )
        return ""

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("dtype")
        return {**config, "steps": self.steps, "adapted": self.adapted}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        adapted = config.pop("adapted")
        layer = cls(**config)
        layer.adapted = adapted
        return layer


def _quantiles(column: npt.NDArray[np.float32], steps: int) -> npt.NDArray[np.float32]:
    """Return the quantiles 1 / steps, 2 / steps ... (steps - 1) / steps of a column.

    Equal values share their mid-rank, so that a value that many rows have is separated
    both from lower and from higher ones.
    """
    values, counts = np.unique(column, return_counts=True)
    mid_ranks = (np.cumsum(counts) - counts / 2) / len(column)
    shares = np.arange(1, steps) / steps
    return values[np.maximum(np.searchsorted(mid_ranks, shares, "right") - 1, 0)]
