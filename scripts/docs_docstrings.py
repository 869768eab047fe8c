"""Docstrings of kerashash as the documentation's site shows them.

An extension of Griffe, which reads them for mkdocstrings: formulas keep their lines,
and arguments that share one description each have it.
"""

import re
import textwrap
from typing import Any

import griffe

# Sections that Griffe knows, by its own names for them.
_KNOWN = {
    "Args": "Args",
    "Attributes": "Attributes",
    "Example": "Examples",
    "Raises": "Raises",
    "Returns": "Returns",
    "Yields": "Yields",
}
_FORMULAS = ("Formula", "Solves")
_HEADER = re.compile(r"([A-Z][\w -]*)([^:\n]*):")
_SHARED = re.compile(r"    (\w+(?:, \*{0,2}\w+)+): ")


class Docstrings(griffe.Extension):
    """Rewrite docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if not obj.docstring:
            return
        text = obj.docstring.value
        if obj.is_class and "__init__" not in obj.members:
            # The arguments are those of a class that Griffe may not know.
            text = re.sub("^Args:$", "Arguments:", text, flags=re.M)
        obj.docstring.value = rewritten(text)


def rewritten(text: str) -> str:
    """Return the docstring `text` in the words that Griffe and Markdown know."""
    lines, output = text.splitlines(), []
    start = 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and (not lines[end] or lines[end].startswith("    ")):
            end += 1
        block = lines[start + 1 : end]
        if not (block and block[0]):
            # A literal block of reStructuredText is one of Markdown without its sign.
            output += [re.sub(r" ?::$", ":", lines[start]), *block]
        elif header := _HEADER.fullmatch(lines[start]):
            output += _section(header[1], header[2], block)
        else:  # a term and its definition, often a list
            output += [lines[start], "", *_dedented(block), ""]
        start = end
    return "\n".join(output)


def _section(name: str, rest: str, block: list[str]) -> list[str]:
    if name in _KNOWN and not rest:
        if name == "Args":
            block = _one_each(block)
        return [f"{_KNOWN[name]}:", *block]
    body = _dedented(block)
    if name.startswith(_FORMULAS):
        body = ["```text", *body, "```"]
    elif name == "Arguments":
        body = [re.sub(r"^(\*{0,2}\w+): ", r"- `\1`: ", line) for line in body]
    return [f"**{name}{rest}**", "", *body, ""]


def _dedented(block: list[str]) -> list[str]:
    return textwrap.dedent("\n".join(block)).strip("\n").splitlines()


def _one_each(block: list[str]) -> list[str]:
    """Give each of several arguments with one description that description."""
    output, start = [], 0
    while start < len(block):
        end = start + 1
        while end < len(block) and not re.match(r"    \S", block[end]):
            end += 1
        shared = _SHARED.match(block[start])
        names = shared[1].split(", ") if shared else [""]
        for name in names:
            first = block[start]
            if shared:
                first = f"    {name}: {first[shared.end() :]}"
            output += [first, *block[start + 1 : end]]
        start = end
    return output
