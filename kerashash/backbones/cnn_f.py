"""CNN-F, the backbone of AdaLabelHash, DSRE and DDH."""

import functools
import os
from types import SimpleNamespace
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from kerashash.backbones.images import (
    DATA_FORMAT,
    ResizeImages,
    dtype_policy,
    freeze,
    layer_config,
)
from kerashash.forks import check_not_forked
from kerashash.mat_files import read_mat


@keras.saving.register_keras_serializable(package="kerashash")
class LocalResponseNormalization(layers.Layer):
    """Divides each activation by the energy of the neighbouring channels.

    Formula:
        x / (2 + 1e-4 sum over 5 channels of x^2)^0.75

    Reference:
        A. Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural
        Networks, NIPS 2012, section 3.3.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # TensorFlow's operation takes no float64, and float16 cannot hold the squares.
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        x = tf.cast(inputs, dtype)
        channels = x.shape[-1]
        squares = tf.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
        energy = tf.add_n([squares[..., i : i + channels] for i in range(5)])
        return tf.cast(x / (2.0 + 1e-4 * energy) ** 0.75, inputs.dtype)


@keras.saving.register_keras_serializable(package="kerashash")
class SubtractMeanImage(layers.Layer):
    """Subtracts a mean image, which is saved with the weights.

    It starts as the mean colour of ImageNet; `set_weights` replaces it.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.mean = self.add_weight(
            shape=input_shape[1:],
            initializer=lambda shape, dtype: tf.broadcast_to(
                tf.constant([123.68, 116.779, 103.939], dtype), shape
            ),
            trainable=False,
            name="mean",
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs - self.mean


@keras.saving.register_keras_serializable(package="kerashash")
class CNNF(keras.Model):
    """CNN-F up to its second fully connected layer.

    Resizes images to 224x224, subtracts the mean image of ImageNet and returns the
    4,096 features of fc7. The package contains no weights: the authors publish theirs
    for MatConvNet, as ``imagenet-vgg-f.mat``, which includes its own mean image.

    Args:
        weights: path or None; the file ``imagenet-vgg-f.mat``. None initializes at
            random.
        name: str or None; the name of the model.
        dtype: str, `keras.DTypePolicy` or None; the dtype policy of the layers. None is
            Keras' setting.

    Call:
        uint8 or float RGB images ``(batch, height, width, 3)`` in [0, 255] ->
        features ``(batch, 4096)``.

    Raises:
        ValueError: if `weights` is not such a file.

    Example:
        >>> CNNF()(tf.zeros((1, 64, 64, 3))).shape
        TensorShape([1, 4096])

    Reference:
        K. Chatfield et al., Return of the Devil in the Details, BMVC 2014, table 1.
    """

    image_size = 224

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        check_not_forked()
        with dtype_policy(dtype):
            inputs, features = _network(self.image_size)
            super().__init__(inputs, features, name=name or "cnn_f")
        if weights is not None:
            self._load_matconvnet(weights)

    def _load_matconvnet(self, path: str | os.PathLike[str]) -> None:
        """Copy the weights of a MatConvNet file, of either version of the format."""
        try:
            net = read_mat(path, squeeze=True)
            net = net.get("net", SimpleNamespace(**net))
            mean = getattr(net, "meta", net).normalization.averageImage
            center = self.get_layer("center")
            center.set_weights([np.broadcast_to(mean, center.mean.shape)])
            arrays = {}
            for layer in net.layers:
                if hasattr(layer, "weights") and np.size(layer.weights):
                    arrays[layer.name] = tuple(layer.weights)
                elif hasattr(layer, "filters"):
                    arrays[layer.name] = (layer.filters, layer.biases)
            for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
                kernel, bias = arrays[name]
                # MatConvNet orders kernels as Keras does: (height, width, in, out).
                # Its fc6 is a 6x6 convolution, which flattens in the order of ours.
                if name == "fc6":
                    kernel = np.reshape(kernel, (6 * 6 * 256, 4096))
                self.get_layer(name).set_weights([kernel, bias])
        except Exception as error:  # whatever a file lacks
            raise ValueError(
                "`weights` must be None or a path of MatConvNet's imagenet-vgg-f.mat. "
                f"Received: {path!r} ({type(error).__name__}: {error})."
            ) from error

    def get_config(self) -> dict[str, Any]:
        return {"weights": None, "name": self.name, **layer_config(self)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        config = dict(config)
        # Models of version 0.1 do not say these.
        trainable, frozen = config.pop("trainable", True), config.pop("frozen", ())
        network = cls(**config)
        freeze(network, trainable, frozen)
        return network


def _network(image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Make the layers of CNN-F; return their input and output."""
    conv = functools.partial(layers.Conv2D, activation="relu", data_format=DATA_FORMAT)
    pool = functools.partial(layers.MaxPooling2D, 3, 2, data_format=DATA_FORMAT)
    inputs = keras.Input((None, None, 3), name="image")
    x = ResizeImages(image_size, name="resize")(inputs)
    x = SubtractMeanImage(name="center")(x)
    x = conv(64, 11, 4, name="conv1")(x)  # (54, 54, 64)
    x = LocalResponseNormalization(name="norm1")(x)
    x = pool(padding="same", name="pool1")(x)  # (27, 27, 64)
    x = conv(256, 5, padding="same", name="conv2")(x)
    x = LocalResponseNormalization(name="norm2")(x)
    x = pool(name="pool2")(x)  # (13, 13, 256)
    for layer in ("conv3", "conv4", "conv5"):
        x = conv(256, 3, padding="same", name=layer)(x)
    x = pool(name="pool5")(x)  # (6, 6, 256)
    x = layers.Flatten(DATA_FORMAT, name="flatten")(x)
    for layer in ("fc6", "fc7"):
        x = layers.Dense(4096, activation="relu", name=layer)(x)
        x = layers.Dropout(0.5, name=f"{layer}_dropout")(x)
    return inputs, x
