"""CNNH: codes from the similarity matrix first, then a network that predicts them."""

import functools
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from kerashash.checks import check_integer
from kerashash.data import inputs
from kerashash.maths import factorization
from kerashash.methods.hash_model import HashModel
from kerashash.methods.training_state import Arrays


@keras.saving.register_keras_serializable(package="kerashash")
class CNNH(HashModel):
    """Convolutional neural network hashing, in two stages.

    Solves:
        1.  min  ||S - H H^T / K||_F^2  over H in [-1, 1]^(n x K);  B = sgn(H)
        2.  min  mean over images and bits of (u - b)^2  over the network, which gives u

    with K bits, and s_ij = 1 if images i and j share a label, -1 if not. Stage 1 comes
    before the first epoch, from the labels alone, and never sees an image
    (`kerashash.maths.factorization.similarity_codes`). The hash code of an image is
    sgn(u); the codes B of the training images are the learned codes.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        num_train: int; the number of training rows.
        sweeps: int; how many times stage 1 solves for all columns of H.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, {"label": labels, "index": index})`` with label rows ``(batch,
        num_classes)`` and the row numbers ``(batch,)`` of the images; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = CNNH(net, bits=16, num_classes=10, num_train=32)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        R. Xia, Y. Pan, H. Lai, C. Liu, S. Yan, Supervised Hashing for Image Retrieval
        via Image Representation Learning, AAAI 2014.

    Differences:
        All coordinates of a column of H move at once in stage 1. The network has the
        squared error of tanh, where the paper's has outputs in (0, 1). Its CNNH+, which
        also predicts the labels, is not here.
    """

    reported = ("loss",)
    needs_index = True
    supports_replicas = True

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        num_train: int,
        sweeps: int = 15,
        **kwargs: Any,
    ) -> None:
        check_integer("num_classes", num_classes)
        check_integer("num_train", num_train)
        sweeps = check_integer("sweeps", sweeps)
        super().__init__(backbone, bits, num_classes, num_train, **kwargs)
        self.options = {"sweeps": sweeps}
        self._labels_fingerprint: Any = None
        self.build_if_known()

    # -------------------------------------------------------------- train_step

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch = self.unpack(data)

        # Network step: stage 2.
        with tf.GradientTape() as tape:
            u = self(batch.x, training=True)
            u, index = self.gather(u, batch.index)  # (batch, bits)
            b = tf.cast(tf.gather(self.train_codes.value, index), tf.float32)
            loss = self.regularized(tf.reduce_mean((u - b) ** 2))
        self.minimize(tape, loss)

        # Discrete step: none, stage 1 has found the codes.

        # Metrics.
        return self.report(u, loss=loss)

    # ---------------------------------------------------------------- plumbing

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        # Stage 1. The codes depend on the labels alone: those of a training that goes
        # on are found again, and other training rows get their own.
        check = functools.partial(self.check_labels, name="label")
        labels, _ = inputs.collect(
            batches,
            self.num_train,
            lambda x, labels: tf.constant(labels),
            check,
            verbose,
        )
        data = inputs.fingerprint(labels)
        if self.has_state_to_resume:
            self.state_to_resume(data, {})  # refuses to resume on other labels
        self._labels_fingerprint = data
        codes = factorization.similarity_codes(
            labels, self.bits, self.options["sweeps"]
        )
        self.train_codes.assign(codes)

    def training_state(self) -> Arrays:
        data = self._labels_fingerprint
        return {} if data is None else {"data": data}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}
