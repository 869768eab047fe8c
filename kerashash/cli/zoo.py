"""The commands ``kerashash zoo list | info | verify | export``."""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable
from typing import Any

from kerashash.cli.printing import print_metrics


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to the parser."""
    zoo = commands.add_parser("zoo", help="list, verify and copy trained models")
    actions = zoo.add_subparsers(required=True, metavar="ACTION")
    name_help = "name of an entry, or path of its folder"

    actions.add_parser("list", help="names and metrics").set_defaults(run=_list)

    info = actions.add_parser("info", help="print an entry's card")
    info.add_argument("name", help=name_help)
    info.set_defaults(run=_info)

    verify = actions.add_parser(
        "verify", help="recompute an entry's metrics and golden codes"
    )
    verify.add_argument("name", nargs="?", help=name_help)
    verify.add_argument("--all", action="store_true", help="every entry")
    verify.set_defaults(run=_verify)

    export = actions.add_parser(
        "export", help="copy an entry into a registry of your own"
    )
    export.add_argument("name", help=name_help)
    export.add_argument("root", help="folder of the registry to copy to")
    export.set_defaults(run=_export)


def _list(options: argparse.Namespace) -> None:
    from kerashash import zoo
    from kerashash.zoo import cards, registry

    # Only cards are read: no weights are downloaded.
    listed, untrained = registry.list_cards(), zoo.recipe_only()
    width = max(map(len, [*listed, *untrained]))
    for name, card in listed.items():
        metric = card["metrics"][0]
        value = cards.number(metric["value"])
        surrogate = "  (surrogate)" if card.get("surrogate") else ""
        print(f"{name:{width}} {metric['name']} {value}{surrogate}")
    for name in untrained:
        print(f"{name:{width}} recipe only")


def _info(options: argparse.Namespace) -> None:
    from kerashash import zoo
    from kerashash.zoo import cards

    print(cards.markdown(zoo.entry(options.name).card), end="")


def _verify(options: argparse.Namespace) -> None:
    from kerashash import zoo

    if options.all == bool(options.name):
        raise ValueError("`zoo verify` takes the name of one entry, or --all.")
    names = zoo.list() if options.all else [options.name]
    with contextlib.ExitStack() as stack:
        map_names: Callable[..., Iterable[Any]] = map
        if options.all:
            # Building a model keeps one core busy, so entries are verified in parallel.
            # Few processes, because each loads its own TensorFlow into memory; spawned,
            # because TensorFlow does not survive a fork.
            context = multiprocessing.get_context("spawn")
            workers = min(4, os.cpu_count() or 1)
            pool = concurrent.futures.ProcessPoolExecutor(workers, context)
            map_names = stack.enter_context(pool).map
        for name, metrics in zip(names, map_names(zoo.verify, names), strict=True):
            print(f"{name}: files match their sha256, codes match model and metrics")
            print_metrics(metrics)


def _export(options: argparse.Namespace) -> None:
    from kerashash import zoo

    print(f"Wrote {zoo.export(options.name, options.root).path}")
