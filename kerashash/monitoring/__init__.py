"""What people watch: callbacks of a training, figures of retrieval."""

from kerashash.monitoring import callbacks, plots
from kerashash.monitoring.callbacks import RetrievalEvaluation
from kerashash.monitoring.plots import retrieval_grid

__all__ = ["RetrievalEvaluation", "callbacks", "plots", "retrieval_grid"]
