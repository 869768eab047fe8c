"""Encoder: a model's way from inputs to codes, on one engine."""

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash import engines
from kerashash.checks import check_choices, renamed
from kerashash.codes import packed_width, unpack
from kerashash.data import batch_watch
from kerashash.data.images import naming_unreadable
from kerashash.data.progress import progress

if TYPE_CHECKING:
    from kerashash.methods.hash_model import HashModel

# Rows of a batch of TensorFlow. Its speed hardly depends on them from 16 on.
_BATCH_SIZE = 128
# With so many rows to come, it is worth the seconds that it takes to convert a network.
_WORTH_ROWS = 2048
# Less than that is done before it is known whether the weights are those converted.
_FEW_ROWS = 256


class Encoder:
    """Encodes as a model does, on one engine; `HashModel.encoder` makes it.

    It has the weights that the model had then. That of TensorFlow is the model itself,
    and follows its training.

    Args:
        model: `HashModel`.
        prepared: `kerashash.engines.Prepared` or None; None is TensorFlow.

    Attributes:
        engine: str; "tensorflow", "openvino", "litert" or "openvino-int8".
        bits: int; the code length.

    Example:
        >>> import keras, kerashash
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> encoder = model.encoder("tensorflow")
        >>> encoder.engine, encoder.encode(np.zeros((5, 4))).shape
        ('tensorflow', (5, 2))
    """

    def __init__(
        self, model: "HashModel", prepared: engines.Prepared | None = None
    ) -> None:
        self._model, self._prepared = model, prepared
        self.engine = prepared.engine if prepared else "tensorflow"
        self.bits = model.bits

    def __repr__(self) -> str:
        return f"Encoder(bits={self.bits}, engine={self.engine!r})"

    def encode(
        self,
        x: Any,
        batch_size: int | None = None,
        packed: bool = True,
        verbose: str | int = "auto",
        on_error: str = "raise",
    ) -> Any:
        """Compute the hash codes of images or vectors.

        Args:
            x, batch_size, packed, verbose, on_error: as for `HashModel.encode`.

        Returns:
            As `HashModel.encode`.

        Raises:
            TypeError, ValueError, RuntimeError: as `HashModel.encode`.
        """
        source, continuous = self._batches(x, batch_size, verbose, on_error)
        # Packed at once: the codes of millions of images take little memory.
        signs = [np.packbits(batch >= 0, axis=1) for batch in continuous]
        empty = np.zeros((0, packed_width(self.bits)), np.uint8)
        codes = np.concatenate([empty, *signs])
        if not packed:
            codes = unpack(codes, self.bits)
        return codes if on_error == "raise" else (codes, getattr(source, "faults", {}))

    def continuous_codes(
        self, x: Any, batch_size: int | None = None, verbose: str | int = "auto"
    ) -> npt.NDArray[np.float32]:
        """Compute the continuous codes, whose signs are the hash codes.

        Args:
            x, batch_size, verbose: as for `HashModel.encode`.

        Returns:
            float32 array ``(n, bits)``.

        Raises:
            TypeError, ValueError, RuntimeError: as `HashModel.encode`.
        """
        _, continuous = self._batches(x, batch_size, verbose)
        return np.concatenate([np.zeros((0, self.bits), np.float32), *continuous])

    def _batches(
        self,
        x: Any,
        batch_size: int | None,
        verbose: str | int,
        on_error: str = "raise",
    ) -> tuple[Iterable[Any], Iterator[npt.NDArray[np.float32]]]:
        """Batches of inputs, and the continuous codes of them."""
        size = _BATCH_SIZE if batch_size is None else batch_size
        source, rows = self._model._inputs(x, size, on_error)
        shown = progress(source, rows, "Encoding", verbose)
        return source, self._finite(self._run(self._checked(shown), rows, batch_size))

    def _checked(self, batches: Iterable[Any]) -> Iterator[Any]:
        watch = batch_watch.BatchWatch(self._model.backbone)
        with naming_unreadable():
            for number, batch in enumerate(batches):
                watch.check_images(batch)
                # Inputs as well: on some processors, ReLU turns NaN into 0.
                if not _is_finite(batch):
                    raise ValueError(
                        "`x` must give finite codes. Received NaN or infinity in batch "
                        f"{number} of the input."
                    )
                yield batch

    def _finite(
        self, continuous: Iterable[npt.NDArray[np.float32]]
    ) -> Iterator[npt.NDArray[np.float32]]:
        rows = 0
        for batch in continuous:
            rows += len(batch)
            if not _is_finite(batch):
                raise ValueError(
                    "`x` must give finite codes. Received NaN or infinity from the "
                    f"model, from its weights or inputs out of range, up to row {rows}."
                )
            yield batch

    def _run(
        self, batches: Iterator[Any], rows: int | None, batch_size: int | None
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the continuous codes of batches, of which `rows` may be known."""
        if self._prepared is None:
            return (self._model._encode_batch(batch).numpy() for batch in batches)
        return self._prepared.network.run(batches, batch_size or self._prepared.rows)


class AutomaticEncoder(Encoder):
    """Encodes long work on the fastest engine that gives the same codes.

    Work of unknown length begins on TensorFlow.
    """

    def _run(
        self, batches: Iterator[Any], rows: int | None, batch_size: int | None
    ) -> Iterator[npt.NDArray[np.float32]]:
        tensorflow, prepared = super()._run, None
        if rows is None or rows >= _FEW_ROWS:
            worth = rows is not None and rows >= _WORTH_ROWS
            prepared = self._fastest(wait=worth)
        if prepared is None and rows is None:
            yield from tensorflow(_first(batches, _WORTH_ROWS), rows, batch_size)
            ahead = [*itertools.islice(batches, 1)]
            batches = itertools.chain(ahead, batches)
            prepared = self._fastest(wait=True) if ahead else None
        run = Encoder(self._model, prepared)._run if prepared else tensorflow
        yield from run(batches, rows, batch_size)

    def _fastest(self, wait: bool) -> engines.Prepared | None:
        return engines.fastest(self._model, self._model._encode_batch, wait)


def encoder_of(
    model: "HashModel", engine: str, calibration: Any = None, rows: int | None = None
) -> Encoder:
    """Make the encoder of a model on an engine: `HashModel.encoder`.

    Args:
        model, engine, calibration: as for `HashModel.encoder`.
        rows: int or None; how many rows there are to encode. With "auto", few are not
            worth the conversion of a network.

    Returns:
        `Encoder`.

    Raises:
        TypeError, ValueError, ImportError: as `HashModel.encoder`.

    Example:
        >>> import keras, kerashash
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> encoder_of(model, "tensorflow")
        Encoder(bits=12, engine='tensorflow')
    """
    check_choices({"engine": (*engines.ENGINES, engines.INT8)}, engine=engine)
    run = model._encode_batch
    if calibration is not None:
        if engine != engines.INT8:
            raise ValueError(
                f"`calibration` must be None, or `engine` {engines.INT8!r}. Received: "
                f"engine={engine!r}."
            )
        return Encoder(model, engines.quantized(model, _rows(model, calibration), run))
    if engine == "tensorflow":
        return Encoder(model)
    if engine == "auto":
        worth = rows is None or rows >= _WORTH_ROWS
        return Encoder(model, engines.fastest(model, run, wait=worth))
    return Encoder(model, engines.prepared(model, engine, run))


def _rows(model: "HashModel", x: Any) -> npt.NDArray[Any]:
    """All inputs as one array."""
    with renamed("x", "calibration"):
        source, _ = model._inputs(x, _BATCH_SIZE)
        parts = [np.asarray(batch) for batch in source]
    try:
        return np.concatenate(parts)
    except ValueError as error:
        raise ValueError(
            "`calibration` must hold at least one input, and inputs of one shape. "
            f"Received: {len(parts)} batches of shapes "
            f"{sorted({part.shape[1:] for part in parts})[:5]}."
        ) from error


def _first(batches: Iterator[Any], most: int) -> Iterator[Any]:
    """Yield batches until there were so many rows."""
    rows = 0
    for batch in batches:
        yield batch
        rows += len(batch)
        if rows >= most:
            return


def _is_finite(x: npt.ArrayLike | tf.Tensor) -> bool:
    """Whether all numbers are finite; integers and bools are."""
    x = np.asarray(x)
    return x.dtype.kind in "biu" or bool(np.isfinite(x).all())
