"""HashModel: what all methods of learning to hash have in common."""

import keras
import numpy as np
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


class HashModel(keras.Model):
    """A network from inputs to hash codes; the base of every method.

    A method subclasses it, owns its loss, and overrides `train_step` (network
    step, discrete step, metrics). Calling the model gives continuous codes;
    `encode` gives hash codes.

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
    """

    # What a method overrides: the values it reports for each epoch; whether it learns
    # from labels, and whether these may be -1, "not known"; and whether it needs the
    # row number of each training image.
    reported = ("loss",)
    needs_labels = True
    unknown_labels = False
    needs_index = property(lambda self: self.train_codes is not None)
    # Arguments of `fit` that mean nothing to the method.
    refused = ("sample_weight", "class_weight", "validation_split")

    def __init__(
        self,
        backbone,
        bits,
        num_classes=None,
        num_train=None,
        hash_activation="tanh",
        hash_initializer="glorot_uniform",
        head=None,
        **kwargs,
    ):
        packed_width(bits)
        for name, value in (("num_classes", num_classes), ("num_train", num_train)):
            if value is not None:
                check_integer(name, value)
        super().__init__(**kwargs)
        self.bits = int(bits)
        self.num_classes = num_classes
        self.num_train = num_train
        self.backbone = backbones.get(backbone)
        if head is None:
            head = HashHead(
                bits,
                activation=hash_activation,
                kernel_initializer=hash_initializer,
                name="hash_head",
            )
        self.hash_head = head
        self.train_codes = None
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

    def build_if_known(self):
        """Build now if the backbone knows its input shape.

        A subclass calls this last in ``__init__``, so that its model can be
        saved, summarised and used without a first batch.
        """
        shape = self._batch_shape()
        if shape is not None:
            self.build(shape)

    def _batch_shape(self):
        """Shape of a batch of inputs, None where free; None before it is known."""
        if self.built:
            return (None, *self._build_shapes_dict["input_shape"][1:])
        return getattr(self.backbone, "input_shape", None)

    def call(self, inputs, training=None):
        return self.hash_head(self.backbone(inputs, training=training))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.bits)

    def encode(self, x, batch_size=128, packed=True, verbose="auto"):
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
        bits = [np.zeros((0, self.bits), bool)]
        for continuous in self._continuous_batches(x, batch_size, verbose):
            bits.append(continuous >= 0)
        bits = np.concatenate(bits)
        if packed:
            return np.packbits(bits, axis=1)
        return np.where(bits, np.int8(1), np.int8(-1))

    def continuous_codes(self, x, batch_size=128, verbose="auto"):
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
            # The inputs too: with some processors' kernels ReLU turns NaN into 0.
            if not (_is_finite(continuous) and _is_finite(batch)):
                raise ValueError(
                    "`x` must give finite codes. Received NaN or infinity, in the "
                    f"input or from the model's weights, in batch {number}."
                )
            yield continuous

    def learned_codes(self):
        """The codes learned for the training rows by the discrete step.

        Returns:
            int8 array ``(num_train, bits)`` over {-1, +1}, in order of the index.

        Raises:
            ValueError: if the method keeps none, or has not been trained.
        """
        if self.train_codes is None:
            raise ValueError(
                f"`{type(self).__name__}` learns no codes of its training rows: "
                "encode them, database='encoded'."
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
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        **kwargs,
    ):
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
            given = kwargs.get(name)
            if given is not None and not (np.isscalar(given) and given == 0):
                raise ValueError(
                    f"`{name}` is not supported by `{type(self).__name__}`. "
                    f"Received: {name}={given!r:.60}."
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
            rows = {"index": np.arange(len(x), dtype=np.int32)}
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
            # First, so that the user's callbacks see the codes of this epoch.
            callbacks=[_EpochStep(), *callbacks],
            **kwargs,
        )

    def check_labels(self, y, n=None, name="y"):
        """Hook: float32 label rows of what the user gave, or a `ValueError`."""
        return checks.check_labels(y, self.num_classes, n, self.unknown_labels, name)

    def prepare(self, batches, verbose):
        """Hook: look at the training data once, before the first epoch."""

    def epoch_step(self):
        """Hook: what a method does after each epoch; returns values to log."""
        return {}

    def unpack(self, data, index=True):
        """Split a batch into x, label rows and, if `index`, row numbers.

        The label rows are None for a method that learns without them.

        Raises:
            ValueError: if labels or row numbers are missing or of the wrong shape.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if weight is not None:
            raise ValueError(
                f"`{type(self).__name__}` takes no sample weights. Received elements "
                "of three parts."
            )
        if not self.needs_labels:
            return (x, None, y["index"]) if index else (x, None)
        labels = y["label"] if isinstance(y, dict) else y
        labels = tf.cast(labels, tf.float32)
        if labels.shape.rank != 2 or labels.shape[1] not in (None, self.num_classes):
            raise ValueError(
                "`label` must have shape (batch, num_classes="
                f"{self.num_classes}). Received shape: {labels.shape}."
            )
        return (x, labels, y["index"]) if index else (x, labels)

    def regularized(self, loss):
        """`loss` plus the penalties that the user's layers ask for."""
        return tf.add_n([loss, *self.losses])

    def minimize(self, tape, loss, variables=None):
        """Apply one optimizer step for `loss`, computed under `tape`.

        It is over all trainable variables of the model, or over `variables`.
        """
        with tape:
            loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables if variables is None else variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)

    def report(self, **values):
        """Update the running means of the epoch and return them by name."""
        for name, value in values.items():
            self.trackers[name].update_state(value)
        return {name: self.trackers[name].result() for name in values}

    def with_backbone(self, backbone):
        """The same trained model behind another backbone.

        Puts a model that was trained on mid-level features back behind the whole
        network: split a backbone, train on its upper part, then pass the whole.

        Args:
            backbone: `keras.Model` whose features have the width of this model's.

        Returns:
            A new model of the same class: `backbone` itself, with copies of all
            other weights.
        """
        model = type(self).from_config({**self.get_config(), "backbone": backbone})
        for new, old in zip(_own(model), _own(self), strict=True):
            new.assign(old)
        return model

    def get_config(self):
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "bits": self.bits,
            "num_classes": self.num_classes,
            "num_train": self.num_train,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["backbone"], dict):
            config["backbone"] = keras.saving.deserialize_keras_object(
                config["backbone"]
            )
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


def _own(model):
    """The variables of a model that are not its backbone's."""
    backbone = {id(variable) for variable in model.backbone.variables}
    return [v for v in model.variables if id(v) not in backbone]
