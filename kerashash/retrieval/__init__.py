"""From hash codes to their nearest neighbours, and what these predict."""

from kerashash.retrieval.prediction import hashed_distribution, knn_distribution
from kerashash.retrieval.ranker import HammingRanker

__all__ = ["HammingRanker", "hashed_distribution", "knn_distribution"]
