"""Backbones: networks that map images or feature vectors to features."""

from kerashash.backbones.by_name import get, split
from kerashash.backbones.cnn_f import CNNF
from kerashash.backbones.efficientnet_lite import EfficientNetLite
from kerashash.backbones.mirroring import mirrored
from kerashash.backbones.quantile_encoding import QuantileEncoding
from kerashash.backbones.whitening import Whitening

__all__ = [
    "CNNF",
    "EfficientNetLite",
    "QuantileEncoding",
    "Whitening",
    "get",
    "mirrored",
    "split",
]
__dir__ = __all__.copy  # what completion offers
