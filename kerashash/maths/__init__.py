"""Pure functions of tensors: losses, discrete solvers, similarity, label graphs."""

from kerashash.maths import discrete, label_graph, losses, similarity

__all__ = ["discrete", "label_graph", "losses", "similarity"]
