"""Data sets and their retrieval protocols, as `tf.data`."""

from kerashash.data.indexing import indexed
from kerashash.data.loading import list, load
from kerashash.data.retrieval_data import RetrievalData
from kerashash.data.sources import DatasetUnavailableError

__all__ = ["DatasetUnavailableError", "RetrievalData", "indexed", "list", "load"]
