"""Methods of learning to hash, one file per paper.

`HashModel`, in `kerashash.methods.hash_model`, is their common base class.
"""

from kerashash.methods.adalabel import AdaLabelHash
from kerashash.methods.dcdh import DCDH
from kerashash.methods.ddh import DDH
from kerashash.methods.ddh_ldl import DDHLDL
from kerashash.methods.dsre import DSRE
from kerashash.methods.hash_model import HashModel

__all__ = ["DCDH", "DDH", "DDHLDL", "DSRE", "AdaLabelHash", "HashModel"]
__dir__ = __all__.copy  # what completion offers
