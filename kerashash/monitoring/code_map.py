"""Hash codes as points in the plane: t-SNE."""

import os
from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import matplotlib.patheffects
import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer, check_labels, check_number
from kerashash.codes import as_packed, unpack
from kerashash.monitoring import figure_files
from kerashash.monitoring.curves import COLOURS

# Of about the same size. With the colours, 7 x 6 classes differ, each in both from the
# next.
_MARKERS = "o^sDvP"


def code_map(
    codes: npt.ArrayLike,
    labels: npt.ArrayLike,
    class_names: Sequence[str],
    title: str | None = "",
    path: str | os.PathLike[str] | None = None,
    *,
    bits: int | None = None,
    perplexity: float = 30.0,
    seed: int = 0,
) -> matplotlib.figure.Figure:
    """Plot hash codes as points in the plane, with near codes near each other.

    The points are those of t-SNE, which keeps neighbourhoods; the distances between
    groups mean little. The squared distance that it takes is the Hamming distance.
    Thousands of codes take some seconds.

    Args:
        codes: uint8 array ``(n, ceil(bits / 8))``, or array ``(n, bits)`` over
            {-1, +1}; 2 or more, and more than `perplexity` of them.
        labels: integer array ``(n,)`` of class ids, or label rows ``(n, classes)`` with
            one 1 in each.
        class_names: list of str; the names of the classes. Those of which there is no
            code are left out.
        title: str or None; a line above the points.
        path: path of the file to write, whose suffix says the format, or PNG; or None.
        bits: int or None; the code length, required for packed codes.
        perplexity: float; about how many neighbours a code has.
        seed: int; of t-SNE, from 0 to 2**32 - 1.

    Returns:
        `matplotlib.figure.Figure`, with a colour and a mark for each class. Its name
        stands amid its codes too, if no other does already.

    Raises:
        TypeError, ValueError: if an argument is invalid, a code has no class or
            several, or `path` cannot be written.

    Example:
        >>> codes = np.repeat([[1, 1, 1, -1], [-1, -1, 1, 1]], 10, axis=0)
        >>> figure = code_map(codes, [0] * 10 + [1] * 10, ["cat", "dog"], perplexity=5)
        >>> [text.get_text() for text in figure.legends[0].texts]
        ['cat', 'dog']

    Reference:
        L. van der Maaten, G. Hinton, Visualizing Data using t-SNE, JMLR 2008; of codes
        in AdaLabelHash (H.-F. Yang et al., CVPRW 2019), figure 2.
    """
    path = figure_files.check_path(path)
    title = figure_files.title(title)
    class_names = figure_files.check_class_names(class_names)
    # Here, because it takes seconds, and other figures do without.
    from sklearn.manifold import TSNE

    check_number("perplexity", perplexity)
    seed = check_integer("seed", seed, 0, 2**32 - 1)
    packed, bits = as_packed(codes, bits)
    signs = unpack(packed, bits)  # (n, bits)
    rows = check_labels(labels, len(class_names), len(signs), name="labels")
    if not (rows.sum(axis=1) == 1).all():
        raise ValueError(
            "`labels` must give one class to each code. Received a row of "
            f"{int(rows.sum(axis=1).min())} and one of {int(rows.sum(axis=1).max())}."
        )
    if len(signs) < 2:
        raise ValueError(f"`codes` must be 2 or more. Received: {len(signs)}.")
    if not 0 < perplexity < len(signs):
        raise ValueError(
            f"`perplexity` must be above 0 and below the number of codes, {len(signs)}."
            f" Received: {perplexity}."
        )
    # Codes that are all equal, or have one bit, have no two principal components.
    init = "pca" if bits > 1 and (signs != signs[0]).any() else "random"
    embedding = TSNE(perplexity=float(perplexity), init=init, random_state=seed)
    # Squared distances of codes with the entries +-1/2 are their Hamming distances.
    points = embedding.fit_transform(signs.astype(np.float32) / 2)
    classes = [
        (name, points[column > 0])
        for name, column in zip(class_names, rows.T, strict=True)
        if column.any()
    ]
    # The legend has a line for each class.
    size = (7.0, max(5.2, 0.21 * len(classes) + 0.6))
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for number, (name, chosen) in enumerate(classes):
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=11,
            c=COLOURS[number % len(COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            linewidths=0,
            label=name,
        )
    axes.set(xticks=[], yticks=[])  # neither axis has a unit
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_color("0.8")
    if title:
        axes.set_title(title, fontsize=11, **figure_files.AS_IT_IS)
    figure_files.legend(
        figure,
        axes.collections,
        [name for name, _ in classes],
        loc="outside right center",
        frameon=False,
        fontsize=9,
        markerscale=2,
    )
    figure.draw_without_rendering()  # now it is known where the points are
    boxes: list[Any] = []
    for name, chosen in classes:
        text = axes.annotate(
            figure_files.name(name),
            np.median(chosen, axis=0),
            ha="center",
            va="center",
            fontsize=9,
            path_effects=[
                matplotlib.patheffects.withStroke(linewidth=3, foreground="white")
            ],
            **figure_files.AS_IT_IS,
        )
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in boxes):
            text.remove()
        else:
            boxes.append(box)
    figure_files.save(figure, path, dpi=150)
    return figure
