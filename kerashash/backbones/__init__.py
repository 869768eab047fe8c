"""Backbones: networks from images, or feature vectors, to features."""

from kerashash.backbones.cnn_f import CNNF
from kerashash.backbones.efficientnet_lite import EfficientNetLite
from kerashash.backbones.registry import get, split

__all__ = ["CNNF", "EfficientNetLite", "get", "split"]
