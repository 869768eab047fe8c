"""What the documentation's site has beyond the folder docs, for `mkdocs build`.

- Pages that lie elsewhere: the changelog, how to upgrade, how to contribute.
- The API reference, a page for each room of the package, from the public names.
- The command line, from its own help.
- The files of the repository that pages link to, such as tables of results: a link
  works on the site as it does in the repository.
"""

import collections
import os
import pathlib
import posixpath
import re
from typing import Any

import click
import griffe
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from kerashash import cli

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NAMES = ROOT / "tests" / "data" / "public_names.txt"
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "UPGRADING.md": "upgrading.md",
}
_LOADED = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=.?https?://[^>]*>"
)
_LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add what lies outside the folder docs."""
    for source, uri in ELSEWHERE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    for page in [*files.documentation_pages()]:
        for target in _targets(page):
            uri = _uri(target)
            if target.is_file() and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(target)))
    for room, text in api_pages().items():
        files.append(File.generated(config, f"api/{room}.md", content=text))
    files.append(File.generated(config, "command-line.md", content=command_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at the places that their targets have on the site."""
    if 'class="sortable"' in markdown:
        page.meta["hide"] = ["toc"]  # room for a wide table
    if page.file.generated_by and page.file.abs_src_path is None:
        return markdown
    folder = pathlib.Path(page.file.abs_src_path).parent

    def moved(match: re.Match[str]) -> str:
        target = _resolve(folder, match[2])
        if not target.exists():
            return match[0]  # MkDocs says so
        uri = posixpath.relpath(_uri(target), posixpath.dirname(page.file.src_uri))
        return f"{match[1]}{uri}{match[3] or ''}{match[4]}"

    return _LINK.sub(moved, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that loads something from another server."""
    if loaded := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads {loaded[0]} from elsewhere.")
    return output


def _targets(page: File) -> list[pathlib.Path]:
    folder = pathlib.Path(page.abs_src_path).parent
    return [
        _resolve(folder, link) for _, link, *_ in _LINK.findall(page.content_string)
    ]


def _resolve(folder: pathlib.Path, link: str) -> pathlib.Path:
    return pathlib.Path(os.path.normpath(folder / link))


def _uri(target: pathlib.Path) -> str:
    """Where a file of the repository is on the site."""
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS).as_posix()
    name = target.relative_to(ROOT).as_posix()
    return ELSEWHERE.get(name, f"files/{name}")


def command_page() -> str:
    """Make the page of the command line."""
    lines = [
        "# Command line",
        "",
        "The exit status is 0; 2 after a mistake of the user, such as a missing file;",
        "1 after another error; 130 after an interrupt.",
        "",
    ]
    context = click.Context(cli._commands, info_name="kerashash", terminal_width=78)
    _add_help(lines, cli._commands, context)
    return "\n".join(lines)


def _add_help(lines: list[str], command: click.Command, context: click.Context) -> None:
    help_text = command.get_help(context)
    lines += [f"## {context.command_path}", "", "```text", help_text, "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            inner_context = click.Context(inner, parent=context, info_name=name)
            _add_help(lines, inner, inner_context)


def api_pages() -> dict[str, str]:
    """Make the pages of the API reference, by room; each object is on one of them."""
    package = griffe.load("kerashash", search_paths=[ROOT], resolve_aliases=True)
    names = collections.defaultdict(list)  # of each object
    modules = {}
    for name in NAMES.read_text().split():
        found = package[name.removeprefix("kerashash.")]
        found = found.final_target if found.is_alias else found
        if found.is_module:
            modules[found.path] = found
        else:
            names[found.canonical_path].append(name)
    shown = {}  # where an object is shown, by the names that it has elsewhere
    pages = collections.defaultdict(list)
    for path, public in names.items():
        room = path.split(".")[1]
        # In its own room, under the shortest name.
        name = min(public, key=lambda n: (n.split(".")[1] != room, n.count("."), n))
        if name.count(".") == 1 and len(public) > 1:
            name = min((n for n in public if n.count(".") > 1), key=len)
        shown |= {other: name for other in public if other != name}
        parts = name.split(".")
        pages[parts[1] if len(parts) > 2 else "kerashash"].append(name)
    texts = {}
    for room in sorted(pages, key=lambda room: (room != "kerashash", room)):
        texts[room] = _api_page(room, pages[room], modules, shown)
    return texts


def _api_page(
    room: str, names: list[str], modules: dict[str, Any], shown: dict[str, str]
) -> str:
    front = room == "kerashash"
    title = "kerashash" if front else f"kerashash.{room}"
    lines = [f"# {title}", ""]
    parents = [title]
    if front:
        lines += ["Names of everyday use. Each loads on first use.", ""]
    else:
        inside = [name for name in shown if name.startswith(f"{title}.")]
        parents = sorted({name.rpartition(".")[0] for name in names + inside} | {title})
    for parent in parents:
        if parent != title:
            lines += [f"## {parent}", ""]
        if parent in modules and not front:
            lines += [_directive(parent, "show_root_heading: false", "members: false")]
        others = {
            name: place
            for name, place in sorted(shown.items())
            if name.rpartition(".")[0] == parent
        }
        if others:
            lines += ["| also here | described at |", "|---|---|"]
            lines += [f"| `{n}` | [{p}][{p}] |" for n, p in others.items()] + [""]
        for name in names:
            if name.rpartition(".")[0] == parent:
                level = 2 if parent == title else 3
                lines += [_directive(name, f"heading_level: {level}")]
    return "\n".join(lines)


def _directive(name: str, *options: str) -> str:
    lines = "".join(f"      {option}\n" for option in options)
    return f"::: {name}\n    options:\n{lines}"
