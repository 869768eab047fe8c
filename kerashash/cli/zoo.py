"""kerashash zoo list | info | verify | export."""

import concurrent.futures
import contextlib
import multiprocessing
import os

from kerashash.cli.printing import print_metrics


def add(commands):
    """Add the commands to the parser's."""
    zoo = commands.add_parser("zoo", help="look at and verify trained models")
    actions = zoo.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="names and metrics").set_defaults(run=_list)
    for name, run, text in (
        ("info", _info, "print an entry's card"),
        ("verify", _verify, "recompute an entry's metrics and golden codes"),
        ("export", _export, "copy an entry into a registry of one's own"),
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


def _list(options):
    from kerashash import zoo
    from kerashash.zoo import cards, registry

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


def _info(options):
    from kerashash import zoo
    from kerashash.zoo import cards

    print(cards.markdown(zoo.entry(options.name).card), end="")


def _verify(options):
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
            print_metrics(metrics)


def _export(options):
    from kerashash import zoo

    print(f"Wrote {zoo.export(options.name, options.root).path}")
