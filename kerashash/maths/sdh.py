"""Supervised discrete hashing: codes from which a classifier tells the labels."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer, check_least
from kerashash.maths import discrete
from kerashash.maths.precision import Floats, floats, signed
from kerashash.maths.projections import ridge_regression

__all__ = ["classifier_step", "code_step", "sdh_objective"]
__dir__ = __all__.copy  # what completion offers

Codes = npt.NDArray[np.int8]


def sdh_objective(
    labels: npt.ArrayLike,
    codes: npt.ArrayLike,
    classifier: npt.ArrayLike,
    continuous: npt.ArrayLike,
    penalty: float,
    fit_weight: float,
) -> float:
    """What SDH minimises.

    Formula:
        ||Y - B W||^2 + lambda ||W||^2 + nu ||B - F||^2

    Args:
        labels: float array ``(n, classes)``; Y.
        codes: int8 array ``(n, bits)`` over {-1, +1}; B.
        classifier: float array ``(bits, classes)``; W.
        continuous: float array ``(n, bits)``; F, the hash function's values.
        penalty: float; lambda.
        fit_weight: float; nu.

    Returns:
        float.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if a shape is wrong, a value not finite, a code not over {-1, +1},
            or a weight below 0.

    Example:
        >>> b, w = np.ones((1, 1), np.int8), np.ones((1, 1))
        >>> sdh_objective(np.zeros((1, 1)), b, w, np.zeros((1, 1)), 2.0, 3.0)
        6.0
    """
    labels, codes, classifier, continuous = _checked(
        labels, codes, classifier, continuous
    )
    check_least(0, penalty=penalty, fit_weight=fit_weight)
    error = np.square(labels - codes.astype(classifier.dtype) @ classifier)
    fit = np.square(codes - continuous)
    total = error.sum(dtype=np.float64) + penalty * np.square(classifier).sum()
    return float(total + fit_weight * fit.sum(dtype=np.float64))


def classifier_step(
    codes: npt.ArrayLike, labels: npt.ArrayLike, penalty: float
) -> Floats:
    """The best classifier of codes.

    Solves:
        argmin ||Y - B W||^2 + lambda ||W||^2

    Args:
        codes: int8 array ``(n, bits)`` over {-1, +1}; B.
        labels: float array ``(n, classes)``; Y.
        penalty: float, above 0; lambda.

    Returns:
        Float array ``(bits, classes)``: W.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if a shape is wrong, a code not over {-1, +1}, a label not finite,
            or `penalty` not above 0.

    Example:
        >>> b = np.array([[1, 1], [1, -1]], np.int8)
        >>> classifier_step(b, np.eye(2), 2.0)
        array([[ 0.25,  0.25],
               [ 0.25, -0.25]])
    """
    labels = floats(labels, "labels", (None, None), finite=True)
    codes = signed(codes, "codes", (len(labels), None)).astype(labels.dtype)
    return ridge_regression(codes, labels, penalty)


def code_step(
    codes: npt.ArrayLike,
    labels: npt.ArrayLike,
    classifier: npt.ArrayLike,
    continuous: npt.ArrayLike,
    fit_weight: float,
    sweeps: int = 10,
) -> Codes:
    """Better codes for a classifier and a hash function, bit by bit.

    Solves:
        argmin ||Y - B W||^2 + nu ||B - F||^2  subject to  B in {-1, +1}

    up to a local minimum, which no flip of a single bit improves, by
    `kerashash.maths.discrete.dcc`. The objective never rises.

    Args:
        codes: int8 array ``(n, bits)`` over {-1, +1}; B before.
        labels: float array ``(n, classes)``; Y.
        classifier: float array ``(bits, classes)``; W.
        continuous: float array ``(n, bits)``; F.
        fit_weight: float; nu.
        sweeps: int; passes over the bits.

    Returns:
        int8 array ``(n, bits)`` over {-1, +1}.

    Raises:
        TypeError, ValueError: as `sdh_objective`; and if `sweeps` is no integer, or
            below 0.

    Example:
        >>> b, w = np.ones((1, 2), np.int8), np.eye(2)
        >>> code_step(b, np.array([[1.0, -1.0]]), w, np.zeros((1, 2)), 1e-5)
        array([[ 1, -1]], dtype=int8)

    Reference:
        F. Shen, C. Shen, W. Liu, H. T. Shen, Supervised Discrete Hashing, CVPR 2015,
        section 2.2.
    """
    labels, codes, classifier, continuous = _checked(
        labels, codes, classifier, continuous
    )
    check_least(0, fit_weight=fit_weight)
    sweeps = check_integer("sweeps", sweeps, least=0)
    gram = classifier @ classifier.T
    target = labels @ classifier.T + fit_weight * continuous
    solved: Codes = discrete.dcc(codes, gram, target, sweeps).numpy()
    return solved


def _checked(
    labels: npt.ArrayLike,
    codes: npt.ArrayLike,
    classifier: npt.ArrayLike,
    continuous: npt.ArrayLike,
) -> tuple[Floats, Codes, Floats, Floats]:
    """The arrays of `sdh_objective` and `code_step`."""
    labels = floats(labels, "labels", (None, None), finite=True)
    codes = signed(codes, "codes", (len(labels), None))
    bits = codes.shape[1]
    return (
        labels,
        codes,
        floats(classifier, "classifier", (bits, labels.shape[1]), finite=True),
        floats(continuous, "continuous", codes.shape, finite=True),
    )
