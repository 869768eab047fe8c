"""A Keras callback that watches whether the bits of the codes are put to use."""

import os
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.data import RetrievalData
from kerashash.monitoring import event_files, plots
from kerashash.monitoring.epoch_callback import EpochCallback
from kerashash.monitoring.epoch_codes import Codes, EpochCodes, bounded


def correlations(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Correlation of each two bits over some codes.

    Formula:
        mean over i of (b_ik - mean_k)(b_il - mean_l), divided by both standard
        deviations

    Args:
        codes: int8 array ``(n, bits)`` over {-1, +1}.

    Returns:
        float64 array ``(bits, bits)`` in [-1, 1]; NaN in the rows and columns of bits
        that are the same in all codes.

    Example:
        >>> correlations(np.array([[1, 1], [1, 1], [-1, -1]], np.int8)).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    # Sums of -1 and +1 are exact in float64, and BLAS computes them fast.
    b = codes.astype(np.float64)
    n, sums = len(b), b.sum(axis=0)
    covariance = n * (b.T @ b) - np.outer(sums, sums)  # n^2 times
    variances = np.diag(covariance)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return np.asarray(covariance / np.sqrt(np.outer(variances, variances)))


def mean_correlation(matrix: npt.NDArray[np.float64]) -> float:
    """Mean absolute correlation of two different bits, of those that change.

    Args:
        matrix: float array ``(bits, bits)``, as `correlations` returns it.

    Returns:
        float in [0, 1]; 0 if fewer than two bits change.

    Example:
        >>> mean_correlation(np.array([[1.0, -0.5], [-0.5, 1.0]]))
        0.5
    """
    pairs = np.abs(matrix[np.triu_indices(len(matrix), 1)])
    pairs = pairs[~np.isnan(pairs)]
    return float(pairs.mean()) if pairs.size else 0.0


def usage(codes: npt.NDArray[np.int8]) -> dict[str, float]:
    """How many codes are used, and how evenly.

    Args:
        codes: int8 array ``(n, bits)`` over {-1, +1}.

    Returns:
        dict of float: ``entropy``, -sum of p log2 p over the shares p of the different
        codes; ``distinct codes``, their number; ``collisions``, the share of items
        whose code another item has as well.

    Example:
        >>> usage(np.array([[1, 1], [1, 1], [-1, 1], [1, -1]], np.int8))
        {'entropy': 1.5, 'distinct codes': 3.0, 'collisions': 0.5}
    """
    _, counts = np.unique(np.packbits(codes > 0, axis=1), axis=0, return_counts=True)
    shares = counts / len(codes)
    return {
        "entropy": float(-np.sum(shares * np.log2(shares))) + 0.0,  # not -0.0
        "distinct codes": float(len(counts)),
        "collisions": float(counts[counts > 1].sum() / len(codes)),
    }


def ties(total: npt.NDArray[np.int64]) -> float:
    """Share of the pairs of items that lie at the same distance from a query.

    Args:
        total: int array ``(queries, distances)``; the number of items at each distance.

    Returns:
        float in [0, 1], the mean over queries; 0 if there is one item.

    Example:
        >>> ties(np.array([[2, 1, 0], [0, 0, 3]]))  # 1 of 3 pairs, 3 of 3
        0.6666666666666666
    """
    n = int(total[0].sum())
    pairs = n * (n - 1)
    return float((total * (total - 1)).sum(axis=1).mean() / pairs) if pairs else 0.0


_DESCRIPTIONS = {
    "bit correlation": "Absolute correlation of two bits, averaged over all pairs of "
    "different bits that change; a bit that follows another says nothing new.",
    "entropy": "Entropy of the distribution of codes, in bits. It is at most the code "
    "length, and the logarithm to base 2 of the number of database items.",
    "distinct codes": "Number of different codes in the database.",
    "collisions": "Share of database items whose code another item has as well.",
    "ties": "Share of the pairs of database items that lie at the same distance from a "
    "query, averaged over queries: their order in the ranking is arbitrary.",
    "learned bit flips": "Share of the bits of B, the learned codes of the training "
    "rows, that changed in an epoch, on average since the last measurement.",
}


class CodeHealth(EpochCallback):
    """Logs to TensorBoard whether the bits of the codes are balanced and independent.

    Of the database's codes, as the model encodes them after an epoch:

    - histograms: the means of the bits, which are 0 for balanced bits, and the absolute
      values of the continuous codes, which are 1 if nothing is lost in rounding;
    - an image: the correlations of each two bits;
    - values: the mean absolute correlation of two bits; the entropy of the distribution
      of codes, in bits; the number of distinct codes; the share of items whose code
      another item has; the share of pairs of items that are tied in the ranking of a
      query; and, for a method that learns codes B for its training rows, the share of
      the bits of B that changed in an epoch.

    Args:
        data: `kerashash.data.RetrievalData`, of which at most 1,000 queries and 20,000
            database items are encoded; or `EpochCodes`, which several callbacks share.
        log_dir: path of a folder for TensorBoard. Of several processes that train one
            model, the first writes.
        every: int, at least 1. The codes are measured after epochs `every`, 2 `every`
            and so on, after the first epoch of a `fit` and after the last.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> callbacks = [CodeHealth(data, "logs", every=5)]
    """

    def __init__(
        self,
        data: RetrievalData | EpochCodes,
        log_dir: str | os.PathLike[str],
        every: int = 1,
    ) -> None:
        super().__init__(bounded(data), log_dir, every)
        self._learned: npt.NDArray[np.int8] | None = None
        self._learned_at = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._learned = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Not `on_train_begin`: the method makes B in the last callback of all.
        if self._learned is None:
            self._learned, self._learned_at = _learned(self.model), epoch

    def _measure(self, epoch: int, codes: Codes, logs: dict[str, Any] | None) -> None:
        if not self._writes:
            return
        matrix = correlations(codes.database)
        total, _ = codes.ranking.histograms
        values = {
            "bit correlation": mean_correlation(matrix),
            **usage(codes.database),
            "ties": ties(total),
        }
        learned = _learned(self.model)
        if learned is not None and self._learned is not None:
            flips = float(np.mean(learned != self._learned))
            values["learned bit flips"] = flips / (epoch + 1 - self._learned_at)
        self._learned, self._learned_at = learned, epoch + 1
        size = self.codes.size
        with self._summaries(epoch):
            for name, value in values.items():
                description = _DESCRIPTIONS[name]
                if name != "learned bit flips":  # of all training rows
                    description += f" {size}."
                tf.summary.scalar(f"statistics/{name}", value, description=description)
            tf.summary.histogram(
                "statistics/means of bits",
                codes.database.mean(axis=0, dtype=np.float64),
                description="Mean of each bit over the database's codes in {-1, +1}; 0 "
                f"is balanced. {size}.",
            )
            tf.summary.histogram(
                "statistics/absolute continuous codes",
                np.abs(codes.database_values),
                description="Absolute values of the elements of the database's "
                f"continuous codes; what is far from 1 is lost in rounding. {size}.",
            )
            title = f"Correlations of bits, epoch {epoch + 1}"
            tf.summary.image(
                "statistics/correlations of bits",
                event_files.pixels(plots.bit_correlations(matrix, title)),
                description=f"Grey: a bit that is the same in all codes. {size}.",
            )


def _learned(model: keras.Model) -> npt.NDArray[np.int8] | None:
    """A copy of B; None if the method has none."""
    codes = model.train_codes
    return None if codes is None else np.array(codes.numpy(), np.int8)
