"""What every image backbone begins with."""

import keras
import tensorflow as tf
from keras import layers

from kerashash.checks import check_integer


@keras.saving.register_keras_serializable(package="kerashash")
class ResizeImages(layers.Layer):
    """Bicubic resizing to a square, in float32.

    `keras.layers.Resizing` is no replacement: its ``call(training=True)`` default
    puts every later layer of the network into training mode.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        return tf.image.resize(inputs, (self.size, self.size), "bicubic")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.size, self.size, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def check_image_size(size):
    """Validate the side to which images are resized."""
    check_integer("image_size", size, least=32)


def input_size(network):
    """The side in pixels of the images that a network takes.

    Args:
        network: `keras.Model` or layer.

    Returns:
        int: that of its largest `ResizeImages`, or of its input; None if it takes no
        images, or does not say of which size.
    """
    resizing = [one for one in leaves(network) if isinstance(one, ResizeImages)]
    if resizing:
        return max(layer.size for layer in resizing)
    shape = getattr(network, "input_shape", ())
    return shape[1] if len(shape) == 4 and shape[1] == shape[2] else None


def leaves(network):
    """The layers of a network and of the networks in it, in order."""
    if not isinstance(network, keras.Model):
        return [network]
    return [leaf for layer in network.layers for leaf in leaves(layer)]
