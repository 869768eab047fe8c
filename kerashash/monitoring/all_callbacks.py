"""All that TensorBoard can show of a training, with one call."""

import os
from typing import Any

import keras
import tensorflow as tf

from kerashash.checks import check_integer
from kerashash.data import RetrievalData
from kerashash.methods.replicas import is_chief
from kerashash.monitoring import event_files
from kerashash.monitoring.code_health import CodeHealth
from kerashash.monitoring.code_projector import CodeProjector
from kerashash.monitoring.epoch_codes import MAX_DATABASE, MAX_QUERIES, EpochCodes
from kerashash.monitoring.hyperparameters import HParams, Value
from kerashash.monitoring.neighbour_grid import RetrievalGrid
from kerashash.monitoring.retrieval_evaluation import RetrievalEvaluation
from kerashash.monitoring.thumbnails import has_images


def monitor(
    data: RetrievalData,
    log_dir: str | os.PathLike[str],
    every: int = 1,
    at: int | None = None,
    protocol: str | None = None,
    max_queries: int | None = MAX_QUERIES,
    max_database: int | None = MAX_DATABASE,
    queries: int = 8,
    top: int = 10,
    batch_size: int = 128,
    seed: int = 0,
    hparams: dict[str, Value] | None = None,
) -> list[keras.callbacks.Callback]:
    """Make the callbacks that show TensorBoard all that there is to see of a training.

    They are `HParams`, `keras.callbacks.TensorBoard`, `RetrievalEvaluation`,
    `CodeHealth`, `CodeProjector` and, if the data are images, `RetrievalGrid`. Queries
    and database are encoded once for all of them. Callbacks that read the epoch's logs,
    such as `keras.callbacks.EarlyStopping`, come after them.

    Each training needs a folder of its own; ``tensorboard --logdir`` takes the one that
    holds them all. A training that is resumed, by `Backup` say, goes on in its folder.

    Args:
        data: `kerashash.data.RetrievalData`; to choose options or to stop training by
            what is shown, that of ``data.for_validation()``.
        log_dir: path of a folder for this training. Of several processes that train one
            model, the first writes.
        every: int, at least 1. The codes are measured after epochs `every`, 2 `every`
            and so on, after the first epoch of a `fit` and after the last.
        at, protocol: as for `RetrievalEvaluation`.
        max_queries, max_database, batch_size, seed: as for `EpochCodes`.
        queries, top: as for `RetrievalGrid`.
        hparams: dict of bool, int, float or str by name, or None; options of the
            training to show beside those that are known, such as the batch size.

    Returns:
        list of `keras.callbacks.Callback`.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
        >>> model = kerashash.AdaLabelHash(net, bits=16, num_classes=10)
        >>> model.compile("adam")
        >>> history = model.fit(
        ...     data.train.batch(128), callbacks=monitor(data, "logs/first"), verbose=0
        ... )
        >>> sorted(history.history)
        ['bit_flips', 'bit_imbalance', 'loss', 'mAP@ALL', 'quantization_error']
    """
    check_integer("queries", queries)
    check_integer("top", top)
    codes = EpochCodes(data, max_queries, max_database, batch_size, seed)
    callbacks = [
        HParams(codes, log_dir, hparams),
        # Before those that add to the epoch's logs, which it would write again.
        _TensorBoard(event_files.log_folder(log_dir)),
        RetrievalEvaluation(codes, log_dir, at, every, protocol=protocol),
        CodeHealth(codes, log_dir, every),
        CodeProjector(codes, log_dir, every, seed=seed),
    ]
    if has_images(data):
        callbacks.append(RetrievalGrid(codes, log_dir, queries, top, every, seed))
    return callbacks


class _TensorBoard(keras.callbacks.TensorBoard):
    """Writes in the first process alone, and no epoch twice if training is resumed."""

    def set_model(self, model: Any) -> None:
        writes = is_chief(model.distribute_strategy)
        if writes:
            event_files.make_run_folder(self.log_dir)
        folder = os.path.join(self.log_dir, "train")
        self._earlier = event_files.earlier_files(folder) if writes else []
        if not writes:
            self.write_graph = False  # it would open a file
        super().set_model(model)
        if not writes:
            nothing = tf.summary.create_noop_writer()
            self._writers = {"train": nothing, "val": nothing}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        if epoch:
            event_files.forget(self._earlier, epoch)
        self._earlier = []
