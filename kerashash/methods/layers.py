"""Keras layers for the methods of learning to hash."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from spektral.layers import GCNConv

from kerashash.checks import check_integer
from kerashash.deprecation import moved_names
from kerashash.maths import discrete

__all__ = [
    "GraphConvolution",
    "HashHead",
    "LabelCodewords",
    "OuterProductFusion",
]
__dir__ = __all__.copy  # what completion offers


@keras.saving.register_keras_serializable(package="kerashash")
class HashHead(keras.layers.Dense):
    """The hash layer, features to continuous codes: a dense layer in float32.

    A hash code is the sign of values near 0, so the layer computes in float32 under a
    mixed precision policy as well.

    Args:
        bits: int; the code length.
        activation: str, callable or None; as for `keras.layers.Dense`.
        **kwargs: further arguments of `keras.layers.Dense`.

    Call:
        features ``(batch, d)`` -> float32 continuous codes ``(batch, bits)``.

    Raises:
        TypeError, ValueError: if `bits` is not an integer of at least 1.

    Example:
        >>> HashHead(12)(tf.ones((2, 5))).shape
        TensorShape([2, 12])
    """

    def __init__(
        self,
        bits: int,
        activation: str | Callable[..., Any] | None = "tanh",
        **kwargs: Any,
    ) -> None:
        bits = check_integer("bits", bits)
        kwargs["dtype"] = "float32"
        super().__init__(bits, activation=activation, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["bits"] = config.pop("units")
        return config


@keras.saving.register_keras_serializable(package="kerashash")
class LabelCodewords(keras.layers.Layer):
    """A learned codeword for each label.

    Formula:
        v_j = tanh(z_j),  score_ij = u_i . v_j

    The variables z are the table of a `keras.layers.Embedding`, initialised within
    +-0.05. Initialised within +-1, the codewords would keep their random signs, and
    retrieval would suffer.

    Args:
        num_classes: int; the number of labels.
        bits: int; the code length.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        codes ``(batch, bits)``, of floats or integers -> float32 scores ``(batch,
        num_classes)``.

    Raises:
        TypeError, ValueError: if `num_classes` or `bits` is not an integer of at least
            1, or the codes have another width.

    Example:
        >>> codewords = LabelCodewords(num_classes=10, bits=48)
        >>> codewords(tf.zeros((2, 48))).shape
        TensorShape([2, 10])
        >>> codewords.hash_codes().shape
        TensorShape([10, 48])

    Reference:
        H.-F. Yang et al., Adaptive Labeling for Deep Learning to Hash, CVPRW
        2019, section 3.
    """

    def __init__(self, num_classes: int, bits: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.num_classes = check_integer("num_classes", num_classes)
        self.bits = check_integer("bits", bits)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: self.bits})
        self.embedding = keras.layers.Embedding(
            self.num_classes,
            self.bits,
            embeddings_initializer=keras.initializers.RandomUniform(-0.05, 0.05),
            dtype="float32",
            name="embedding",
        )

    def build(self, input_shape: Any) -> None:
        self.embedding.build()

    def codewords(self) -> tf.Tensor:
        """Return continuous codewords: float32 ``(num_classes, bits)`` in (-1, 1)."""
        return tf.tanh(self.embedding(tf.range(self.num_classes)))

    def hash_codes(self) -> tf.Tensor:
        """Return binary codewords: int8 ``(num_classes, bits)`` over {-1, +1}."""
        return tf.cast(discrete.sign(self.codewords()), tf.int8)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Keras casts floats, not integers.
        codes = tf.cast(inputs, tf.float32)
        return tf.matmul(codes, self.codewords(), transpose_b=True)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.num_classes)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("dtype")  # always float32
        return {**config, "num_classes": self.num_classes, "bits": self.bits}


@keras.saving.register_keras_serializable(package="kerashash")
class OuterProductFusion(keras.layers.Layer):
    """Outer product of two streams of continuous codes, flattened.

    Formula:
        vec(a b^T) for each row a of one stream and row b of the other

    Call:
        ``[a, b]`` of shapes ``(batch, p)`` and ``(batch, q)`` ->
        ``(batch, p * q)``, in row-major order: entry ``i * q + j`` is
        ``a_i * b_j``.

    Raises:
        ValueError: if it is not called with two streams of as many rows.

    Example:
        >>> pair = [tf.constant([[1.0, 2.0]]), tf.constant([[3.0, 5.0]])]
        >>> OuterProductFusion()(pair).numpy()
        array([[ 3.,  5.,  6., 10.]], dtype=float32)

    Reference:
        DCDH (Wang et al., SIGIR 2019), section 2.4, eq. 5.
    """

    def call(self, inputs: Any) -> tf.Tensor:
        self.compute_output_shape(_shapes(self, inputs, 2))
        a, b = (tf.convert_to_tensor(value) for value in inputs)
        product = tf.einsum("bi,bj->bij", a, b)  # (batch, p, q)
        return tf.reshape(product, (-1, a.shape[-1] * b.shape[-1]))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        shapes = _shapes(self, input_shape, 2)
        a, b = shapes
        if len(a) != 2 or len(b) != 2 or _differ(a[0], b[0]):
            raise ValueError(
                f"`{self.name}` must be called with inputs of shapes (batch, p) and "
                f"(batch, q). Received shapes: {shapes}."
            )
        return (a[0], a[1] * b[1])


@keras.saving.register_keras_serializable(package="kerashash")
class GraphConvolution(GCNConv):
    """Spektral's graph convolution, made to work with Keras 3.

    Formula:
        activation(A X W + b)

    A is used as given: normalise it and add self-loops beforehand. If A and X do not
    change, A X can be computed once, by a layer with ``kernel_initializer="identity"``.
    As A (X W) = (A X) W, a layer on rows of A X then needs no graph, and takes batches
    of any size.

    Args:
        channels: int; the number of output features.
        **kwargs: further arguments of `spektral.layers.GCNConv`.

    Call:
        ``[x, a]``: node features ``(n, d)`` and a dense or sparse adjacency
        ``(n, n)``, or some of its rows, ``(m, n)`` -> ``(n, channels)``, or
        ``(m, channels)``. ``[ax]``: rows of A X, ``(batch, d)`` -> ``(batch,
        channels)``.

    Raises:
        TypeError, ValueError: if `channels` is not an integer of at least 1, or the
            layer is called with anything but a list of one or two inputs.

    Example:
        >>> layer = GraphConvolution(4, use_bias=False)
        >>> layer([tf.ones((3, 2)), tf.eye(3)]).shape
        TensorShape([3, 4])

    Reference:
        T. N. Kipf and M. Welling, Semi-Supervised Classification with Graph
        Convolutional Networks, ICLR 2017, eq. 2.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(check_integer("channels", channels), **kwargs)

    def build(self, input_shape: Any) -> None:
        # Spektral requires two shapes and uses the first.
        super().build([_shapes(self, input_shape, 1, 2)[0], None])

    # Keras 3 passes `mask=[None, None]` to a call that takes a mask, and Spektral
    # multiplies by the first entry. This signature takes no mask.
    def call(self, inputs: Any) -> tf.Tensor:
        self.compute_output_shape(_shapes(self, inputs, 1, 2))
        if len(inputs) == 2:
            return super().call(inputs)
        # Each row holds its messages: a graph of one node, with an edge to itself.
        nodes = inputs[0][:, None]  # (batch, 1, d)
        edges = tf.ones_like(nodes[..., :1])  # (batch, 1, 1)
        return super().call([nodes, edges])[:, 0]

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        shapes = _shapes(self, input_shape, 1, 2)
        x, rows = shapes[0], shapes[-1]  # of A, or of A X
        if len(shapes) == 2 and _differ(x[-2], rows[-1]):
            raise ValueError(
                f"`{self.name}` must be called with an adjacency that has a column for "
                f"each node. Received shapes: {shapes}."
            )
        return (*x[:-2], rows[-2], self.channels)


def _shapes(
    layer: keras.layers.Layer, inputs: Any, *counts: int
) -> list[tuple[Any, ...]]:
    """The shapes of so many inputs, each of two axes or more; or such shapes."""
    parts = inputs if isinstance(inputs, list | tuple) else [inputs]
    shapes: list[Any] = [getattr(part, "shape", part) for part in parts]
    if (
        not isinstance(inputs, list | tuple)
        or len(shapes) not in counts
        or not all(isinstance(s, list | tuple | tf.TensorShape) for s in shapes)
        or any(len(shape) < 2 for shape in shapes)
    ):
        many = " or ".join(map(str, counts))
        raise ValueError(
            f"`{layer.name}` must be called with a list of {many} inputs, each of two "
            f"axes or more. Received shapes: {shapes}."
        )
    return [tuple(shape) for shape in shapes]


def _differ(one: int | None, other: int | None) -> bool:
    """Whether two lengths are known and differ."""
    return None not in (one, other) and one != other


__getattr__ = moved_names(__name__, {"QuantileEncoding": "kerashash.backbones"})
