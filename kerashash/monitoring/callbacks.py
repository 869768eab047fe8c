"""Keras callbacks that watch retrieval and the health of codes."""

import os

import keras
import numpy as np
import tensorflow as tf

from kerashash import evaluation
from kerashash.codes import bit_imbalance


class RetrievalEvaluation(keras.callbacks.Callback):
    """Measures retrieval after each epoch and writes it to TensorBoard.

    Values, also added to the epoch's logs, so that `keras.callbacks.EarlyStopping`
    and `keras.callbacks.ModelCheckpoint` can monitor them:

    - ``mAP@ALL`` or ``mAP@R``: by kerashash's own definition (`evaluation`);
    - ``bit_imbalance``: the absolute mean of a bit over the database, averaged over
      bits: 0 if each bit halves the database, 1 if all codes are equal;
    - ``bit_flips``: share of the database's bits that changed since the last
      evaluation;
    - ``quantization_error``: mean squared distance of the queries' continuous codes
      from their hash codes.

    It encodes all queries and the whole database: use `every` on large ones.

    Args:
        data: `kerashash.data.RetrievalData`.
        log_dir: path of a folder for TensorBoard, or None. Values go to
            ``log_dir/retrieval``, beside the ``train`` folder of
            `keras.callbacks.TensorBoard`.
        at: int or None, R of mAP@R; None ranks the whole database.
        every: int, epochs between evaluations.
        batch_size: int, inputs encoded at a time.

    Raises:
        ValueError: if `every` is below 1.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> callback = RetrievalEvaluation(data, log_dir="logs", every=5)
    """

    def __init__(self, data, log_dir=None, at=None, every=1, batch_size=128):
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be at least 1. Received: every={every}.")
        self.data = data
        self.log_dir = log_dir
        self.at = at
        self.every = every
        self.batch_size = batch_size
        self._writer = None
        self._codes = None

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        values = self._measure()
        if logs is not None:
            logs.update(values)
        if self.log_dir is not None:
            if self._writer is None:
                path = os.path.join(os.fspath(self.log_dir), "retrieval")
                self._writer = tf.summary.create_file_writer(path)
            with self._writer.as_default():
                for name, value in values.items():
                    tf.summary.scalar(f"retrieval/{name}", value, step=epoch)
            self._writer.flush()

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _measure(self):
        model, data = self.model, self.data
        u = model.continuous_codes(data.query, self.batch_size, verbose=0)
        codes = model.encode(data.database, self.batch_size, packed=False, verbose=0)
        name = "mAP@ALL" if self.at is None else f"mAP@{self.at}"
        values = {
            name: evaluation.mean_average_precision(
                np.where(u >= 0, np.int8(1), np.int8(-1)),
                data.query_labels,
                codes,
                data.database_labels,
                at=self.at,
            ),
            "bit_imbalance": bit_imbalance(codes),
            "quantization_error": float(np.mean((np.abs(u) - 1.0) ** 2)),
        }
        if self._codes is not None:
            values["bit_flips"] = float(np.mean(self._codes != codes))
        self._codes = codes
        return values
