"""How a method trains: `fit`, its checks of the data, and its hooks."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import checks
from kerashash.backbones.images import leaves
from kerashash.checks import check_integer
from kerashash.data import batch_watch, inputs
from kerashash.data.images import naming_unreadable
from kerashash.data.streams import BatchCheck, NumberedBatches, is_stream
from kerashash.forks import check_not_forked
from kerashash.methods import replicas
from kerashash.methods.frozen_features import FrozenFeatures, RowNumbers
from kerashash.methods.training_state import Arrays, TrainingState

_MEASURE_RETRIEVAL = (
    "`kerashash.callbacks.RetrievalEvaluation` measures retrieval in `fit`, and "
    "`kerashash.evaluate(model, data)` after it."
)


class Batch(NamedTuple):
    """A batch of training data, as `Trainable.unpack` returns it.

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


# Arguments of `keras.Model.fit` that are numbers, and the least that they may be.
_FREQUENCY = "validation_freq"
_COUNTS = {
    "steps_per_epoch": 1,
    "initial_epoch": 0,
    "validation_steps": 1,
    "validation_batch_size": 1,
    _FREQUENCY: 1,
}
# Those that are one of a few values.
_CHOICES = {"verbose": ("auto", 0, 1, 2), "shuffle": (True, False, "batch")}


def checked_callbacks(callbacks: Any) -> list[Any]:
    """The callbacks of a `fit` as a list; what is none would fail in Keras' words."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return [*callbacks.callbacks]
    if callbacks is None or isinstance(callbacks, keras.callbacks.Callback):
        return [] if callbacks is None else [callbacks]
    if not isinstance(callbacks, list | tuple) or not all(
        isinstance(callback, keras.callbacks.Callback) for callback in callbacks
    ):
        raise TypeError(
            "`callbacks` must be a list of `keras.callbacks.Callback`. Received: "
            f"callbacks={callbacks!r:.200}."
        )
    return [*callbacks]


def backs_up(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback backs up the state of training, and that of other callbacks.

    It has an attribute ``backed_up_callbacks``, which `fit` sets to the list of these.
    """
    return hasattr(callback, "backed_up_callbacks")


def _in_order(callbacks: list[Any]) -> list[Any]:
    """The callbacks with those last that back up what the others have done."""
    last = [callback for callback in callbacks if backs_up(callback)]
    others = [callback for callback in callbacks if not backs_up(callback)]
    for callback in last:
        callback.backed_up_callbacks = others
    return [*others, *last]


def _row_numbers(y: Any, n: int) -> npt.NDArray[np.integer]:
    """The index of arrays: the one in y, as in data sets, or the order of the rows."""
    given = y.get("index") if isinstance(y, dict) else None
    if given is None:
        return np.arange(n, dtype=np.int32)
    index = np.asarray(given)
    if index.dtype.kind not in "ui" or index.shape != (n,):
        raise ValueError(
            f"`index` must be integers of shape ({n},). Received dtype: "
            f"{index.dtype}, shape: {index.shape}."
        )
    return index.astype(np.int64)


class Trainable(keras.Model):
    """A network that trains as methods of learning to hash do.

    It is the base class of `HashModel` alone, whose docstring says what a method may
    override. This one knows batches, labels, devices, epochs and interruptions, but no
    codes.

    Args:
        **kwargs: arguments of `keras.Model`.
    """

    reported: tuple[str, ...] = ("loss",)
    needs_labels: Any = True  # a bool, or a property with a bool
    unknown_labels = False
    needs_index: Any = False  # a bool, or a property with a bool
    reads_inputs: Any = False  # a bool, or a property with a bool
    supports_replicas = False
    default_batch_size = 32
    refused: tuple[str, ...] = ("sample_weight", "class_weight", "validation_split")

    backbone: Any
    num_classes: Any
    image_fit: str

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # What is compiled runs on one device.
        self.supports_jit = self.distribute_strategy.num_replicas_in_sync == 1
        # Set past Keras, which would count it among the layers of the network.
        state = TrainingState(self.training_state, lambda: self.variables)
        object.__setattr__(self, "_training_state", state)
        object.__setattr__(self, "_frozen_features", None)
        self._resumes = False
        self.entry: str | None = None
        self.trackers = {name: keras.metrics.Mean(name) for name in self.reported}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means that `report` updates, and metrics of layers.

        Keras' own "loss" is left out: it would be a second one, which stays at 0.
        """
        return [m for m in super().metrics if m is not self._loss_tracker]

    def _batch_shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch of inputs, with None for any size; None if unknown."""
        if self.built:
            return (None, *self._build_shapes_dict["input_shape"][1:])
        return getattr(self.backbone, "input_shape", None)

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
        order: with `kerashash.callbacks.Backup`, which keeps what other callbacks
        remember, or `keras.callbacks.BackupAndRestore`, which does not; from a file of
        `keras.callbacks.ModelCheckpoint` or ``model.save``, loaded by
        `kerashash.load_model`, with ``initial_epoch``; or by a second `fit`. Files of
        the model hold what this needs (`training_state`). An optimizer with
        ``use_ema=True`` puts averages in the place of the weights when `fit` ends: such
        training goes on from a backup or a checkpoint, but not by a second `fit`. A
        second `fit` on other training rows is a new training that starts from the
        model's weights; with an ``initial_epoch``, it is refused.

        Args:
            x: array ``(n, ...)``; `tf.data.Dataset` of batches ``(x, {"label",
                "index"})``; `keras.utils.PyDataset` of such batches, whose index is
                added if its batches have one size and it has no hook that may shuffle
                rows; or, for a method that needs no index, a generator or iterator of
                batches. Values of images are in [0, 255], as for `encode`.
            y: the labels if `x` is an array: class ids ``(n,)`` or label rows
                ``(n, num_classes)``. The index is then added, unless `y` is a dict that
                holds it, as in data sets. Batches may have class ids ``(batch,)`` as
                well, of an integer dtype.
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
                epoch to epoch are not for it. Frozen layers that act otherwise in
                training, or have a penalty on their output, are refused.
                `kerashash.data.cache_features` keeps features on disk.

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
        checks.check_choices(_CHOICES, verbose=verbose)
        if "shuffle" in kwargs:
            checks.check_choices(_CHOICES, shuffle=kwargs["shuffle"])
        checks.check_flag(cache_features=cache_features)
        check_integer("epochs", epochs, least=0)
        for name, least in _COUNTS.items():
            if isinstance(kwargs.get(name), list | tuple) and name == _FREQUENCY:
                continue  # the epochs themselves
            if kwargs.get(name) is not None:
                check_integer(name, kwargs[name], least)
        callbacks = _in_order(checked_callbacks(callbacks))
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
            rows: dict[str, Any] = {"index": _row_numbers(y, len(x))}
            if self.needs_labels:
                rows["label"] = self._label_rows(y, len(x), "y")
            y = rows
            batch_size = self.default_batch_size if batch_size is None else batch_size
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
            x = self._cache_features(x, y)
        x, y = self._epoch_data(x, y)
        self.entry = None
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
            self.finish()
        finally:
            object.__setattr__(self, "_frozen_features", None)
            self.release()
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
            float if the method has the loss alone, else list of float in the order of
            ``metrics_names``; or a dict of float with ``return_dict=True``.

        Raises:
            TypeError, ValueError: if the method has no loss on the data.
        """
        if kwargs.get("sample_weight") is not None:
            raise ValueError(
                f"`sample_weight` is not supported by `{type(self).__name__}`."
            )
        if type(self).test_step is Trainable.test_step:
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

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute continuous codes, as `keras.Model.predict` does.

        `encode` gives hash codes.

        Args:
            x, *args, **kwargs: as for `keras.Model.predict`.

        Returns:
            float32 array ``(n, bits)``.

        Raises:
            ValueError: if an image file cannot be read any more.
        """
        check_not_forked()
        with naming_unreadable():
            return super().predict(x, *args, **kwargs)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Make one training step, as `keras.Model.train_on_batch` does.

        Args:
            x, y: arrays, as for `fit`.
            sample_weight, class_weight: None; weights are not supported.
            return_dict: as for `keras.Model.train_on_batch`.

        Returns:
            As `keras.Model.train_on_batch`.

        Raises:
            TypeError, ValueError: if the data are wrong, or the method must pass over
                all training rows before the first step.
        """
        if not self.trains_by_batch:
            raise ValueError(
                f"`train_on_batch` is not supported by `{type(self).__name__}`, which "
                "first passes over all training rows. Call `fit`."
            )
        x, y = self._evaluation_data(x, y, self._watch())
        self.entry = None
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Compute the method's loss on one batch, as `keras.Model.test_on_batch` does.

        Args:
            x, y: arrays, as for `evaluate`.
            sample_weight: None; weights are not supported.
            return_dict: as for `keras.Model.test_on_batch`.

        Returns:
            As `keras.Model.test_on_batch`.

        Raises:
            TypeError, ValueError: if the method has no loss on the data.
        """
        if type(self).test_step is Trainable.test_step:
            self.test_step(None)  # raises
        x, y = self._evaluation_data(x, y, self._watch())
        return super().test_on_batch(x, y, sample_weight, return_dict)

    @property
    def trains_by_batch(self) -> bool:
        """Whether a training step needs nothing of the other training rows."""
        return not self.needs_index

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
            ValueError: if there is a loss or a metric, or no optimizer.

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
        if optimizer is None:
            raise ValueError(
                "`optimizer` must be an optimizer or the name of one. Received: None."
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
            received, shape = x.element_spec[0].shape, self._batch_shape()
            if shape is not None and not received.is_compatible_with(shape):
                if received.is_compatible_with(shape[1:]):
                    raise ValueError(
                        "`x` must be batched, `dataset.batch(128)`. Received elements "
                        f"of shape {received}."
                    )
                raise ValueError(
                    f"`x` must yield batches of shape {shape}. "
                    f"Received shape: {received}."
                )
            return x, received
        labels = self.check_labels if self.needs_labels else None
        check = BatchCheck(watch, self._batch_shape(), labels, owner)
        if isinstance(x, keras.utils.PyDataset):
            x = NumberedBatches(x, check, needs_index, owner)
            return x, tf.TensorShape(x[0][0].shape)
        return (check(batch) for batch in x), tf.TensorShape(None)

    def _evaluation_data(
        self,
        x: Any,
        y: Any,
        watch: batch_watch.BatchWatch,
        names: tuple[str, str] = ("x", "y"),
    ) -> Any:
        """Check data on which the loss is computed; make label rows of class ids."""
        check_not_forked()
        if isinstance(x, tf.data.Dataset | keras.utils.PyDataset) or is_stream(x):
            return self._batches(x, y, watch, needs_index=False)[0], None
        x = checks.check_array(x, self._batch_shape(), names[0])
        watch.check_images(x)
        if not self.needs_labels:
            return x, {}
        return x, {"label": self._label_rows(y, len(x), names[1])}

    def _label_rows(self, y: Any, n: int, name: str) -> npt.NDArray[np.float32]:
        """Check the labels of arrays, which may be in a dict as in data sets."""
        labels = y.get("label") if isinstance(y, dict) else y
        if labels is None:
            raise ValueError(
                f"`{name}` must hold labels for a `{type(self).__name__}`. "
                f"Received: {y if y is None else [*y]}."
            )
        return self.check_labels(labels, n, name)

    def _validation_data(self, data: Any, watch: batch_watch.BatchWatch) -> Any:
        """The validation data of `fit` in the form in which Keras takes it."""
        if isinstance(data, tf.data.Dataset | keras.utils.PyDataset) or is_stream(data):
            return self._evaluation_data(data, None, watch)[0]
        if not isinstance(data, tuple | list) or len(data) != 2:
            length = f" of length {len(data)}" if hasattr(data, "__len__") else ""
            raise ValueError(
                "`validation_data` must be a pair (x, y), a data set or a PyDataset. "
                f"Received: {type(data).__name__}{length}."
            )
        x, y = data
        names = ("validation_data[0]", "validation_data[1]")
        return self._evaluation_data(x, y, watch, names)

    def _epoch_data(self, x: Any, y: Any) -> tuple[Any, Any]:
        """What `keras.Model.fit` passes over in each epoch: the training data."""
        return x, y

    def _cache_features(self, x: Any, y: Any) -> Any:
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
            return {"row": y["index"]}
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
        self._build_optimizer()
        if order is not None:
            self._check_workers(order, epoch)
        self.make_train_function()  # unless there is one

    def _build_optimizer(self) -> None:
        """Make the optimizer's variables before the first step.

        TensorFlow traces a step that makes variables twice.
        """
        are_built = all(layer.built for layer in self._flatten_layers())
        if are_built and self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

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

    def release(self) -> None:
        """Hook: frees what a method keeps during `fit`. By default nothing.

        Called last, also if training was interrupted.
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
        if index is not None:
            # Data sets of `from_generator` may not know their shapes.
            index = tf.ensure_shape(tf.cast(index, tf.int32), (None,))
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

    def report(
        self, of: tf.Tensor | None = None, /, **values: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Update the running means of the epoch, and return them for `train_step`.

        Args:
            of: tensor ``(batch, ...)`` with a row for each image of the batch, on all
                devices, such as the continuous codes that `gather` gives: a batch
                counts in the means by its number of rows. None: as any other.
            **values: scalar float tensors; each name is in ``reported``.

        Returns:
            dict of scalar float tensors: the mean of each value in the epoch so far.
        """
        rows = tf.constant(1) if of is None else tf.shape(of)[0]
        for name, value in values.items():
            # Where a data set of unknown size ends, TensorFlow still runs what needs
            # nothing of a batch, such as adding 1 to a count.
            with tf.control_dependencies([tf.convert_to_tensor(value)]):
                weight = tf.identity(rows)
            self.trackers[name].update_state(value, weight)
        means = {name: self.trackers[name].result() for name in values}
        return {name: replicas.output(mean) for name, mean in means.items()}


class _Prepare(keras.callbacks.Callback):
    """Calls `Trainable.prepare`."""

    def __init__(self, batches: Iterable[Any], verbose: str | int, epoch: int) -> None:
        super().__init__()
        self._arguments = (batches, verbose, epoch)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.model._begin(*self._arguments)


class _EpochStep(keras.callbacks.Callback):
    """Calls `Trainable.epoch_step` and adds its values to the epoch's logs."""

    def __init__(self) -> None:
        super().__init__()
        self._had_batches = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Keras says nothing of a data set that turns out to be empty.
        reported = {*self.model.reported} & {*(logs or {})}
        self._had_batches = self._had_batches or bool(reported)
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
