"""From a recipe file to a trained entry of the zoo."""

from kerashash.recipes.recipe import Recipe, read
from kerashash.recipes.runs import train

__all__ = ["Recipe", "read", "train"]
