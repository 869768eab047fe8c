"""kerashash train."""

import pathlib

from kerashash.cli.printing import print_metrics


def add(commands):
    """Add the command to the parser's."""
    train = commands.add_parser("train", help="train a zoo entry from its recipe")
    train.add_argument(
        "--recipe", required=True, help="name of a zoo entry, or path of a recipe.toml"
    )
    train.add_argument(
        "--root",
        type=pathlib.Path,
        default=pathlib.Path("."),
        help="folder in which the entry's folder is written (default: .)",
    )
    train.add_argument("--seed", type=int, help="in place of the recipe's seed")
    train.add_argument(
        "--seeds", type=int, default=1, help="how often to train (default: 1)"
    )
    train.add_argument("--data-dir", help="where TensorFlow Datasets keeps its data")
    train.add_argument("--cache-dir", help="where to keep features for a later run")
    train.add_argument("--log-dir", help="where to write TensorBoard logs")
    train.set_defaults(run=_run)


def _run(options):
    from kerashash import zoo
    from kerashash.recipes import recipe

    path = pathlib.Path(options.recipe)
    if not path.is_file():
        path = zoo.recipe_path(options.recipe)
    entry = recipe.train(
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
