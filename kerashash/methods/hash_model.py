"""HashModel: what all methods of learning to hash have in common."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import backbones, checks
from kerashash.backbones.images import input_size
from kerashash.checks import check_integer
from kerashash.codes import packed_width
from kerashash.data import inputs
from kerashash.methods.layers import HashHead

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "kerashash runs on Keras' TensorFlow backend. Received: "
        f"KERAS_BACKEND={keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow."
    )


class Batch(NamedTuple):
    """A batch of training data, as `HashModel.unpack` gives it to a `train_step`.

    Attributes:
        x: tensor ``(batch, ...)``, images or vectors.
        labels: float32 tensor ``(batch, num_classes)``; None if the method learns
            without labels.
        index: int32 tensor ``(batch,)``, the row number of each example in the training
            set; None if the data has none.
    """

    x: Any
    labels: Any
    index: Any


class HashModel(keras.Model):
    """A network from inputs to hash codes; the base class of every method.

    Calling the model gives continuous codes; `encode` gives hash codes.

    A method subclasses it and overrides `train_step` in three labelled blocks: network
    step, discrete step, metrics. In it, it calls `unpack`, `regularized`, `minimize`
    and `report`. It may override the hooks `prepare` (once, before the first epoch),
    `epoch_step` (after each epoch) and `check_labels`, and these class attributes:

    - ``reported``: names of the values that `report` is given, "loss" among them;
    - ``needs_labels``: whether the method learns from labels;
    - ``unknown_labels``: whether a label may be -1, "not known";
    - ``needs_index``: whether it needs the row number of each training example; by
      default, if the model keeps learned codes;
    - ``networks``: names of the constructor's arguments that are networks, each also an
      attribute of the model;
    - ``refused``: arguments of `fit` that mean nothing to the method.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int, the code length.
        num_classes: int or None, the width of a label row.
        num_train: int or None. If given, the model keeps a learned hash code for
            each of that many training rows, as a non-trainable weight.
        hash_activation: activation of the hash layer, "tanh" or None.
        hash_initializer: kernel initializer of the hash layer.
        head: layer from features to float32 continuous codes, or None for a
            `HashHead` with the two options above.
        **kwargs: further arguments of `keras.Model`.

    Call:
        inputs ``(batch, ...)`` -> float32 continuous codes ``(batch, bits)``.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> class Regression(HashModel):
        ...     def train_step(self, data):
        ...         batch = self.unpack(data)
        ...         with tf.GradientTape() as tape:
        ...             u = self(batch.x, training=True)  # (batch, bits)
        ...             target = 2.0 * batch.labels - 1.0  # here bits == num_classes
        ...             loss = self.regularized(tf.reduce_mean((u - target) ** 2))
        ...         self.minimize(tape, loss)
        ...         return self.report(loss=loss)
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = Regression(net, bits=3, num_classes=3)
        >>> model.compile(optimizer="adam")
        >>> x, y = np.ones((6, 4)), np.arange(6) % 3
        >>> list(model.fit(x, y, verbose=0).history)
        ['loss']
    """

    reported: tuple[str, ...] = ("loss",)
    needs_labels: Any = True  # a bool, or a property that gives one
    unknown_labels = False
    needs_index: Any = property(lambda self: self.train_codes is not None)
    networks: tuple[str, ...] = ("backbone",)
    refused: tuple[str, ...] = ("sample_weight", "class_weight", "validation_split")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int | None = None,
        num_train: int | None = None,
        hash_activation: str | None = "tanh",
        hash_initializer: str = "glorot_uniform",
        head: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        packed_width(bits)
        for name, value in (("num_classes", num_classes), ("num_train", num_train)):
            if value is not None:
                check_integer(name, value)
        super().__init__(**kwargs)
        object.__setattr__(self, "_consulted", [])
        self.bits = int(bits)
        self.num_classes: Any = num_classes
        self.num_train: Any = num_train
        self.backbone = backbones.get(backbone)
        if head is None:
            head = HashHead(
                bits,
                activation=hash_activation,
                kernel_initializer=hash_initializer,
                name="hash_head",
            )
        self.hash_head = head
        self.train_codes: Any = None
        if num_train is not None:
            # 0 marks a row that has no code yet.
            self.train_codes = self.add_weight(
                name="train_codes",
                shape=(num_train, bits),
                dtype="int8",
                initializer="zeros",
                trainable=False,
            )
        self.trackers = {name: keras.metrics.Mean(name) for name in self.reported}
        self._encode_batch = tf.function(
            lambda x: self(x, training=False), reduce_retracing=True
        )

    def build(self, input_shape):
        if not self.backbone.built:
            self.backbone.build(input_shape)
        features = self.backbone.compute_output_shape(input_shape)
        if not self.hash_head.built:
            self.hash_head.build(features)

    def build_if_known(self) -> None:
        """Build now if the backbone knows its input shape.

        A subclass calls this last in ``__init__``, so that its model can be saved,
        summarised and used without a first batch.
        """
        shape = self._batch_shape()
        if shape is not None:
            self.build(shape)

    def _batch_shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch of inputs, None where any size will do; None if unknown."""
        if self.built:
            return (None, *self._build_shapes_dict["input_shape"][1:])
        return getattr(self.backbone, "input_shape", None)

    def call(self, inputs, training=None):
        return self.hash_head(self.backbone(inputs, training=training))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.bits)

    def consult(self, name: str, network: Any) -> None:
        """Set an attribute to a network that the method consults and never trains.

        Keras tracks what is assigned to an attribute, in a list too, and would train it
        with the model: its weights would get no gradients and take slots in the
        optimizer. Set past Keras' own ``__setattr__`` it is not tracked. It is saved
        with the model all the same, as one of its `layers`.

        Args:
            name: str, the attribute.
            network: `keras.Model`, or what stands in its place, such as None.
        """
        object.__setattr__(self, name, network)
        if isinstance(network, keras.layers.Layer):
            self._consulted.append(network)

    @property
    def layers(self):
        """The layers that Keras tracks, then the networks that the method consults."""
        return [*super().layers, *self._consulted]

    def encode(
        self,
        x: Any,
        batch_size: int = 128,
        packed: bool = True,
        verbose: str | int = "auto",
    ) -> npt.NDArray[Any]:
        """Hash codes of images or vectors.

        A bit is 1 (+1) where the continuous code is at least 0.

        Args:
            x: array ``(n, ...)``; `tf.data.Dataset` of ``x`` or ``(x, y)``,
                batched or not; or a list of paths of image files.
            batch_size: int, rows encoded at a time.
            packed: bool; True gives bytes, False codes over {-1, +1}.
            verbose: "auto" shows a progress bar on long work, 1 always, 0 never.

        Returns:
            uint8 ``(n, ceil(bits / 8))``, most significant bit first, or int8
            ``(n, bits)`` over {-1, +1}.

        Raises:
            TypeError, ValueError: if `x` is no such input, has the wrong shape or
                is not finite.

        Example:
            >>> import keras, kerashash
            >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
            >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
            >>> model.encode(np.zeros((5, 4))).shape
            (5, 2)
        """
        batches = self._continuous_batches(x, batch_size, verbose)
        signs = [continuous >= 0 for continuous in batches]
        bits = np.concatenate([np.zeros((0, self.bits), bool), *signs])
        if packed:
            return np.packbits(bits, axis=1)
        return np.where(bits, np.int8(1), np.int8(-1))

    def continuous_codes(
        self, x: Any, batch_size: int = 128, verbose: str | int = "auto"
    ) -> npt.NDArray[np.float32]:
        """Continuous codes, of which `encode` takes the signs.

        Args:
            x, batch_size, verbose: as in `encode`.

        Returns:
            float32 ``(n, bits)``.

        Raises:
            TypeError, ValueError: as `encode`.
        """
        batches = self._continuous_batches(x, batch_size, verbose)
        return np.concatenate([np.zeros((0, self.bits), np.float32), *batches])

    def _continuous_batches(self, x, batch_size, verbose):
        image_size = input_size(self.backbone)
        source, steps = inputs.batches(x, batch_size, self._batch_shape(), image_size)
        source = inputs.progress(source, steps, "Encoding", verbose)
        for number, batch in enumerate(source):
            continuous = self._encode_batch(batch).numpy()
            # The inputs too: on some processors, ReLU turns NaN into 0.
            if not (_is_finite(continuous) and _is_finite(batch)):
                raise ValueError(
                    "`x` must give finite codes. Received NaN or infinity, in the "
                    f"input or from the model's weights, in batch {number}."
                )
            yield continuous

    def learned_codes(self) -> npt.NDArray[np.int8]:
        """The codes learned for the training rows by the discrete step.

        Returns:
            int8 array ``(num_train, bits)`` over {-1, +1}, in order of the index.

        Raises:
            ValueError: if the method keeps none, or has not been trained.
        """
        if self.train_codes is None:
            raise ValueError(
                f"`{type(self).__name__}` learns no codes of its training rows. "
                "Encode them instead: database='encoded'."
            )
        codes = self.train_codes.numpy()
        if not codes.all():
            raise ValueError(
                f"`{type(self).__name__}` has no learned codes before `fit`. "
                "Received an untrained model."
            )
        return codes

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
        """Train, as `keras.Model.fit`.

        Args:
            x: `tf.data.Dataset` of batches ``(x, {"label", "index"})``, or an array
                ``(n, ...)``.
            y: labels if `x` is an array: class ids ``(n,)`` or label rows
                ``(n, num_classes)``; the index is then added.
            batch_size, epochs, verbose, callbacks, **kwargs: as in
                `keras.Model.fit`. There are no sample weights and there is no
                `validation_split`: a split would take rows from the learned codes.

        Returns:
            `keras.callbacks.History`.

        Raises:
            TypeError, ValueError: if the data is not what the method trains on.
        """
        for name in self.refused:
            value = kwargs.get(name)
            if value is not None and not (np.isscalar(value) and value == 0):
                raise ValueError(
                    f"`{name}` is not supported by `{type(self).__name__}`. "
                    f"Received: {name}={value!r:.60}."
                )
        if isinstance(x, tf.data.Dataset):
            if y is not None:
                raise ValueError(
                    "`y` must be None when `x` is a data set, which holds the labels."
                    f" Received y of type {type(y).__name__}."
                )
            inputs.check_batches(
                x,
                self.num_classes,
                self.needs_labels,
                self.needs_index,
                type(self).__name__,
            )
            batches = x
            # A data set brings its own order; Keras would warn that it ignores True.
            kwargs.setdefault("shuffle", False)
        else:
            x = checks.check_array(x, self._batch_shape())
            rows: dict[str, Any] = {"index": np.arange(len(x), dtype=np.int32)}
            if self.needs_labels:
                rows["label"] = self.check_labels(y, len(x))
            y = rows
            size = batch_size or 32
            batches = (
                (x[s : s + size], {k: v[s : s + size] for k, v in y.items()})
                for s in range(0, len(x), size)
            )
        self.prepare(batches, verbose)
        callbacks = [] if callbacks is None else callbacks
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        return super().fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            # `_EpochStep` first: the user's callbacks see the codes of this epoch.
            callbacks=[_EpochStep(), *callbacks],
            **kwargs,
        )

    def check_labels(
        self, y: npt.ArrayLike, n: int | None = None, name: str = "y"
    ) -> npt.NDArray[np.float32]:
        """Hook: turn what the user gave as labels into label rows.

        Called on the labels of arrays before training, and on those of each batch by a
        `prepare` that passes it to `kerashash.data.inputs.collect`.

        Args:
            y: array of labels, in any form that the method takes.
            n: int or None, the number of rows to demand.
            name: str, the argument to name in an error.

        Returns:
            float32 array ``(n, num_classes)``.

        Raises:
            ValueError: if the shape or a value is wrong.
        """
        return checks.check_labels(y, self.num_classes, n, self.unknown_labels, name)

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        """Hook: look at the training data once. By default nothing is looked at.

        `fit` calls it eagerly, after its arguments are checked and before the first
        epoch. Methods that keep a row for each training example find labels, first
        codes or neighbours here (`kerashash.data.inputs.collect`).

        Args:
            batches: iterable of ``(x, {"label": (batch, num_classes), "index":
                (batch,)})``, one epoch of the data that is trained on; without "label"
                where the method needs none.
            verbose: "auto", 1 or 0, whether to show progress, as of `fit`.

        Raises:
            ValueError: if the data is not what the method trains on.
        """

    def epoch_step(self) -> dict[str, float]:
        """Hook: what a method does after each epoch, before the user's callbacks.

        Called eagerly. A discrete step over all training rows belongs here.

        Returns:
            dict from names to floats, added to the epoch's logs.
        """
        return {}

    # AutoGraph, which Keras leaves on for `test_step`, cannot make a named tuple.
    @tf.autograph.experimental.do_not_convert
    def unpack(self, data: Any) -> Batch:
        """Split what Keras passes to `train_step` or `test_step`.

        Args:
            data: ``(x, y)``, where y is a tensor of label rows ``(batch, num_classes)``
                or a dict with "label", "index" or both.

        Returns:
            `Batch`; its labels are None for a method that learns without them.

        Raises:
            ValueError: if labels are of the wrong shape, or there are sample weights.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if weight is not None:
            raise ValueError(
                f"`{type(self).__name__}` takes no sample weights. Received elements "
                "of three parts."
            )
        index = y.get("index") if isinstance(y, dict) else None
        if not self.needs_labels:
            return Batch(x, None, index)
        labels = y["label"] if isinstance(y, dict) else y
        labels = tf.cast(labels, tf.float32)
        if labels.shape.rank != 2 or labels.shape[1] not in (None, self.num_classes):
            raise ValueError(
                "`label` must have shape (batch, num_classes="
                f"{self.num_classes}). Received shape: {labels.shape}."
            )
        return Batch(x, labels, index)

    def regularized(self, loss: tf.Tensor) -> tf.Tensor:
        """Add the penalties of layers, such as their kernel regularizers, to a loss.

        Args:
            loss: scalar float tensor.

        Returns:
            Scalar float tensor.
        """
        return tf.add_n([loss, *self.losses])

    def minimize(
        self, tape: tf.GradientTape, loss: tf.Tensor, variables: Any = None
    ) -> None:
        """Apply one step of the optimizer.

        Args:
            tape: `tf.GradientTape` under which the loss was computed.
            loss: scalar float tensor.
            variables: list of variables to move; None for all trainable ones of the
                model.
        """
        with tape:
            loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables if variables is None else variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)

    def report(self, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Update the epoch's running means: what `train_step` returns.

        Args:
            **values: scalar float tensors by name; the names are among ``reported``.

        Returns:
            dict from names to the means of the epoch so far.
        """
        for name, value in values.items():
            self.trackers[name].update_state(value)
        return {name: self.trackers[name].result() for name in values}

    def with_backbone(self, backbone: keras.layers.Layer) -> Self:
        """The same trained model behind another backbone.

        Puts a model that was trained on mid-level features back behind the whole
        network: split a backbone, train on its upper part, then pass the whole.

        Args:
            backbone: `keras.Model` whose features have the width of this model's.

        Returns:
            A new model of the same class. It shares `backbone` and the networks that
            the method consults, and has copies of all other weights.

        Example:
            >>> import kerashash
            >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
            >>> model = kerashash.AdaLabelHash("features", bits=12, num_classes=3)
            >>> model.encode(net(np.ones((1, 4)))).shape
            (1, 2)
            >>> model.with_backbone(net).encode(np.ones((1, 4))).shape
            (1, 2)
        """
        networks = {name: getattr(self, name) for name in self.networks}
        config = {**self.get_config(), **networks, "backbone": backbone}
        model = type(self).from_config(config)
        if not model.built and self.built:
            # A backbone such as "features" does not know what it takes.
            model.build(self._batch_shape())
        for new, old in zip(_head_variables(model), _head_variables(self), strict=True):
            new.assign(old)
        return model

    @classmethod
    def from_preset(cls, name: str) -> Self:
        """A trained model of the zoo, if it is of this class.

        Args:
            name: str, as of `kerashash.zoo.load`, which loads a model of any class.

        Returns:
            A model of the class on which this is called, or of a subclass.

        Raises:
            ValueError: if there is no such entry, or it is of another class.

        Example:
            >>> import kerashash
            >>> kerashash.DCDH.from_preset("dcdh-cifar10-48").bits
            48
        """
        from kerashash import zoo

        model = zoo.load(name)
        if not isinstance(model, cls):
            raise ValueError(
                f"`name` must be an entry of {cls.__name__}. Received: {name!r}, which "
                f"is of {type(model).__name__}; kerashash.zoo.load takes any."
            )
        return model

    def get_config(self):
        networks = {name: getattr(self, name) for name in self.networks}
        return {
            "name": self.name,
            **{
                name: keras.saving.serialize_keras_object(network)
                if isinstance(network, keras.layers.Layer)
                else network
                for name, network in networks.items()
            },
            "bits": self.bits,
            "num_classes": self.num_classes,
            "num_train": self.num_train,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in cls.networks:
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


class _EpochStep(keras.callbacks.Callback):
    """Runs `HashModel.epoch_step` and adds its values to the epoch's logs."""

    def on_epoch_end(self, epoch, logs=None):
        values = self.model.epoch_step()
        if logs is not None:
            logs.update(values)


def _is_finite(x):
    x = np.asarray(x)
    return x.dtype.kind in "biu" or np.isfinite(x).all()


def _head_variables(model):
    """The variables of a model that are not its backbone's."""
    backbone = {id(variable) for variable in model.backbone.variables}
    return [v for v in model.variables if id(v) not in backbone]
