"""Keras callbacks for training: `Backup`, and `RetrievalEvaluation` for retrieval."""

import os
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import evaluation
from kerashash.checks import check_integer
from kerashash.codes import bit_imbalance
from kerashash.data import RetrievalData
from kerashash.evaluation.choices import check_at, metric_name
from kerashash.methods import HashModel
from kerashash.methods.replicas import is_chief
from kerashash.monitoring.backup import Backup

__all__ = ["Backup", "RetrievalEvaluation"]
__dir__ = __all__.copy  # what completion offers


class RetrievalEvaluation(keras.callbacks.Callback):
    """Measures retrieval after each epoch and logs it to TensorBoard.

    The values are also added to the epoch's logs, for `keras.callbacks.EarlyStopping`,
    `keras.callbacks.ModelCheckpoint` and `keras.callbacks.CSVLogger`, which must come
    later in the list of callbacks:

    - ``mAP@ALL`` or ``mAP@R``: as `kerashash.evaluate` defines it by default;
    - ``bit_imbalance``: absolute mean of a bit over the database's codes in {-1, +1},
      averaged over bits: 0 if each bit halves the database, 1 if all codes are equal;
    - ``bit_flips``: share of the database's bits that changed since the last
      evaluation or, in the first, since training began;
    - ``quantization_error``: mean squared difference between the elements of the
      queries' continuous codes and of their hash codes.

    What stops the training or chooses an epoch should not have seen the queries: load
    the data with ``validation=0.1``, say, and pass ``data.for_validation()``, whose
    queries are training images that have been set apart.

    Each evaluation encodes all queries and the whole database: on large data sets
    evaluate less often with `every`. The database is also encoded once before training.
    One callback serves several models, one after the other.

    Args:
        data: `kerashash.data.RetrievalData`.
        log_dir: path of a folder for TensorBoard, or None. Of several processes that
            train one model, the first writes. Values are written to
            ``log_dir/retrieval``, next to the ``train`` folder of
            `keras.callbacks.TensorBoard`.
        at: int or None; R of mAP@R. None ranks the whole database.
        every: int, at least 1. Epochs `every`, 2 `every` and so on are evaluated, and
            the first epoch of a `fit`, so that all values are known from then on.
        batch_size: int, at least 1; number of inputs encoded at a time.

    Raises:
        TypeError, ValueError: if an argument is out of range or, when training begins,
            if the model does not take the data's inputs.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits", validation=0.1)
        >>> callbacks = [
        ...     RetrievalEvaluation(data.for_validation(), log_dir="logs", every=5),
        ...     keras.callbacks.EarlyStopping("mAP@ALL", mode="max", patience=5),
        ... ]
    """

    def __init__(
        self,
        data: RetrievalData,
        log_dir: str | os.PathLike[str] | None = None,
        at: int | None = None,
        every: int = 1,
        batch_size: int = 128,
    ) -> None:
        super().__init__()
        if not isinstance(data, RetrievalData):
            raise TypeError(
                f"`data` must be a RetrievalData. Received type: {type(data).__name__}."
            )
        if not data.num_query:
            raise ValueError("`data` must have queries. Received: none.")
        check_at(at, data.num_database)
        self.data = data
        self.log_dir = log_dir
        self.at = at
        self.every = check_integer("every", every)
        self.batch_size = check_integer("batch_size", batch_size)
        self._is_first_epoch = True
        self._writer: Any = None
        self._previous_codes: npt.NDArray[np.int8] | None = None

    def set_model(self, model: keras.Model) -> None:
        """Begin to watch a model; Keras calls this in `fit`.

        Args:
            model: `HashModel`.
        """
        if model is not self.model:
            self._previous_codes = None
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not isinstance(self.model, HashModel):
            raise TypeError(
                "`RetrievalEvaluation` measures a HashModel. Received: "
                f"{type(self.model).__name__}."
            )
        self._is_first_epoch = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Not `on_train_begin`: later callbacks may restore weights there.
        if self._previous_codes is None:
            self._previous_codes = self._database_codes()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        is_first, self._is_first_epoch = self._is_first_epoch, False
        if (epoch + 1) % self.every and not is_first:
            return
        values = self._measure()
        if logs is not None:
            logs.update(values)
        if self.log_dir is not None and is_chief(self.model.distribute_strategy):
            if self._writer is None:
                path = os.path.join(os.fspath(self.log_dir), "retrieval")
                self._writer = tf.summary.create_file_writer(path)
            with self._writer.as_default():
                for name, value in values.items():
                    tf.summary.scalar(f"retrieval/{name}", value, step=epoch)
            self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _measure(self) -> dict[str, float]:
        model, data = self.model, self.data
        # For the quantization error; the signs are the hash codes, so that the queries
        # are encoded once.
        u = model.continuous_codes(data.query, self.batch_size, verbose=0)
        codes = self._database_codes()
        values = {
            metric_name(self.at): evaluation.mean_average_precision(
                np.where(u >= 0, np.int8(1), np.int8(-1)),
                data.query_labels,
                codes,
                data.database_labels,
                at=self.at,
            ),
            "bit_imbalance": bit_imbalance(codes),
            "quantization_error": float(np.mean((np.abs(u) - 1.0) ** 2)),
            "bit_flips": float(np.mean(self._previous_codes != codes)),
        }
        self._previous_codes = codes
        return values

    def _database_codes(self) -> npt.NDArray[np.int8]:
        """The database's codes: ``(n, bits)`` over {-1, +1}."""
        return self.model.encode(
            self.data.database, self.batch_size, packed=False, verbose=0
        )
