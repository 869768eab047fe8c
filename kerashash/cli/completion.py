"""Completion of commands, names and files in the shell."""

import contextlib
import os
import pathlib
import shlex
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from kerashash import files
from kerashash.notes import one_line

# What a shell reads when it starts, and what must be there before the script.
_STARTUP = {
    "bash": ("~/.bashrc", ""),
    "zsh": (
        "~/.zshrc",
        "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n",
    ),
}


def install(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Install completion for the user's shell: a script, and the line that loads it.

    Args:
        ctx: `click.Context` of the program.
        param: `click.Parameter`; not used.
        value: bool; whether to do it.
    """
    if not value or ctx.resilient_parsing:
        return
    shell = pathlib.PurePath(os.environ.get("SHELL", "")).name
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(
            "$SHELL must be bash, zsh or fish to install completion. "
            f"Received: {shell!r}.",
            ctx,
        )
    script = kind(ctx.command, {}, "kerashash", "_KERASHASH_COMPLETE").source()
    if shell == "fish":
        file = _home("XDG_CONFIG_HOME", ".config") / "fish/completions/kerashash.fish"
    else:
        file = _home("XDG_DATA_HOME", ".local/share") / f"kerashash/complete.{shell}"
    added = b""
    if shell in _STARTUP:
        name, before = _STARTUP[shell]
        startup = pathlib.Path(name).expanduser()
        # Bytes: what others have written there may be in any encoding, as may the names
        # of folders.
        content = startup.read_bytes() if startup.exists() else b""
        line = os.fsencode(f"source {shlex.quote(str(file))}")
        if line not in content.splitlines():
            added = b"\n# Completion of kerashash\n%b%b\n" % (before.encode(), line)
    file.parent.mkdir(parents=True, exist_ok=True)
    # The script first: without the line, it does nothing.
    with files.replacing(file) as stream:
        stream.write(script.encode())
    print(f"Wrote {one_line(file)}")
    if added:
        with startup.open("ab") as stream:
            stream.write(added)
        print(f"Added a line to {one_line(startup)}")
    print("New shells complete commands, options and names.")
    ctx.exit()


def _home(variable: str, default: str) -> pathlib.Path:
    return pathlib.Path(os.environ.get(variable) or pathlib.Path.home() / default)


def complete_entry(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of an entry, or the path of a file where there is none."""
    from kerashash.zoo import entries

    with contextlib.suppress(OSError, ValueError):  # of registries
        return _names_or_files(entries.list_entries(), incomplete)
    return _files(incomplete)


def complete_recipe(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a recipe, or the path of a file where there is none."""
    from kerashash.zoo import entries

    with contextlib.suppress(OSError, ValueError):
        names = [*entries.list_entries(), *entries.recipe_only()]
        return _names_or_files(sorted(names), incomplete)
    return _files(incomplete)


def _names_or_files(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    matches = [name for name in names if name.startswith(incomplete)]
    return [CompletionItem(name) for name in matches] or _files(incomplete)


def _files(incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def complete_data(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a data set, or the path of a folder where there is none."""
    from kerashash.cli.data import DATASETS

    return _names_or_files(DATASETS, incomplete)
