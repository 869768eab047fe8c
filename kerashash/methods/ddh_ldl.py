"""DDH-LDL: hash codes whose neighbours have like label distributions."""

import functools
import warnings
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.checks import (
    FLOOR,
    check_choices,
    check_distributions,
    check_integer,
    check_least,
    from_preset,
)
from kerashash.data import inputs
from kerashash.maths import discrete, label_graph
from kerashash.methods.hash_model import HashModel
from kerashash.methods.layers import GraphConvolution
from kerashash.retrieval.prediction import hashed_distribution

CHOICES = {
    "adjacency": ("sym", "row", "raw"),
    "target": ("thresholded", "cosine"),
    "teacher": ("train", "inference"),
}

PRESETS = {
    "default": {
        "adjacency": "sym",
        "teacher": "inference",
        "threshold": 0.95,
        "dom_iterations": 10,
        "dropout": 0.3,
        "code_units": (512, 256),
        "function_units": (1024, 512),
    },
    "paper": {
        "adjacency": "raw",
        "teacher": "train",
        "threshold": 0.5,
        "dom_iterations": 1,
        "dropout": 0.0,
        "code_units": (2048, 1024, 512),
        "function_units": (2048, 1024),
    },
}

# Rows that a network sees at a time outside of training.
_BLOCK = 8192


def _dense(units, **kwargs):
    """Started as by the paper's code: uniform within +-fan_in ** -0.5."""
    uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return keras.layers.Dense(units, kernel_initializer=uniform, **kwargs)


def _perceptron(units, dropout=0.0, last_dtype=None):
    """Dense layers, each with batch normalization and tanh."""
    layers = []
    for number, width in enumerate(units):
        dtype = last_dtype if number == len(units) - 1 else None
        layers += [
            *([keras.layers.Dropout(dropout)] if dropout else []),
            # The normalization would take a bias away again.
            _dense(width, use_bias=False, dtype=dtype),
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype),
            keras.layers.Activation("tanh", dtype=dtype),
        ]
    return layers


class CodeNetwork(keras.layers.Layer):
    """Stage 1's network: features and their aggregates to continuous codes, eq. 1 to 4.

    Formula:
        h = tanh(W (W_1 F_mlp + W_2 F_gcn)),  F_mlp = MLP(x),  F_gcn = tanh((A X) W_g)

    Args:
        bits: int, the code length.
        units: ints, widths of the MLP's layers; the last is that of both branches.
        gcn: bool; False leaves the graph's branch out.

    Call:
        ``[x, aggregated]``, rows of X and of A X, both ``(batch, dim)`` -> float32
        ``(batch, bits)``.
    """

    def __init__(self, bits, units, gcn, **kwargs):
        super().__init__(**kwargs)
        width = units[-1]
        self.mlp = keras.Sequential(_perceptron(units), name="mlp")
        self.mlp_fusion = _dense(width, name="mlp_fusion")
        self.gcn = None
        if gcn:
            self.gcn = GraphConvolution(
                width,
                activation="tanh",
                use_bias=False,
                kernel_initializer="glorot_normal",
                name="gcn",
            )
            self.gcn_fusion = _dense(width, name="gcn_fusion")
        self.code = _dense(bits, activation="tanh", dtype="float32", name="code")

    def build(self, input_shape):
        features, aggregated = input_shape
        self.mlp.build(features)
        width = self.mlp.output_shape
        self.mlp_fusion.build(width)
        if self.gcn is not None:
            self.gcn.build([aggregated])
            self.gcn_fusion.build(width)
        self.code.build(width)

    def call(self, inputs, training=None):
        x, aggregated = inputs
        fused = self.mlp_fusion(self.mlp(x, training=training))  # eq. 1
        if self.gcn is not None:
            fused += self.gcn_fusion(self.gcn([aggregated]))  # eq. 3
        return self.code(fused)  # eq. 4: (batch, bits)


@keras.saving.register_keras_serializable(package="kerashash")
class Rotation(keras.layers.Layer):
    """Stage 2's result: continuous codes turned by R, eq. 8, which is not trained.

    Call:
        ``(batch, bits)`` -> float32 ``(batch, bits)``.
    """

    def __init__(self, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def build(self, input_shape):
        bits = input_shape[-1]
        self.matrix = self.add_weight(
            name="matrix", shape=(bits, bits), initializer="identity", trainable=False
        )

    def call(self, inputs):
        return tf.matmul(inputs, self.matrix)


@keras.saving.register_keras_serializable(package="kerashash")
class DDHLDL(HashModel):
    """Deep discrete hashing for label distribution learning.

    Solves, one after the other in one `fit`:
        1. codes:  min mean_ij (cos(h_i, h_j) - s_ij)^2  over the code network
           h = tanh(W (W_1 MLP(x) + W_2 tanh((A X) W_g)))
        2. rotation:  min ||B - H R||^2 + alpha ||B - D P||^2,  R^T R = I
        3. function:  min mean (g(x) R - H R)^2  over the function network g

    S holds the cosines of label distributions D, those below the threshold set to 0;
    A is S as the adjacency of a graph of the training rows. The code network needs the
    label distributions; the function network g learns from it to do without. The hash
    code of x is sgn(g(x) R), for training rows and queries alike. The backbone is not
    trained.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
            "features" takes vectors as they are; bring them to like scales by a model
            of one adapted `kerashash.backbones.QuantileEncoding`.
        bits: int, the code length.
        num_classes: int, the width of a label distribution.
        num_train: int, the number of training rows; their indices are 0 to
            num_train - 1.
        code_epochs: int; the first epochs train the code network, the others the
            function network.
        gcn: bool; False leaves the graph's branch out (ablation I).
        rotation: bool; False leaves the rotation out, R = I (ablation II).
        adjacency: "sym", "row" or "raw", as in
            `kerashash.maths.label_graph.aggregate`. None for the preset's.
        target: "thresholded", S as above; "cosine" the target of the loss without
            threshold.
        teacher: "train" takes H from the code network with the batch statistics of
            training; "inference" with its moving ones, which are far off after few
            steps. None for the preset's.
        threshold: float in [0, 1], beta; None for the preset's. Where label
            distributions are much alike, as they are in Movie, a low one calls all rows
            similar, and most bits become the same for all.
        label_weight: float, alpha.
        dom_iterations: int, of the rotation; 1 makes it independent of the labels. None
            for the preset's.
        dropout: float in [0, 1), before the function network's layers. None for the
            preset's.
        code_units, function_units: tuples of ints, the widths of the dense layers; the
            last of `code_units` is that of both branches. None for the preset's.
        preset: "default"; "paper": what the authors' code sets for Movie, that is raw
            adjacency, H with batch statistics, threshold 0.5, one iteration, no
            dropout, code network 2048-1024-512, function network 2048-1024. Its
            training is one batch, learning rate 2e-4, 71 epochs.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, {"label": (batch, num_classes), "index": (batch,)})``, labels at
        least 0 that sum to 1; or plain arrays ``(x, d)``, in batches of 1024 unless
        `batch_size` is given, ``len(x)`` for one batch. Zeros count as 1e-6.

    Epochs:
        ``fit(..., epochs=code_epochs + E)`` trains the function network for E epochs.
        The optimizer starts anew with it, learning rate schedule included. A further
        `fit` goes on where the model is, also after `save` and `load_model`. Learned
        codes and `predict_distribution` are those of the end of the last `fit`.

        A few E are best: the function network soon overfits the training rows. Choose E
        on held-out rows, predicting for them by
        `kerashash.retrieval.hashed_distribution` from `encode`.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import keras, numpy as np
        >>> x, d = np.random.rand(40, 8), np.random.dirichlet([1.0, 1.0, 1.0], 40)
        >>> model = DDHLDL("features", bits=16, num_classes=3, num_train=40)
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> history = model.fit(x, d, epochs=14, verbose=0)
        >>> model.predict_distribution(x[:5], k=3).shape
        (5, 3)

    Reference:
        Z. Zhang, L. Zhu, Y. Li, Y. Xu, Deep Discrete Hashing for Label Distribution
        Learning, IEEE Signal Processing Letters 2022.

    Differences:
        Two stages, as the authors' code, instead of one sum. The default networks are
        smaller, which does better on held-out rows of Movie. Terms are means. A X is
        computed once, so that training needs no graph and takes batches of any size;
        there is no dropout of X, which a mean over thousands of rows cancels out.
    """

    reported = ("loss", "code_loss", "function_loss")
    needs_index = True
    refused = (*HashModel.refused, "validation_data")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        num_train: int,
        code_epochs: int = 10,
        gcn: bool = True,
        rotation: bool = True,
        adjacency: str | None = None,
        target: str = "thresholded",
        teacher: str | None = None,
        threshold: float | None = None,
        label_weight: float = 10.0,
        dom_iterations: int | None = None,
        dropout: float | None = None,
        code_units: Iterable[int] | None = None,
        function_units: Iterable[int] | None = None,
        preset: str = "default",
        **kwargs: Any,
    ):
        chosen = from_preset(
            PRESETS,
            preset,
            adjacency=adjacency,
            teacher=teacher,
            threshold=threshold,
            dom_iterations=dom_iterations,
            dropout=dropout,
            code_units=code_units,
            function_units=function_units,
        )
        options = {
            "code_epochs": code_epochs,
            "gcn": bool(gcn),
            "rotation": bool(rotation),
            "target": target,
            "label_weight": label_weight,
            **chosen,
            "code_units": tuple(chosen["code_units"]),
            "function_units": tuple(chosen["function_units"]),
        }
        _check_options(num_classes=num_classes, num_train=num_train, **options)
        function_network = keras.Sequential(
            [
                *_perceptron(
                    (*options["function_units"], bits), options["dropout"], "float32"
                ),
                Rotation(name="rotation"),
            ],
            name="function_network",
        )
        super().__init__(
            backbone, bits, num_classes, num_train, head=function_network, **kwargs
        )
        self.options = options
        self.code_network = CodeNetwork(
            bits, options["code_units"], gcn, name="code_network"
        )
        declare = functools.partial(
            self.add_weight, initializer="zeros", trainable=False
        )
        self.epochs_done = declare(name="epochs_done", shape=(), dtype="int32")
        self.train_distributions = declare(
            name="train_distributions", shape=(num_train, num_classes), dtype="float32"
        )
        self.rows: Any = None  # features and targets of the training rows
        self._features = tf.function(
            lambda x: tf.cast(self.backbone(x, training=False), tf.float32),
            reduce_retracing=True,
        )
        self.build_if_known()

    def build(self, input_shape):
        super().build(input_shape)
        features = self.backbone.compute_output_shape(input_shape)
        self.code_network.build([features, features])

    def check_labels(
        self, y: npt.ArrayLike, n: int | None = None, name: str = "y"
    ) -> npt.NDArray[np.float32]:
        d = check_distributions(y, self.num_classes, n, name)
        return np.maximum(d, FLOOR)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        if batch_size is None and not isinstance(x, tf.data.Dataset):
            batch_size = 1024
        history = super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)
        if self._is_in_stage_1():
            warnings.warn(
                "The function network, which encodes, is not trained yet: "
                f"{self._progress()}",
                stacklevel=2,
            )
        else:
            codes = discrete.sign(self._in_blocks(self.hash_head, self.rows.x))
            self.train_codes.assign(tf.cast(codes, tf.int8))
        self.rows = None
        return history

    def train_step(self, data):
        batch, rows = self.unpack(data), self.rows
        x = tf.gather(rows.x, batch.index)

        # Network step: eq. 5 in stage 1, eq. 6 in stage 3.
        with tf.GradientTape() as tape:
            if rows.targets is None:
                network, name = self.code_network, "code_loss"
                aggregated = tf.gather(rows.aggregated, batch.index)
                h = network([x, aggregated], training=True)  # (batch, bits)
                threshold = self._target_threshold()
                loss = label_graph.relation_loss(h, batch.labels, threshold)
            else:
                network, name = self.hash_head, "function_loss"
                rotated = network(x, training=True)  # (batch, bits)
                targets = tf.gather(rows.targets, batch.index)
                loss = tf.reduce_mean((rotated - targets) ** 2)
        self.minimize(tape, loss, network.trainable_variables)

        # Discrete step: stage 2, once, after the last epoch of stage 1.

        # Metrics.
        return self.report(**{"loss": loss, name: loss})

    # ------------------------------------------------------------- the stages

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        # All features, once; training goes on in the stage where it is.
        check = functools.partial(self.check_labels, name="label")
        d, x = inputs.collect(
            batches, self.num_train, self._built_features, check, verbose
        )
        self.train_distributions.assign(d)
        x = aggregated = tf.constant(x)
        if self.options["gcn"]:
            aggregated = label_graph.aggregate(
                d, x, self.options["threshold"], self.options["adjacency"]
            )
        self.rows = SimpleNamespace(x=x, aggregated=aggregated, targets=None)
        if not self._is_in_stage_1():
            self._begin_stage_3(self._stage_1_codes())
        # For both networks, before the first of them asks for its own slots.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        # A traced function holds the features of an earlier `fit`.
        self.train_function = None

    def _built_features(self, x, d):
        if not self.built:
            self.build((None, *x.shape[1:]))
        return self._features(x)

    def epoch_step(self) -> dict[str, float]:
        was_in_stage_1 = self._is_in_stage_1()
        self.epochs_done.assign_add(1)
        if was_in_stage_1 and not self._is_in_stage_1():
            h = self._stage_1_codes()
            self._solve_stage_2(h)
            self._begin_stage_3(h)
            # Learning rate schedule and graph start anew.
            self.optimizer.iterations.assign(0)
            self.make_train_function(force=True)
        return {}

    def _is_in_stage_1(self):
        return int(self.epochs_done.numpy()) < self.options["code_epochs"]

    def _progress(self):
        return (
            f"`fit` has done {int(self.epochs_done.numpy())} epochs, and the first "
            f"code_epochs={self.options['code_epochs']} train the code network."
        )

    def _stage_1_codes(self):
        """H: continuous codes of all training rows by the code network."""
        training = self.options["teacher"] == "train"
        return self._in_blocks(
            lambda x, z, training: self.code_network([x, z], training=training),
            self.rows.x,
            self.rows.aggregated,
            training=training,
        )

    def _solve_stage_2(self, h):
        """Discrete step: R, P and B from H and D, eq. 8 to 11. Only R is kept."""
        if self.options["rotation"]:
            rotation, _, _ = discrete.label_rotation(
                h,
                self.train_distributions,
                self.options["label_weight"],
                self.options["dom_iterations"],
            )
            self.hash_head.layers[-1].matrix.assign(rotation)

    def _begin_stage_3(self, h):
        """The function network's targets: H R."""
        self.rows.targets = h @ self.hash_head.layers[-1].matrix

    def _in_blocks(self, network, *values, training=False):
        """A network's output for all training rows."""
        count = -(-self.num_train // _BLOCK)
        codes = np.empty((self.num_train, self.bits), np.float32)
        for start in range(count):
            # Every count-th row: each block has the statistics of all.
            rows = (value[start::count] for value in values)
            codes[start::count] = network(*rows, training=training).numpy()
        return tf.constant(codes)

    def _target_threshold(self):
        thresholded = self.options["target"] == "thresholded"
        return self.options["threshold"] if thresholded else None

    # ------------------------------------------------------------- prediction

    def predict_distribution(
        self,
        x: Any,
        k: int = 30,
        batch_size: int = 128,
        verbose: str | int = "auto",
    ) -> npt.NDArray[np.float32]:
        """Label distributions: the mean of the nearest training rows' by hash code.

        Args:
            x: as in `encode`.
            k: int, 1 to num_train, the number of neighbours.
            batch_size, verbose: as in `encode`.

        Returns:
            float32 ``(n, num_classes)``; rows sum to 1.

        Raises:
            TypeError, ValueError: as `encode`; if `k` is out of range; if the function
                network has not been trained.

        Reference:
            Eq. 12. Of rows equally far, those of lower index count.
        """
        return hashed_distribution(
            self.encode(x, batch_size, verbose=verbose),
            self.learned_codes(),
            self.train_distributions.numpy(),
            k,
            self.bits,
        )

    def learned_codes(self) -> npt.NDArray[np.int8]:
        if self.epochs_done.numpy() and not self.train_codes.numpy().any():
            raise ValueError(f"`DDHLDL` has no learned codes yet: {self._progress()}")
        return super().learned_codes()

    def get_config(self):
        return {**super().get_config(), **self.options}


def _check_options(**options):
    """Refuse options out of range, naming them."""
    check_choices(CHOICES, **{name: options[name] for name in CHOICES})
    for name in ("num_classes", "num_train", "code_epochs", "dom_iterations"):
        check_integer(name, options[name])
    for name in ("code_units", "function_units"):
        if not options[name]:
            raise ValueError(f"`{name}` must hold a width or more. Received: ().")
        for width in options[name]:
            check_integer(name, width)
    if not 0 <= options["threshold"] <= 1:
        raise ValueError(
            f"`threshold` must be in [0, 1]. Received: {options['threshold']}."
        )
    check_least(0, label_weight=options["label_weight"])
    if not 0 <= options["dropout"] < 1:
        raise ValueError(
            f"`dropout` must be in [0, 1). Received: {options['dropout']}."
        )
