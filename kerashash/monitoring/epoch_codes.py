"""The codes of a data set after an epoch, computed once for all callbacks."""

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import check_integer, renamed
from kerashash.data import RetrievalData
from kerashash.evaluation.average_precision import Ranking
from kerashash.maths.projections import signs
from kerashash.methods import HashModel

#: The most queries and database items that are encoded where nothing else is said.
MAX_QUERIES, MAX_DATABASE = 1_000, 20_000


class Encoder:
    """Gives continuous codes of the same inputs again and again while a model trains.

    In a `fit` with `cache_features`, it keeps the output of the frozen layers.

    Args:
        model: `HashModel`.
        batch_size: int; number of inputs encoded at a time.

    Call:
        name, str, and the `tf.data.Dataset` of that name -> float32 array ``(n,
        bits)``.
    """

    def __init__(self, model: HashModel, batch_size: int) -> None:
        self.model, self._batch_size = model, batch_size
        self._frozen: Any = model._frozen_features
        self._outputs: dict[str, npt.NDArray[Any]] = {}
        self._encode = tf.function(
            lambda x: model({"frozen": x}, training=False), reduce_retracing=True
        )

    def __call__(self, name: str, x: tf.data.Dataset) -> npt.NDArray[np.float32]:
        if self._frozen is None:
            with renamed("x", "data"):
                return self.model.continuous_codes(x, self._batch_size, verbose=0)
        if name not in self._outputs:
            below = tf.function(self._frozen.below, reduce_retracing=True)
            with renamed("x", "data"):
                batches, _ = self.model._inputs(x, self._batch_size)
            parts = [below(batch).numpy() for batch in batches]
            self._outputs[name] = np.concatenate(parts)
        outputs, size = self._outputs[name], self._batch_size
        starts = range(0, len(outputs), size)
        values = [self._encode(outputs[i : i + size]).numpy() for i in starts]
        codes: npt.NDArray[np.float32] = np.concatenate(values)
        if not np.isfinite(codes).all():
            raise ValueError(
                "The model must give finite codes. Received NaN or infinity, from its "
                f"weights or inputs, for the {name}."
            )
        return codes


class Codes:
    """The codes that a model gives queries and database, each computed when it is read.

    Args:
        encoder: `Encoder`.
        data: `RetrievalData`.

    Attributes:
        query_values, database_values: float32 arrays ``(q, bits)`` and ``(n, bits)``;
            continuous codes.
        query, database: int8 arrays of the same shapes over {-1, +1}; hash codes.
        ranking: `Ranking` of the database for each query.
    """

    def __init__(self, encoder: Encoder, data: RetrievalData) -> None:
        self._encoder, self._data = encoder, data

    @functools.cached_property
    def query_values(self) -> npt.NDArray[np.float32]:
        return self._encoder("query", self._data.query)

    @functools.cached_property
    def database_values(self) -> npt.NDArray[np.float32]:
        return self._encoder("database", self._data.database)

    @functools.cached_property
    def query(self) -> npt.NDArray[np.int8]:
        return signs(self.query_values)

    @functools.cached_property
    def database(self) -> npt.NDArray[np.int8]:
        return signs(self.database_values)

    @functools.cached_property
    def ranking(self) -> Ranking:
        data = self._data
        return Ranking(
            self.query, data.query_labels, self.database, data.database_labels
        )


class EpochCodes:
    """The codes of a data set's queries and database, encoded once an epoch.

    Callbacks that are given the same object in place of a data set share its codes.
    `monitor` does so. A `fit` with ``cache_features=True`` passes these images, too,
    through the frozen layers once, and keeps their output in memory.

    Args:
        data: `kerashash.data.RetrievalData` with queries.
        max_queries: int or None; the most queries to encode. If there are more, they
            are drawn. None encodes all.
        max_database: int or None; likewise of the database.
        batch_size: int, at least 1; number of inputs encoded at a time.
        seed: int in [0, 2^32); the seed of the draws.

    Attributes:
        sample: `kerashash.data.RetrievalData`; `data` with the queries and the database
            that are encoded.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> codes = EpochCodes(data, max_database=1000)
        >>> codes.size
        '300 of 300 queries and 1,000 of 1,497 database items'
        >>> callbacks = [
        ...     kerashash.callbacks.RetrievalEvaluation(codes, "logs"),
        ...     kerashash.callbacks.CodeHealth(codes, "logs"),
        ... ]
    """

    def __init__(
        self,
        data: RetrievalData,
        max_queries: int | None = None,
        max_database: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        if not isinstance(data, RetrievalData):
            raise TypeError(
                f"`data` must be a RetrievalData. Received type: {type(data).__name__}."
            )
        if not data.num_query:
            raise ValueError("`data` must have queries. Received: none.")
        if max_queries is not None:
            check_integer("max_queries", max_queries)
        if max_database is not None:
            check_integer("max_database", max_database)
        check_integer("seed", seed, least=0, most=2**32 - 1)
        self.data = data
        self.batch_size = check_integer("batch_size", batch_size)
        rng = np.random.default_rng(seed)
        splits = dict(data.splits)
        for split, limit in (("query", max_queries), ("database", max_database)):
            rows = splits[split]
            if limit is not None and limit < len(rows):
                # In order, as ties go to the first.
                drawn = np.sort(rng.choice(len(rows), limit, replace=False))
                splits[split] = rows[drawn]
        self.sample = dataclasses.replace(data, splits=splits)
        self._encoder: Encoder | None = None
        self._epochs = -1
        self._codes: Codes | None = None

    @property
    def size(self) -> str:
        """What is encoded, in words."""
        data, sample = self.data, self.sample
        return (
            f"{sample.num_query:,} of {data.num_query:,} queries and "
            f"{sample.num_database:,} of {data.num_database:,} database items"
        )

    def ranks(self, at: int | None) -> int:
        """Number of ranks of the sample that stand for the first ranks of the database.

        Args:
            at: int or None; a number of ranks of the whole database, None for all.

        Returns:
            int, the same share of the sample.
        """
        items, all_items = self.sample.num_database, self.data.num_database
        return max(1, round(items if at is None else at * items / all_items))

    def after(self, model: HashModel, epochs: int) -> Codes:
        """Return the codes that a model gives now.

        Args:
            model: `HashModel`.
            epochs: int; the number of epochs that are done. With the same model and
                number as in the last call, its result is returned again.

        Returns:
            `Codes`.
        """
        if self._encoder is None or self._encoder.model is not model:
            self._encoder, self._codes = Encoder(model, self.batch_size), None
        if self._codes is None or self._epochs != epochs:
            self._epochs, self._codes = epochs, Codes(self._encoder, self.sample)
        return self._codes

    def forget(self) -> None:
        """Forget the codes, so that those of another training do not pass for them."""
        self._encoder = self._codes = None


def bounded(data: RetrievalData | EpochCodes) -> EpochCodes:
    """Make `EpochCodes` of a bounded number of items, if `data` is not one.

    Args:
        data: `RetrievalData` or `EpochCodes`.

    Returns:
        `EpochCodes`.
    """
    if isinstance(data, EpochCodes):
        return data
    return EpochCodes(data, max_queries=MAX_QUERIES, max_database=MAX_DATABASE)
