"""Data sets under the retrieval protocols of the papers, as `tf.data`."""

from kerashash.data.augmentation import augmented
from kerashash.data.directory import from_directory
from kerashash.data.distributions import DistributionData, load_distributions
from kerashash.data.feature_cache import cache_features
from kerashash.data.image_reading import read_images
from kerashash.data.images import EncodedImages
from kerashash.data.indexing import indexed
from kerashash.data.loading import list_datasets as list
from kerashash.data.loading import load
from kerashash.data.retrieval_data import RetrievalData
from kerashash.data.sources import DatasetUnavailableError

__all__ = [
    "DatasetUnavailableError",
    "DistributionData",
    "EncodedImages",
    "RetrievalData",
    "augmented",
    "cache_features",
    "from_directory",
    "indexed",
    "list",
    "load",
    "load_distributions",
    "read_images",
]
__dir__ = __all__.copy  # what completion offers
