"""COSDISH: discrete codes of sampled similarities, and a linear map to them."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kerashash.baselines.lfh import draw_columns
from kerashash.baselines.shallow import Floats, ShallowHash
from kerashash.checks import check_above, check_flag, check_integer
from kerashash.maths import cosdish
from kerashash.maths.projections import ridge_regression, signs
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class COSDISH(ShallowHash):
    """Column sampling based discrete supervised hashing.

    Solves:
        min  ||bits S - B B^T||^2  over B in {-1, +1}^(n x bits)

    with S_ij = 1 for two training rows that share a label. Each iteration draws some
    columns of S, and by turns solves the codes of the other rows, in closed form, and
    those of the columns, bit by bit (`kerashash.maths.cosdish`). A code is the sign of
    (x - m) W + c, the ridge regression of B.

    The loss that `fit` reports is the mean, over the pairs of the columns drawn, of
    (b_i . b_j / bits - S_ij)^2.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        columns: int or None; how many columns of S an iteration draws; all, if there
            are fewer. None is `bits`.
        turns: int; how often an iteration solves both kinds of codes.
        balanced: bool; True sets S_ij = -(similar pairs / dissimilar pairs) for rows
            that share no label, which gives both kinds of pair the same total; False
            sets -1.
        penalty: float; of the ridge regression.
        seed: int; of the first codes and of the columns.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`. By default 10 epochs, as in the paper.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model = COSDISH("features", bits=8, num_classes=3)
        >>> x, y = np.random.rand(60, 8), np.arange(60) % 3
        >>> history = model.fit(x, y, verbose=0)
        >>> model.encode(x).shape
        (60, 1)

    Reference:
        W.-C. Kang, W.-J. Li, Z.-H. Zhou, Column Sampling Based Discrete Supervised
        Hashing, AAAI 2016.

    Differences:
        Coordinate descent solves the bits of the columns. The map to codes is linear,
        by ridge regression; the paper also has boosted trees.
    """

    default_epochs = 10

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        columns: int | None = None,
        turns: int = 3,
        balanced: bool = True,
        penalty: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if columns is not None:
            columns = check_integer("columns", columns)
        turns = check_integer("turns", turns)
        check_flag(balanced=balanced)
        check_above(0, penalty=penalty)
        options = {
            "columns": columns,
            "turns": turns,
            "balanced": bool(balanced),
            "penalty": penalty,
            "seed": seed,
        }
        super().__init__(backbone, bits, num_classes, options=options, **kwargs)

    def begin(self, x: Floats, labels: Any) -> tuple[SimpleNamespace, Arrays]:
        mean = x.mean(axis=0)
        work = SimpleNamespace(x=x - mean, mean=mean, labels=labels)
        random = np.random.default_rng(self.options["seed"])
        codes = signs(random.normal(size=(len(x), self.bits)))
        return work, {"codes": codes, "done": np.array(0)}

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        codes, done = state["codes"].astype(np.int8), int(state["done"])
        columns = draw_columns(
            len(codes), self.options["columns"] or self.bits, self.options["seed"], done
        )
        share = work.labels @ work.labels[columns].T > 0  # (n, columns)
        fraction = share.mean()
        apart = -1.0
        # With only one kind of pair there is nothing to balance.
        if self.options["balanced"] and 0 < fraction < 1:
            apart = -fraction / (1.0 - fraction)
        similarity = np.where(share, 1.0, apart).astype(np.float32)
        rest = np.ones(len(codes), bool)
        rest[columns] = False
        between, within = similarity[rest], similarity[columns]
        for _ in range(self.options["turns"]):
            codes[rest] = cosdish.other_codes(between, codes[rest], codes[columns])
            codes[columns] = cosdish.sampled_codes(
                between, within, codes[rest], codes[columns]
            )
        b = codes.astype(np.float32)
        center = b.mean(axis=0)
        kernel = ridge_regression(work.x, b - center, self.options["penalty"])
        self.hash_head.set(work.mean, kernel, center)
        error = cosdish.pair_error(similarity, codes, codes[columns])
        loss = error / similarity.size / self.bits**2
        return {"codes": codes, "done": np.array(done + 1)}, loss
