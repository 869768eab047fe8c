"""Retrieval curves of several models in one figure."""

import itertools
import os
from collections.abc import Mapping

import matplotlib.figure
import matplotlib.ticker
import numpy.typing as npt

from kerashash.checks import check_choices
from kerashash.monitoring import figure_files

# Colours that people with any kind of colour blindness tell apart (Okabe and Ito, Color
# Universal Design, 2008), without yellow, which is pale on white. With the line styles,
# 7 x 4 curves differ, and where two coincide both are seen.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_STYLES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", ":", "-.")
_AXES = {
    "pr": ("recall_at", "Recall", "Precision"),
    "pn": ("ranks", "N, the number of retrieved items", "Precision at N"),
}
_SCALES = ("log", "linear")
_RULES = {
    "recall_at": "in [0, 1]",
    "ranks": "at least 1 and finite",
    "precision_at": "in [0, 1]",
}


def retrieval_curves(
    curves: Mapping[str, Mapping[str, npt.ArrayLike]],
    kind: str = "pr",
    path: str | os.PathLike[str] | None = None,
    *,
    scale: str = "log",
    title: str | None = "",
) -> matplotlib.figure.Figure:
    """Plot precision against recall, or against the rank, of several models.

    Args:
        curves: dict by name of dicts with float arrays ``(n,)``: ``precision_at`` and,
            for "pr", ``recall_at``, as `kerashash.evaluation.precision_recall` returns
            them; for "pn" ``ranks``, what that function took as `at`. Precision and
            recall are in [0, 1], ranks at least 1.
        kind: str; "pr", precision and recall, or "pn", precision at N.
        path: path of the file to write, whose suffix says the format, or PNG; or None.
        scale: str; of the ranks, for "pn": "log", or "linear", for the first hundreds
            of them. The axis of precision is then as long as the curves are high.
        title: str or None; a line above the curves.

    Returns:
        `matplotlib.figure.Figure`, with the names below the curves.

    Raises:
        TypeError: if `curves` is no dict of dicts, or an array holds no numbers.
        ValueError: if there are no curves, one lacks an array, two do not match, or a
            value is out of range; or if `path` cannot be written.

    Example:
        >>> curve = {"precision_at": [1.0, 0.5], "recall_at": [0.5, 1.0]}
        >>> retrieval_curves({"a-b-12": curve}).axes[0].get_xlabel()
        'Recall'
    """
    check_choices({"kind": [*_AXES], "scale": _SCALES}, kind=kind, scale=scale)
    key, x_label, y_label = _AXES[kind]
    figure_files.check_dicts("curves", curves)
    path = figure_files.check_path(path)
    title = figure_files.title(title)
    figure = matplotlib.figure.Figure(
        figsize=(6, 4.2 + 0.2 * -(-len(curves) // 2)), layout="constrained"
    )
    axes = figure.subplots()
    looks = zip(itertools.cycle(COLOURS), itertools.cycle(_STYLES), strict=True)
    for (name, curve), (colour, style) in zip(curves.items(), looks, strict=False):
        missing = [array for array in (key, "precision_at") if array not in curve]
        if missing:
            raise ValueError(
                f"`curves` must hold the arrays of kind={kind!r}. Missing in {name!r}: "
                f"{missing}."
            )
        x, y = (
            figure_files.check_values(f"curves[{name!r}][{k!r}]", curve[k], _RULES[k])
            for k in (key, "precision_at")
        )
        if x.ndim != 1 or x.shape != y.shape or not x.size:
            raise ValueError(
                "`curves` must hold arrays of one shape (n,), n at least 1. "
                f"Received in {name!r}: {x.shape} and {y.shape}."
            )
        axes.plot(x, y, linestyle=style, color=colour, linewidth=1.8, label=str(name))
    if kind == "pn":
        axes.set_xscale(scale)
        axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
        if scale == "linear":  # there is no rank 1.5
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        else:
            axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    else:
        axes.set_xlim(0, 1)
    if kind == "pr" or scale == "log":
        axes.set_ylim(0, 1.02)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if title:
        axes.set_title(title, fontsize=11, **figure_files.AS_IT_IS)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure_files.legend(
        figure,
        axes.lines,
        curves,
        loc="outside lower center",
        ncols=2,
        fontsize=8,
        frameon=False,
    )
    figure_files.save(figure, path, dpi=150)
    return figure
