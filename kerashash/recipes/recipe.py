"""Train a zoo entry from its recipe, end to end: data to entry.

A recipe is a TOML file of five tables:

- ``entry``: what the card says, and its metrics (`kerashash.zoo.save`);
- ``data``: arguments of `kerashash.data.load`; without ``seed`` each training draws its
  own splits;
- ``backbone``: arguments of `kerashash.backbones.get`, or ``of``, the entry whose
  backbone it is; ``encoding`` ("quantiles" or "standardized") of its features,
  ``hidden_units`` on them, and the rate of ``dropout`` after each of these two. Columns
  of numbers have no backbone but these three;
- ``model``: options of the method;
- ``training``: ``seed``, ``epochs``, ``batch_size`` and ``learning_rate`` on features
  computed once, and ``self_train`` (`AdaLabelHash.self_train`) on unlabelled images.
  With ``fine_tune_after`` the layers of the backbone after that one train too
  (`kerashash.recipes.fitting`), and then the ``head`` alone; a ``first_head`` before.
"""

import os
import pathlib
import shutil
import time
import tomllib

import keras
import numpy as np

from kerashash import data, zoo
from kerashash.checks import check_integer
from kerashash.recipes import runs
from kerashash.zoo import card_metrics

# The tables, and what each must have.
_TABLES = {
    "entry": ("name", "method", "metrics"),
    "data": ("name",),
    "backbone": (),
    "model": ("bits",),
    "training": ("seed",),
}


def read(path):
    """Read a recipe.

    Args:
        path: path of a TOML file.

    Returns:
        dict with the tables entry, data, backbone, model and training.

    Raises:
        ValueError: if it is no such file, or a table or one of its keys is missing.
    """
    try:
        recipe = tomllib.loads(pathlib.Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(
            f"`recipe` must be a recipe file. Received: {os.fspath(path)!r} ({error})."
        ) from error
    missing = [table for table in _TABLES if table not in recipe] or [
        f"{table}.{key}"
        for table, keys in _TABLES.items()
        for key in keys
        if key not in recipe[table]
    ]
    if missing:
        raise ValueError(
            f"`recipe` must have the tables {[*_TABLES]}. Received: "
            f"{os.fspath(path)!r}, which lacks {missing}."
        )
    return recipe


def train(path, root, seed=None, seeds=1, cache_dir=None, data_dir=None, log_dir=None):
    """Train the entry that a recipe describes and write it.

    Args:
        path: path of the recipe.
        root: path of the folder in which the entry's folder is made; an entry of
            that name is replaced.
        seed: int or None, in place of the recipe's seed.
        seeds: int, how often to train, each time with the next seed. The entry is
            that of the first; its card has the metrics of all.
        cache_dir: path of a folder for the features of the frozen layers, used
            again by a later run, and for the state of fine-tuning after each epoch:
            where one was stopped, a later run goes on.
        data_dir: passed to `kerashash.data.load`.
        log_dir: path of a folder for TensorBoard logs, or None.

    Returns:
        `kerashash.zoo.Entry`.

    Raises:
        TypeError, ValueError: if the recipe is wrong.
    """
    recipe = read(path)
    check_integer("seeds", seeds)
    cache_dir = pathlib.Path(cache_dir or "~/.cache/kerashash").expanduser()
    first = recipe["training"]["seed"] if seed is None else seed
    metrics, bits = recipe["entry"]["metrics"], recipe["model"]["bits"]
    values = []
    for number in range(first, first + seeds):
        keras.utils.set_random_seed(number)
        rows = data.load(**{"seed": number, **recipe["data"]}, data_dir=data_dir)
        start = time.monotonic()
        run = runs.run(recipe, rows, number, cache_dir, log_dir)
        if number == first:
            kept, minutes = run, (time.monotonic() - start) / 60
        values.append(card_metrics.measure(metrics, run.codes, bits))
    recipe["entry"].pop("missing", None)  # it is there
    card = {
        **recipe["entry"],
        "data": {"seed": first, **recipe["data"]},
        "counts": {
            split: getattr(rows, f"num_{split}")
            for split in ("train", "query", "database")
        },
        "backbone": recipe["backbone"],
        "seed": first,
        "training": {
            "minutes": round(minutes, 1),
            "loss": kept.loss,
            "machine": f"{os.cpu_count()} CPU cores, no GPU",
        },
    }
    if seeds > 1:
        for metric, by_seed in zip(metrics, np.transpose(values), strict=True):
            metric["by_seed"] = by_seed.tolist()
    text = pathlib.Path(path).read_text()
    codes = kept.codes
    entry = zoo.save(kept.model, card["name"], card, codes, text, root, overwrite=True)
    shutil.rmtree(runs.backups(recipe, cache_dir), ignore_errors=True)
    return entry
