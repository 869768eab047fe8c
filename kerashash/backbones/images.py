"""What every image backbone begins with."""

import keras
import tensorflow as tf
from keras import layers

from kerashash.options import check_integer


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
