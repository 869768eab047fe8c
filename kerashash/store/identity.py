"""What a store remembers of its model."""

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kerashash.methods import HashModel


def check_is_model(model: object) -> None:
    """Check that a value is a model.

    Args:
        model: the value received.

    Raises:
        TypeError: if it is no `HashModel`.

    Example:
        >>> check_is_model(5)
        Traceback (most recent call last):
        TypeError: `model` must be a HashModel or the name of an entry. Received: 5.
    """
    from kerashash.methods import HashModel

    if not isinstance(model, HashModel):
        raise TypeError(
            "`model` must be a HashModel or the name of an entry. "
            f"Received: {model!r:.100}."
        )


def is_identity(value: Any, bits: Any) -> bool:
    """Say whether a value is what `model_identity` returns, of a model of so many bits.

    Args:
        value: what JSON can hold.
        bits: int; the code length of the store.

    Returns:
        bool.

    Example:
        >>> is_identity({"name": "adalabel-cifar10-48"}, bits=48)
        False
    """
    if not isinstance(value, dict):
        return False
    kinds: dict[str, Any] = {"name": str, "in_zoo": bool, "method": str, "weights": str}
    kinds |= {"bits": int, "input": str | list | None}
    return value.get("bits") == bits and all(
        name in value and isinstance(value[name], kind) for name, kind in kinds.items()
    )


def model_identity(model: "HashModel", entry: str | None = None) -> dict[str, Any]:
    """Describe what decides the codes of a model.

    Args:
        model: `HashModel`; built.
        entry: str or None; its name in the zoo.

    Returns:
        dict: "name"; "in_zoo", whether the name is one of the zoo; "method", "bits",
        "input", the shape of inputs, or the size of images and their `image_fit` if it
        is not "squash"; and "weights", the SHA-256 of the network that encodes.

    Raises:
        ValueError: if the model is not built.

    Example:
        >>> import keras, kerashash
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> model_identity(model)["input"]
        [4]
    """
    from kerashash.backbones.images import input_size

    if not model.built:
        raise ValueError(
            "`model` must be built: call `fit` or `encode` first. Received: "
            f"{model.name!r}, which has no weights yet."
        )
    digest = hashlib.sha256()
    # Weights alone: states of dropout are variables too, other ones in each process.
    for variable in [*model.backbone.weights, *model.hash_head.weights]:
        value = np.asarray(variable)
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    size = input_size(model.backbone)
    fit = "" if model.image_fit == "squash" else f", {model.image_fit}"
    shape = getattr(model.backbone, "input_shape", None)
    return {
        "name": entry or model.name,
        "in_zoo": entry is not None,
        "method": type(model).__name__,
        "bits": model.bits,
        "input": f"{size} pixels{fit}" if size else shape and list(shape[1:]),
        "weights": digest.hexdigest(),
    }
