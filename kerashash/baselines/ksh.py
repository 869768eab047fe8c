"""KSH: kernel hash functions, one bit after another, for pairs of labelled rows."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kerashash.baselines.kernels import KernelProjection
from kerashash.baselines.shallow import Floats, ShallowHash
from kerashash.checks import check_above, check_integer
from kerashash.maths import kernels, ksh
from kerashash.maths.projections import signs
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class KSH(ShallowHash):
    """Supervised hashing with kernels.

    Solves:
        min  ||H H^T / bits - S||^2  over A,  H = sgn((K - m) A)

    over pairs of some labelled rows, with S_ij = 1 for two that share a label and -1
    for others, and the values K of Gaussian kernels of anchors, whose means over all
    training rows are m. It is greedy: bit k takes the direction a_k that is best for
    what the bits before it leave (`kerashash.maths.ksh.best_direction`).

    An epoch adds a bit. The loss that `fit` reports is the mean over pairs of (h_i .
    h_j / bits - S_ij)^2, with the bits so far.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        anchors: int; how many training rows are anchors; all, if there are fewer.
        pair_rows: int; how many training rows, drawn at random, give the pairs; all, if
            there are fewer. Memory is O(pair_rows^2).
        bandwidth: float; the width of the kernels, as a multiple of the root of the
            mean squared distance between rows and anchors.
        seed: int; of the anchors and the rows of pairs.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`. By default `bits` epochs, which is all; bits
        that no epoch has added are 1 everywhere.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model = KSH("features", bits=8, num_classes=3)
        >>> x, y = np.random.rand(60, 8), np.arange(60) % 3
        >>> history = model.fit(x, y, verbose=0)
        >>> model.encode(x).shape
        (60, 1)

    Reference:
        W. Liu, J. Wang, R. Ji, Y.-G. Jiang, S.-F. Chang, Supervised Hashing with
        Kernels, CVPR 2012.

    Differences:
        L-BFGS in place of Nesterov's gradient method. Every pair of the rows is
        labelled.
    """

    default_epochs: Any = property(lambda self: self.bits)

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        anchors: int = 300,
        pair_rows: int = 2000,
        bandwidth: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        anchors = check_integer("anchors", anchors)
        pair_rows = check_integer("pair_rows", pair_rows)
        check_above(0, bandwidth=bandwidth)
        options = {
            "anchors": anchors,
            "pair_rows": pair_rows,
            "bandwidth": bandwidth,
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
        mean = kernels.gaussian(x, anchors, precision).mean(axis=0)
        random = np.random.default_rng(options["seed"])
        rows = random.choice(len(x), min(options["pair_rows"], len(x)), replace=False)
        share = labels[rows] @ labels[rows].T > 0
        work = SimpleNamespace(
            mean=mean,
            kernel=kernels.gaussian(x[rows], anchors, precision) - mean,  # (l, anchors)
            similarity=np.where(share, 1.0, -1.0).astype(np.float32),  # (l, l)
        )
        return work, {"directions": np.zeros((len(anchors), self.bits), np.float32)}

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        directions = state["directions"].copy()
        k = np.count_nonzero(directions.any(axis=0))
        codes = signs(work.kernel @ directions)  # (l, bits)
        if k < self.bits:
            residual = ksh.pair_residual(work.similarity, codes[:, :k], self.bits)
            directions[:, k] = ksh.best_direction(work.kernel, residual)
            codes[:, k] = signs(work.kernel @ directions[:, k])
            k += 1
        self.hash_head.set(work.mean, directions)
        self.stop_training = k == self.bits
        residual = ksh.pair_residual(work.similarity, codes[:, :k], self.bits)
        return {"directions": directions}, float(np.square(residual / self.bits).mean())
