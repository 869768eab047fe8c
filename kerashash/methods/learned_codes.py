"""The two ways in which DCDH learns B, the codes of its training rows.

Both classes have one interface, and a training step calls it in this order:

- ``by_batch``: whether `store` also updates rows of B;
- ``store(batch, u)``: takes U of a batch, before the network step;
- ``rows(index)``: the codes of training rows, for the network step;
- ``loss_of(labels)``: the similarity loss, as a function of continuous codes;
- ``variables``: variables whose gradient the network step also computes, if any;
- ``descend(gradients, learning_rate)``: moves these, after the network step;
- ``after_epoch()``: updates B after an epoch. Then `codes` is up to date;
- ``state()``: arrays from which, with B, training goes on after an epoch; their shapes
  are ``state_shapes(n, streams, bits)``.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.maths import discrete, losses
from kerashash.maths.similarity import (
    LabelSimilarity,
    may_share_label,
    shares_label,
)
from kerashash.methods import replicas
from kerashash.methods.trainable import Batch

# Rows of B solved at a time: a block of S then has _BLOCK_ROWS x patterns entries.
_BLOCK_ROWS = 8192


class SolvedCodes:
    """Codes that minimise squared errors, solved bit by bit: the paper's B.

    Solves:
        argmin over B of sum_w c_w (||U_w B^T - K S||_F^2 + alpha ||B - U_w||_F^2)
        subject to  B in {-1, +1}^(n x K)

    Expanded, each stream w has the objective (eq. 9)
    ``||U_w B^T||^2 - 2 tr(B^T (K S U_w + alpha U_w)) + const``. Their weighted sum is
    ``tr(B G B^T) - 2 tr(B Q^T)`` (eq. 10) with

        G = sum_w c_w U_w^T U_w,  Q = K S M + alpha M,  M = sum_w c_w U_w

    which `kerashash.maths.discrete.dcc` solves bit by bit (eq. 11). U_w holds the
    continuous codes of stream w from the latest pass over each training row. An update
    never increases the objective. Nothing of size n x n is kept: products with S need
    only the p distinct label rows, the patterns.

    Args:
        codes: int8 variable ``(n, bits)``; B, with 0 in rows that have no code yet.
        similarity: `LabelSimilarity` of the n training rows.
        u: float32 array ``(n, streams, bits)``; continuous codes of all streams.
        stream_weights: list of float; the weight c_w of each stream.
        quantization_weight: float; alpha.
        by_batch: bool; True updates the rows of each batch in its step, and all rows
            after each epoch; False only does the latter.
        from_labels: bool; whether B starts from random hyperplanes in the space of
            labels (`random_planes`), and not from the signs of U.

    Example:
        >>> similarity = LabelSimilarity(np.eye(3), balanced=False)
        >>> codes = keras.Variable(np.zeros((3, 4)), dtype="int8", trainable=False)
        >>> u = np.random.default_rng(0).normal(size=(3, 1, 4)).astype(np.float32)
        >>> solved = SolvedCodes(codes, similarity, u, [1.0], 1.0, by_batch=False)
        >>> solved.rows([0, 2]).shape
        TensorShape([2, 4])

    Reference:
        DCDH (Wang et al., SIGIR 2019), eq. 9 to 11; eq. 11 prints the opposite sign.
    """

    uses_u = True
    variables: tuple[Any, ...] = ()  # B has no gradient

    def __init__(
        self,
        codes: Any,
        similarity: LabelSimilarity,
        u: npt.NDArray[np.float32],
        stream_weights: list[float],
        quantization_weight: float,
        by_batch: bool,
        from_labels: bool = False,
    ) -> None:
        patterns, bits = len(similarity.counts), codes.shape[1]
        self.codes, self.similarity = codes, similarity
        self._stream_weights = stream_weights
        self._alpha, self.by_batch = quantization_weight, by_batch
        # Not weights of the model: each `fit` computes them from the data and B.
        buffer = functools.partial(tf.Variable, trainable=False)
        self.u = buffer(u)  # (n, streams, bits)
        self.gram = buffer(tf.zeros((bits, bits)))  # G
        self.sums = buffer(tf.zeros((patterns, bits)))  # M, summed by pattern
        self.code_gram = buffer(tf.zeros((bits, bits)))  # B^T B
        self.code_sums = buffer(tf.zeros((patterns, bits)))  # B, summed by pattern
        if not np.all(codes.numpy()):
            if from_labels:
                planes = random_planes(similarity, bits)
                initial = tf.gather(planes, similarity.pattern_of)
            else:
                initial = discrete.sign(self._weighted(self.u))
            codes.assign(tf.cast(initial, tf.int8))
            self.solve()
        self.recompute()

    @staticmethod
    def state_shapes(n: int, streams: int, bits: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that `state` returns."""
        return {"u": (n, streams, bits)}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """U. All sums follow from U and B."""
        return {"u": self.u.numpy()}

    def rows(self, index: Any) -> tf.Tensor:
        """Return codes of training rows: float32 ``(m, bits)`` over {-1, +1}."""
        return tf.cast(tf.gather(self.codes.value, index), tf.float32)

    def loss_of(self, labels: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the first term of L_w as a function of U_w of a batch.

        ``labels`` ``(batch, num_classes)`` are those of the batch.
        """
        return functools.partial(
            losses.similarity_regression,
            code_gram=self.code_gram,
            similarity_codes=self.similarity.product(labels, self.code_sums),
            similarity_squares=self.similarity.square_sum(labels),
            n=float(self.codes.shape[0]),
        )

    def store(self, batch: Batch, u: tf.Tensor) -> None:
        """Store U of the batch; with `by_batch`, update its rows of B as well."""
        if self.by_batch:
            old_u = tf.gather(self.u, batch.index)
            self.gram.assign_add(self._gram(u) - self._gram(old_u))
            pattern_of = tf.gather(self.similarity.pattern_of, batch.index)
            change = self._weighted(u) - self._weighted(old_u)
            self.sums.scatter_add(tf.IndexedSlices(change, pattern_of))
        self.u.scatter_update(tf.IndexedSlices(u, batch.index))
        if self.by_batch:
            self.update_rows(batch, u)

    def descend(self, gradients: Any, learning_rate: Any) -> None:
        """B has no gradient."""

    def after_epoch(self) -> None:
        """Update all of B from the U of the epoch."""
        # With `by_batch` as well: a row was solved when U of the rows after it was that
        # of the epoch before, and the codes would keep to minima found too early.
        self.solve()
        self.recompute()

    def solve(self) -> None:
        """Discrete step over all rows of B."""
        self.recompute()
        n = self.codes.shape[0]
        for start in range(0, n, _BLOCK_ROWS):
            rows = tf.range(start, min(start + _BLOCK_ROWS, n))
            pattern_of = tf.gather(self.similarity.pattern_of, rows)
            labels = tf.gather(self.similarity.patterns, pattern_of)
            old = tf.gather(self.codes.value, rows)
            new = self._solved(old, labels, tf.gather(self.u, rows))
            new = tf.cast(new, old.dtype)
            self.codes.value.scatter_update(tf.IndexedSlices(new, rows))

    def update_rows(self, batch: Batch, u: tf.Tensor) -> None:
        """Discrete step over the rows of a batch, under the objective of all rows."""
        old = tf.gather(self.codes.value, batch.index)
        new = tf.cast(self._solved(old, batch.labels, u), old.dtype)
        self.codes.value.scatter_update(tf.IndexedSlices(new, batch.index))
        old, new = tf.cast(old, tf.float32), tf.cast(new, tf.float32)
        self.code_gram.assign_add(
            tf.matmul(new, new, transpose_a=True)
            - tf.matmul(old, old, transpose_a=True)
        )
        pattern_of = tf.gather(self.similarity.pattern_of, batch.index)
        self.code_sums.scatter_add(tf.IndexedSlices(new - old, pattern_of))

    def recompute(self) -> None:
        """Compute all sums exactly, from U and B."""
        codes = tf.cast(self.codes.value, tf.float32)
        self.gram.assign(self._gram(self.u))
        self.sums.assign(self.similarity.sum_by_pattern(self._weighted(self.u)))
        self.code_gram.assign(tf.matmul(codes, codes, transpose_a=True))
        self.code_sums.assign(self.similarity.sum_by_pattern(codes))

    def _solved(self, old: tf.Tensor, labels: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Solve eq. 11 for m rows of B: int8 ``(m, bits)``.

        Args:
            old: int8 tensor ``(m, bits)``; the rows as they are.
            labels: float tensor ``(m, num_classes)``; label rows of these images.
            u: float tensor ``(m, streams, bits)``; continuous codes of these images.
        """
        bits = self.codes.shape[1]
        similar = self.similarity.product(labels, self.sums)  # rows of S M
        target = bits * similar + self._alpha * self._weighted(u)  # Q: (m, bits)
        return discrete.dcc(old, self.gram, target)

    def _weighted(self, u: tf.Tensor) -> tf.Tensor:
        """Compute M, the sum over streams of c_w U_w: ``(n, bits)``."""
        return tf.einsum("nsk,s->nk", u, tf.constant(self._stream_weights))

    def _gram(self, u: tf.Tensor) -> tf.Tensor:
        """Compute G, the sum over streams of c_w U_w^T U_w: ``(bits, bits)``."""
        weighted = u * tf.constant(self._stream_weights)[:, None]
        return tf.einsum("nsk,nsl->kl", weighted, u)


def random_planes(similarity: LabelSimilarity, bits: int) -> tf.Tensor:
    """Codes of label rows, by random hyperplanes in the space of labels.

    Similar label rows get similar codes, and each bit splits the training rows in half.

    Args:
        similarity: `LabelSimilarity` of the training rows.
        bits: int; the code length.

    Returns:
        float32 tensor ``(p, bits)`` over {-1, +1}; a code for each of the p distinct
        label rows.

    Example:
        >>> random_planes(LabelSimilarity(np.eye(3), balanced=False), 8).shape
        TensorShape([3, 8])
    """
    num_classes = similarity.patterns.shape[1]
    planes = keras.random.normal((num_classes, bits), dtype="float32")
    projected = tf.nn.relu(similarity.patterns) @ planes
    median = np.median(tf.gather(projected, similarity.pattern_of), axis=0)
    return discrete.sign(projected - median)


class RankedCodes:
    """Codes trained for their ranking, one for each distinct row of labels.

    This is an extension of DCDH. The codes are the signs of latent real numbers, which
    Adam updates in every step. The loss is computed from the signs; a straight-through
    estimator passes its gradient to the tanh of the real numbers.

    Args:
        codes: int8 variable ``(n, bits)``; B. If it has rows of 0, which have no code
            yet, B starts from `random_planes`.
        similarity: `LabelSimilarity` of the n training rows.
        code_rate: float; the learning rate of B, as a multiple of the model's.
        state: dict of arrays or None; what `state` returned when training was
            interrupted. It is used if it is that of the codes.

    Attributes:
        real: `tf.Variable` ``(p, bits)``; the latent numbers, with a row for each of
            the p patterns of `similarity`.

    Example:
        >>> similarity = LabelSimilarity(np.eye(3), balanced=False)
        >>> codes = keras.Variable(np.zeros((3, 8)), dtype="int8", trainable=False)
        >>> RankedCodes(codes, similarity, code_rate=20.0).rows([0, 2]).shape
        TensorShape([2, 8])

    Reference:
        The estimator: M. Courbariaux et al., Binarized Neural Networks, 2016.
    """

    uses_u = False
    by_batch = False  # no discrete step uses U

    def __init__(
        self,
        codes: Any,
        similarity: LabelSimilarity,
        code_rate: float,
        state: dict[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        self.codes, self.similarity = codes, similarity
        self._code_rate = code_rate
        self.real = tf.Variable(tf.zeros((len(similarity.counts), codes.shape[1])))
        self.variables = (self.real,)
        self._optimizer = keras.optimizers.Adam()
        self._optimizer.build([self.real])
        if not (state and self._restored(state)):
            self.real.assign(0.5 * self._initial_real())
        self.after_epoch()

    def _restored(self, state: dict[str, npt.NDArray[Any]]) -> bool:
        """Restore a state, and say whether the codes are its own.

        They are others if a callback has restored the weights of an earlier epoch.
        """
        self.real.assign(state["real"])
        signs = self.rows(tf.range(self.codes.shape[0]))
        if not np.array_equal(signs, self.codes.numpy()):
            return False
        for name, variable in self._moments():
            variable.assign(state[name])
        return True

    def _initial_real(self) -> tf.Tensor:
        """Real numbers with the signs of the codes, or with those of random planes."""
        codes, similarity = self.codes, self.similarity
        if np.all(codes.numpy()):
            sums = similarity.sum_by_pattern(tf.cast(codes.value, tf.float32))
            return sums / similarity.counts[:, None]
        return random_planes(similarity, codes.shape[1])

    def _moments(self) -> list[tuple[str, Any]]:
        """The variables of Adam, by the names that they have in the state."""
        steps, _, mean, square = self._optimizer.variables
        return [("steps", steps), ("mean", mean), ("square", square)]

    @staticmethod
    def state_shapes(
        n: int, streams: int, bits: int
    ) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the arrays that `state` returns."""
        rows = (None, bits)
        return {"real": rows, "steps": (), "mean": rows, "square": rows}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The real numbers and the moments of Adam."""
        moments = {name: variable.numpy() for name, variable in self._moments()}
        return {"real": self.real.numpy(), **moments}

    def rows(self, index: Any) -> tf.Tensor:
        """Return codes of training rows: float32 ``(m, bits)`` over {-1, +1}."""
        pattern_of = tf.gather(self.similarity.pattern_of, index)
        return discrete.sign(tf.gather(self.real, pattern_of))

    def loss_of(self, labels: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return one minus the average precision, as a function of U_w of a batch.

        The images of the batch, with label rows ``labels`` ``(batch, num_classes)``,
        are queries of B. Codes whose similarity is unknown are not in their rankings.
        """
        patterns, counts = self.similarity.patterns, self.similarity.counts
        if self.similarity.has_unknown:
            counts *= tf.cast(~may_share_label(labels, patterns), tf.float32)
        soft = tf.tanh(self.real)
        # Straight-through estimator: the value of the sign, the gradient of the tanh.
        codes = soft + tf.stop_gradient(discrete.sign(soft) - soft)
        return functools.partial(
            losses.average_precision_loss,
            codes=codes,
            similar=tf.cast(shares_label(labels, patterns), tf.float32),
            counts=counts,
        )

    def store(self, batch: Batch, u: tf.Tensor) -> None:
        """The codes do not depend on U."""

    def descend(self, gradients: Any, learning_rate: Any) -> None:
        """Apply one step of Adam to the real numbers."""
        self._optimizer.learning_rate = self._code_rate * learning_rate
        self._optimizer.apply([replicas.share(g) for g in gradients], self.variables)

    def after_epoch(self) -> None:
        """Write the signs to the rows of B."""
        signs = self.rows(tf.range(self.codes.shape[0]))
        self.codes.assign(tf.cast(signs, tf.int8))
