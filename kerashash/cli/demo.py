"""The command ``kerashash demo``."""

import argparse
import pathlib


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    demo = commands.add_parser(
        "demo", help="train, evaluate, save and rank on a built-in data set, offline"
    )
    demo.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("kerashash-demo"),
        help="folder for logs, the model and a picture (default: ./kerashash-demo)",
    )
    demo.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from kerashash import demo

    demo.run(options.output)
