"""A user's own folder of images as a data set."""

import concurrent.futures
import csv
import hashlib
import io
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_choices, check_integer, check_number, listing
from kerashash.data import protocols
from kerashash.data.finding import is_hidden, walk
from kerashash.data.image_reading import (
    SUFFIXES,
    content,
    decode,
    name_fault,
    printable,
)
from kerashash.data.images import EncodedImages
from kerashash.data.progress import progress
from kerashash.data.resizing import FITS, check_image_size
from kerashash.data.retrieval_data import RetrievalData
from kerashash.data.sources import Source
from kerashash.files import as_path

CHOICES = {"corrupt": ("raise", "skip")}


def from_directory(
    path: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    query_share: float = 0.1,
    seed: int = 0,
    corrupt: str = "raise",
    verbose: str | int = "auto",
    validation: float = 0.0,
    fit: str | None = None,
) -> RetrievalData:
    """Load a folder of images as a data set with queries and a database.

    The same share of each class is drawn as queries; the other images train and are the
    database. The draw depends only on the seed and the names of the files.

    Images are read as `kerashash.data.read_images` reads them, which says the formats.
    Hidden files and folders, whose names begin with a dot, do not count. Images next to
    the class folders are of no class: a `UserWarning` says how many are left out.

    Args:
        path: path of a folder. Without `labels`, each of its subfolders is a class,
            with images at any depth. Symbolic links must not lead out of it. A class
            may be a link to a folder; below it, such a link is an error, as it would
            leave images out, or take them twice.
        labels: path or None; a CSV file with the header ``file,labels``. Each line
            holds the path of an image, relative to `path`, and its labels, separated by
            ``;``; a line without labels is an image without labels. Images that are not
            in the file are left out.
        image_size: int up to 4096, or None; the side in pixels to which images are
            resized. None is the side that the model takes to which they are passed, as
            for a list of paths, and otherwise 224.
        query_share: float in (0, 1); the share of each class that becomes queries.
        seed: int in [0, 2^32); the seed of the draw and of the order of the training
            images.
        corrupt: str; what to do about files that do not decode to their end, or whose
            names are not UTF-8: "raise", or "skip" to leave them out with a
            `UserWarning`.
        verbose: "auto", 0 or 1; each image is decoded once to check it. "auto" shows a
            progress bar if that takes long, 1 always, 0 never.
        validation: float; as for `kerashash.data.load`.
        fit: str or None; how an image that is no square becomes one: "squash", "crop"
            or "pad", as for `kerashash.data.read_images`. None is the `image_fit` of
            the model to which they are passed, and otherwise "squash". A model with
            another one refuses the images.

    Returns:
        `RetrievalData` with the classes in alphabetical order. Images are read from
        their files on access.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of range, the folder holds no images, the CSV
            file is malformed, images are missing, corrupt, outside of `path`, behind a
            link to a folder or listed under two names, or no class has an image to
            spare for a query; the error names them.
        OSError: if a folder cannot be listed.

    Example:
        >>> import tensorflow as tf
        >>> for label in ("cat", "dog"):
        ...     for i in range(5):
        ...         os.makedirs(f"pets/{label}", exist_ok=True)
        ...         image = tf.cast(tf.random.uniform((9, 9, 3)) * 255, tf.uint8)
        ...         tf.io.write_file(f"pets/{label}/{i}.png", tf.io.encode_png(image))
        >>> import kerashash
        >>> data = kerashash.data.from_directory(
        ...     "pets", image_size=32, query_share=0.2
        ... )
        >>> data.class_names, data.num_train, data.num_query
        (('cat', 'dog'), 8, 2)
    """
    check_choices(CHOICES, corrupt=corrupt)
    if fit is not None:
        check_choices({"fit": FITS}, fit=fit)
    check_image_size(image_size)
    check_integer("seed", seed, least=0, most=2**32 - 1)
    protocols.check_share("validation", validation)  # before the images are read
    validation = float(validation)  # a fraction, for one, is a number too
    check_number("query_share", query_share)
    if not 0 < query_share < 1:
        raise ValueError(f"`query_share` must be in (0, 1). Received: {query_share}.")
    query_share = float(query_share)
    folder = as_path(path)
    if labels is not None:
        labels = as_path(labels, "labels")
    if not folder.is_dir():
        raise ValueError(f"`path` must be a folder. Received: {os.fspath(path)!r}.")
    labels_of = (
        _labels_from_folders(folder) if labels is None else _read_csv(folder, labels)
    )
    faults = _find_corrupt(folder, sorted(labels_of), verbose)
    if faults:
        listed = listing(f"{name} ({fault})" for name, fault in faults.items())
        if corrupt == "raise":
            raise ValueError(
                "`path` must hold only images that decode to their end; "
                f"corrupt='skip' leaves out others. Received in {printable(folder)}: "
                f"{listed}."
            )
        warnings.warn(f"Left out of {printable(folder)}: {listed}.", stacklevel=2)
    names = [name for name in sorted(labels_of) if name not in faults]
    class_names = sorted({label for name in names for label in labels_of[name]})
    if len(names) < 2 or not class_names:
        raise ValueError(
            "`path` must hold at least two images and one label. Received: "
            f"{len(names)} images, {len(class_names)} labels in {printable(folder)}."
        )
    column = {label: c for c, label in enumerate(class_names)}
    label_rows = np.zeros((len(names), len(class_names)), np.uint8)
    for row, name in enumerate(names):
        label_rows[row, [column[label] for label in labels_of[name]]] = 1
    root = folder.absolute()  # the process may change its folder
    files = _Files(root, names, [_state(root / name) for name in names])
    source = Source(
        EncodedImages(
            files.read,
            len(names),
            image_size,
            _stamp(names, files.states),
            fit,
            names,
            files.changed,
        ),
        label_rows,
        np.zeros(len(names), bool),
        tuple(class_names),
        np.array(names),
    )
    _, splits = protocols.Protocol(protocols.stratified(query_share)).apply(
        source, int(seed)
    )
    if not len(splits["query"]):
        raise ValueError(
            "`path` must hold two or more images of a class, of which one becomes a "
            f"query. Received in {printable(folder)}: one image of each of "
            f"{len(class_names)} classes."
        )
    if not len(splits["train"]):
        raise ValueError(
            "`query_share` must leave images to train on. Received: "
            f"query_share={query_share} of {len(names)} images, all of them queries."
        )
    splits = protocols.with_validation(source, splits, validation, int(seed))
    rule = "of each class are queries, the rest trains and is the database"
    protocol = f"{query_share:g} {rule}"
    return source.retrieval_data(folder.resolve().name, protocol, int(seed), splits)


class _Files(NamedTuple):
    """The images of a folder, as they were found; a class, so that it can be pickled.

    Attributes:
        root: `pathlib.Path` of the folder, absolute.
        names: list of str, relative to it.
        states: list; the `_state` of each.
    """

    root: pathlib.Path
    names: list[str]
    states: list[tuple[int, int] | None]

    def read(self, rows: npt.NDArray[np.int64]) -> list[bytes]:
        """The contents of some files."""
        return [content(self.root / self.names[row]) for row in rows]

    def changed(self) -> list[int]:
        """The numbers of those that are no longer as they were found."""
        found = zip(self.names, self.states, strict=True)
        return [
            row
            for row, (name, state) in enumerate(found)
            if _state(self.root / name) != state
        ]


def _labels_from_folders(folder: pathlib.Path) -> dict[str, list[str]]:
    """Map the name of each image to the name of its class folder."""
    labels_of: dict[str, list[str]] = {}
    empty, without_class, linked = [], [], []
    for class_folder in sorted(folder.iterdir()):
        if is_hidden(class_folder.name):
            continue
        if not class_folder.is_dir():
            if class_folder.suffix.lower() in SUFFIXES:
                without_class.append(class_folder.name)
            continue
        if class_folder.is_symlink():  # before a search of the whole disk
            _check_inside(folder, [class_folder.name], "path")
        images = []
        for parent, names, links in walk(os.fspath(class_folder)):
            below = pathlib.Path(parent).relative_to(folder)
            images += [
                (below / name).as_posix()
                for name in names
                if name.lower().endswith(SUFFIXES)
            ]
            linked += [printable(below / name) for name in links]
        labels_of |= {name: [class_folder.name] for name in images}
        if not images:
            empty.append(class_folder.name)
    if linked:
        raise ValueError(
            "`path` must hold images in folders, not behind links to folders. Received "
            f"in {printable(folder)}: {', '.join(linked[:10])}."
        )
    if empty or not labels_of:
        raise ValueError(
            "`path` must hold a folder for each class, with images in it "
            f"({', '.join(SUFFIXES)}). Received: {printable(folder)}, "
            + (f"without images in {empty[:10]}." if empty else "without folders.")
        )
    _check_inside(folder, labels_of, "path")
    if without_class:
        warnings.warn(
            f"Left out of {printable(folder)}, as they are in no class folder: "
            f"{listing(without_class)}.",
            stacklevel=3,
        )
    return labels_of


def _check_inside(folder: pathlib.Path, names: Iterable[str], argument: str) -> None:
    """Check that images lie in the folder, links followed, each under one name."""
    root = folder.resolve()
    name_of: dict[pathlib.Path, str] = {}
    for name in sorted(names):
        try:
            file = pathlib.Path(os.path.realpath(folder / name))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"`{argument}` must name files. Received: {name!r}, {error}."
            ) from error
        if not file.is_relative_to(root):
            raise ValueError(
                f"`{argument}` must hold images in {printable(folder)}. Received a "
                f"file outside of it: {name!r}."
            )
        if file in name_of:
            raise ValueError(
                f"`{argument}` must hold each image once. Received one file under two "
                f"names: {name_of[file]!r}, {name!r}."
            )
        name_of[file] = name


def _read_csv(folder: pathlib.Path, path: pathlib.Path) -> dict[str, list[str]]:
    """Map the name of each image in a CSV file to its labels."""
    lines = _csv_lines(path)
    _, header = next(lines, (1, ["nothing"]))
    if [name.strip() for name in header] != ["file", "labels"]:
        raise ValueError(
            "`labels` must have the header file,labels. Received in "
            f"{printable(path)}: {','.join(header)!r}."
        )
    labels_of: dict[str, list[str]] = {}
    for number, line in lines:
        if not line:
            continue
        if len(line) != 2 or not line[0].strip():
            raise ValueError(
                f"{printable(path)}, line {number} must be a file and its labels, "
                f"separated by `;`. Received: {','.join(line)!r}."
            )
        name = pathlib.PurePath(line[0].strip()).as_posix()
        if name in labels_of:
            raise ValueError(
                f"{printable(path)} must hold each file once. Received again in line "
                f"{number}: {name!r}."
            )
        labels = [label.strip() for label in line[1].split(";")]
        labels_of[name] = [label for label in labels if label]
    # Before any file is looked at: whether one exists elsewhere is nobody's business.
    _check_inside(folder, labels_of, "labels")
    missing = [name for name in labels_of if not os.path.isfile(folder / name)]
    if missing:
        raise ValueError(
            f"`labels` must name files in {printable(folder)}. Missing: "
            f"{listing(missing)}."
        )
    return labels_of


def _csv_lines(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """Read the lines of a CSV file, each with its number."""
    number = 1
    try:
        text = content(path).decode("utf-8-sig")
        # Strict: a quote that is never closed would take all lines that follow.
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        for line in lines:
            if any("\0" in f or f.splitlines() not in ([], [f]) for f in line):
                raise csv.Error("a field with a line end or NUL")
            yield number, line
            number = lines.line_num + 1
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`labels` must be a CSV file. Received: {os.fspath(path)!r} ({error})."
        ) from error
    except csv.Error as error:
        raise ValueError(
            f"`labels` must be a CSV file. Received: {os.fspath(path)!r}, line "
            f"{number} ({error})."
        ) from error


def _find_corrupt(
    folder: pathlib.Path, names: list[str], verbose: str | int
) -> dict[str, str]:
    """Map the names of the images that do not decode to what is wrong with them."""

    def fault(name: str) -> str | None:
        wrong = name_fault(name)
        if wrong:
            return wrong
        try:
            decode(content(folder / name))
        except OSError as error:
            return error.strerror or str(error)
        except ValueError as error:
            return str(error)
        return None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = pool.map(fault, names)
        checked = progress(
            faults, len(names), "Checking images", verbose, count=lambda fault: 1
        )
        return {name: f for name, f in zip(names, checked, strict=True) if f}


def _state(file: pathlib.Path) -> tuple[int, int] | None:
    """The size and modification time of a file; None if it cannot be found."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _stamp(names: list[str], states: list[tuple[int, int] | None]) -> str:
    """Digest the names, sizes and modification times of the images."""
    digest = hashlib.sha256()
    for name, state in zip(names, states, strict=True):
        size, time = state or (0, 0)
        digest.update(f"{name} {size} {time}\n".encode())
    return digest.hexdigest()
