"""Printed and measured values against the code length, one panel a method."""

import os
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import matplotlib.lines
import matplotlib.ticker
import numpy as np
import numpy.typing as npt

from kerashash.monitoring import figure_files
from kerashash.monitoring.curves import COLOURS

# The dashes and the open marks tell the two apart without colours.
_MEASURED: dict[str, Any] = {"color": COLOURS[0], "linestyle": "-", "marker": "o"}
_PRINTED: dict[str, Any] = {
    "color": COLOURS[1],
    "linestyle": "--",
    "marker": "s",
    "markerfacecolor": "none",
}
_COLUMNS = 4
# Letters for which there is room above a panel.
_WIDTH = 24
_RULES = {
    "bits": "above 0 and finite",
    "measured": "finite or NaN",
    "printed": "finite or NaN",
    "spread": "at least 0 and finite, or NaN",
}


def against_bits(
    methods: Mapping[str, Mapping[str, npt.ArrayLike]],
    title: str | None = "",
    label: str = "mean average precision",
    path: str | os.PathLike[str] | None = None,
) -> matplotlib.figure.Figure:
    """Plot measured values, and those that a paper prints, against the code length.

    Args:
        methods: dict by name of dicts with float arrays ``(n,)``: ``bits``, and one or
            both of ``measured`` and ``printed``, where NaN is left out; with
            ``measured`` also ``spread``, the standard deviation over seeds.
        title: str or None; a line above the panels.
        label: str; what the values are.
        path: path of the file to write, whose suffix says the format, or PNG; or None.

    Returns:
        `matplotlib.figure.Figure`, with a panel for each method, on equal axes.

    Raises:
        TypeError: if `methods` is no dict of dicts, or an array holds no numbers.
        ValueError: if there are no methods or no values, arrays do not match, or a
            value is infinite, or below 0 in ``bits`` or ``spread``; or if `path` cannot
            be written.

    Example:
        >>> dpsh = {"bits": [12, 48], "measured": [0.6, 0.7], "printed": [0.71, 0.76]}
        >>> against_bits({"DPSH": dpsh}).axes[0].get_title()
        'DPSH'
    """
    figure_files.check_dicts("methods", methods)
    path = figure_files.check_path(path)
    title = figure_files.title(title)
    figure_files.check_text("label", label)
    methods = {
        name: {
            key: figure_files.check_values(
                f"methods[{name!r}][{key!r}]", values[key], rule
            )
            for key, rule in _RULES.items()
            if key in values
        }
        for name, values in methods.items()
    }
    columns = min(_COLUMNS, len(methods))
    rows = -(-len(methods) // columns)
    figure = matplotlib.figure.Figure(
        figsize=(max(2.3 * columns, 5.0), 1.9 * rows + 0.9), layout="constrained"
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for name, values in methods.items():
        shapes = {np.shape(array) for array in values.values()}
        known = {"printed", "measured"} & {*values}
        is_one = len(shapes) == 1 and len(shapes.pop()) == 1
        if "bits" not in values or not known or not is_one:
            raise ValueError(
                "`methods` must hold `bits`, and `measured` or `printed` of its shape. "
                f"Received in {name!r}: "
                f"{ {key: np.shape(array) for key, array in values.items()} }."
            )
    lengths = sorted({float(n) for v in methods.values() for n in np.ravel(v["bits"])})
    if not lengths:
        raise ValueError(
            "`methods` must hold one or more values of `bits`. Received: none."
        )
    for axis, (name, values) in zip(panels.flat, methods.items(), strict=False):
        bits = np.asarray(values["bits"], float)
        for key, look in (("printed", _PRINTED), ("measured", _MEASURED)):
            if key not in values:
                continue
            y = np.asarray(values[key], float)
            there = ~np.isnan(y)
            spread = np.zeros(len(y))
            if key == "measured" and "spread" in values:
                spread = np.nan_to_num(np.asarray(values["spread"], float))
            axis.errorbar(
                bits[there], y[there], spread[there], **look, markersize=4, capsize=2
            )
        lines = [figure_files.name(line, _WIDTH) for line in str(name).split("\n", 1)]
        axis.set_title("\n".join(lines), fontsize=10, **figure_files.AS_IT_IS)
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in panels.flat[len(methods) :]:
        axis.remove()
    first = panels[0, 0]
    first.set_xticks(_apart(lengths))  # of all panels
    first.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    # The lowest panel of a column may be one that was removed.
    for axis in panels.flat[max(len(methods) - columns, 0) : len(methods)]:
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("bits", fontsize=9)
    figure.supylabel(figure_files.name(label), fontsize=10, **figure_files.AS_IT_IS)
    if title:
        figure.suptitle(title, fontsize=11, **figure_files.AS_IT_IS)
    handles = [
        matplotlib.lines.Line2D([], [], label=name, **look)
        for name, look in (
            ("measured here", _MEASURED),
            ("printed in the paper", _PRINTED),
        )
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=2,
        fontsize=8,
        frameon=False,
    )
    figure_files.save(figure, path, dpi=150)
    return figure


def _apart(lengths: list[float]) -> list[float]:
    """Some of the lengths, in ascending order, whose numbers do not touch."""
    least = (lengths[-1] - lengths[0]) / 8
    ticks = [lengths[0]]
    for length in lengths[1:]:
        if length - ticks[-1] >= least:
            ticks.append(length)
    return ticks
