"""From a recipe file to a trained entry of the zoo."""

from kerashash.recipes.recipe import read, train

__all__ = ["read", "train"]
