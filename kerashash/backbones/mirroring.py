"""Features averaged over an image and its mirror image."""

import keras
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable(package="kerashash")
class MirrorImages(layers.Layer):
    """Mirrors images ``(batch, height, width, channels)``, left to right."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reverse(inputs, axis=[2])


def mirrored(backbone: keras.Model) -> keras.Model:
    """Average a backbone's features over each image and its mirror image.

    An image and its mirror image then have the same features, to rounding, and each
    image takes twice the time.

    Formula:
        psi(x) = (phi(x) + phi(mirror image of x)) / 2

    Args:
        backbone: functional `keras.Model`, phi: images ``(batch, height, width,
            channels)`` -> features.

    Returns:
        `keras.Model`, psi, which shares the layers of `backbone`. Training it trains
        `backbone`.

    Raises:
        ValueError: if `backbone` takes no images.

    Example:
        >>> import numpy as np
        >>> from kerashash.backbones import get
        >>> net = get("efficientnet-lite0", image_size=64, weights=None)
        >>> mirrored(net)(np.zeros((1, 32, 32, 3), np.uint8)).shape
        TensorShape([1, 1280])
    """
    shape = getattr(backbone, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            "`backbone` must take images (batch, height, width, channels). Received: "
            f"{backbone!r} of input shape {shape}."
        )
    image = keras.Input(shape[1:], dtype=backbone.inputs[0].dtype, name="image")
    views = [backbone(image), backbone(MirrorImages(name="mirror_image")(image))]
    features = layers.Average(name="features")(views)
    return keras.Model(image, features, name=f"{backbone.name}_mirrored")
