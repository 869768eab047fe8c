"""Resizing of images, the first layer of every image backbone."""

import contextlib
import functools
import operator
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from kerashash.checks import check_integer

# Stated in each layer of an image backbone: Keras' own default is the user's setting,
# and images are (height, width, 3) whatever that is.
DATA_FORMAT = "channels_last"

# Attributes in which layers hold what they have learned, other than weights.
_HELD = ("mean", "variance", "bin_boundaries", "adapted")


@keras.saving.register_keras_serializable(package="kerashash")
class ResizeImages(layers.Layer):
    """Resizes images to a square (bicubic), in float32 whatever the dtype policy.

    Equal to ``tf.image.resize(images, (size, size), "bicubic")``, to 1e-3 of a grey
    level. The operation behind that has no kernel for XLA, and LiteRT, OpenVINO and
    ONNX have no counterpart of it. Two matrix products run everywhere.

    `keras.layers.Resizing` does not replace it: the default of its
    ``call(training=True)`` puts every later layer of the network into training mode.

    Formula:
        Y_c = A_height X_c A_width^T  for each channel c

    Args:
        size: int; the side of the square in pixels.
        **kwargs: further arguments of `keras.layers.Layer`.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        _check_images(inputs.shape)
        images, rows = _matrix(inputs, 1, self.size)
        images, columns = _matrix(images, 2, self.size)
        images = tf.cast(images, tf.float32)
        images = _multiply(rows, images)
        # Transposed, both products are of large matrices: three times faster than
        # one of a matrix with three columns for each row of each image.
        images = tf.transpose(images, (0, 2, 1, 3))
        images = _multiply(columns, images)
        return tf.transpose(images, (0, 2, 1, 3))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        _check_images(input_shape)
        return (input_shape[0], self.size, self.size, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


def _check_images(shape: Sequence[int | None]) -> None:
    """Refuse a shape that is not that of a batch of images."""
    if len(shape) != 4:
        raise ValueError(
            "An image backbone must take images of shape (batch, height, width, "
            f"channels). Received shape: {tuple(shape)}."
        )


def bicubic_matrix(size: int, length: int | tf.Tensor) -> tf.Tensor:
    """The matrix that resizes one side of an image, bicubic, without antialiasing.

    Formula:
        A_ij = k(|j - x_i|) / sum_t k(|t - x_i|),  x_i = (i + 1/2) length / size - 1/2
        k(d) = 3/2 d^3 - 5/2 d^2 + 1 up to d = 1, -1/2 d^3 + 5/2 d^2 - 4 d + 2 up to 2

    The fraction of x_i is rounded to 1/1024, as TensorFlow does.

    Args:
        size: int; the side in pixels after resizing.
        length: int or scalar int tensor; the side before it.

    Returns:
        float32 tensor ``(size, length)``.

    Example:
        >>> bicubic_matrix(2, 4).numpy().round(3)
        array([[ 0.529,  0.529, -0.059,  0.   ],
               [ 0.   , -0.059,  0.529,  0.529]], dtype=float32)

    Reference:
        R. Keys, Cubic Convolution Interpolation for Digital Image Processing, IEEE
        TASSP 29(6), 1981.
    """
    # `divide_no_nan`, because of a plain division by a constant TensorFlow's optimizer
    # makes a product with the inverse, and other digits round to other 1024ths.
    scale = tf.math.divide_no_nan(tf.cast(length, tf.float32), float(size))
    center = (tf.range(size, dtype=tf.float32) + 0.5) * scale - 0.5  # (size,)
    whole = tf.floor(center)
    center = whole + tf.round((center - whole) * 1024.0) / 1024.0
    pixels = tf.cast(tf.range(length), tf.float32)  # (length,)
    d = tf.abs(pixels[None, :] - center[:, None])  # (size, length)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    weights = tf.where(d <= 1.0, near, tf.where(d < 2.0, far, tf.zeros_like(d)))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


@functools.lru_cache(maxsize=64)
def _known_matrix(
    size: int, length: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """`bicubic_matrix` without the columns that are 0, and the pixels that are left."""
    # Eagerly, also while a graph is traced, and on the CPU, which rounds alike for all.
    with tf.init_scope(), tf.device("CPU"):
        matrix = bicubic_matrix(size, length).numpy()
    pixels = np.flatnonzero(matrix.any(axis=0))
    return pixels, matrix[:, pixels]


def _matrix(images: tf.Tensor, axis: int, size: int) -> tuple[tf.Tensor, Any]:
    """The matrix for one side of images, and the images cut to what it uses.

    The matrix is None if the side has its size already.
    """
    length = images.shape[axis]
    if length is None:
        return images, bicubic_matrix(size, tf.shape(images)[axis])
    if length == size:
        return images, None
    pixels, matrix = _known_matrix(size, length)
    if len(pixels) < length:  # a photograph much larger than `size`
        images = tf.gather(images, pixels, axis=axis)
    return images, matrix


def _multiply(matrix: Any, images: tf.Tensor) -> tf.Tensor:
    """Matrix ``(m, n)`` times images ``(batch, n, width, channels)``, unless None."""
    if matrix is None:
        return images
    _, length, width, channels = _shape(images)
    flat = tf.reshape(images, (-1, length, width * channels))
    flat = tf.matmul(matrix, flat)  # (batch, m, width * channels)
    return tf.reshape(flat, (-1, matrix.shape[0], width, channels))


def _shape(x: tf.Tensor) -> list[Any]:
    """The shape of a tensor: integers where they are known, else scalar tensors."""
    dynamic = tf.shape(x)
    return [dynamic[i] if n is None else n for i, n in enumerate(x.shape)]


@contextlib.contextmanager
def dtype_policy(policy: Any) -> Iterator[None]:
    """Make layers under a dtype policy in a block.

    Args:
        policy: str, `keras.DTypePolicy` or None; None leaves Keras' setting.
    """
    configured = keras.config.dtype_policy()
    keras.config.set_dtype_policy(configured if policy is None else policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(configured)


def layer_config(network: keras.Model) -> dict[str, Any]:
    """What the config of a network says of its layers: dtype policy and what is frozen.

    Args:
        network: `keras.Model` whose layers have one dtype policy.

    Returns:
        dict with "dtype", "trainable" and "frozen", the names of frozen layers.
    """
    return {
        "dtype": network.dtype_policy.name,
        "trainable": network.trainable,
        "frozen": [layer.name for layer in network.layers if not layer.trainable],
    }


def freeze(network: keras.Model, trainable: bool, frozen: Container[str]) -> None:
    """Freeze layers of a new network as `layer_config` says.

    Args:
        network: `keras.Model`.
        trainable: bool; whether the network as a whole is trainable.
        frozen: names of layers that are not.
    """
    network.trainable = trainable
    for layer in network.layers:
        layer.trainable = layer.name not in frozen


def check_image_size(size: int) -> None:
    """Refuse an `image_size` that is not an integer of at least 32 pixels."""
    check_integer("image_size", size, least=32)


def input_size(network: keras.layers.Layer) -> int | None:
    """Return the side in pixels of the square images that a network takes.

    Args:
        network: `keras.Model` or layer.

    Returns:
        int, the side of its largest `ResizeImages` or, without one, of its input. None
        if the network takes no images or leaves their size open.
    """
    sizes = [layer.size for layer in leaves(network) if isinstance(layer, ResizeImages)]
    if sizes:
        return max(sizes)
    shape: tuple[int | None, ...] = getattr(network, "input_shape", ())
    return shape[1] if len(shape) == 4 and shape[1] == shape[2] else None


def leaves(network: keras.layers.Layer) -> list[keras.layers.Layer]:
    """List the layers of a network in order, those of nested networks included."""
    if not isinstance(network, keras.Model):
        return [network]
    return [leaf for layer in network.layers for leaf in leaves(layer)]


def has_own_code(network: keras.layers.Layer) -> bool:
    """Whether a network has layers or functions of the user.

    The config of these is not all that they are: their code may change.

    Args:
        network: `keras.layers.Layer`, such as a model.

    Returns:
        bool; True too for what Keras cannot write to a file.

    Example:
        >>> has_own_code(keras.Sequential([keras.layers.Dense(2)]))
        False
        >>> has_own_code(keras.Sequential([keras.layers.Lambda(lambda x: x + 1)]))
        True
    """
    try:
        return _names_own_code(keras.saving.serialize_keras_object(network))
    except Exception:  # of layers of users
        return True


def _names_own_code(config: Any) -> bool:
    """Whether an object in a config is neither Keras' nor this package's."""
    if isinstance(config, list | tuple):
        return any(map(_names_own_code, config))
    if not isinstance(config, dict):
        return False
    if {"class_name", "module", "registered_name"} <= {*config}:
        known = str(config["module"]).split(".")[0] in ("keras", "kerashash")
        registered = str(config["registered_name"]).startswith("kerashash>")
        if config["class_name"] == "Lambda" or not (known or registered):
            return True
    return any(map(_names_own_code, config.values()))


@contextlib.contextmanager
def statistics_inlined(network: keras.layers.Layer) -> Iterator[None]:
    """Let graphs hold the statistics of `Normalization` layers as constants.

    The layers hold them as tensors. A graph takes those of more than 128 elements from
    outside, and the file of an ONNX graph then has them as inputs.

    Args:
        network: `keras.layers.Layer`; its graph is traced in the block.
    """
    normalizing = [
        (layer, layer.mean, layer.variance)
        for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.Normalization) and layer.mean is not None
    ]
    try:
        for layer, mean, variance in normalizing:
            layer.mean, layer.variance = np.asarray(mean), np.asarray(variance)
        yield
    finally:
        for layer, mean, variance in normalizing:
            layer.mean, layer.variance = mean, variance


def held(network: keras.layers.Layer) -> list[Any]:
    """What the layers of a network have learned, other than weights.

    `keras.layers.Normalization` and others hold it as tensors, arrays or lists, which a
    graph takes as they are when it is traced. `adapt` and `load_weights` replace them.

    Args:
        network: `keras.layers.Layer`.

    Returns:
        list of objects, which are others once the network has learned others.

    Example:
        >>> layer = keras.layers.Normalization()
        >>> layer.adapt(np.array([[1.0], [3.0]]))
        >>> [float(value[0, 0]) for value in held(layer)]
        [2.0, 1.0]
    """
    return [
        vars(layer)[name]
        for layer in network._flatten_layers()
        for name in _HELD
        if name in vars(layer)
    ]


def are_held(values: list[Any], network: keras.layers.Layer) -> bool:
    """Whether `held` gives the same objects of a network as it gave before.

    Args:
        values: list of `held`.
        network: `keras.layers.Layer`.

    Returns:
        bool.

    Example:
        >>> layer = keras.layers.Normalization()
        >>> layer.adapt(np.array([[1.0], [3.0]]))
        >>> before = held(layer)
        >>> are_held(before, layer)
        True
        >>> layer.adapt(np.array([[1.0], [4.0]]))
        >>> are_held(before, layer)
        False
    """
    now = held(network)
    return len(now) == len(values) and all(map(operator.is_, now, values))


class Traced:
    """A function of a network as a graph, which follows what the network has `held`.

    Args:
        network: `keras.layers.Layer`.
        function: function of tensors, which calls the network.

    Example:
        >>> layer = keras.layers.Normalization()
        >>> layer.adapt(np.array([[1.0], [3.0]]))
        >>> run = Traced(layer, layer)
        >>> float(run(tf.constant([[5.0]]))[0, 0])
        3.0
        >>> layer.adapt(np.array([[4.0], [6.0]]))
        >>> float(run(tf.constant([[5.0]]))[0, 0])
        0.0
    """

    def __init__(
        self, network: keras.layers.Layer, function: Callable[..., Any]
    ) -> None:
        self._network, self._function = network, function
        self._graph: tuple[list[Any], Callable[..., Any]] | None = None

    def __call__(self, *args: Any) -> Any:
        graph = self._graph  # threads may share it
        if graph is None or not are_held(graph[0], self._network):
            run = tf.function(self._function, reduce_retracing=True)
            # The first call may build layers, which then hold something.
            result = run(*args)
            self._graph = held(self._network), run
            return result
        return graph[1](*args)
