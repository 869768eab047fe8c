"""LFH: latent factors of similarities, and a linear map to them."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kerashash.baselines.shallow import Floats, ShallowHash
from kerashash.checks import check_above, check_integer
from kerashash.maths import lfh
from kerashash.maths.projections import ridge_regression
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class LFH(ShallowHash):
    """Latent factor hashing.

    Solves:
        min  sum_ij log(1 + exp t_ij) - s_ij t_ij + ||U||^2 / (2 beta)  over U
        t_ij = u_i . u_j / 2

    with s_ij = 1 for two training rows that share a label and 0 for others. Each
    iteration draws some columns of S and moves all vectors so that these become more
    likely (`kerashash.maths.lfh.factor_step`). A code is the sign of (x - m) W + c, the
    ridge regression of U.

    The loss that `fit` reports is that of the columns drawn, per pair.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        columns: int; how many columns of S an iteration draws; all, if there are fewer.
        beta: float; the variance of the prior of U.
        penalty: float; of the ridge regression.
        seed: int; of the first U and of the columns.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`. By default 50 epochs, as in the paper.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model = LFH("features", bits=8, num_classes=3)
        >>> x, y = np.random.rand(60, 8), np.arange(60) % 3
        >>> history = model.fit(x, y, verbose=0)
        >>> model.encode(x).shape
        (60, 1)

    Reference:
        P. Zhang, W. Zhang, W.-J. Li, M. Guo, Supervised Hashing with Latent Factor
        Models, SIGIR 2014.

    Differences:
        The paper draws as many columns as bits, after which vectors fit the columns
        drawn and no others. A pair is once in the sum, or twice if both of its rows are
        columns drawn. The regression has an intercept.
    """

    default_epochs = 50

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        columns: int = 200,
        beta: float = 30.0,
        penalty: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        columns = check_integer("columns", columns)
        check_above(0, beta=beta, penalty=penalty)
        options = {"columns": columns, "beta": beta, "penalty": penalty, "seed": seed}
        super().__init__(backbone, bits, num_classes, options=options, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[SimpleNamespace, Arrays]:
        mean = x.mean(axis=0)
        work = SimpleNamespace(x=x - mean, mean=mean, labels=labels)
        random = np.random.default_rng(self.options["seed"])
        u = random.normal(size=(len(x), self.bits)).astype(np.float32)
        return work, {"u": u, "done": np.array(0)}

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        beta, done = self.options["beta"], int(state["done"])
        columns = draw_columns(
            len(work.x), self.options["columns"], self.options["seed"], done
        )
        similar = (work.labels @ work.labels[columns].T > 0).astype(np.float32)
        u = lfh.factor_step(state["u"], columns, similar, beta)
        center = u.mean(axis=0)
        kernel = ridge_regression(work.x, u - center, self.options["penalty"])
        self.hash_head.set(work.mean, kernel, center)
        loss = lfh.negative_log_likelihood(u, columns, similar, beta)
        return {"u": u, "done": np.array(done + 1)}, loss / similar.size


def draw_columns(n: int, columns: int, seed: int, iteration: int) -> Any:
    """Draw columns of a similarity matrix, the same ones in a resumed training.

    Args:
        n: int; the number of columns that there are.
        columns: int; how many to draw; all, if there are fewer.
        seed, iteration: int.

    Returns:
        int array ``(min(columns, n),)``.

    Example:
        >>> draw_columns(9, 3, seed=0, iteration=1).shape
        (3,)
    """
    random = np.random.default_rng((seed, iteration))
    return random.choice(n, min(columns, n), replace=False)
