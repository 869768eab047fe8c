"""EfficientNet-Lite, with ImageNet weights included in the package."""

import hashlib
import json
import os
import pathlib
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from kerashash import installed
from kerashash.archives import check_hdf5
from kerashash.backbones.images import (
    DATA_FORMAT,
    ResizeImages,
    check_image_size,
    dtype_policy,
    freeze,
    layer_config,
)
from kerashash.forks import check_not_forked

# (repeats, kernel, stride, expansion, channels) of each block of EfficientNet-Lite0.
_LITE_BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Width and depth multipliers.
_LITE_VARIANTS = {"lite0": (1.0, 1.0), "lite2": (1.1, 1.2)}


@keras.saving.register_keras_serializable(package="kerashash")
class EfficientNetLite(keras.Model):
    """EfficientNet-Lite without its classifier.

    Resizes images (bicubic), scales them to [-1, 1] and returns the average-pooled
    features of the last convolution. Layers are named by block and letter:
    ``get_layer("block4c")`` is the third layer of block 4, a good place to
    `kerashash.backbones.split`.

    Args:
        variant: str; "lite0" (3.4 M parameters) or "lite2" (4.8 M).
        image_size: int, at least 32; the side in pixels to which images are resized.
        weights: str, path or None; "imagenet" loads the weights included in the
            package, a path loads a ``.weights.h5`` file, None initializes at random.
        name: str or None; the name of the model.
        dtype: str, `keras.DTypePolicy` or None; the dtype policy of the layers. None is
            Keras' setting.

    Call:
        uint8 or float RGB images ``(batch, height, width, 3)`` in [0, 255], of any
        size -> features ``(batch, 1280)``.

    Raises:
        TypeError, ValueError: if an argument is out of range, or `weights` does not fit
            the variant.

    Example:
        >>> import tensorflow as tf
        >>> backbone = EfficientNetLite("lite0", image_size=96, weights=None)
        >>> backbone(tf.zeros((1, 32, 32, 3))).shape
        TensorShape([1, 1280])

    Reference:
        M. Tan, Q. V. Le, EfficientNet, ICML 2019; R. Liu, Higher accuracy on vision
        models with EfficientNet-Lite, 2020.
    """

    def __init__(
        self,
        variant: str = "lite0",
        image_size: int = 224,
        weights: str | os.PathLike[str] | None = "imagenet",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if variant not in _LITE_VARIANTS:
            raise ValueError(
                f"`variant` must be one of {list(_LITE_VARIANTS)}. Received: "
                f"{variant!r}."
            )
        check_image_size(image_size)
        check_not_forked()
        with dtype_policy(dtype):
            inputs, features = _network(variant, image_size)
            super().__init__(inputs, features, name=name or f"efficientnet_{variant}")
        self.variant = variant
        self.image_size = image_size
        if weights == "imagenet":
            self.load_weights(_packaged_weights(f"efficientnet-{variant}"))
        elif weights is not None:
            try:
                check_hdf5(weights)  # Keras may follow links to other files
                self.load_weights(weights)
            except (OSError, TypeError, ValueError) as error:
                raise ValueError(
                    '`weights` must be "imagenet", None or the path of a .weights.h5 '
                    f"file of this variant. Received: {weights!r} "
                    f"({type(error).__name__}: {error})."
                ) from error

    def get_config(self) -> dict[str, Any]:
        # `weights` is None: a saved model restores its own after it is rebuilt.
        return {
            "variant": self.variant,
            "image_size": self.image_size,
            "weights": None,
            "name": self.name,
            **layer_config(self),
        }

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


def _network(variant: str, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Make the layers of a variant; return their input and output."""
    width, depth = _LITE_VARIANTS[variant]
    inputs = keras.Input((None, None, 3), name="image")
    x = ResizeImages(image_size, name="resize")(inputs)
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(x)
    x = _conv(x, 32, 3, 2, "stem")
    for number, (repeats, kernel, stride, expand, channels) in enumerate(
        _LITE_BLOCKS, 1
    ):
        if number not in (1, len(_LITE_BLOCKS)):
            repeats = int(np.ceil(repeats * depth))
        for repeat in range(repeats):
            x = _inverted_residual(
                x,
                kernel,
                stride if repeat == 0 else 1,
                expand,
                _round_channels(channels * width),
                f"block{number}{chr(ord('a') + repeat)}",
            )
    x = _conv(x, 1280, 1, 1, "head")
    x = layers.GlobalAveragePooling2D(DATA_FORMAT, name="pool")(x)
    return inputs, x


def _conv(
    x: tf.Tensor,
    channels: int,
    kernel: int,
    stride: int,
    name: str,
    activation: bool = True,
) -> tf.Tensor:
    """Apply a convolution without bias, batch normalization and, if asked, ReLU6."""
    x = layers.Conv2D(
        channels,
        kernel,
        stride,
        padding="same",
        data_format=DATA_FORMAT,
        use_bias=False,
        name=f"{name}_conv",
    )(x)
    return _normalize(x, name, activation)


def _normalize(x: tf.Tensor, name: str, activation: bool = True) -> tf.Tensor:
    """Apply batch normalization and, if asked, ReLU6."""
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if activation else x


def _inverted_residual(
    inputs: tf.Tensor, kernel: int, stride: int, expand: int, channels: int, name: str
) -> tf.Tensor:
    """Apply an inverted residual block: expand, depthwise convolution, project."""
    x, width = inputs, inputs.shape[-1]
    if expand != 1:
        x = _conv(x, width * expand, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(
        kernel,
        stride,
        padding="same",
        data_format=DATA_FORMAT,
        use_bias=False,
        name=f"{name}_depthwise_conv",
    )(x)
    x = _normalize(x, f"{name}_depthwise")
    x = _conv(x, channels, 1, 1, f"{name}_project", activation=False)
    if stride == 1 and width == channels:
        return layers.Add(name=name)([x, inputs])
    return layers.Identity(name=name)(x)


def _round_channels(channels: float) -> int:
    """Round to the nearest multiple of 8, but never down by more than 10 %."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _packaged_weights(name: str) -> pathlib.Path:
    """Return the path of weights in the package, verified against their card."""
    path = installed.folder() / "backbones" / f"{name}.weights.h5"
    card = json.loads(path.with_name(f"{name}.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card["sha256"]:
        raise ValueError(
            f"{path} is not the file that its card describes: sha256 must be "
            f"{card['sha256']}. Received: {digest}."
        )
    return path
