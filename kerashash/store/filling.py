"""Image files into a store: what is new or has changed is encoded and committed."""

import contextlib
import dataclasses
import os
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from kerashash.backbones.images import input_size
from kerashash.checks import check_choices, check_integer, listing
from kerashash.codes import packed_width
from kerashash.data import inputs
from kerashash.data.finding import ImageFile, find_images, image_paths
from kerashash.data.image_reading import content, printable, read_ahead
from kerashash.data.progress import progress
from kerashash.engines import ENGINES
from kerashash.methods.encoder import Encoder, encoder_of
from kerashash.store.code_store import CodeStore, open_or_create
from kerashash.store.inputs import check_is_input

if TYPE_CHECKING:
    from kerashash.methods import HashModel

Item = TypeVar("Item")

# A commit is due after so many rows or seconds: what a kill can cost.
_COMMIT_ROWS, _COMMIT_SECONDS = 4096, 10.0
# What is said of a file that has changed and cannot be read.
_OLD_STAYS = "; the store keeps the code of its old content"
# Metadata of a row, by which a file that has changed is known.
FILE_COLUMNS = ("size", "mtime")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What became of images that were to be encoded.

    Attributes:
        new: int; images that the store did not have.
        changed: int; image files whose size or time of change was another.
        unchanged: int; images that the store had, and that were not encoded again.
        skipped: dict of str; what is wrong with each image that was left out, by path
            or key. If the store has a code of its old content, that stays, and the
            reason says so.

    Example:
        >>> encoded = Encoded(3, 1, 0, {"photos/a.jpg": "empty"})
        >>> encoded.new, len(encoded.skipped)
        (3, 1)
    """

    new: int
    changed: int
    unchanged: int
    skipped: dict[Any, str]


class Block(NamedTuple):
    """Images that have been encoded.

    Attributes:
        ids: list of n keys.
        codes: uint8 array ``(n, ceil(bits / 8))``.
        columns: dict of sequences of n values; metadata.
        skipped: dict; reasons by key, of further images that cannot be read.
    """

    ids: list[Any]
    codes: npt.NDArray[np.uint8]
    columns: dict[str, Sequence[Any]]
    skipped: dict[Any, str]


def encode_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    store: CodeStore,
    batch_size: int = 128,
    verbose: str | int = "auto",
    engine: str = "auto",
) -> Encoded:
    """Encode image files into a store: those that it lacks, and those that changed.

    Keys are absolute paths; the metadata are "size", in bytes, and "mtime", in
    nanoseconds since 1970. A file is encoded again if one of them is another than in
    the store; what other metadata its row has had, it keeps. Rows of files that are no
    longer there, or can no longer be read, stay.

    Commits take place every 4,096 images or 10 seconds. A call that is interrupted, or
    killed, is completed by the next one.

    Args:
        paths: folder, file or pattern such as ``"photos/**/*.jpg"``, or iterable of
            these, as for `kerashash.data.finding.find_images`.
        store: `CodeStore`; its model encodes.
        batch_size: int; images encoded at a time.
        verbose: "auto", 0 or 1; "auto" shows a progress bar on long work, 1 always, 0
            never.
        engine: "auto", "tensorflow", "openvino" or "litert", as for `HashModel.encode`.
            All give the same codes.

    Returns:
        `Encoded`: counts, and what is wrong with the files that were left out.

    Raises:
        TypeError, ValueError: if an argument is wrong, the model takes no images, or
            the store has keys that are no paths, or a "size" or "mtime" of its own.
        ImportError: if the engine's package is not installed.
        OSError: if the store cannot be written.

    Example:
        >>> import keras, kerashash, tensorflow as tf
        >>> tf.io.write_file("a.png", tf.io.encode_png(tf.zeros((8, 8, 3), tf.uint8)))
        >>> open("b.png", "w").close()
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
        >>> net = keras.Sequential(layers)
        >>> model = kerashash.AdaLabelHash(net, bits=8, num_classes=2)
        >>> store = kerashash.CodeStore.create("photos.khs", model)
        >>> encoded = encode_files(".", store)
        >>> encoded.new, [*encoded.skipped.values()]
        (1, ['empty'])
    """
    check_integer("batch_size", batch_size)
    check_choices({"engine": ENGINES}, engine=engine)
    model = store.model
    images_side(model)
    pending = pending_files(paths, store)
    encoder = encoder_of(model, engine, rows=len(pending.files))

    def blocks() -> Iterator[Block]:
        batches = encoded_batches(
            model,
            pending.files,
            lambda file: content(file.path),
            batch_size,
            encoder=encoder,
        )
        for codes, files, faults in batches:
            yield block_of_files(codes, files, faults)

    shown = progress(
        blocks(),
        len(pending.files),
        "Encoding",
        verbose,
        count=lambda block: len(block.ids) + len(block.skipped),
    )
    return pending.result(fill(store, shown))


def index(
    model: "HashModel",
    x: Any,
    path: str | os.PathLike[str] | None = None,
    batch_size: int = 128,
    verbose: str | int = "auto",
) -> CodeStore:
    """Put images, or other inputs, into a store to search: `HashModel.index`.

    Args:
        model: `HashModel`; built.
        x, path, batch_size, verbose: as for `HashModel.index`.

    Returns:
        `CodeStore`.

    Raises:
        TypeError, ValueError, OSError: as `HashModel.index`.

    Example:
        >>> import keras, kerashash
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> len(index(model, np.zeros((5, 4))))
        5
    """
    first, x = inputs.looked_at([x] if isinstance(x, str | os.PathLike) else x)
    are_files = isinstance(first, str | os.PathLike)
    check_integer("batch_size", batch_size)
    if are_files:  # all of them, before a store is made
        rule = "`x` must hold inputs: paths are for a model that takes images"
        images_side(model, f"{rule} of one size")
        x = [*x]
        if not sum(1 for _ in image_paths(x, "x")):
            raise ValueError(
                f"`x` must hold images. Received: {listing(map(repr, x))}, without any."
            )
    else:
        check_is_input(x)
    if path is None:
        with contextlib.ExitStack() as unwinding:
            folder = unwinding.enter_context(tempfile.TemporaryDirectory("-kerashash"))
            store = CodeStore.create(os.path.join(folder, "codes.khs"), model)
            # When the store is no longer used, at the latest when the process ends.
            weakref.finalize(store, unwinding.pop_all().close)
    else:
        store = open_or_create(path, model, model)
    if not are_files:
        store.add(x)
        return store
    skipped = encode_files(x, store, batch_size, verbose).skipped
    if skipped:
        files = listing(f"'{printable(at)}' ({why})" for at, why in skipped.items())
        warnings.warn(f"Skipped {files}.", stacklevel=3)
    return store


class PendingFiles(NamedTuple):
    """Image files, compared with a store.

    Attributes:
        files: list of `ImageFile`; those to encode.
        changed: set of str; paths of those that the store has, with other content, and
            of those of `skipped` that it has.
        unchanged: int; the number of others.
        skipped: dict; reasons by path, of files that cannot be looked at.
    """

    files: list[ImageFile]
    changed: set[str]
    unchanged: int
    skipped: dict[str, str]

    def result(self, skipped: dict[str, str]) -> Encoded:
        """What became of the files, given the reasons of those that were left out."""
        done = [file.path for file in self.files if file.path not in skipped]
        changed = sum(path in self.changed for path in done)
        reasons = {
            path: reason + _OLD_STAYS if path in self.changed else reason
            for path, reason in (self.skipped | skipped).items()
        }
        return Encoded(len(done) - changed, changed, self.unchanged, reasons)


def pending_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], store: CodeStore
) -> PendingFiles:
    """Find image files, and compare their sizes and times with those in a store.

    Args:
        paths: as for `encode_files`.
        store: `CodeStore`.

    Returns:
        `PendingFiles`.

    Raises:
        TypeError, ValueError, OSError: as for `kerashash.data.finding.find_images`; or
            if there are files to encode, and the store cannot take them.
    """
    files, skipped = find_images(paths)
    # Of no row: a new store has no sizes yet.
    present = store.columns("1 = 0")
    names = [name for name in ("id", *FILE_COLUMNS) if name in present]
    columns = store.columns(names=names)
    nothing = [None] * len(columns["id"])
    stamps = zip(*(columns.get(name, nothing) for name in FILE_COLUMNS), strict=True)
    stored = dict(zip(columns["id"], stamps, strict=True))
    pending = [file for file in files if stored.get(file.path) != file[1:]]
    if pending:
        store._check_addition([pending[0].path], dict.fromkeys(FILE_COLUMNS, "int"))
    changed = {*(file.path for file in pending), *skipped} & stored.keys()
    return PendingFiles(pending, changed, len(files) - len(pending), skipped)


def encoded_batches(
    model: "HashModel",
    items: Iterable[Item],
    content_of: Callable[[Item], bytes],
    batch_size: int,
    threads: int | None = None,
    encoder: Encoder | None = None,
) -> Iterator[tuple[npt.NDArray[np.uint8], list[Item], list[tuple[Item, str]]]]:
    """Encode images, of which the next batch is being read meanwhile.

    Args:
        model: `HashModel` of images.
        items: iterable; what stands for each image.
        content_of: function of an item; the content of its image file. It may raise
            OSError or ValueError.
        batch_size: int; images of a batch.
        threads: int or None; how many decode, as for `read_ahead`.
        encoder: `Encoder` or None; the model's. None is that of TensorFlow.

    Yields:
        ``(codes, items, faults)`` of a batch: packed codes, uint8 array ``(n, width)``;
        the items that they are of; and the others with what is wrong with them.
    """
    nothing = np.zeros((0, packed_width(model.bits)), np.uint8)
    encoder = encoder or Encoder(model)
    for pixels, read, faults in read_ahead(
        items, content_of, images_side(model), model.image_fit, batch_size, threads
    ):
        codes = encoder.encode(pixels, verbose=0) if read else nothing
        yield codes, read, faults


def block_of_files(
    codes: npt.NDArray[np.uint8],
    files: Sequence[ImageFile],
    faults: Sequence[tuple[ImageFile, str]],
) -> Block:
    """Make a block of files that have been encoded, as `encoded_batches` gives them."""
    columns = {name: [getattr(file, name) for file in files] for name in FILE_COLUMNS}
    return Block(
        [file.path for file in files],
        codes,
        dict(columns),
        {file.path: fault for file, fault in faults},
    )


def fill(store: CodeStore, blocks: Iterable[Block]) -> dict[Any, str]:
    """Commit blocks to a store; rows that have had their keys are replaced.

    They keep metadata that the blocks do not have, such as those that users added. What
    has been encoded is committed, whatever ends the iteration.

    Args:
        store: `CodeStore`.
        blocks: iterable of `Block`.

    Returns:
        dict; the reasons of all skipped images, by key.

    Raises:
        OSError, ValueError: if the store cannot be written or refuses a block.
    """
    waiting: list[Block] = []
    skipped: dict[Any, str] = {}

    def commit() -> None:
        due = [block for block in waiting if block.ids]
        waiting.clear()
        if due:
            columns = {
                name: [value for block in due for value in block.columns[name]]
                for name in due[0].columns
            }
            store.upsert(
                np.concatenate([block.codes for block in due]),
                ids=[key for block in due for key in block.ids],
                columns=columns,
                keep=True,
            )

    last, rows = time.monotonic(), 0
    try:
        for block in blocks:
            skipped |= block.skipped
            waiting.append(block)
            rows += len(block.ids)
            if rows >= _COMMIT_ROWS or time.monotonic() - last > _COMMIT_SECONDS:
                commit()
                last, rows = time.monotonic(), 0
    finally:
        commit()
    return skipped


def images_side(
    model: "HashModel",
    rule: str = "`store` must be of a model that takes images of one size",
) -> int:
    """Return the side in pixels of the images that a model takes.

    Args:
        model: `HashModel`.
        rule: str; what an error begins with; of a model that takes such images.

    Returns:
        int.

    Raises:
        ValueError: if it takes no images.
    """
    side = input_size(model.backbone)
    if side is None:
        raise ValueError(f"{rule}. Received: {model.name!r}, which does not.")
    return side
