"""The command ``kerashash train``."""

import pathlib

import click

from kerashash.cli.completion import complete_recipe
from kerashash.cli.printing import print_metrics


@click.command("train")
@click.option(
    "--recipe",
    required=True,
    help="Name of a zoo entry, or path of a recipe.toml.",
    shell_complete=complete_recipe,
)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    metavar="FOLDER",
    default=".",
    help="Where to make the entry's folder.",
)
@click.option("--seed", type=int, help="In place of the recipe's.")
@click.option("--seeds", default=1, help="How many seeds to train.")
@click.option(
    "--data-dir",
    metavar="FOLDER",
    help="Of TensorFlow Datasets or, for a recipe on a folder of images, that folder.",
)
@click.option("--cache-dir", metavar="FOLDER", help="For features, used again later.")
@click.option("--log-dir", metavar="FOLDER", help="For TensorBoard.")
def _train(
    recipe: str,
    root: pathlib.Path,
    seed: int | None,
    seeds: int,
    data_dir: str | None,
    cache_dir: str | None,
    log_dir: str | None,
) -> None:
    """Train a zoo entry from its recipe."""
    from kerashash import recipes, zoo

    path = pathlib.Path(recipe)
    if not path.is_file():
        path = zoo.recipe_path(recipe)
    entry = recipes.train(
        path,
        root,
        seed=seed,
        seeds=seeds,
        cache_dir=cache_dir,
        data_dir=data_dir,
        log_dir=log_dir,
    )
    print(f"Wrote {entry.path}")
    print_metrics(entry.card["metrics"])


COMMANDS = (_train,)
