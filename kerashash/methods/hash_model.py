"""HashModel: the base class of all methods of learning to hash."""

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import backbones, checks, files, keras_backend
from kerashash.backbones.by_name import output_shape
from kerashash.backbones.images import (
    Traced,
    are_held,
    held,
    input_size,
    statistics_inlined,
)
from kerashash.checks import check_integer
from kerashash.codes import check_packed, unpack
from kerashash.data import inputs
from kerashash.data.resizing import FITS
from kerashash.forks import check_not_forked
from kerashash.methods import replicas
from kerashash.methods.encoder import AutomaticEncoder, Encoder, encoder_of
from kerashash.methods.layers import HashHead
from kerashash.methods.trainable import Trainable

if TYPE_CHECKING:
    from kerashash.store import CodeStore

# The user may have imported Keras before kerashash.
keras_backend.check(keras.backend.backend())

# What TensorFlow takes as the name of a graph's operations.
_TENSORFLOW_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


class HashModel(Trainable):
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
        ...         return self.report(u, loss=loss)
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = Regression(net, bits=3, num_classes=3)
        >>> model.compile(optimizer="adam")
        >>> x, y = np.ones((6, 4)), np.arange(6) % 3
        >>> list(model.fit(x, y, verbose=0).history)
        ['loss']
    """

    has_codes = True
    needs_index: Any = property(lambda self: self.train_codes is not None)
    networks: tuple[str, ...] = ("backbone",)
    training_networks: tuple[str, ...] = ()

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
        bits = check_integer("bits", bits)
        checks.check_choices({"image_fit": FITS}, image_fit=image_fit)
        # Python's own integers: Keras and JSON refuse others.
        if num_classes is not None:
            num_classes = check_integer("num_classes", num_classes)
        if num_train is not None:
            num_train = check_integer("num_train", num_train)
        if head is not None and not isinstance(head, keras.layers.Layer):
            raise TypeError(f"`head` must be a keras.layers.Layer. Received: {head!r}.")
        super().__init__(**kwargs)
        if not _TENSORFLOW_NAME.fullmatch(self.name):
            raise ValueError(
                "`name` must consist of the letters a to z, digits, and any of _ . - "
                f"after the first. Received: name={self.name!r}."
            )
        if not isinstance(self.dtype_policy, keras.DTypePolicy):
            # Keras takes a config of anything, and fails when the model is called.
            raise TypeError(
                "`dtype` must be a dtype or a keras.DTypePolicy. Received: "
                f"{kwargs['dtype']!r:.200}."
            )
        object.__setattr__(self, "_consulted", [])
        self.bits = bits
        self.num_classes = num_classes
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
        self._encode_batch = Traced(self, lambda x: self(x, training=False))
        # What the layers held when Keras made its functions; past Keras, which would
        # wrap it.
        object.__setattr__(self, "_held", {})

    def build(self, input_shape: Any) -> None:
        features = output_shape(self.backbone, input_shape)
        build_once(self.backbone, input_shape)
        if len(features) != 2 and not self._has_own_head:
            raise ValueError(
                "`backbone` must give features of shape (batch, width). "
                f"Received a network that gives {tuple(features)}."
            )
        build_once(self.hash_head, features)
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

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.codes_of(self.features(inputs, training), training)

    def features(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """Compute the backbone's features of a batch.

        Training steps call this, not the backbone: `fit` with `cache_features` passes
        row numbers in place of inputs.

        Args:
            x: tensor ``(batch, ...)``, as in `Batch`.
            training: bool; whether the network is being trained.

        Returns:
            Tensor ``(batch, ...)``.

        Raises:
            ValueError: if the number of dimensions of x is unknown.
        """
        if isinstance(x, dict):
            return self._frozen_features(x, training)
        if isinstance(x, tf.Tensor) and x.shape.rank is None:
            raise ValueError(
                "`x` must have a known number of dimensions: `tf.ensure_shape` or an "
                "`output_signature` of `from_generator` gives it one. Received shape: "
                f"{x.shape}."
            )
        return self.backbone(x, training=training)

    def codes_of(self, features: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Compute the continuous codes of features.

        Training steps that need both call this, not the head, which may be a layer of
        another dtype.

        Args:
            features: tensor ``(batch, ...)``, as `features` gives them.
            training: bool; whether the network is being trained.

        Returns:
            float32 tensor ``(batch, bits)``.
        """
        return tf.cast(self.hash_head(features, training=training), tf.float32)

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

    # Keras keeps the functions that it has traced, with what layers held at that time.
    def make_train_function(self, force: bool = False) -> Any:
        """As `keras.Model.make_train_function`, also after layers have adapted.

        Args:
            force: bool; whether to make the function anew in any case.

        Returns:
            As `keras.Model.make_train_function`.
        """
        return super().make_train_function(force or self._has_adapted("train"))

    def make_test_function(self, force: bool = False) -> Any:
        """As `keras.Model.make_test_function`, also after layers have adapted.

        Args:
            force: bool; whether to make the function anew in any case.

        Returns:
            As `keras.Model.make_test_function`.
        """
        return super().make_test_function(force or self._has_adapted("test"))

    def make_predict_function(self, force: bool = False) -> Any:
        """As `keras.Model.make_predict_function`, also after layers have adapted.

        Args:
            force: bool; whether to make the function anew in any case.

        Returns:
            As `keras.Model.make_predict_function`.
        """
        return super().make_predict_function(force or self._has_adapted("predict"))

    def _has_adapted(self, function: str) -> bool:
        """Whether layers hold something else than when this was asked last."""
        before, self._held[function] = self._held.get(function), held(self)
        return before is not None and not are_held(before, self)

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
                own that takes others; images of floats in 0..1 or -1..1, and values
                outside [0, 255], cause a `UserWarning`.
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
        checks.check_flag(packed=packed)
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
                files.path_text(filepath, "filepath"),
                format=format,
                verbose=verbose,
                input_signature=input_signature,
                **kwargs,
            )

    def save(
        self,
        filepath: Any,
        overwrite: bool = True,
        zipped: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Save the model, as `keras.Model.save` does; see `kerashash.save_model`.

        Args:
            filepath: path-like that ends in ``.keras``.
            overwrite, zipped, **kwargs: as for `keras.Model.save`.

        Raises:
            ValueError: if `filepath` is one of the HDF5 format of old, from which Keras
                could not load the model.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"`filepath` must end in '.keras'. Received: {str(filepath)!r}."
            )
        super().save(filepath, overwrite, zipped, **kwargs)

    def quantize(self, mode: Any = None, config: Any = None, **kwargs: Any) -> None:
        """Refuse: Keras could not load what it saves of a model so quantized.

        Args:
            mode, config, **kwargs: as for `keras.Model.quantize`.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"`quantize` is not supported by `{type(self).__name__}`. "
            "`encoder('openvino-int8', calibration=images)` encodes in 8-bit integers."
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
        check_not_forked()  # before its networks are made
        config = dict(config)
        for name in (*cls.networks, "head"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def build_once(layer: keras.layers.Layer, input_shape: Any) -> None:
    """Build a layer that is not built; Keras refuses to build one again.

    Args:
        layer: `keras.layers.Layer`.
        input_shape: as for `keras.layers.Layer.build`.

    Example:
        >>> import keras
        >>> layer = keras.layers.Dense(3)
        >>> for _ in range(2):
        ...     build_once(layer, (None, 4))
        >>> tuple(layer.kernel.shape)
        (4, 3)
    """
    if not layer.built:
        layer.build(input_shape)


def _head_variables(model: HashModel) -> list[keras.Variable]:
    """The variables of a model without those of its backbone."""
    backbone = {id(variable) for variable in model.backbone.variables}
    return [v for v in model.variables if id(v) not in backbone]
