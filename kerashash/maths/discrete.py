"""Solvers for the discrete and orthogonal sub-problems of learning to hash.

Pure functions of tensors: no model, no state.
"""

import tensorflow as tf

__all__ = [
    "code_objective",
    "dcc",
    "label_rotation",
    "procrustes_rotation",
    "ridge",
    "sign",
]


def sign(x):
    """Binary codes of continuous ones; ``sign(0) = +1``.

    ``tf.sign`` is no replacement: it maps 0 to 0, which is not a code.

    Args:
        x: float tensor of any shape.

    Returns:
        Tensor over {-1, +1} of the shape and dtype of `x`.

    Example:
        >>> sign([-0.5, 0.0, 2.0]).numpy()
        array([-1.,  1.,  1.], dtype=float32)
    """
    x = tf.convert_to_tensor(x)
    return tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x))


def code_objective(codes, gram, target):
    """The quadratic that `dcc` minimises.

    Formula:
        tr(B G B^T) - 2 tr(B Q^T)

    Args:
        codes: tensor ``(n, bits)`` over {-1, +1}, any dtype.
        gram: float tensor ``(bits, bits)``, symmetric.
        target: float tensor ``(n, bits)``.

    Returns:
        Scalar float tensor.
    """
    codes = tf.cast(codes, target.dtype)
    return tf.reduce_sum(codes * (codes @ gram - 2.0 * target))


def dcc(codes, gram, target, sweeps=3):
    """Discrete cyclic coordinate descent: one bit of all codes at a time.

    Solves:
        argmin tr(B G B^T) - 2 tr(B Q^T)  subject to  B in {-1, +1}^(n x bits)

    to a point that no flip of a single bit improves (or as near as `sweeps`
    passes over the bits come). With the other bits fixed, bit k of every code
    has the exact minimiser sgn(Q_k - B G_k + B_k G_kk); a zero argument keeps
    the old bit, so the objective never increases. Rows are independent of each
    other: solving a subset of the rows gives those rows of the full solution.

    Args:
        codes: tensor ``(n, bits)`` over {-1, +1}, any dtype: the start.
        gram: float tensor ``(bits, bits)``, symmetric positive semi-definite.
        target: float tensor ``(n, bits)``.
        sweeps: int, passes over the bits; stops early when no bit changed.

    Returns:
        int8 tensor ``(n, bits)`` over {-1, +1}.

    Example:
        >>> dcc([[-1, 1]], [[1.0, 0.0], [0.0, 1.0]], [[0.3, -2.0]]).numpy()
        array([[ 1, -1]], dtype=int8)

    Reference:
        F. Shen et al., Supervised Discrete Hashing, CVPR 2015, section 2.2.
    """
    target = tf.convert_to_tensor(target)
    # Tensors, not variables: the trace outlives the caller's variables.
    codes, gram = (
        tf.cast(tf.convert_to_tensor(value), target.dtype) for value in (codes, gram)
    )
    return _dcc(codes, gram, target, tf.convert_to_tensor(sweeps))


@tf.function(reduce_retracing=True)
def _dcc(codes, gram, target, sweeps):
    # b^2 = 1: the diagonal only adds a constant.
    coupling = tf.linalg.set_diag(gram, tf.zeros_like(tf.linalg.diag_part(gram)))
    # Bits as rows, so that one bit of all codes is contiguous in memory.
    bits_first = tf.transpose(codes)  # (bits, n)
    bits_target = tf.transpose(target)  # (bits, n)

    changed = tf.constant(True)
    sweep = tf.constant(0)
    while changed and sweep < sweeps:
        before = bits_first
        for k in tf.range(tf.shape(gram)[0]):
            interaction = tf.linalg.matvec(bits_first, coupling[k], transpose_a=True)
            argument = bits_target[k] - interaction  # (n,)
            bit = tf.where(argument == 0, bits_first[k], sign(argument))
            bits_first = tf.tensor_scatter_nd_update(bits_first, [[k]], [bit])
        changed = tf.reduce_any(before != bits_first)
        sweep += 1
    return tf.cast(tf.transpose(bits_first), tf.int8)


def procrustes_rotation(codes, continuous):
    """The rotation that turns continuous codes closest to binary ones.

    Solves:
        argmin ||B - H R||_F^2  subject to  R^T R = I

    With the singular value decomposition H^T B = U diag(s) V^T, R = U V^T.

    Args:
        codes: tensor ``(n, bits)``, B.
        continuous: float tensor ``(n, bits)``, H.

    Returns:
        Orthogonal float tensor ``(bits, bits)``, R.

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
    continuous = tf.convert_to_tensor(continuous)
    _, u, v = tf.linalg.svd(
        tf.matmul(continuous, tf.cast(codes, continuous.dtype), transpose_a=True)
    )
    return tf.matmul(u, v, transpose_b=True)


def ridge(x, y, penalty):
    """Linear regression with a penalty on large weights.

    Solves:
        argmin ||Y - X W||_F^2 + penalty ||W||_F^2

    Args:
        x: float tensor ``(n, d)``.
        y: float tensor ``(n, c)``.
        penalty: float, at least 0; 0 needs an `x` of full column rank.

    Returns:
        float tensor ``(d, c)``, W.

    Example:
        >>> ridge(tf.eye(2), tf.constant([[2.0], [4.0]]), penalty=1.0).numpy()
        array([[1.],
               [2.]], dtype=float32)
    """
    gram = tf.matmul(x, x, transpose_a=True) + penalty * tf.eye(x.shape[1])
    return tf.linalg.solve(gram, tf.matmul(x, y, transpose_a=True))


def label_rotation(continuous, labels, label_weight=10.0, iterations=10):
    """The rotation after which signs fit continuous codes and label rows alike.

    Solves:
        min ||B - H R||_F^2 + alpha ||B - D P||_F^2
        subject to  B in {-1, +1}^(n x bits),  R^T R = I

    in turns, each exact: P = D^+ B, R by `procrustes_rotation`, B = sgn(H R + alpha D
    P). The objective never increases; it stops early when no bit changed.

    Args:
        continuous: float tensor ``(n, bits)``, H.
        labels: float tensor ``(n, num_classes)``, D.
        label_weight: float, alpha. It has no say before the second iteration.
        iterations: int, at least 1.

    Returns:
        ``(rotation, projection, codes)``: float tensors ``(bits, bits)``, R, and
        ``(num_classes, bits)``, P, and B over {-1, +1}, ``(n, bits)``.

    Example:
        >>> h = tf.constant([[1.0, 0.1], [0.1, 1.0]])
        >>> rotation, _, codes = label_rotation(h, tf.eye(2))
        >>> bool(tf.reduce_all(codes == sign(h @ rotation)))
        True

    Reference:
        DDH-LDL (Zhang et al., IEEE SPL 2022), eq. 8 to 11, where D^-1 is the
        pseudo-inverse. One iteration is one step of Iterative Quantization.
    """
    continuous = tf.convert_to_tensor(continuous)
    labels = tf.cast(labels, continuous.dtype)
    inverse = tf.linalg.pinv(labels)
    codes = sign(continuous)
    for _ in range(iterations):
        before = codes
        projection = tf.matmul(inverse, codes)
        rotation = procrustes_rotation(codes, continuous)
        pull = label_weight * tf.matmul(labels, projection)
        codes = sign(tf.matmul(continuous, rotation) + pull)
        if bool(tf.reduce_all(codes == before)):
            break
    return rotation, projection, codes
