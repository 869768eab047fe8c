"""Pure functions of tensors: discrete solvers, losses, similarity, label graphs."""

from kerashash.maths import discrete, label_graph, losses, similarity

__all__ = ["discrete", "label_graph", "losses", "similarity"]
__dir__ = __all__.copy  # what completion offers
