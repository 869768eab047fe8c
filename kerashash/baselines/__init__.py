"""Baselines: the methods that papers compare with, one file per paper."""

from kerashash.baselines.cnnh import CNNH
from kerashash.baselines.cosdish import COSDISH
from kerashash.baselines.cpnn import CPNN
from kerashash.baselines.dhn import DHN
from kerashash.baselines.dish import DISH
from kerashash.baselines.dpsh import DPSH
from kerashash.baselines.dsdh import DSDH
from kerashash.baselines.dtsh import DTSH
from kerashash.baselines.fasth import FastH
from kerashash.baselines.hashnet import HashNet
from kerashash.baselines.iis_lld import IISLLD
from kerashash.baselines.itq import ITQ
from kerashash.baselines.ksh import KSH
from kerashash.baselines.ldsvr import LDSVR
from kerashash.baselines.lfh import LFH
from kerashash.baselines.lsh import LSH
from kerashash.baselines.ninh import NINH
from kerashash.baselines.pcah import PCAH
from kerashash.baselines.sdh import SDH
from kerashash.baselines.sh import SH
from kerashash.baselines.sph import SpH
from kerashash.baselines.ssdh import SSDH

__all__ = [
    "CNNH",
    "COSDISH",
    "CPNN",
    "DHN",
    "DISH",
    "DPSH",
    "DSDH",
    "DTSH",
    "IISLLD",
    "ITQ",
    "KSH",
    "LDSVR",
    "LFH",
    "LSH",
    "NINH",
    "PCAH",
    "SDH",
    "SH",
    "SSDH",
    "FastH",
    "HashNet",
    "SpH",
]
__dir__ = __all__.copy  # what completion offers
