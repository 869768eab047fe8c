"""Codes that last: a durable store of hash codes with keys and metadata."""

from kerashash.store.code_store import CodeStore
from kerashash.store.rows import Neighbours, Version

__all__ = ["CodeStore", "Neighbours", "Version"]
