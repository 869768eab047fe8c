"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

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


def data_options(command: Command) -> Command:
    """Add the options of a data set: its protocol, its draw and its folder."""
    for option in (
        click.option("--data-dir", metavar="FOLDER", help="Of TensorFlow Datasets."),
        click.option("--seed", default=0, help="Which draw of the queries."),
        click.option("--protocol", metavar="NAME", help="Of a data set; its first."),
    ):
        command = option(command)
    return command


def refuse_without_data(*names: str) -> None:
    """Refuse options of the running command that have no effect without ``--data``.

    Args:
        *names: str; the parameters of these options.

    Raises:
        click.UsageError: if the user has given one.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --data.")
