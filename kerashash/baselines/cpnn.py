"""CPNN: a network of an input and a label."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerashash.baselines.distributions import DistributionModel, standardization
from kerashash.baselines.shallow import Floats, Projection
from kerashash.checks import check_integer
from kerashash.maths import conditional
from kerashash.methods.training_state import Arrays

_FIRST_STEP = 0.01
_NAMES = ("kernel", "label", "bias", "output")


@keras.saving.register_keras_serializable(package="kerashash")
class ConditionalNetwork(Projection):
    """Label distributions of a network of the input and the label.

    Formula:
        p_y = exp f(x, y) / sum,  f(x, y) = v . sigmoid(A^T (x - m) + w t_y + c)

    with the places t_y of the labels, from 0 to 1.

    Args:
        bits: int; the number of labels.
        units: int; the width of the hidden layer.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 label distributions ``(batch, bits)``.
    """

    def __init__(self, bits: int, units: int, **kwargs: Any) -> None:
        super().__init__(bits, **kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        labels, self.bits = self.bits, self.units  # the hidden layer has that width
        super().build(input_shape)
        self.bits = labels
        self.label = self._fitted("label", (self.units,))
        self.output_weights = self._fitted("output_weights", (self.units,))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        hidden = super().call(inputs)  # (batch, units)
        places = tf.constant(label_places(self.bits), tf.float32)
        hidden = tf.sigmoid(hidden[:, None] + places[:, None] * self.label)
        return tf.nn.softmax(tf.linalg.matvec(hidden, self.output_weights))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def label_places(num_classes: int) -> Floats:
    """The places of labels, evenly from 0 to 1.

    Args:
        num_classes: int.

    Returns:
        float64 array ``(num_classes,)``.

    Example:
        >>> label_places(3)
        array([0. , 0.5, 1. ])
    """
    return np.arange(num_classes) / max(num_classes - 1, 1)


@keras.saving.register_keras_serializable(package="kerashash")
class CPNN(DistributionModel):
    """Conditional probability neural network.

    Solves:
        min  mean_i sum_y d_iy ln(d_iy / p(y | x_i)),  p(y | x) = exp f(x, y) / Z(x)

    over a network f with one hidden layer, whose inputs are the features and the label,
    a number. Labels in an order, such as ages or ratings, are what it is for. It trains
    on all rows at once, by resilient propagation. The loss that `fit` reports is the
    objective.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        num_classes: int; the width of a label distribution.
        units: int; the width of the hidden layer.
        seed: int; of the first weights.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`, with label distributions. By default 200
        epochs.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> x, d = np.random.rand(40, 8), np.random.dirichlet([1.0, 1.0, 1.0], 40)
        >>> model = CPNN("features", num_classes=3)
        >>> history = model.fit(x, d, verbose=0)
        >>> model.predict_distribution(x[:5]).shape
        (5, 3)

    Reference:
        X. Geng, C. Yin, Z.-H. Zhou, Facial Age Estimation by Learning from Label
        Distributions, TPAMI 2013.

    Differences:
        Features are standardised, and labels lie from 0 to 1.
    """

    default_epochs = 200

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        num_classes: int,
        units: int = 64,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        units = check_integer("units", units)
        check_integer("num_classes", num_classes)
        head = ConditionalNetwork(num_classes, units, name="hash_head")
        options = {"units": units, "seed": seed}
        super().__init__(backbone, num_classes, fitted=head, options=options, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[SimpleNamespace, Arrays]:
        mean, scale = standardization(x)
        random, units = (
            np.random.default_rng(self.options["seed"]),
            self.options["units"],
        )
        shapes = {"kernel": (x.shape[1], units), **dict.fromkeys(_NAMES[1:], (units,))}
        state = {}
        for name, shape in shapes.items():
            width = x.shape[1] if name == "kernel" else units
            state[name] = random.uniform(-1, 1, shape) / np.sqrt(width)
            state[f"{name}_last"] = np.zeros(shape)
            state[f"{name}_step"] = np.full(shape, _FIRST_STEP)
        d = labels.astype(np.float64)
        d /= d.sum(axis=1, keepdims=True)
        places = label_places(self.num_classes)
        work = SimpleNamespace(
            mean=mean, scale=scale, x=(x - mean) * scale, d=d, places=places
        )
        return work, state

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        weights = {name: state[name] for name in _NAMES} | {"places": work.places}
        _, gradients = conditional.divergence_and_gradients(work.x, work.d, weights)
        new: Arrays = {}
        for name in _NAMES:
            parts = conditional.resilient_step(
                state[name],
                gradients[name],
                state[f"{name}_last"],
                state[f"{name}_step"],
            )
            new |= zip((name, f"{name}_last", f"{name}_step"), parts, strict=True)
        weights |= {name: new[name] for name in _NAMES}
        head = self.hash_head
        head.mean.assign(work.mean)
        head.kernel.assign(new["kernel"] * work.scale[:, None])
        head.bias.assign(new["bias"])
        head.label.assign(new["label"])
        head.output_weights.assign(new["output"])
        loss, _ = conditional.divergence_and_gradients(work.x, work.d, weights)
        return new, loss
