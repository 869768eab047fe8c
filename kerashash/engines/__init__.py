"""Engines of encoding: other runtimes that run a trained network on a processor.

Trained networks go through them faster than through TensorFlow, and give the same codes
(`benchmarks/engines.py`). Each takes an extra package; TensorFlow is always there.
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
