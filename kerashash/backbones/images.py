"""Resizing of images, the first layer of every image backbone."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from kerashash.checks import check_integer


@keras.saving.register_keras_serializable(package="kerashash")
class ResizeImages(layers.Layer):
    """Resizes images to a square (bicubic), in float32.

    `keras.layers.Resizing` does not replace it: the default of its
    ``call(training=True)`` puts every later layer of the network into training mode.

    Args:
        size: int; the side of the square in pixels.
        **kwargs: further arguments of `keras.layers.Layer`.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.image.resize(inputs, (self.size, self.size), "bicubic")

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (input_shape[0], self.size, self.size, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


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
