"""The commands ``kerashash zoo list | info | verify | export | push``."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from kerashash.cli.completion import complete_entry
from kerashash.cli.options import json_option
from kerashash.cli.printing import print_json, print_metrics

# Data that come with the installation: their codes are always made again.
_INSTALLED_DATA = "digits"


@click.group("zoo")
def _zoo() -> None:
    """List, verify and copy trained models."""


_name = click.argument("name", metavar="ENTRY", shell_complete=complete_entry)


@_zoo.command("list")
@json_option
def _list(as_json: bool) -> None:
    """List entries with their first metric, and recipes."""
    from kerashash import zoo
    from kerashash.zoo import cards, registry

    # Only cards are read: no weights are downloaded.
    listed, unread = registry.list_cards()
    untrained = zoo.recipe_only()
    if as_json:
        about = ("method", "bits", "data", "surrogate", "metrics")
        rows: list[dict[str, Any]] = [
            {"name": name, "trained": True}
            | {key: card[key] for key in about if key in card}
            for name, card in listed.items()
        ]
        print_json(rows + [{"name": name, "trained": False} for name in untrained])
    else:
        width = max(map(len, [*listed, *untrained]))
        for name, card in listed.items():
            metric = card["metrics"][0]
            value = cards.number(metric["value"])
            surrogate = "  (surrogate)" if card.get("surrogate") else ""
            print(
                f"{name:{width}} {cards.printable(metric['name'])} {value}{surrogate}"
            )
        for name in untrained:
            print(f"{name:{width}} recipe only")
    if unread:
        raise ValueError(
            "All entries in `KERASHASH_ZOO` must have cards that can be read. "
            + " ".join(f"{name}: {why}" for name, why in unread.items())
        )


@_zoo.command("info")
@_name
@json_option
def _info(name: str, as_json: bool) -> None:
    """Print an entry's card.

    ENTRY is the name of an entry, or the path of its folder.
    """
    from kerashash import zoo
    from kerashash.zoo import cards

    card = zoo.entry(name).card
    if as_json:
        print_json(card)
    else:
        print(cards.markdown(card), end="")


@_zoo.command("verify")
@click.argument(
    "name", metavar="[ENTRY]", required=False, shell_complete=complete_entry
)
@click.option("--all", "all_entries", is_flag=True, help="Every entry.")
@click.option(
    "--data-dir",
    metavar="FOLDER",
    help="Encode the data again and compare all codes: the data folder of TensorFlow "
    "Datasets or, for an entry of a folder of images, that folder.",
)
def _verify(name: str | None, all_entries: bool, data_dir: str | None) -> None:
    """Check an entry's files, model, metrics and codes.

    ENTRY is the name of an entry, or the path of its folder.
    """
    import concurrent.futures
    import multiprocessing

    from kerashash import zoo
    from kerashash.zoo import encoding

    if all_entries == bool(name):
        raise ValueError("`zoo verify` takes the name of one entry, or --all.")
    encoding.check_data_dir(data_dir)
    names = [name] if name else zoo.list()
    without_data = []
    with contextlib.ExitStack() as stack:
        map_names: Callable[..., Iterable[Any]] = map
        if all_entries:
            # Building a model keeps one core busy, so entries are verified in parallel.
            # Few processes, because each loads its own TensorFlow into memory; spawned,
            # because TensorFlow does not survive a fork.
            context = multiprocessing.get_context("spawn")
            workers = min(4, os.cpu_count() or 1)
            pool = concurrent.futures.ProcessPoolExecutor(workers, context)
            map_names = stack.enter_context(pool).map
        for entry, metrics in zip(names, map_names(zoo.verify, names), strict=True):
            card = zoo.entry(entry).card
            kind = _kind(card)
            print(
                f"{entry}: the files match their sha256, the model gives the {kind} of "
                f"its golden inputs, and the stored {kind} give the card's metrics."
            )
            print_metrics(metrics)
            if not _compare(entry, card, data_dir, may_lack_data=all_entries):
                without_data.append(entry)
    if without_data:
        raise ValueError(f"`--data-dir` must hold the data of {without_data} as well.")


def _compare(
    name: str, card: Mapping[str, Any], data_dir: str | None, may_lack_data: bool
) -> bool:
    """Make an entry's codes again, if its data are at hand or expected to be, and print
    how many are equal; say whether all was done that was asked for."""
    from kerashash import data, zoo

    kind, of_entry = _kind(card), card.get("data", {}).get("name")
    if data_dir is None and of_entry != _INSTALLED_DATA:
        print(f"  The {kind} were not made again from the data; --data-dir does it.")
        return True
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is a surrogate")  # `verify` has said so
        try:
            agreements = zoo.compare_codes(name, data_dir=data_dir)
        except data.DatasetUnavailableError as error:
            if not may_lack_data:
                raise
            print(f"  The {kind} were not made again from the data: {error}")
            return False
    for split, agreement in agreements.items():
        print(f"  {split} {kind} made again: {agreement}")
    return True


def _kind(card: Mapping[str, Any]) -> str:
    """What an entry stores."""
    return "codes" if "bits" in card else "distributions"


@_zoo.command("export")
@_name
@click.argument("root", metavar="FOLDER")
def _export(name: str, root: str) -> None:
    """Copy an entry into a registry of your own, a folder.

    ENTRY is the name of an entry, or the path of its folder.
    """
    from kerashash import zoo

    print(f"Wrote {zoo.export(name, root).path}")


@_zoo.command("push")
@_name
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make a new repository private.")
def _push(name: str, repository: str, private: bool) -> None:
    """Upload an entry to the Hugging Face Hub.

    ENTRY is the name of an entry, or the path of its folder. The token is that of
    HF_TOKEN, or of `hf auth login`.
    """
    from kerashash import zoo

    print(f"Wrote {zoo.push(name, repository, private)}")


COMMANDS = (_zoo,)
