"""Texts that tell networks apart: layers, their options, and how they are connected.

Keras numbers the layers of a process, so equal networks have unequal names. Layers,
weights and symbolic tensors are named here by their place in the order in which they
appear.
"""

import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


class NetworkDescription:
    """Describe networks, equal ones by equal texts; use one object for one network.

    Example:
        >>> def net():
        ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> [*NetworkDescription().of(net())] == [*NetworkDescription().of(net())]
        True
    """

    def __init__(self) -> None:
        self._places: dict[int, int] = {}

    def place(self, thing: object) -> int:
        """The number of an object of the network.

        Args:
            thing: a layer, a weight or a symbolic tensor, which stays in memory.

        Returns:
            int.
        """
        return self._places.setdefault(id(thing), len(self._places))

    def of(self, part: Any) -> Iterator[str]:
        """Describe a network, layer or operation, and before it all that it holds.

        Args:
            part: `keras.Model`, layer or operation.

        Yields:
            str.
        """
        if id(part) in self._places:  # it is used more than once
            return
        head = [self.place(part), type(part).__name__]
        # A network of connected layers. Operations, as of `x + 1`, are no layers.
        if hasattr(part, "_nodes_by_depth"):
            for operation in part.operations:
                yield from self.of(operation)
            yield self._text([*head, self._connections(part)])
        elif isinstance(part, keras.Model):
            for layer in part.layers:
                yield from self.of(layer)
            yield self._text([*head, [self.place(layer) for layer in part.layers]])
        else:
            weights = getattr(part, "weights", [])
            config = [self.place(weight) for weight in weights], _options(part)
            yield self._text([*head, *config])

    def _connections(self, network: Any) -> list[Any]:
        """The calls from the inputs of a functional network to its outputs."""
        calls = [
            [
                self.place(node.operation),
                node.arguments.args,
                node.arguments.kwargs,
                node.outputs,
            ]
            for depth in sorted(network._nodes_by_depth, reverse=True)
            for node in network._nodes_by_depth[depth]
        ]
        return [network.inputs, network.outputs, calls]

    def _text(self, value: Any) -> str:
        """Write as JSON."""
        return json.dumps(value, default=self._plain)

    def _plain(self, value: Any) -> Any:
        """Put something that JSON can hold in the place of what it cannot."""
        if isinstance(value, keras.KerasTensor):
            return {"tensor": self.place(value)}
        if hasattr(value, "__array__"):  # `str` leaves out what is in the middle
            array = np.asarray(value)
            return [str(array.dtype), array.shape, array.tobytes().hex()]
        return str(value)


def _options(part: Any) -> dict[str, Any]:
    """The options of a layer or operation, without what makes no difference."""
    if isinstance(part, keras.layers.Layer):
        config = part.get_config()
    else:  # an operation need not have a config
        config = {k: v for k, v in vars(part).items() if not k.startswith("_")}
    config = _unnamed({"class_name": "", "config": config})["config"]
    config.pop("name", None)
    return config


def _unnamed(config: Any) -> Any:
    """Copy a config without the names of the layers in it, and what is trainable."""
    if isinstance(config, list | tuple):
        return [_unnamed(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: _unnamed(value) for key, value in config.items()}
    inner = config.get("config")
    if "class_name" in config and isinstance(inner, dict) and "trainable" in inner:
        inner.pop("name", None)
        # It makes no difference in inference mode.
        inner["trainable"] = True
    return config
