"""Pure functions: discrete solvers, losses, similarity, label graphs, baselines."""

from kerashash.maths import (
    communities,
    conditional,
    cosdish,
    discrete,
    entropy,
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
    svr,
)

__all__ = [
    "communities",
    "conditional",
    "cosdish",
    "discrete",
    "entropy",
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
    "svr",
]
__dir__ = __all__.copy  # what completion offers
