"""The values and curves that were measured, in CSV files that grow cell by cell."""

import codecs
import contextlib
import csv
import io
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
#: The columns of the CSV file of the curves.
CURVE_COLUMNS = (*_KEY, *CURVE)
# The measures and arrays of curves that cannot be above 1. All are at least 0.
_SHARES = {
    *("mAP", "mAP, ties averaged", "SVM accuracy"),
    *("chebyshev", "cosine", "intersection", "precision_at", "recall_at"),
}
# How far rounding may take a share above 1.
_ROUNDING = 1e-6
# Bytes of a first line that are looked at: those of the columns are fewer.
_HEADER = 500
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


def repair(file: pathlib.Path, columns: Sequence[str] = COLUMNS) -> None:
    """Cut off a last line that was not written to its end.

    Args:
        file: path of the file; one that does not exist stays so.
        columns: tuple of str; the names of its columns.

    Raises:
        ValueError: if it is no regular file, or has other columns. It stays as it is.
        OSError: if it cannot be written.
    """
    if file.exists():
        with _locked(file, columns):
            pass


def read(file: pathlib.Path) -> dict[tuple[str, ...], dict[str, float]]:
    """Read the cells of a CSV file.

    Args:
        file: path of the file; one that does not exist has no cells.

    Returns:
        dict of the values of cells, dicts by measure, by the keys of the cells.

    Raises:
        ValueError: if it is no regular file, has other columns, or a line that cannot
            be read or holds a value that its measure cannot have.
    """
    cells: dict[tuple[str, ...], dict[str, float]] = {}
    for key, (measure, value) in _lines(file, COLUMNS, _value):
        cells.setdefault(key, {})[measure] = value
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
        ValueError: if it is no regular file, has other columns, or a line that cannot
            be read or holds no curve.
    """
    return dict(_lines(file, CURVE_COLUMNS, _curve))


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
    _append(file, CURVE_COLUMNS, [line])


def _lines(
    file: pathlib.Path,
    columns: Sequence[str],
    parse: Callable[[dict[str, str]], Any],
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Read the lines of a file, if there is one: the key of each, and what it holds."""
    if not file.exists():
        return
    content = files.read_regular(file)
    # Another process may be writing the last line, or have been killed.
    content = content[: _whole(file, content, columns)]
    texts = (line.decode() for line in content.splitlines(keepends=True))
    # Strict: a quote that is never closed would take all lines that follow.
    reader = csv.reader(texts, strict=True)
    number = 1
    try:
        for fields in reader:
            if number > 1 and fields:  # neither the header nor an empty line
                if len(fields) != len(columns):
                    raise ValueError(f"{len(fields)} of {len(columns)} columns")
                line = dict(zip(columns, fields, strict=True))
                yield tuple(line[name] for name in _KEY), parse(line)
            number = reader.line_num + 1
    except (csv.Error, ValueError) as error:
        raise ValueError(
            f"{file} must hold what was measured, as it was written. Received in line "
            f"{number}: {error}."
        ) from error


def _value(line: dict[str, str]) -> tuple[str, float]:
    """The measure of a line, and its value."""
    value = float(line["value"])
    _check_range(line["measure"], [value])
    return line["measure"], value


def _curve(line: dict[str, str]) -> dict[str, npt.NDArray[np.float64]]:
    """The arrays of a line."""
    curve = {name: np.array(line[name].split(), float) for name in CURVE}
    sizes = [array.size for array in curve.values()]
    if len({*sizes}) > 1 or not sizes[0]:
        raise ValueError(f"arrays of {sizes} values, not of as many each")
    for name, array in curve.items():
        _check_range(name, array, least=int(name == "ranks"))
    return curve


def _check_range(name: str, values: Iterable[float], least: int = 0) -> None:
    """Refuse values that a measure or an array of a curve cannot have."""
    share = name in _SHARES
    most = 1 + _ROUNDING if share else math.inf
    for value in values:
        if not (math.isfinite(value) and least <= value <= most):
            rule = "in [0, 1]" if share else f"finite and at least {least}"
            raise ValueError(f"{name} must be {rule}, not {value:g}")


def _whole(file: pathlib.Path, content: bytes, columns: Sequence[str]) -> int:
    """How many bytes of a file are whole lines; refuses a file with other columns."""
    whole = max(content.rfind(end) for end in (b"\n", b"\r")) + 1
    start = content.removeprefix(codecs.BOM_UTF8)
    first = next(iter(start.splitlines()), b"")[:_HEADER]
    received = next(csv.reader([first.decode(errors="replace")]), [])
    if whole:
        ours = received == [*columns]
    else:  # the header, or no line, was written to its end
        ours = ",".join(columns).encode().startswith(start)
    if not ours:
        raise ValueError(
            f"{file} must have the columns {[*columns]}. Received: {received}."
        )
    return whole


def _append(
    file: pathlib.Path, columns: Sequence[str], lines: Iterable[dict[str, Any]]
) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    with _locked(file, columns) as stream:
        if not os.fstat(stream.fileno()).st_size:
            writer.writeheader()
        writer.writerows(lines)
        stream.write(buffer.getvalue().encode())
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _locked(file: pathlib.Path, columns: Sequence[str]) -> Iterator[io.FileIO]:
    """Open a file to append whole lines to it, alone, where there are file locks.

    A file with other columns is somebody else's: it is refused, and stays as it is.
    """
    with contextlib.suppress(FileNotFoundError), files.regular(file):
        pass  # a pipe would have no end
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
        whole = _whole(file, content, columns)
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
