"""Methods of learning to hash: one paper, one file."""

from kerashash.methods.adalabel import AdaLabelHash
from kerashash.methods.dcdh import DCDH

__all__ = ["DCDH", "AdaLabelHash"]
