"""Networks of `keras.applications` as backbones."""

import keras
import tensorflow as tf
from keras import layers

from kerashash.backbones.images import ResizeImages, check_image_size


@keras.saving.register_keras_serializable(package="kerashash")
class ApplicationPreprocessing(layers.Layer):
    """The preprocessing of a network of `keras.applications`.

    Args:
        module: str, a module of `keras.applications`, such as "mobilenet_v2".
    """

    def __init__(self, module, **kwargs):
        super().__init__(**kwargs)
        self.module = module

    def call(self, inputs):
        module = getattr(keras.applications, self.module)
        return module.preprocess_input(tf.cast(inputs, self.compute_dtype))

    def get_config(self):
        return {**super().get_config(), "module": self.module}


def classes():
    """Class name to module name of all networks of `keras.applications`."""
    return {
        public: module
        for module, content in vars(keras.applications).items()
        if hasattr(content, "preprocess_input")
        for public in vars(content)
        if public[0].isupper()
    }


def build(module, name, image_size=224, weights="imagenet"):
    """A network of `keras.applications` behind its preprocessing, pooled."""
    check_image_size(image_size)
    network = getattr(keras.applications, name)(
        include_top=False,
        pooling="avg",
        weights=weights,
        input_shape=(image_size, image_size, 3),
    )
    inputs = keras.Input((None, None, 3), name="image")
    x = ResizeImages(image_size, name="resize")(inputs)
    x = ApplicationPreprocessing(module, name="preprocess")(x)
    return keras.Model(inputs, network(x), name=module)
