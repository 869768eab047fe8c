"""Nearest neighbours of hash codes, and label distributions predicted from them."""

from typing import TYPE_CHECKING, Any

from kerashash.retrieval.prediction import hashed_distribution, knn_distribution

if TYPE_CHECKING:
    from kerashash.retrieval.ranker import HammingRanker

__all__ = ["HammingRanker", "hashed_distribution", "knn_distribution"]
__dir__ = __all__.copy  # what completion offers


def __getattr__(name: str) -> Any:  # the ranker imports TensorFlow
    if name != "HammingRanker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kerashash.retrieval.ranker import HammingRanker

    return HammingRanker
