"""The networks of `keras.applications` as backbones."""

import os
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from kerashash.backbones.images import DATA_FORMAT, ResizeImages, check_image_size
from kerashash.forks import check_not_forked


@keras.saving.register_keras_serializable(package="kerashash")
class ApplicationPreprocessing(layers.Layer):
    """The `preprocess_input` of a module of `keras.applications`, as a layer.

    Args:
        module: str; a module of `keras.applications`, such as "mobilenet_v2".
        **kwargs: further arguments of `keras.layers.Layer`.
    """

    def __init__(self, module: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.module = module

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        module = getattr(keras.applications, self.module)
        return module.preprocess_input(
            tf.cast(inputs, self.compute_dtype), data_format=DATA_FORMAT
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "module": self.module}


def classes() -> dict[str, str]:
    """Map the name of each network class of `keras.applications` to its module."""
    return {
        name: module
        for module, content in vars(keras.applications).items()
        if hasattr(content, "preprocess_input")
        for name in vars(content)
        if name[0].isupper()
    }


def build(
    module: str,
    name: str,
    image_size: int = 224,
    weights: str | os.PathLike[str] | None = "imagenet",
) -> keras.Model:
    """Build a network of `keras.applications`: preprocessing, layers, average pool."""
    check_image_size(image_size)
    check_not_forked()
    # These networks take the layout of images from Keras' configuration alone.
    configured = keras.config.image_data_format()
    keras.config.set_image_data_format(DATA_FORMAT)
    try:
        network = getattr(keras.applications, name)(
            include_top=False,
            pooling="avg",
            weights=weights,
            input_shape=(image_size, image_size, 3),
        )
    finally:
        keras.config.set_image_data_format(configured)
    inputs = keras.Input((None, None, 3), name="image")
    x = ResizeImages(image_size, name="resize")(inputs)
    x = ApplicationPreprocessing(module, name="preprocess")(x)
    return keras.Model(inputs, network(x), name=module)
