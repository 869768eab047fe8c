"""Tables in HTML, for notebooks."""

import html
from collections.abc import Iterable, Sequence

_LONGEST = 500  # characters of a cell


def table(names: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Render a table.

    Args:
        names: sequence of str; the heads of the columns.
        rows: iterable of rows, iterables of values.

    Returns:
        str, HTML.

    Example:
        >>> table(["a"], [[1], ["<b>"]])
        '<table><tr><th>a</th></tr><tr><td>1</td></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """

    def row(tag: str, values: Iterable[object]) -> str:
        cells = (f"<{tag}>{_text(value)}</{tag}>" for value in values)
        return f"<tr>{''.join(cells)}</tr>"

    lines = [row("th", names), *(row("td", values) for values in rows)]
    return f"<table>{''.join(lines)}</table>"


def _text(value: object) -> str:
    text = str(value)
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return html.escape(text)
