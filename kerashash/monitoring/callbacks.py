"""Keras callbacks for training: what they measure is for TensorBoard, and for logs.

- `monitor`: all that follows, with one call.
- `RetrievalEvaluation`: retrieval, also in the epoch's logs.
- `CodeHealth`: whether the bits of the codes are balanced, independent and used.
- `CodeProjector`: the codes and their images in TensorBoard's embedding projector.
- `RetrievalGrid`: queries and their nearest neighbours, as an image.
- `HParams`: options of method and training, beside what was measured.
- `EpochCodes`: what several of these share, to encode once.
- `Backup`: resumes training after an interruption of any kind.
"""

from kerashash.monitoring.all_callbacks import monitor
from kerashash.monitoring.backup import Backup
from kerashash.monitoring.code_health import CodeHealth
from kerashash.monitoring.code_projector import CodeProjector
from kerashash.monitoring.epoch_codes import EpochCodes
from kerashash.monitoring.hyperparameters import HParams
from kerashash.monitoring.neighbour_grid import RetrievalGrid
from kerashash.monitoring.retrieval_evaluation import RetrievalEvaluation

__all__ = [
    "Backup",
    "CodeHealth",
    "CodeProjector",
    "EpochCodes",
    "HParams",
    "RetrievalEvaluation",
    "RetrievalGrid",
    "monitor",
]
__dir__ = __all__.copy  # what completion offers
