"""IIS-LLD: label distributions of a maximum entropy model."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kerashash.baselines.distributions import (
    DistributionModel,
    LogLinear,
    standardization,
)
from kerashash.baselines.shallow import Floats
from kerashash.checks import check_integer
from kerashash.maths import entropy
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class IISLLD(DistributionModel):
    """Learning from label distributions by improved iterative scaling.

    Solves:
        max  sum_i sum_y d_iy ln p(y | x_i),  p(y | x) = exp(w_y . g(x)) / Z(x)

    over W, with the features g: those of the backbone, standardised, and a constant. An
    iteration maximises a lower bound (`kerashash.maths.entropy.scaling_step`), so that
    the likelihood never falls. The loss that `fit` reports is the negative mean
    log-likelihood.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        num_classes: int; the width of a label distribution.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`, with label distributions. By default 50
        epochs.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> x, d = np.random.rand(40, 8), np.random.dirichlet([1.0, 1.0, 1.0], 40)
        >>> model = IISLLD("features", num_classes=3)
        >>> history = model.fit(x, d, verbose=0)
        >>> model.predict_distribution(x[:5]).shape
        (5, 3)

    Reference:
        X. Geng, C. Yin, Z.-H. Zhou, Facial Age Estimation by Learning from Label
        Distributions, TPAMI 2013; X. Geng, Label Distribution Learning, TKDE 2016.

    Differences:
        Features are standardised.
    """

    default_epochs = 50

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        num_classes: int,
        **kwargs: Any,
    ) -> None:
        head = LogLinear(check_integer("num_classes", num_classes), name="hash_head")
        super().__init__(backbone, num_classes, fitted=head, options={}, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[SimpleNamespace, Arrays]:
        mean, scale = standardization(x)
        g = np.column_stack([(x - mean) * scale, np.ones(len(x))])
        d = labels.astype(np.float64)
        d /= d.sum(axis=1, keepdims=True)
        work = SimpleNamespace(mean=mean, scale=scale, g=g, d=d)
        return work, {"weights": np.zeros((g.shape[1], self.num_classes))}

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        weights = entropy.scaling_step(work.g, work.d, state["weights"])
        kernel = weights[:-1] * work.scale[:, None]
        self.hash_head.set(work.mean, kernel, weights[-1])
        loss = -entropy.likelihood(work.g, work.d, weights)
        return {"weights": weights}, loss
