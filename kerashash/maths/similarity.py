"""Supervision of learning to hash: which images count as similar.

With labels (`LabelSimilarity`), two images are similar if they share at least one; an
image without labels is similar to no image, not even to itself. Labels may be unknown,
and then the similarity of some pairs is (`may_share_label`). Without labels
(`expanded_neighbours`), similarity comes from the nearest neighbours of feature
vectors. Within a batch, it can be a probability (`gaussian_affinity`,
`student_t_affinity`).

The n x n similarity matrix of a data set is never built.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse
import tensorflow as tf

from kerashash.checks import (
    as_array,
    check_flag,
    check_integer,
    check_labels,
)
from kerashash.forks import check_not_forked
from kerashash.maths.precision import check_shape, float_tensors, floats, number_tensor

__all__ = [
    "LabelSimilarity",
    "expanded_neighbours",
    "gaussian_affinity",
    "may_share_label",
    "nearest_neighbours",
    "neighbourhood_agreement",
    "shares_label",
    "squared_distances",
    "student_t_affinity",
]
__dir__ = __all__.copy  # what completion offers


# Rows of patterns that are compared with all patterns at a time.
_BLOCK_ROWS = 1024
# Cosines that are equal when rounded to multiples of this are equal: the errors of
# float64 are much less.
_TIE = 2.0**-36
# Rows beyond the k nearest that are compared exactly, because float32 may swap some.
_SPARE = 8
# Numbers of float64 in memory at a time.
_BLOCK_NUMBERS = 1 << 22


def shares_label(
    labels: npt.ArrayLike | tf.Tensor, other_labels: npt.ArrayLike | tf.Tensor
) -> tf.Tensor:
    """Which pairs of label rows share at least one label.

    Args:
        labels: float tensor ``(m, classes)``; values in {0, 1}, or -1 for unknown.
        other_labels: float tensor ``(n, classes)``; as `labels`.

    Returns:
        bool tensor ``(m, n)``; whether both rows of a pair are known to have a label.

    Example:
        >>> shares_label([[1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]]).numpy()
        array([[ True, False]])
    """
    present, other = (tf.nn.relu(y) for y in _pair(labels, other_labels))
    return tf.matmul(present, other, transpose_b=True) > 0.5


def may_share_label(
    labels: npt.ArrayLike | tf.Tensor, other_labels: npt.ArrayLike | tf.Tensor
) -> tf.Tensor:
    """Which pairs of label rows share a label or not, by an unknown label.

    Such a pair shares no label for certain, and one row has a label that is unknown in
    the other. A label that is unknown in both rows is left out of their comparison: in
    data whose photographs all lack the same label, no pair would be dissimilar.

    Args:
        labels: float tensor ``(m, classes)``; values in {0, 1}, or -1 for unknown.
        other_labels: float tensor ``(n, classes)``; as `labels`.

    Returns:
        bool tensor ``(m, n)``.

    Example:
        >>> others = [[0.0, 1.0], [1.0, 1.0], [0.0, -1.0]]
        >>> may_share_label([[1.0, -1.0]], others).numpy()
        array([[ True, False, False]])
    """
    labels, other_labels = _pair(labels, other_labels)
    present, other = tf.nn.relu(labels), tf.nn.relu(other_labels)
    unknown, other_unknown = tf.nn.relu(-labels), tf.nn.relu(-other_labels)
    open_labels = tf.matmul(present, other_unknown, transpose_b=True)
    open_labels += tf.matmul(unknown, other, transpose_b=True)  # (m, n)
    return (open_labels > 0.5) & ~shares_label(labels, other_labels)


def _pair(
    labels: npt.ArrayLike | tf.Tensor, other_labels: npt.ArrayLike | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The label rows that are compared, as float32."""
    return (
        tf.cast(number_tensor(labels, "labels"), tf.float32),
        tf.cast(number_tensor(other_labels, "other_labels"), tf.float32),
    )


class LabelSimilarity:
    """The similarity matrix S of a labelled data set, in factorised form.

    Formula:
        S_ij = 1 if i and j share a label, -r if they share none

    If that is unknown (`may_share_label`), S_ij is the mean of S over all other pairs.
    A squared error then is the expected one, up to a constant, of a pair that is
    similar as often as others.

    Images with the same label row have the same row of S, so a product with S needs
    only sums over the p distinct label rows, the patterns:
    ``(S @ M)_i = sum_p S_ip (sum of the rows of M with pattern p)``. With n images, d
    columns of M and c labels, that takes O(n d + p^2 (c + d)) time.

    Args:
        labels: array ``(n, classes)``; values in {0, 1}, or -1 for unknown.
        balanced: bool; True sets r = #similar / #dissimilar pairs, which gives both
            kinds of pair the same total weight; False sets r = 1.

    Attributes:
        patterns: float32 tensor ``(p, classes)``; the distinct label rows.
        pattern_of: int32 tensor ``(n,)``; the pattern of each image.
        counts: float32 tensor ``(p,)``; how many images have each pattern.
        has_unknown: bool; whether a label is unknown.
        share: float; the fraction of similar pairs among those that are not unknown.
        dissimilar: float; r.
        unknown: float; S_ij of an unknown pair; 0 if S is balanced.

    Raises:
        TypeError: if `balanced` is not True or False.
        ValueError: if `labels` has another shape or holds other values.

    Example:
        >>> s = LabelSimilarity(np.eye(4), balanced=True)
        >>> round(s.dissimilar, 4)  # 4 similar pairs, 12 dissimilar ones
        0.3333
        >>> ones = s.sum_by_pattern(tf.ones((4, 1)))
        >>> s.product(tf.eye(4)[:1], ones).numpy()  # 1 - 3 r
        array([[0.]], dtype=float32)
    """

    def __init__(self, labels: npt.ArrayLike, balanced: bool) -> None:
        check_flag(balanced=balanced)
        labels = as_array(labels, "labels")
        width = labels.shape[-1] if labels.ndim == 2 else 0
        labels = check_labels(labels, width, unknown=True, name="labels")
        _, first, pattern_of, counts = np.unique(
            np.hstack([np.packbits(part, axis=1) for part in (labels > 0, labels < 0)]),
            axis=0,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        self.patterns = tf.constant(labels[first])
        self.pattern_of = tf.constant(pattern_of.reshape(-1).astype(np.int32))
        self.counts = tf.constant(counts.astype(np.float32))
        self.has_unknown = bool((labels < 0).any())
        similar_pairs, pairs = 0, len(labels) ** 2
        for start in range(0, len(counts), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            rows = self.patterns[block]
            share = shares_label(rows, self.patterns).numpy()
            similar_pairs += counts[block] @ (share @ counts)
            if self.has_unknown:
                unknown = may_share_label(rows, self.patterns).numpy()
                pairs -= counts[block] @ (unknown @ counts)
        self.share = float(similar_pairs / max(pairs, 1))
        self.dissimilar = 1.0
        # With only one kind of pair there is nothing to balance.
        if balanced and 0.0 < self.share < 1.0:
            self.dissimilar = self.share / (1.0 - self.share)
        self.unknown = self.share - self.dissimilar * (1.0 - self.share)

    def sum_by_pattern(self, rows: npt.ArrayLike | tf.Tensor) -> tf.Tensor:
        """Sum the rows of a matrix M by the patterns of the images.

        Args:
            rows: float tensor ``(n, d)``; M.

        Returns:
            Float tensor ``(p, d)``.
        """
        (rows,) = float_tensors(rows=rows)
        return tf.math.unsorted_segment_sum(rows, self.pattern_of, len(self.counts))

    def product(
        self,
        labels: npt.ArrayLike | tf.Tensor,
        pattern_sums: npt.ArrayLike | tf.Tensor,
    ) -> tf.Tensor:
        """Rows of ``S @ M`` from the sums of the rows of M by pattern.

        Args:
            labels: float tensor ``(m, classes)``; the label rows for which to compute
                rows of the product. They need not occur in the data set.
            pattern_sums: float tensor ``(p, d)``; from `sum_by_pattern`.

        Returns:
            Float tensor ``(m, d)``.
        """
        (pattern_sums,) = float_tensors(pattern_sums=pattern_sums)
        dtype = pattern_sums.dtype
        share = tf.cast(shares_label(labels, self.patterns), dtype)  # (m, p)
        total = tf.reduce_sum(pattern_sums, axis=0)
        product = (1 + self.dissimilar) * share @ pattern_sums - self.dissimilar * total
        if self.has_unknown:
            unknown = tf.cast(may_share_label(labels, self.patterns), dtype)
            product += (self.unknown + self.dissimilar) * unknown @ pattern_sums
        return product

    def square_sum(self, labels: npt.ArrayLike | tf.Tensor) -> tf.Tensor:
        """Row sums of the squared entries of S, ``sum_j S_ij^2``.

        Args:
            labels: float tensor ``(m, classes)``; the label rows.

        Returns:
            Float tensor ``(m,)``.
        """
        share = tf.cast(shares_label(labels, self.patterns), tf.float32)  # (m, p)
        similar = tf.linalg.matvec(share, self.counts)  # (m,)
        total = tf.reduce_sum(self.counts)
        squares = similar + self.dissimilar**2 * (total - similar)
        if self.has_unknown:
            unknown = tf.cast(may_share_label(labels, self.patterns), tf.float32)
            pairs = tf.linalg.matvec(unknown, self.counts)  # (m,)
            squares += (self.unknown**2 - self.dissimilar**2) * pairs
        return squares


def nearest_neighbours(
    features: npt.ArrayLike | tf.Tensor, k: int, block: int = 1024
) -> npt.NDArray[np.int32]:
    """The exact k nearest neighbours of each row by cosine similarity.

    Args:
        features: float array ``(n, d)``; feature vectors.
        k: int; how many neighbours, less than n.
        block: int; rows compared at a time. Memory is O(block n).

    Returns:
        int32 array ``(n, k + 1)`` of row indices: the row itself in column 0, then its
        neighbours, nearest first. Of equally near rows, the one with the lower index
        comes first: of rows whose cosines are equal to 10 digits.

    Raises:
        TypeError: if the features are not numbers, or `k` is not an integer.
        ValueError: if `k` is not in 1 to n - 1, or a feature is not finite.

    Example:
        >>> nearest_neighbours(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), k=1)
        array([[0, 1],
               [1, 0],
               [2, 1]], dtype=int32)
    """
    block = check_integer("block", block)
    features = as_array(features, "features")
    if features.dtype.kind in "ui":
        check_shape(features, "features", (None, None))
    else:
        features = floats(features, "features", (None, None), finite=True)
        features = _of_size_one(features)
    n = len(features)
    if isinstance(k, int | np.integer) and not 1 <= k < n:
        raise ValueError(
            f"`k` must be from 1 to n - 1 = {n - 1}, the number of other rows. "
            f"Received: k={k}."
        )
    k = check_integer("k", k)
    check_not_forked()
    unit = _unit_rows(features)
    neighbours = np.empty((n, k + 1), np.int32)
    # GPUs may compute float32 with the digits of TF32, which are too few.
    exactly, unsure_rows = bool(tf.config.list_logical_devices("GPU")), 0
    for start in range(0, n, block):
        rows = np.arange(start, min(start + block, n))
        if exactly:
            neighbours[rows] = _nearest_by_float64(unit, rows, k + 1)
            continue
        nearest, unsure = _nearest_by_float32(unit, rows, k + 1)
        if unsure.size:
            nearest[unsure] = _nearest_by_float64(unit, rows[unsure], k + 1)
        neighbours[rows] = nearest
        # Where most rows are equal to many, float32 tells nothing.
        unsure_rows += len(unsure)
        exactly = 2 * unsure_rows > rows[-1] + 1
    return neighbours


def _of_size_one(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows scaled so that their largest entries are from 0.5 to 1.

    By powers of two, which round nothing: the squares of very large or small features
    are out of the range of floats, and cosines do not depend on the scale.
    """
    _, exponents = np.frexp(np.abs(rows).max(axis=-1, keepdims=True, initial=0))
    return np.ldexp(rows, -exponents)


class _Unit(NamedTuple):
    """Vectors of length 1, or of zeros, as the sum of two float32 tensors ``(n, d)``.

    The first has multiples of 2^-26: the inner products of its rows are exact in
    float64, in whatever order and block they are summed.
    """

    high: tf.Tensor
    low: tf.Tensor

    def some(self, rows: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Both parts of some rows in float64."""
        high, low = (tf.gather(part, rows) for part in self)
        return tf.cast(high, tf.float64), tf.cast(low, tf.float64)


def _unit_rows(rows: npt.NDArray[Any]) -> _Unit:
    """Rows scaled to length 1."""
    parts = np.empty((2, *rows.shape), np.float32)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS].astype(np.float64)
        lengths = np.sqrt((block**2).sum(axis=1, keepdims=True))
        block /= np.where(lengths > 0, lengths, 1.0)
        high = np.ldexp(np.rint(np.ldexp(block, 26)), -26).astype(np.float32)
        parts[:, start : start + _BLOCK_ROWS] = high, block - high
    return _Unit(*map(tf.constant, parts))


def _exact_cosines(
    product: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    left: tuple[tf.Tensor, tf.Tensor],
    right: tuple[tf.Tensor, tf.Tensor],
) -> tf.Tensor:
    """Products of unit vectors, rounded so that equal ones are equal."""
    (high, low), (other_high, other_low) = left, right
    small = product(high, other_low) + product(low, other_high)
    return tf.round((product(high, other_high) + small) / _TIE) * _TIE


def _nearest_by_float32(
    unit: _Unit, rows: npt.NDArray[np.intp], count: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """The nearest rows, most of which float32 can tell apart.

    Args:
        unit: `_Unit`, of n vectors.
        rows: int array ``(m,)``; rows that follow one another.
        count: int; how many to return.

    Returns:
        ``(nearest, unsure)``: int32 array ``(m, count)``; and the numbers of its rows
        that may be wrong.
    """
    n, dim = unit.high.shape
    # Tensors, because the function is traced again for each new Python number.
    top = _largest_cosines(
        unit.high,
        tf.constant(int(rows[0])),
        tf.constant(len(rows)),
        tf.constant(min(n, count + _SPARE)),
    )
    cosines, candidates = top[0].numpy().astype(np.float64), top[1].numpy()
    # More than the errors of two sums of that many products, without the low parts.
    error = (dim + dim**0.5 + 2) * 2.0**-23
    least = cosines[:, -1] + error
    close = cosines[:, :-1] - cosines[:, 1:] <= error
    ambiguous = np.pad(close, ((0, 0), (0, 1))) | np.pad(close, ((0, 0), (1, 0)))
    # Those that are surely behind the ones to return may be in any order.
    ambiguous[:, count:] &= np.logical_and.accumulate(close[:, count - 1 :], axis=1)
    first, place = np.nonzero(ambiguous)
    size = max(1, _BLOCK_NUMBERS // max(dim, 1))
    for start in range(0, len(first), size):
        some = first[start : start + size], place[start : start + size]
        cosines[some] = _exact_cosines(
            lambda a, b: tf.reduce_sum(a * b, axis=1),
            unit.some(rows[some[0]]),
            unit.some(candidates[some]),
        )
    best = np.lexsort((candidates, -cosines), axis=1)[:, :count]
    nearest = np.take_along_axis(candidates, best, axis=1)
    if candidates.shape[1] == n:
        return nearest, np.empty(0, np.intp)
    last = np.take_along_axis(cosines, best[:, -1:], axis=1)[:, 0]
    return nearest, np.flatnonzero(last <= least)


@tf.function(reduce_retracing=True)
def _largest_cosines(
    unit: tf.Tensor, start: tf.Tensor, size: tf.Tensor, count: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The largest cosines of `size` rows and their indices: ``(size, count)``."""
    cosines = tf.matmul(unit[start : start + size], unit, transpose_b=True)
    return tf.math.top_k(_self_first(cosines, start + tf.range(size)), count)


def _nearest_by_float64(
    unit: _Unit, rows: npt.NDArray[np.intp], count: int
) -> npt.NDArray[np.int32]:
    """The nearest rows by the exact cosines of all: int32 ``(len(rows), count)``."""
    n, dim = unit.high.shape
    own = unit.some(rows)
    size = max(1, _BLOCK_NUMBERS // max(dim, 1))
    cosines = [
        _exact_cosines(
            lambda a, b: tf.matmul(a, b, transpose_b=True),
            own,
            unit.some(np.arange(start, min(start + size, n))),
        )
        for start in range(0, n, size)
    ]
    every = _self_first(tf.concat(cosines, axis=1), tf.cast(rows, tf.int32))
    nearest: npt.NDArray[np.int32] = tf.math.top_k(every, count).indices.numpy()
    return nearest


def _self_first(cosines: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Cosines with infinity in a column of each row: the row is its first neighbour."""
    places = tf.stack([tf.range(tf.shape(columns)[0]), columns], axis=1)
    infinity = tf.fill(tf.shape(columns), tf.constant(np.inf, cosines.dtype))
    return tf.tensor_scatter_nd_update(cosines, places, infinity)


def expanded_neighbours(
    features: npt.ArrayLike | tf.Tensor,
    neighbours: int = 15,
    lists: int = 6,
    block: int = 1024,
) -> scipy.sparse.csr_array:
    """Which images count as similar when there are no labels.

    An image is similar to its nearest neighbours, and to those of the images whose
    neighbour lists overlap most with its own.

    Formula:
        L_i = {i and its K1 nearest neighbours},  score(i, j) = |L_i ∩ L_j|
        J_i = {the K2 rows j with the largest score(i, j)}, which include i
        S_ij = +1 if j in union_{t in J_i} L_t or i in union_{t in J_j} L_t, else -1

    Args:
        features: float array ``(n, d)``; feature vectors, compared by cosine.
        neighbours: int; K1, less than n.
        lists: int; K2, at least 1.
        block: int; rows processed at a time. Memory is O(block n).

    Returns:
        `scipy.sparse.csr_array` of bool ``(n, n)``, symmetric, with True on the
        diagonal: True where S_ij = +1.

    Raises:
        TypeError: if the features are not numbers, or an option is not an integer.
        ValueError: if `neighbours` or `lists` is out of range, or a feature is not
            finite.

    Example:
        >>> s = expanded_neighbours(np.array([[1, 0], [1, 0.1], [0, 1.0]]), 1, 1)
        >>> s.toarray().astype(int)
        array([[1, 1, 0],
               [1, 1, 1],
               [0, 1, 1]])

    Reference:
        DDH (J. Song et al., Deep Discrete Hashing with Self-supervised Pairwise
        Labels, ECML PKDD 2017), algorithm 1.

    Differences:
        The score is the size of the intersection, as in the published code; the
        text has the inverse distance between index lists, which has no meaning. Of
        rows with equal scores, row i itself comes first, then the lower index.
    """
    lists = check_integer("lists", lists)
    neighbours = check_integer("neighbours", neighbours)
    block = check_integer("block", block)
    neighbour_lists = nearest_neighbours(features, neighbours, block)
    n, length = neighbour_lists.shape
    # Row i of `membership` has ones in the columns L_i.
    offsets = np.arange(0, n * length + 1, length)
    membership = scipy.sparse.csr_array(
        (np.ones(n * length, np.int32), neighbour_lists.ravel(), offsets), shape=(n, n)
    )
    transposed = membership.T.tocsr()
    counts, columns = [], []
    for start in range(0, n, block):
        scores = membership[start : start + block] @ transposed  # nonzero |L_i ∩ L_j|
        for row in range(scores.shape[0]):
            entries = slice(scores.indptr[row], scores.indptr[row + 1])
            candidates, score = scores.indices[entries], scores.data[entries]
            # Scores are integers: doubled, they leave room to prefer row i itself.
            is_self = candidates == start + row
            best = np.lexsort((candidates, -(2 * score + is_self)))[:lists]
            union = np.unique(neighbour_lists[candidates[best]])
            counts.append(len(union))
            columns.append(union)
    similar = scipy.sparse.csr_array(
        (
            np.ones(sum(counts), bool),
            np.concatenate(columns),
            np.concatenate([[0], np.cumsum(counts)]),
        ),
        shape=(n, n),
    )
    return similar.maximum(similar.T).tocsr()


def neighbourhood_agreement(
    first: scipy.sparse.csr_array | npt.ArrayLike,
    second: scipy.sparse.csr_array | npt.ArrayLike,
) -> float:
    """How far two networks agree on which images are similar, beyond chance.

    With neither labels nor further images, this tells neighbourhoods that the images
    have from those that one network's features happen to give: search the neighbours
    of the same images in the features of two networks. It compares kinds of features
    better than numbers of neighbours: larger neighbourhoods agree more.

    Formula:
        kappa = (p - e) / (1 - e),  e = a b + (1 - a) (1 - b)

    p is the share of pairs on which the two agree; a and b are the shares of pairs that
    are similar by the first and by the second. Two matrices drawn at random agree on a
    share of about e.

    Args:
        first, second: sparse or dense arrays of bool ``(n, n)``, as
            `expanded_neighbours` gives.

    Returns:
        float, at most 1, for equal matrices; about 0 for unrelated ones.

    Raises:
        ValueError: if the shapes differ, or there are no rows.

    Example:
        >>> first = scipy.sparse.csr_array(np.eye(4, dtype=bool))
        >>> neighbourhood_agreement(first, first)
        1.0

    Reference:
        J. Cohen, A Coefficient of Agreement for Nominal Scales, Educational and
        Psychological Measurement 1960.
    """
    first, second = (
        scipy.sparse.csr_array(s if scipy.sparse.issparse(s) else floats(s, name)) != 0
        for s, name in ((first, "first"), (second, "second"))
    )
    if first.shape != second.shape or not first.shape[0]:
        raise ValueError(
            "`first` and `second` must have the same shape, and rows. Received: "
            f"{first.shape} and {second.shape}."
        )
    pairs = first.shape[0] * first.shape[1]
    a, b = first.count_nonzero() / pairs, second.count_nonzero() / pairs
    both = first.multiply(second).count_nonzero() / pairs
    expected = a * b + (1 - a) * (1 - b)
    if expected == 1.0:  # all pairs are alike by both
        return 1.0
    return float((1 - a - b + 2 * both - expected) / (1 - expected))


def squared_distances(x: tf.Tensor) -> tf.Tensor:
    """Squared Euclidean distances between all pairs of rows.

    Formula:
        ||x_i - x_j||^2 = ||x_i||^2 + ||x_j||^2 - 2 x_i . x_j

    Args:
        x: float tensor ``(n, d)``; points.

    Returns:
        Float tensor ``(n, n)``, at least 0.

    Example:
        >>> squared_distances(tf.constant([[0.0, 0.0], [3.0, 4.0]])).numpy()
        array([[ 0., 25.],
               [25.,  0.]], dtype=float32)
    """
    (x,) = float_tensors(x=x)
    # A shift changes no difference, and squares of what is far from 0 lose its digits.
    x -= tf.stop_gradient(tf.reduce_mean(x, axis=0))
    squares = tf.reduce_sum(x**2, axis=1)
    inner = tf.matmul(x, x, transpose_b=True)
    # Rounding errors can make a difference of 0 negative.
    return tf.nn.relu(squares[:, None] + squares[None, :] - 2.0 * inner)


def gaussian_affinity(
    x: tf.Tensor, perplexity: float | tf.Tensor = 30.0, steps: int = 50
) -> tf.Tensor:
    """Joint neighbour probabilities under Gaussians, each point with its own width.

    Formula:
        p_j|i = exp(-||x_i - x_j||^2 / 2 s_i^2) / Z_i,  of sum 1 over all j != i
        p_ij = (p_j|i + p_i|j) / 2n,  p_ii = 0

    where s_i solves exp(entropy of p_.|i) = perplexity.

    Args:
        x: float tensor ``(n, d)``; points.
        perplexity: float; roughly the number of neighbours that count. It is clipped
            to the range from 1 to (n - 1) / 3.
        steps: int; bisection steps for s_i.

    Returns:
        Float tensor ``(n, n)``, symmetric, with sum 1.

    Example:
        >>> x = tf.constant([[0.0], [1.0], [9.0]])
        >>> gaussian_affinity(x).numpy().round(2)  # one neighbour for each point
        array([[0.  , 0.33, 0.  ],
               [0.33, 0.  , 0.17],
               [0.  , 0.17, 0.  ]], dtype=float32)

    Reference:
        L. van der Maaten, G. Hinton, Visualizing Data using t-SNE, JMLR 2008, eq. 1.
    """
    (x,) = float_tensors(x=x)
    if not tf.is_tensor(steps):
        steps = check_integer("steps", steps)
    return _gaussian_affinity(x, tf.cast(perplexity, x.dtype), tf.cast(steps, tf.int32))


@tf.function(reduce_retracing=True)
def _gaussian_affinity(
    x: tf.Tensor, perplexity: tf.Tensor, steps: tf.Tensor
) -> tf.Tensor:
    """`gaussian_affinity` of tensors of one dtype."""
    n = tf.cast(tf.shape(x)[0], x.dtype)
    off_diagonal = 1.0 - tf.eye(tf.shape(x)[0], dtype=x.dtype)
    # The widths s_i follow the scale, so p does not depend on it: but the limits below
    # would, and squares could overflow.
    x -= tf.reduce_mean(x, axis=0)
    distance = squared_distances(tf.math.divide_no_nan(x, tf.reduce_max(tf.abs(x))))
    nearest = tf.reduce_min(
        distance + 1e30 * (1.0 - off_diagonal), axis=1, keepdims=True
    )
    # Subtracting the minimum of a row leaves p as it is and keeps exp from underflow.
    distance = (distance - nearest) * off_diagonal
    perplexity = tf.minimum(perplexity, (n - 1.0) / 3.0)
    target_entropy = tf.math.log(tf.maximum(perplexity, 1.0))
    scale = tf.reduce_sum(distance, axis=1, keepdims=True) / tf.maximum(n - 1.0, 1.0)
    precision = 1.0 / tf.maximum(scale, 1e-12)  # 1 / 2 s_i^2
    low, high = tf.zeros_like(precision), np.inf * tf.ones_like(precision)
    p = off_diagonal
    for _ in tf.range(steps):
        p = tf.exp(-distance * precision) * off_diagonal
        total = tf.reduce_sum(p, axis=1, keepdims=True)
        p = tf.math.divide_no_nan(p, total)
        mean_distance = tf.reduce_sum(p * distance, axis=1, keepdims=True)
        entropy = tf.math.log(tf.maximum(total, 1e-30)) + precision * mean_distance
        too_flat = entropy > target_entropy
        low = tf.where(too_flat, precision, low)
        high = tf.where(too_flat, high, precision)
        middle = tf.where(tf.math.is_inf(high), 2.0 * precision, (low + high) / 2.0)
        # Coincident points stay too flat at any width: without a limit, the precision
        # would double in every step.
        precision = tf.minimum(middle, 1e12)
    return (p + tf.transpose(p)) / (2.0 * n)


def student_t_affinity(u: tf.Tensor) -> tf.Tensor:
    """Joint neighbour probabilities under the heavy-tailed Student's t-distribution.

    Formula:
        q_ij = (1 + ||u_i - u_j||^2)^-1 / sum_k!=l (1 + ||u_k - u_l||^2)^-1,  q_ii = 0

    Args:
        u: float tensor ``(n, d)``; points.

    Returns:
        Float tensor ``(n, n)``, symmetric, with sum 1.

    Example:
        >>> student_t_affinity(tf.constant([[0.0], [1.0], [3.0]])).numpy()
        array([[0.    , 0.3125, 0.0625],
               [0.3125, 0.    , 0.125 ],
               [0.0625, 0.125 , 0.    ]], dtype=float32)

    Reference:
        L. van der Maaten, G. Hinton, Visualizing Data using t-SNE, JMLR 2008, eq. 4;
        DSRE, eq. 7.
    """
    (u,) = float_tensors(u=u)
    off_diagonal = 1.0 - tf.eye(tf.shape(u)[0], dtype=u.dtype)
    kernel = off_diagonal / (1.0 + squared_distances(u))
    return tf.math.divide_no_nan(kernel, tf.reduce_sum(kernel))
