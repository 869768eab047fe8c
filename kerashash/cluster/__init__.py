"""Encoding and search on a cluster of Ray (``pip install 'kerashash[cluster]'``)."""

from kerashash.cluster.encoding import encode_files, encode_parquet
from kerashash.cluster.sharded_ranker import ShardedRanker

__all__ = ["ShardedRanker", "encode_files", "encode_parquet"]
__dir__ = __all__.copy  # what completion offers
