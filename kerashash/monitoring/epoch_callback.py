"""What the callbacks that measure codes after epochs have in common."""

import contextlib
import inspect
import os
from collections.abc import Iterator
from typing import Any

import keras

from kerashash.checks import check_integer
from kerashash.data import RetrievalData
from kerashash.methods import HashModel
from kerashash.methods.replicas import is_chief
from kerashash.monitoring import event_files
from kerashash.monitoring.epoch_codes import Codes, EpochCodes


class EpochCallback(keras.callbacks.Callback):
    """Calls `_measure` after epochs `every`, 2 `every` and so on, after the first epoch
    of a `fit`, and after the last.

    Args:
        data: `RetrievalData` or `EpochCodes`.
        log_dir: path of a folder for TensorBoard, or None.
        every: int, at least 1.
        **options: arguments of `EpochCodes`, if `data` is a `RetrievalData`.
    """

    def __init__(
        self,
        data: RetrievalData | EpochCodes,
        log_dir: str | os.PathLike[str] | None,
        every: int,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(data, EpochCodes):
            self.codes = data
            defaults = inspect.signature(EpochCodes).parameters
            for name, value in options.items():
                if value != defaults[name].default:
                    raise ValueError(
                        f"`{name}` must be given to `EpochCodes` if `data` is one. "
                        f"Received: {name}={value!r}."
                    )
        else:
            self.codes = EpochCodes(data, **options)
        if log_dir is not None:
            event_files.run_folder(log_dir)  # a check: nothing is written yet
        self.log_dir = log_dir
        self.every = check_integer("every", every)
        self._is_first_epoch = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not isinstance(self.model, HashModel):
            raise TypeError(
                f"`{type(self).__name__}` measures a HashModel. Received: "
                f"{type(self.model).__name__}."
            )
        self._is_first_epoch = True
        self.codes.forget()
        self._close()
        if self._writes and self.log_dir is not None:
            event_files.make_run_folder(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        is_first, self._is_first_epoch = self._is_first_epoch, False
        is_last = epoch + 1 == (self.params or {}).get("epochs")
        if not (is_first or is_last or (epoch + 1) % self.every == 0):
            return
        codes = self.codes.after(self.model, epoch + 1)
        # In all processes, whichever writes: they may read statistics together.
        _ = codes.query_values, codes.database_values
        self._measure(epoch, codes, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.codes.forget()
        self._close()

    def _measure(self, epoch: int, codes: Codes, logs: dict[str, Any] | None) -> None:
        raise NotImplementedError

    @property
    def _writes(self) -> bool:
        """Whether this process writes: the first one, if there is a folder."""
        return self.log_dir is not None and is_chief(self.model.distribute_strategy)

    @contextlib.contextmanager
    def _summaries(self, epoch: int) -> Iterator[None]:
        """Make `tf.summary` write to the folder what is measured after an epoch."""
        assert self.log_dir is not None
        writer = event_files.writer(self.log_dir, epoch)
        with writer.as_default(step=epoch):
            yield
        writer.flush()

    def _close(self) -> None:
        if self.log_dir is not None:
            event_files.close(self.log_dir)
