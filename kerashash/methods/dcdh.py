"""DCDH: image, label and fused streams agree on one discrete code per image."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from kerashash.checks import check_choices, check_least, from_preset
from kerashash.data import inputs
from kerashash.maths import discrete, losses
from kerashash.maths.similarity import LabelSimilarity
from kerashash.methods.hash_model import HashModel
from kerashash.methods.layers import OuterProductFusion
from kerashash.methods.learned_codes import RankedCodes

CHOICES = {
    "variant": ("full", "V", "S"),
    "b_update": ("epoch", "batch"),
    "s_mode": ("balanced", "pm1"),
    "pair_loss": ("squares", "average_precision"),
    "focal": ("sigmoid", "softmax"),
}

PRESETS = {
    "default": {"s_mode": "balanced", "focal": "sigmoid"},
    "paper": {"s_mode": "pm1", "focal": "softmax"},
}


@keras.saving.register_keras_serializable(package="kerashash")
class DCDH(HashModel):
    """Deep collaborative discrete hashing.

    Three streams give continuous codes in (-1, 1): u_v of the image, u_l of its
    labels, u_f of the outer product of the two. One matrix B of binary codes, a
    row for each training image, is shared by all.

    Solves:
        min  L_v + lambda L_l + mu (L_f + focal)  over the networks and B
        L_w = ||U_w B^T - K S||_F^2 + alpha ||B - U_w||_F^2

    alternating between the networks (back-propagation, B fixed) and B (discrete
    cyclic coordinate descent, networks fixed). S_ij is 1 if images i and j share
    a label and -1, or a balancing value, if not. No n x n matrix is built.

    Squares want every inner product to be +-K. Where images have several labels, no
    short codes come near, and the misfit costs ranking.
    ``pair_loss="average_precision"`` asks for the ranking itself: L_w is, in place of
    the first term, one minus the average precision of u_i as a query of B
    (`kerashash.maths.losses.average_precision_loss`), and B, then one row for each
    distinct row of labels, moves against its gradient in every step. It costs O(n p K)
    an epoch for p distinct rows of labels, in place of O(n K^2).

    A query is encoded by the image stream, sgn(u_v). Training images have the
    learned codes `learned_codes()`.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int, the code length K.
        num_classes: int, the number of labels.
        num_train: int, the number of training rows; their indices are 0 to
            num_train - 1.
        variant: "full"; "V", the image stream alone (lambda = mu = 0); or "S",
            image and label streams without fusion (mu = 0).
        b_update: of squares: "epoch" updates all of B after each epoch; "batch" updates
            the rows of the batch in each step, under the global objective.
        s_mode: of squares: "balanced" gives dissimilar pairs the value -#similar /
            #dissimilar; "pm1" gives them -1. With few similar pairs "pm1" has a
            collapsed minimum, which short trainings fall into: all u equal and
            all rows of B their opposite, so that every pair counts as
            dissimilar. None for the preset's.
        focal: "sigmoid" for any labels; "softmax" for one label an image. None
            for the preset's.
        pair_loss: "squares" or "average_precision".
        label_loss_weight: float, lambda.
        fusion_loss_weight: float, mu.
        focal_weight: float, weight of the focal loss inside the mu term.
        quantization_weight: float, alpha, on the scale of a sum over all training
            rows. Beside average precision, a tenth of num_train times bits serves.
        code_rate: float, of average precision: the learning rate of B, for Adam, as a
            multiple of that of the model's optimizer, whose schedule it so follows.
        label_units: ints, hidden widths of the label stream.
        fusion_units: ints, hidden widths of the fusion stream.
        detach_fusion: bool; True keeps the gradient of the fusion stream from the
            two streams it fuses.
        preset: "default": balanced S and sigmoid focal loss; "paper": S of +-1 and
            softmax focal loss.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, {"label": (batch, num_classes), "index": (batch,)})``, each
        index once an epoch; or plain arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = DCDH(net, bits=16, num_classes=10, num_train=32,
        ...              label_units=(64,), fusion_units=(64,))
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape, model.learned_codes().shape
        ((32, 2), (32, 16))

    Reference:
        Z. Wang, Z. Zhang, Y. Luo, Z. Huang, Deep Collaborative Discrete Hashing
        with Semantic-Invariant Structure, SIGIR 2019.

    Differences:
        Terms are means over pairs, divided by K^2. The bit update is
        z = sgn(q - B' U'^T u), the minimiser; eq. 11 prints the opposite sign,
        the maximiser. The three objectives are solved for their one B together.
        The average precision is not the paper's. Its B moves as
        `kerashash.methods.learned_codes.RankedCodes` says; unlike the bit update, a
        step may raise the objective.
        Balanced S and the sigmoid focal loss are the defaults; the paper's S of
        +-1 and softmax focal loss come with ``preset="paper"``.
    """

    reported = ("loss", "visual_loss", "label_loss", "fusion_loss", "focal_loss")

    def __init__(
        self,
        backbone,
        bits,
        num_classes,
        num_train,
        variant="full",
        b_update="epoch",
        s_mode=None,
        focal=None,
        pair_loss="squares",
        label_loss_weight=0.5,
        fusion_loss_weight=0.5,
        focal_weight=1.0,
        quantization_weight=200.0,
        code_rate=20.0,
        label_units=(4096, 512),
        fusion_units=(4096, 512),
        detach_fusion=False,
        preset="default",
        **kwargs,
    ):
        options = {
            "variant": variant,
            "b_update": b_update,
            "pair_loss": pair_loss,
            **from_preset(PRESETS, preset, s_mode=s_mode, focal=focal),
        }
        check_choices(CHOICES, **options)
        weights = {
            "label_loss_weight": label_loss_weight,
            "fusion_loss_weight": fusion_loss_weight,
            "focal_weight": focal_weight,
            "quantization_weight": quantization_weight,
        }
        check_least(0, **weights, code_rate=code_rate)
        for name, value in (("num_classes", num_classes), ("num_train", num_train)):
            if value is None:
                raise ValueError(f"`{name}` must be an integer. Received: None.")
        super().__init__(backbone, bits, num_classes, num_train, **kwargs)
        self.options = {
            **options,
            **weights,
            "code_rate": float(code_rate),
            "label_units": tuple(label_units),
            "fusion_units": tuple(fusion_units),
            "detach_fusion": bool(detach_fusion),
        }
        self.ranks = pair_loss == "average_precision"
        # The weight of each stream in the joint objective.
        self.stream_weights = [1.0]
        if variant in ("full", "S"):
            self.stream_weights.append(float(label_loss_weight))
            self.label_net = _stream(label_units, bits, "label_net")
        if variant == "full":
            self.stream_weights.append(float(fusion_loss_weight))
            self.fusion = OuterProductFusion(name="fusion")
            self.fusion_net = _stream(fusion_units, bits, "fusion_net")
            self.classifier = keras.layers.Dense(
                num_classes, dtype="float32", name="classifier"
            )
        self.stats = None
        self._look = tf.function(
            # Ranking starts from the labels alone.
            lambda x, labels: (
                labels if self.ranks else self.streams(x, labels, training=False)[0]
            ),
            reduce_retracing=True,
        )
        self.build_if_known()

    def build(self, input_shape):
        super().build(input_shape)
        if len(self.stream_weights) > 1:
            self.label_net.build((None, self.num_classes))
        if len(self.stream_weights) > 2:
            self.fusion_net.build((None, self.bits**2))
            self.classifier.build((None, self.bits))

    def streams(self, x, labels, training):
        """Continuous codes of all streams.

        Returns:
            ``(u, logits)``: float32 ``(batch, streams, bits)`` in the order image,
            label, fusion; and float32 ``(batch, num_classes)``, or None without
            the fusion stream.
        """
        u = [self(x, training=training)]
        if len(self.stream_weights) > 1:
            u.append(self.label_net(labels, training=training))
        if len(self.stream_weights) < 3:
            return tf.stack(u, axis=1), None
        pair = [tf.stop_gradient(s) for s in u] if self.options["detach_fusion"] else u
        fused = self.fusion(pair[::-1])  # (batch, bits^2)
        u.append(self.fusion_net(fused, training=training))
        return tf.stack(u, axis=1), self.classifier(u[-1])

    def compute_losses(self, u, logits, labels, codes):
        """The terms of the objective on one batch, by name."""
        fit_of = self._fit(labels)
        pairs = self.num_train * self.bits**2
        scale = self.options["quantization_weight"] / pairs
        values = {}
        for s, name in enumerate(self.reported[1:4][: u.shape[1]]):
            fit = fit_of(u[:, s])
            gap = tf.reduce_mean(tf.reduce_sum((codes - u[:, s]) ** 2, axis=1))
            values[name] = fit + scale * gap
        terms = zip(self.stream_weights, values.values(), strict=True)
        total = sum(weight * value for weight, value in terms)
        if logits is not None:
            sigmoid = self.options["focal"] == "sigmoid"
            focal = losses.sigmoid_focal if sigmoid else losses.softmax_focal
            values["focal_loss"] = focal(labels, logits)
            weight = self.stream_weights[2] * self.options["focal_weight"]
            total += weight * values["focal_loss"]
        return {"loss": total, **values}

    def _fit(self, labels):
        """The loss over S of a stream's codes, given the labels of the batch."""
        if self.ranks:
            return self.stats.loss_of(labels)
        return functools.partial(
            losses.similarity_regression,
            code_gram=self.stats.code_gram,
            similarity_codes=self.similarity.product(labels, self.stats.code_sums),
            similarity_squares=self.similarity.square_sum(labels),
            n=float(self.num_train),
        )

    def train_step(self, data):
        x, labels, index = self.unpack(data)

        # Network step: eq. 3, 4, 6 and 7, B fixed.
        rate, codes = self.optimizer.learning_rate, self._rows(index)
        with tf.GradientTape(persistent=self.ranks) as tape:
            u, logits = self.streams(x, labels, training=True)
            values = self.compute_losses(u, logits, labels, codes)
            loss = values["loss"] = self.regularized(values["loss"])
        self.minimize(tape, loss)

        # Discrete step: eq. 9 to 11, networks fixed. With b_update="epoch" the
        # codes of the streams are only collected, for `epoch_step`.
        if self.ranks:
            gradient = tape.gradient(loss, self.stats.real)
            self.stats.move(gradient, self.options["code_rate"] * rate)
        else:
            self._collect(index, u)
            if self.options["b_update"] == "batch":
                self._update_rows(index, labels, u)

        # Metrics.
        return self.report(**values)

    def test_step(self, data):
        x, labels = self.unpack(data, index=False)
        if self.stats is None:
            raise ValueError(
                "`evaluate` of a DCDH model needs the learned codes and labels that "
                "`fit` collects. Received a model that was not fitted in this "
                "process; `kerashash.evaluate(model, data)` measures retrieval."
            )
        u, logits = self.streams(x, labels, training=False)
        # An image outside the training set has the code of its image stream.
        codes = discrete.sign(u[:, 0])
        return self.report(**self.compute_losses(u, logits, labels, codes))

    # ---------------------------------------------------------------- B and S

    def prepare(self, batches, verbose):
        """Collect labels and first continuous codes; start B where it is empty."""
        check = functools.partial(self.check_labels, name="label")
        labels, u = inputs.collect(batches, self.num_train, self._look, check, verbose)
        balanced = self.options["s_mode"] == "balanced"
        self.similarity = LabelSimilarity(labels, balanced)
        # Traced functions hold the statistics of an earlier `fit`.
        self.train_function = self.test_function = None
        started = self.train_codes.numpy().all()
        if self.ranks:
            start = self.train_codes.value if started else None
            self.stats = RankedCodes(self.similarity, self.bits, start)
            self._take_ranked()
            return
        p, bits = len(self.similarity.counts), self.bits
        buffer = functools.partial(tf.Variable, trainable=False)
        # Not model weights: `fit` derives all of it anew from the data and B.
        self.stats = SimpleNamespace(
            u=buffer(u),  # U_w of all rows
            gram=buffer(tf.zeros((bits, bits))),  # G = sum_w w U_w^T U_w
            sums=buffer(tf.zeros((p, bits))),  # M = sum_w w U_w by pattern
            code_gram=buffer(tf.zeros((bits, bits))),  # B^T B
            code_sums=buffer(tf.zeros((p, bits))),  # B by pattern
        )
        if not started:
            start = discrete.sign(self._weighted(self.stats.u))
            self.train_codes.assign(tf.cast(start, tf.int8))
            self._solve()
        self._recompute()

    def epoch_step(self):
        values = {}
        if self.ranks or self.options["b_update"] == "epoch":
            before = self.train_codes.numpy()
            if self.ranks:
                self._take_ranked()
            else:
                self._solve()
            flips = np.mean(before != self.train_codes.numpy())
            values["learned_bit_flips"] = float(flips)
        if not self.ranks:
            # Batch updates add up with rounding errors: start the epoch exact.
            self._recompute()
        return values

    def _rows(self, index):
        """Rows of B, float32."""
        if self.ranks:
            return self.stats.rows(index)
        return tf.cast(tf.gather(self.train_codes.value, index), tf.float32)

    def _take_ranked(self):
        codes = self.stats.rows(tf.range(self.num_train))
        self.train_codes.assign(tf.cast(codes, tf.int8))

    def _weighted(self, u):
        """Sum of the streams' codes by their weights: (n, bits)."""
        return tf.einsum("nsk,s->nk", u, tf.constant(self.stream_weights))

    def _gram(self, u):
        """Sum of the streams' Gram matrices by their weights: (bits, bits)."""
        weighted = u * tf.constant(self.stream_weights)[:, None]
        return tf.einsum("nsk,nsl->kl", weighted, u)

    def _new_codes(self, old, labels, u):
        """Discrete step over some rows: eq. 11, for all streams at once.

        Args:
            old: int8 tensor ``(m, bits)``, their rows of B.
            labels: float tensor ``(m, num_classes)``.
            u: float tensor ``(m, streams, bits)``.

        Returns:
            int8 tensor ``(m, bits)``; the joint objective is not larger.
        """
        pull = self.options["quantization_weight"] * self._weighted(u)
        # G = sum_w w U_w^T U_w and Q = K S M + alpha M.
        similar = self.similarity.product(labels, self.stats.sums)
        return discrete.dcc(old, self.stats.gram, self.bits * similar + pull)

    def _solve(self):
        """Discrete step over all rows; never increases the joint objective."""
        self._recompute()
        stats, codes = self.stats, self.train_codes.value
        # In blocks: the block of S has rows x patterns entries.
        block = 8192
        for start in range(0, self.num_train, block):
            rows = tf.range(start, min(start + block, self.num_train))
            pattern_of = tf.gather(self.similarity.pattern_of, rows)
            labels = tf.gather(self.similarity.patterns, pattern_of)
            new = self._new_codes(
                tf.gather(codes, rows), labels, tf.gather(stats.u, rows)
            )
            codes.scatter_update(tf.IndexedSlices(new, rows))

    def _recompute(self):
        """All statistics, exactly, from U and B."""
        stats = self.stats
        codes = tf.cast(self.train_codes.value, tf.float32)
        stats.gram.assign(self._gram(stats.u))
        stats.sums.assign(self.similarity.sum_by_pattern(self._weighted(stats.u)))
        stats.code_gram.assign(tf.matmul(codes, codes, transpose_a=True))
        stats.code_sums.assign(self.similarity.sum_by_pattern(codes))

    def _collect(self, index, u):
        stats = self.stats
        if self.options["b_update"] == "batch":
            old = tf.gather(stats.u, index)
            stats.gram.assign_add(self._gram(u) - self._gram(old))
            pattern_of = tf.gather(self.similarity.pattern_of, index)
            moved = self._weighted(u) - self._weighted(old)
            stats.sums.scatter_add(tf.IndexedSlices(moved, pattern_of))
        stats.u.scatter_update(tf.IndexedSlices(u, index))

    def _update_rows(self, index, labels, u):
        """Discrete step over the rows of a batch, under the global objective."""
        stats = self.stats
        old = tf.gather(self.train_codes.value, index)
        new = self._new_codes(old, labels, u)
        self.train_codes.value.scatter_update(tf.IndexedSlices(new, index))
        old, new = tf.cast(old, tf.float32), tf.cast(new, tf.float32)
        stats.code_gram.assign_add(
            tf.matmul(new, new, transpose_a=True)
            - tf.matmul(old, old, transpose_a=True)
        )
        pattern_of = tf.gather(self.similarity.pattern_of, index)
        stats.code_sums.scatter_add(tf.IndexedSlices(new - old, pattern_of))

    def get_config(self):
        return {**super().get_config(), **self.options}


def _stream(units, bits, name):
    """A multi-layer perceptron that ends in continuous codes."""
    layers = []
    for width in units:
        layers += [
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dropout(0.5),
        ]
    layers.append(keras.layers.Dense(bits, activation="tanh", dtype="float32"))
    return keras.Sequential(layers, name=name)
