"""DDH: codes learned without labels, from nearest neighbours."""

import functools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerashash import backbones
from kerashash.checks import (
    check_choices,
    check_integer,
    check_least,
    from_preset,
    refuse_arguments,
)
from kerashash.data import inputs
from kerashash.maths import discrete
from kerashash.maths import similarity as similarities
from kerashash.methods import replicas
from kerashash.methods.hash_model import HashModel
from kerashash.methods.training_state import Arrays

CHOICES = {
    "similarity": ("neighbours", "labels"),
    "mode": ("bank", "batch"),
    "pair_weight": ("balanced", "uniform"),
}


def presets(bits: int, num_train: int) -> dict[str, dict[str, Any]]:
    """Return the options that depend on the preset."""
    return {
        "default": {
            "pair_weight": "balanced",
            "quantization_weight": 0.05,
            "head_penalty": 1e-5,
        },
        # The paper's lambda_1 = 15 and lambda_2 = 1e-5 are weights beside a sum over
        # all pairs, which is a mean here: all terms are divided by num_train^2.
        "paper": {
            "pair_weight": "uniform",
            "quantization_weight": 15.0 * bits / num_train,
            "head_penalty": 1e-5 / num_train**2,
        },
    }


@keras.saving.register_keras_serializable(package="kerashash")
class DDH(HashModel):
    """Deep discrete hashing with self-supervised pairwise labels.

    Solves:
        min  J_1 + J_2 + lambda_2 / 2 (||W||^2 + ||c||^2)  over the network (eq. 7, 12)
        J_1 = 1/2 mean over pairs of w_ij (z_i . z_j / K - s_ij)^2          (eq. 5, 10)
        J_2 = lambda / 2 mean over images and bits of (z - b)^2                 (eq. 6)
        z = W^T phi(x) + c,  b = sgn(z)                                     (eq. 4, 11)

    where phi is the backbone, and W and c are the hash layer's. The hash code of an
    image is b. S is fixed before training (eq. 1 to 3): s_ij is 1 if i and j are
    neighbours by the backbone's features, after an expansion of the neighbourhoods
    (`kerashash.maths.similarity.expanded_neighbours`), and -1 if not. No labels are
    needed.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length K.
        num_train: int; the number of training rows N. Their indices are 0 to
            num_train - 1.
        num_classes: int or None; the number of labels, for ``similarity="labels"``.
        similarity: str; "neighbours", or "labels" for the supervised variant, where
            s_ij is 1 if i and j share a label.
        mode: str; "bank" pairs each image of a batch with all training images, from a
            memory bank of their z; "batch" pairs it with the other images of its batch.
        neighbours, lists: int; K_1 and K_2 of the neighbourhoods.
        neighbour_backbone: the network in whose features neighbours are searched: a
            name or a `keras.Model` of the inputs, which is not trained. None takes the
            backbone as it is when training begins. Neighbours are then saved with the
            model, for training that is resumed.
        pair_weight: str or None; w_ij. "balanced" gives similar and dissimilar pairs
            the same total weight; "uniform" is 1 for all pairs, and needs plain
            stochastic gradient descent: with Adam, all codes become equal. None takes
            the preset's.
        quantization_weight: float or None; lambda. 0.02 to 0.1 is safe; much above 0.1,
            all codes become equal. None takes the preset's.
        head_penalty: float or None; lambda_2. None takes the preset's.
        preset: str; "default" has balanced pairs and lambda 0.05; "paper" has uniform
            pair weights, lambda = 15 K / N and lambda_2 = 1e-5 / N^2, which make the
            objective the paper's sum, divided by N^2, for N training rows.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, {"index": (batch,)})``, with each index once an epoch (labels are
        ignored), or an array. ``similarity="labels"`` needs ``"label": (batch,
        num_classes)`` as well.

    XLA:
        ``jit_compile=True`` needs ``similarity="labels"``. With neighbours, the
        neighbour lists of a batch have no fixed length: Keras warns and does not
        compile.

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
        Pairwise Labels, ECML PKDD 2017. It writes L for K from eq. 5 on.

    Differences:
        The paper's sums are means over pairs and images; the penalty of lambda_2 is not
        squared as eq. 12 prints it. Pairs are balanced by default: about 97 % are
        dissimilar, and codes cannot all be opposite to each other, so that gradient
        descent on unweighted pairs first shrinks z. Neighbours are searched in the
        features of the backbone unless `neighbour_backbone` is given; the paper takes
        those of a ResNet. The bank's codes are constants in the gradient.
    """

    reported = ("loss", "pair_loss", "quantization_loss")
    needs_index = True
    supports_replicas = True
    refused = (*HashModel.refused, "validation_data")
    needs_labels = property(lambda self: self.options["similarity"] == "labels")
    networks = ("backbone", "neighbour_backbone")
    reads_inputs = property(lambda self: self.neighbour_backbone is not None)

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_train: int,
        num_classes: int | None = None,
        similarity: str = "neighbours",
        mode: str = "bank",
        neighbours: int = 15,
        lists: int = 6,
        neighbour_backbone: str | keras.Model | None = None,
        pair_weight: str | None = None,
        quantization_weight: float | None = None,
        head_penalty: float | None = None,
        preset: str = "default",
        **kwargs: Any,
    ) -> None:
        refuse_arguments("DDH", kwargs, "hash_activation")
        super().__init__(backbone, bits, num_classes, hash_activation=None, **kwargs)
        num_train = check_integer("num_train", num_train)
        self.num_train = num_train  # not passed on: that would add learned codes
        chosen = from_preset(
            presets(bits, num_train),
            preset,
            pair_weight=pair_weight,
            quantization_weight=quantization_weight,
            head_penalty=head_penalty,
        )
        choices = {"similarity": similarity, "mode": mode}
        check_choices(CHOICES, **choices, pair_weight=chosen["pair_weight"])
        neighbours = check_integer("neighbours", neighbours)
        lists = check_integer("lists", lists)
        check_least(
            0,
            quantization_weight=chosen["quantization_weight"],
            head_penalty=chosen["head_penalty"],
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
        if neighbour_backbone is not None:
            neighbour_backbone = backbones.get(neighbour_backbone)
        self.consult("neighbour_backbone", neighbour_backbone)
        self.options = {
            **choices,
            "neighbours": neighbours,
            "lists": lists,
            **chosen,
        }
        # The neighbour lists of a batch have no static shape.
        self.supports_jit = self.supports_jit and similarity == "labels"
        self.bank: Any = None  # S and z of the training rows, which `prepare` makes
        self.build_if_known()

    # --------------------------------------------------------------- objective

    def compute_losses(self, z: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch, eq. 12, and its terms.

        Args:
            z: float tensor ``(batch, bits)``; continuous codes.
            index: int32 tensor ``(batch,)``; row numbers of the images.

        Returns:
            dict of scalar float tensors: "loss"; "pair_loss", J_1; and
            "quantization_loss", the mean in J_2.
        """
        options = self.options
        b = tf.stop_gradient(discrete.sign(z))  # eq. 4, 11: (batch, bits)
        if options["mode"] == "bank":
            pairs = self._bank_pairs(z, index)
        else:
            pairs = self._batch_pairs(z, index)
        values = {
            "pair_loss": pairs / 2.0,  # eq. 5, with z for b as in eq. 10
            "quantization_loss": tf.reduce_mean((z - b) ** 2),  # eq. 6
        }
        penalty = sum(
            tf.reduce_sum(tf.cast(v, tf.float32) ** 2)
            for v in self.hash_head.trainable_variables
        )
        total = (
            values["pair_loss"]
            + options["quantization_weight"] / 2.0 * values["quantization_loss"]
            + options["head_penalty"] / 2.0 * penalty
        )
        return {"loss": total, **values}

    def _bank_pairs(self, z: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """Mean of w_ij (z_i . z_j / K - s_ij)^2 over the batch, i, and all rows, j.

        First all pairs count as dissimilar, which costs O(K^2) per image by
        ``sum_j (z_i . z_j / K + 1)^2 = z_i^T Z^T Z z_i / K^2 + 2 z_i . sum_j z_j / K +
        N``. Then the M similar ones of an image are corrected in O(M K).
        """
        bank, n = self.bank, float(self.num_train)
        quadratic = tf.reduce_sum(z * (z @ bank.gram), axis=1) / self.bits**2
        linear = tf.linalg.matvec(z, bank.total) / self.bits
        as_dissimilar = tf.reduce_sum(quadratic + 2.0 * linear + n)
        if self.needs_labels:
            inner = tf.matmul(z, bank.z, transpose_b=True) / self.bits  # (batch, n)
            similar = self._shares_label(index, bank.labels)  # (batch, n)
        else:
            row, column = self._similar_pairs(index)
            similar = 1.0
            inner = tf.reduce_sum(tf.gather(z, row) * tf.gather(bank.z, column), axis=1)
            inner = inner / self.bits  # (pairs,)
        correction = (
            bank.similar_weight * (inner - 1.0) ** 2
            - bank.dissimilar_weight * (inner + 1) ** 2
        )
        total = bank.dissimilar_weight * as_dissimilar
        total += tf.reduce_sum(similar * correction)
        return total / (n * tf.cast(tf.shape(z)[0], tf.float32))

    def _batch_pairs(self, z: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """Mean of w_ij (z_i . z_j / K - s_ij)^2 over the pairs of the batch."""
        bank = self.bank
        inner = tf.matmul(z, z, transpose_b=True) / self.bits  # (batch, batch)
        if self.needs_labels:
            similar = self._shares_label(index, tf.gather(bank.labels, index))
        else:
            row, column = self._similar_pairs(index)
            size = tf.shape(index)[0]
            # Where each training row is in the batch; -1 if it is not.
            position = tf.tensor_scatter_nd_update(
                tf.fill([self.num_train], -1), index[:, None], tf.range(size)
            )
            column = tf.gather(position, column)
            inside = tf.where(column >= 0)[:, 0]
            pairs = tf.stack(
                [tf.gather(row, inside), tf.gather(column, inside)], axis=1
            )
            ones = tf.ones(tf.shape(inside)[0])
            similar = tf.tensor_scatter_nd_update(tf.zeros([size, size]), pairs, ones)
        return tf.reduce_mean(
            similar * bank.similar_weight * (inner - 1.0) ** 2
            + (1.0 - similar) * bank.dissimilar_weight * (inner + 1.0) ** 2
        )

    def _shares_label(self, index: tf.Tensor, other_labels: tf.Tensor) -> tf.Tensor:
        """1 where a row of the batch shares a label with another row: (batch, m)."""
        labels = tf.gather(self.bank.labels, index)
        return tf.cast(similarities.shares_label(labels, other_labels), tf.float32)

    def _similar_pairs(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """All pairs with s_ij = 1: positions of i in the batch, and row numbers j."""
        start = tf.gather(self.bank.offsets, index)
        count = tf.gather(self.bank.offsets, index + 1) - start
        row = tf.repeat(tf.range(tf.shape(index)[0]), count)
        within = tf.range(tf.shape(row)[0]) - tf.repeat(
            tf.cumsum(count, exclusive=True), count
        )
        return row, tf.gather(self.bank.columns, tf.repeat(start, count) + within)

    # -------------------------------------------------------------- train_step

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, _, index = self.unpack(data)

        # Network step: eq. 12. The z of the bank are constants.
        with tf.GradientTape() as tape:
            z, index = self.gather(self(x, training=True), index)  # (batch, bits)
            values = self.compute_losses(z, index)
            loss = values["loss"] = self.regularized(values["loss"])
        self.minimize(tape, loss)

        # Discrete step: b = sgn(z) has no state of its own. The bank takes the new z.
        if self.options["mode"] == "bank":
            bank = self.bank
            old = tf.gather(bank.z, index)
            bank.gram.assign_add(
                tf.matmul(z, z, transpose_a=True)
                - tf.matmul(old, old, transpose_a=True)
            )
            bank.total.assign_add(tf.reduce_sum(z - old, axis=0))
            bank.z.scatter_update(tf.IndexedSlices(z, index))

        # Metrics.
        return self.report(z, **values)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        raise ValueError(
            "`DDH` has no loss on images outside its training set, whose neighbours "
            "are not known. `kerashash.evaluate(model, data)` and "
            "`kerashash.callbacks.RetrievalEvaluation` measure retrieval."
        )

    # ---------------------------------------------------------------- plumbing

    def _codes_and_features(
        self, x: tf.Tensor, labels: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Concatenate z and, unless labels decide, the features that find neighbours.

        ``(batch, ...)`` -> ``(batch, bits + features)``.
        """
        features = self.features(x, training=False)
        z = self.codes_of(features, training=False)
        if self.needs_labels:
            return z
        if self.neighbour_backbone is not None:
            features = self.neighbour_backbone(x, training=False)
        flat = tf.reshape(features, (tf.shape(z)[0], -1))
        return tf.concat([z, tf.cast(flat, tf.float32)], axis=1)

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        # Finds S, which stays fixed, and fills the bank.
        check = functools.partial(self.check_labels, name="label")
        collect = functools.partial(inputs.collect, batches, self.num_train)
        check_labels = check if self.needs_labels else None
        compute = tf.function(self._codes_and_features, reduce_retracing=True)

        def checksums(x: Any, labels: Any = None) -> tf.Tensor:
            return tf.constant(inputs.checksums(x))  # (batch, 2)

        def all_values(x: Any, *labels: Any) -> tf.Tensor:
            return tf.concat([checksums(x), compute(x, *labels)], axis=1)

        state: Arrays = {}
        if self.has_state_to_resume:
            labels, sums = collect(checksums, check_labels, verbose)
            data = inputs.fingerprint(sums if labels is None else labels)
            # Images may be augmented, and labels may not.
            state = self.state_to_resume(data, self._state_shapes(), labels is None)
        if not state:
            labels, values = collect(all_values, check_labels, verbose)
            sums, features = values[:, :2], values[:, 2 + self.bits :]
            data = inputs.fingerprint(sums if labels is None else labels)
            state = {"data": data, "z": values[:, 2 : 2 + self.bits]}
            if labels is None:
                s = similarities.expanded_neighbours(
                    features, self.options["neighbours"], self.options["lists"]
                )
                state["offsets"] = s.indptr.astype(np.int32)
                state["columns"] = s.indices.astype(np.int32)
        buffer = functools.partial(tf.Variable, trainable=False)
        bank = self.bank = SimpleNamespace(
            data=state["data"],
            z=buffer(state["z"]),  # Z: (n, bits)
            gram=buffer(tf.zeros((self.bits, self.bits))),  # Z^T Z
            total=buffer(tf.zeros(self.bits)),  # sum of the rows of Z
        )
        if self.needs_labels:
            bank.labels = replicas.table(labels)
            share = similarities.LabelSimilarity(labels, balanced=False).share
        else:
            # Row i has the similar rows columns[offsets[i] : offsets[i + 1]].
            bank.offsets = replicas.table(state["offsets"])
            bank.columns = replicas.table(state["columns"])
            share = len(state["columns"]) / self.num_train**2
        bank.similar_weight = bank.dissimilar_weight = 1.0
        # With only one kind of pair there is nothing to balance.
        if self.options["pair_weight"] == "balanced" and 0.0 < share < 1.0:
            bank.similar_weight = 0.5 / share
            bank.dissimilar_weight = 0.5 / (1.0 - share)
        # A function traced by an earlier `fit` holds the bank of that `fit`.
        self.train_function = None
        self.epoch_step()

    def _state_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the arrays of `training_state`."""
        shapes: dict[str, tuple[int | None, ...]] = {"z": (self.num_train, self.bits)}
        if not self.needs_labels:
            shapes |= {"offsets": (self.num_train + 1,), "columns": (None,)}
        return shapes

    def training_state(self) -> Arrays:
        # S could not be found again once the backbone is trained. A row of it has at
        # most lists * (neighbours + 1) columns, but for the symmetry of S.
        if self.bank is None:
            return {}
        arrays = {name: getattr(self.bank, name) for name in self._state_shapes()}
        return {"data": self.bank.data, **{k: v.numpy() for k, v in arrays.items()}}

    def epoch_step(self) -> dict[str, float]:
        # Sums that are updated by batch accumulate rounding errors.
        z = tf.convert_to_tensor(self.bank.z)
        self.bank.gram.assign(tf.matmul(z, z, transpose_a=True))
        self.bank.total.assign(tf.reduce_sum(z, axis=0))
        return {}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["hash_activation"]  # always None
        return {**config, **self.options}
