"""Supervised discrete hashing: codes from which a classifier tells the labels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash.maths import discrete
from kerashash.maths.projections import ridge_regression

__all__ = ["classifier_step", "code_step", "sdh_objective"]
__dir__ = __all__.copy  # what completion offers

Floats = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.int8]


def sdh_objective(
    labels: Floats,
    codes: Codes,
    classifier: Floats,
    continuous: Floats,
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

    Example:
        >>> b, w = np.ones((1, 1), np.int8), np.ones((1, 1))
        >>> sdh_objective(np.zeros((1, 1)), b, w, np.zeros((1, 1)), 2.0, 3.0)
        6.0
    """
    error = np.square(labels - codes.astype(classifier.dtype) @ classifier)
    fit = np.square(codes - continuous)
    total = error.sum(dtype=np.float64) + penalty * np.square(classifier).sum()
    return float(total + fit_weight * fit.sum(dtype=np.float64))


def classifier_step(codes: Codes, labels: Floats, penalty: float) -> Floats:
    """The best classifier of codes.

    Solves:
        argmin ||Y - B W||^2 + lambda ||W||^2

    Args:
        codes: int8 array ``(n, bits)`` over {-1, +1}; B.
        labels: float array ``(n, classes)``; Y.
        penalty: float, above 0; lambda.

    Returns:
        Float array ``(bits, classes)``: W.

    Example:
        >>> b = np.array([[1, 1], [1, -1]], np.int8)
        >>> classifier_step(b, np.eye(2), 2.0)
        array([[ 0.25,  0.25],
               [ 0.25, -0.25]])
    """
    return ridge_regression(codes.astype(labels.dtype), labels, penalty)


def code_step(
    codes: Codes,
    labels: Floats,
    classifier: Floats,
    continuous: Floats,
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

    Example:
        >>> b, w = np.ones((1, 2), np.int8), np.eye(2)
        >>> code_step(b, np.array([[1.0, -1.0]]), w, np.zeros((1, 2)), 1e-5)
        array([[ 1, -1]], dtype=int8)

    Reference:
        F. Shen, C. Shen, W. Liu, H. T. Shen, Supervised Discrete Hashing, CVPR 2015,
        section 2.2.
    """
    gram = classifier @ classifier.T
    target = labels @ classifier.T + fit_weight * continuous
    solved: Codes = discrete.dcc(codes, gram, target, sweeps).numpy()
    return solved
