"""Codes that last: a durable store of hash codes with keys and metadata."""

from typing import TYPE_CHECKING, Any

from kerashash.store.code_store import CodeStore
from kerashash.store.rows import Neighbours, Version

if TYPE_CHECKING:  # what `__getattr__` gives
    from kerashash.store.filling import Encoded, encode_files

__all__ = ["CodeStore", "Encoded", "Neighbours", "Version", "encode_files"]
__dir__ = __all__.copy  # what completion offers


def __getattr__(name: str) -> Any:
    # On first use: encoding imports TensorFlow, and a store of codes needs none.
    if name in ("Encoded", "encode_files"):
        from kerashash.store import filling

        return getattr(filling, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
