"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kerashash.cli.completion import complete_entry

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document."
)
where_option = click.option(
    "--where",
    metavar="SQL",
    help='Condition on the metadata, such as "year >= 2025".',
)


def model_option(text: str) -> Callable[[Command], Command]:
    """Make the option ``--model``: a name of the zoo, or a file.

    Args:
        text: str; its help.

    Returns:
        A decorator of a command.
    """
    return click.option(
        "--model", metavar="MODEL", help=text, shell_complete=complete_entry
    )
