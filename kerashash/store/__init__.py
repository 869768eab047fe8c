"""Codes that last: a durable store of hash codes with keys and metadata."""

from kerashash.store.code_store import CodeStore
from kerashash.store.filling import Encoded, encode_files
from kerashash.store.rows import Neighbours, Version

__all__ = ["CodeStore", "Encoded", "Neighbours", "Version", "encode_files"]
__dir__ = __all__.copy  # what completion offers
