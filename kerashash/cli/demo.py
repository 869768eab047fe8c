"""The command ``kerashash demo``."""

import pathlib

import click


@click.command("demo")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    metavar="FOLDER",
    default="kerashash-demo",
    help="For logs, model and picture.",
)
def _demo(output: pathlib.Path) -> None:
    """Train, evaluate, save and search on built-in data."""
    from kerashash import demo

    demo.run(output)


COMMANDS = (_demo,)
