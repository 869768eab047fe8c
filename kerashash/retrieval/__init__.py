"""Nearest neighbours of hash codes, and label distributions predicted from them."""

from kerashash.retrieval.prediction import hashed_distribution, knn_distribution
from kerashash.retrieval.ranker import HammingRanker

__all__ = ["HammingRanker", "hashed_distribution", "knn_distribution"]
__dir__ = __all__.copy  # what completion offers
