"""The command line, one file for each group of commands."""

import argparse
import os
import sys
from collections.abc import Sequence

from kerashash.cli import demo, encode, search, serve, train, zoo
from kerashash.cli.quiet import quiet_tensorflow

# What is raised for arguments, files and packages that are not as they must be.
_MISTAKES = (ValueError, TypeError, RuntimeError, OSError, ImportError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: list of str, or None for those of the process.

    Returns:
        int, the exit status: 0; 2 after a mistake of the user, such as a file that is
        not there; 1 after another error; 130 after an interrupt.

    Example:
        >>> main(["zoo", "info", "adalabel-cifar10-48"])  # doctest: +ELLIPSIS
        # adalabel-cifar10-48
        ...
        0
    """
    quiet_tensorflow()
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who reads has seen enough, as with "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            raise
        if isinstance(error, _MISTAKES):
            print(f"kerashash: {error}", file=sys.stderr)
            return 2
        print(
            f"kerashash: {type(error).__name__}: {error}\n"
            "This is a mistake in kerashash; `kerashash --debug ...` shows where.",
            file=sys.stderr,
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kerashash", description="A model zoo for learning to hash."
    )
    parser.add_argument("--debug", action="store_true", help="show where errors arise")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (demo, encode, search, train, serve, zoo):
        command.add(commands)
    return parser
