"""Baselines: the methods that papers compare with, one file per paper."""

from kerashash.baselines.cnnh import CNNH
from kerashash.baselines.dhn import DHN
from kerashash.baselines.dish import DISH
from kerashash.baselines.dpsh import DPSH
from kerashash.baselines.dsdh import DSDH
from kerashash.baselines.dtsh import DTSH
from kerashash.baselines.hashnet import HashNet
from kerashash.baselines.itq import ITQ
from kerashash.baselines.lsh import LSH
from kerashash.baselines.ninh import NINH
from kerashash.baselines.pcah import PCAH
from kerashash.baselines.ssdh import SSDH

__all__ = [
    "CNNH",
    "DHN",
    "DISH",
    "DPSH",
    "DSDH",
    "DTSH",
    "ITQ",
    "LSH",
    "NINH",
    "PCAH",
    "SSDH",
    "HashNet",
]
__dir__ = __all__.copy  # what completion offers
