"""Column sampling based discrete supervised hashing: codes of sampled similarities."""

import numpy as np
import numpy.typing as npt

from kerashash.maths.precision import Floats, floats, signed
from kerashash.maths.projections import signs

__all__ = ["other_codes", "pair_error", "sampled_codes"]
__dir__ = __all__.copy  # what completion offers

Codes = npt.NDArray[np.int8]


def pair_error(
    similarity: npt.ArrayLike, codes: npt.ArrayLike, sampled: npt.ArrayLike
) -> float:
    """How far inner products of codes are from the wanted ones.

    Formula:
        ||q S - B B_s^T||_F^2  with q bits

    Args:
        similarity: float array ``(n, m)``; S, the sampled columns.
        codes: int8 array ``(n, bits)`` over {-1, +1}; B.
        sampled: int8 array ``(m, bits)``; B_s, the codes of these columns.

    Returns:
        float.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if a shape is wrong, a similarity not finite, or a code not over
            {-1, +1}.

    Example:
        >>> b = np.array([[1, 1], [1, -1]], np.int8)
        >>> pair_error(np.eye(2), b, b)
        0.0
    """
    similarity, b, c = _checked(similarity, codes, sampled)
    error = b.shape[1] * similarity - b.astype(np.float32) @ c.T.astype(np.float32)
    return float(np.square(error).sum(dtype=np.float64))


def other_codes(
    similarity: npt.ArrayLike, codes: npt.ArrayLike, sampled: npt.ArrayLike
) -> Codes:
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

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if a shape is wrong, a similarity not finite, or a code not over
            {-1, +1}.

    Example:
        >>> c = np.array([[1, 1], [1, -1]], np.int8)
        >>> other_codes(np.array([[1.0, -1.0]]), np.array([[-1, -1]], np.int8), c)
        array([[-1,  1]], dtype=int8)

    Reference:
        W.-C. Kang, W.-J. Li, Z.-H. Zhou, Column Sampling Based Discrete Supervised
        Hashing, AAAI 2016.
    """
    similarity, b, c = _checked(similarity, codes, sampled)
    sums = similarity @ c.astype(similarity.dtype)
    return np.where(sums == 0, b, signs(sums))


def sampled_codes(
    between: npt.ArrayLike,
    within: npt.ArrayLike,
    codes: npt.ArrayLike,
    sampled: npt.ArrayLike,
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

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if a shape is wrong, a code not over {-1, +1}, a similarity not
            finite, or `within` not symmetric.

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
    between = floats(between, "between", (None, None), np.float32, finite=True)
    n, m = between.shape
    within = floats(within, "within", (m, m), finite=True)
    b = signed(codes, "codes", (n, None)).astype(np.float32)
    bits = b.shape[1]
    c = signed(sampled, "sampled", (m, bits)).astype(np.float32)
    if not np.allclose(within, within.T):
        raise ValueError(
            "`within` must be symmetric. Received differences of up to "
            f"{np.abs(within - within.T).max()} to the transposed array."
        )
    # What is equal only but for rounding errors could flip an entry for ever.
    within = (within + within.T) / 2.0
    # B^T (q S_o), of which each bit takes what the other bits leave.
    wanted = bits * (b.T @ between)  # (bits, m)
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


def _checked(
    similarity: npt.ArrayLike, codes: npt.ArrayLike, sampled: npt.ArrayLike
) -> tuple[Floats, Codes, Codes]:
    """The arrays of `pair_error` and `other_codes`."""
    similarity = floats(similarity, "similarity", (None, None), finite=True)
    codes = signed(codes, "codes", (len(similarity), None))
    sampled = signed(sampled, "sampled", (similarity.shape[1], codes.shape[1]))
    return similarity, codes, sampled


def _descend(r: Floats, v: Floats, start: Floats) -> Floats:
    """A local minimum of -z^T R z - z^T v, flipping one entry of z at a time."""
    z = start.copy()
    slopes = 2.0 * (r @ z) + v  # z_j = sgn(slope_j) is best, as R_jj = 0
    while True:
        # The flip that gains most.
        gains = -z * slopes
        j = int(gains.argmax())
        if not gains[j] > 1e-6 * len(z):  # NaN gains nothing
            return z
        z[j] = -z[j]
        slopes += 4.0 * z[j] * r[:, j]
