"""Relations among the codewords of labels: a graph."""

import os
from collections.abc import Sequence

import matplotlib.figure
import matplotlib.lines
import numpy as np
import numpy.typing as npt

from kerashash.codes import check_codes, in_bits
from kerashash.maths.communities import find_communities
from kerashash.monitoring import figure_files
from kerashash.monitoring.curves import COLOURS

_MARKERS = "os^Dv"
# Points of the thickest line, and the share of a place that separates two groups.
_WIDTH, _GAP = 7.0, 0.8
# Inches: the least radius of the circle, and of a name its line and its letters, about.
_RADIUS, _LINE, _LETTER = 2.1, 0.17, 0.085
# Where names begin, in radii.
_NAMES = 1.07


def codeword_graph(
    codewords: npt.ArrayLike,
    class_names: Sequence[str],
    title: str | None = "",
    path: str | os.PathLike[str] | None = None,
) -> matplotlib.figure.Figure:
    """Plot which labels have codewords near each other.

    Labels stand on a circle, group by group, with gaps between the groups. A line joins
    two whose distance is below the mean; the thicker, the nearer. The groups maximise
    the modularity of these lines (`kerashash.maths.communities.find_communities`).

    Args:
        codewords: array ``(classes, bits)`` over {-1, +1}; the signs of the codewords.
        class_names: list of str; the names of the classes.
        title: str or None; a line above the circle.
        path: path of the file to write, whose suffix says the format, or PNG; or None.

    Returns:
        `matplotlib.figure.Figure`; a legend gives the distances of three widths.

    Raises:
        TypeError: if the codewords are no numbers, or the names no list of str.
        ValueError: if the codewords are no codes, fewer than 3, or the names are not as
            many; or if `path` cannot be written.

    Example:
        >>> codewords = [[1, 1, 1, 1], [1, 1, 1, -1], [-1, -1, 1, 1], [-1, -1, 1, -1]]
        >>> figure = codeword_graph(codewords, ["lake", "sea", "cat", "dog"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['lake', 'sea', 'cat', 'dog']

    Reference:
        AdaLabelHash (H.-F. Yang et al., Adaptive Labeling for Deep Learning to Hash,
        CVPRW 2019), figure 3.
    """
    path = figure_files.check_path(path)
    title = figure_files.title(title)
    names = [*map(figure_files.name, figure_files.check_class_names(class_names))]
    signs = check_codes(codewords, name="codewords")
    n = len(signs)
    if n < 3 or len(names) != n:
        raise ValueError(
            "`codewords` must be 3 or more, with a name in `class_names` for each. "
            f"Received: {n} codewords, {len(names)} names."
        )
    distances = (signs[:, None] != signs).sum(axis=-1)  # (n, n)
    pairs = np.triu_indices(n, 1)
    mean = distances[pairs].mean()
    nearness = np.maximum(mean - distances, 0.0)
    np.fill_diagonal(nearness, 0.0)
    groups = find_communities(nearness)
    scale = _WIDTH * min(1.0, 21 / n) / max(nearness.max(), 1e-9)

    order = np.argsort(groups, kind="stable")
    places, all_places = np.arange(n) + _GAP * groups[order], n + _GAP * groups.max()
    angles = np.empty(n)
    # The first is at the top, the others clockwise.
    angles[order] = np.pi / 2 - 2 * np.pi * places / (all_places + _GAP)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)

    # As large as the names need around the circle, and along its radii.
    radius = max(_RADIUS, _LINE * (all_places + _GAP) / (2 * np.pi * _NAMES))
    longest = max(map(len, names))
    side = radius * _NAMES + _LETTER * (longest + 1)
    figure = matplotlib.figure.Figure(
        figsize=(2 * side, 2 * side + 0.8), layout="constrained"
    )
    axes = figure.subplots()
    nearest_last = np.argsort(nearness[pairs], kind="stable")
    for i, j in zip(*(side[nearest_last] for side in pairs), strict=True):
        if nearness[i, j] > 0:
            same = groups[i] == groups[j]
            axes.plot(
                *points[[i, j]].T,
                color=_colour(groups[i]) if same else "0.8",
                linewidth=nearness[i, j] * scale,
                solid_capstyle="round",
                zorder=2 if same else 1,
            )
    for group in range(groups.max() + 1):
        axes.plot(
            *points[groups == group].T,
            linestyle="none",
            color=_colour(group),
            marker=_MARKERS[group % len(_MARKERS)],
            markersize=9,
            markeredgecolor="white",
            zorder=3,
        )
    for name, (x, y), angle in zip(names, points, angles, strict=True):
        # Along the radius, so that no name runs into the next; none upside down.
        left = x < -1e-9
        axes.annotate(
            name,
            (_NAMES * x, _NAMES * y),
            rotation=np.degrees(angle) + 180 * left,
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
            fontsize=10,
            **figure_files.AS_IT_IS,
        )
    limits = (-side / radius, side / radius)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.axis("off")
    if title:
        axes.set_title(title, fontsize=11, **figure_files.AS_IT_IS)
    figure.legend(
        handles=[
            matplotlib.lines.Line2D(
                [],
                [],
                color="0.4",
                linewidth=(mean - distance) * scale,
                label=in_bits(distance),
            )
            for distance in _examples(distances[pairs], mean)
        ],
        title=f"distance of two codewords, below the mean of {mean:.1f} bits",
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
        title_fontsize=9,
    )
    figure_files.save(figure, path, dpi=150)
    return figure


def _colour(group: int) -> str:
    return COLOURS[group % len(COLOURS)]


def _examples(distances: npt.NDArray[np.integer], mean: float) -> list[int]:
    """The smallest distance, the largest with a line, and one between."""
    drawn = np.unique(distances[distances < mean])
    return sorted(
        {int(drawn[i]) for i in (0, len(drawn) // 2, -1)} if len(drawn) else []
    )
