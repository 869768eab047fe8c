"""DCDH: image, label and fusion streams that agree on one binary code per image."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerashash.checks import (
    check_choices,
    check_flag,
    check_least,
    check_widths,
    from_preset,
)
from kerashash.data import inputs
from kerashash.maths import discrete, losses
from kerashash.maths.similarity import LabelSimilarity
from kerashash.methods.hash_model import HashModel, build_once
from kerashash.methods.layers import OuterProductFusion
from kerashash.methods.learned_codes import RankedCodes, SolvedCodes
from kerashash.methods.trainable import Batch
from kerashash.methods.training_state import Arrays, random_states

CHOICES = {
    "variant": ("full", "V", "S"),
    "b_update": ("epoch", "batch"),
    "s_mode": ("balanced", "pm1"),
    "pair_loss": ("squares", "average_precision"),
    "code_start": ("networks", "labels"),
    "focal": ("sigmoid", "softmax"),
}

PRESETS = {
    "default": {"s_mode": "balanced", "focal": "sigmoid"},
    "paper": {"s_mode": "pm1", "focal": "softmax"},
}


def _solved_codes(
    model: "DCDH", similarity: LabelSimilarity, u: Any, state: Arrays
) -> SolvedCodes:
    """Make B as the paper learns it."""
    return SolvedCodes(
        model.train_codes,
        similarity,
        state.get("u", u),
        model.stream_weights,
        model.options["quantization_weight"],
        by_batch=model.options["b_update"] == "batch",
        from_labels=model.options["code_start"] == "labels",
    )


def _ranked_codes(
    model: "DCDH", similarity: LabelSimilarity, u: Any, state: Arrays
) -> RankedCodes:
    """Make B as the extension learns it; it does not start from U."""
    return RankedCodes(model.train_codes, similarity, model.options["code_rate"], state)


#: For each `pair_loss`: the class of B, and the function that makes it.
LEARNED_CODES: dict[str, tuple[type[SolvedCodes | RankedCodes], Callable[..., Any]]] = {
    "squares": (SolvedCodes, _solved_codes),
    "average_precision": (RankedCodes, _ranked_codes),
}


def _multi_layer_perceptron(
    units: Iterable[int], bits: int, dtype: Any, name: str
) -> keras.Sequential:
    """Make the network of a stream, which ends in continuous codes."""
    layers = []
    for width in units:
        layers += [
            keras.layers.Dense(width, activation="relu", dtype=dtype),
            keras.layers.Dropout(0.5, dtype=dtype),
        ]
    layers.append(keras.layers.Dense(bits, activation="tanh", dtype="float32"))
    return keras.Sequential(layers, name=name)


@keras.saving.register_keras_serializable(package="kerashash")
class DCDH(HashModel):
    """Deep collaborative discrete hashing.

    Three streams give continuous codes in (-1, 1): u_v of the image, u_l of its labels,
    and u_f of the outer product of these two. All three share one matrix B of binary
    codes, with a row for each training image.

    Solves:
        min  L_v + lambda L_l + mu (L_f + focal)  over the networks and B       (eq. 8)
        L_w = ||U_w B^T - K S||_F^2 + alpha ||B - U_w||_F^2            (eq. 3, 4 and 5)
        focal = focal loss of a linear classifier of u_f                  (eq. 6 and 7)

    by alternating between the networks (back-propagation, B fixed) and B (discrete
    cyclic coordinate descent, networks fixed, eq. 9 to 11). S_ij is 1 if images i and j
    share a label; if not, it is -1 or a value that balances the two kinds of pair. No
    n x n matrix is built.

    Labels may be unknown (-1). They have no focal loss, the label stream takes them as
    0, and a pair is unknown if one image has a label that is unknown of the other and
    they share none for certain. Unknown pairs are left out of the average precision. In
    the squares, they have the mean of S, 0 if it is balanced: their expected squares,
    up to a constant. A label that is unknown of both images is not compared.

    A query is encoded by the image stream alone, sgn(u_v) (eq. 12). The training images
    also have learned codes, their rows of B: `learned_codes()`.

    Extensions:
        ``pair_loss="average_precision"`` is not in the paper. The squares ask for inner
        products of +-K, which short codes cannot reach if images have several labels,
        and the misfit costs ranking quality. The extension optimises the ranking
        itself: the first term of L_w becomes one minus the average precision of u_i as
        a query of B (`kerashash.maths.losses.average_precision_loss`). B then has one
        code for each distinct row of labels, which moves against the gradient of the
        loss in every step. An epoch costs O(n p K) for p distinct rows of labels,
        instead of O(n K^2).

        ``balance_weight`` is not in the paper either. Where a few combinations of
        labels make up most of the images, most bits are the same for most of them. It
        weights the bit balance of the image stream, the mean over bits of the squared
        mean of u_v over the batch, which is added to L_v.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length K.
        num_classes: int; the number of labels.
        num_train: int; the number of training rows. Their indices are 0 to
            num_train - 1.
        variant: str; "full"; "V" for the image stream alone (lambda = mu = 0); or "S"
            for the image and label streams without fusion (mu = 0).
        b_update: str; for squares. "batch" updates the rows of the batch in each step,
            under the objective of all rows, from U without dropout; and all of B once
            more after each epoch. "epoch" only does the latter, from the U of the
            training passes.
        code_start: str; for squares, from where B starts: "networks", the signs of the
            untrained networks' codes; or "labels", random hyperplanes in the space of
            labels, from where average precision starts too.
        s_mode: str or None; for squares. "balanced" gives dissimilar pairs the value
            -#similar / #dissimilar, "pm1" the value -1. With few similar pairs, "pm1"
            has a collapsed minimum, in which short training runs end: all u are equal
            and all rows of B are their opposite, so that every pair counts as
            dissimilar. None takes the preset's.
        focal: str or None; the classifier of the focal loss: "sigmoid" for any number
            of labels per image, "softmax" for exactly one. None takes the preset's.
        pair_loss: str; "squares" or "average_precision".
        label_loss_weight: float; lambda.
        fusion_loss_weight: float; mu.
        focal_weight: float; a further weight of the focal loss, inside the mu term.
        focal_gamma: float; gamma of the focal loss, eq. 7.
        quantization_weight: float; alpha, relative to the sum over all pairs above.
            With average precision, use about num_train * bits / 10.
        code_rate: float; for average precision. The learning rate at which Adam moves
            B, as a multiple of that of the model's optimizer, whose schedule it
            follows.
        label_units: ints; the hidden widths of the label stream.
        fusion_units: ints; the hidden widths of the fusion stream.
        detach_fusion: bool; True stops the gradient of the fusion stream from reaching
            the two streams that it fuses.
        preset: str; "default" has balanced S and the sigmoid focal loss, "paper" has S
            of +-1 and the softmax focal loss.
        balance_weight: float; the weight of the bit balance. 0 is the paper's.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, {"label": (batch, num_classes), "index": (batch,)})``, with each
        index once an epoch; or arrays. A label is 1 if the image has it, 0 if not, -1
        if that is unknown.

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
        with Semantic-Invariant Structure, SIGIR 2019. It writes rho for K in S, and has
        samples in columns where this class has them in rows.

    Differences:
        L_w is a mean over pairs, divided by K^2, and the focal loss a mean over images.
        The bit update is z = sgn(q - B' U'^T u), the minimiser;
        eq. 11 prints the opposite sign, the maximiser, and eq. 10 writes gamma for the
        alpha of eq. 9. The three objectives are solved for their one B together.
        Balanced S and the sigmoid focal loss are the defaults. Labels may be unknown.
        With average precision (`kerashash.methods.learned_codes.RankedCodes`), a step
        of B may raise the objective; the bit update never does.
    """

    reported: tuple[str, ...] = (
        "loss",
        "visual_loss",
        "label_loss",
        "fusion_loss",
        "focal_loss",
        "balance_loss",
    )
    training_networks = ("label_net", "fusion_net")
    unknown_labels = True
    supports_replicas = True

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        num_train: int,
        variant: str = "full",
        b_update: str = "batch",
        s_mode: str | None = None,
        focal: str | None = None,
        pair_loss: str = "squares",
        label_loss_weight: float = 0.5,
        fusion_loss_weight: float = 0.5,
        focal_weight: float = 1.0,
        focal_gamma: float = 2.0,
        quantization_weight: float = 200.0,
        code_rate: float = 20.0,
        label_units: Sequence[int] = (4096, 512),
        fusion_units: Sequence[int] = (4096, 512),
        detach_fusion: bool = False,
        preset: str = "default",
        balance_weight: float = 0.0,
        code_start: str = "networks",
        **kwargs: Any,
    ) -> None:
        options = {
            "variant": variant,
            "b_update": b_update,
            "pair_loss": pair_loss,
            "code_start": code_start,
            **from_preset(PRESETS, preset, s_mode=s_mode, focal=focal),
        }
        check_choices(CHOICES, **options)
        weights = {
            "label_loss_weight": label_loss_weight,
            "fusion_loss_weight": fusion_loss_weight,
            "focal_weight": focal_weight,
            "focal_gamma": focal_gamma,
            "quantization_weight": quantization_weight,
            "balance_weight": balance_weight,
        }
        check_least(0, **weights, code_rate=code_rate)
        check_flag(detach_fusion=detach_fusion)
        units = check_widths(label_units=label_units, fusion_units=fusion_units)
        for name, value in (("num_classes", num_classes), ("num_train", num_train)):
            if value is None:
                raise ValueError(f"`{name}` must be an integer. Received: None.")
        left_out = {
            "label_loss": variant == "V",
            "fusion_loss": variant != "full",
            "focal_loss": variant != "full",
            "balance_loss": not balance_weight,
        }
        self.reported = tuple(n for n in self.reported if not left_out.get(n))
        super().__init__(backbone, bits, num_classes, num_train, **kwargs)
        self.options = {
            **options,
            **weights,
            "code_rate": float(code_rate),
            **units,
            "detach_fusion": bool(detach_fusion),
        }
        bits, self.label_net, self.fusion_net = self.bits, None, None
        # The weight of each stream's L_w in eq. 8.
        self.stream_weights = [1.0]
        if variant in ("full", "S"):
            self.stream_weights.append(float(label_loss_weight))
            self.label_net = _multi_layer_perceptron(
                self.options["label_units"], bits, self.dtype_policy, "label_net"
            )
        if variant == "full":
            self.stream_weights.append(float(fusion_loss_weight))
            self.fusion = OuterProductFusion(name="fusion", dtype=self.dtype_policy)
            self.fusion_net = _multi_layer_perceptron(
                self.options["fusion_units"], bits, self.dtype_policy, "fusion_net"
            )
            self.classifier = keras.layers.Dense(
                self.num_classes, dtype="float32", name="classifier"
            )
        self.shared_codes: Any = None  # B, which `prepare` makes
        self.build_if_known()

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.label_net is not None:
            build_once(self.label_net, (None, self.num_classes))
        if self.fusion_net is not None:
            build_once(self.fusion, [(None, self.bits), (None, self.bits)])
            build_once(self.fusion_net, (None, self.bits**2))
            build_once(self.classifier, (None, self.bits))

    # ----------------------------------------------------------------- streams

    def streams(
        self,
        x: tf.Tensor,
        labels: tf.Tensor,
        training: bool,
        visual: tf.Tensor | None = None,
        label: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Compute the continuous codes of all streams of the variant.

        Args:
            x: tensor ``(batch, ...)``; images or vectors.
            labels: float tensor ``(batch, num_classes)``; values in {-1, 0, 1}.
            training: bool; whether dropout is on.
            visual, label: float tensors ``(batch, bits)``; the codes of the image and
                label streams, if they are known already.

        Returns:
            ``(u, logits)``: float32 ``(batch, streams, bits)``, in the order image,
            label, fusion; and float32 ``(batch, num_classes)``, the classifier's output
            for the focal loss, or None without the fusion stream.
        """
        # U_v = tanh(F_v(x)), eq. 3.
        if visual is None:
            visual = self(x, training=training)  # (batch, bits)
        if self.label_net is None:
            return tf.stack([visual], axis=1), None
        # tanh(U_l) with U_l = F_l(labels), eq. 4.
        if label is None:
            present = tf.nn.relu(labels)
            label = self.label_net(present, training=training)  # (batch, bits)
        if self.fusion_net is None:
            return tf.stack([visual, label], axis=1), None
        # tanh(U) with U = F(outer product of the two), eq. 5.
        pair = [label, visual]
        if self.options["detach_fusion"]:
            pair = [tf.stop_gradient(u) for u in pair]
        outer = self.fusion(pair)  # (batch, bits^2)
        fused = self.fusion_net(outer, training=training)  # (batch, bits)
        # F_c(u), eq. 6.
        logits = self.classifier(fused)  # (batch, num_classes)
        return tf.stack([visual, label, fused], axis=1), logits

    def without_dropout(
        self, x: tf.Tensor, labels: tf.Tensor, u: tf.Tensor
    ) -> tf.Tensor:
        """Compute the continuous codes again where a training pass made them noisy.

        A stream is noisy if its network has layers that are random in training, such as
        dropout, and so is the fusion of a noisy stream. These take a second pass, in
        inference mode. All others stay as they are, also where they have batch
        normalization without dropout: the statistics of a batch describe the network as
        it is now, while their moving averages lag behind it in short training.

        Args:
            x, labels: as for `streams`.
            u: float32 tensor ``(batch, streams, bits)``, of the training pass.

        Returns:
            float32 tensor ``(batch, streams, bits)``; `u` itself if nothing is random.
        """
        networks = (
            [self.backbone, self.hash_head],
            [] if self.label_net is None else [self.label_net],
            [] if self.fusion_net is None else [self.fusion_net],
        )
        noisy = [
            any(random_states(network.variables) for network in parts)
            for parts in networks
        ]
        if not any(noisy):
            return u
        # The fusion stream depends on the other two.
        kept = [
            None if is_noisy else u_w
            for u_w, is_noisy in zip(tf.unstack(u, axis=1)[:2], noisy, strict=False)
        ]
        return self.streams(x, labels, False, *kept)[0]

    # ------------------------------------------------------------------ losses

    def compute_losses(
        self,
        u: tf.Tensor,
        logits: tf.Tensor | None,
        labels: tf.Tensor,
        codes: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch, eq. 8, and its terms.

        Args:
            u, logits: as `streams` returns them.
            labels: float tensor ``(batch, num_classes)``; values in {-1, 0, 1}.
            codes: float tensor ``(batch, bits)`` over {-1, +1}; the images' rows of B.

        Returns:
            dict of scalar float tensors: "loss" and each term that the model has.
        """
        similarity_loss = self.shared_codes.loss_of(labels)
        scale = self.num_train * self.bits**2  # so that L_w is a mean over pairs
        alpha = self.options["quantization_weight"] / scale

        def stream_loss(u_w: tf.Tensor) -> tf.Tensor:
            """Compute L_w of one stream: ``(batch, bits)`` -> scalar."""
            quantization = tf.reduce_mean(tf.reduce_sum((codes - u_w) ** 2, axis=1))
            return similarity_loss(u_w) + alpha * quantization

        stream_names = ("visual_loss", "label_loss", "fusion_loss")
        terms = {
            name: stream_loss(u_w)  # eq. 3, 4 and 5
            for name, u_w in zip(stream_names, tf.unstack(u, axis=1), strict=False)
        }
        if logits is not None:
            sigmoid = self.options["focal"] == "sigmoid"
            focal_loss = losses.sigmoid_focal if sigmoid else losses.softmax_focal
            focal = focal_loss(labels, logits, gamma=self.options["focal_gamma"])
            terms["focal_loss"] = self.options["focal_weight"] * focal  # eq. 6 and 7
        if self.options["balance_weight"]:
            balance = losses.bit_balance(u[:, 0])
            terms["balance_loss"] = self.options["balance_weight"] * balance
        # The terms that are not there count as 0.
        visual, label, fusion, focal, balance = (
            terms.get(name, 0.0)
            for name in (*stream_names, "focal_loss", "balance_loss")
        )
        lam = self.options["label_loss_weight"]
        mu = self.options["fusion_loss_weight"]
        loss = visual + lam * label + mu * (fusion + focal)  # eq. 8
        return {"loss": loss + balance, **terms}

    # -------------------------------------------------------------- train_step

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch = self.unpack(data)
        learning_rate = self.optimizer.learning_rate
        with tf.GradientTape(persistent=True) as tape:
            own_u, logits = self.streams(batch.x, batch.labels, training=True)
            penalties = self.losses  # a second pass would replace them
            u, logits = self.gather(own_u, logits)  # (batch, streams, bits)

        # Discrete step: eq. 9 to 11 with the networks fixed, for the rows of B of this
        # batch, and in `epoch_step` for all. b_update="epoch" only stores U here.
        by_batch = self.shared_codes.by_batch
        stored = u
        if by_batch:
            clean_u = self.without_dropout(batch.x, batch.labels, own_u)
            stored = u if clean_u is own_u else self.gather(clean_u)[0]
        labels, index = self.gather(batch.labels, batch.index)
        self.shared_codes.store(Batch(batch.x, labels, index), stored)
        codes = self.shared_codes.rows(index)  # (batch, bits)

        # Network step: eq. 8 with B fixed, by back-propagation.
        with tape:
            values = self.compute_losses(u, logits, labels, codes)
            loss = values["loss"] = tf.add_n([values["loss"], *penalties])
        self.minimize(tape, loss)
        gradients = tape.gradient(loss, self.shared_codes.variables)
        self.shared_codes.descend(gradients, learning_rate)

        # Metrics.
        return self.report(u, **values)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch = self.unpack(data)
        if self.shared_codes is None:
            raise ValueError(
                "`evaluate` of a DCDH model needs the learned codes and labels that "
                "`fit` collects. Received a model that was not fitted in this "
                "process; `kerashash.evaluate(model, data)` measures retrieval."
            )
        u, logits = self.streams(batch.x, batch.labels, training=False)
        u, logits, labels = self.gather(u, logits, batch.labels)
        # Outside the training set there is no row of B: the code is that of a query.
        codes = discrete.sign(u[:, 0])  # eq. 12
        values = self.compute_losses(u, logits, labels, codes)
        values["loss"] = self.regularized(values["loss"])
        return self.report(u, **values)

    # ---------------------------------------------------------------- plumbing

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        # Collects the labels of all training rows, and makes B.
        kind, make_codes = LEARNED_CODES[self.options["pair_loss"]]
        check = functools.partial(self.check_labels, name="label")
        collect = functools.partial(inputs.collect, batches, self.num_train)

        @tf.function(reduce_retracing=True)
        def initial_u(x: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return self.streams(x, labels, False)[0]

        def no_u(x: tf.Tensor, labels: Any) -> tf.Tensor:
            # U is not needed: no image passes the network.
            return tf.zeros((len(labels), 0))

        state: Arrays = {}
        if self.has_state_to_resume:
            labels, _ = collect(no_u, check, verbose)
            shapes = kind.state_shapes(
                self.num_train, len(self.stream_weights), self.bits
            )
            state = self.state_to_resume(inputs.fingerprint(labels), shapes)
            if not state:  # B is that of other labels
                self.train_codes.assign(keras.ops.zeros_like(self.train_codes))
        if not state:
            labels, u = collect(initial_u if kind.uses_u else no_u, check, verbose)
        else:
            u = None
        balanced = self.options["s_mode"] == "balanced"
        similarity = LabelSimilarity(labels, balanced)
        self.shared_codes = make_codes(self, similarity, u, state)
        self._labels_fingerprint = inputs.fingerprint(labels)
        self._codes_before = self.train_codes.numpy()
        # Functions traced by an earlier `fit` hold the codes of that `fit`.
        self.train_function = self.test_function = None

    def training_state(self) -> Arrays:
        # For squares, num_train * streams * bits floats; for average precision,
        # 3 * bits floats for each distinct row of labels.
        if self.shared_codes is None:
            return {}
        return {"data": self._labels_fingerprint, **self.shared_codes.state()}

    def epoch_step(self) -> dict[str, float]:
        self.shared_codes.after_epoch()
        before, self._codes_before = self._codes_before, self.train_codes.numpy()
        return {"learned_bit_flips": float(np.mean(before != self._codes_before))}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}
