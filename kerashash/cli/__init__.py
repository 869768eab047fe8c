"""The command line: kerashash demo | train | zoo, one file a command group."""

import argparse
import os
import sys

from kerashash.cli import demo, train, zoo


def main(arguments=None):
    """Run the command line; returns the exit status."""
    # TensorFlow's start-up notes would bury the output.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        print(f"kerashash: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="kerashash", description="A model zoo for learning to hash."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (demo, train, zoo):
        group.add(commands)
    return parser
