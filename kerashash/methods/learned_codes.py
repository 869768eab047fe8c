"""B, the codes of the training rows, and the two ways in which DCDH learns them.

Both classes have one interface, called in this order:

- ``rows(index)``: codes of training rows, for the network step;
- ``loss_of(labels)``: the loss over similarities, as a function of continuous codes;
- ``variables``: what takes part in the network step's gradient, if anything;
- ``after_batch(batch, u, gradients, learning_rate)``: what moves B in a step;
- ``after_epoch()``: what moves B after an epoch. From then on `codes` is up to date.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerashash.maths import discrete, losses
from kerashash.maths.similarity import LabelSimilarity, shares_label
from kerashash.methods.hash_model import Batch

# Rows solved at a time: the block of S has rows x patterns entries.
_BLOCK = 8192


class SolvedCodes:
    """Codes that fit squares, solved bit by bit.

    Solves:
        argmin over B of sum_w w (||U_w B^T - K S||_F^2 + alpha ||B - U_w||_F^2)
        subject to  B in {-1, +1}^(n x K)

    by `kerashash.maths.discrete.dcc`, where U_w are the continuous codes of stream w as
    training has last seen them. A step never increases the objective. Nothing of size n
    x n is kept: S acts through the p distinct label rows (the patterns).

    Args:
        codes: int8 variable ``(n, bits)``, B; 0 in rows that have no code yet.
        similarity: `LabelSimilarity` of the n training rows.
        u: float32 array ``(n, streams, bits)``, continuous codes of all streams.
        stream_weights: floats, the weight w of each stream.
        quantization_weight: float, alpha.
        by_batch: bool; True updates the rows of each batch in its step, False all rows
            after each epoch.

    Example:
        >>> similarity = LabelSimilarity(np.eye(3), balanced=False)
        >>> codes = keras.Variable(np.zeros((3, 4)), dtype="int8", trainable=False)
        >>> u = np.random.default_rng(0).normal(size=(3, 1, 4)).astype(np.float32)
        >>> solved = SolvedCodes(codes, similarity, u, [1.0], 1.0, by_batch=False)
        >>> solved.rows([0, 2]).shape
        TensorShape([2, 4])

    Reference:
        DCDH (Wang et al., SIGIR 2019), eq. 9 to 11.
    """

    variables: tuple[Any, ...] = ()

    def __init__(
        self,
        codes: Any,
        similarity: LabelSimilarity,
        u: Any,
        stream_weights: list[float],
        quantization_weight: float,
        by_batch: bool,
    ) -> None:
        patterns, bits = len(similarity.counts), codes.shape[1]
        self.codes, self.similarity = codes, similarity
        self._stream_weights = stream_weights
        self._alpha, self._by_batch = quantization_weight, by_batch
        # Not weights of a model: derived anew from the data and B in each `fit`.
        buffer = functools.partial(tf.Variable, trainable=False)
        self.u = buffer(u)  # (n, streams, bits)
        self.gram = buffer(tf.zeros((bits, bits)))  # G = sum_w w U_w^T U_w
        self.sums = buffer(tf.zeros((patterns, bits)))  # sum_w w U_w by pattern
        self.code_gram = buffer(tf.zeros((bits, bits)))  # B^T B
        self.code_sums = buffer(tf.zeros((patterns, bits)))  # B by pattern
        if not np.all(codes.numpy()):
            start = discrete.sign(self._weighted(self.u))
            codes.assign(tf.cast(start, tf.int8))
            self.solve()
        self.recompute()

    def rows(self, index: Any) -> tf.Tensor:
        """Codes of training rows: float32 tensor ``(m, bits)`` over {-1, +1}."""
        return tf.cast(tf.gather(self.codes.value, index), tf.float32)

    def loss_of(self, labels: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """The first term of L_w for images with these labels ``(batch, classes)``."""
        return functools.partial(
            losses.similarity_regression,
            code_gram=self.code_gram,
            similarity_codes=self.similarity.product(labels, self.code_sums),
            similarity_squares=self.similarity.square_sum(labels),
            n=float(self.codes.shape[0]),
        )

    def after_batch(
        self, batch: Batch, u: tf.Tensor, gradients: Any, learning_rate: Any
    ) -> None:
        """Take up U of the batch; with `by_batch` update its rows of B as well."""
        if self._by_batch:
            old = tf.gather(self.u, batch.index)
            self.gram.assign_add(self._gram(u) - self._gram(old))
            pattern_of = tf.gather(self.similarity.pattern_of, batch.index)
            change = self._weighted(u) - self._weighted(old)
            self.sums.scatter_add(tf.IndexedSlices(change, pattern_of))
        self.u.scatter_update(tf.IndexedSlices(u, batch.index))
        if self._by_batch:
            self.update_rows(batch, u)

    def after_epoch(self) -> None:
        """Update all of B, unless its rows are updated by batch."""
        if not self._by_batch:
            self.solve()
        # Sums that are updated by batch drift by rounding: start the epoch exact.
        self.recompute()

    def solve(self) -> None:
        """Discrete step over all rows."""
        self.recompute()
        for start in range(0, self.codes.shape[0], _BLOCK):
            rows = tf.range(start, min(start + _BLOCK, self.codes.shape[0]))
            pattern_of = tf.gather(self.similarity.pattern_of, rows)
            labels = tf.gather(self.similarity.patterns, pattern_of)
            old = tf.gather(self.codes.value, rows)
            new = self._solved(old, labels, tf.gather(self.u, rows))
            self.codes.value.scatter_update(tf.IndexedSlices(new, rows))

    def update_rows(self, batch: Batch, u: tf.Tensor) -> None:
        """Discrete step over the rows of a batch, under the objective of all rows."""
        old = tf.gather(self.codes.value, batch.index)
        new = self._solved(old, batch.labels, u)
        self.codes.value.scatter_update(tf.IndexedSlices(new, batch.index))
        old, new = tf.cast(old, tf.float32), tf.cast(new, tf.float32)
        self.code_gram.assign_add(
            tf.matmul(new, new, transpose_a=True)
            - tf.matmul(old, old, transpose_a=True)
        )
        pattern_of = tf.gather(self.similarity.pattern_of, batch.index)
        self.code_sums.scatter_add(tf.IndexedSlices(new - old, pattern_of))

    def recompute(self) -> None:
        """All sums, exactly, from U and B."""
        codes = tf.cast(self.codes.value, tf.float32)
        self.gram.assign(self._gram(self.u))
        self.sums.assign(self.similarity.sum_by_pattern(self._weighted(self.u)))
        self.code_gram.assign(tf.matmul(codes, codes, transpose_a=True))
        self.code_sums.assign(self.similarity.sum_by_pattern(codes))

    def _solved(self, old: tf.Tensor, labels: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Eq. 11 for some rows: int8 ``(m, bits)``, with G and Q of all streams.

        ``old`` are their rows of B, ``labels`` ``(m, classes)``, ``u`` ``(m, streams,
        bits)``.
        """
        bits = self.codes.shape[1]
        # Q = K S M + alpha M,  M = sum_w w U_w
        similar = self.similarity.product(labels, self.sums)
        target = bits * similar + self._alpha * self._weighted(u)
        return discrete.dcc(old, self.gram, target)

    def _weighted(self, u: tf.Tensor) -> tf.Tensor:
        """sum_w w U_w: ``(n, bits)``."""
        return tf.einsum("nsk,s->nk", u, tf.constant(self._stream_weights))

    def _gram(self, u: tf.Tensor) -> tf.Tensor:
        """sum_w w U_w^T U_w: ``(bits, bits)``."""
        weighted = u * tf.constant(self._stream_weights)[:, None]
        return tf.einsum("nsk,nsl->kl", weighted, u)


class RankedCodes:
    """Codes that learn towards a better ranking, one for each distinct row of labels.

    The codes are the signs of real numbers that move against the gradient of the loss,
    in every step, by Adam. The loss is that of the signs; its gradient passes to the
    real numbers by a straight-through estimator of a tanh.

    Args:
        codes: int8 variable ``(n, bits)``, B. Where it has a row that is 0, B starts
            from random hyperplanes of the labels: like labels have like codes, and each
            bit halves the rows.
        similarity: `LabelSimilarity` of the n training rows.
        code_rate: float, the learning rate of B, as a multiple of that of the model.

    Attributes:
        real: `tf.Variable` ``(p, bits)``, a row for each of the p patterns of
            `similarity`.

    Example:
        >>> similarity = LabelSimilarity(np.eye(3), balanced=False)
        >>> codes = keras.Variable(np.zeros((3, 8)), dtype="int8", trainable=False)
        >>> RankedCodes(codes, similarity, code_rate=20.0).rows([0, 2]).shape
        TensorShape([2, 8])

    Reference:
        M. Courbariaux et al., Binarized Neural Networks, 2016, for the estimator.
    """

    def __init__(
        self, codes: Any, similarity: LabelSimilarity, code_rate: float
    ) -> None:
        self.codes, self.similarity = codes, similarity
        self._code_rate = code_rate
        if np.all(codes.numpy()):
            sums = similarity.sum_by_pattern(tf.cast(codes.value, tf.float32))
            real = sums / similarity.counts[:, None]
        else:
            classes, bits = similarity.patterns.shape[1], codes.shape[1]
            side = similarity.patterns @ keras.random.normal((classes, bits))
            middle = np.median(tf.gather(side, similarity.pattern_of), axis=0)
            real = discrete.sign(side - middle)
        self.real = tf.Variable(0.5 * real)
        self.variables = (self.real,)
        self._optimizer = keras.optimizers.Adam()
        self._optimizer.build([self.real])
        self.after_epoch()

    def rows(self, index: Any) -> tf.Tensor:
        """Codes of training rows: float32 tensor ``(m, bits)`` over {-1, +1}."""
        pattern_of = tf.gather(self.similarity.pattern_of, index)
        return discrete.sign(tf.gather(self.real, pattern_of))

    def loss_of(self, labels: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """One minus the average precision of images with these labels ``(batch,
        classes)`` as queries of B."""
        soft = tf.tanh(self.real)
        return functools.partial(
            losses.average_precision_loss,
            codes=soft + tf.stop_gradient(discrete.sign(soft) - soft),
            similar=tf.cast(shares_label(labels, self.similarity.patterns), tf.float32),
            counts=self.similarity.counts,
        )

    def after_batch(
        self, batch: Batch, u: tf.Tensor, gradients: Any, learning_rate: Any
    ) -> None:
        """One step of Adam on the real numbers."""
        self._optimizer.learning_rate = self._code_rate * learning_rate
        self._optimizer.apply(gradients, self.variables)

    def after_epoch(self) -> None:
        """Write the signs to the rows of B."""
        signs = self.rows(tf.range(self.codes.shape[0]))
        self.codes.assign(tf.cast(signs, tf.int8))
