"""Solvers for the discrete and orthogonal sub-problems of learning to hash.

Pure functions of tensors: no model, no state.
"""

import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import check_integer
from kerashash.maths.precision import float_tensors, number_tensor

__all__ = [
    "code_objective",
    "dcc",
    "label_rotation",
    "procrustes_rotation",
    "ridge",
    "sign",
]
__dir__ = __all__.copy  # what completion offers


def sign(x: npt.ArrayLike | tf.Tensor) -> tf.Tensor:
    """The binary codes nearest to continuous ones.

    Solves:
        argmin ||B - X||_F^2  subject to  B in {-1, +1}, B of the shape of X

    with ``sign(0) = +1``. ``tf.sign`` does not: it maps 0 to 0, which is not a code.

    Args:
        x: float tensor of any shape; X.

    Returns:
        Tensor over {-1, +1} of the shape and dtype of `x`.

    Raises:
        TypeError: if `x` has no numbers with a sign, such as uint8.

    Example:
        >>> sign([-0.5, 0.0, 2.0]).numpy()
        array([-1.,  1.,  1.], dtype=float32)
    """
    x = number_tensor(x, "x")
    if x.dtype.is_unsigned or x.dtype.is_bool:
        raise TypeError(
            f"`x` must hold numbers with a sign. Received dtype: {x.dtype.name}."
        )
    return tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x))


def code_objective(
    codes: npt.ArrayLike | tf.Tensor,
    gram: npt.ArrayLike | tf.Tensor,
    target: npt.ArrayLike | tf.Tensor,
) -> tf.Tensor:
    """The quadratic objective that `dcc` minimises.

    Formula:
        tr(B G B^T) - 2 tr(B Q^T)

    Args:
        codes: tensor ``(n, bits)`` over {-1, +1}, of any dtype; B.
        gram: float tensor ``(bits, bits)``, symmetric; G.
        target: float tensor ``(n, bits)``; Q.

    Returns:
        Scalar float tensor.

    Example:
        >>> float(code_objective([[1, -1]], tf.eye(2), tf.constant([[0.5, -2.0]])))
        -3.0
    """
    target, gram, codes = float_tensors(target=target, gram=gram, codes=codes)
    return tf.reduce_sum(codes * (codes @ gram - 2.0 * target))


def dcc(
    codes: npt.ArrayLike | tf.Tensor,
    gram: npt.ArrayLike | tf.Tensor,
    target: npt.ArrayLike | tf.Tensor,
    sweeps: int | tf.Tensor = 3,
) -> tf.Tensor:
    """Discrete cyclic coordinate descent: one bit of all codes at a time.

    Solves:
        argmin tr(B G B^T) - 2 tr(B Q^T)  subject to  B in {-1, +1}^(n x bits)

    up to a local minimum, which no flip of a single bit improves, or as close to one
    as `sweeps` passes over the bits come. With the other bits fixed, bit k of every
    code has the exact minimiser sgn(Q_k - B G_k + B_k G_kk). Where the argument is 0,
    the bit keeps its value, so the objective never increases. The rows are
    independent: solving a subset of the rows gives those rows of the full solution.

    Args:
        codes: tensor ``(n, bits)`` over {-1, +1}, of any dtype; the initial B.
        gram: float tensor ``(bits, bits)``, symmetric positive semi-definite; G.
        target: float tensor ``(n, bits)``; Q.
        sweeps: int; passes over the bits, fewer if a pass changes no bit.

    Returns:
        int8 tensor ``(n, bits)`` over {-1, +1}.

    Raises:
        TypeError: if a tensor does not hold numbers, or `sweeps` is no integer.
        ValueError: if `sweeps` is below 0.

    Example:
        >>> dcc([[-1, 1]], [[1.0, 0.0], [0.0, 1.0]], [[0.3, -2.0]]).numpy()
        array([[ 1, -1]], dtype=int8)

    Reference:
        F. Shen et al., Supervised Discrete Hashing, CVPR 2015, section 2.2.
    """
    # Tensors rather than variables: the traced graph outlives the caller's variables.
    target, gram, codes = float_tensors(target=target, gram=gram, codes=codes)
    if not tf.is_tensor(sweeps):
        sweeps = check_integer("sweeps", sweeps, least=0)
    return _dcc(codes, gram, target, tf.cast(sweeps, tf.int32))


@tf.function(reduce_retracing=True)
def _dcc(
    codes: tf.Tensor, gram: tf.Tensor, target: tf.Tensor, sweeps: tf.Tensor
) -> tf.Tensor:
    """`dcc` of tensors of one dtype."""
    # b^2 = 1, so the diagonal adds only a constant.
    coupling = tf.linalg.set_diag(gram, tf.zeros_like(tf.linalg.diag_part(gram)))
    # Transposed, so that one bit of all codes is contiguous in memory.
    bits_first = tf.transpose(codes)  # (bits, n)
    target_bits = tf.transpose(target)  # (bits, n)

    changed = tf.constant(True)
    sweep = tf.constant(0)
    while changed and sweep < sweeps:
        previous = bits_first
        for k in tf.range(tf.shape(gram)[0]):
            interaction = tf.linalg.matvec(bits_first, coupling[k], transpose_a=True)
            argument = target_bits[k] - interaction  # (n,)
            bit = tf.where(argument == 0, bits_first[k], sign(argument))
            bits_first = tf.tensor_scatter_nd_update(bits_first, [[k]], [bit])
        changed = tf.reduce_any(previous != bits_first)
        sweep += 1
    return tf.cast(tf.transpose(bits_first), tf.int8)


def procrustes_rotation(
    codes: npt.ArrayLike | tf.Tensor, continuous: npt.ArrayLike | tf.Tensor
) -> tf.Tensor:
    """The rotation that brings continuous codes closest to binary ones.

    Solves:
        argmin ||B - H R||_F^2  subject to  R^T R = I

    exactly: R = U V^T, where H^T B = U diag(s) V^T is a singular value decomposition.

    Args:
        codes: tensor ``(n, bits)``; B.
        continuous: float tensor ``(n, bits)``; H.

    Returns:
        Float tensor ``(bits, bits)``, orthogonal: R.

    Raises:
        TypeError: if a tensor does not hold numbers.

    Example:
        >>> h = tf.constant([[0.0, 1.0], [-1.0, 0.0]])
        >>> r = procrustes_rotation([[1.0, 0.0], [0.0, 1.0]], h)
        >>> bool(tf.reduce_all(h @ r == [[1.0, 0.0], [0.0, 1.0]]))
        True

    Reference:
        P. H. Schönemann, A generalized solution of the orthogonal Procrustes
        problem, Psychometrika 31, 1966; Y. Gong et al., Iterative Quantization,
        TPAMI 2013, section 3.2.
    """
    continuous, codes = float_tensors(continuous=continuous, codes=codes)
    product = tf.matmul(continuous, codes, transpose_a=True)
    # In float32, the decomposition is far off where many bits are alike.
    _, u, v = tf.linalg.svd(tf.cast(product, tf.float64))
    return tf.cast(tf.matmul(u, v, transpose_b=True), continuous.dtype)


def ridge(
    x: npt.ArrayLike | tf.Tensor, y: npt.ArrayLike | tf.Tensor, penalty: float
) -> tf.Tensor:
    """Ridge regression: linear, with a penalty on large weights.

    Solves:
        argmin ||Y - X W||_F^2 + penalty ||W||_F^2

    Args:
        x: float tensor ``(n, d)``; X.
        y: float tensor ``(n, c)``; Y.
        penalty: float; at least 0. With 0, `x` must have full column rank.

    Returns:
        Float tensor ``(d, c)``: W.

    Raises:
        TypeError: if a tensor does not hold numbers.

    Example:
        >>> ridge(tf.eye(2), tf.constant([[2.0], [4.0]]), penalty=1.0).numpy()
        array([[1.],
               [2.]], dtype=float32)
    """
    x, y = float_tensors(x=x, y=y)
    gram = tf.matmul(x, x, transpose_a=True) + penalty * tf.eye(
        x.shape[1], dtype=x.dtype
    )
    return tf.linalg.solve(gram, tf.matmul(x, y, transpose_a=True))


def label_rotation(
    continuous: npt.ArrayLike | tf.Tensor,
    labels: npt.ArrayLike | tf.Tensor,
    label_weight: float = 10.0,
    iterations: int = 10,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The rotation after which the signs fit continuous codes and labels alike.

    Solves:
        argmin ||B - H R||_F^2 + alpha ||B - D P||_F^2  over R, P and B
        subject to  B in {-1, +1}^(n x bits),  R^T R = I

    by alternating minimisation, each step exact: P = D^+ B, then R by
    `procrustes_rotation`, then B = sgn(H R + alpha D P). The objective never increases.

    Args:
        continuous: float tensor ``(n, bits)``; H.
        labels: float tensor ``(n, num_classes)``; D.
        label_weight: float; alpha. It affects the rotation from the second iteration
            on.
        iterations: int; at least 1. It stops earlier once an iteration changes no bit.

    Returns:
        ``(rotation, projection, codes)``: float tensors R, ``(bits, bits)``; P,
        ``(num_classes, bits)``; and B, ``(n, bits)`` over {-1, +1}.

    Raises:
        TypeError: if a tensor does not hold numbers, or `iterations` is no integer.
        ValueError: if `iterations` is below 1.

    Example:
        >>> h = tf.constant([[1.0, 0.1], [0.1, 1.0]])
        >>> rotation, _, codes = label_rotation(h, tf.eye(2))
        >>> bool(tf.reduce_all(codes == sign(h @ rotation)))
        True

    Reference:
        DDH-LDL (Zhang et al., IEEE SPL 2022), eq. 8 to 11, where D^-1 is the
        pseudo-inverse D^+. One iteration is one step of Iterative Quantization.
    """
    # Tensors rather than variables, as in `dcc`.
    continuous, labels = float_tensors(continuous=continuous, labels=labels)
    label_weight = tf.cast(label_weight, continuous.dtype)
    iterations = check_integer("iterations", iterations)
    return _label_rotation(continuous, labels, label_weight, tf.constant(iterations))


@tf.function(reduce_retracing=True)
def _label_rotation(
    continuous: tf.Tensor,
    labels: tf.Tensor,
    label_weight: tf.Tensor,
    iterations: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`label_rotation` of tensors of one dtype."""
    gram = tf.matmul(*2 * [tf.cast(labels, tf.float64)], transpose_a=True)
    inverse = tf.linalg.pinv(gram)  # D^+ = (D^T D)^+ D^T
    codes = sign(continuous)
    rotation = tf.eye(tf.shape(continuous)[1], dtype=continuous.dtype)
    projection = tf.zeros_like(tf.matmul(labels, codes, transpose_a=True))
    changed = tf.constant(True)
    iteration = tf.constant(0)
    while changed and iteration < iterations:
        previous = codes
        sums = tf.matmul(labels, codes, transpose_a=True)  # D^T B
        projection = tf.matmul(inverse, tf.cast(sums, tf.float64))
        projection = tf.cast(projection, continuous.dtype)
        rotation = procrustes_rotation(codes, continuous)
        label_codes = label_weight * tf.matmul(labels, projection)  # (n, bits)
        codes = sign(tf.matmul(continuous, rotation) + label_codes)
        changed = tf.reduce_any(codes != previous)
        iteration += 1
    return rotation, projection, codes
