"""Train entries of the zoo from recipe files."""

from kerashash.recipes.folders import for_folder
from kerashash.recipes.recipe import Recipe, read
from kerashash.recipes.runs import train

__all__ = ["Recipe", "for_folder", "read", "train"]
__dir__ = __all__.copy  # what completion offers
