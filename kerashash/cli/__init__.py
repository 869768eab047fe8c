"""The command line, one file for each group of commands.

No file here imports TensorFlow, nor what imports it, before a command needs it.
"""

import os
import platform
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from kerashash.cli import (
    compare,
    data,
    demo,
    doctor,
    encode,
    evaluate,
    plot,
    search,
    serve,
    train,
    zoo,
)
from kerashash.cli.completion import install
from kerashash.cli.printing import lines
from kerashash.cli.quiet import quiet_tensorflow
from kerashash.notes import note

# In the order of a newcomer's use.
_MODULES = (
    *(demo, encode, search, serve, train, evaluate, compare, plot, zoo, data, doctor),
)
# What is raised for arguments, files and packages that are not as they must be.
_MISTAKES = (ValueError, TypeError, RuntimeError, OSError, ImportError)


def _use_onednn() -> None:
    """Let TensorFlow, when it is imported, use oneDNN without AVX-512 too.

    It takes less time to encode. This is for the command line alone, whose process it
    is: in a script, numbers to the last bit would depend on the order of imports.
    """
    if platform.machine() in ("x86_64", "AMD64") and "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _open_streams() -> None:
    """Let the process have all three standard files, whoever has closed them.

    After ``>&-``, the next file that is opened, a store's perhaps, would be taken for
    standard output, and Python has none at all.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, to the end


def _drop_output() -> None:
    """Let what is yet to be written go nowhere: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception) -> int:
    """Say what has gone wrong, in a line; returns the exit status."""
    about = lines(error)
    if isinstance(error, FileNotFoundError) and error.filename is None:
        try:
            os.getcwd()
        except FileNotFoundError:
            about = "The working folder has been removed. Go to another."
    if isinstance(error, _MISTAKES):
        note(f"kerashash: {about}")
        return 2
    note(
        f"kerashash: {type(error).__name__}: {about}\n"
        "This is a mistake in kerashash; `kerashash --debug ...` shows where."
    )
    return 1


def _formatted(message: Any, category: Any, *where: Any, **line: Any) -> str:
    """A warning as text: without the line of code, which is not the user's."""
    return f"kerashash: {message}\n"


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
    _open_streams()
    quiet_tensorflow()
    _use_onednn()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files may be no valid text
            stream.reconfigure(errors="backslashreplace")
    formatted = warnings.formatwarning
    warnings.formatwarning = _formatted
    try:
        status = _commands.main(
            None if arguments is None else [*arguments],
            prog_name="kerashash",
            standalone_mode=False,
        )
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "kerashash"
        note(f"{command}: {error.format_message()} `{command} --help` says more.")
        return 2
    except click.Abort:
        return 130
    finally:
        warnings.formatwarning = formatted
    return status or 0


class _Commands(click.Group):
    """Commands whose errors are one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which they were added."""
        return [*self.commands]

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the arguments; this prints what --help and --version do."""
        debug = "--debug" in args  # which this reads
        try:
            return super().make_context(info_name, args, parent, **extra)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            _drop_output()
            raise click.exceptions.Exit(0) from None
        except Exception as error:
            if debug:
                raise
            raise click.exceptions.Exit(_report(error)) from error

    def invoke(self, ctx: click.Context) -> None:
        """Run the command that has been asked for."""
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:  # who reads has seen enough, as with "| head"
            _drop_output()
        except Exception as error:
            if ctx.params["debug"]:
                raise
            ctx.exit(_report(error))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.option("--debug", is_flag=True, help="Show where errors arise.")
@click.option(
    "--install-completion",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=install,
    help="Let the shell ($SHELL) complete commands and names.",
)
@click.version_option(package_name="kerashash", message="%(prog)s %(version)s")
def _commands(debug: bool) -> None:
    """A model zoo for learning to hash: short codes of images, and their search."""


for _module in _MODULES:
    for _command in _module.COMMANDS:
        _commands.add_command(_command)
