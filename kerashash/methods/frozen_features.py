"""Features of the frozen layers of a backbone, computed once for a whole `fit`."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kerashash.backbones.by_name import frozen_part
from kerashash.data.progress import progress
from kerashash.data.streams import NumberedBatches
from kerashash.methods import replicas


class FrozenFeatures:
    """The output of a backbone's frozen layers, a row for each training image.

    Args:
        backbone: `keras.Model` that begins with frozen layers.

    Call:
        ``{"row": row numbers, int32 (batch,)}``, or ``{"frozen": outputs of the frozen
        layers}`` -> features ``(batch, ...)`` of the backbone.

    Raises:
        ValueError: if its first layers are not frozen.
    """

    def __init__(self, backbone: keras.layers.Layer) -> None:
        self._lower, self._upper = frozen_part(backbone)
        self._rows: Any = None

    def compute(self, batches: Iterable[Any], verbose: str | int) -> list[Any]:
        """Pass all training images through the frozen layers.

        Args:
            batches: iterable of ``(x, {"label", "index"})``, one epoch.
            verbose: as for `kerashash.data.progress.progress`.

        Returns:
            list of the same batches, with ``{"row": index}`` in place of x.

        Raises:
            ValueError: if the indices are not the numbers from 0 on, each once, or the
                layers act otherwise in training.
        """
        run: Callable[[Any], tf.Tensor] = tf.function(self.below, reduce_retracing=True)
        parts: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        without_inputs = []
        count = lambda pair: len(pair[1]["index"])  # noqa: E731
        title = "Features of the frozen layers"
        for x, y in progress(batches, None, title, verbose, count):
            index = np.asarray(y["index"])
            parts.append((index, run(x).numpy()))
            if len(parts) == 1:
                self._check_same_in_training(x, parts[0][1])
            without_inputs.append(({"row": index}, y))
        indices = np.concatenate(
            [np.zeros(0, np.int32), *(index for index, _ in parts)]
        )
        if not np.array_equal(np.sort(indices), np.arange(len(indices))):
            raise ValueError(
                "`index` must hold each of the numbers from 0 on once an epoch, with "
                f"cache_features. Received {len(indices)} numbers of which "
                f"{len(np.unique(indices))} are different, up to {indices.max()}."
            )
        first = parts[0][1]
        rows = np.empty((len(indices), *first.shape[1:]), first.dtype)
        while parts:  # so that they are not twice in memory
            index, features = parts.pop()
            rows[index] = features
        self._rows = replicas.table(rows)
        return without_inputs

    def _check_same_in_training(self, x: Any, features: npt.NDArray[Any]) -> None:
        """Refuse layers that act otherwise, of which `frozen_part` cannot know."""
        before = self._lower.get_weights()
        output = self._lower(tf.convert_to_tensor(x), training=True)
        same = all(map(np.array_equal, before, self._lower.get_weights()))
        if not same:
            self._lower.set_weights(before)
        penalties = [float(loss) for loss in self._lower.losses]
        usual, received = features.astype(np.float32), np.asarray(output, np.float32)
        # A GPU does not round alike in both.
        error = 1e-3 * np.abs(usual).max(initial=0.0)
        if not same or any(penalties) or not np.allclose(received, usual, 1e-3, error):
            raise ValueError(
                "`cache_features` must be False for a backbone whose frozen layers act "
                "otherwise in training, or have a penalty on what they give. Received: "
                f"{self._lower.name!r}."
            )

    def below(self, x: tf.Tensor) -> tf.Tensor:
        """Compute the output of the frozen layers."""
        return self._lower(x, training=False)

    def __call__(
        self, x: dict[str, tf.Tensor], training: bool | None = None
    ) -> tf.Tensor:
        features = x["frozen"] if "frozen" in x else tf.gather(self._rows, x["row"])
        if self._upper is None:
            return features
        return self._upper(features, training=training)


class RowNumbers(keras.utils.PyDataset):
    """Batches with row numbers in place of inputs.

    Args:
        batches: `NumberedBatches` with an index.
    """

    def __init__(self, batches: NumberedBatches) -> None:
        super().__init__(batches.workers, batches.use_multiprocessing)
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> tuple[Any, dict[str, Any]]:
        _, y = self._batches[number]
        return {"row": y["index"]}, y

    def on_epoch_begin(self) -> None:
        self._batches.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._batches.on_epoch_end()
