"""The command line: kerashash demo | train | zoo."""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import sys


def main(arguments=None):
    """Run the command line; returns the exit status."""
    # TensorFlow's start-up notes would bury the output.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        print(f"kerashash: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="kerashash", description="A model zoo for learning to hash."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="train, evaluate, save and rank on embedded data, offline"
    )
    demo.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("kerashash-demo"),
        help="folder for logs, model and pictures (default: ./kerashash-demo)",
    )
    demo.set_defaults(run=_demo)

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
    train.set_defaults(run=_train)

    zoo = commands.add_parser("zoo", help="look at and verify trained models")
    actions = zoo.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="names and metrics").set_defaults(run=_zoo_list)
    for name, run, text in (
        ("info", _zoo_info, "print an entry's card"),
        ("verify", _zoo_verify, "recompute an entry's metrics and golden codes"),
        ("export", _zoo_export, "copy an entry into a registry of one's own"),
    ):
        action = actions.add_parser(name, help=text)
        action.set_defaults(run=run)
        optional = {"nargs": "?"} if name == "verify" else {}
        text = "name of an entry, or path of its folder"
        action.add_argument("name", help=text, **optional)
        if name == "verify":
            action.add_argument("--all", action="store_true", help="every entry")
        if name == "export":
            action.add_argument("root", help="folder of a registry of one's own")
    return parser


def _demo(options):
    from kerashash import demo

    demo.run(options.output)


def _train(options):
    from kerashash import recipe, zoo

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
    _print_metrics(entry.card["metrics"])


def _zoo_list(options):
    from kerashash import cards, registry, zoo

    names, untrained = registry.names(), zoo.recipe_only()
    width = max(map(len, names + untrained))
    for name in names:
        card = registry.card(name)  # alone: what is on a server stays there
        if card is None:
            raise ValueError(f"A registry's index.json lists {name!r}, which it lacks.")
        metric = card["metrics"][0]
        value = cards.number(metric["value"])
        surrogate = "  (surrogate)" if card.get("surrogate") else ""
        print(f"{name:{width}} {metric['name']} {value}{surrogate}")
    for name in untrained:
        print(f"{name:{width}} recipe only")


def _zoo_info(options):
    from kerashash import cards, zoo

    print(cards.markdown(zoo.entry(options.name).card), end="")


def _zoo_verify(options):
    from kerashash import zoo

    if options.all == bool(options.name):
        raise ValueError("`zoo verify` takes the name of one entry, or --all.")
    names = zoo.list() if options.all else [options.name]
    with contextlib.ExitStack() as stack:
        run = map
        if options.all:
            # Building a model keeps one core busy. Each process has a TensorFlow of
            # its own, which takes memory and does not survive a fork.
            context = multiprocessing.get_context("spawn")
            count = min(4, os.cpu_count() or 1)
            pool = concurrent.futures.ProcessPoolExecutor(count, context)
            run = stack.enter_context(pool).map
        for name, metrics in zip(names, run(zoo.verify, names), strict=True):
            print(f"{name}: files match their sha256, codes match model and metrics")
            _print_metrics(metrics)


def _zoo_export(options):
    from kerashash import zoo

    print(f"Wrote {zoo.export(options.name, options.root).path}")


def _print_metrics(metrics):
    from kerashash import cards

    for row in cards.rows({"name": "", "metrics": metrics}):
        definition = row["definition"] and f"  ({row['definition']})"
        print(f"  {row['metric']:10} {row['value']}{definition}")
