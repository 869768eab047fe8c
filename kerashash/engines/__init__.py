"""Engines of encoding: other runtimes that run a trained network on a processor.

Each takes an extra package, and is compared with TensorFlow, in codes and speed, before
it is taken by itself.
"""

from kerashash.engines.preparing import (
    ENGINES,
    INT8,
    Prepared,
    fastest,
    prepared,
    quantized,
)

__all__ = [
    "ENGINES",
    "INT8",
    "Prepared",
    "fastest",
    "prepared",
    "quantized",
]
