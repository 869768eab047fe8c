"""The model zoo: trained hashing models with their cards, codes and recipes.

An entry is a folder named ``<method>-<dataset>-<bits>`` of six files:

- ``card.json``: source, data, protocol, metrics with their definitions, recipe,
  versions, licence, and the sha256 and size of the other files;
- ``config.json``: the model's configuration;
- ``model.weights.h5``: the model's weights, kernels in float16. Large networks that
  several entries use are left out: each is stored once, in ``shared/`` next to the
  entries, in a file named after a digest of its content;
- ``codes.npz``: packed query and database codes with their labels, from which anyone
  can recompute the metrics without the data set;
- ``golden.npz``: a few synthetic inputs and their codes, to test a loaded model with;
- ``recipe.toml``: how to train the entry again (`kerashash.recipes`); empty if that is
  not known.

An entry of a model that predicts label distributions and has no codes is named
``<method>-<dataset>``. ``codes.npz`` and ``golden.npz`` then hold the distributions of
the queries and of the synthetic inputs.

``card.md`` is ``card.json`` in a form for people to read.

Entries come from the registries of `kerashash.zoo.registry`, or by names that begin
with ``hf://`` from the Hugging Face Hub (`kerashash.zoo.hub`). Nothing is unpickled.
Nothing is downloaded unless KERASHASH_ZOO names a server, or a name the hub.
"""

from kerashash.zoo.encoding import Agreement, Closeness, compare_codes
from kerashash.zoo.entries import (
    Entry,
    WeightsUnavailableError,
    entry,
    recipe_only,
    recipe_path,
)
from kerashash.zoo.entries import list_entries as list
from kerashash.zoo.hub import push
from kerashash.zoo.loading import load, verify
from kerashash.zoo.registry import versions
from kerashash.zoo.weight_files import round_weights
from kerashash.zoo.writing import export, publish, save

__all__ = [
    "Agreement",
    "Closeness",
    "Entry",
    "WeightsUnavailableError",
    "compare_codes",
    "entry",
    "export",
    "list",
    "load",
    "publish",
    "push",
    "recipe_only",
    "recipe_path",
    "round_weights",
    "save",
    "verify",
    "versions",
]
__dir__ = __all__.copy  # what completion offers
