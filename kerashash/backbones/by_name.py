"""Look up backbones by name; split one in two."""

import contextlib
import contextvars
import difflib
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from kerashash.backbones import applications
from kerashash.backbones.cnn_f import CNNF
from kerashash.backbones.efficientnet_lite import EfficientNetLite

# Whether networks are built for weights that are loaded later.
_without_weights = contextvars.ContextVar("_without_weights", default=False)


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Let `get` build networks of `keras.applications` without weights in a block.

    For those who rebuild a model whose weights they have: nothing is downloaded.

    Example:
        >>> with without_weights():
        ...     get("MobileNetV2", image_size=32).output_shape
        (None, 1280)
    """
    token = _without_weights.set(True)
    try:
        yield
    finally:
        _without_weights.reset(token)


def get(
    name: str | keras.Model | list[Any] | tuple[Any, ...], **options: Any
) -> keras.layers.Layer:
    """Return a backbone by name.

    Args:
        name: str, `keras.Model` or list; one of

            - "efficientnet-lite0", "efficientnet-lite2" or "cnn-f";
            - a class of `keras.applications`, such as "MobileNetV2": it comes with its
              preprocessing and average pooling, and its weights are "imagenet" by
              default;
            - "features", the identity, for inputs that are feature vectors;
            - a `keras.Model`, which is returned unchanged;
            - a list of image backbones, whose features are concatenated.
        **options: arguments of the backbone's class; for a list, of every class in it.

    Returns:
        `keras.Model`, or a `keras.layers.Identity` for "features".

    Raises:
        TypeError, ValueError: if there is no such backbone or option.

    Example:
        >>> get("efficientnet-lite0", image_size=96, weights=None).output_shape
        (None, 1280)
    """
    if isinstance(name, list | tuple):
        return _concatenated([get(member, **options) for member in name])
    if isinstance(name, keras.layers.Layer):
        if options:
            raise TypeError(
                "`backbone` takes no options if it is a keras.Model. "
                f"Received: {options}."
            )
        return name
    if not isinstance(name, str):
        raise TypeError(
            "`backbone` must be a name or a keras.Model, or a list of these. Received: "
            f"{name!r}."
        )
    if name in ("efficientnet-lite0", "efficientnet-lite2"):
        return EfficientNetLite(name.removeprefix("efficientnet-"), **options)
    if name == "cnn-f":
        return CNNF(**options)
    if name == "features":
        return layers.Identity(name="features", **options)
    classes = applications.classes()
    if name in classes:
        if _without_weights.get():
            options = {**options, "weights": None}
        return applications.build(classes[name], name, **options)
    names = ["efficientnet-lite0", "efficientnet-lite2", "cnn-f", "features"]
    close = difflib.get_close_matches(name, [*names, *classes], n=3)
    raise ValueError(
        f"`backbone` must be one of {names}, the name of a class of "
        f"keras.applications, or a keras.Model. Received: {name!r}."
        + (f" Did you mean {close}?" if close else "")
    )


def _concatenated(backbones: list[keras.layers.Layer]) -> keras.Model:
    """Build one network that concatenates the features of several."""
    names = [backbone.name for backbone in backbones]
    shapes: list[Any] = [getattr(b, "input_shape", None) for b in backbones]
    same = shapes == shapes[:1] * len(shapes) and None not in shapes
    if len({*names}) < max(2, len(names)) or not same:
        raise ValueError(
            "`backbone`, if a list, must hold two or more networks with different "
            f"names that take the same images. Received: {names} with input shapes "
            f"{shapes}."
        )
    image = keras.Input(shapes[0][1:], name="image")
    features = layers.Concatenate(name="features")([b(image) for b in backbones])
    return keras.Model(image, features, name="_".join(names))


def split(backbone: keras.Model, layer_name: str) -> tuple[keras.Model, keras.Model]:
    """Split a backbone in two after a layer.

    Args:
        backbone: functional `keras.Model`.
        layer_name: str; the last layer of the lower part. Every path from input to
            output must pass through it, as through ``"block4c"`` of an
            `EfficientNetLite`.

    Returns:
        ``(lower, upper)``: models that share the layers of `backbone`, with
        ``upper(lower(x)) == backbone(x)``. Training `upper` trains `backbone`.

    Raises:
        TypeError: if `backbone` is not a functional model.
        ValueError: if there is no such layer, it is the last one, or a path goes
            around it.

    Example:
        >>> backbone = get("efficientnet-lite0", image_size=96, weights=None)
        >>> lower, upper = split(backbone, "block4c")
        >>> lower.output_shape, upper.output_shape
        ((None, 6, 6, 80), (None, 1280))
    """
    if not getattr(backbone, "inputs", None):
        raise TypeError(
            f"`backbone` must be a functional keras.Model. Received: {backbone!r}."
        )
    names = [layer.name for layer in backbone.layers]
    if layer_name not in names:
        close = difflib.get_close_matches(layer_name, names, n=5)
        raise ValueError(
            f"`layer_name` must be a layer of the backbone. Received: {layer_name!r}. "
            f"Close names: {close}."
        )
    middle = backbone.get_layer(layer_name).output
    try:
        upper = keras.Model(middle, backbone.outputs[0], name=f"{backbone.name}_upper")
    except ValueError as error:
        raise ValueError(
            "`layer_name` must cut the backbone in two: it must not be the last layer, "
            f"and no path may go around it. Received: {layer_name!r}."
        ) from error
    return keras.Model(backbone.inputs[0], middle, name=f"{backbone.name}_lower"), upper
