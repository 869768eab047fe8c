"""A Keras callback for TensorBoard's embedding projector."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins import projector

from kerashash import files
from kerashash.checks import check_integer
from kerashash.data import RetrievalData
from kerashash.monitoring import event_files
from kerashash.monitoring.epoch_callback import EpochCallback
from kerashash.monitoring.epoch_codes import Codes, EpochCodes, bounded
from kerashash.monitoring.thumbnails import has_images, sheet, thumbnails

_CHECKPOINT = "embeddings-"
_CONFIG = "projector_config.pbtxt"
# The projector loads the sheet of images as a texture: browsers allow 8,192 pixels, and
# phones 4,096.
_SHEET_SIDE = 4096


class CodeProjector(EpochCallback):
    """Writes hash codes for TensorBoard's embedding projector.

    The tab Projector shows the codes of database items in three dimensions, by
    principal components, t-SNE or UMAP, each as a small image, with its labels and
    name. Codes of an `kerashash.AdaLabelHash` come with a second embedding: the
    codewords of the labels. The projector shows one epoch, the latest that was written,
    after a reload of its page.

    Args:
        data: `kerashash.data.RetrievalData`, of which at most 20,000 database items are
            encoded; or `EpochCodes`, which several callbacks share.
        log_dir: path of a folder for TensorBoard. Of several processes that train one
            model, the first writes.
        every: int, at least 1. The codes are written after epochs `every`, 2 `every`
            and so on, after the first epoch of a `fit` and after the last.
        max_items: int, at least 1; the most database items to show. If there are more,
            they are drawn.
        image_side: int, at least 1; the most pixels of a side of an image. Images are
            made smaller where all together would have more than 4,096 pixels a side.
        seed: int in [0, 2^32); the seed of the draw.

    Raises:
        TypeError, ValueError: if an argument is out of range.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> callbacks = [CodeProjector(data, "logs", max_items=500)]
    """

    def __init__(
        self,
        data: RetrievalData | EpochCodes,
        log_dir: str | os.PathLike[str],
        every: int = 1,
        max_items: int = 1_000,
        image_side: int = 48,
        seed: int = 0,
    ) -> None:
        super().__init__(bounded(data), log_dir, every)
        check_integer("max_items", max_items)
        check_integer("image_side", image_side)
        check_integer("seed", seed, least=0, most=2**32 - 1)
        if "://" in os.fspath(log_dir):
            raise ValueError(
                "`log_dir` must be a folder of this machine, for the projector's "
                f"files. Received: {log_dir!r}."
            )
        n = self.codes.sample.num_database
        rng = np.random.default_rng(seed)
        self._items = np.sort(rng.choice(n, min(n, max_items), replace=False))
        columns = int(np.ceil(np.sqrt(len(self._items))))
        self._image_side = max(1, min(image_side, _SHEET_SIDE // columns))
        self._image_size: tuple[int, int] | None = None
        self._has_files = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._has_files = False

    def _measure(self, epoch: int, codes: Codes, logs: dict[str, Any] | None) -> None:
        if not self._writes:
            return
        assert self.log_dir is not None
        folder = pathlib.Path(event_files.run_folder(self.log_dir))
        if not self._has_files:
            self._write_items(folder)
            self._has_files = True
            count, total = len(self._items), self.codes.data.num_database
            with self._summaries(epoch):
                # Without an event the folder is no run, and its projector is hidden.
                tf.summary.text(
                    "statistics/projector",
                    f"The tab Projector shows {count:,} of {total:,} database items.",
                )
        # The epoch is in the names: TensorBoard keeps what it has read under a name.
        when = f"after epoch {epoch + 1}"
        tensors = {f"codes {when}": codes.database[self._items]}
        config = projector.ProjectorConfig()
        items = config.embeddings.add(
            tensor_name=f"codes {when}", metadata_path="codes.tsv"
        )
        if self._image_size is not None:
            items.sprite.image_path = "codes.png"
            items.sprite.single_image_dim.extend(self._image_size)
        words = getattr(self.model, "codewords", None)
        if words is not None:
            _write(
                folder / "codewords.tsv", _table({"label": self.codes.data.class_names})
            )
            tensors[f"codewords {when}"] = words.hash_codes().numpy()
            config.embeddings.add(
                tensor_name=f"codewords {when}", metadata_path="codewords.tsv"
            )
        prefix = folder / f"{_CHECKPOINT}{epoch + 1}"
        _write_checkpoint(prefix, tensors)
        _write(folder / _CONFIG, text_format.MessageToString(config))
        # Last, for TensorBoard reads the rest again when this changes.
        _write(folder / "checkpoint", f'model_checkpoint_path: "{prefix.name}"\n')
        for path in folder.glob(f"{_CHECKPOINT}*"):
            if path.name.partition(".")[0] != prefix.name:
                path.unlink(missing_ok=True)

    def _write_items(self, folder: pathlib.Path) -> None:
        """Write what does not change: labels, names and images."""
        folder.mkdir(parents=True, exist_ok=True)
        data = self.codes.sample
        rows = data.splits["database"][self._items]
        labels = [np.flatnonzero(row) for row in data.labels[rows]]
        names = [[data.class_names[c] for c in row] for row in labels]
        columns: dict[str, Sequence[str]] = {
            "labels": [", ".join(row) for row in names]
        }
        if any(len(row) > 1 for row in names):
            # The projector has no colours for as many combinations.
            columns["first label"] = [row[0] if row else "" for row in names]
        columns["row"] = [str(row) for row in rows]
        if data.names is not None:
            columns["name"] = [str(name) for name in data.names[rows]]
        _write(folder / "codes.tsv", _table(columns))
        if has_images(data):
            images = thumbnails(data, rows, self._image_side)
            self._image_size = (images.shape[2], images.shape[1])
            with files.replacing(folder / "codes.png") as file:
                Image.fromarray(sheet(images)).save(file, "PNG")


def _table(columns: dict[str, Sequence[str]]) -> str:
    """Text of a table; a single column has no head, which the projector would take for
    an item."""
    cells = [[" ".join(cell.split()) for cell in column] for column in columns.values()]
    rows: list[Sequence[str]] = [[*columns]] if len(columns) > 1 else []
    rows += zip(*cells, strict=True)
    return "".join("\t".join(row) + "\n" for row in rows)


def _write(path: pathlib.Path, text: str) -> None:
    with files.replacing(path) as file:
        file.write(text.encode())


def _write_checkpoint(
    prefix: pathlib.Path, tensors: dict[str, npt.NDArray[np.int8]]
) -> None:
    """Write a checkpoint of TensorFlow, whose tensors have just these names."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=[*tensors],
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(values, tf.float32) for values in tensors.values()],
    )
