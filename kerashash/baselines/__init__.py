"""Baselines: the methods that papers compare with, one file per paper."""

from kerashash.baselines.ssdh import SSDH

__all__ = ["SSDH"]
__dir__ = __all__.copy  # what completion offers
