"""Monitoring: callbacks for training, figures of retrieval results."""

from kerashash.monitoring import callbacks, plots

__all__ = ["callbacks", "plots"]
__dir__ = __all__.copy  # what completion offers
