"""Baselines: the methods that papers compare with, one file per paper."""

from kerashash.baselines.itq import ITQ
from kerashash.baselines.lsh import LSH
from kerashash.baselines.pcah import PCAH
from kerashash.baselines.ssdh import SSDH

__all__ = ["ITQ", "LSH", "PCAH", "SSDH"]
__dir__ = __all__.copy  # what completion offers
