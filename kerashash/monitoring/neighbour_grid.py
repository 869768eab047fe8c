"""A Keras callback that shows queries and their nearest neighbours."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import check_integer
from kerashash.data import RetrievalData
from kerashash.monitoring import event_files, plots
from kerashash.monitoring.epoch_callback import EpochCallback
from kerashash.monitoring.epoch_codes import Codes, EpochCodes, bounded
from kerashash.monitoring.thumbnails import has_images, thumbnails
from kerashash.retrieval import HammingRanker

_SIDE = 96  # of an image, in pixels


class RetrievalGrid(EpochCallback):
    """Shows TensorBoard some queries and their nearest neighbours, as an image.

    Each query has a row. Neighbours that share a label with it have a solid green
    frame, the others a dashed red one; below each is its Hamming distance. The queries
    stay the same; each label that a query begins with is shown once before any is shown
    twice.

    Args:
        data: `kerashash.data.RetrievalData` of images, of which at most 1,000 queries
            and 20,000 database items are encoded; or `EpochCodes`, which several
            callbacks share.
        log_dir: path of a folder for TensorBoard. Of several processes that train one
            model, the first writes.
        queries: int, at least 1; the number of queries to show.
        top: int, at least 1; the number of neighbours to show.
        every: int, at least 1. The grid is written after epochs `every`, 2 `every` and
            so on, after the first epoch of a `fit` and after the last.
        seed: int in [0, 2^32); the seed by which queries are drawn.

    Raises:
        TypeError, ValueError: if an argument is out of range, or the data are vectors.

    Example:
        >>> import dataclasses
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> images = data.x.reshape(-1, 8, 8, 1)
        >>> data = dataclasses.replace(data, x=images)
        >>> callbacks = [RetrievalGrid(data, "logs", queries=4)]
    """

    def __init__(
        self,
        data: RetrievalData | EpochCodes,
        log_dir: str | os.PathLike[str],
        queries: int = 8,
        top: int = 10,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(bounded(data), log_dir, every)
        check_integer("queries", queries)
        check_integer("top", top)
        check_integer("seed", seed, least=0, most=2**32 - 1)
        sample = self.codes.sample
        if not has_images(sample):
            raise ValueError(
                "`data` must have images, (n, height, width, 3) or (n, height, width, "
                f"1), to show. Received inputs of shape {sample.x.shape}."
            )
        self._queries = _spread(sample.query_labels, queries, seed)
        self._top = min(top, sample.num_database)
        self._images: npt.NDArray[np.uint8] | None = None

    def _measure(self, epoch: int, codes: Codes, logs: dict[str, Any] | None) -> None:
        if not self._writes:
            return
        data, rows = self.codes.sample, self._queries
        ranking = codes.ranking
        ranker = HammingRanker(ranking.database, ranking.bits)
        distances, items = ranker.top_k(ranking.query[rows], self._top)
        if self._images is None:
            self._images = thumbnails(data, data.splits["query"][rows], _SIDE)
        neighbours = thumbnails(data, data.splits["database"][items.ravel()], _SIDE)
        figure = plots.retrieval_grid(
            self._images,
            neighbours.reshape(*items.shape, *neighbours.shape[1:]),
            ranking.relevance.of(rows, items),
            captions=distances.astype(str),
        )
        figure.set_dpi(100)
        with self._summaries(epoch):
            tf.summary.image(
                "retrieval/neighbours",
                event_files.pixels(figure),
                description="Queries and their nearest neighbours. Solid green: shares "
                "a label with the query; dashed red: does not. Below: the Hamming "
                f"distance. {self.codes.size}.",
            )


def _spread(
    labels: npt.NDArray[np.uint8], count: int, seed: int
) -> npt.NDArray[np.int64]:
    """Draw rows whose first labels differ as long as there are others."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, firsts = np.unique(labels[order].argmax(axis=1), return_index=True)
    rest = np.delete(order, firsts)
    return np.concatenate([order[np.sort(firsts)], rest])[:count]
