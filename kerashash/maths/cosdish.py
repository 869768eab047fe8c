"""Column sampling based discrete supervised hashing: codes of sampled similarities."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash.maths.projections import signs

__all__ = ["other_codes", "pair_error", "sampled_codes"]
__dir__ = __all__.copy  # what completion offers

Floats = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.int8]


def pair_error(similarity: Floats, codes: Codes, sampled: Codes) -> float:
    """How far inner products of codes are from the wanted ones.

    Formula:
        ||q S - B B_s^T||_F^2  with q bits

    Args:
        similarity: float array ``(n, m)``; S, the sampled columns.
        codes: int8 array ``(n, bits)`` over {-1, +1}; B.
        sampled: int8 array ``(m, bits)``; B_s, the codes of these columns.

    Returns:
        float.

    Example:
        >>> b = np.array([[1, 1], [1, -1]], np.int8)
        >>> pair_error(np.eye(2), b, b)
        0.0
    """
    inner = codes.astype(np.float32) @ sampled.T.astype(np.float32)
    error = codes.shape[1] * similarity - inner
    return float(np.square(error).sum(dtype=np.float64))


def other_codes(similarity: Floats, codes: Codes, sampled: Codes) -> Codes:
    """The codes of rows that are no sampled columns, with those of the columns fixed.

    Solves:
        argmin sum_ij |q S_ij - b_i . c_j|  over b_i in {-1, +1}^q

    exactly, if S is over {-1, +1}: |q S_ij - b_i . c_j| = q - S_ij b_i . c_j. A bit on
    which the sum does not depend stays as it is.

    Args:
        similarity: float array ``(n, m)``; S, rows of the sampled columns.
        codes: int8 array ``(n, bits)`` over {-1, +1}; b before.
        sampled: int8 array ``(m, bits)`` over {-1, +1}; c.

    Returns:
        int8 array ``(n, bits)`` over {-1, +1}.

    Example:
        >>> c = np.array([[1, 1], [1, -1]], np.int8)
        >>> other_codes(np.array([[1.0, -1.0]]), np.array([[-1, -1]], np.int8), c)
        array([[-1,  1]], dtype=int8)

    Reference:
        W.-C. Kang, W.-J. Li, Z.-H. Zhou, Column Sampling Based Discrete Supervised
        Hashing, AAAI 2016.
    """
    sums = similarity @ sampled.astype(similarity.dtype)
    return np.where(sums == 0, codes, signs(sums))


def sampled_codes(
    between: Floats, within: Floats, codes: Codes, sampled: Codes
) -> Codes:
    """The codes of the sampled columns, with those of the other rows fixed.

    Solves:
        argmin ||q S_o - B C^T||^2 + ||q S_s - C C^T||^2  over C in {-1, +1}

    bit by bit. For bit k, with the others fixed, that is a binary quadratic problem,
    min -2 c^T R c - 2 c^T v, of which coordinate descent finds a local minimum: from
    the present bit, and from sgn(v), of which the better is taken. The objective never
    rises.

    Args:
        between: float array ``(n, m)``; S_o, rows of the other rows.
        within: float array ``(m, m)``, symmetric; S_s, rows of the sampled columns.
        codes: int8 array ``(n, bits)`` over {-1, +1}; B.
        sampled: int8 array ``(m, bits)`` over {-1, +1}; C before.

    Returns:
        int8 array ``(m, bits)`` over {-1, +1}: C.

    Example:
        >>> s, b = np.array([[1.0, -1.0]]), np.array([[1, 1]], np.int8)
        >>> c = np.array([[1, 1], [1, 1]], np.int8)
        >>> sampled_codes(s, np.array([[1.0, -1.0], [-1.0, 1.0]]), b, c)
        array([[ 1,  1],
               [-1, -1]], dtype=int8)

    Reference:
        W.-C. Kang, W.-J. Li, Z.-H. Zhou, Column Sampling Based Discrete Supervised
        Hashing, AAAI 2016, which solves the binary problem by an algorithm that is
        proved to reach half of the optimum.
    """
    bits = codes.shape[1]
    b, c = codes.astype(np.float32), sampled.astype(np.float32)
    # B^T (q S_o), of which each bit takes what the other bits leave.
    wanted = bits * (b.T @ between.astype(np.float32))  # (bits, m)
    gram = b.T @ b
    for k in range(bits):
        others = np.delete(np.arange(bits), k)
        v = wanted[k] - gram[k, others] @ c[:, others].T  # (m,)
        r = bits * within - c[:, others] @ c[:, others].T  # (m, m)
        np.fill_diagonal(r, 0.0)
        starts = (c[:, k], signs(v).astype(np.float32))
        solved = [_descend(r, v, start) for start in starts]
        c[:, k] = min(solved, key=lambda z: -(z @ r @ z) - z @ v)
    return c.astype(np.int8)


def _descend(r: Floats, v: Floats, start: Floats) -> Floats:
    """A local minimum of -z^T R z - z^T v, flipping one entry of z at a time."""
    z = start.copy()
    slopes = 2.0 * (r @ z) + v  # z_j = sgn(slope_j) is best, as R_jj = 0
    while True:
        # The flip that gains most.
        gains = -z * slopes
        j = int(gains.argmax())
        if gains[j] <= 1e-6 * len(z):
            return z
        z[j] = -z[j]
        slopes += 4.0 * z[j] * r[:, j]
