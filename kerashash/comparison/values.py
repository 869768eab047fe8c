"""The values and curves that were measured, in CSV files that grow cell by cell."""

import contextlib
import csv
import io
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.comparison.tables import Part, Row

#: The columns of the CSV file.
COLUMNS = (
    "table",
    "part",
    "data",
    "features",
    "row",
    "method",
    "options",
    "bits",
    "seed",
    "measure",
    "value",
    "train_seconds",
    "test_seconds",
)
_KEY = ("part", "data", "features", "row", "options", "bits", "seed")
#: The arrays of a curve, which follow the key of its cell.
CURVE = ("ranks", "precision_at", "recall_at")
# Seconds to wait for another process that appends, which takes it milliseconds.
_PATIENCE = 60.0


class Task(NamedTuple):
    """A cell: a method on a data set, with a code length and a seed."""

    part: Part
    row: Row
    bits: int
    seed: int

    def key(self) -> tuple[str, ...]:
        """What identifies the cell in the CSV file."""
        training = {**self.part.training, **self.row.training}
        training["metric"] = self.part.metric
        content = {"content": self.part.content} if self.part.content else {}
        return (
            self.part.name,
            in_words({**self.part.data, **content}),
            in_words(self.part.features),
            self.row.name,
            in_words({**self.row.options, **(self.row.self_train or {}), **training}),
            str(self.bits),
            str(self.seed),
        )


def in_words(choices: Any) -> str:
    """Choices in one line, in a fixed order."""
    return " ".join(f"{key}={choices[key]}" for key in sorted(choices))


def repair(file: pathlib.Path) -> None:
    """Cut off a last line that was not written to its end."""
    if file.exists():
        with _locked(file):
            pass


def read(file: pathlib.Path) -> dict[tuple[str, ...], dict[str, float]]:
    """Read the cells of a CSV file.

    Args:
        file: path of the file; one that does not exist has no cells.

    Returns:
        dict of the values of cells, dicts by measure, by the keys of the cells.

    Raises:
        ValueError: if the file has other columns.
    """
    cells: dict[tuple[str, ...], dict[str, float]] = {}
    for line in _lines(file, COLUMNS):
        key = tuple(line[name] for name in _KEY)
        cells.setdefault(key, {})[line["measure"]] = float(line["value"])
    return cells


def read_curves(
    file: pathlib.Path,
) -> dict[tuple[str, ...], dict[str, npt.NDArray[np.float64]]]:
    """Read the curves of a CSV file.

    Args:
        file: path of the file; one that does not exist has no curves.

    Returns:
        dict of curves, as `kerashash.plots.retrieval_curves` takes them, by the keys of
        the cells.

    Raises:
        ValueError: if the file has other columns.
    """
    return {
        tuple(line[name] for name in _KEY): {
            name: np.array(line[name].split(), float) for name in CURVE
        }
        for line in _lines(file, (*_KEY, *CURVE))
    }


def append(file: pathlib.Path, name: str, task: Task, cell: Any) -> None:
    """Append the lines of a cell, in one write."""
    common = dict(zip(_KEY, task.key(), strict=True))
    lines = [
        {
            **common,
            "table": name,
            "method": task.row.method,
            "measure": measure,
            "value": repr(float(value)),
            "train_seconds": f"{cell.train_seconds:.2f}",
            "test_seconds": f"{cell.test_seconds:.2f}",
        }
        for measure, value in cell.values.items()
    ]
    _append(file, COLUMNS, lines)


def append_curve(file: pathlib.Path, task: Task, cell: Any) -> None:
    """Append the curve of a cell, in one write."""
    words = {name: " ".join(f"{v:.6g}" for v in cell.curve[name]) for name in CURVE}
    line = dict(zip(_KEY, task.key(), strict=True)) | words
    _append(file, (*_KEY, *CURVE), [line])


def _lines(file: pathlib.Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Read the lines of a file, if there is one with these columns."""
    if not file.exists():
        return
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames is not None and tuple(reader.fieldnames) != columns:
            raise ValueError(
                f"{file} must have the columns {[*columns]}. Received: "
                f"{reader.fieldnames}."
            )
        yield from reader


def _append(
    file: pathlib.Path, columns: Sequence[str], lines: Iterable[dict[str, Any]]
) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    with _locked(file) as stream:
        if not os.fstat(stream.fileno()).st_size:
            writer.writeheader()
        writer.writerows(lines)
        stream.write(buffer.getvalue().encode())
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _locked(file: pathlib.Path) -> Iterator[io.FileIO]:
    """Open a file to append whole lines to it, alone, where there are file locks."""
    with file.open("a+b", buffering=0) as stream:
        try:
            files.lock(stream.fileno(), time.monotonic() + _PATIENCE)
        except TimeoutError:
            raise TimeoutError(
                f"{file} has been written by another process for more than "
                f"{_PATIENCE:.0f} s."
            ) from None
        stream.seek(0)
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # its last line was not written to its end
            stream.truncate(whole)
        yield stream


def by_seed(
    part: Part,
    row: Row,
    bits: int,
    done: dict[tuple[str, ...], dict[str, float]],
    seeds: int,
    measure: str | None = None,
) -> list[float]:
    """Return the values of a cell, one a seed.

    Args:
        part: `Part`.
        row: `Row`.
        bits: int; the code length.
        done: dict of the values of cells by their keys.
        seeds: int; how many seeds count.
        measure: str or None; which measure. None is the first.

    Returns:
        list of float, without the seeds that are not there.
    """
    cells = [done.get(Task(part, row, bits, seed).key(), {}) for seed in range(seeds)]
    names = [measure or next(iter(values), "") for values in cells]
    return [
        values[name]
        for name, values in zip(names, cells, strict=True)
        if name in values
    ]
