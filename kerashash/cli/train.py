"""The command ``kerashash train``."""

import argparse
import pathlib

from kerashash.cli.printing import print_metrics


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    train = commands.add_parser("train", help="train a zoo entry from its recipe")
    train.add_argument(
        "--recipe", required=True, help="name of a zoo entry, or path of a recipe.toml"
    )
    train.add_argument(
        "--root",
        type=pathlib.Path,
        default=pathlib.Path("."),
        help="folder in which to create the entry's folder (default: .)",
    )
    train.add_argument("--seed", type=int, help="overrides the recipe's seed")
    train.add_argument(
        "--seeds", type=int, default=1, help="number of seeds to train (default: 1)"
    )
    train.add_argument(
        "--data-dir",
        help="data folder of TensorFlow Datasets or, for a recipe on a folder of "
        "images, that folder",
    )
    train.add_argument("--cache-dir", help="folder to cache features for later runs")
    train.add_argument("--log-dir", help="folder for TensorBoard logs")
    train.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from kerashash import recipes, zoo

    path = pathlib.Path(options.recipe)
    if not path.is_file():
        path = zoo.recipe_path(options.recipe)
    entry = recipes.train(
        path,
        options.root,
        seed=options.seed,
        seeds=options.seeds,
        cache_dir=options.cache_dir,
        data_dir=options.data_dir,
        log_dir=options.log_dir,
    )
    print(f"Wrote {entry.path}")
    print_metrics(entry.card["metrics"])
