"""Fast supervised hashing: bits by graph cuts, and boosted trees that predict them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.sparse import csgraph

from kerashash.checks import as_array, check_integer
from kerashash.maths.precision import Floats, check_rows, floats, integers, signed

__all__ = [
    "Trees",
    "boosted_trees",
    "draw_pairs",
    "hinge_loss",
    "infer_bit",
    "pair_costs",
    "quantize",
    "tree_sums",
]
__dir__ = __all__.copy  # what completion offers

Integers = npt.NDArray[np.integer[Any]]
Codes = npt.NDArray[np.int8]

# Of a feature, for the search of thresholds: a number below 256 fits into a byte.
_BINS = 64
# The share of the weight that a tree learns from. The lightest rows, which the trees
# before it get right, change little.
_WEIGHT = 0.95


class Trees(NamedTuple):
    """Complete binary trees, with their nodes level by level.

    Node j has the children 2 j + 1, for rows of which a feature is at most the
    threshold, and 2 j + 2, for others.

    Attributes:
        features: int32 array ``(trees, 2^depth - 1)``; which feature a node asks for.
        thresholds: float32 array ``(trees, 2^depth - 1)``.
        leaves: float32 array ``(trees, 2^depth)``; the values of the last level.

    Example:
        >>> tree = Trees(np.array([[1]]), np.array([[0.5]]), np.array([[-2.0, 3.0]]))
        >>> tree_sums(np.array([[9.0, 0.7]]), tree)
        array([3.], dtype=float32)
    """

    features: npt.NDArray[np.int32]
    thresholds: npt.NDArray[np.float32]
    leaves: npt.NDArray[np.float32]


# ------------------------------------------------------------------------ step 1: bits


def draw_pairs(
    labels: npt.ArrayLike, pairs: int, seed: int
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Draw similar and dissimilar partners of each row.

    Args:
        labels: float array ``(n, num_classes)`` over {0, 1}.
        pairs: int; how many partners of each kind a row draws; all, if there are fewer.
        seed: int.

    Returns:
        ``(rows, similar)``: int64 ``(m, 2)``, each pair once, the smaller number first;
        and bool ``(m,)``, whether the two rows share a label.

    Raises:
        TypeError: if `labels` does not hold numbers, or an option is no integer.
        ValueError: if `labels` has another shape or no rows, a label is not finite, or
            an option is out of range.

    Example:
        >>> rows, similar = draw_pairs(np.eye(2)[[0, 0, 1]], pairs=9, seed=0)
        >>> rows.tolist(), similar.tolist()
        ([[0, 1], [0, 2], [1, 2]], [True, False, False])
    """
    labels = floats(labels, "labels", (None, None), np.float32, finite=True)
    check_rows(labels, "labels")
    pairs = check_integer("pairs", pairs)
    random = np.random.default_rng(check_integer("seed", seed, least=0))
    n = len(labels)
    drawn, shared = [], []
    for row in range(n):
        share = labels @ labels[row] > 0
        for similar, kind in ((True, share), (False, ~share)):
            kind[row] = False
            partners = np.flatnonzero(kind)
            size = min(pairs, len(partners))
            partners = random.choice(partners, size, replace=False, shuffle=False)
            drawn.append(np.minimum(row, partners) * n + np.maximum(row, partners))
            shared.append(np.full(size, similar))
    # A pair that both of its rows have drawn counts once.
    numbers, first = np.unique(np.concatenate(drawn), return_index=True)
    return np.stack(np.divmod(numbers, n), axis=1), np.concatenate(shared)[first]


def hinge_loss(distances: npt.ArrayLike, similar: npt.ArrayLike, bits: int) -> float:
    """How far similar codes are apart, and how far dissimilar ones miss half the bits.

    Formula:
        mean over pairs of  d^2 if similar, else max(r / 2 - d, 0)^2

    Args:
        distances: int array ``(m,)``; d, the Hamming distances of pairs.
        similar: bool array ``(m,)``.
        bits: int; r, the code length.

    Returns:
        float.

    Raises:
        TypeError: if `distances` does not hold integers, or `bits` is none.
        ValueError: if the shapes do not match, a value is negative, or there are no
            pairs.

    Example:
        >>> hinge_loss(np.array([1, 1]), np.array([True, False]), bits=6)
        2.5

    Reference:
        G. Lin, C. Shen, Q. Shi, A. van den Hengel, D. Suter, Fast Supervised Hashing
        with Decision Trees for High-Dimensional Data, CVPR 2014.
    """
    distances, similar, bits = _pairs(distances, similar, bits)
    if not len(distances):
        # `LinAlgError` is a ValueError, of which methods say what it means for rows.
        raise np.linalg.LinAlgError("`distances` must be those of pairs. Received none")
    d = distances.astype(np.float64)
    return float(
        np.square(np.where(similar, d, np.maximum(bits / 2.0 - d, 0.0))).mean()
    )


def _pairs(
    distances: npt.ArrayLike, similar: npt.ArrayLike, bits: int
) -> tuple[Integers, npt.NDArray[np.bool_], int]:
    """The arguments of `hinge_loss` and `pair_costs`."""
    distances = integers(distances, "distances")
    similar = floats(similar, "similar", distances.shape, np.float32) > 0
    return distances, similar, check_integer("bits", bits, least=0)


def pair_costs(
    distances: npt.ArrayLike, similar: npt.ArrayLike, bits: int
) -> npt.NDArray[np.int64]:
    """What it costs if the next bit of two rows is equal and not unequal.

    Formula:
        4 (l(d) - l(d + 1)),  with `hinge_loss` l of r + 1 bits

    It is never above 0 for similar pairs, nor below 0 for dissimilar ones.

    Args:
        distances: int array ``(m,)``; d, the distances by the bits so far.
        similar: bool array ``(m,)``.
        bits: int; r, how many bits there are so far.

    Returns:
        int64 array ``(m,)``; four times the costs, which are whole numbers.

    Raises:
        TypeError, ValueError: as `hinge_loss`, but there may be no pairs.

    Example:
        >>> pair_costs(np.array([0, 0]), np.array([True, False]), bits=0)
        array([-4,  1])
    """
    d, similar, bits = _pairs(distances, similar, bits)
    missing = bits + 1 - 2 * d  # twice what a dissimilar pair misses
    apart = np.maximum(missing, 0) ** 2 - np.maximum(missing - 2, 0) ** 2
    return np.where(similar, -4 * (2 * d + 1), apart)


def infer_bit(
    costs: scipy.sparse.csr_array,
    blocks: Sequence[npt.ArrayLike],
    bit: npt.ArrayLike,
    sweeps: int,
    random: np.random.Generator,
) -> Codes:
    """The bit of all rows that pairs want, one block of rows after another.

    Solves:
        argmin z^T C z  subject to  z in {-1, +1}^n

    where a step solves the rows of a block exactly, with all others fixed, by a minimum
    cut. The objective never rises.

    Args:
        costs: int sparse array ``(n, n)``, symmetric, with an empty diagonal; C, which
            is not above 0 within a block.
        blocks: list of int arrays; rows. They may overlap.
        bit: int8 array ``(n,)`` over {-1, +1}; z at first.
        sweeps: int; how often all blocks are solved, fewer if nothing changes.
        random: `numpy.random.Generator`; for the order of the blocks.

    Returns:
        int8 array ``(n,)`` over {-1, +1}.

    Raises:
        TypeError: if `costs` or `blocks` does not hold integers.
        ValueError: if `costs` has another shape, is above 0 within a block, or too
            large for int32; if a block has no such row; or if `bit` is not over
            {-1, +1}.

    Example:
        >>> costs = np.array([[0, -2, 3], [-2, 0, 1], [3, 1, 0]])
        >>> ones, blocks = np.ones(3, np.int8), [np.array([0, 1]), np.array([2])]
        >>> random = np.random.default_rng(0)
        >>> z = infer_bit(scipy.sparse.csr_array(costs), blocks, ones, 2, random)
        >>> bool(z[0] == z[1] != z[2])
        True

    Reference:
        G. Lin, C. Shen, Q. Shi, A. van den Hengel, D. Suter, Fast Supervised Hashing
        with Decision Trees for High-Dimensional Data, CVPR 2014, section 3.
    """
    costs = scipy.sparse.csr_array(costs)
    if costs.dtype.kind not in "uib":
        raise TypeError(f"`costs` must hold integers. Received dtype: {costs.dtype}.")
    z = signed(bit, "bit", (None,)).astype(np.int64)
    n = len(z)
    if costs.shape != (n, n):
        raise ValueError(
            f"`costs` must have shape ({n}, {n}), as `bit` has {n} rows. "
            f"Received shape: {costs.shape}."
        )
    costs = costs.astype(np.int64, copy=False)
    blocks = [integers(block, "blocks", most=n - 1) for block in blocks]
    sweeps = check_integer("sweeps", sweeps, least=0)
    for _ in range(sweeps):
        before = z.copy()
        for number in random.permutation(len(blocks)):
            block = blocks[number]
            rows = costs[block]
            within = rows[:, block]
            field = rows @ z - within @ z[block]
            z[block] = _minimum_cut(within, field)
        if (z == before).all():
            break
    return z.astype(np.int8)


def _minimum_cut(costs: scipy.sparse.csr_array, field: Integers) -> Integers:
    """argmin z^T C z / 2 + f^T z over {-1, +1}, with no entry of C above 0.

    With +1 on the side of the source, a cut between i and j costs -C_ij, and one
    between i and the source or the sink |f_i|: half of what it changes.
    """
    n = len(field)
    edges = costs.tocoo()
    if (edges.data > 0).any():
        raise ValueError(
            f"`costs` must be at most 0 within a block. Received: {edges.data.max()}."
        )
    nodes = np.arange(n)
    source, sink = np.full(n, n), np.full(n, n + 1)
    capacity = np.concatenate(
        [-edges.data, np.maximum(-field, 0), np.maximum(field, 0)]
    )
    start = np.concatenate([edges.row, source, nodes])
    end = np.concatenate([edges.col, nodes, sink])
    # SciPy's solver takes nothing but int32.
    if capacity.size and capacity.max() > np.iinfo(np.int32).max:
        raise ValueError(
            f"`costs` must have sums within int32. Received a sum of {capacity.max()}."
        )
    capacity, start, end = (a.astype(np.int32) for a in (capacity, start, end))
    graph = scipy.sparse.csr_array((capacity, (start, end)), shape=(n + 2, n + 2))
    residual = graph - csgraph.maximum_flow(graph, n, n + 1).flow
    residual.eliminate_zeros()
    reached = csgraph.breadth_first_order(residual, n, return_predecessors=False)
    z = np.full(n + 2, -1)
    z[reached] = 1
    return z[:n]


# ----------------------------------------------------------------------- step 2: trees


def quantize(
    x: npt.ArrayLike,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Sort the values of each feature into bins of about as many rows.

    Args:
        x: float32 array ``(n, d)``.

    Returns:
        ``(bins, cuts)``: uint8 ``(n, d)``, how many cuts a value is above; and float32
        ``(d, 63)``, the cuts.

    Raises:
        TypeError: if `x` does not hold numbers.
        ValueError: if `x` has another shape or no rows, or a value is not finite.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0]], np.float32)
        >>> bins, cuts = quantize(x)
        >>> (bins[:, 0] == (x > cuts).sum(axis=1)).all().item()
        True
    """
    x = floats(x, "x", (None, None), finite=True)
    check_rows(x, "x")
    levels = np.linspace(0.0, 1.0, _BINS + 1)[1:-1]
    cuts = np.quantile(x, levels, axis=0, method="linear").T.astype(np.float32)
    bins = np.empty(x.shape, np.uint8, order="F")
    for feature, column in enumerate(cuts):
        bins[:, feature] = np.searchsorted(column, x[:, feature])
    return bins, cuts


def boosted_trees(
    bins: npt.ArrayLike,
    cuts: npt.ArrayLike,
    bit: npt.ArrayLike,
    trees: int,
    depth: int,
    features: int,
    random: np.random.Generator,
) -> Trees:
    """Fit trees one after another, each to what those before it get wrong.

    Solves:
        min  sum_i exp(-z_i sum_t a_t T_t(x_i))  over trees T_t into {-1, +1} and a_t

    greedily: AdaBoost. A tree has the split of the least Gini impurity at each node.

    Args:
        bins: uint8 array ``(n, d)``, from `quantize`.
        cuts: float32 array ``(d, 63)``, from `quantize`.
        bit: int8 array ``(n,)`` over {-1, +1}; z.
        trees: int; how many.
        depth: int; of each tree.
        features: int; how many features, drawn at random, a tree may ask for.
        random: `numpy.random.Generator`.

    Returns:
        `Trees`, whose leaves have the values a_t T_t.

    Raises:
        TypeError: if an array does not hold numbers, or an option is no integer.
        ValueError: if a shape is wrong, `bins` has values that `quantize` does not
            give, `bit` is not over {-1, +1}, or an option is below 1.

    Example:
        >>> x, z = np.array([[0.0], [1.0], [2.0]], np.float32), np.array([-1, 1, -1])
        >>> random = np.random.default_rng(0)
        >>> trees = boosted_trees(*quantize(x), z, 1, 2, 1, random)
        >>> np.sign(tree_sums(x, trees))
        array([-1.,  1., -1.], dtype=float32)

    Reference:
        Y. Freund, R. E. Schapire, A Decision-Theoretic Generalization of On-Line
        Learning and an Application to Boosting, 1997.
    """
    bins = as_array(bins, "bins")
    if bins.dtype.kind not in "ui":
        raise TypeError(f"`bins` must hold integers. Received dtype: {bins.dtype}.")
    if bins.ndim != 2 or not bins.size or bins.min() < 0 or bins.max() >= _BINS:
        raise ValueError(
            f"`bins` must have shape (n, d), with rows, and integers from 0 to "
            f"{_BINS - 1}. Received shape: {bins.shape}."
        )
    n, width = bins.shape
    cuts = floats(cuts, "cuts", (width, _BINS - 1))
    bit = signed(bit, "bit", (n,))
    trees, depth = check_integer("trees", trees), check_integer("depth", depth)
    features = check_integer("features", features)
    nodes = 2**depth - 1
    ensemble = Trees(
        np.zeros((trees, nodes), np.int32),
        np.zeros((trees, nodes), np.float32),
        np.zeros((trees, nodes + 1), np.float32),
    )
    weights = np.full(n, 1.0 / n)
    for number in range(trees):
        heaviest = np.argsort(-weights, kind="stable")
        enough = np.searchsorted(np.cumsum(weights[heaviest]), _WEIGHT) + 1
        rows = np.sort(heaviest[:enough])
        asked = random.choice(width, min(features, width), replace=False)
        chosen, bounds, votes = _tree(
            bins[np.ix_(rows, asked)], bit[rows], weights[rows], depth
        )
        chosen = asked[chosen]
        node = np.zeros(n, np.int64)
        for _ in range(depth):
            node = 2 * node + 1 + (bins[np.arange(n), chosen[node]] > bounds[node])
        guess = votes[node - nodes]
        error = float(weights[guess != bit].sum())
        error = min(max(error, 1e-10), 0.5)
        step = 0.5 * np.log((1.0 - error) / error)
        ensemble.features[number] = chosen
        ensemble.thresholds[number] = cuts[chosen, bounds]
        ensemble.leaves[number] = step * votes
        weights *= np.exp(-step * guess * bit)
        weights /= weights.sum()
    return ensemble


def _tree(
    bins: npt.NDArray[np.uint8], bit: Codes, weights: Floats, depth: int
) -> tuple[Integers, Integers, Integers]:
    """The feature and the cut of each node, and the vote of each leaf."""
    rows, width = bins.shape
    column = bins + np.arange(width) * _BINS  # where a value is counted
    each = np.repeat(weights, width)
    node, side = np.zeros(rows, np.int64), (bit > 0).astype(np.int64)
    votes = np.ones(1, np.int64)
    features, bounds = [], []
    for level in range(depth + 1):
        number = 2**level
        total = np.bincount(2 * node + side, weights, 2 * number).reshape(-1, 2)
        # A leaf that no row has reached votes as the node above it.
        majority = np.where(total[:, 1] >= total[:, 0], 1, -1)
        votes = np.where(total.any(axis=1), majority, votes)
        if level == depth:
            break
        place = (2 * node + side)[:, None] * (width * _BINS) + column
        counts = np.bincount(place.ravel(), each, 2 * number * width * _BINS)
        counts = counts.reshape(number, 2, width, _BINS)
        left = np.cumsum(counts, axis=3)[..., :-1]
        right = total[:, :, None, None] - left
        impurity = sum(
            part[:, 0] * part[:, 1] / np.maximum(part.sum(axis=1), 1e-300)
            for part in (left, np.maximum(right, 0.0))
        )
        best = impurity.reshape(number, -1).argmin(axis=1)
        feature, bound = np.divmod(best, _BINS - 1)
        features.append(feature)
        bounds.append(bound)
        node = 2 * node + (bins[np.arange(rows), feature[node]] > bound[node])
        votes = np.repeat(votes, 2)
    return np.concatenate(features), np.concatenate(bounds), votes


def tree_sums(x: npt.ArrayLike, trees: Trees) -> npt.NDArray[np.float32]:
    """The sums of the leaves that rows reach.

    Args:
        x: float32 array ``(n, d)``.
        trees: `Trees`.

    Returns:
        float32 array ``(n,)``.

    Raises:
        TypeError: if `x` does not hold numbers.
        ValueError: if `x` has another shape, or lacks features that the trees ask for.

    Example:
        >>> tree = Trees(np.array([[1]]), np.array([[0.5]]), np.array([[-2.0, 3.0]]))
        >>> tree_sums(np.array([[9.0, 0.5], [9.0, 0.6]]), tree)
        array([-2.,  3.], dtype=float32)
    """
    x = floats(x, "x", (None, None))
    asked = np.max(trees.features, initial=0)
    if asked >= x.shape[1]:
        raise ValueError(
            f"`x` must have the feature {asked}, which a tree asks for. "
            f"Received shape: {x.shape}."
        )
    sums = np.zeros(len(x), np.float32)
    every = np.arange(len(x))
    for features, thresholds, leaves in zip(*trees, strict=True):
        node = np.zeros(len(x), np.int64)
        for _ in range(len(features).bit_length()):  # 2^depth - 1 nodes
            node = 2 * node + 1 + (x[every, features[node]] > thresholds[node])
        sums += leaves[node - len(features)]
    return sums
