"""Pure functions: discrete solvers, losses, similarity, label graphs, baselines."""

from kerashash.maths import (
    discrete,
    factorization,
    itq,
    label_graph,
    losses,
    projections,
    similarity,
)

__all__ = [
    "discrete",
    "factorization",
    "itq",
    "label_graph",
    "losses",
    "projections",
    "similarity",
]
__dir__ = __all__.copy  # what completion offers
