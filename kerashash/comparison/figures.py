"""Draw what was measured: values against the bits, and curves of the longest codes."""

import math
import pathlib
import re
import statistics
from typing import Any

from kerashash import files
from kerashash.comparison.markdown import printed_part, printed_value
from kerashash.comparison.tables import Part, Table
from kerashash.comparison.values import Task, by_seed


def draw(
    chosen: Table,
    done: dict[tuple[str, ...], dict[str, float]],
    seeds: int,
    folder: pathlib.Path,
) -> None:
    """Draw the values of each part with several code lengths against these.

    Args:
        chosen: `Table`.
        done: dict of the values of cells by their keys.
        seeds: int; how many seeds count.
        folder: `pathlib.Path` of the folder for the PNG files.
    """
    from kerashash.monitoring.plots import against_bits

    for part in chosen.parts:
        if part.measures or len(part.bits) < 2:
            continue
        paper = printed_part(chosen, part)
        methods = {}
        for row in chosen.rows:
            cells = [by_seed(part, row, n, done, seeds) for n in part.bits]
            if any(cells):
                means = [statistics.fmean(c) if c else math.nan for c in cells]
                spreads = [statistics.stdev(c) if len(c) > 1 else 0.0 for c in cells]
                printed = [printed_value(row, paper, n, None) for n in part.bits]
                methods[row.name] = {
                    "bits": part.bits,
                    "measured": means,
                    "spread": spreads,
                    "printed": printed,
                }
        if methods:
            file = f"{_file_name(chosen, part)}.png"
            label = "accuracy" if part.metric == "SVM accuracy" else "mAP"
            title = f"{chosen.name}, {part.name}"
            with files.replacing_by_name(folder / file, file) as path:
                against_bits(methods, title, label, path)


def draw_curves(
    chosen: Table,
    curves: dict[tuple[str, ...], dict[str, Any]],
    folder: pathlib.Path,
) -> None:
    """Draw the curves of all methods of each part, of its longest codes.

    Args:
        chosen: `Table`.
        curves: dict of curves by the keys of their cells.
        folder: `pathlib.Path` of the folder for the PNG files.
    """
    from kerashash.monitoring.curves import retrieval_curves

    for part in chosen.parts:
        bits = max(part.bits)
        keys = {row.name: Task(part, row, bits, 0).key() for row in chosen.rows}
        drawn = {name: curves[key] for name, key in keys.items() if key in curves}
        if not drawn:
            continue
        title = f"{chosen.name}, {part.name}, {bits} bits"
        for kind in ("pn", "pr"):
            file = f"{_file_name(chosen, part)}-{kind}.png"
            with files.replacing_by_name(folder / file, file) as path:
                retrieval_curves(drawn, kind, path, title=title)


def _file_name(chosen: Table, part: Part) -> str:
    """Of a part; without what a user's own data may have in their name."""
    return f"{chosen.name}-{re.sub('[^a-z0-9]+', '_', part.name.lower())}"
