"""Baselines: the methods that papers compare with, one file each."""

from kerashash.baselines.ssdh import SSDH

__all__ = ["SSDH"]
