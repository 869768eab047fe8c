"""What the papers' tables print, read from the files in ``tables/``.

A file has the ``title``, the ``source`` and a ``note``; a table ``parts`` for each data
set, with its data, metric, columns and how all methods train there; and a table
``rows`` for each method: its name as it is printed, ``method``, a class of the library,
or ``absent``, why there is none, and the ``printed`` values by part.
"""

import dataclasses
import importlib.resources
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from kerashash.checks import close_names


@dataclasses.dataclass(frozen=True)
class Part:
    """A data set of a table, and how all methods train and are measured on it.

    Attributes:
        name: str; as it is printed.
        data: dict; arguments of `kerashash.data.load`, or ``folder`` and arguments of
            `kerashash.data.from_directory`.
        metric: str; a protocol of `kerashash.evaluate`, "SVM accuracy" or "label
            distributions".
        bits: list of int; the code lengths.
        features: dict; arguments of `kerashash.backbones.get`; or ``encoding``, of
            columns of numbers.
        training: dict; ``epochs``, ``batch_size`` and ``learning_rate`` of the methods
            that are trained by gradients.
        measures: list of str; the columns for label distributions, else empty.
        neighbours: int; how many neighbours predict a label distribution.
        content: str; a digest of the files of a folder of the user, which may change.

    Example:
        >>> part = table("ddh-2").parts[0]
        >>> part.name, part.bits, part.metric
        ('CIFAR-10', [16, 32, 64], 'ddh-cifar10')
    """

    name: str
    data: Mapping[str, Any]
    metric: str
    bits: Sequence[int]
    features: Mapping[str, Any]
    training: Mapping[str, Any]
    measures: Sequence[str] = ()
    neighbours: int = 30
    content: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """A method of a table.

    Attributes:
        name: str; as it is printed.
        printed: dict; the values by the name of the part, a list in the order of its
            columns. NaN where the table has none. Empty for a row that the paper does
            not have.
        method: str or None; the class of the method or baseline, or "AA-kNN".
        absent: str; why there is no such class, or empty.
        options: dict; options of the class.
        self_train: dict or None; how it continues on unlabelled images: arguments of
            `kerashash.methods.self_training.self_train`, and ``learning_rate``.
        training: dict; what is not as in the part's ``training``.

    Example:
        >>> Row("DNNH", {"CIFAR-10": [0.566]}, method="NINH").options
        {}
    """

    name: str
    printed: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    method: str | None = None
    absent: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    self_train: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper; `table` reads it.

    Attributes:
        name: str; such as "dcdh-1".
        title: str; what it shows.
        source: str; the paper and the number of the table.
        parts: tuple of `Part`.
        rows: tuple of `Row`.
        note: str; what to know when numbers are compared.

    Example:
        >>> row = table("dsre-1").rows[-1]
        >>> row.method, row.printed["CIFAR-10"]
        ('DSRE', [0.771, 0.817, 0.839, 0.858])
    """

    name: str
    title: str
    source: str
    parts: tuple[Part, ...]
    rows: tuple[Row, ...]
    note: str = ""


def list_tables() -> list[str]:
    """List the names of the tables.

    Returns:
        list of str.

    Example:
        >>> list_tables()[:3]
        ['adalabel-3', 'adalabel-4', 'adalabel-5']
    """
    files = importlib.resources.files("kerashash.comparison") / "tables"
    names = (pathlib.PurePath(file.name) for file in files.iterdir())
    return sorted(name.stem for name in names if name.suffix == ".toml")


def table(name: str) -> Table:
    """Read what a paper prints in a table.

    Args:
        name: str; one of `list_tables`: the method and the number of the table.

    Returns:
        `Table`.

    Raises:
        ValueError: if there is no such table.

    Example:
        >>> table("ddh-2").source.split(", ")[-2:]
        ['ECML PKDD 2017', 'table 2']
    """
    names = list_tables()
    if name not in names:
        raise ValueError(
            f"`table` must be one of {names}. Received: {name!r}."
            f"{close_names(str(name), names)}"
        )
    file = importlib.resources.files("kerashash.comparison") / "tables"
    content = tomllib.loads((file / f"{name}.toml").read_text("utf-8"))
    parts = tuple(Part(**part) for part in content.pop("parts"))
    rows = tuple(Row(**row) for row in content.pop("rows"))
    return Table(name=name, parts=parts, rows=rows, **content)
