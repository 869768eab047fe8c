"""Train entries of the zoo from recipe files."""

from kerashash.recipes.recipe import Recipe, read
from kerashash.recipes.runs import train

__all__ = ["Recipe", "read", "train"]
__dir__ = __all__.copy  # what completion offers
