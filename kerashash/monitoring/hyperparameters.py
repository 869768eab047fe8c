"""A Keras callback for TensorBoard's table of hyperparameters."""

import inspect
import os
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api, api_pb2, summary

from kerashash.data import RetrievalData
from kerashash.methods import HashModel
from kerashash.methods.replicas import is_chief
from kerashash.monitoring import event_files
from kerashash.monitoring.epoch_codes import EpochCodes

Value = bool | int | float | str


class HParams(keras.callbacks.Callback):
    """Writes the options of a training for TensorBoard's tab HParams.

    The tab compares trainings whose log folders are in one folder, by their options and
    by what `RetrievalEvaluation` and `CodeHealth` measured in the same log folder. The
    options are the method and its numbers and words, the data set and its protocol, the
    code length, the optimizer and its learning rate when training begins, and the
    number of epochs.

    Args:
        data: `kerashash.data.RetrievalData` or `EpochCodes`.
        log_dir: path of the log folder of this training. Of several processes that
            train one model, the first writes.
        values: dict of bool, int, float or str by name, or None; further options, such
            as the batch size.

    Raises:
        TypeError: if a value has another type or, when training begins, if the model is
            no `HashModel`.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> callbacks = [
        ...     HParams(data, "logs/first", {"batch size": 64}),
        ...     kerashash.callbacks.RetrievalEvaluation(data, "logs/first"),
        ... ]
    """

    def __init__(
        self,
        data: RetrievalData | EpochCodes,
        log_dir: str | os.PathLike[str],
        values: dict[str, Value] | None = None,
    ) -> None:
        super().__init__()
        self.data = data.data if isinstance(data, EpochCodes) else data
        if not isinstance(self.data, RetrievalData):
            raise TypeError(
                f"`data` must be a RetrievalData. Received type: {type(data).__name__}."
            )
        event_files.run_folder(log_dir)  # a check: nothing is written yet
        self.log_dir = log_dir
        if not isinstance(values, Mapping | None):
            raise TypeError(
                f"`values` must be a dict or None. Received: values={values!r}."
            )
        self.values = dict(values or {})
        for name, value in self.values.items():
            if not isinstance(name, str) or not isinstance(value, Value):
                raise TypeError(
                    "`values` must be bool, int, float or str by name. Received: "
                    f"{name!r}: {value!r}."
                )
        self._is_written = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not isinstance(self.model, HashModel):
            raise TypeError(
                "`HParams` takes the options of a HashModel. Received: "
                f"{type(self.model).__name__}."
            )
        event_files.close(self.log_dir)
        self._is_written = False
        if is_chief(self.model.distribute_strategy):
            event_files.make_run_folder(self.log_dir)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Not `on_train_begin`: later callbacks may restore weights and rates there.
        if self._is_written or not is_chief(self.model.distribute_strategy):
            return
        epochs = (self.params or {}).get("epochs")
        values = {
            "data": self.data.name,
            "protocol": self.data.protocol,
            **_options(self.model),
            **({} if epochs is None else {"epochs": epochs}),
            **self.values,
        }
        writer = event_files.writer(self.log_dir, epoch)
        with writer.as_default(step=epoch):
            api.hparams(values)
        writer.flush()
        self._is_written = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._is_written:
            # Other callbacks may have closed the writer. Step 0 lets what is there be.
            with event_files.writer(self.log_dir, step=0).as_default(step=0):
                end = summary.session_end_pb(api_pb2.STATUS_SUCCESS)
                tf.summary.experimental.write_raw_pb(end.SerializeToString())
        event_files.close(self.log_dir)


def _options(model: HashModel) -> dict[str, Value]:
    """What was chosen for a model and its optimizer."""
    config = model.get_config()
    own = {*inspect.signature(type(model).__init__).parameters}
    own -= {*inspect.signature(HashModel.__init__).parameters}
    options = {name: config[name] for name in own if name in config}
    optimizer = model.optimizer
    return {
        "method": type(model).__name__,
        "bits": model.bits,
        "optimizer": type(optimizer).__name__,
        "learning rate": float(tf.convert_to_tensor(optimizer.learning_rate)),
        **{k: v for k, v in sorted(options.items()) if isinstance(v, Value)},
    }
