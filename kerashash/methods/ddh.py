"""DDH: codes from neighbourhoods, without labels."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from kerashash import backbones
from kerashash.checks import (
    check_choices,
    check_integer,
    check_least,
    from_preset,
)
from kerashash.data import inputs
from kerashash.maths import discrete
from kerashash.maths import similarity as similarities
from kerashash.methods.hash_model import HashModel

CHOICES = {
    "similarity": ("neighbours", "labels"),
    "mode": ("bank", "batch"),
    "pair_weight": ("balanced", "uniform"),
}


def presets(bits, num_train):
    """The options that the paper sets differently."""
    return {
        "default": {"pair_weight": "balanced", "quantization_weight": 0.05},
        # Its lambda_1 = 15 weighs a sum over images against a sum over pairs.
        "paper": {
            "pair_weight": "uniform",
            "quantization_weight": 15.0 * bits / num_train,
        },
    }


@keras.saving.register_keras_serializable(package="kerashash")
class DDH(HashModel):
    """Deep discrete hashing with self-supervised pairwise labels.

    Solves:
        min  J_1 + J_2 + lambda_2 / 2 (||W||^2 + ||c||^2)
        J_1 = 1/2 mean over pairs of w_ij (z_i . z_j / K - s_ij)^2
        J_2 = lambda / 2 mean over images and bits of (z - sgn(z))^2

    over the network; W and c are the hash layer's. The hash code of an image is
    sgn(z). S is fixed before training: s_ij is 1 if i and j are expanded neighbours
    by the backbone's features (`kerashash.maths.similarity.expanded_neighbours`) and
    -1 if not. The method needs no labels.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int, the code length K.
        num_train: int, the number of training rows; their indices are 0 to
            num_train - 1.
        num_classes: int, the number of labels, for ``similarity="labels"``.
        similarity: "neighbours", or "labels", the supervised variant: s_ij is 1 if i
            and j share a label.
        mode: "bank" pairs each image of a batch with all training images, whose z it
            keeps; "batch" with the others of its batch.
        neighbours, lists: int, K_1 and K_2 of the expansion.
        neighbour_backbone: where neighbours are looked for: name or `keras.Model` of
            the inputs, not trained; None is the backbone as it is when `fit` begins.
            Set it where a backbone is fine-tuned and training is resumed.
        pair_weight: "balanced" gives similar and dissimilar pairs the same total
            weight; "uniform" weighs all pairs alike, and then needs plain stochastic
            gradient descent: with Adam all codes become equal. None for the preset's.
        quantization_weight: float, lambda; from 0.02 to 0.1 is safe, much above 0.1
            all codes become equal. None for the preset's.
        head_penalty: float, lambda_2.
        preset: "default"; "paper": uniform pair weights and lambda = 15 K / num_train.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, {"index": (batch,)})``, each index once an epoch (labels are
        passed over); or a plain array. ``similarity="labels"`` needs ``"label": (batch,
        num_classes)`` as well.

    XLA:
        ``jit_compile=True`` needs ``similarity="labels"``: neighbours of a batch are
        lists of no fixed length, and Keras warns that it goes on without.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = DDH(net, bits=16, num_train=32, neighbours=3, lists=2)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x = np.random.rand(32, 64)
        >>> history = model.fit(x, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        J. Song, T. He, H. Fan, L. Gao, Deep Discrete Hashing with Self-supervised
        Pairwise Labels, ECML PKDD 2017.

    Differences:
        Terms are means over pairs and images. Pairs are balanced, since about 97 of
        100 are dissimilar and no codes can be opposite to each other all at once: the
        first thing unweighted pairs do is shrink z.
    """

    reported = ("loss", "pair_loss", "quantization_loss")
    needs_index = True
    refused = (*HashModel.refused, "validation_data")
    needs_labels = property(lambda self: self.options["similarity"] == "labels")

    def __init__(
        self,
        backbone,
        bits,
        num_train,
        num_classes=None,
        similarity="neighbours",
        mode="bank",
        neighbours=15,
        lists=6,
        neighbour_backbone=None,
        pair_weight=None,
        quantization_weight=None,
        head_penalty=1e-5,
        preset="default",
        **kwargs,
    ):
        super().__init__(backbone, bits, num_classes, hash_activation=None, **kwargs)
        check_integer("num_train", num_train)
        self.num_train = num_train
        chosen = from_preset(
            presets(bits, num_train),
            preset,
            pair_weight=pair_weight,
            quantization_weight=quantization_weight,
        )
        choices = {"similarity": similarity, "mode": mode}
        check_choices(CHOICES, **choices, pair_weight=chosen["pair_weight"])
        check_integer("neighbours", neighbours)
        check_integer("lists", lists)
        check_least(
            0,
            quantization_weight=chosen["quantization_weight"],
            head_penalty=head_penalty,
        )
        if similarity == "labels" and num_classes is None:
            raise ValueError(
                "`num_classes` must be an integer with similarity='labels'. "
                "Received: None."
            )
        if similarity == "neighbours" and neighbours >= num_train:
            raise ValueError(
                f"`neighbours` must be below num_train={num_train}. "
                f"Received: {neighbours}."
            )
        if isinstance(neighbour_backbone, dict):
            neighbour_backbone = keras.saving.deserialize_keras_object(
                neighbour_backbone
            )
        elif neighbour_backbone is not None:
            neighbour_backbone = backbones.get(neighbour_backbone)
        # In a list, lest its variables become this model's.
        self._neighbour_backbone = [neighbour_backbone]
        self.options = {
            **choices,
            "neighbours": neighbours,
            "lists": lists,
            **chosen,
            "head_penalty": head_penalty,
        }
        # The lists of a batch have no static shape.
        self.supports_jit = similarity == "labels"
        self.stats = None
        self._look = tf.function(self._features_and_codes, reduce_retracing=True)
        self.build_if_known()

    def compute_losses(self, z, index):
        """The terms of the objective on one batch, by name."""
        options = self.options
        signs = tf.stop_gradient(discrete.sign(z))
        if options["mode"] == "bank":
            pairs = self._bank_pairs(z, index)
        else:
            pairs = self._batch_pairs(z, index)
        values = {
            "pair_loss": pairs / 2.0,
            "quantization_loss": tf.reduce_mean((z - signs) ** 2),
        }
        penalty = sum(
            tf.reduce_sum(tf.convert_to_tensor(v) ** 2)
            for v in (self.hash_head.kernel, self.hash_head.bias)
        )
        total = (
            values["pair_loss"]  # eq. 6, 12
            + options["quantization_weight"] / 2.0 * values["quantization_loss"]
            + options["head_penalty"] / 2.0 * penalty
        )
        return {"loss": total, **values}

    def _bank_pairs(self, z, index):
        """Mean of w_ij (z_i . z_j / K - s_ij)^2 over the batch and all n rows.

        As if all pairs were dissimilar, which costs O(K^2) a row, and then the
        similar ones put right, O(M K) for M of them.
        """
        stats, n = self.stats, float(self.num_train)
        quadratic = tf.reduce_sum(z * (z @ stats.gram), axis=1) / self.bits**2
        linear = tf.linalg.matvec(z, stats.total) / self.bits
        dissimilar = tf.reduce_sum(quadratic + 2.0 * linear + n)
        if self.needs_labels:
            inner = tf.matmul(z, stats.z, transpose_b=True) / self.bits  # (batch, n)
            similar = self._shares_label(index, stats.labels)
        else:
            row, column = self._similar_pairs(index)
            similar = 1.0
            inner = tf.reduce_sum(
                tf.gather(z, row) * tf.gather(stats.z, column), axis=1
            )
            inner = inner / self.bits
        change = stats.positive * (inner - 1.0) ** 2 - stats.negative * (inner + 1) ** 2
        total = stats.negative * dissimilar + tf.reduce_sum(similar * change)
        return total / (n * tf.cast(tf.shape(z)[0], tf.float32))

    def _batch_pairs(self, z, index):
        """Mean of w_ij (z_i . z_j / K - s_ij)^2 over the pairs of the batch."""
        stats = self.stats
        inner = tf.matmul(z, z, transpose_b=True) / self.bits
        if self.needs_labels:
            similar = self._shares_label(index, tf.gather(stats.labels, index))
        else:
            row, column = self._similar_pairs(index)
            size = tf.shape(index)[0]
            position = tf.tensor_scatter_nd_update(
                tf.fill([self.num_train], -1), index[:, None], tf.range(size)
            )
            column = tf.gather(position, column)
            inside = tf.where(column >= 0)[:, 0]
            at = tf.stack([tf.gather(row, inside), tf.gather(column, inside)], axis=1)
            ones = tf.ones(tf.shape(inside)[0])
            similar = tf.tensor_scatter_nd_update(tf.zeros([size, size]), at, ones)
        return tf.reduce_mean(
            similar * stats.positive * (inner - 1.0) ** 2
            + (1.0 - similar) * stats.negative * (inner + 1.0) ** 2
        )

    def _shares_label(self, index, others):
        labels = tf.gather(self.stats.labels, index)
        return tf.cast(similarities.shares_label(labels, others), tf.float32)

    def _similar_pairs(self, index):
        """Pairs with s_ij = 1: the position of i in the batch, and j."""
        start = tf.gather(self.stats.offsets, index)
        count = tf.gather(self.stats.offsets, index + 1) - start
        row = tf.repeat(tf.range(tf.shape(index)[0]), count)
        within = tf.range(tf.shape(row)[0]) - tf.repeat(
            tf.cumsum(count, exclusive=True), count
        )
        return row, tf.gather(self.stats.columns, tf.repeat(start, count) + within)

    def train_step(self, data):
        x, _, index = self.unpack(data)

        # Network step: eq. 12; the codes of the bank are constants.
        with tf.GradientTape() as tape:
            z = self(x, training=True)  # (batch, bits)
            values = self.compute_losses(z, index)
            loss = values["loss"] = self.regularized(values["loss"])
        self.minimize(tape, loss)

        # Discrete step: b = sgn(z), implicit. The bank takes the new z.
        if self.options["mode"] == "bank":
            stats = self.stats
            old = tf.gather(stats.z, index)
            stats.gram.assign_add(
                tf.matmul(z, z, transpose_a=True)
                - tf.matmul(old, old, transpose_a=True)
            )
            stats.total.assign_add(tf.reduce_sum(z - old, axis=0))
            stats.z.scatter_update(tf.IndexedSlices(z, index))

        # Metrics.
        return self.report(**values)

    def test_step(self, data):
        raise ValueError(
            "`DDH` has no loss on images outside its training set: whom they are near "
            "is not known. `kerashash.evaluate(model, data)` and "
            "`kerashash.callbacks.RetrievalEvaluation` measure retrieval."
        )

    # ---------------------------------------------------------------- bank and S

    def _features_and_codes(self, x, labels=None):
        """z, and the features to find neighbours by, side by side."""
        features = self.backbone(x, training=False)
        z = self.hash_head(features)
        if self.needs_labels:
            return z
        other = self._neighbour_backbone[0]
        if other is not None:
            features = other(x, training=False)
        flat = tf.reshape(features, (tf.shape(z)[0], -1))
        return tf.concat([z, tf.cast(flat, tf.float32)], axis=1)

    def prepare(self, batches, verbose):
        """Find out which rows are similar; fill the bank."""
        check = functools.partial(self.check_labels, name="label")
        labels, values = inputs.collect(
            batches,
            self.num_train,
            self._look,
            check if self.needs_labels else None,
            verbose,
        )
        z, features = values[:, : self.bits], values[:, self.bits :]
        buffer = functools.partial(tf.Variable, trainable=False)
        stats = self.stats = SimpleNamespace(
            z=buffer(z),  # of all rows
            gram=buffer(tf.zeros((self.bits, self.bits))),  # Z^T Z
            total=buffer(tf.zeros(self.bits)),  # sum of z
        )
        if self.needs_labels:
            stats.labels = tf.constant(labels)
            share = similarities.LabelSimilarity(labels, balanced=False).share
        else:
            s = similarities.expanded_neighbours(
                features, self.options["neighbours"], self.options["lists"]
            )
            stats.offsets = tf.constant(s.indptr.astype(np.int32))
            stats.columns = tf.constant(s.indices.astype(np.int32))
            share = s.nnz / self.num_train**2
        stats.positive = stats.negative = 1.0
        # Nothing to balance if one kind of pair does not occur.
        if self.options["pair_weight"] == "balanced" and 0.0 < share < 1.0:
            stats.positive, stats.negative = 0.5 / share, 0.5 / (1.0 - share)
        # A traced function holds the bank of an earlier `fit`.
        self.train_function = None
        self.epoch_step()

    def epoch_step(self):
        # Batch updates add up with rounding errors: start the epoch exact.
        z = tf.convert_to_tensor(self.stats.z)
        self.stats.gram.assign(tf.matmul(z, z, transpose_a=True))
        self.stats.total.assign(tf.reduce_sum(z, axis=0))
        return {}

    def get_config(self):
        source = self._neighbour_backbone[0]
        if source is not None:
            source = keras.saving.serialize_keras_object(source)
        return {**super().get_config(), "neighbour_backbone": source, **self.options}
