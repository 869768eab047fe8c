"""Images into a store, encoded by actors of Ray.

Actors read and encode; this process alone commits. What it commits is small, a key and
a code for each image, so one writer keeps up with many actors, and neither engine of a
store has writers that wait for each other. Blocks arrive in order of the input, and
each once, whichever workers die: Ray repeats their work. So the store holds the same
rows in the same order as after `kerashash.store.encode_files`.
"""

import contextlib
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerashash import saving
from kerashash.checks import check_integer
from kerashash.cluster.session import actors_that_fit, import_ray, session, set_threads
from kerashash.codes import packed_width
from kerashash.data.image_reading import content
from kerashash.data.progress import progress
from kerashash.store import CodeStore, Encoded
from kerashash.store.filling import (
    FILE_COLUMNS,
    Block,
    encoded_batches,
    fill,
    images_side,
    pending_files,
)
from kerashash.store.rows import Columns, checked_ids

if TYPE_CHECKING:
    from kerashash.methods import HashModel

# The column of a table of tasks on Parquet: the numbers of row groups.
_ROW_GROUP = "row group"
# Images of one task: a worker that dies loses one or two tasks.
_MOST_TASK_ROWS = 1024
# Tasks for each actor, if there are few images, so that all are busy to the end.
_LEAST_TASKS = 8


def encode_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    store: CodeStore,
    actors: int | None = None,
    cpus: int = 1,
    gpus: float = 0,
    batch_size: int = 128,
    address: str = "auto",
    verbose: str | int = "auto",
) -> Encoded:
    """Encode image files into a store on a cluster: new ones, and those that changed.

    As `kerashash.store.encode_files`, which says what keys and metadata are, but each
    actor has a model and encodes a share of the files. All machines must see the files
    under the same paths. Only this process writes the store.

    Workers may be killed at any time, and all machines but this one: Ray repeats what
    they were at, and no image is lost or doubled. If this process is killed, the next
    call goes on after the last commit.

    Args:
        paths: folder, file or pattern such as ``"photos/**/*.jpg"``, or iterable of
            these.
        store: `CodeStore`; its model, which actors are sent, encodes.
        actors: int or None; how many encode. None is as many as the cluster has room
            for at the moment.
        cpus: int; processor cores of each, which are also the threads that decode.
        gpus: float; GPUs of each, or a share of one.
        batch_size: int; images encoded at a time.
        address: str; "auto" is the cluster of ``RAY_ADDRESS`` or on this machine, and
            otherwise this machine alone. Or the address of a cluster. It is of no
            account if `ray.init` has been called.
        verbose: "auto", 0 or 1; "auto" shows a progress bar on long work, 1 always, 0
            never.

    Returns:
        `kerashash.store.Encoded`.

    Raises:
        TypeError, ValueError: if an argument is wrong, the model takes no images, or no
            machine has so many cores or GPUs.
        OSError: if the store cannot be written.
        ConnectionError: if there is no cluster at `address`.
        ImportError: if Ray is not installed.

    Example:
        >>> store = kerashash.CodeStore.create("photos.khs", name)  # doctest: +SKIP
        >>> encode_files("photos", store, actors=2)  # doctest: +SKIP
        Encoded(new=1360, changed=0, unchanged=0, skipped={})
    """
    check_integer("batch_size", batch_size)
    model = store.model
    images_side(model)
    ray = import_ray()
    import pyarrow as pa

    pending = pending_files(paths, store)
    if not pending.files:
        return pending.result({})
    with session(address), _in_order():
        actors = actors_that_fit(actors, cpus, gpus)
        rows = min(_MOST_TASK_ROWS, -(-len(pending.files) // (_LEAST_TASKS * actors)))
        tables = []
        for start in range(0, len(pending.files), rows):
            columns = zip(*pending.files[start : start + rows], strict=True)
            tables.append(pa.table([*map(list, columns)], ["id", *FILE_COLUMNS]))
        blocks = _encoded(
            ray.data.from_blocks(tables),
            (model, "id", "id", FILE_COLUMNS, [], cpus, batch_size),
            actors=min(actors, len(tables)),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        shown = progress(blocks, len(pending.files), "Encoding", verbose, _rows)
        return pending.result(fill(store, shown))


def encode_parquet(
    paths: str | Sequence[str],
    store: CodeStore,
    image: str,
    ids: str | None = None,
    columns: Sequence[str] = (),
    actors: int | None = None,
    cpus: int = 1,
    gpus: float = 0,
    batch_size: int = 128,
    address: str = "auto",
    verbose: str | int = "auto",
) -> Encoded:
    """Encode the images of Parquet files into a store on a cluster.

    Rows with a key that the store has are left alone. So a call that is interrupted, or
    killed, is completed by the next one. All else is as for `encode_files`.

    Args:
        paths: path or URL of a file or folder, or list of files, as
            `pyarrow.dataset.dataset` takes them. An actor reads a row group at a time.
        store: `CodeStore`; its model, which actors are sent, encodes.
        image: str; the column of images: the bytes of image files, or their paths.
        ids: str or None; the column of keys, str or int. None is `image`, if it has
            paths.
        columns: sequence of str; further columns that become metadata, without nulls.
        actors, cpus, gpus, batch_size, address, verbose: as for `encode_files`.

    Returns:
        `kerashash.store.Encoded`; without `changed`, as a key stands for its image.

    Raises:
        TypeError, ValueError, OSError, ConnectionError, ImportError: as for
            `encode_files`; also if a key occurs twice, or there is no such column.

    Example:
        >>> encode_parquet(  # doctest: +SKIP
        ...     "s3://bucket/photos", store, image="jpeg", ids="url", columns=["year"]
        ... )
        Encoded(new=1360, changed=0, unchanged=0, skipped={})
    """
    check_integer("batch_size", batch_size)
    model = store.model
    images_side(model)
    ray = import_ray()
    import pyarrow as pa
    import pyarrow.dataset

    key = ids or image
    dataset = pyarrow.dataset.dataset(paths, format="parquet")
    for argument, name in [
        ("image", image),
        ("ids", key),
        *(("columns", n) for n in columns),
    ]:
        if name not in dataset.schema.names:
            raise ValueError(
                f"`{argument}` must be of the columns {dataset.schema.names}. "
                f"Received: {name!r}."
            )
    first = dataset.head(1, columns=[*dict.fromkeys([key, *columns])])
    if first.num_rows:
        values = {name: first[name].to_pylist() for name in first.column_names}
        given = Columns({name: values[name] for name in columns}, 1)
        store._check_addition(checked_ids(values[key], 1), given.specification)
    present = store.columns(names=["id"])["id"].tolist()
    groups = [
        group
        for fragment in dataset.get_fragments()
        for group in fragment.split_by_row_group()
    ]
    # Not `count_rows`, which counts the whole file of a row group.
    rows = sum(part.num_rows for group in groups for part in group.row_groups)
    with session(address), _in_order():
        tables = [pa.table([[number]], [_ROW_GROUP]) for number in range(len(groups))]
        blocks = _encoded(
            ray.data.from_blocks(tables),
            (model, image, key, columns, present, cpus, batch_size, groups),
            actors=min(actors_that_fit(actors, cpus, gpus), len(tables)),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        shown = progress(blocks, rows, "Encoding", verbose, _rows)
        new: set[Any] = set()
        skipped = fill(store, _distinct(shown, new))
    return Encoded(len(new), 0, rows - len(new) - len(skipped), skipped)


class Encoder:
    """An actor: it has a model, and encodes the images of tables.

    Args:
        model: bytes; a file of `kerashash.save_model`.
        image: str; the column of images, bytes or paths.
        key: str; the column of keys.
        metadata: sequence of str; further columns.
        present: sequence of keys whose rows are left out.
        cpus: int; the number of threads.
        batch_size: int; images encoded at a time.
        row_groups: sequence of row groups of Parquet, as fragments of Arrow, which
            tables give the numbers of; or None if tables hold the images.
    """

    def __init__(
        self,
        model: bytes,
        image: str,
        key: str,
        metadata: Sequence[str],
        present: Sequence[Any],
        cpus: int,
        batch_size: int,
        row_groups: Sequence[Any] | None = None,
    ) -> None:
        set_threads(cpus)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "model.keras")
            file.write_bytes(model)
            self._model = saving.load_model(file)
        self._image, self._key, self._metadata = image, key, [*metadata]
        self._present, self._cpus, self._batch_size = {*present}, cpus, batch_size
        self._row_groups = row_groups

    def __call__(self, table: Any) -> Iterator[Any]:
        """Encode the images of a table.

        Args:
            table: `pyarrow.Table`; a row an image, or the number of a row group.

        Yields:
            `pyarrow.Table`: "id"; "code" and "fault", of which one is null; and the
            metadata.
        """
        if self._row_groups is None:
            yield self._encode(table)
            return
        import pyarrow as pa

        for number in table[_ROW_GROUP].to_pylist():
            for batch in self._row_groups[number].to_batches(
                columns=[*dict.fromkeys([self._key, self._image, *self._metadata])],
                batch_size=self._batch_size,
                batch_readahead=1,
                use_threads=False,
            ):
                yield self._encode(pa.Table.from_batches([batch]))

    def _encode(self, table: Any) -> Any:
        import pyarrow as pa

        keys, images = (table[name].to_pylist() for name in (self._key, self._image))
        rows = [row for row, key in enumerate(keys) if key not in self._present]
        codes: dict[int, bytes] = {}
        faults: dict[int, str] = {}
        for batch_codes, encoded, batch_faults in encoded_batches(
            self._model,
            rows,
            lambda row: _content(images[row]),
            self._batch_size,
            self._cpus,
        ):
            codes |= zip(encoded, map(bytes, batch_codes), strict=True)
            faults |= batch_faults
        kept = table.take(pa.array(rows, pa.int64()))
        return pa.table(
            {
                "id": kept[self._key],
                "code": pa.array([codes.get(row) for row in rows], pa.binary()),
                "fault": pa.array([faults.get(row) for row in rows], pa.string()),
                **{name: kept[name] for name in self._metadata},
            }
        )


def _content(image: str | bytes | None) -> bytes:
    """The content of an image file, given itself or a path."""
    if image is None:
        raise ValueError("null")
    if isinstance(image, bytes):
        return image
    return content(image)


def _encoded(
    dataset: Any,
    arguments: tuple[Any, ...],
    actors: int,
    **resources: float,
) -> Iterator[Block]:
    """Encode the rows of a data set of Ray in a pool of actors.

    Args:
        dataset: `ray.data.Dataset`.
        arguments: those of `Encoder`, with the model itself.
        actors: int.
        **resources: what each actor has.

    Yields:
        `Block`.
    """
    ray = import_ray()
    model, *others = arguments
    encoded = dataset.map_batches(
        Encoder,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        fn_constructor_args=(_model_file(model), *others),
        **resources,
    )
    width = packed_width(model.bits)
    for table in _batches(encoded):
        columns = {name: table[name].to_pylist() for name in table.column_names}
        keys, codes = columns.pop("id"), columns.pop("code")
        faults = columns.pop("fault")
        good = [row for row, fault in enumerate(faults) if fault is None]
        joined = b"".join(codes[row] for row in good)
        yield Block(
            [keys[row] for row in good],
            np.frombuffer(joined, np.uint8).reshape(-1, width),
            {name: [values[row] for row in good] for name, values in columns.items()},
            {
                key: fault
                for key, fault in zip(keys, faults, strict=True)
                if fault is not None
            },
        )


def _batches(dataset: Any) -> Iterator[Any]:
    """The tables of a data set of Ray; an error in an actor is raised as it was."""
    ray = import_ray()
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ray.exceptions.UserCodeException):
            cause = cause.__cause__
        raise (cause or error) from None


@contextlib.contextmanager
def _in_order() -> Iterator[None]:
    """Let data sets of Ray come in order of their input, in silence."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    context = import_ray().data.DataContext
    options = context.get_current().copy()
    options.execution_options.preserve_order = True
    options.enable_progress_bars = False
    options.print_on_execution_start = False
    try:
        with context.current(options):
            yield
    finally:
        logger.setLevel(level)


def _distinct(blocks: Iterable[Block], seen: set[Any]) -> Iterator[Block]:
    """Check that keys occur once, and collect them."""
    for block in blocks:
        for key in block.ids:
            if key in seen:
                raise ValueError(
                    f"`ids` must hold distinct keys. Received: {key!r:.200} twice."
                )
            seen.add(key)
        yield block


def _model_file(model: "HashModel") -> bytes:
    """A model as the bytes of a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "model.keras")
        saving.save_model(model, file)
        return file.read_bytes()


def _rows(block: Block) -> int:
    return len(block.ids) + len(block.skipped)
