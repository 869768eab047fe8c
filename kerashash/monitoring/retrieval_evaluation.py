"""A Keras callback that measures retrieval while a model trains."""

import os
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.codes import bit_imbalance
from kerashash.data import RetrievalData
from kerashash.evaluation.average_precision import Ranking
from kerashash.evaluation.choices import (
    check_at,
    metric_name,
    paper_protocol,
    resolve_protocol,
)
from kerashash.monitoring import event_files, plots
from kerashash.monitoring.epoch_callback import EpochCallback
from kerashash.monitoring.epoch_codes import Codes, EpochCodes

# Number of ranks at which curves are drawn.
_POINTS = 100
_DESCRIPTIONS = {
    "bit_imbalance": "Absolute mean of a bit over the database's codes in {-1, +1}, "
    "averaged over bits: 0 if each bit halves the database, 1 if all codes are equal.",
    "quantization_error": "Mean squared difference between the elements of the "
    "queries' continuous codes and of their hash codes.",
    "bit_flips": "Share of the database's bits that changed since the evaluation "
    "before.",
}


class RetrievalEvaluation(EpochCallback):
    """Measures retrieval after each epoch and logs it to TensorBoard.

    The values are also added to the epoch's logs, for `keras.callbacks.EarlyStopping`,
    `keras.callbacks.ModelCheckpoint` and `keras.callbacks.CSVLogger`, which must come
    later in the list of callbacks:

    - ``mAP@ALL`` or ``mAP@R``: as `kerashash.evaluate` defines it by default;
    - ``mAP@R (dcdh)`` or such: as the method's paper defines it, if it measures on this
      data set, or as `protocol` does;
    - ``bit_imbalance``: absolute mean of a bit over the database's codes in {-1, +1},
      averaged over bits: 0 if each bit halves the database, 1 if all codes are equal;
    - ``bit_flips``: share of the database's bits that changed since the last
      evaluation or, in the first, since training began;
    - ``quantization_error``: mean squared difference between the elements of the
      queries' continuous codes and of their hash codes.

    TensorBoard also gets two images: precision against recall, and precision at N. Put
    `keras.callbacks.TensorBoard` before this callback: what comes after it writes the
    epoch's logs a second time. `monitor` does so.

    What stops the training or chooses an epoch should not have seen the queries: load
    the data with ``validation=0.1``, say, and pass ``data.for_validation()``, whose
    queries are training images that have been set apart.

    Each evaluation encodes all queries and the whole database: on large data sets
    evaluate less often with `every`, or on fewer with `max_queries` and `max_database`.
    The database is also encoded once before training. One callback serves several
    models, one after the other.

    Args:
        data: `kerashash.data.RetrievalData`; or `EpochCodes` of it, which several
            callbacks share.
        log_dir: path of a folder for TensorBoard, or None. Of several processes that
            train one model, the first writes. Values are written to
            ``log_dir/retrieval``, next to the ``train`` folder of
            `keras.callbacks.TensorBoard`.
        at: int or None; R of mAP@R. None ranks the whole database.
        every: int, at least 1. Epochs `every`, 2 `every` and so on are evaluated, the
            first epoch of a `fit`, so that all values are known from then on, and the
            last.
        batch_size: int, at least 1; number of inputs encoded at a time.
        protocol: str or None; a key of `kerashash.evaluation.PROTOCOLS`, to measure a
            second mAP by. None is the one of the method's paper, if it measures on this
            data set.
        max_queries, max_database: int or None; the most queries and database items to
            encode. If there are more, they are drawn, and R is reduced by the share of
            the database that is drawn: the values estimate those of all. The
            descriptions in TensorBoard say how many were drawn. None encodes all.
        seed: int in [0, 2^32); the seed of the draws.

    Raises:
        TypeError, ValueError: if an argument is out of range or, when training begins,
            if the model does not take the data's inputs or `protocol` ranks learned
            codes that it does not have.

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
        data: RetrievalData | EpochCodes,
        log_dir: str | os.PathLike[str] | None = None,
        at: int | None = None,
        every: int = 1,
        batch_size: int = 128,
        protocol: str | None = None,
        max_queries: int | None = None,
        max_database: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            data,
            log_dir,
            every,
            batch_size=batch_size,
            max_queries=max_queries,
            max_database=max_database,
            seed=seed,
        )
        all_items = self.codes.data.num_database
        check_at(at, all_items)
        if protocol is not None:
            resolve_protocol(protocol, {}, all_items)
        self.at = at
        self.protocol = protocol
        self._definition: dict[str, Any] | None = None
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
        super().on_train_begin(logs)
        self._definition = self._paper_definition()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Not `on_train_begin`: later callbacks may restore weights there.
        if self._previous_codes is None:
            self._previous_codes = self.codes.after(self.model, epoch).database

    def _paper_definition(self) -> dict[str, Any] | None:
        """The choices of the second mAP; None if there is none."""
        data, model = self.codes.data, self.model
        name = self.protocol
        if name is None:
            name = paper_protocol(type(model).__name__, data.name, data.protocol)
            if name is None:
                return None
        try:
            definition = resolve_protocol(name, {}, data.num_database)
            if (
                definition["database"] == "learned"
                and model.num_train != data.num_train
            ):
                raise ValueError(
                    f"`protocol` must not be {name!r}, which ranks learned codes, for "
                    "a model that does not learn those of the data set's "
                    f"{data.num_train} training rows. Received a model with "
                    f"{model.num_train or 0}."
                )
        except ValueError:
            if self.protocol is None:  # nobody asked for it
                return None
            raise
        return definition

    def _measure(self, epoch: int, codes: Codes, logs: dict[str, Any] | None) -> None:
        choices = {} if self.at is None else {"at": self.at}
        own = resolve_protocol("kerashash", choices, self.codes.data.num_database)
        name = metric_name(self.at)
        values = {name: self._mean_average_precision(codes.ranking, own)}
        descriptions = {name: self._description(own), **_DESCRIPTIONS}
        if self._definition is not None:
            paper = self._definition
            name = f"{metric_name(paper['at'])} ({paper['protocol']})"
            is_learned = paper["database"] == "learned"
            ranking = self._with_learned(codes) if is_learned else codes.ranking
            values[name] = self._mean_average_precision(ranking, paper)
            descriptions[name] = self._description(paper)
        values |= {
            "bit_imbalance": bit_imbalance(codes.database),
            "quantization_error": float(
                np.mean((np.abs(codes.query_values) - 1.0) ** 2)
            ),
            "bit_flips": float(np.mean(self._previous_codes != codes.database)),
        }
        self._previous_codes = codes.database
        if logs is not None:
            logs.update(values)
        if not self._writes:
            return
        with self._summaries(epoch):
            for name, value in values.items():
                description = f"{descriptions[name]} {self.codes.size}."
                tf.summary.scalar(f"retrieval/{name}", value, description=description)
            self._write_curves(epoch, codes.ranking)

    def _mean_average_precision(
        self, ranking: Ranking, definition: dict[str, Any]
    ) -> float:
        at = self.codes.ranks(definition["at"])
        choices = (definition[name] for name in ("denominator", "ties", "empty"))
        return ranking.mean_average_precision(at, *choices)

    def _description(self, definition: dict[str, Any]) -> str:
        """An mAP in words."""
        at = self.codes.ranks(definition["at"])
        return (
            f"Mean average precision over the first {at:,} ranks: denominator "
            f"{definition['denominator']!r}, ties {definition['ties']!r}, empty "
            f"{definition['empty']!r}, database {definition['database']!r} "
            f"({definition['source']})."
        )

    def _with_learned(self, codes: Codes) -> Ranking:
        """The ranking in which training rows have their learned codes."""
        sample = self.codes.sample
        database = codes.database.copy()
        rows = sample.train_rows
        database[rows[rows >= 0]] = self.model.learned_codes()[rows >= 0]
        return Ranking(
            codes.query, sample.query_labels, database, sample.database_labels
        )

    def _write_curves(self, epoch: int, ranking: Ranking) -> None:
        """Write the images of the curves."""
        ranks = np.unique(np.geomspace(1, ranking.n, _POINTS).astype(int))
        curve = ranking.precision_recall(ranks.tolist())
        chance = np.full(2, curve["precision_at"][-1])  # all items are retrieved
        curves: dict[str, dict[str, npt.ArrayLike]] = {
            "codes": {**curve, "ranks": ranks},
            "random order": {
                "precision_at": chance,
                "recall_at": [0, 1],
                "ranks": ranks[[0, -1]],
            },
        }
        for name, kind in (("precision and recall", "pr"), ("precision at N", "pn")):
            figure = plots.retrieval_curves(curves, kind)
            figure.axes[0].set_title(
                f"P{name[1:]}, epoch {epoch + 1}, {ranking.bits} bits"
            )
            tf.summary.image(
                f"retrieval/{name}",
                event_files.pixels(figure),
                description="Means over queries, and over all orders of items at the "
                f"same distance. {self.codes.size}.",
            )
