"""Pure functions: discrete solvers, losses, similarity, label graphs, baselines."""

from kerashash.maths import (
    discrete,
    itq,
    label_graph,
    losses,
    projections,
    similarity,
)

__all__ = [
    "discrete",
    "itq",
    "label_graph",
    "losses",
    "projections",
    "similarity",
]
__dir__ = __all__.copy  # what completion offers
