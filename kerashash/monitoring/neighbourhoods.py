"""How right pairwise labels are that neighbourhoods give."""

import os
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import matplotlib.ticker
import numpy as np
import numpy.typing as npt

from kerashash.monitoring import figure_files
from kerashash.monitoring.curves import COLOURS

_RULES = {"k": "finite", "similar": "above 0 and finite", "precision": "in [0, 1]"}
_STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))


def neighbourhood_precision(
    curves: Mapping[str, Mapping[str, npt.ArrayLike]],
    title: str | None = "",
    path: str | os.PathLike[str] | None = None,
) -> matplotlib.figure.Figure:
    """Plot the precision of pairwise labels against how many images are similar.

    Args:
        curves: dict by name of dicts with arrays ``(n,)``: float ``similar`` and
            ``precision``, as `kerashash.evaluation.pairwise_label_precision` returns
            them; and ``k``, int, what varies along the curve and stands beside its
            points.
        title: str or None; a line above the curves.
        path: path of the file to write, whose suffix says the format, or PNG; or None.

    Returns:
        `matplotlib.figure.Figure`, with the names below the curves.

    Raises:
        TypeError: if `curves` is no dict of dicts, or an array holds no numbers.
        ValueError: if there are no curves, one lacks an array, two do not match, or a
            value is out of range; or if `path` cannot be written.

    Example:
        >>> nearest = {"k": [5, 10], "similar": [7.0, 14.0], "precision": [0.9, 0.8]}
        >>> figure = neighbourhood_precision({"nearest": nearest})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['5', '10']

    Reference:
        DDH (J. Song et al., Deep Discrete Hashing with Self-supervised Pairwise Labels,
        ECML PKDD 2017), figure 2.
    """
    figure_files.check_dicts("curves", curves)
    path = figure_files.check_path(path)
    title = figure_files.title(title)
    curves = {name: _checked(name, curve) for name, curve in curves.items()}
    figure = matplotlib.figure.Figure(figsize=(6, 4.6), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        style, mark = _STYLES[number % len(_STYLES)]
        colour = COLOURS[number % len(COLOURS)]
        k, x, y = (np.asarray(curve[key]) for key in _RULES)
        axes.plot(
            x,
            y,
            linestyle=style,
            marker=mark,
            markersize=5,
            color=colour,
            label=str(name),
        )
        others = [other for key, other in curves.items() if key != name]
        for value, point in zip(k, zip(x, y, strict=True), strict=True):
            # Away from the other curves.
            above = not any(_is_below(point, other, number > 0) for other in others)
            axes.annotate(
                f"{value:g}",
                point,
                (4, 4) if above else (-4, -4),
                textcoords="offset points",
                ha="left" if above else "right",
                va="bottom" if above else "top",
                fontsize=8,
                color=colour,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.margins(0.06, 0.12)
    axes.set_xlabel("images that count as similar to an image, mean")
    axes.set_ylabel("precision of the labels")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=11, **figure_files.AS_IT_IS)
    figure_files.legend(
        figure,
        axes.lines,
        curves,
        loc="outside lower center",
        ncols=1,
        fontsize=9,
        frameon=False,
    )
    figure_files.save(figure, path, dpi=150)
    return figure


def _checked(
    name: str, curve: Mapping[str, npt.ArrayLike]
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a curve, of one shape."""
    arrays = {
        key: figure_files.check_values(f"curves[{name!r}][{key!r}]", curve[key], rule)
        for key, rule in _RULES.items()
        if key in curve
    }
    shapes = {key: array.shape for key, array in arrays.items()}
    n = arrays["k"].size if "k" in arrays else 0
    if n == 0 or shapes != dict.fromkeys(_RULES, (n,)):
        raise ValueError(
            f"`curves` must hold the arrays {[*_RULES]} of one shape (n,), n at least "
            f"1. Received in {name!r}: {shapes}."
        )
    return arrays


def _is_below(
    point: tuple[float, float], curve: Mapping[str, npt.ArrayLike], or_on: bool
) -> bool:
    """Whether a point is below a curve, or on it, where the curve is at all."""
    x, y = (np.asarray(curve[key]) for key in ("similar", "precision"))
    if not x.min() <= point[0] <= x.max():
        return False
    order = np.argsort(x)
    height = np.interp(np.log(point[0]), np.log(x[order]), y[order])
    return bool(point[1] <= height if or_on else point[1] < height - 1e-9)
