"""LDSVR: support vector regression of all labels of a distribution at once."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerashash.baselines.distributions import DistributionModel, standardization
from kerashash.baselines.kernels import KernelProjection
from kerashash.baselines.shallow import Floats, feature_width
from kerashash.checks import check_above, check_integer, check_least
from kerashash.maths import kernels, svr
from kerashash.methods.training_state import Arrays

# The least degree of a label: the sigmoid reaches neither 0 nor 1.
_LEAST = 1e-3


@keras.saving.register_keras_serializable(package="kerashash")
class KernelSigmoids(KernelProjection):
    """Label distributions as sigmoids of kernel functions, divided by their sum.

    Args:
        bits: int; the number of labels.
        anchors: int; the number of training rows.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 label distributions ``(batch, bits)``.
    """

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        width = feature_width(input_shape)
        self.center = self._fitted("center", (width,))
        self.scale = self._fitted("scale", (width,))

    def set_scale(self, center: Floats, scale: Floats) -> None:
        """Set what standardises features, of which the anchors are.

        Args:
            center, scale: arrays ``(d,)``.
        """
        self.center.assign(center)
        self.scale.assign(scale)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        degrees = tf.sigmoid(super().call((inputs - self.center) * self.scale))
        return degrees / tf.reduce_sum(degrees, axis=1, keepdims=True)


@keras.saving.register_keras_serializable(package="kerashash")
class LDSVR(DistributionModel):
    """Label distribution support vector regressor.

    Solves:
        min  1/2 ||W||^2 + C sum_i max(0, |e_i| - epsilon)^2  over W and b
        e_i = z_i - W^T phi(x_i) - b,  z = ln(d / (1 - d))

    with the features phi of a Gaussian kernel, by iteratively reweighted least squares.
    The error of a row is that of all labels together. The prediction is the sigmoid of
    W^T phi(x) + b, divided by its sum. The loss that `fit` reports is the objective per
    row, which never rises.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        num_classes: int; the width of a label distribution.
        num_train: int; the number of training rows, which the model keeps. Memory in
            training is O(num_train^2).
        penalty: float; C.
        epsilon: float; the length of an error that costs nothing.
        bandwidth: float; the width of the kernel, as a multiple of the root of the mean
            squared distance between rows.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`, with label distributions. By default at most
        20 epochs; `fit` ends once the objective does not fall any more.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> x, d = np.random.rand(40, 8), np.random.dirichlet([1.0, 1.0, 1.0], 40)
        >>> model = LDSVR("features", num_classes=3, num_train=40)
        >>> history = model.fit(x, d, verbose=0)
        >>> model.predict_distribution(x[:5]).shape
        (5, 3)

    Reference:
        X. Geng, P. Hou, Pre-Release Prediction of Crowd Opinion on Movies by Label
        Distribution Learning, IJCAI 2015.

    Differences:
        Features are standardised. Errors are those of z, not of the sigmoids; degrees
        below 0.001 count as 0.001.
    """

    default_epochs = 20

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        num_classes: int,
        num_train: int,
        penalty: float = 1.0,
        epsilon: float = 0.1,
        bandwidth: float = 1.0,
        **kwargs: Any,
    ) -> None:
        check_integer("num_classes", num_classes)
        num_train = check_integer("num_train", num_train)
        check_above(0, penalty=penalty, bandwidth=bandwidth)
        check_least(0, epsilon=epsilon)
        options = {"penalty": penalty, "epsilon": epsilon, "bandwidth": bandwidth}
        head = KernelSigmoids(num_classes, num_train, name="hash_head")
        super().__init__(backbone, num_classes, fitted=head, options=options, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[SimpleNamespace, Arrays]:
        rows = self.hash_head.num_anchors
        if len(x) != rows:
            raise ValueError(
                "`num_train` must be the number of training rows. Received: num_train="
                f"{rows}, and {len(x)} rows."
            )
        mean, scale = standardization(x)
        scaled = ((x - mean) * scale).astype(np.float32)
        _, precision = kernels.choose_anchors(
            scaled, len(x), self.options["bandwidth"], seed=0
        )
        self.hash_head.set_anchors(scaled, precision)
        self.hash_head.set_scale(mean, scale)
        d = labels / labels.sum(axis=1, keepdims=True)
        d = np.clip(d.astype(np.float64), _LEAST, 1.0 - _LEAST)
        work = SimpleNamespace(
            kernel=kernels.gaussian(scaled, scaled, precision).astype(np.float64),
            targets=np.log(d / (1.0 - d)),
        )
        outputs = self.num_classes
        return work, {"beta": np.zeros((len(x), outputs)), "bias": np.zeros(outputs)}

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        penalty, epsilon = self.options["penalty"], self.options["epsilon"]
        rest = (penalty, epsilon)
        old, bias = state["beta"], state["bias"]
        before = svr.svr_objective(work.kernel, work.targets, old, bias, *rest)
        beta, bias = svr.svr_step(work.kernel, work.targets, old, bias, *rest)
        loss = svr.svr_objective(work.kernel, work.targets, beta, bias, *rest)
        self.stop_training = before - loss <= 1e-9 * before
        self.hash_head.set(np.zeros(len(beta)), beta, bias)
        return {"beta": beta, "bias": bias}, loss / len(beta)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_train": self.hash_head.num_anchors}
