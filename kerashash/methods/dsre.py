"""DSRE: codes that preserve similar pairs, classes and neighbourhoods."""

import functools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from kerashash.checks import check_choices, check_least, from_preset
from kerashash.data import inputs
from kerashash.maths import discrete, losses, similarity
from kerashash.methods import replicas
from kerashash.methods.hash_model import HashModel, build_once
from kerashash.methods.training_state import Arrays

CHOICES = {
    "divergence": ("js", "kl", None),
    "w_update": ("bp", "ridge"),
    "b_update": ("sign", "dcc"),
}

PRESETS = {
    "default": {"hash_activation": "tanh"},
    "paper": {"hash_activation": "linear"},
}


@keras.saving.register_keras_serializable(package="kerashash")
class DSRE(HashModel):
    """Deep supervised hashing with symmetric relative entropy.

    Solves:
        min  J_1 + alpha J_2 + beta J_3 + eta J_q + lambda ||W||_F^2           (eq. 11)
        J_1 = mean over pairs of log(1 + exp(t_ij)) - s_ij t_ij                 (eq. 2)
        J_2 = mean over images of ||y_i - W^T u_i||^2                           (eq. 5)
        J_3 = divergence of P, the neighbour probabilities of the features,
              from Q, those of the continuous codes                        (eq. 6 to 8)
        J_q = mean over images and bits of (u - b)^2
        t_ij = u_i . u_j / 2,  b = sgn(u)                                      (eq. 12)

    over the network, which gives u, and the classifier W. The hash code of an image is
    b. s_ij is 1 if images i and j share a label and 0 if not. Pairs, P and Q are those
    of a batch, so use batches of 64 images or more.

    ``divergence="kl"`` gives DISH, the predecessor. ``divergence=None, b_update="dcc",
    w_update="ridge"`` gives DSDH, where J_2 is computed from the codes, ``mean over
    images of ||y_i - W^T b_i||^2``, and B minimises J_2 and J_q together, bit by bit,
    in the last step of each epoch.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int; the number of labels.
        num_train: int or None; the number of training rows. If given, the model keeps
            their learned codes; "ridge" and "dcc" need it.
        divergence: str or None; J_3: "js" for the symmetric relative entropy
            (Jensen-Shannon), "kl" for the relative entropy (Kullback-Leibler), None to
            leave it out.
        p_features: str, `keras.Model` or None; the features from which P is computed:
            "input"; "penultimate" for those of the backbone; or a model of the inputs,
            which is not trained. None is "input" for vectors and "penultimate" for
            images.
        w_update: str; "bp" trains W with the network, "ridge" solves for W, given B, in
            the last step of each epoch.
        b_update: str; "sign" takes b = sgn(u), "dcc" learns B by discrete cyclic
            coordinate descent in the last step of each epoch. To update the rows of
            each batch in its step retrieves worse (benchmarks/dsre_codes.py).
        classification_weight: float; alpha.
        divergence_weight: float; beta. Above 1 it does more harm than good.
        quantization_weight: float; eta.
        classifier_penalty: float; lambda.
        perplexity: float; roughly the number of neighbours that count in P. It is
            limited to a third of the batch.
        hash_activation: str or None; "tanh" or "linear", the activation of the hash
            layer. None takes the preset's.
        preset: str; "default" has codes in (-1, 1), by tanh; "paper" has a linear hash
            layer (eq. 10).
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, labels)`` or ``(x, {"label": labels})`` with label rows ``(batch,
        num_classes)``, and with `num_train` also ``"index": (batch,)``; or arrays.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
        >>> model = DSRE(net, bits=16, num_classes=10)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> x, y = np.random.rand(32, 64), np.arange(32) % 10
        >>> history = model.fit(x, y, epochs=1, verbose=0)
        >>> model.encode(x).shape
        (32, 2)

    Reference:
        X. Zhang, L. Zhou, X. Bai, X. Luan, J. Luo, E. R. Hancock, Deep Supervised
        Hashing using Symmetric Relative Entropy, Pattern Recognition Letters 2019.
        DSDH: Q. Li, Z. Sun, R. He, T. Tan, Deep Supervised Discrete Hashing, NIPS 2017.

    Differences:
        Terms are means over images and pairs. P is symmetrised with a division by 2n;
        the paper prints 2 below eq. 6, with which P sums to n, so that no Q (of sum 1)
        could match it. The widths of its Gaussians, which the paper leaves open, give
        every image the same perplexity. J_2 and Q are functions of u, as in eq. 11,
        where eq. 5 and 7 have b.
    """

    reported: tuple[str, ...] = (
        "loss",
        "pair_loss",
        "class_loss",
        "divergence_loss",
        "quantization_loss",
    )

    supports_replicas = True
    networks: tuple[str, ...] = ("backbone", "p_features")
    reads_inputs = property(
        lambda self: (
            self.options["divergence"] is not None and self.p_features != "penultimate"
        )
    )

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        num_train: int | None = None,
        divergence: str | None = "js",
        p_features: str | keras.Model | None = None,
        w_update: str = "bp",
        b_update: str = "sign",
        classification_weight: float = 1.0,
        divergence_weight: float = 1.0,
        quantization_weight: float = 0.1,
        classifier_penalty: float = 1e-3,
        perplexity: float = 30.0,
        hash_activation: str | None = None,
        preset: str = "default",
        **kwargs: Any,
    ) -> None:
        choices = {"divergence": divergence, "w_update": w_update, "b_update": b_update}
        check_choices(CHOICES, **choices)
        weights = {
            "classification_weight": classification_weight,
            "divergence_weight": divergence_weight,
            "quantization_weight": quantization_weight,
            "classifier_penalty": classifier_penalty,
        }
        check_least(0, **weights)
        check_least(1, perplexity=perplexity)
        if num_classes is None:
            raise ValueError("`num_classes` must be an integer. Received: None.")
        if num_train is None and (w_update == "ridge" or b_update == "dcc"):
            raise ValueError(
                "`num_train` must be an integer with w_update='ridge' or "
                "b_update='dcc', which learn from the codes of all training rows. "
                "Received: None."
            )
        if b_update == "dcc" and not classification_weight > 0:
            raise ValueError(
                "`classification_weight` must be positive with b_update='dcc', which "
                f"classifies by the codes. Received: {classification_weight}."
            )
        chosen = from_preset(PRESETS, preset, hash_activation=hash_activation)
        if divergence is None:
            self.reported = tuple(n for n in self.reported if n != "divergence_loss")
        super().__init__(backbone, bits, num_classes, num_train, **chosen, **kwargs)
        if p_features is None:
            input_shape = getattr(self.backbone, "input_shape", (None, None))
            p_features = "input" if len(input_shape) == 2 else "penultimate"
        if not isinstance(p_features, keras.Model) and p_features not in (
            "input",
            "penultimate",
        ):
            raise ValueError(
                "`p_features` must be 'input', 'penultimate' or a keras.Model. "
                f"Received: {p_features!r}."
            )
        self.consult("p_features", p_features)
        self.options = {**choices, **weights, "perplexity": float(perplexity), **chosen}
        # A random W would first pull all u to the one point from which W predicts the
        # mean label row, and leave few distinct codes: W starts at 0.
        self.classifier = keras.layers.Dense(
            self.num_classes,
            use_bias=False,
            kernel_initializer="zeros",
            trainable=w_update == "bp",
            dtype="float32",
            name="classifier",
        )
        self.rows: Any = None  # labels and U of all training rows, set by `prepare`
        self.build_if_known()

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        build_once(self.classifier, (None, self.bits))

    # --------------------------------------------------------------- objective

    def compute_losses(
        self,
        x: tf.Tensor,
        features: tf.Tensor,
        u: tf.Tensor,
        labels: tf.Tensor,
        codes: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Compute the objective on one batch, eq. 11, and its terms.

        Args:
            x: tensor ``(batch, ...)``; images or vectors. On several devices, those of
                this one's slice of the batch.
            features: float tensor ``(batch, ...)``; the backbone's features of x.
            u: float tensor ``(batch, bits)``; continuous codes.
            labels: float tensor ``(batch, num_classes)``; y.
            codes: float tensor ``(batch, bits)`` over {-1, +1}; b.

        Returns:
            dict of scalar float tensors: "loss" and each term of the objective.
        """
        options = self.options
        similar = tf.cast(similarity.shares_label(labels, labels), tf.float32)
        classified = codes if options["b_update"] == "dcc" else u
        error = tf.reduce_sum((labels - self.classifier(classified)) ** 2, axis=1)
        values = {
            "pair_loss": losses.pairwise_likelihood(u, similar),  # J_1: eq. 2
            "class_loss": tf.reduce_mean(error),  # J_2: eq. 5
            "quantization_loss": tf.reduce_mean((u - codes) ** 2),  # J_q
        }
        total = (
            values["pair_loss"]
            + options["classification_weight"] * values["class_loss"]
            + options["quantization_weight"] * values["quantization_loss"]
            + options["classifier_penalty"]
            * tf.reduce_sum(tf.convert_to_tensor(self.classifier.kernel) ** 2)
        )
        if options["divergence"] is not None:
            p = similarity.gaussian_affinity(
                self._affinity_features(x, features), options["perplexity"]
            )  # eq. 6: (batch, batch)
            q = similarity.student_t_affinity(u)  # eq. 7: (batch, batch)
            js = options["divergence"] == "js"
            divergence = losses.js_divergence if js else losses.kl_divergence
            values["divergence_loss"] = divergence(tf.stop_gradient(p), q)  # J_3: eq. 8
            total += options["divergence_weight"] * values["divergence_loss"]
        return {"loss": total, **values}

    def _affinity_features(self, x: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """Return the features from which P is computed: float32 ``(batch, dim)``."""
        if isinstance(self.p_features, keras.Model):
            features = self.p_features(x, training=False)
        elif self.p_features == "input":
            features = x
        flat = tf.reshape(features, (tf.shape(features)[0], -1))
        flat = tf.stop_gradient(tf.cast(flat, tf.float32))
        return self.gather(flat)[0]

    # -------------------------------------------------------------- train_step

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, labels, index = self.unpack(data)

        # Network step: eq. 11, over the network, and over W if w_update="bp".
        with tf.GradientTape() as tape:
            features = self.features(x, training=True)
            u = self.codes_of(features, training=True)  # eq. 10
            u, labels, index = self.gather(u, labels, index)  # (batch, bits)
            if self.options["b_update"] == "dcc":
                codes = tf.gather(self.train_codes.value, index)
                codes = tf.cast(codes, tf.float32)
            else:
                codes = tf.stop_gradient(discrete.sign(u))  # eq. 12
            values = self.compute_losses(x, features, u, labels, codes)
            loss = values["loss"] = self.regularized(values["loss"])
        clean = self._without_dropout(x, u) if self.needs_index else u
        self.minimize(tape, loss)

        # Discrete step: B, then W, in the last step of each pass over all rows.
        if self.needs_index:
            self.rows.u.scatter_update(tf.IndexedSlices(clean, index))
            seen = self.rows.seen.assign_add(tf.size(index))
            tf.cond(seen >= self.num_train, self._solve, lambda: None)

        # Metrics.
        return self.report(u, **values)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, labels, _ = self.unpack(data)
        features = self.features(x, training=False)
        u, labels = self.gather(self.codes_of(features, training=False), labels)
        codes = discrete.sign(u)
        values = self.compute_losses(x, features, u, labels, codes)
        values["loss"] = self.regularized(values["loss"])
        return self.report(u, **values)

    def _without_dropout(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Compute u again, at inference, if layers made it random."""
        variables = [*self.backbone.variables, *self.hash_head.variables]
        if any(v.name == "seed_generator_state" for v in variables):
            return self.gather(self(x, training=False))[0]
        return u

    def _solve(self) -> None:
        """The discrete step: B given U and W, then W given B."""
        if self.options["b_update"] == "dcc":
            self._solve_codes()
        else:
            self.train_codes.assign(tf.cast(discrete.sign(self.rows.u), tf.int8))
        if self.options["w_update"] == "ridge":
            self._solve_classifier()
        self.rows.seen.assign(0)

    def _solve_codes(self) -> None:
        """B step of DSDH: min ||Y - B W||^2 + eta / (alpha K) ||U - B||^2 over B."""
        gram, target = self._code_problem()
        codes = discrete.dcc(self.train_codes.value, gram, target, sweeps=10)
        self.train_codes.assign(codes)

    def _code_problem(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The B step in the form of `discrete.dcc`: G = W W^T, Q = Y W^T + pull U."""
        w = tf.convert_to_tensor(self.classifier.kernel)  # (bits, num_classes)
        options = self.options
        pull = options["quantization_weight"] / (
            options["classification_weight"] * self.bits
        )
        target = tf.matmul(self.rows.labels, w, transpose_b=True) + pull * self.rows.u
        return tf.matmul(w, w, transpose_b=True), target

    def _solve_classifier(self) -> None:
        """W step of DSDH: min alpha / n ||Y - B W||^2 + lambda ||W||^2 over W."""
        options = self.options
        weight = max(options["classification_weight"], 1e-12)
        penalty = self.num_train * options["classifier_penalty"] / weight
        codes = tf.cast(self.train_codes.value, tf.float32)
        self.classifier.kernel.assign(discrete.ridge(codes, self.rows.labels, penalty))

    # ---------------------------------------------------------------- plumbing

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        # Collects labels and initial U; B starts from the signs of U unless it has
        # codes already.
        if not self.needs_index:
            return
        encode = tf.function(
            lambda x, labels: self(x, training=False), reduce_retracing=True
        )
        check = functools.partial(self.check_labels, name="label")
        labels, u = inputs.collect(batches, self.num_train, encode, check, verbose)
        data = inputs.fingerprint(labels)
        if self.has_state_to_resume and not self.state_to_resume(data, {}):
            # B is that of other labels.
            self.train_codes.assign(keras.ops.zeros_like(self.train_codes))
        self._labels_fingerprint = data
        self.rows = SimpleNamespace(
            labels=replicas.table(labels),  # Y: (n, num_classes)
            u=tf.Variable(u, trainable=False),  # U: (n, bits)
            seen=tf.Variable(0, trainable=False),  # rows, in the pass so far
        )
        # A function traced by an earlier `fit` holds the rows of that `fit`.
        self.train_function = None
        if not self.train_codes.numpy().all():
            initial = discrete.sign(tf.convert_to_tensor(self.rows.u))
            self.train_codes.assign(tf.cast(initial, tf.int8))
            if self.options["w_update"] == "ridge":
                self._solve_classifier()
        self.rows.codes_before = self.train_codes.numpy()

    def training_state(self) -> Arrays:
        # U is computed again, and B and W are weights.
        return {} if self.rows is None else {"data": self._labels_fingerprint}

    def epoch_step(self) -> dict[str, float]:
        if not self.needs_index:
            return {}
        before, self.rows.codes_before = (
            self.rows.codes_before,
            self.train_codes.numpy(),
        )
        flips = before != self.rows.codes_before
        return {"learned_bit_flips": float(flips.mean())}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}
