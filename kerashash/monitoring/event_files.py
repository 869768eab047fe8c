"""Files of events, which TensorBoard reads."""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib.figure
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg

from kerashash import files

# The folder in a log folder: next to the `train` of `keras.callbacks.TensorBoard`. All
# callbacks write to it by one writer, for TensorBoard reads the files of a folder one
# after the other.
_RUN = "retrieval"
_writers: dict[str, Any] = {}


def run_folder(log_dir: str | os.PathLike[str]) -> str:
    """The folder in a log folder to which callbacks write.

    Args:
        log_dir: path of the log folder, or a URL that TensorFlow knows.

    Returns:
        str.

    Raises:
        TypeError, ValueError: if it is no path.

    Example:
        >>> os.path.basename(run_folder("logs")), run_folder("gs://bucket/logs")
        ('retrieval', 'gs://bucket/logs/retrieval')
    """
    return os.path.join(log_folder(log_dir), _RUN)


def log_folder(log_dir: str | os.PathLike[str]) -> str:
    """The whole path of a log folder, wherever it is used.

    Args:
        log_dir: path of the log folder, in which ``~`` is the home folder, or a URL
            that TensorFlow knows.

    Returns:
        str.

    Raises:
        TypeError, ValueError: if it is no path.

    Example:
        >>> os.path.basename(log_folder("logs")), log_folder("gs://bucket/logs")
        ('logs', 'gs://bucket/logs')
    """
    text = files.path_text(log_dir, "log_dir")
    return text if "://" in text else os.fspath(files.as_path(text).absolute())


def make_run_folder(log_dir: str | os.PathLike[str]) -> None:
    """Make the folder of a run, before a training that would fail without it.

    Args:
        log_dir: path of the log folder.

    Raises:
        TypeError, ValueError: if there cannot be such a folder of this machine.

    Example:
        >>> make_run_folder("logs")
    """
    folder = run_folder(log_dir)
    if "://" not in folder:
        files.make_folder(folder, "log_dir")


def writer(log_dir: str | os.PathLike[str], step: int) -> Any:
    """Return the writer of a log folder, which is made if it is not open.

    Args:
        log_dir: path of the log folder.
        step: int; the first step to write. If a training goes on with it after an
            interruption, what the folder holds of it and of later steps is removed.

    Returns:
        `tf.summary.SummaryWriter`.

    Example:
        >>> with writer("logs", step=0).as_default(step=0):
        ...     tf.summary.scalar("answer", 42)
        <tf.Tensor: shape=(), dtype=bool, numpy=True>
        >>> close("logs")
    """
    folder = run_folder(log_dir)
    if folder not in _writers:
        if step:
            forget(earlier_files(folder), step)
        _writers[folder] = tf.summary.create_file_writer(folder)
    return _writers[folder]


def close(log_dir: str | os.PathLike[str]) -> None:
    """Close the writer of a log folder, if there is one.

    Args:
        log_dir: path of the log folder.
    """
    if open_writer := _writers.pop(run_folder(log_dir), None):
        open_writer.close()


def earlier_files(folder: str) -> list[pathlib.Path]:
    """The files of events that are in a folder.

    Args:
        folder: str; it need not exist.

    Returns:
        list of `pathlib.Path`; empty if the folder is on another machine.
    """
    return sorted(pathlib.Path(folder).glob("events.out.tfevents.*"))


def forget(paths: Iterable[pathlib.Path], step: int) -> None:
    """Remove what a training that was interrupted has written of lost steps.

    Args:
        paths: iterable of `pathlib.Path`; files of events to which nobody writes.
        step: int; the first step that is lost, and comes again.
    """
    for path in paths:
        if not any(_is_of(record, step) for record in _records(path)):
            continue
        with (
            files.replacing_by_name(path, "events") as work,
            tf.io.TFRecordWriter(str(work)) as file,
        ):
            for record in _records(path):
                if not _is_of(record, step):
                    file.write(record)


def _records(path: pathlib.Path) -> Iterator[bytes]:
    """The events of a file as bytes, up to one that was not written to its end."""
    with contextlib.suppress(tf.errors.DataLossError):
        yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()


def _is_of(record: bytes, step: int) -> bool:
    """Whether an event has values of a step or a later one."""
    event = tf.compat.v1.Event.FromString(record)
    return event.HasField("summary") and event.step >= step


def pixels(figure: matplotlib.figure.Figure) -> npt.NDArray[np.uint8]:
    """Draw a figure for `tf.summary.image`.

    Args:
        figure: `matplotlib.figure.Figure`.

    Returns:
        uint8 array ``(1, height, width, 3)``.

    Example:
        >>> pixels(matplotlib.figure.Figure(figsize=(2, 1), dpi=100)).shape
        (1, 100, 200, 3)
    """
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[None, ..., :3]
