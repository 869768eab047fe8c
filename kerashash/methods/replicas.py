"""Training on several devices: replicas of a model that stay the same.

Under `tf.distribute.MirroredStrategy` or `tf.distribute.MultiWorkerMirroredStrategy`,
every device has a replica of the model, and gets a slice of each batch. Each replica
passes its slice through the network, and gathers the continuous codes of all slices
(`gather`): it then computes the loss of the whole batch, all of whose pairs it has, and
makes the same discrete step as all others, in its own copies of the variables.

All replicas thus compute one loss, and Keras' optimizers sum the gradients of all:
`share` divides the loss by their number.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

__all__ = [
    "Order",
    "averaging",
    "check_built",
    "check_same",
    "check_supported",
    "count",
    "for_optimizer",
    "gather",
    "is_chief",
    "is_multi_worker",
    "of_all_processes",
    "output",
    "process_number",
    "share",
    "shuffled",
    "table",
]
__dir__ = __all__.copy  # what completion offers

SUPPORTED = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.OneDeviceStrategy,
)

# Options of optimizers: those by which they clip gradients, and those for which they
# communicate in a branch of a step, which TensorFlow does not support.
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_BRANCHING = ("gradient_accumulation_steps", "ema_overwrite_frequency")


# ------------------------------------------------------------------ in a training step


def count() -> int:
    """How many replicas compute the step in which this is called; 1 outside of one.

    Returns:
        int.

    Example:
        >>> count()
        1
    """
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def gather(*values: Any) -> tuple[Any, ...]:
    """Put the rows of all replicas together, in the order that they have in the batch.

    What is computed from the result must be the same on all replicas, and so must be
    the loss: the gradient of a replica's own rows is then that of the loss, times the
    number of replicas, and needs no communication.

    Args:
        *values: tensors ``(rows, ...)``, with as many rows as the slice has; or None.

    Returns:
        tuple of tensors ``(batch, ...)``, or None where there is None. On one replica,
        `values` themselves.

    Example:
        >>> u, labels = gather(tf.ones((2, 4)), None)
        >>> u.shape, labels
        (TensorShape([2, 4]), None)
    """
    replicas = count()
    if replicas == 1:
        return values
    # A copy is on the device of the replica, where a batch may be on none.
    tensors = [tf.identity(value) for value in values if value is not None]
    context = tf.distribute.get_replica_context()
    sizes = context.all_gather(tf.shape(tensors[0])[:1], axis=0)  # (replicas,)
    start = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
    rows = tf.shape(tensors[0])[0]

    @tf.custom_gradient
    def gathered(value: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            own = upstream[start : start + rows]
            return own * tf.cast(replicas, own.dtype)

        return all_rows(value), gradient

    def all_rows(value: tf.Tensor) -> tf.Tensor:
        rows = context.all_gather(value, axis=0)
        return tf.ensure_shape(rows, [None, *value.shape[1:]])

    result = iter(
        gathered(value) if value.dtype.is_floating else all_rows(value)
        for value in tensors
    )
    return tuple(None if value is None else next(result) for value in values)


def share(loss: tf.Tensor) -> tf.Tensor:
    """Divide a loss, or a gradient, by the number of replicas that compute it.

    Args:
        loss: float tensor, the same on all replicas.

    Returns:
        Float tensor; `loss` itself on one replica.
    """
    replicas = count()
    return loss if replicas == 1 else loss / tf.cast(replicas, loss.dtype)


def for_optimizer(
    gradients: Sequence[Any], optimizer: keras.optimizers.Optimizer
) -> Sequence[Any]:
    """Bring gradients into the form in which an optimizer may sum those of replicas.

    Args:
        gradients: tensors, `tf.IndexedSlices` or None; this replica's.
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        Sequence of tensors and None; `gradients` themselves on one replica.
    """
    if count() == 1:
        return gradients
    # Of sparse gradients, an optimizer would take the rows that replicas share twice,
    # and keep one of the two updates.
    tensors = [
        tf.convert_to_tensor(g) if isinstance(g, tf.IndexedSlices) else g
        for g in gradients
    ]
    if all(getattr(optimizer, name, None) is None for name in _CLIPPING):
        return tensors
    # An optimizer clips before it sums: it gets the sum from the first replica.
    context = tf.distribute.get_replica_context()
    is_first = context.replica_id_in_sync_group == 0
    known = [g for g in tensors if g is not None]
    sums = iter(context.all_reduce("SUM", known))
    return [
        None if g is None else tf.where(is_first, next(sums), tf.zeros_like(g))
        for g in tensors
    ]


def output(value: tf.Tensor) -> tf.Tensor:
    """Give a number, the same on all replicas, the shape in which a step returns it.

    Between processes, Keras takes the mean over axis 0, and a scalar has none.

    Args:
        value: scalar tensor.

    Returns:
        Tensor ``()``; or ``(1,)`` in a step of several processes.
    """
    if count() > 1 and is_multi_worker(tf.distribute.get_strategy()):
        return tf.reshape(value, (1,))
    return value


def table(value: npt.ArrayLike | tf.Tensor) -> Any:
    """Keep numbers that do not change where training steps read them.

    Args:
        value: array or tensor.

    Returns:
        Tensor; or a `tf.Variable`, with a copy on each device, within the scope of a
        strategy of several: a tensor would be on one, and travel in every step.

    Example:
        >>> table([1.0, 2.0]).shape
        TensorShape([2])
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tf.constant(value)
    return tf.Variable(value, trainable=False)


# -------------------------------------------------------------------- outside of a step


def check_supported(model: Any) -> None:
    """Refuse what would not train as on one device.

    Args:
        model: `HashModel` with a strategy.

    Raises:
        ValueError: if the strategy, the method, the optimizer or a network is not for
            several devices.
    """
    if model._distribute_strategy is None and not tf.distribute.has_strategy():
        return
    strategy, method = model.distribute_strategy, type(model).__name__
    kind = type(strategy).__name__
    if not isinstance(strategy, SUPPORTED):
        raise ValueError(
            "`fit` trains under MirroredStrategy and MultiWorkerMirroredStrategy. "
            f"Received a model of {kind}."
        )
    if strategy.num_replicas_in_sync == 1:
        return
    if not model.supports_replicas:
        raise ValueError(
            f"`{method}` trains on one device: its class does not say "
            "`supports_replicas = True`. Received a model of "
            f"{kind} with {strategy.num_replicas_in_sync} replicas."
        )
    outside = [v for v in model.variables if not _is_mirrored(v)]
    if outside:
        raise ValueError(
            f"All networks of a `{method}` must be made in the scope of its strategy, "
            f"`with strategy.scope():`. Received the weight {outside[0].path!r}, which "
            "is on one device."
        )
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "`optimizer` must not scale the loss on several devices, each of which "
            "would find an overflow in its own slice alone: take the policy "
            "'mixed_bfloat16' in place of 'mixed_float16'. Received: "
            "LossScaleOptimizer."
        )
    for name in _BRANCHING:
        value = getattr(optimizer, name, None)
        if value is not None:
            raise ValueError(
                f"`{name}` of the optimizer must be None on several devices, where "
                "TensorFlow does not support steps of two kinds. Received: "
                f"{name}={value}."
            )
    if optimizer is not None and not _is_mirrored(optimizer.iterations):
        raise ValueError(
            "`optimizer` must be made in the scope of the model's strategy, `with "
            f"strategy.scope():`. Received: {type(optimizer).__name__}, made outside."
        )
    if model.steps_per_execution != 1:
        raise ValueError(
            "`steps_per_execution` must be 1 on several devices. Received: "
            f"{model.steps_per_execution}."
        )


def check_built(model: Any) -> None:
    """Check that a model on several devices is built, and build its optimizer.

    A training step cannot make variables there.

    Args:
        model: `HashModel`.

    Raises:
        ValueError: if the model is not built.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return
    if not model.built:
        raise ValueError(
            "The model must be built before `fit` on several devices, where the batches"
            " do not tell their shape: call `model.build((None, ...))` in the scope of "
            f"the strategy. Received: {model.name}, which is not."
        )
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        with strategy.scope():
            optimizer.build(model.trainable_variables)


def _is_mirrored(variable: keras.Variable) -> bool:
    return isinstance(variable.value, tf.distribute.DistributedValues)


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy has several processes."""
    resolver = strategy.cluster_resolver
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and resolver is not None
        and sum(map(len, resolver.cluster_spec().as_dict().values())) > 1
    )


def process_number(strategy: tf.distribute.Strategy) -> int:
    """The number of this process among those of a strategy, from 0 on."""
    if not is_multi_worker(strategy):
        return 0
    resolver = strategy.cluster_resolver
    if resolver.task_type == "chief":
        return 0
    return int(resolver.task_id) + ("chief" in resolver.cluster_spec().jobs)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this is the first process of a strategy, or its only one."""
    return process_number(strategy) == 0


def _of_all_replicas(
    strategy: tf.distribute.Strategy, row: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Rows of numbers of all replicas, each that of its process: ``(replicas, n)``."""

    @tf.function
    def gather_rows(row: tf.Tensor) -> Any:
        return strategy.run(lambda x: gather(x)[0], (row,))

    rows = gather_rows(tf.constant(row[None]))
    return np.asarray(strategy.experimental_local_results(rows)[0])


def of_all_processes(
    strategy: tf.distribute.Strategy, value: int
) -> npt.NDArray[np.int64]:
    """The numbers that all processes have, the first one's first.

    Args:
        strategy: `tf.distribute.Strategy`.
        value: int; this process's number. All processes must make this call.

    Returns:
        int64 array; a number for each replica, or `value` alone in a single process.
    """
    if not is_multi_worker(strategy):
        return np.array([value])
    return _of_all_replicas(strategy, np.array([value], np.int64))[:, 0]


def check_same(
    strategy: tf.distribute.Strategy, digest: npt.NDArray[np.uint8], message: str
) -> None:
    """Refuse to go on where processes differ, which would train on other data or codes.

    Args:
        strategy: `tf.distribute.Strategy`.
        digest: uint8 array ``(n,)``; must be the same in all processes.
        message: str; the rule and what was received.

    Raises:
        ValueError: with `message`, in every process, if it is not.
    """
    if not is_multi_worker(strategy):
        return
    rows = _of_all_replicas(strategy, digest.astype(np.int64))
    if (rows != rows[0]).any():
        raise ValueError(message)


def shuffled(
    strategy: tf.distribute.Strategy, x: Any, y: Any, batch_size: int
) -> tf.data.Dataset:
    """Shuffle arrays in each epoch, in the same order in all processes.

    Args:
        strategy: `tf.distribute.Strategy`.
        x: array ``(n, ...)``.
        y: dict of arrays of n rows.
        batch_size: int.

    Returns:
        `tf.data.Dataset` of batches ``(x, y)``.
    """
    seed = int(of_all_processes(strategy, np.random.randint(2**31))[0])
    return (
        tf.data.Dataset.from_tensor_slices((x, y))
        .shuffle(len(x), seed)
        .batch(batch_size)
    )


class Order:
    """Passes over training data, and a digest of the row numbers in their order.

    Args:
        batches: iterable of ``(x, {"index"})``.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches, self._hash = batches, hashlib.sha256()

    def __iter__(self) -> Iterator[Any]:
        for x, y in self._batches:
            self._hash.update(np.asarray(y["index"], np.int64).tobytes())
            yield x, y

    def digest(self) -> npt.NDArray[np.uint8]:
        """The digest of the passes so far: uint8 ``(32,)``."""
        return np.frombuffer(self._hash.digest(), np.uint8)


def averaging(
    strategy: tf.distribute.Strategy, layers: Iterable[keras.layers.Layer]
) -> Callable[[], Any]:
    """Make a function that sets moving statistics to their means over replicas.

    In training, each replica moves its own copies, by the statistics of its slices.

    Args:
        strategy: `tf.distribute.Strategy`.
        layers: layers with batch normalization.

    Returns:
        function of nothing.
    """
    variables: Sequence[Any] = [v for x in layers for v in x.non_trainable_variables]
    variables = [v for v in variables if tf.as_dtype(v.dtype).is_floating]
    if strategy.num_replicas_in_sync == 1 or not variables:
        return lambda: None

    def step() -> None:
        context = tf.distribute.get_replica_context()
        means = context.all_reduce("MEAN", [tf.identity(v.value) for v in variables])
        for variable, mean in zip(variables, means, strict=True):
            variable.assign(mean)

    return tf.function(lambda: strategy.run(step))
