"""FastH: bits by graph cuts, one after another, and boosted trees that predict them."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import scipy.sparse

from kerashash.baselines.shallow import Floats, ShallowHash
from kerashash.baselines.trees import TreeProjection
from kerashash.checks import check_integer
from kerashash.maths import fasth
from kerashash.maths.fasth import Codes
from kerashash.maths.projections import signs
from kerashash.methods.training_state import Arrays

# How often an epoch solves all blocks of rows.
_SWEEPS = 2


@keras.saving.register_keras_serializable(package="kerashash")
class FastH(ShallowHash):
    """Fast supervised hashing with decision trees.

    Solves:
        min  sum over similar pairs of d_ij^2
             + sum over dissimilar pairs of max(bits / 2 - d_ij, 0)^2

    with the Hamming distances d of the codes of training rows; two rows are similar if
    they share a label. It is greedy, in two steps for each bit, with `bits` the number
    so far. First the bit that is best for the rows is inferred, by minimum cuts: rows
    that share a label are a block, which is solved exactly while all others are fixed
    (`kerashash.maths.fasth.infer_bit`). Then boosted trees learn to predict it from
    features, and what they predict is the bit that the next ones complete.

    An epoch adds a bit. The loss that `fit` reports is the mean over the pairs drawn,
    with the bits so far.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        pairs: int; how many similar rows, and how many dissimilar ones, each training
            row is paired with, at random; all, if there are fewer.
        trees: int; how many trees a bit has.
        depth: int; how many features a tree asks for, one after another.
        tree_features: int; how many features, drawn at random, a tree chooses from;
            all, if there are fewer.
        seed: int; of the pairs, the order of blocks and the features of trees.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        As for `kerashash.HashModel.fit`. By default `bits` epochs, which is all; bits
        that no epoch has added are 1 everywhere.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> model = FastH("features", bits=8, num_classes=3, trees=10)
        >>> x, y = np.random.rand(60, 8), np.arange(60) % 3
        >>> history = model.fit(x, y, verbose=0)
        >>> model.encode(x).shape
        (60, 1)

    Reference:
        G. Lin, C. Shen, Q. Shi, A. van den Hengel, D. Suter, Fast Supervised Hashing
        with Decision Trees for High-Dimensional Data, CVPR 2014.

    Differences:
        The blocks are the rows of each label, where the paper collects rows one by one
        that are all similar. Thresholds are searched among 63 for each feature. The
        defaults were not checked against the paper's text, which was not at hand.
    """

    default_epochs: Any = property(lambda self: self.bits)

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        pairs: int = 100,
        trees: int = 200,
        depth: int = 4,
        tree_features: int = 64,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        options = {
            "pairs": pairs,
            "trees": trees,
            "depth": depth,
            "tree_features": tree_features,
        }
        options = {name: check_integer(name, value) for name, value in options.items()}
        head = TreeProjection(
            check_integer("bits", bits),
            options["trees"],
            options["depth"],
            name="hash_head",
        )
        options["seed"] = seed
        super().__init__(
            backbone, bits, num_classes, fitted=head, options=options, **kwargs
        )

    def begin(self, x: Floats, labels: Any) -> tuple[SimpleNamespace, Arrays]:
        pairs, similar = fasth.draw_pairs(
            labels, self.options["pairs"], self.options["seed"]
        )
        bins, cuts = fasth.quantize(x)
        blocks = [rows for rows in map(np.flatnonzero, labels.T) if len(rows)]
        # A row without a label is similar to none.
        blocks += [*np.flatnonzero(~labels.any(axis=1))[:, None]]
        work = SimpleNamespace(
            x=x, pairs=pairs, similar=similar, bins=bins, cuts=cuts, blocks=blocks
        )
        shape = (self.bits, self.options["trees"])
        nodes = 2 ** self.options["depth"] - 1
        return work, {
            "codes": np.zeros((len(x), self.bits), np.int8),
            "features": np.zeros((*shape, nodes), np.int32),
            "thresholds": np.zeros((*shape, nodes), np.float32),
            "leaves": np.zeros((*shape, nodes + 1), np.float32),
        }

    def iterate(self, work: SimpleNamespace, state: Arrays) -> tuple[Arrays, float]:
        state = {name: value.copy() for name, value in state.items()}
        codes: Codes = state["codes"]
        every = fasth.Trees(*(state[name] for name in fasth.Trees._fields))
        k = int(np.count_nonzero(codes[0]))
        left, right = work.pairs.T
        distances = np.count_nonzero(codes[left] != codes[right], axis=1)
        if k < self.bits:
            random = np.random.default_rng((self.options["seed"], k))
            half = scipy.sparse.coo_array(
                (fasth.pair_costs(distances, work.similar, k), (left, right)),
                shape=(len(codes), len(codes)),
            )
            costs = (half + half.T).tocsr()
            ones = np.ones(len(codes), np.int8)
            bit = fasth.infer_bit(costs, work.blocks, ones, _SWEEPS, random)
            trees = fasth.boosted_trees(
                work.bins,
                work.cuts,
                bit,
                self.options["trees"],
                self.options["depth"],
                self.options["tree_features"],
                random,
            )
            for all_bits, one in zip(every, trees, strict=True):
                all_bits[k] = one
            codes[:, k] = signs(fasth.tree_sums(work.x, trees))
            distances += codes[left, k] != codes[right, k]
            k += 1
        self.hash_head.set(every)
        self.stop_training = k == self.bits
        return state, fasth.hinge_loss(distances, work.similar, k)
