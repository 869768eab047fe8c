"""DDH-LDL: hash codes whose neighbours have like label distributions."""

import functools
import warnings
from types import SimpleNamespace

import keras
import numpy as np
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


@keras.saving.register_keras_serializable(package="kerashash")
class DDHLDL(HashModel):
    """Deep discrete hashing for label distribution learning.

    Solves, one after the other in one `fit`:
        1. code network:  min mean_ij (cos(h_i, h_j) - s_ij)^2
           h = tanh(W (W_1 MLP(x) + W_2 tanh((A X) W_g)))
        2. rotation:  min ||B - H R||^2 + alpha ||B - D P||^2,  R^T R = I
        3. function network:  min mean (g(x) R - H R)^2

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

        A few E are best: the function network soon knows the training rows by heart.
        Choose E on rows held out, predicting for them by
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
        backbone,
        bits,
        num_classes,
        num_train,
        code_epochs=10,
        gcn=True,
        rotation=True,
        adjacency=None,
        target="thresholded",
        teacher=None,
        threshold=None,
        label_weight=10.0,
        dom_iterations=None,
        dropout=None,
        code_units=None,
        function_units=None,
        preset="default",
        **kwargs,
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
        self.stats = None
        self._features = tf.function(
            lambda x: tf.cast(self.backbone(x, training=False), tf.float32),
            reduce_retracing=True,
        )
        self.build_if_known()

    def build(self, input_shape):
        super().build(input_shape)
        features = self.backbone.compute_output_shape(input_shape)
        self.code_network.build([features, features])

    def check_labels(self, y, n=None, name="y"):
        d = check_distributions(y, self.num_classes, n, name)
        return np.maximum(d, FLOOR)

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        if batch_size is None and not isinstance(x, tf.data.Dataset):
            batch_size = 1024
        history = super().fit(x, y, batch_size, *args, **kwargs)
        if self._learns_codes():
            warnings.warn(
                "The function network, which encodes, is not trained yet: "
                f"{self._left()}",
                stacklevel=2,
            )
        else:
            codes = discrete.sign(self._in_blocks(self.hash_head, self.stats.x))
            self.train_codes.assign(tf.cast(codes, tf.int8))
        self.stats = None
        return history

    fit.__doc__ = HashModel.fit.__doc__

    def train_step(self, data):
        _, d, index = self.unpack(data)
        stats = self.stats
        x = tf.gather(stats.x, index)

        # Network step: eq. 5 until there is a teacher, then eq. 6.
        with tf.GradientTape() as tape:
            if stats.wanted is None:
                network, name = self.code_network, "code_loss"
                h = network([x, tf.gather(stats.aggregated, index)], training=True)
                value = label_graph.relation_loss(h, d, self._target_threshold())
            else:
                network, name = self.hash_head, "function_loss"
                codes = network(x, training=True)
                value = tf.reduce_mean((codes - tf.gather(stats.wanted, index)) ** 2)
        self.minimize(tape, value, network.trainable_variables)

        # Discrete step: once, after the last epoch of the code network.

        # Metrics.
        return self.report(**{"loss": value, name: value})

    # ------------------------------------------------------------- the stages

    def prepare(self, batches, verbose):
        """Look at all features once; take up the stage where training is."""
        check = functools.partial(self.check_labels, name="label")
        d, x = inputs.collect(batches, self.num_train, self._look, check, verbose)
        self.train_distributions.assign(d)
        x = aggregated = tf.constant(x)
        if self.options["gcn"]:
            aggregated = label_graph.aggregate(
                d, x, self.options["threshold"], self.options["adjacency"]
            )
        self.stats = SimpleNamespace(x=x, aggregated=aggregated, wanted=None)
        if not self._learns_codes():
            self.stats.wanted = self._teach() @ self._rotation()
        # For both networks, before the first of them asks for its own slots.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        # A traced function holds the features of an earlier `fit`.
        self.train_function = None

    def _look(self, x, d):
        if not self.built:
            self.build((None, *x.shape[1:]))
        return self._features(x)

    def epoch_step(self):
        learned = self._learns_codes()
        self.epochs_done.assign_add(1)
        if learned and not self._learns_codes():
            self._change_stage()
        return {}

    def _change_stage(self):
        """Discrete step: R, P and B from H and D, eq. 8 to 11; then the next stage."""
        h = self._teach()
        if self.options["rotation"]:
            rotation, _, _ = discrete.label_rotation(
                h,
                self.train_distributions,
                self.options["label_weight"],
                self.options["dom_iterations"],
            )
            self._rotation().assign(rotation)
        self.stats.wanted = h @ self._rotation()
        self.optimizer.iterations.assign(0)
        self.make_train_function(force=True)

    def _learns_codes(self):
        return int(self.epochs_done.numpy()) < self.options["code_epochs"]

    def _left(self):
        return (
            f"`fit` has done {int(self.epochs_done.numpy())} epochs, and the first "
            f"code_epochs={self.options['code_epochs']} train the code network."
        )

    def _rotation(self):
        return self.hash_head.layers[-1].matrix

    def _teach(self):
        """H, continuous codes of all training rows."""
        training = self.options["teacher"] == "train"
        return self._in_blocks(
            lambda x, z, training: self.code_network([x, z], training=training),
            self.stats.x,
            self.stats.aggregated,
            training=training,
        )

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

    def predict_distribution(self, x, k=30, batch_size=128, verbose="auto"):
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

    def learned_codes(self):
        if self.epochs_done.numpy() and not self.train_codes.numpy().any():
            raise ValueError(f"`DDHLDL` has no learned codes yet: {self._left()}")
        return super().learned_codes()

    learned_codes.__doc__ = HashModel.learned_codes.__doc__

    def get_config(self):
        return {**super().get_config(), **self.options}


class CodeNetwork(keras.layers.Layer):
    """Features and their aggregates over the graph to continuous codes.

    Call:
        ``[x, aggregated]``, both ``(batch, dim)`` -> float32 ``(batch, bits)``.
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
        fused = self.mlp_fusion(self.mlp(x, training=training))
        if self.gcn is not None:
            fused += self.gcn_fusion(self.gcn([aggregated]))
        return self.code(fused)


@keras.saving.register_keras_serializable(package="kerashash")
class Rotation(keras.layers.Layer):
    """Continuous codes turned by an orthogonal matrix that is not trained.

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
