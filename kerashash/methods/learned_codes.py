"""Learned codes that move towards a better ranking, a code for each row of labels."""

import functools

import keras
import numpy as np
import tensorflow as tf

from kerashash.maths import losses
from kerashash.maths.discrete import sign
from kerashash.maths.similarity import shares_label


class RankedCodes:
    """Codes of all distinct label rows, as signs of real numbers that learn.

    The loss is of the signs, and the real numbers take its gradient as if they were the
    signs, up to a tanh.

    Args:
        similarity: `kerashash.maths.similarity.LabelSimilarity` of the n training rows.
        bits: int.
        start: int8 tensor ``(n, bits)`` over {-1, +1}, or None for random hyperplanes
            of the labels: like labels have like codes, and each bit halves the rows.

    Attributes:
        real: `tf.Variable` ``(p, bits)``, a row for each pattern of `similarity`.

    Example:
        >>> from kerashash.maths.similarity import LabelSimilarity
        >>> codes = RankedCodes(LabelSimilarity(np.eye(3), balanced=False), bits=8)
        >>> codes.rows([0, 2]).shape
        TensorShape([2, 8])

    Reference:
        M. Courbariaux et al., Binarized Neural Networks, 2016, for the gradient.
    """

    def __init__(self, similarity, bits, start=None):
        self.similarity = similarity
        if start is None:
            planes = keras.random.normal((similarity.patterns.shape[1], bits))
            side = similarity.patterns @ planes
            middle = np.median(tf.gather(side, similarity.pattern_of), axis=0)
            real = sign(side - middle)
        else:
            sums = similarity.sum_by_pattern(tf.cast(start, tf.float32))
            real = sums / similarity.counts[:, None]
        self.real = tf.Variable(0.5 * real)
        self._optimizer = keras.optimizers.Adam()
        self._optimizer.build([self.real])

    def rows(self, index):
        """Codes of training rows: float32 tensor ``(m, bits)`` over {-1, +1}."""
        pattern_of = tf.gather(self.similarity.pattern_of, index)
        return sign(tf.gather(self.real, pattern_of))

    def loss_of(self, labels):
        """The loss, as a function of continuous codes, of images with these labels:
        one minus the average precision of each as a query."""
        soft = tf.tanh(self.real)
        return functools.partial(
            losses.average_precision_loss,
            codes=soft + tf.stop_gradient(sign(soft) - soft),
            similar=tf.cast(shares_label(labels, self.similarity.patterns), tf.float32),
            counts=self.similarity.counts,
        )

    def move(self, gradient, learning_rate):
        """One step of Adam on the real numbers."""
        self._optimizer.learning_rate = learning_rate
        self._optimizer.apply([gradient], [self.real])
