"""HashModel: the base class of all methods of learning to hash."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, overload

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import backbones, checks
from kerashash.backbones.images import input_size, leaves, statistics_inlined
from kerashash.checks import check_integer
from kerashash.codes import check_packed, packed_width, unpack
from kerashash.data import batch_watch, inputs
from kerashash.data.image_reading import FITS
from kerashash.data.streams import BatchCheck, NumberedBatches, is_stream
from kerashash.methods import replicas
from kerashash.methods.encoder import AutomaticEncoder, Encoder, encoder_of
from kerashash.methods.forks import check_not_forked
from kerashash.methods.frozen_features import FrozenFeatures, RowNumbers
from kerashash.methods.layers import HashHead
from kerashash.methods.training_state import Arrays, TrainingState

if TYPE_CHECKING:
    from kerashash.store import CodeStore

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "kerashash runs on Keras' TensorFlow backend. Received: "
        f"KERAS_BACKEND={keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow."
    )


_MEASURE_RETRIEVAL = (
    "`kerashash.callbacks.RetrievalEvaluation` measures retrieval in `fit`, and "
    "`kerashash.evaluate(model, data)` after it."
)


class Batch(NamedTuple):
    """A batch of training data, as `HashModel.unpack` returns it.

    Attributes:
        x: tensor ``(batch, ...)``; images or vectors.
        labels: float32 tensor ``(batch, num_classes)``, or None if the method learns
            without labels.
        index: int32 tensor ``(batch,)``; the row number of each example in the training
            set. None if the data has no index.
    """

    x: Any
    labels: Any
    index: Any


class HashModel(keras.Model):
    """A network from inputs to hash codes; the base class of every method.

    Calling the model gives continuous codes; `encode` gives hash codes.

    A method is a subclass that overrides `train_step`, written in three blocks: network
    step, discrete step, metrics. It calls `unpack`, `regularized`, `minimize` and
    `report` there. It may override the hooks `prepare` (once, before the first epoch),
    `epoch_step` (after each epoch), `finish` (after the last), `training_state` (what
    it needs to go on after an interruption) and `check_labels`, and these class
    attributes:

    - ``reported``: the names of the values passed to `report`, including "loss";
    - ``has_codes``: whether the model gives hash codes. One that does not gives label
      distributions (`kerashash.baselines.distributions`);
    - ``needs_labels``: whether the method learns from labels;
    - ``unknown_labels``: whether a label may be -1, "not known";
    - ``needs_index``: whether the method needs the row number of each training example;
      by default, if the model keeps learned codes;
    - ``networks``: the names of the constructor's arguments that are networks; each is
      also an attribute of the model;
    - ``training_networks``: the names of attributes that are networks which only
      training uses. Entries of the zoo do not hold their weights, and after `load`
      they are new (`restart`);
    - ``reads_inputs``: whether training uses inputs for more than `features`, so that
      these cannot be cached;
    - ``supports_replicas``: whether the training step is right on several devices,
      because it passes what it computes for its slice of a batch to `gather`;
    - ``default_batch_size``: of `fit` on arrays;
    - ``refused``: the arguments of `fit` that the method does not support.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these.
        bits: int; the code length.
        num_classes: int or None; the width of a label row.
        num_train: int or None; the number of training rows. If given, the model keeps a
            learned hash code for each of them, in a non-trainable weight.
        hash_activation: str, callable or None; the activation of the hash layer, such
            as "tanh". None is the identity.
        hash_initializer: str or `keras.initializers.Initializer`; the kernel
            initializer of the hash layer.
        head: layer from features to float32 continuous codes ``(batch, bits)``, in
            place of the hash layer. None is a `HashHead` with the two options above.
        image_fit: str; how the model takes photographs that are no squares: "squash",
            "crop" or "pad", as for `kerashash.data.read_images`. Wherever it reads
            image files itself, and where it takes data sets of
            `kerashash.data.from_directory`, they become squares in this way. Arrays are
            taken as they are.
        **kwargs: further arguments of `keras.Model`. `dtype` is the dtype policy of the
            layers that the model makes, except those that are float32 in any case, such
            as the hash layer; a network that is passed keeps its own.

    Attributes:
        entry: str or None; the entry of the zoo that the model was loaded from, until
            it is trained further.

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
    has_codes = True
    needs_labels: Any = True  # a bool, or a property with a bool
    unknown_labels = False
    needs_index: Any = property(lambda self: self.train_codes is not None)
    networks: tuple[str, ...] = ("backbone",)
    training_networks: tuple[str, ...] = ()
    reads_inputs: Any = False  # a bool, or a property with a bool
    supports_replicas = False
    default_batch_size = 32
    refused: tuple[str, ...] = ("sample_weight", "class_weight", "validation_split")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int | None = None,
        num_train: int | None = None,
        hash_activation: str | Callable[..., Any] | None = "tanh",
        hash_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        head: keras.layers.Layer | None = None,
        image_fit: str = "squash",
        **kwargs: Any,
    ) -> None:
        check_not_forked()
        packed_width(bits)
        checks.check_choices({"image_fit": FITS}, image_fit=image_fit)
        for name, value in (("num_classes", num_classes), ("num_train", num_train)):
            if value is not None:
                check_integer(name, value)
        if head is not None and not isinstance(head, keras.layers.Layer):
            raise TypeError(f"`head` must be a keras.layers.Layer. Received: {head!r}.")
        super().__init__(**kwargs)
        if not isinstance(self.dtype_policy, keras.DTypePolicy):
            # Keras takes a config of anything, and fails when the model is called.
            raise TypeError(
                "`dtype` must be a dtype or a keras.DTypePolicy. Received: "
                f"{kwargs['dtype']!r:.200}."
            )
        object.__setattr__(self, "_consulted", [])
        # What is compiled runs on one device.
        self.supports_jit = self.distribute_strategy.num_replicas_in_sync == 1
        self.bits = int(bits)
        self.num_classes: Any = num_classes
        self.num_train: Any = num_train
        self.backbone = backbones.get(backbone)
        self.image_fit = image_fit
        self.hash_activation = hash_activation
        self.hash_initializer = hash_initializer
        self._has_own_head = head is not None
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
            # TensorFlow passes no int8 from one process to another.
            several = replicas.is_multi_worker(self.distribute_strategy)
            # 0 marks a row that has no code yet.
            self.train_codes = self.add_weight(
                name="train_codes",
                shape=(num_train, bits),
                dtype="int32" if several else "int8",
                initializer="zeros",
                trainable=False,
            )
        # Set past Keras, which would count it among the layers of the network.
        state = TrainingState(self.training_state, lambda: self.variables)
        object.__setattr__(self, "_training_state", state)
        self._resumes = False
        self.entry: str | None = None
        object.__setattr__(self, "_frozen_features", None)
        self.trackers = {name: keras.metrics.Mean(name) for name in self.reported}
        self._encode_batch = tf.function(
            lambda x: self(x, training=False), reduce_retracing=True
        )

    def build(self, input_shape: Any) -> None:
        if not self.backbone.built:
            self.backbone.build(input_shape)
        features = self.backbone.compute_output_shape(input_shape)
        if not self.hash_head.built:
            self.hash_head.build(features)
        codes = self.hash_head.compute_output_shape(features)
        if codes[1:] != (self.bits,):
            raise ValueError(
                f"`head` must give codes of shape (batch, bits={self.bits}). Received a"
                f" layer that gives {codes} of features {tuple(features)}."
            )

    def save_own_variables(self, store: Any) -> None:
        own: dict[str, Any] = {}
        super().save_own_variables(own)
        codes = None if self.train_codes is None else self.train_codes.numpy()
        if codes is not None and codes.all():  # 0 is a third value
            own[self._codes_key()] = np.packbits(codes > 0, axis=1)
        for key, value in own.items():  # a store takes each key once
            store[key] = value

    def load_own_variables(self, store: Any) -> None:
        store = {key: np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118
        packed = store.get(self._codes_key())
        if packed is not None and packed.dtype == np.uint8:  # else one number a bit
            check_packed(packed, self.bits, "train_codes")
            store[self._codes_key()] = unpack(packed, self.bits)
        super().load_own_variables(store)

    def _codes_key(self) -> str:
        """Key of B among the weights that Keras stores of the model itself."""
        own = [*self._trainable_variables, *self._non_trainable_variables]
        positions = [i for i, v in enumerate(own) if v is self.train_codes]
        return str(*positions)  # "" without B

    def build_if_known(self) -> None:
        """Build the model now if the backbone knows its input shape.

        A subclass calls this at the end of ``__init__``, so that the model can be
        saved, summarised and used before it has seen a batch.
        """
        shape = self._batch_shape()
        if shape is not None:
            self.build(shape)

    def _batch_shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch of inputs, with None for any size; None if unknown."""
        if self.built:
            return (None, *self._build_shapes_dict["input_shape"][1:])
        return getattr(self.backbone, "input_shape", None)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.hash_head(self.features(inputs, training=training))

    def features(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """Compute the backbone's features of a batch.

        Training steps call this, not the backbone: `fit` with `cache_features` passes
        row numbers in place of inputs.

        Args:
            x: tensor ``(batch, ...)``, as in `Batch`.
            training: bool; whether the network is being trained.

        Returns:
            Tensor ``(batch, ...)``.
        """
        if isinstance(x, dict):
            return self._frozen_features(x, training)
        return self.backbone(x, training=training)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (input_shape[0], self.bits)

    def consult(self, name: str, network: Any) -> None:
        """Set an attribute to a network that the method uses and never trains.

        Keras tracks a network that is assigned to an attribute, even inside a list, and
        would count its weights as trainable: they would get no gradient and take up
        memory in the optimizer. This bypasses Keras' ``__setattr__``. The network is
        saved with the model all the same, because `layers` includes it.

        Args:
            name: str; the name of the attribute.
            network: `keras.Model`, or a value that takes its place, such as None.
        """
        object.__setattr__(self, name, network)
        if isinstance(network, keras.layers.Layer):
            self._consulted.append(network)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers that Keras tracks, then the networks set by `consult`."""
        return [*super().layers, *self._consulted]

    @overload
    def encode(
        self,
        x: Any,
        batch_size: int | None = None,
        packed: bool = True,
        verbose: str | int = "auto",
        on_error: Literal["raise"] = "raise",
        engine: str = "auto",
    ) -> npt.NDArray[Any]: ...

    @overload
    def encode(
        self,
        x: Any,
        batch_size: int | None = None,
        packed: bool = True,
        verbose: str | int = "auto",
        *,
        on_error: Literal["skip"],
        engine: str = "auto",
    ) -> tuple[npt.NDArray[Any], dict[int, str]]: ...

    def encode(
        self,
        x: Any,
        batch_size: int | None = None,
        packed: bool = True,
        verbose: str | int = "auto",
        on_error: str = "raise",
        engine: str = "auto",
    ) -> npt.NDArray[Any] | tuple[npt.NDArray[Any], dict[int, str]]:
        """Compute the hash codes of images or vectors.

        A bit is 1 (+1) if the continuous code is at least 0.

        Args:
            x: array ``(n, ...)``; `tf.data.Dataset` of ``x`` or ``(x, y)``, batched or
                not; `keras.utils.PyDataset`, generator or other iterable of batches of
                these. Or image files, which are read as `kerashash.data.read_images`
                reads them: list or generator of their paths, or path of a folder, file
                or pattern such as ``"photos/**/*.jpg"``, which stands for the files of
                `kerashash.data.finding.find_images`. Images are RGB with values in
                [0, 255], integers or floats, unless the backbone is a network of your
                own that takes others; images of floats in 0..1 or -1..1 cause a
                `UserWarning`.
            batch_size: int or None; rows encoded at a time. None is 128, or what was
                measured as the best for the engine.
            packed: bool; True returns packed bytes, False codes over {-1, +1}.
            verbose: str or int; "auto" shows a progress bar on long work, 1 always, 0
                never.
            on_error: str; what to do about image files that are missing or cannot be
                read: "raise", once all files have been read, or "skip" to leave them
                out.
            engine: str; as for `encoder`. "auto" encodes less than 2,048 rows by
                TensorFlow, unless another engine has been prepared in this process: it
                may take seconds to convert a network.

        Returns:
            uint8 array ``(n, ceil(bits / 8))``, most significant bit first; or int8
            array ``(n, bits)`` over {-1, +1}. With ``on_error="skip"`` a pair: such an
            array without the rows that were skipped, and a dict of these: what was
            wrong, by position in `x`.

        Raises:
            TypeError, ValueError: if `x` is none of these, has the wrong shape or is
                not finite, or names files that are no readable images; the error names
                all of these.
            RuntimeError: if the process was forked from one in which TensorFlow has
                run.

        Example:
            >>> import keras, kerashash
            >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
            >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
            >>> model.encode(np.zeros((5, 4))).shape
            (5, 2)
        """
        if engine == "auto":
            encoder: Encoder = AutomaticEncoder(self)
        else:
            encoder = self.encoder(engine)
        return encoder.encode(x, batch_size, packed, verbose, on_error)

    def encoder(self, engine: str = "auto", calibration: Any = None) -> Encoder:
        """Make an encoder of the network as it is now, on an engine.

        The engines, beside TensorFlow, are OpenVINO (``pip install
        "kerashash[openvino]"``) and LiteRT (``pip install "kerashash[litert]"``). Their
        networks are converted once for these weights and kept in the cache
        (`kerashash doctor` says where); then codes are compared with TensorFlow's, and
        it is measured how many rows are best at a time. A bit whose continuous value is
        within rounding of 0 may differ on one in many thousand images.

        "openvino-int8" computes in 8-bit integers, and gives other codes: encode the
        queries and the database by it, or neither. It must be calibrated on some
        hundreds of training images, which takes ``pip install "kerashash[int8]"``, and
        stays so for these weights on this machine.

        Args:
            engine: str; "tensorflow", "openvino", "litert", "openvino-int8", or "auto":
                OpenVINO or LiteRT if one is installed, gives TensorFlow's codes and is
                faster; TensorFlow otherwise, on a GPU, and for vectors. A `UserWarning`
                says if codes differ.
            calibration: inputs, as for `encode`, for "openvino-int8"; None takes the
                network that was calibrated before.

        Returns:
            `kerashash.methods.encoder.Encoder`.

        Raises:
            ImportError: if the engine's package is not installed.
            TypeError, ValueError: if the engine is unknown or cannot run the network,
                the model is not built, or nothing was calibrated.

        Example:
            >>> import keras, kerashash
            >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
            >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
            >>> model.encoder()
            Encoder(bits=12, engine='tensorflow')
        """
        return encoder_of(self, engine, calibration)

    def index(
        self,
        x: Any,
        path: str | os.PathLike[str] | None = None,
        batch_size: int = 128,
        verbose: str | int = "auto",
    ) -> "CodeStore":
        """Put photographs, or other inputs, into a store to search.

        Args:
            x: folder, image file or pattern such as ``"photos/**/*.jpg"``, or list of
                these, as for `kerashash.store.encode_files`; or inputs or codes, as
                for `kerashash.CodeStore.add`.
            path: path of the store, by convention ``NAME.khs``. If it exists, image
                files that are new or have changed are added. None makes a temporary
                store, which is deleted with the object or when the process ends.
            batch_size: int; image files encoded at a time.
            verbose: "auto", 0 or 1; as for `encode`, for image files.

        Returns:
            `kerashash.CodeStore`. A `UserWarning` names files that were left out, since
            they are no readable images.

        Raises:
            TypeError, ValueError: if `x` is none of these, the model is not built, or
                another model made the codes of the store.
            OSError: if the store cannot be written.

        Example:
            >>> from PIL import Image
            >>> import kerashash
            >>> for name, shade in (("black.png", 0), ("white.png", 255)):
            ...     Image.new("L", (32, 32), shade).save(name)
            >>> hasher = kerashash.zoo.load("adalabel-cifar10-48")
            >>> store = hasher.index(["black.png", "white.png"], verbose=0)
            >>> store.search("white.png", k=1).rows()[0]["distance"]
            0
        """
        from kerashash.store import filling

        return filling.index(self, x, path, batch_size, verbose)

    def continuous_codes(
        self, x: Any, batch_size: int | None = None, verbose: str | int = "auto"
    ) -> npt.NDArray[np.float32]:
        """Compute the continuous codes, whose signs are the hash codes.

        Args:
            x, batch_size, verbose: as for `encode`.

        Returns:
            float32 array ``(n, bits)``.

        Raises:
            TypeError, ValueError: as for `encode`.
        """
        return Encoder(self).continuous_codes(x, batch_size, verbose)

    def _inputs(
        self, x: Any, batch_size: int, on_error: str = "raise"
    ) -> tuple[Iterable[Any], int | None]:
        """Batches of what a user wants to encode, and the number of rows."""
        check_not_forked()
        size = input_size(self.backbone)
        return inputs.batches(
            x, batch_size, self._batch_shape(), size, on_error, self.image_fit
        )

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Write the network from inputs to continuous codes, as `keras.Model.export`.

        `kerashash.export_encoder` writes one that gives packed codes.

        Args:
            filepath: path-like; the file or folder to write.
            format, verbose, **kwargs: as for `keras.Model.export`.
            input_signature: list of `keras.InputSpec`, or None for batches of float32
                inputs of the shape that the model takes.

        Raises:
            ValueError: if the model is not built, so that the shape is unknown.
        """
        shape = self._batch_shape()
        # Keras would demand a call first, to know the shape.
        if input_signature is None and self.built and shape is not None:
            input_signature = [keras.InputSpec(shape=shape, dtype="float32", name="x")]
        with statistics_inlined(self):
            super().export(
                os.fspath(filepath),
                format=format,
                verbose=verbose,
                input_signature=input_signature,
                **kwargs,
            )

    def learned_codes(self) -> npt.NDArray[np.int8]:
        """Return the codes that the discrete step has learned for the training rows.

        Returns:
            int8 array ``(num_train, bits)`` over {-1, +1}, in order of the index.

        Raises:
            ValueError: if the model keeps no learned codes or has not been trained.
        """
        if self.train_codes is None:
            raise ValueError(
                f"`{type(self).__name__}` learns no codes for its training rows. "
                "Encode them instead, with database='encoded'."
            )
        codes: npt.NDArray[np.int8] = self.train_codes.numpy().astype(np.int8)
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
        cache_features: bool = False,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train the model, as `keras.Model.fit` does.

        On several devices (`tf.distribute.MirroredStrategy`, or
        `tf.distribute.MultiWorkerMirroredStrategy`), training gives what it gives on
        one, with the batch size of all together (``docs/devices.md``).

        Training that was interrupted goes on exactly, if the data come in the same
        order: with `keras.callbacks.BackupAndRestore`; from a file of
        `keras.callbacks.ModelCheckpoint` or ``model.save``, loaded by
        `kerashash.load_model`, with ``initial_epoch``; or by a second `fit`. Files of
        the model hold what this needs (`training_state`). A second `fit` on other
        training rows is a new training that starts from the model's weights; with an
        ``initial_epoch``, it is refused.

        Args:
            x: array ``(n, ...)``; `tf.data.Dataset` of batches ``(x, {"label",
                "index"})``; `keras.utils.PyDataset` of such batches, whose index is
                added if its batches have one size and it has no hook that may shuffle
                rows; or, for a method that needs no index, a generator or iterator of
                batches. Values of images are in [0, 255], as for `encode`.
            y: the labels if `x` is an array: class ids ``(n,)`` or label rows
                ``(n, num_classes)``. The index is then added. Batches may have class
                ids ``(batch,)`` as well, of an integer dtype.
            batch_size, epochs, verbose, callbacks, **kwargs: as for `keras.Model.fit`.
                If the model has batch normalization and the last batch of an array
                would have less than a sixteenth of `batch_size` rows, the nearest batch
                size without such a rest is taken. `validation_data` has the forms of
                `x`, or is a pair of arrays. Weights of samples or classes are not
                supported, nor is `validation_split`, which would take rows from the
                learned codes.
            cache_features: bool; True passes each training image once through the
                frozen layers at the beginning of the backbone (``backbone.trainable =
                False``, or some layers), and trains on their output. Training is the
                same, and much faster. The output of all images is kept in memory:
                1,280 features of 100,000 images take 512 MB. Images that differ from
                epoch to epoch are not for it. `kerashash.data.cache_features` keeps
                features on disk.

        Returns:
            `keras.callbacks.History`.

        Raises:
            TypeError, ValueError: if the method cannot train on the data or, on several
                devices, with the optimizer, the networks or the strategy.

        Example:
            >>> import kerashash
            >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
            >>> net.trainable = False
            >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
            >>> model.compile(optimizer="adam")
            >>> x, y = np.ones((6, 4)), np.arange(6) % 3
            >>> history = model.fit(x, y, cache_features=True, verbose=0)
        """
        check_not_forked()
        strategy = self.distribute_strategy
        replicas.check_supported(self)
        # Keras keeps the epoch that a callback restored, and a later `fit` must not.
        self._initial_epoch = None
        for name in self.refused:
            value = kwargs.get(name)
            if value is not None and not (np.isscalar(value) and value == 0):
                raise ValueError(
                    f"`{name}` is not supported by `{type(self).__name__}`. "
                    f"Received: {name}={value!r:.60}."
                )
        normalizing = _normalizing(leaves(self))
        normalizes = bool(normalizing)
        watch, validation_watch = self._watch(normalizing), self._watch()
        if isinstance(x, tf.data.Dataset | keras.utils.PyDataset) or is_stream(x):
            is_numbered = isinstance(x, keras.utils.PyDataset)
            adds_index = cache_features and is_numbered
            x, shape = self._batches(x, y, watch, self.needs_index or adds_index)
            y, batches = None, x
            if not is_numbered:
                # It has its own order; Keras would warn that it ignores True.
                kwargs.setdefault("shuffle", False)
            elif kwargs.get("shuffle", True) and replicas.is_multi_worker(strategy):
                raise ValueError(
                    "`shuffle` must be False with a PyDataset in several processes, "
                    "which would each take another order. Received: shuffle="
                    f"{kwargs.get('shuffle', True)}."
                )
            if isinstance(x, tf.data.Dataset):
                # The first pass of `prepare` takes the first order of a shuffled data
                # set.
                batches = inputs.Passes(x, begin=self.needs_index)
            elif not is_numbered:
                if self.needs_index or cache_features:
                    raise ValueError(
                        f"`x` must be an array, a tf.data.Dataset or a PyDataset for "
                        f"`{type(self).__name__}`"
                        f"{' with cache_features' if cache_features else ''}: it "
                        "passes over the training rows before the first epoch. "
                        "Received batches that can be read only once."
                    )
                batches = ()
        else:
            x = checks.check_array(x, self._batch_shape())
            if not len(x):
                raise ValueError(f"`x` must have rows. Received shape: {x.shape}.")
            watch.check_images(x)
            rows: dict[str, Any] = {"index": np.arange(len(x), dtype=np.int32)}
            if self.needs_labels:
                rows["label"] = self.check_labels(y, len(x))
            y = rows
            batch_size = batch_size or self.default_batch_size
            check_integer("batch_size", batch_size)
            if normalizes:
                batch_size = batch_watch.untrimmed_batch_size(len(x), batch_size)
                watch.check_rows(len(x) % batch_size or batch_size)
            batches = inputs.Slices(x, y, batch_size)
            shape = tf.TensorShape(x.shape)
            if replicas.is_multi_worker(strategy) and kwargs.get("shuffle", True):
                x, y = replicas.shuffled(strategy, x, y, batch_size), None
                batch_size, kwargs["shuffle"] = None, False
        validation = kwargs.get("validation_data")
        if validation is not None:
            kwargs["validation_data"] = self._validation_data(
                validation, validation_watch
            )
        # Callbacks can only restore the weights of a model that has some.
        if not self.built and shape.rank and shape[1:].is_fully_defined():
            with strategy.scope():
                self.build((None, *shape[1:]))
        replicas.check_built(self)
        if cache_features:
            x = self._cache_features(x)
        x, y = self._epoch_data(x, y)
        self.entry = None
        callbacks = [] if callbacks is None else callbacks
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        try:
            with watch, validation_watch:
                history = super().fit(
                    x,
                    y,
                    batch_size=batch_size,
                    epochs=epochs,
                    verbose=verbose,
                    # `_EpochStep` first: the user's callbacks see the codes of this
                    # epoch. `_Prepare` last: they have restored the state from which it
                    # derives.
                    callbacks=[
                        _EpochStep(),
                        *callbacks,
                        _Prepare(batches, verbose, kwargs.get("initial_epoch", 0)),
                    ],
                    **kwargs,
                )
        finally:
            object.__setattr__(self, "_frozen_features", None)
        self.finish()
        return history

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        **kwargs: Any,
    ) -> Any:
        """Compute the method's loss on other data, as `keras.Model.evaluate` does.

        `kerashash.evaluate` measures retrieval.

        Args:
            x, y: as for `fit`; no index is needed.
            batch_size, verbose, **kwargs: as for `keras.Model.evaluate`. Weights of
                samples are not supported.

        Returns:
            float or list of float; or a dict of float with ``return_dict=True``.

        Raises:
            TypeError, ValueError: if the method has no loss on the data.
        """
        if kwargs.get("sample_weight") is not None:
            raise ValueError(
                f"`sample_weight` is not supported by `{type(self).__name__}`."
            )
        if type(self).test_step is HashModel.test_step:
            self.test_step(None)  # raises
        watch = self._watch()
        if not kwargs.get("_use_cached_eval_dataset"):  # `fit` has done it
            x, y = self._evaluation_data(x, y, watch)
        with watch:
            values = super().evaluate(x, y, batch_size, verbose, **kwargs)
        if isinstance(values, list | dict) and not values:
            is_validation = kwargs.get("_use_cached_eval_dataset")
            name = "validation_data" if is_validation else "x"
            raise ValueError(f"`{name}` must have rows. Received none.")
        return values

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        raise ValueError(
            f"`{type(self).__name__}` has no loss outside of training. "
            "`kerashash.evaluate(model, data)` and "
            "`kerashash.callbacks.RetrievalEvaluation` measure retrieval."
        )

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Choose the optimizer, as `keras.Model.compile` does.

        Args:
            optimizer: str or `keras.optimizers.Optimizer`.
            loss, loss_weights, metrics, weighted_metrics: None. A method is its own
                loss, whose weights are arguments of its constructor.
            **kwargs: further arguments of `keras.Model.compile`: `run_eagerly`,
                `steps_per_execution`, `jit_compile` and `auto_scale_loss`.

        Raises:
            ValueError: if there is a loss or a metric.

        Example:
            >>> import kerashash
            >>> model = kerashash.AdaLabelHash("features", bits=12, num_classes=3)
            >>> model.compile(metrics=["accuracy"])  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ValueError: `metrics` must be None. `kerashash.callbacks...
        """
        refused = {
            "loss": (loss, "`{}` is its own loss."),
            "loss_weights": (
                loss_weights,
                "The weights of the terms are arguments of `{}`.",
            ),
            "metrics": (metrics, _MEASURE_RETRIEVAL),
            "weighted_metrics": (weighted_metrics, _MEASURE_RETRIEVAL),
        }
        for name, (value, reason) in refused.items():
            if value is not None:
                raise ValueError(
                    f"`{name}` must be None. {reason.format(type(self).__name__)} "
                    f"Received: {name}={value!r:.60}."
                )
        # An optimizer that is made of a name has its state on all devices.
        with self.distribute_strategy.scope():
            super().compile(optimizer, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        config = keras.saving.deserialize_keras_object(config)
        # Version 0.1 took these, to no effect.
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            config.pop(name, None)
        self.compile(**config)
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def _watch(self, normalizing: Iterable[Any] = ()) -> batch_watch.BatchWatch:
        """What checks batches of training or validation data as they pass.

        ``normalizing`` are the layers that take statistics of them.
        """
        check = self.check_labels if self.needs_labels else None
        alone = not all(layer.synchronized for layer in normalizing)
        return batch_watch.BatchWatch(
            self.backbone,
            check,
            bool(normalizing),
            self.num_classes,
            self.distribute_strategy.num_replicas_in_sync if alone else 1,
            self.image_fit,
        )

    def _batches(
        self, x: Any, y: Any, watch: batch_watch.BatchWatch, needs_index: bool
    ) -> tuple[Any, tf.TensorShape]:
        """Put the checks into batches that are not arrays; return their shape too."""
        owner = type(self).__name__
        if y is not None:
            raise ValueError(
                "`y` must be None when `x` is a data set, which holds the labels."
                f" Received y of type {type(y).__name__}."
            )
        if isinstance(x, tf.data.Dataset):
            inputs.check_batches(
                x, self.num_classes, self.needs_labels, needs_index, owner
            )
            if x.cardinality() == 0:
                raise ValueError("`x` must have batches. Received an empty data set.")
            x = watch.over(x)
            return x, tf.TensorShape(getattr(x.element_spec[0], "shape", None))
        labels = self.check_labels if self.needs_labels else None
        check = BatchCheck(watch, self._batch_shape(), labels, owner)
        if isinstance(x, keras.utils.PyDataset):
            x = NumberedBatches(x, check, needs_index, owner)
            return x, tf.TensorShape(x[0][0].shape)
        return (check(batch) for batch in x), tf.TensorShape(None)

    def _evaluation_data(self, x: Any, y: Any, watch: batch_watch.BatchWatch) -> Any:
        """Check data on which the loss is computed; make label rows of class ids."""
        if isinstance(x, tf.data.Dataset | keras.utils.PyDataset) or is_stream(x):
            return self._batches(x, y, watch, needs_index=False)[0], None
        x = checks.check_array(x, self._batch_shape())
        watch.check_images(x)
        if not self.needs_labels:
            return x, {}
        if isinstance(y, dict):
            y = y.get("label")
        return x, {"label": self.check_labels(y, len(x))}

    def _validation_data(self, data: Any, watch: batch_watch.BatchWatch) -> Any:
        """The validation data of `fit` in the form in which Keras takes it."""
        if not isinstance(data, tuple | list):
            return self._evaluation_data(data, None, watch)[0]
        if len(data) != 2:
            raise ValueError(
                "`validation_data` must be a pair (x, y), a data set or a PyDataset. "
                f"Received: {type(data).__name__} of length {len(data)}."
            )
        x, y = data
        return self._evaluation_data(x, y, watch)

    def _epoch_data(self, x: Any, y: Any) -> tuple[Any, Any]:
        """What `keras.Model.fit` passes over in each epoch: the training data."""
        return x, y

    def _cache_features(self, x: Any) -> Any:
        """Make the training data one of row numbers, whose features `_begin` computes.

        Returns:
            What takes the place of `x` in `keras.Model.fit`.
        """
        name = type(self).__name__
        if self.reads_inputs:
            raise ValueError(
                f"`cache_features` must be False for a `{name}` that compares inputs, "
                "or passes them to a further network."
            )
        frozen = FrozenFeatures(self.backbone)
        object.__setattr__(self, "_frozen_features", frozen)
        self.train_function = None  # it may hold the features of an earlier `fit`
        if isinstance(x, np.ndarray):
            return {"row": np.arange(len(x), dtype=np.int32)}
        if isinstance(x, NumberedBatches):
            return RowNumbers(x)
        y = x.element_spec[1]
        if not (isinstance(y, dict) and "index" in y):
            raise ValueError(
                "`cache_features` needs 'index' in y: the row's number, int32 (batch,)."
                " `kerashash.data.indexed(dataset)` adds it. Received elements: "
                f"{x.element_spec}."
            )
        return x.map(lambda x, y: ({"row": y["index"]}, y))

    def check_labels(
        self, y: npt.ArrayLike, n: int | None = None, name: str = "y"
    ) -> npt.NDArray[np.float32]:
        """Hook: check the labels that a user passes, and return label rows.

        `fit` calls it with labels in arrays. A `prepare` that passes it to
        `kerashash.data.inputs.collect` has it called with the labels of each batch.

        Args:
            y: array of labels, in any form that the method takes.
            n: int or None; the number of rows required, None for any.
            name: str; the argument to name in an error.

        Returns:
            float32 array ``(n, num_classes)``.

        Raises:
            ValueError: if the shape or a value is wrong.
        """
        return checks.check_labels(y, self.num_classes, n, self.unknown_labels, name)

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        """Hook: pass over the training data once. By default it does nothing.

        `fit` calls it eagerly before the first epoch, after callbacks have restored the
        model's weights. Methods that keep a row for each training example compute
        labels, initial codes or neighbours here, with `kerashash.data.inputs.collect`;
        what `state_to_resume` returns need not be computed. A method whose data are
        part of the traced training step sets ``self.train_function = None``.

        Args:
            batches: iterable of ``(x, {"label": (batch, num_classes), "index":
                (batch,)})``, one epoch of the training data; without "label" if the
                method needs none. Each iteration over it is a pass over the data.
            verbose: str or int; "auto", 1 or 0, as for `encode`.

        Raises:
            ValueError: if the method cannot train on the data.
        """

    def training_state(self) -> Arrays:
        """Hook: what `prepare` needs beside the weights to go on with training.

        It is called eagerly whenever the model is saved, and when a second `fit`
        begins. Files of the model hold the arrays; entries of the zoo and exports do
        not. Keep them small: no more than a few numbers for each training row.

        Returns:
            dict of arrays by name; empty, as by default, before `prepare` and for a
            method that needs nothing. One of them is "data", the fingerprint of the
            training data of which they are.
        """
        return {}

    @property
    def has_state_to_resume(self) -> bool:
        """Whether there is a training state, of whatever data."""
        return bool(self._training_state.arrays())

    def restart(self) -> None:
        """Let the next `fit` begin from the first stage of training.

        It is called when the model is loaded without its `training_networks`. By
        default it does nothing: a method of one stage has nothing to begin again.
        """

    def state_to_resume(
        self,
        data: npt.NDArray[Any],
        shapes: Mapping[str, tuple[int | None, ...]],
        augmented: bool = False,
    ) -> Arrays:
        """Return what `training_state` gave, if it is of the same training data.

        `prepare` calls it. The state is that of the file from which weights were last
        loaded, or that of an earlier `fit`.

        Args:
            data: array; the fingerprint of the training data, such as that of their
                labels by `kerashash.data.inputs.fingerprint`.
            shapes: dict of tuples; the arrays that `prepare` needs, with None for any
                size.
            augmented: bool; whether the data may change from epoch to epoch, so that
                another fingerprint proves nothing. Resumed training then goes on with a
                warning.

        Returns:
            dict of arrays with these names and "data", the fingerprint with which
            training began; empty for a new training.

        Raises:
            ValueError: if training is resumed, by a callback or ``initial_epoch``, but
                the state is of other data.
        """
        state = self._training_state.arrays()
        if not all(_fits(state.get(name), shape) for name, shape in shapes.items()):
            return {}
        if np.array_equal(state.get("data"), data):
            return {name: state[name] for name in ("data", *shapes)}
        if self._resumes and not augmented:
            raise ValueError(
                "`x` must be the training data on which training began, to resume it "
                "with `initial_epoch` or a callback. Received: other rows or labels. "
                "Leave these out to begin a new training."
            )
        if self._resumes:
            warnings.warn(
                "`x` is not what it was when training began. That is right if the data "
                "are augmented, and wrong if they are other training rows.",
                stacklevel=2,
            )
            return {name: state[name] for name in ("data", *shapes)}
        return {}

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing on several devices, where `fit` has built the model.

        Keras would take a batch to do so, and average its slices.
        """
        if self.distribute_strategy.num_replicas_in_sync == 1:
            super()._maybe_symbolic_build(*args, **kwargs)

    def _begin(self, batches: Iterable[Any], verbose: str | int, epoch: int) -> None:
        """Call `prepare`, once callbacks have restored what they saved."""
        self._resumes = bool(self._initial_epoch or epoch)
        self._training_state.loaded = self._training_state.arrays()
        strategy = self.distribute_strategy
        order = None
        if replicas.is_multi_worker(strategy):
            batches = order = replicas.Order(batches)
        try:
            # Variables that are made here have a copy on each device.
            with strategy.scope():
                if self._frozen_features is not None:
                    batches = self._frozen_features.compute(batches, verbose)
                self.prepare(batches, verbose)
        finally:
            self._resumes = False
        self._training_state.loaded = None  # it lives on in what `prepare` made
        layers = _normalizing(self._flatten_layers())
        self._average_statistics = replicas.averaging(strategy, layers)
        if order is not None:
            self._check_workers(order, epoch)
        self.make_train_function()  # unless there is one

    def _check_workers(self, order: replicas.Order, epoch: int) -> None:
        """Refuse to train in processes that do not begin alike."""
        strategy = self.distribute_strategy
        replicas.check_same(
            strategy,
            order.digest(),
            "`x` must give the same rows in the same order in all processes, which "
            "take their slices of each batch: shuffle with a seed. Received other "
            "orders.",
        )
        begin = np.array(self._initial_epoch or epoch)
        state = [v.numpy() for v in [*self.variables, *self.optimizer.variables]]
        replicas.check_same(
            strategy,
            inputs.fingerprint(begin, *state, *self.training_state().values()),
            "The model must have the same weights, state of training and first epoch "
            "in all processes: load the same file in each. Received others.",
        )

    def _end_epoch(self) -> dict[str, float]:
        """Call `epoch_step`, once the replicas agree."""
        self._average_statistics()
        with self.distribute_strategy.scope():
            return self.epoch_step()

    def epoch_step(self) -> dict[str, float]:
        """Hook: runs after each epoch, before the user's callbacks.

        It is called eagerly. A discrete step over all training rows belongs here.

        Returns:
            dict of floats by name, which are added to the epoch's logs.
        """
        return {}

    def finish(self) -> None:
        """Hook: what a method does at the end of `fit`. By default nothing.

        Called eagerly, after the last epoch and the user's callbacks; not if training
        was interrupted.
        """

    # AutoGraph, which Keras applies to `test_step`, cannot construct a named tuple.
    @tf.autograph.experimental.do_not_convert
    def unpack(self, data: Any) -> Batch:
        """Split the data that Keras passes to `train_step` or `test_step`.

        Args:
            data: ``(x, y)``, where y is a tensor of label rows ``(batch, num_classes)``
                or a dict with "label", "index" or both.

        Returns:
            `Batch`. Its labels are None if the method learns without labels.

        Raises:
            ValueError: if labels have the wrong shape, or there are sample weights.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if weight is not None:
            raise ValueError(
                f"`{type(self).__name__}` takes no sample weights. Received elements "
                "(x, y, sample_weight)."
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

    def gather(self, *values: Any) -> tuple[Any, ...]:
        """Put the rows of all devices together, where training runs on several.

        On several devices, a training step gets a slice of the batch. It passes what it
        has computed of it, image by image, to this method, and computes the loss and
        the discrete step from the result, which is the same on all devices.

        Args:
            *values: tensors ``(rows, ...)``, with as many rows as the slice has; or
                None.

        Returns:
            tuple of tensors ``(batch, ...)``, or None where there is None. On one
            device, `values` themselves.
        """
        return replicas.gather(*values)

    def regularized(self, loss: tf.Tensor) -> tf.Tensor:
        """Add the penalties of layers, such as kernel regularizers, to a loss.

        Args:
            loss: scalar float tensor; the loss without them.

        Returns:
            Scalar float tensor.
        """
        return tf.add_n([loss, *self.losses])

    def minimize(
        self, tape: tf.GradientTape, loss: tf.Tensor, variables: Any = None
    ) -> None:
        """Apply one step of the optimizer.

        Args:
            tape: `tf.GradientTape` that recorded the loss.
            loss: scalar float tensor.
            variables: list of the variables to update. None is all trainable variables
                of the model.
        """
        with tape:
            loss = self.optimizer.scale_loss(replicas.share(loss))
        variables = self.trainable_variables if variables is None else variables
        gradients = tape.gradient(loss, variables)
        gradients = replicas.for_optimizer(gradients, self.optimizer)
        self.optimizer.apply(gradients, variables)

    def report(self, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Update the running means of the epoch, and return them for `train_step`.

        Args:
            **values: scalar float tensors; each name is in ``reported``.

        Returns:
            dict of scalar float tensors: the mean of each value in the epoch so far.
        """
        for name, value in values.items():
            self.trackers[name].update_state(value)
        means = {name: self.trackers[name].result() for name in values}
        return {name: replicas.output(mean) for name, mean in means.items()}

    def with_backbone(self, backbone: keras.layers.Layer) -> Self:
        """Return the same trained model on another backbone.

        This completes a model that was trained on mid-level features: split a backbone,
        train on its upper part, then pass the whole backbone here.

        Args:
            backbone: `keras.Model` whose features have the width of this model's.

        Returns:
            A new model of the same class. It shares `backbone` and the networks set by
            `consult`, and has copies of all other weights.

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
        if config.get("head") is not None:
            config["head"] = type(self.hash_head).from_config(
                self.hash_head.get_config()
            )
        model = type(self).from_config(config)
        if not model.built and self.built:
            # A backbone such as "features" does not know its input shape.
            model.build(self._batch_shape())
        for new, old in zip(_head_variables(model), _head_variables(self), strict=True):
            new.assign(old)
        return model

    @classmethod
    def from_preset(cls, name: str, strict: bool = False) -> Self:
        """Load a trained model of the zoo, if it is of this class.

        Args:
            name: str; the entry, as for `kerashash.zoo.load`, which loads a model of
                any class.
            strict: bool; as for `kerashash.zoo.load`.

        Returns:
            A model of the class on which this is called, or of a subclass.

        Raises:
            ValueError: if there is no such entry, `strict` refuses it, or it is of
                another class.

        Example:
            >>> import kerashash
            >>> kerashash.DCDH.from_preset("dcdh-cifar10-48").bits
            48
        """
        from kerashash import zoo

        model = zoo.load(name, strict)
        if not isinstance(model, cls):
            raise ValueError(
                f"`name` must be an entry of {cls.__name__}. Received: {name!r}, which "
                f"is of {type(model).__name__}; kerashash.zoo.load takes any."
            )
        return model

    def get_config(self) -> dict[str, Any]:
        arguments = {
            **{name: getattr(self, name) for name in self.networks},
            "bits": self.bits,
            "num_classes": self.num_classes,
            "num_train": self.num_train,
            "hash_activation": self.hash_activation,
            "hash_initializer": self.hash_initializer,
            "head": self.hash_head if self._has_own_head else None,
        }
        config = super().get_config()  # name, dtype, trainable, activity_regularizer
        if not self.autocast:
            config["autocast"] = False
        if self.image_fit != FITS[0]:  # configs of before stay what they are
            config["image_fit"] = self.image_fit
        return config | {
            name: value
            if value is None or isinstance(value, str | int)
            else keras.saving.serialize_keras_object(value)
            for name, value in arguments.items()
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        for name in (*cls.networks, "head"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


class _Prepare(keras.callbacks.Callback):
    """Calls `HashModel.prepare`."""

    def __init__(self, batches: Iterable[Any], verbose: str | int, epoch: int) -> None:
        super().__init__()
        self._arguments = (batches, verbose, epoch)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.model._begin(*self._arguments)


class _EpochStep(keras.callbacks.Callback):
    """Calls `HashModel.epoch_step` and adds its values to the epoch's logs."""

    def __init__(self) -> None:
        super().__init__()
        self._had_batches = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Keras says nothing of a data set that turns out to be empty.
        self._had_batches = self._had_batches or "loss" in (logs or {})
        if not self._had_batches:
            raise ValueError("`x` must have batches. Received an empty data set.")
        values = self.model._end_epoch()
        if logs is not None:
            logs.update(values)
        # What a callback loaded in the meantime is older than what was trained since.
        self.model._training_state.loaded = None


def _normalizing(layers: Iterable[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Those of some layers that take statistics of each batch."""
    return [
        layer
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


def _fits(array: npt.NDArray[Any] | None, shape: tuple[int | None, ...]) -> bool:
    """Whether there are numbers of a shape, in which None is any size."""
    return (
        array is not None
        and array.dtype.kind in "fiu"
        and array.ndim == len(shape)
        and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    )


def _head_variables(model: HashModel) -> list[keras.Variable]:
    """The variables of a model without those of its backbone."""
    backbone = {id(variable) for variable in model.backbone.variables}
    return [v for v in model.variables if id(v) not in backbone]
