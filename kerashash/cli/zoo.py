"""The commands ``kerashash zoo list | info | verify | export``."""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from kerashash.cli.printing import print_metrics

# Data that come with the installation: their codes are always made again.
_INSTALLED_DATA = "digits"


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
        "verify",
        help="check an entry's files, model and metrics; with its data, all codes",
    )
    verify.add_argument("name", nargs="?", help=name_help)
    verify.add_argument("--all", action="store_true", help="every entry")
    verify.add_argument(
        "--data-dir",
        help="encode the data again and compare all codes: the data folder of "
        "TensorFlow Datasets or, for an entry of a folder of images, that folder",
    )
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
    without_data = []
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
            print(
                f"{name}: the files match their sha256, the model gives the codes of "
                "its golden inputs, and the stored codes give the card's metrics."
            )
            print_metrics(metrics)
            if not _compare(name, options.data_dir, may_lack_data=options.all):
                without_data.append(name)
    if without_data:
        raise ValueError(f"`--data-dir` must hold the data of {without_data} as well.")


def _compare(name: str, data_dir: str | None, may_lack_data: bool) -> bool:
    """Make an entry's codes again, if its data are at hand or expected to be, and print
    how many are equal; say whether all was done that was asked for."""
    from kerashash import data, zoo

    of_entry = zoo.entry(name).card.get("data", {}).get("name")
    if data_dir is None and of_entry != _INSTALLED_DATA:
        print("  The codes were not made again from the data; --data-dir does it.")
        return True
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is a surrogate")  # `verify` has said so
        try:
            agreements = zoo.compare_codes(name, data_dir=data_dir)
        except data.DatasetUnavailableError as error:
            if not may_lack_data:
                raise
            print(f"  The codes were not made again from the data: {error}")
            return False
    for split, agreement in agreements.items():
        print(
            f"  {split} codes made again: {agreement.equal:,} of {agreement.codes:,} "
            f"equal; {agreement.flipped_bits:.2%} of their bits differ"
        )
    return True


def _export(options: argparse.Namespace) -> None:
    from kerashash import zoo

    print(f"Wrote {zoo.export(options.name, options.root).path}")
