"""Monitoring: callbacks for training, figures of retrieval results."""

from kerashash.monitoring import callbacks, plots
from kerashash.monitoring.callbacks import (
    Backup,
    CodeHealth,
    CodeProjector,
    EpochCodes,
    HParams,
    RetrievalEvaluation,
    RetrievalGrid,
    monitor,
)
from kerashash.monitoring.plots import retrieval_grid

__all__ = [
    "Backup",
    "CodeHealth",
    "CodeProjector",
    "EpochCodes",
    "HParams",
    "RetrievalEvaluation",
    "RetrievalGrid",
    "callbacks",
    "monitor",
    "plots",
    "retrieval_grid",
]
__dir__ = __all__.copy  # what completion offers
