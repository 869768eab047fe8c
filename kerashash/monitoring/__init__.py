"""Monitoring: callbacks for training, figures of retrieval results."""

from kerashash.monitoring import callbacks, plots
from kerashash.monitoring.backup import Backup
from kerashash.monitoring.callbacks import RetrievalEvaluation
from kerashash.monitoring.plots import retrieval_grid

__all__ = ["Backup", "RetrievalEvaluation", "callbacks", "plots", "retrieval_grid"]
__dir__ = __all__.copy  # what completion offers
