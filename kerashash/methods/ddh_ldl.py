"""DDH-LDL: hash codes whose neighbours have similar label distributions."""

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.backbones.by_name import output_shape
from kerashash.backbones.images import Traced
from kerashash.checks import (
    FLOOR,
    check_choices,
    check_distributions,
    check_flag,
    check_fraction,
    check_integer,
    check_least,
    check_number,
    check_widths,
    from_preset,
    refuse_arguments,
)
from kerashash.data import inputs
from kerashash.maths import discrete, label_graph
from kerashash.methods import replicas
from kerashash.methods.hash_model import HashModel, build_once
from kerashash.methods.layers import GraphConvolution
from kerashash.methods.training_state import Arrays
from kerashash.retrieval.prediction import hashed_distribution

CHOICES = {
    "adjacency": label_graph.ADJACENCIES,
    "target": ("thresholded", "cosine"),
    "teacher": ("train", "inference"),
}

_PAPER = {
    "code_epochs": 20,
    "adjacency": "raw",  # eq. 3
    "target": "thresholded",  # eq. 5
    "teacher": "train",
    "threshold": 0.5,
    "dom_iterations": 100,  # "until convergence", eq. 8 to 11
    "dropout": 0.0,
    "code_units": (2048, 1024, 512),
    "function_units": (2048, 1024),
}

PRESETS = {
    "default": {
        "code_epochs": 10,
        "adjacency": "sym",
        "target": "thresholded",
        "teacher": "inference",
        "threshold": 0.95,
        "dom_iterations": 10,
        "dropout": 0.3,
        "code_units": (512, 256),
        "function_units": (1024, 512),
    },
    "paper": _PAPER,
    "authors": {**_PAPER, "target": "cosine", "dom_iterations": 1},
}

#: Arguments of `HashModel` that would replace the function network.
HEAD_ARGUMENTS = ("hash_activation", "hash_initializer", "head")

# Rows that a network processes at a time outside of training.
_BLOCK_ROWS = 8192
# Columns of the features whose messages are passed at a time.
_MESSAGE_WIDTH = 128


def _dense(units: int, **kwargs: Any) -> keras.layers.Dense:
    """A dense layer initialised as in the authors' code: +-fan_in^-0.5, uniform."""
    uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return keras.layers.Dense(units, kernel_initializer=uniform, **kwargs)


def _perceptron(
    units: Sequence[int],
    dtype: Any,
    dropout: float = 0.0,
    last_dtype: str | None = None,
) -> list[keras.layers.Layer]:
    """Dense layers, each with batch normalization and tanh."""
    layers: list[keras.layers.Layer] = []
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    for number, width in enumerate(units):
        if dropout:
            layers.append(keras.layers.Dropout(dropout, dtype=dtype))
        if number == len(units) - 1:
            dtype = last_dtype or dtype
        layers += [
            # No bias: batch normalization would cancel it.
            _dense(width, use_bias=False, dtype=dtype),
            keras.layers.BatchNormalization(
                momentum=0.9,
                epsilon=1e-5,
                # On several devices: with the statistics of the whole batch.
                synchronized=several,
                dtype=dtype,
            ),
            keras.layers.Activation("tanh", dtype=dtype),
        ]
    return layers


class CodeNetwork(keras.layers.Layer):
    """Network of stage 1: features and their aggregates to continuous codes.

    Formula:
        F_mlp = MLP(x)                                                          (eq. 1)
        F_gcn = tanh((A X) W_g)                                                 (eq. 3)
        h = tanh(W (W_1 F_mlp + W_2 F_gcn))                                     (eq. 4)

    Args:
        bits: int; the code length.
        units: ints; the widths of the MLP's layers. The last is that of both branches.
        gcn: bool; False leaves out the branch of the graph convolution.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        ``[x, aggregated]``, rows of X and of A X, both ``(batch, dim)`` -> float32
        ``(batch, bits)``.
    """

    def __init__(
        self, bits: int, units: Sequence[int], gcn: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        width, dtype = units[-1], self.dtype_policy
        self.mlp = keras.Sequential(_perceptron(units, dtype), name="mlp")
        self.mlp_fusion = _dense(width, dtype=dtype, name="mlp_fusion")
        self.gcn = None
        if gcn:
            self.gcn = GraphConvolution(
                width,
                activation="tanh",
                use_bias=False,
                kernel_initializer="glorot_normal",
                dtype=dtype,
                name="gcn",
            )
            self.gcn_fusion = _dense(width, dtype=dtype, name="gcn_fusion")
        self.code = _dense(bits, activation="tanh", dtype="float32", name="code")

    def build(self, input_shape: Any) -> None:
        features, aggregated = input_shape
        self.mlp.build(features)
        width = self.mlp.output_shape
        self.mlp_fusion.build(width)
        if self.gcn is not None:
            self.gcn.build([aggregated])
            self.gcn_fusion.build(width)
        self.code.build(width)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        x, aggregated = inputs
        f_mlp = self.mlp(x, training=training)  # eq. 1: (batch, width)
        fused = self.mlp_fusion(f_mlp)
        if self.gcn is not None:
            f_gcn = self.gcn([aggregated])  # eq. 3: (batch, width)
            fused += self.gcn_fusion(f_gcn)
        return self.code(fused)  # eq. 4: (batch, bits)


def pass_messages(x: tf.Tensor, adjacency: Iterable[tf.Tensor]) -> tf.Tensor:
    """Aggregate features over a graph, by Spektral's graph convolution.

    Formula:
        A X I, the convolution of eq. 3 with the identity in the place of W_g

    A and X do not change in training, and A (X W_g) = (A X) W_g: messages are passed
    once, and W_g is trained on their sums. With all of X and A in every step, each
    epoch of stage 1 would pass them again.

    Args:
        x: float32 tensor ``(n, dim)``; X.
        adjacency: iterable of float32 tensors ``(rows, n)``; A, block by block.

    Returns:
        float32 tensor ``(n, dim)``; A X.
    """
    # The identity costs a product as well: it is small next to a block.
    width, dim = min(_MESSAGE_WIDTH, x.shape[1]), x.shape[1]
    convolution = GraphConvolution(
        width, use_bias=False, kernel_initializer="identity", dtype="float32"
    )
    padded = tf.pad(x, [[0, 0], [0, -dim % width]])
    parts = tf.split(padded, padded.shape[1] // width, axis=1)
    sums = [
        tf.concat([convolution([part, block]) for part in parts], axis=1)
        for block in adjacency
    ]
    return tf.concat(sums, axis=0)[:, :dim]


@keras.saving.register_keras_serializable(package="kerashash")
class Rotation(keras.layers.Layer):
    """Result of stage 2: the rotation R of continuous codes, eq. 8. It is not trained.

    Call:
        ``(batch, bits)`` -> float32 ``(batch, bits)``.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def build(self, input_shape: Any) -> None:
        bits = input_shape[-1]
        self.matrix = self.add_weight(
            name="matrix", shape=(bits, bits), initializer="identity", trainable=False
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(inputs, self.matrix)


@keras.saving.register_keras_serializable(package="kerashash")
class DDHLDL(HashModel):
    """Deep discrete hashing for label distribution learning.

    Solves, in three stages of one `fit`:
        1. codes:     min  mean_ij (cos(h_i, h_j) - s_ij)^2  over the code network h
                      (`CodeNetwork`, eq. 1, 3 and 4)                           (eq. 5)
        2. rotation:  min  ||B - H R||^2 + alpha ||B - D P||^2  over B, R and P
                      subject to  R^T R = I                               (eq. 8 to 11)
        3. function:  min  mean (g(x) R - H R)^2  over the function network g   (eq. 6)

    S holds the cosines of the label distributions D, with those below the threshold set
    to 0 (eq. 2); A is S as the adjacency matrix of a graph of the training rows. The
    code network needs label distributions; the function network g learns to do without
    them. The hash code of x is sgn(g(x) R), for training rows and queries alike. The
    backbone is not trained.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
            "features" takes vectors as they are. To bring columns to comparable scales,
            use a model of one adapted `kerashash.backbones.QuantileEncoding`.
        bits: int; the code length.
        num_classes: int; the width of a label distribution.
        num_train: int; the number of training rows. Their indices are 0 to
            num_train - 1.
        code_epochs: int or None; how many epochs train the code network, before the
            remaining ones train the function network. None takes the preset's.
        gcn: bool; False leaves out the branch of the graph convolution (DDH-LDL-I in
            the paper's ablation).
        rotation: bool; False leaves out the rotation, R = I (DDH-LDL-II).
        adjacency: str or None; how A is normalised: "sym", "row" or "raw", as in
            `kerashash.maths.label_graph.aggregate`. None takes the preset's.
        target: str or None; s_ij of stage 1: "thresholded", as in eq. 5, or "cosine",
            without the threshold. None takes the preset's.
        teacher: str or None; how the code network computes H for stages 2 and 3:
            "train" with the statistics of the batch, as in training; "inference" with
            the moving statistics, which are far off after few steps. None takes the
            preset's.
        threshold: float in [0, 1], or None; beta. If most label distributions are
            alike, as in Movie, a low threshold makes all rows similar, and most bits
            become equal for all rows. None takes the preset's.
        label_weight: float; alpha.
        dom_iterations: int or None; the iterations of stage 2, the paper's discrete
            optimization module. With 1, the rotation does not depend on the labels.
            None takes the preset's.
        dropout: float in [0, 1), or None; the rate before each dense layer of the
            function network. None takes the preset's.
        code_units, function_units: ints, or None; the widths of the dense layers of the
            two networks. The last of `code_units` is that of both branches; the
            function network ends in one more layer, of `bits` units. None takes the
            preset's.
        preset: str; "default"; "paper" for the equations as they are printed, with A =
            S in eq. 3 and stage 2 until it converges; or "authors" for the settings of
            the authors' code for Movie, which differ from their equations in
            ``target="cosine"`` and one iteration of stage 2. What the paper leaves open
            is in both as in that code: threshold 0.5, 20 epochs of stage 1, H with
            batch statistics, no dropout, code network 2048-1024-512, function network
            2048-1024. That code trains in one batch, at a learning rate of 2e-4, for 71
            epochs.
        **kwargs: further arguments of `keras.Model`.

    Training data:
        Batches ``(x, {"label": (batch, num_classes), "index": (batch,)})``, with labels
        of at least 0 that sum to 1, and each index once an epoch. Or arrays ``(x, d)``,
        in batches of 1024 unless `batch_size` is given; ``batch_size=len(x)`` is one
        batch. Labels below 1e-6 count as 1e-6.

    Epochs:
        ``fit(..., epochs=code_epochs + E)`` trains the function network for E epochs,
        for which the optimizer starts again, with a step count of 0. The first training
        step of these epochs, in any `fit`, also solves stage 2, whose result depends on
        the code network alone.
        Another `fit` continues in the stage that the model has reached, also after
        `save` and `load_model`. Learned codes and `predict_distribution` are those of
        the end of the latest `fit`.

        The epochs of the code network report "code_loss", those of the function
        network "loss" and "function_loss": `keras.callbacks.ModelCheckpoint` and
        `EarlyStopping` that monitor "loss" take no model whose function network, which
        encodes, is not trained. Keras warns in the epochs that have none.

        A small E is best: the function network soon overfits the training rows. Choose
        E on held-out rows: encode them and the training rows, and predict with
        `kerashash.retrieval.hashed_distribution`.

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
        The two losses are minimised one after the other, as in the authors' code, not
        as the sum of eq. 7. Terms are means. The default networks are smaller, which
        does better on held-out rows of Movie. Spektral's graph convolution passes the
        messages of A X once, and its kernel is trained on their sums (`pass_messages`):
        the same function, in batches of any size. The authors' code has dropout on X
        before the aggregation, which a mean over thousands of rows cancels; here there
        is none.
    """

    reported = ("loss", "code_loss", "function_loss")
    needs_index = True
    supports_replicas = True
    default_batch_size = 1024
    training_networks = ("code_network",)
    refused = (*HashModel.refused, "validation_data")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int,
        num_train: int,
        code_epochs: int | None = None,
        gcn: bool = True,
        rotation: bool = True,
        adjacency: str | None = None,
        target: str | None = None,
        teacher: str | None = None,
        threshold: float | None = None,
        label_weight: float = 10.0,
        dom_iterations: int | None = None,
        dropout: float | None = None,
        code_units: Iterable[int] | None = None,
        function_units: Iterable[int] | None = None,
        preset: str = "default",
        **kwargs: Any,
    ) -> None:
        refuse_arguments("DDHLDL", kwargs, *HEAD_ARGUMENTS)
        chosen = from_preset(
            PRESETS,
            preset,
            code_epochs=code_epochs,
            adjacency=adjacency,
            target=target,
            teacher=teacher,
            threshold=threshold,
            dom_iterations=dom_iterations,
            dropout=dropout,
            code_units=code_units,
            function_units=function_units,
        )
        check_flag(gcn=gcn, rotation=rotation)
        bits = check_integer("bits", bits)
        num_classes = check_integer("num_classes", num_classes)
        num_train = check_integer("num_train", num_train)
        options = {
            "gcn": bool(gcn),
            "rotation": bool(rotation),
            "label_weight": label_weight,
            **chosen,
            "code_units": tuple(chosen["code_units"]),
            "function_units": tuple(chosen["function_units"]),
        }
        _check_options(options)
        function_network = keras.Sequential(
            [
                *_perceptron(
                    (*options["function_units"], bits),
                    kwargs.get("dtype"),
                    options["dropout"],
                    "float32",
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
            bits,
            options["code_units"],
            gcn,
            dtype=self.dtype_policy,
            name="code_network",
        )
        # Weights of the model, so that a saved model resumes in its stage.
        add_state = functools.partial(
            self.add_weight, initializer="zeros", trainable=False
        )
        self.epochs_done = add_state(name="epochs_done", shape=(), dtype="int32")
        self.train_distributions = add_state(
            name="train_distributions", shape=(num_train, num_classes), dtype="float32"
        )
        self.rows: Any = None  # features and targets of all training rows, in `fit`
        self._features = Traced(
            self, lambda x: tf.cast(self.features(x, training=False), tf.float32)
        )
        self.build_if_known()

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        features = output_shape(self.backbone, input_shape)
        build_once(self.code_network, [features, features])

    # -------------------------------------------------------------- train_step

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch, rows = self.unpack(data), self.rows
        x = tf.gather(rows.x, batch.index)  # (batch, dim)

        # Network step: eq. 5 in stage 1.
        if rows.in_stage_1:
            with tf.GradientTape() as tape:
                aggregated = tf.gather(rows.aggregated, batch.index)  # (batch, dim)
                h = self.code_network([x, aggregated], training=True)
                h, labels = self.gather(h, batch.labels)  # (batch, bits)
                thresholded = self.options["target"] == "thresholded"
                threshold = self.options["threshold"] if thresholded else None
                loss = label_graph.relation_loss(h, labels, threshold)
            self.minimize(tape, loss, self.code_network.trainable_variables)
            # Not as "loss", by which callbacks would compare it with that of stage 3.
            return self.report(h, code_loss=loss)

        # Discrete step: stage 2, eq. 8, in the first step after stage 1.
        # On several devices, `_begin_stage_3` has solved it.
        if replicas.count() == 1:
            tf.cond(rows.targets_are_due, self._solve_stage_2, lambda: None)

        # Network step: eq. 6 in stage 3. The function network ends in R itself, which
        # is orthogonal: the error is that of g(x) and H.
        with tf.GradientTape() as tape:
            rotated = self.hash_head(x, training=True)
            rotated, index = self.gather(rotated, batch.index)  # g(x) R: (batch, bits)
            targets = tf.gather(rows.targets, index)  # H R: (batch, bits)
            loss = tf.reduce_mean((rotated - targets) ** 2)
        self.minimize(tape, loss, self.hash_head.trainable_variables)

        # Metrics.
        return self.report(rotated, loss=loss, function_loss=loss)

    def _solve_stage_2(self) -> None:
        """Discrete step: P (eq. 9), R (eq. 10) and B (eq. 11), of which R is kept."""
        h = self._stage_1_codes()
        rotation = self.hash_head.layers[-1].matrix
        if self.options["rotation"]:
            solution, _, _ = discrete.label_rotation(
                h,
                self.train_distributions.value,
                self.options["label_weight"],
                self.options["dom_iterations"],
            )
            rotation.assign(solution)
        self.rows.targets.assign(tf.matmul(h, rotation))
        self.rows.targets_are_due.assign(False)

    def _stage_1_codes(self) -> tf.Tensor:
        """H, the code network's continuous codes of all training rows: (n, bits)."""
        training = self.options["teacher"] == "train"
        # With the statistics of batches, the network updates moving ones: not here.
        fixed = self.code_network.non_trainable_variables
        before = [tf.identity(variable.value) for variable in fixed]
        h = self._in_blocks(
            lambda *inputs: self.code_network(inputs, training=training),
            self.rows.x,
            self.rows.aggregated,
        )
        for variable, value in zip(fixed, before, strict=True):
            variable.assign(value)
        return h

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        raise ValueError(
            "`DDHLDL` has no loss on rows outside its training set, which its graph "
            "does not have. `kerashash.evaluation.label_distribution.measures(d, "
            "model.predict_distribution(x))` compares predictions with the truth."
        )

    # ------------------------------------------------------------------ stages

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        # Computes all features once, and continues in the stage reached.
        check = functools.partial(self.check_labels, name="label")
        d, x = inputs.collect(
            batches, self.num_train, self._built_features, check, verbose
        )
        data = inputs.fingerprint(d)
        if self.has_state_to_resume and not self.state_to_resume(data, {}):
            # The stages that are done are those of other rows.
            self.restart()
            self.train_codes.assign(keras.ops.zeros_like(self.train_codes))
        self.train_distributions.assign(d)
        x = aggregated = tf.constant(x)
        if self.options["gcn"]:
            aggregated = pass_messages(
                x,
                label_graph.adjacency_blocks(
                    d, self.options["threshold"], self.options["adjacency"]
                ),
            )
        self.rows = SimpleNamespace(
            x=replicas.table(x),
            aggregated=replicas.table(aggregated),
            in_stage_1=self._is_in_stage_1(),
            # Of a code network that is trained: a later `fit` finds the same ones.
            targets=tf.Variable(tf.zeros((self.num_train, self.bits)), trainable=False),
            targets_are_due=tf.Variable(True, trainable=False),
        )
        # With the variables of both networks, before one of them builds it alone.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        if not self.rows.in_stage_1:
            self._begin_stage_3()
        # A function traced by an earlier `fit` holds the rows of that `fit`.
        self.train_function = None

    def _begin_stage_3(self) -> None:
        """Solve stage 2 now, if there are several devices.

        On these, batch normalization communicates, which a branch of a step cannot.
        """
        if self.distribute_strategy.num_replicas_in_sync > 1:
            self._solve_stage_2()

    def epoch_step(self) -> dict[str, float]:
        self.epochs_done.assign_add(1)
        if self.rows.in_stage_1 and not self._is_in_stage_1():
            self._restart_optimizer()
            self.rows.in_stage_1 = False
            self._begin_stage_3()
            self.make_train_function(force=True)  # the traced one is stage 1's
        return {}

    def training_state(self) -> Arrays:
        # All that training needs is in the weights.
        if not self.epochs_done.numpy():
            return {}
        return {"data": inputs.fingerprint(self.train_distributions.numpy())}

    def restart(self) -> None:
        self.epochs_done.assign(0)  # stages 2 and 3 need a code network that is trained

    def _is_in_stage_1(self) -> bool:
        return int(self.epochs_done.numpy()) < self.options["code_epochs"]

    def _restart_optimizer(self) -> None:
        """Give the optimizer the state of a new one, such as a step count of 0."""
        # With `use_ema`, the code network ends as the mean of its weights.
        self.optimizer.finalize_variable_values(self.trainable_variables)
        new = type(self.optimizer).from_config(self.optimizer.get_config())
        new.build(self.trainable_variables)
        for old, value in zip(self.optimizer.variables, new.variables, strict=True):
            old.assign(value)

    # -------------------------------------------------------------- prediction

    def predict_distribution(
        self,
        x: Any,
        k: int = 30,
        batch_size: int = 128,
        verbose: str | int = "auto",
    ) -> npt.NDArray[np.float32]:
        """Predict label distributions: the mean over the nearest training rows.

        Args:
            x: as for `encode`.
            k: int; the number of nearest training rows, by Hamming distance of hash
                codes, from 1 to num_train. Of equally near rows, the ones with the
                lowest index are taken.
            batch_size, verbose: as for `encode`.

        Returns:
            float32 array ``(n, num_classes)``; rows sum to 1.

        Raises:
            TypeError, ValueError: as for `encode`; if `k` is out of range; if the
                function network has not been trained.

        Reference:
            Eq. 12.
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

    # ---------------------------------------------------------------- plumbing

    def check_labels(
        self, y: npt.ArrayLike, n: int | None = None, name: str = "y"
    ) -> npt.NDArray[np.float32]:
        d = check_distributions(y, self.num_classes, n, name)
        return np.maximum(d, FLOOR)

    def finish(self) -> None:
        if int(self.epochs_done.numpy()) <= self.options["code_epochs"]:
            warnings.warn(
                "The function network, which encodes, is not trained yet: "
                f"{self._progress()}",
                stacklevel=3,
            )
        else:
            codes = discrete.sign(self._in_blocks(self.hash_head, self.rows.x))
            self.train_codes.assign(tf.cast(codes, tf.int8))

    def release(self) -> None:
        self.rows = None  # it holds the features of all rows

    def _progress(self) -> str:
        return (
            f"`fit` has done {int(self.epochs_done.numpy())} epochs, and the first "
            f"code_epochs={self.options['code_epochs']} train the code network."
        )

    def _built_features(self, x: Any, d: Any) -> tf.Tensor:
        """Features of a batch, whose shape builds the model if need be."""
        if not self.built:
            self.build((None, *x.shape[1:]))
        return self._features(x)

    def _in_blocks(
        self, network: Callable[..., tf.Tensor], *values: tf.Tensor
    ) -> tf.Tensor:
        """Output of a network for all training rows, in blocks: ``(n, bits)``.

        Each of ``values`` has n rows.
        """
        count = -(-self.num_train // _BLOCK_ROWS)
        # Every count-th row, so that a block's statistics are those of all rows.
        blocks = [slice(start, None, count) for start in range(count)]
        codes = [network(*(value[block] for value in values)) for block in blocks]
        order = np.concatenate([np.arange(self.num_train)[block] for block in blocks])
        return tf.gather(tf.concat(codes, axis=0), np.argsort(order))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in HEAD_ARGUMENTS:
            del config[name]
        return {**config, **self.options}


def _check_options(options: dict[str, Any]) -> None:
    """Check the constructor's options; an error names the one that is wrong. Integers
    become Python's own."""
    check_choices(CHOICES, **{name: options[name] for name in CHOICES})
    for name in ("code_epochs", "dom_iterations"):
        options[name] = check_integer(name, options[name])
    for name in ("code_units", "function_units"):
        options |= check_widths(**{name: options[name]})
        if not options[name]:
            raise ValueError(f"`{name}` must hold at least one width. Received: ().")
    check_fraction(threshold=options["threshold"])
    check_least(0, label_weight=options["label_weight"])
    check_number("dropout", options["dropout"])
    if not 0 <= options["dropout"] < 1:
        raise ValueError(
            f"`dropout` must be in [0, 1). Received: {options['dropout']}."
        )
