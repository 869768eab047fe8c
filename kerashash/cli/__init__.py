"""The command line: kerashash demo | train | serve | zoo, one file for each command."""

import argparse
import os
import sys
from collections.abc import Sequence

from kerashash.cli import demo, serve, train, zoo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: list of str, or None for those of the process.

    Returns:
        int, the exit status: 0, 1 after an error, 130 after an interrupt.

    Example:
        >>> main(["zoo", "info", "adalabel-cifar10-48"])  # doctest: +ELLIPSIS
        # adalabel-cifar10-48
        ...
        0
    """
    # TensorFlow's start-up messages would bury the output.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        print(f"kerashash: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kerashash", description="A model zoo for learning to hash."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (demo, train, serve, zoo):
        command.add(commands)
    return parser
