"""The table of a paper as Markdown, with what was measured beside what is printed."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kerashash.comparison.tables import Part, Row, Table, table
from kerashash.comparison.values import by_seed, in_words


def markdown(
    chosen: Table,
    done: dict[tuple[str, ...], dict[str, float]],
    seeds: int,
    missing: dict[str, str],
    definitions: dict[str, str],
) -> str:
    """Write a table with the measured values beside the printed ones.

    Args:
        chosen: `Table`.
        done: dict of the values of cells by their keys.
        seeds: int; how many seeds count.
        missing: dict of str; why cells have no values, by the name of the part, or
            that of the part, the row and the bits.
        definitions: dict of str; what is measured, by the name of the part.

    Returns:
        str.
    """
    lines = [f"# {chosen.name}: {chosen.title}", "", f"{chosen.source}."]
    if chosen.note:
        lines += ["", chosen.note]
    lines += [
        "",
        "Each column has the paper's number first, if it has the data, then the mean ± "
        "standard deviation measured here.",
    ]
    for part in chosen.parts:
        lines += ["", f"## {part.name}", ""]
        lines += [
            f"Measured: {definitions[part.name]}; {in_words(part.data)}; features "
            f"{in_words(part.features)}; {seeds} seed{'s' * (seeds > 1)}.",
            "",
        ]
        lines += part_rows(chosen, part, done, seeds)
        absent = {row.name: row.absent for row in chosen.rows if row.absent}
        for where, reason in missing.items():
            if where.split(", ")[0] == part.name:
                lines += ["", f"Without values: {where}: {reason}"]
        if absent:
            words = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
            lines += ["", f"Printed only: {words}."]
    return "\n".join(lines) + "\n"


def part_rows(
    chosen: Table,
    part: Part,
    done: dict[tuple[str, ...], dict[str, float]],
    seeds: int,
) -> Iterator[str]:
    """Write the lines of the table of one part.

    Args:
        chosen: `Table`.
        part: `Part` of it.
        done: dict of the values of cells by their keys.
        seeds: int; how many seeds count.

    Yields:
        str; lines of Markdown.
    """
    paper = printed_part(chosen, part)
    columns: list[tuple[int, str | None, str]] = (
        [(part.bits[0], measure, measure) for measure in part.measures]
        if part.measures
        else [(length, None, f"{length} bits") for length in part.bits]
    )
    yield _line(["method", *(title for *_, title in columns)])
    yield _line(["---"] * (1 + len(columns)))
    in_print = paper is not None and any(part.name in r.printed for r in chosen.rows)
    for row in chosen.rows:
        if row.absent and not in_print:
            continue
        cells = [row.name]
        for length, measure, _ in columns:
            values = by_seed(part, row, length, done, seeds, measure)
            # Of label distributions, as many digits as papers print.
            measured = _mean(values, 3 if measure is None else 4)
            printed = _printed(row, paper, length, measure)
            cells.append(f"{printed} / {measured}" if in_print else measured)
        yield _line(cells)


def printed_part(chosen: Table, part: Part) -> Part | None:
    """The part as the paper prints it; None for a user's own data."""
    parts = {paper.name: paper for paper in table(chosen.name).parts}
    paper = parts.get(part.name)
    return paper if paper is not None and paper.data == part.data else None


def _printed(row: Row, part: Part | None, bits: int, measure: str | None) -> str:
    """The paper's number, or a dash."""
    value = printed_value(row, part, bits, measure)
    return "–" if math.isnan(value) else f"{value:g}"


def printed_value(row: Row, part: Part | None, bits: int, measure: str | None) -> float:
    """The paper's number, or NaN."""
    if part is None or (measure is not None and bits != part.bits[0]):
        return math.nan
    known: Sequence[Any] = part.bits if measure is None else part.measures
    sought = bits if measure is None else measure
    values = dict(zip(known, row.printed.get(part.name, []), strict=False))
    return values.get(sought, math.nan)


def _mean(values: list[float], digits: int) -> str:
    """The mean of values and, of several, their standard deviation."""
    if not values:
        return "–"
    mean = statistics.fmean(values)
    if abs(mean) >= 10:
        digits = 1
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
