"""DistributionModel: the base class of baselines that predict label distributions."""

from typing import Any, NoReturn

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.baselines.shallow import Floats, Projection, ShallowHash
from kerashash.checks import check_distributions, check_integer, refuse_arguments
from kerashash.methods.encoder import Encoder

__all__ = ["DistributionModel", "LogLinear", "standardization"]


@keras.saving.register_keras_serializable(package="kerashash")
class LogLinear(Projection):
    """Label distributions as the softmax of linear functions of features.

    Args:
        bits: int; the number of labels.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 label distributions ``(batch, bits)``.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(super().call(inputs))


class DistributionModel(ShallowHash):
    """A function of features that predicts label distributions, and has no hash codes.

    It is fitted as `ShallowHash` is: an epoch is an iteration of the solver. Calling
    the model gives label distributions.

    Args:
        backbone: as for `ShallowHash`.
        num_classes: int; the width of a label distribution.
        fitted: layer from features to label distributions.
        options: dict; the method's own options.
        **kwargs: further arguments of `keras.Model`.

    Raises:
        TypeError, ValueError: if an argument is out of range.
    """

    has_codes = False

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        num_classes: int,
        *,
        fitted: keras.layers.Layer,
        options: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        refuse_arguments(type(self).__name__, kwargs, "bits")
        super().__init__(
            backbone,
            check_integer("num_classes", num_classes),
            num_classes,
            fitted=fitted,
            options=options,
            **kwargs,
        )

    def predict_distribution(
        self, x: Any, batch_size: int | None = None, verbose: str | int = "auto"
    ) -> npt.NDArray[np.float32]:
        """Predict label distributions.

        Args:
            x, batch_size, verbose: as for `kerashash.HashModel.encode`.

        Returns:
            float32 array ``(n, num_classes)``; rows sum to 1.

        Raises:
            TypeError, ValueError: as for `kerashash.HashModel.encode`, or if the model
                has not been fitted.
        """
        if not any(np.any(w) for w in self.hash_head.get_weights()):
            raise ValueError(
                f"`{type(self).__name__}` predicts nothing before `fit`. Received an "
                "untrained model."
            )
        values = Encoder(self).continuous_codes(x, batch_size, verbose)
        return values / values.sum(axis=1, keepdims=True)

    def encode(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: there are no codes.

        Args:
            *args, **kwargs: not used.

        Raises:
            TypeError: in any case.
        """
        raise TypeError(
            f"`{type(self).__name__}` has no hash codes: it predicts label "
            "distributions, by `predict_distribution`."
        )

    def check_labels(
        self, y: npt.ArrayLike, n: int | None = None, name: str = "y"
    ) -> npt.NDArray[np.float32]:
        return check_distributions(y, self.num_classes, n, name)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["bits"]  # it is the number of labels
        return config


def standardization(x: Floats) -> tuple[Floats, Floats]:
    """Means and scales that bring columns to mean 0 and standard deviation 1.

    Args:
        x: float array ``(n, d)``.

    Returns:
        ``(mean, scale)``: float64 arrays ``(d,)``; ``(x - mean) * scale`` is
        standardised. A column of equal values gets the scale 0.

    Example:
        >>> standardization(np.array([[1.0, 7.0], [3.0, 7.0]]))
        (array([2., 7.]), array([1., 0.]))
    """
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    even = deviation <= 1e-7 * np.abs(mean)
    return mean, np.where(even, 0.0, 1.0 / np.where(even, 1.0, deviation))
