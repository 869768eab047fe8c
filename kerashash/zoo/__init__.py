"""The model zoo: trained hashers with their cards, codes and recipes.

An entry is a folder ``<method>-<dataset>-<bits>`` of six files:

- ``card.json``: source, data, protocol, metrics with their definitions, recipe,
  versions, licence, and the sha256 and size of the other files;
- ``config.json``: the model's configuration;
- ``model.weights.h5``: its weights, kernels in float16, without large networks that
  other entries use too: each is kept once, in ``shared/`` beside the entries, under a
  name made of its contents;
- ``codes.npz``: packed query and database codes with their labels, from which
  anyone recomputes the metrics without the data set;
- ``golden.npz``: a few made-up inputs and their codes, to test a model with;
- ``recipe.toml``: how to train it again (`kerashash.recipes`).

``card.md`` says for people what ``card.json`` says.

Entries come from the registries of `kerashash.zoo.registry`. Nothing is unpickled, and
nothing is fetched unless KERASHASH_ZOO names a server.
"""

from kerashash.zoo.entries import (
    Entry,
    WeightsUnavailableError,
    entry,
    list,
    recipe_only,
    recipe_path,
)
from kerashash.zoo.loading import load, verify
from kerashash.zoo.weight_files import round_weights
from kerashash.zoo.writing import export, save

__all__ = [
    "Entry",
    "WeightsUnavailableError",
    "entry",
    "export",
    "list",
    "load",
    "recipe_only",
    "recipe_path",
    "round_weights",
    "save",
    "verify",
]
