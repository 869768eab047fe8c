"""Codes whose inner products are the similarities of a labelled data set."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer
from kerashash.maths import similarity

__all__ = ["similarity_codes"]
__dir__ = __all__.copy  # what completion offers


def similarity_codes(
    labels: npt.ArrayLike, bits: int, sweeps: int = 15, seed: int = 0
) -> npt.NDArray[np.int8]:
    """Factorise the similarity matrix of a data set into hash codes.

    Solves:
        min  ||S - H H^T / K||_F^2  over H in [-1, 1]^(n x K)

    with s_ij = 1 if images i and j share a label and -1 if not, and K bits, by
    coordinate descent over the columns of H. The hash codes are the signs of H.

    In a column h, each coordinate has a Newton step that ends where h leaves [-1, 1].
    All coordinates move along their steps at once, by the common share in [0, 1] that
    lowers the objective most: it is a polynomial of degree 4 in that share. So no step
    raises the objective. S is never built: with p distinct label rows, a sweep takes
    O(K (n K + p^2)) time.

    Args:
        labels: array ``(n, classes)``; values in {0, 1}.
        bits: int; K.
        sweeps: int; how many times all columns are solved for.
        seed: int; of the first H, which is uniform in [-1, 1].

    Returns:
        int8 array ``(n, bits)`` over {-1, +1}.

    Raises:
        TypeError: if an option is no integer.
        ValueError: if `labels` has another shape or holds other values, or an option is
            out of range.

    Example:
        >>> similarity_codes([[1, 0], [1, 0], [0, 1]], bits=1).ravel().tolist()
        [1, 1, -1]

    Reference:
        R. Xia, Y. Pan, H. Lai, C. Liu, S. Yan, Supervised Hashing for Image Retrieval
        via Image Representation Learning, AAAI 2014, algorithm 1.

    Differences:
        The paper moves one coordinate at a time, by its whole Newton step.
    """
    bits = check_integer("bits", bits)
    sweeps = check_integer("sweeps", sweeps, least=0)
    random = np.random.default_rng(check_integer("seed", seed, least=0))
    similar = _SignedSimilarity(labels)
    n = len(similar.pattern_of)
    h = random.uniform(-1.0, 1.0, (n, bits))
    for _ in range(sweeps):
        for column in range(bits):
            h[:, column] = _solved_column(h, column, similar)
    return np.where(h >= 0, 1, -1).astype(np.int8)


class _SignedSimilarity:
    """S of +-1, by the distinct label rows of its images."""

    def __init__(self, labels: npt.ArrayLike) -> None:
        factorised = similarity.LabelSimilarity(labels, balanced=False)
        share = similarity.shares_label(factorised.patterns, factorised.patterns)
        self.signs = 2.0 * share.numpy().astype(np.float32) - 1.0  # (p, p)
        self.pattern_of = factorised.pattern_of.numpy()
        self.diagonal = np.diag(self.signs)[self.pattern_of].astype(float)  # s_ii

    def product(self, vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """S times a vector ``(n,)``."""
        sums = np.bincount(self.pattern_of, vector, len(self.signs))
        return (self.signs @ sums)[self.pattern_of]


def _solved_column(
    h: npt.NDArray[np.float64], column: int, similar: _SignedSimilarity
) -> npt.NDArray[np.float64]:
    """A better column of H, given the other columns."""
    bits = h.shape[1]
    x = h[:, column].copy()

    def residual(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """R times a vector, for the rest R = K S - H' H'^T that x x^T is to be.

        H' is H without the column x.
        """
        product = h @ (vector @ h) - x * (x @ vector)
        return bits * similar.product(vector) - product

    rest = residual(x)
    square = x @ x
    # A quarter of the first and second derivatives of ||x x^T - R||^2.
    slope = x * square - rest
    diagonal = bits * similar.diagonal - np.einsum("ij,ij->i", h, h) + x**2
    curvature = square + 2.0 * x**2 - diagonal
    # Where the objective is not convex, the step is one down the slope, to the bounds.
    step = -slope / np.where(curvature > 1e-9 * bits, curvature, 1e-9)
    step = np.clip(x + step, -1.0, 1.0) - x
    moved = residual(step)
    # ||(x + t d)(x + t d)^T - R||^2 = (a + 2 b t + e t^2)^2 - 2 (A + 2 B t + E t^2) + c
    a, b, e = square, x @ step, step @ step
    square_norm = np.polynomial.Polynomial([a, 2 * b, e])
    fit = np.polynomial.Polynomial([x @ rest, 2 * (step @ rest), step @ moved])
    objective = square_norm**2 - 2 * fit
    roots = objective.deriv().roots()
    inside = [float(root.real) for root in roots if abs(root.imag) < 1e-6]
    shares = [0.0, 1.0, *(share for share in inside if 0.0 < share < 1.0)]
    best: npt.NDArray[np.float64] = x + min(shares, key=objective) * step
    return best
