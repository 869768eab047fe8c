"""Pure functions: discrete solvers, losses, similarity, label graphs, baselines."""

from kerashash.maths import (
    cosdish,
    discrete,
    factorization,
    itq,
    kernels,
    ksh,
    label_graph,
    lfh,
    losses,
    projections,
    sdh,
    similarity,
    spectral,
    spherical,
)

__all__ = [
    "cosdish",
    "discrete",
    "factorization",
    "itq",
    "kernels",
    "ksh",
    "label_graph",
    "lfh",
    "losses",
    "projections",
    "sdh",
    "similarity",
    "spectral",
    "spherical",
]
__dir__ = __all__.copy  # what completion offers
