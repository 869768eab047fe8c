"""SDH: discrete codes from which a linear classifier tells the labels."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import scipy.linalg

from kerashash.baselines.kernels import KernelProjection
from kerashash.baselines.shallow import Floats, ShallowHash
from kerashash.checks import check_above, check_integer, check_least
from kerashash.maths import kernels, sdh
from kerashash.maths.projections import signs
from kerashash.methods.training_state import Arrays

# Of the sum of all eigenvalues, to which float32 is precise.
_RIDGE = 1e-6


@keras.saving.register_keras_serializable(package="kerashash")
class SDH(ShallowHash):
    """Supervised discrete hashing.

    Solves:
        min  ||Y - B W||^2 + lambda ||W||^2 + nu ||B - F||^2  over B, W and P
        subject to  B in {-1, +1}^(n x bits),  F = (K - m) P

    with the labels Y and the values K of Gaussian kernels of anchors, whose means are
    m, by turns: W and P by least squares, and B bit by bit, by discrete cyclic
    coordinate descent. The objective never rises. A code is the sign of F.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        anchors: int; how many training rows are anchors; all, if there are fewer.
        bandwidth: float; the width of the kernels, as a multiple of the root of the
            mean squared distance between rows and anchors.
        penalty: float; lambda.
        fit_weight: float; nu.
        seed: int; of the anchors and of the first codes.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`. By default 5 epochs, as in the paper.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model = SDH("features", bits=16, num_classes=3)
        >>> x, y = np.random.rand(60, 8), np.arange(60) % 3
        >>> history = model.fit(x, y, verbose=0)
        >>> model.encode(x).shape
        (60, 2)

    Reference:
        F. Shen, C. Shen, W. Liu, H. T. Shen, Supervised Discrete Hashing, CVPR 2015.

    Differences:
        The width of the kernels is relative to the data. Their values are centred, and
        the codes of training rows are those of the hash function, like all others.
    """

    default_epochs = 5

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        anchors: int = 1000,
        bandwidth: float = 1.0,
        penalty: float = 1.0,
        fit_weight: float = 1e-5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        anchors = check_integer("anchors", anchors)
        check_above(0, bandwidth=bandwidth, penalty=penalty)
        check_least(0, fit_weight=fit_weight)
        options = {
            "anchors": anchors,
            "bandwidth": bandwidth,
            "penalty": penalty,
            "fit_weight": fit_weight,
            "seed": seed,
        }
        head = KernelProjection(bits, anchors, name="hash_head")
        super().__init__(
            backbone, bits, num_classes, fitted=head, options=options, **kwargs
        )

    def begin(self, x: Floats, labels: Any) -> tuple[SimpleNamespace, Arrays]:
        options = self.options
        anchors, precision = kernels.choose_anchors(
            x, options["anchors"], options["bandwidth"], options["seed"]
        )
        self.hash_head.set_anchors(anchors, precision)
        kernel = kernels.gaussian(x, anchors, precision)  # (n, anchors)
        mean = kernel.mean(axis=0)
        kernel -= mean
        gram = (kernel.T @ kernel).astype(np.float64)
        gram.flat[:: len(gram) + 1] += max(_RIDGE * np.trace(gram), 1e-12)
        work = SimpleNamespace(
            labels=labels,
            kernel=kernel,
            mean=mean,
            factor=scipy.linalg.cho_factor(gram),
        )
        random = np.random.default_rng(options["seed"])
        codes = signs(random.normal(size=(len(x), self.bits)))
        return work, {"codes": codes}

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        penalty, fit_weight = self.options["penalty"], self.options["fit_weight"]
        codes = state["codes"].astype(np.int8)
        _, continuous = self._hash_function(work, codes)
        classifier = sdh.classifier_step(codes, work.labels, penalty)
        codes = sdh.code_step(codes, work.labels, classifier, continuous, fit_weight)
        projection, continuous = self._hash_function(work, codes)
        self.hash_head.set(work.mean, projection)
        loss = sdh.sdh_objective(
            work.labels, codes, classifier, continuous, penalty, fit_weight
        )
        return {"codes": codes}, loss / len(codes)

    def _hash_function(
        self, work: SimpleNamespace, codes: npt.NDArray[np.int8]
    ) -> tuple[Floats, Floats]:
        """P, the best for given codes, and F."""
        product = (work.kernel.T @ codes.astype(np.float32)).astype(np.float64)
        projection = scipy.linalg.cho_solve(work.factor, product).astype(np.float32)
        return projection, work.kernel @ projection
