"""Look up backbones by name; split one in two."""

import contextlib
import contextvars
import difflib
import inspect
import itertools
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
        _check_single(name)
        return name
    if not isinstance(name, str):
        raise TypeError(
            "`backbone` must be a name or a keras.Model, or a list of these. Received: "
            f"{name!r}."
        )
    own: dict[str, Any] = {
        "efficientnet-lite0": EfficientNetLite,
        "efficientnet-lite2": EfficientNetLite,
        "cnn-f": CNNF,
        "features": lambda: None,
    }
    if name in own:
        known = {*inspect.signature(own[name]).parameters} - {"variant"}
        if unknown := sorted({*options} - known):
            raise TypeError(
                f"`backbone` {name!r} may have the options {sorted(known)}. Received: "
                f"{unknown}."
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


def _check_single(network: keras.layers.Layer) -> None:
    """Check that a functional model has one input and one output."""
    ends = {
        "inputs": getattr(network, "inputs", None),
        "outputs": getattr(network, "outputs", None),
    }
    counts = {name: len(tensors) for name, tensors in ends.items() if tensors}
    if any(count != 1 for count in counts.values()):
        raise ValueError(
            "`backbone` must have one input and one output. Received: "
            f"{counts['inputs']} inputs, {counts['outputs']} outputs."
        )


def output_shape(network: keras.layers.Layer, input_shape: Any) -> Any:
    """Compute the shape of what a network gives; build it, if only a call can tell.

    Args:
        network: `keras.Model` or layer.
        input_shape: tuple; the shape of a batch, with None for any size.

    Returns:
        tuple.

    Example:
        >>> output_shape(keras.layers.Dense(3), (None, 8))
        (None, 3)
    """
    try:
        return network.compute_output_shape(input_shape)
    except NotImplementedError:  # a subclass that has `call` alone
        return network(keras.KerasTensor(input_shape, network.compute_dtype)).shape


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
        TypeError: if `backbone` is not a functional model, or `layer_name` no str.
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
    if not isinstance(layer_name, str):
        raise TypeError(
            f"`layer_name` must be a name, a str. Received: {layer_name!r}."
        )
    if layer_name not in names:
        close = difflib.get_close_matches(layer_name, names, n=5)
        raise ValueError(
            f"`layer_name` must be a layer of the backbone. Received: {layer_name!r}. "
            f"Close names: {close}."
        )
    middle = _output_of(backbone, backbone.get_layer(layer_name))
    try:
        upper = keras.Model(middle, backbone.outputs[0], name=f"{backbone.name}_upper")
    except ValueError as error:
        raise ValueError(
            "`layer_name` must cut the backbone in two: it must not be the last layer, "
            f"and no path may go around it. Received: {layer_name!r}."
        ) from error
    return keras.Model(backbone.inputs[0], middle, name=f"{backbone.name}_lower"), upper


def _output_of(network: keras.Model, layer: keras.layers.Layer) -> Any:
    """The output of a layer inside a functional network.

    That of a network within the network is not its `output`, which is part of the graph
    in which it was made.
    """
    graph = getattr(network, "_functional", network)  # of a `keras.Sequential`
    nodes = itertools.chain.from_iterable(graph._nodes_by_depth.values())
    return next(node.outputs[0] for node in nodes if node.operation is layer)


def frozen_part(
    backbone: keras.layers.Layer,
) -> tuple[keras.layers.Layer, keras.Model | None]:
    """Split off the layers at the beginning whose output training does not change.

    Args:
        backbone: `keras.Model` or layer; layers are frozen by ``trainable = False``.

    Returns:
        ``(lower, upper)`` as of `split`; upper is None if all layers are frozen.

    Raises:
        ValueError: if the first layers are not frozen, or act at random in training.

    Example:
        >>> net = keras.Sequential(
        ...     [keras.Input((4,)), layers.Dense(3, trainable=False), layers.Dense(2)])
        >>> lower, upper = frozen_part(net)
        >>> lower.output_shape, upper.output_shape
        ((None, 3), (None, 2))
    """
    if _is_fixed(backbone):
        return backbone, None
    parts = backbone.layers if isinstance(backbone, keras.Model) else [backbone]
    fixed = [*itertools.takewhile(_is_fixed, parts)]
    names = [layer.name for layer in fixed if layer.variables]
    if names and isinstance(backbone, keras.Sequential):
        lower = keras.Sequential([keras.Input(backbone.input_shape[1:]), *fixed])
        upper = [keras.Input(lower.output_shape[1:]), *parts[len(fixed) :]]
        return lower, keras.Sequential(upper)
    if names and getattr(backbone, "inputs", None):
        for layer in reversed(fixed):
            with contextlib.suppress(ValueError):
                return split(backbone, layer.name)
    raise ValueError(
        "`cache_features` needs a backbone that begins with frozen layers: set "
        "`model.backbone.trainable = False`, or freeze its lower layers. Received a "
        f"backbone in which training changes what {parts[len(fixed)].name!r} gives."
    )


def _is_fixed(layer: keras.layers.Layer) -> bool:
    """Whether training changes nothing in a layer, and it is not random in training."""
    return not layer.trainable_variables and not any(
        (isinstance(part, layers.BatchNormalization) and part.trainable)
        or any(v.name == "seed_generator_state" for v in part.variables)
        for part in layer._flatten_layers()
    )
