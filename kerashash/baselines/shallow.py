"""ShallowHash: the base class of methods that fit a hash function to features."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.backbones.images import Traced
from kerashash.checks import check_integer, refuse_arguments
from kerashash.data import inputs
from kerashash.data.progress import progress
from kerashash.methods.hash_model import HashModel
from kerashash.methods.training_state import Arrays

__all__ = ["Projection", "ShallowHash"]

Floats = npt.NDArray[np.floating[Any]]
# Arguments of `HashModel` that make no sense where the head is fitted.
_REFUSED = ("num_train", "hash_activation", "hash_initializer", "head")


@keras.saving.register_keras_serializable(package="kerashash")
class Projection(keras.layers.Layer):
    """A linear hash function of features, in float32, which a solver sets.

    Formula:
        u = (x - m) W + c

    Args:
        bits: int; the code length.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call:
        features ``(batch, d)`` -> float32 continuous codes ``(batch, bits)``.
    """

    def __init__(self, bits: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.bits = check_integer("bits", bits)

    def build(self, input_shape: Any) -> None:
        width = feature_width(input_shape)
        self.mean = self._fitted("mean", (width,))
        self.kernel = self._fitted("kernel", (width, self.bits))
        self.bias = self._fitted("bias", (self.bits,))

    def _fitted(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        """A weight that a solver sets."""
        return self.add_weight(
            name=name, shape=shape, initializer="zeros", trainable=False
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # The mean goes first: the products of large features would round it away.
        return tf.matmul(inputs - self.mean, self.kernel) + self.bias

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (input_shape[0], self.bits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.bits}

    def set(self, mean: npt.ArrayLike, kernel: Any, bias: npt.ArrayLike = 0.0) -> None:
        """Set m, W and c.

        Args:
            mean: array ``(d,)``.
            kernel: array ``(d, k)`` with k from 1 to `bits`; what lacks is 0.
            bias: array ``(bits,)`` or number.
        """
        kernel = np.pad(kernel, [(0, 0), (0, self.bits - kernel.shape[1])])
        self.mean.assign(mean)
        self.kernel.assign(kernel)
        self.bias.assign(np.broadcast_to(bias, (self.bits,)))


def feature_width(input_shape: Any) -> int:
    """The width of features, which must be vectors.

    Args:
        input_shape: tuple; the shape of a batch of features.

    Returns:
        int.

    Raises:
        ValueError: if it is not ``(batch, d)``.

    Example:
        >>> feature_width((None, 512))
        512
    """
    if len(input_shape) != 2 or input_shape[1] is None:
        raise ValueError(
            "`backbone` must give features of shape (batch, d) for a shallow method. "
            f"Received shape: {tuple(input_shape)}."
        )
    return int(input_shape[1])


class ShallowHash(HashModel):
    """A hash function that is fitted to the features of all training rows at once.

    The backbone is not trained. `fit` computes the features of all rows in one pass,
    and keeps them in memory. An epoch is then an iteration of the method's solver, so
    that callbacks see its objective, as "loss", and the codes so far. `compile` is not
    needed, and an optimizer has no effect.

    A subclass writes two methods: `begin`, what all iterations need, and `iterate`.

    Args:
        backbone: images or vectors -> features: a name known to
            `kerashash.backbones.get`, any `keras.Model`, or a list of these. Its
            features are vectors.
        bits: int; the code length.
        num_classes: int or None; the number of labels, for methods that learn from
            them.
        head: layer from features to continuous codes, which `iterate` sets. None is a
            `Projection`.
        **options: the method's own options, and further arguments of `keras.Model`.

    Attributes:
        options: dict; the method's own options.
        default_epochs: int; how many iterations `fit` does.

    Raises:
        TypeError, ValueError: if an argument is out of range.
    """

    default_epochs: Any = 1  # an int, or a property with an int
    default_batch_size = 1024
    needs_index = False
    trains_by_batch = False
    refused = (*HashModel.refused, "validation_data", "steps_per_epoch")

    def __init__(
        self,
        backbone: str | keras.layers.Layer | list[Any],
        bits: int,
        num_classes: int | None = None,
        *,
        fitted: keras.layers.Layer | None = None,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_arguments(type(self).__name__, kwargs, *_REFUSED)
        if self.needs_labels:
            check_integer("num_classes", num_classes)
        head = fitted or Projection(bits, name="hash_head")
        super().__init__(backbone, bits, num_classes, head=head, **kwargs)
        self.options = dict(options or {})
        if "seed" in self.options:
            self.options["seed"] = check_integer("seed", self.options["seed"], least=0)
        # Set past Keras, which would wrap the arrays.
        object.__setattr__(self, "_work", None)
        object.__setattr__(self, "_state", None)
        self._features = Traced(
            self, lambda x: tf.cast(self.features(x, training=False), tf.float32)
        )
        self.build_if_known()

    # ------------------------------------------------------------- for subclasses

    def begin(self, x: Floats, labels: Any) -> tuple[Any, Arrays]:
        """Compute what all iterations need, and the state before the first.

        Args:
            x: float32 array ``(n, d)``; the features of the training rows.
            labels: float32 array ``(n, num_classes)``, or None if the method learns
                without labels.

        Returns:
            ``(work, state)``: anything, which `iterate` gets; and a dict of arrays,
            whose shapes do not change, from which training can be resumed.

        Raises:
            ValueError: if the method cannot learn from these rows.
        """
        raise NotImplementedError

    def iterate(self, work: Any, state: Arrays) -> tuple[Arrays, float]:
        """Do one iteration, and set the weights of `hash_head`.

        Sets ``self.stop_training = True`` if there is nothing left to do.

        Args:
            work: what `begin` has returned.
            state: dict of arrays.

        Returns:
            ``(state, loss)``: the new state, and the objective as a mean.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------ fit

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        verbose: str | int = "auto",
        callbacks: Any = None,
        cache_features: bool = False,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Fit the hash function; an epoch is an iteration of the solver.

        A further `fit` on the same rows goes on from where the last has ended, and one
        on other rows begins anew.

        Args:
            x, y: as for `kerashash.HashModel.fit`; no index is needed. If batches have
                one, the order of the rows may change from pass to pass.
            batch_size: int or None; the rows that the backbone takes at a time.
            epochs: int or None; the number of iterations. None is the method's own.
            verbose, callbacks, **kwargs: as for `keras.Model.fit`. Validation data and
                weights of samples or classes are not supported.
            cache_features: bool; without effect, since features are always computed
                once.

        Returns:
            `keras.callbacks.History`.

        Raises:
            TypeError, ValueError: if the method cannot learn from the data.
        """
        if not self.compiled:
            self.compile()
        if epochs is None:
            epochs = self.default_epochs + kwargs.get("initial_epoch", 0)
        kwargs["shuffle"] = False
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def prepare(self, batches: Iterable[Any], verbose: str | int) -> None:
        x, labels, data = self._collect(batches, verbose)
        with self._solving():
            work, state = self.begin(x, labels)
        shapes = {name: np.shape(value) for name, value in state.items()}
        resumed = self.state_to_resume(data, shapes)
        state |= {name: resumed[name] for name in shapes if name in resumed}
        object.__setattr__(self, "_work", work)
        object.__setattr__(self, "_state", {"data": data, **state})

    def _collect(
        self, batches: Iterable[Any], verbose: str | int
    ) -> tuple[Floats, Any, npt.NDArray[np.uint8]]:
        """Features and labels of all rows, in order of the index if there is one, and
        the fingerprint of inputs and labels."""
        if isinstance(batches, tuple):
            raise ValueError(
                f"`x` must be an array, a tf.data.Dataset or a PyDataset for "
                f"`{type(self).__name__}`. Received batches that can be read only once."
            )
        names = ("features", "label", "index", "sum")
        parts: dict[str, list[Any]] = {name: [] for name in names}
        rows_of = lambda pair: len(pair[0])  # noqa: E731
        for x, y in progress(batches, None, "Features", verbose, rows_of):
            if not self.built:
                self.build((None, *x.shape[1:]))
            parts["features"].append(self._features(x).numpy())
            parts["sum"].append(inputs.checksums(x))
            y = y if isinstance(y, dict) else {"label": y}
            if "index" in y:
                parts["index"].append(np.asarray(y["index"]))
            if self.needs_labels:
                parts["label"].append(self.check_labels(y["label"], name="label"))
        if not parts["features"]:
            raise ValueError("`x` must have batches. Received an empty data set.")
        rows = {name: np.concatenate(part) for name, part in parts.items() if part}
        if "index" in rows:
            order = np.argsort(rows.pop("index"), kind="stable")
            rows = {name: value[order] for name, value in rows.items()}
        features, labels = rows["features"], rows.get("label")
        feature_width(features.shape)
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise ValueError(
                "`x` must give finite features. Received NaN or infinity in rows "
                f"{np.flatnonzero(~finite)[:5].tolist()}."
            )
        data = inputs.fingerprint(rows["sum"], *([] if labels is None else [labels]))
        return features, labels, data

    def _epoch_data(self, x: Any, y: Any) -> tuple[Any, Any]:
        # `prepare` has passed over the data: an epoch is one step of the solver.
        return tf.data.Dataset.from_tensors(np.zeros(1, np.float32)), None

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `prepare` builds the model, and there is nothing to optimize."""

    def _build_optimizer(self) -> None:
        """Do nothing: its variables would take memory and have no effect."""

    def make_train_function(self, force: bool = False) -> None:
        self.train_function: Any = lambda iterator: self._one_iteration()

    def _one_iteration(self) -> dict[str, Any]:
        state = {name: value for name, value in self._state.items() if name != "data"}
        with self._solving():
            state, loss = self.iterate(self._work, state)
            numbers = [np.asarray(loss), *self.hash_head.get_weights()]
            if not all(np.isfinite(value).all() for value in numbers):
                raise np.linalg.LinAlgError("NaN or infinity")
        object.__setattr__(self, "_state", {"data": self._state["data"], **state})
        return self.report(loss=tf.constant(loss, tf.float32))

    @contextlib.contextmanager
    def _solving(self) -> Iterator[None]:
        """Say what an equation without a solution means to the user."""
        try:
            # NumPy's warnings would say the same as the error.
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                yield
        except np.linalg.LinAlgError as error:
            raise ValueError(
                f"`x` must give features from which `{type(self).__name__}` can learn: "
                "rows that differ, in numbers of usual size. Its equations had no "
                f"solution: {error}."
            ) from None

    def _inputs(self, *args: Any, **kwargs: Any) -> Any:
        if not any(np.any(value) for value in self.hash_head.get_weights()):
            raise ValueError(
                f"`{type(self).__name__}` must be fitted before it encodes. "
                "Received a model whose weights are all 0."
            )
        return super()._inputs(*args, **kwargs)

    def training_state(self) -> Arrays:
        return {} if self._state is None else dict(self._state)

    def release(self) -> None:
        object.__setattr__(self, "_work", None)  # it holds the features of all rows

    # ------------------------------------------------------------------- plumbing

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # An optimizer would take memory for the weights of the backbone.
        self.compile()

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in _REFUSED:
            del config[name]
        return {**config, **self.options}
