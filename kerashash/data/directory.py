"""A user's own folder of images as a data set."""

import concurrent.futures
import csv
import hashlib
import os
import pathlib
import warnings

import numpy as np
import tensorflow as tf

from kerashash.checks import check_choices, check_integer, listing
from kerashash.data import protocols
from kerashash.data.images import EncodedImages
from kerashash.data.inputs import progress
from kerashash.data.retrieval_data import RetrievalData
from kerashash.data.sources import Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
CHOICES = {"corrupt": ("raise", "skip")}


def from_directory(
    path,
    labels=None,
    image_size=224,
    query_share=0.1,
    seed=0,
    corrupt="raise",
    verbose="auto",
):
    """A folder of images as a data set with queries and a database.

    Of each class the same share of images is drawn as queries; the others train and are
    the database. The draw depends on the seed and the files' names alone.

    Args:
        path: path of a folder. Without `labels` each of its folders is a class, with
            images in it at any depth.
        labels: path of a CSV file with a header ``file,labels``: an image's path below
            `path`, and its labels, separated by ``;``. Empty: the image has none.
            Images that are not in it are left out.
        image_size: int, the side in pixels to which images are resized.
        query_share: float in (0, 1).
        seed: int in [0, 2^32); it seeds the order of the training images too.
        corrupt: what to do about files that are no whole JPEG, PNG, BMP or GIF image:
            "raise", or "skip" to leave them out with a `UserWarning`.
        verbose: "auto" shows a progress bar on long work, 1 always, 0 never. Every file
            is decoded once, to know.

    Returns:
        `RetrievalData`; classes are in order of their names, images stay files until
        they are read.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the folder holds no images, the CSV file is wrong, or images are
            missing or corrupt; it names them.

    Example:
        >>> for label in ("cat", "dog"):
        ...     for i in range(5):
        ...         os.makedirs(f"pets/{label}", exist_ok=True)
        ...         image = tf.cast(tf.random.uniform((9, 9, 3)) * 255, tf.uint8)
        ...         tf.io.write_file(f"pets/{label}/{i}.png", tf.io.encode_png(image))
        >>> data = from_directory("pets", image_size=32, query_share=0.2)
        >>> data.class_names, data.num_train, data.num_query
        (('cat', 'dog'), 8, 2)
    """
    check_choices(CHOICES, corrupt=corrupt)
    check_integer("image_size", image_size)
    check_integer("seed", seed, least=0, most=2**32 - 1)
    if not 0 < query_share < 1:
        raise ValueError(f"`query_share` must be in (0, 1). Received: {query_share}.")
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"`path` must be a folder. Received: {os.fspath(path)!r}.")
    found = _class_folders(folder) if labels is None else _table(folder, labels)
    faults = _faults(folder, sorted(found), verbose)
    if faults:
        text = listing([f"{name} ({fault})" for name, fault in faults.items()])
        if corrupt == "raise":
            raise ValueError(
                f"`path` must hold whole images; corrupt='skip' leaves others out. "
                f"Received in {folder}: {text}."
            )
        warnings.warn(f"Left out of {folder}: {text}.", stacklevel=2)
    names = [name for name in sorted(found) if name not in faults]
    class_names = sorted({label for name in names for label in found[name]})
    if len(names) < 2 or not class_names:
        raise ValueError(
            "`path` must hold two images or more, and a label or more. Received: "
            f"{len(names)} images, {len(class_names)} labels in {folder}."
        )
    column = {label: c for c, label in enumerate(class_names)}
    rows = np.zeros((len(names), len(class_names)), np.uint8)
    for row, name in enumerate(names):
        rows[row, [column[label] for label in found[name]]] = 1
    source = Source(
        EncodedImages(
            lambda rows: [(folder / names[row]).read_bytes() for row in rows],
            len(names),
            image_size,
            _stamp(folder, names),
        ),
        rows,
        np.zeros(len(names), bool),
        tuple(class_names),
        np.array(names),
    )
    _, splits = protocols.Protocol(protocols.stratified(query_share)).apply(
        source, int(seed)
    )
    return RetrievalData(
        name=folder.resolve().name,
        protocol=f"{query_share:g} of each class are queries",
        seed=int(seed),
        class_names=source.class_names,
        splits=splits,
        x=source.x,
        labels=source.labels,
        names=source.names,
    )


def _class_folders(folder):
    """Name of each image to its labels, the folder that it is in."""
    found, empty = {}, []
    for class_folder in sorted(folder.iterdir()):
        if not class_folder.is_dir() or class_folder.name.startswith("."):
            continue
        images = [
            file.relative_to(folder).as_posix()
            for file in class_folder.rglob("*")
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        ]
        found |= {name: [class_folder.name] for name in images}
        if not images:
            empty.append(class_folder.name)
    if empty or not found:
        raise ValueError(
            "`path` must hold a folder for each class, with images in it "
            f"({', '.join(SUFFIXES)}). Received: {folder}, "
            + (f"without images in {empty[:10]}." if empty else "without folders.")
        )
    return found


def _table(folder, path):
    """Name of each image to its labels, from a CSV file."""
    path = pathlib.Path(path).expanduser()
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"`labels` must be a CSV file. Received: {os.fspath(path)!r} ({error})."
        ) from error
    if not lines or [name.strip() for name in lines[0]] != ["file", "labels"]:
        raise ValueError(
            f"`labels` must have the header file,labels. Received in {path}: "
            f"{','.join(lines[0]) if lines else 'nothing'!r}."
        )
    found = {}
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        if len(line) != 2 or not line[0].strip():
            raise ValueError(
                f"{path}, line {number} must be a file and its labels, separated by "
                f"`;`. Received: {','.join(line)!r}."
            )
        name = pathlib.PurePath(line[0].strip()).as_posix()
        if name in found:
            raise ValueError(
                f"{path} must hold each file once. Received again in line {number}: "
                f"{name!r}."
            )
        found[name] = [label.strip() for label in line[1].split(";") if label.strip()]
    missing = [name for name in found if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"`labels` must name files in {folder}. Missing: {listing(missing)}."
        )
    return found


def _faults(folder, names, verbose):
    """What is wrong with each image that cannot be read."""

    def fault(name):
        data = (folder / name).read_bytes()
        if not data:
            return "empty"
        try:
            tf.io.decode_image(data, channels=3, expand_animations=False)
        except tf.errors.InvalidArgumentError:
            return "no image, or cut off"
        return None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = progress(pool.map(fault, names), len(names), "Checking images", verbose)
        return {name: f for name, f in zip(names, found, strict=True) if f}


def _stamp(folder, names):
    """Differs where an image has been changed."""
    digest = hashlib.sha256()
    for name in names:
        stat = (folder / name).stat()
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
