"""What users hand to a model, cut into batches."""

import os
import time

import keras
import numpy as np
import tensorflow as tf

from kerashash.checks import check_array, check_integer


def batches(x, batch_size, shape=None, image_size=None):
    """Cut whatever a user wants encoded into batches.

    Args:
        x: array ``(n, ...)``; `tf.data.Dataset` of ``x`` or ``(x, y)``, batched
            or not; or a list of paths of image files.
        batch_size: int, rows of a batch (a batched data set keeps its own).
        shape: tuple or None, the shape of a batch, None where free.
        image_size: int or None, the side to which image files are resized.

    Returns:
        ``(iterable of batches, number of batches or None)``.

    Raises:
        TypeError, ValueError: if `x` is none of these.
    """
    check_integer("batch_size", batch_size)
    if isinstance(x, tf.data.Dataset):
        return _dataset_batches(x, batch_size, shape)
    if isinstance(x, str | os.PathLike):
        raise TypeError(
            f"`x` must be a list of paths, not one path. Received: {x!r}. "
            f"Did you mean [{str(x)!r}]?"
        )
    if isinstance(x, list | tuple) and x and isinstance(x[0], str | os.PathLike):
        if image_size is None:
            raise ValueError(
                "`x` must hold feature vectors: this model's backbone takes no "
                f"images. Received a list of {len(x)} paths."
            )
        starts = range(0, len(x), batch_size)
        return (
            np.stack([read_image(p, image_size) for p in x[s : s + batch_size]])
            for s in starts
        ), len(starts)
    x = check_array(x, shape)
    starts = range(0, len(x), batch_size)
    return (x[s : s + batch_size] for s in starts), len(starts)


def _dataset_batches(dataset, batch_size, shape):
    spec = dataset.element_spec
    x, y = spec if isinstance(spec, tuple) and len(spec) == 2 else (spec, None)
    if not isinstance(x, tf.TensorSpec):
        raise ValueError(
            "`x` must be a data set of x or (x, y) where x is one tensor. "
            f"Received elements: {spec}."
        )
    if isinstance(spec, tuple):
        dataset = dataset.map(lambda x, y: x)
    # A model that has seen no input does not know its shape: a label row tells.
    single = isinstance(y, dict) and "label" in y and y["label"].shape.rank == 1
    if x.shape.rank == len(shape) - 1 if shape is not None else single:
        dataset = dataset.batch(batch_size)
    x = dataset.element_spec
    if shape is not None and not x.shape.is_compatible_with(shape):
        raise ValueError(
            f"`x` must yield batches of shape {tuple(shape)}. "
            f"Received shape: {x.shape}."
        )
    return dataset.prefetch(tf.data.AUTOTUNE), _count(dataset)


def _count(dataset):
    """Number of elements, or None if unknown."""
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`x` must be finite. Received a data set that repeats: remove `.repeat()`."
        )
    return count if count >= 0 else None


def check_batches(dataset, num_classes, needs_labels, needs_index, owner):
    """Validate that a data set yields the batches a method trains on.

    Args:
        dataset: `tf.data.Dataset`.
        num_classes: int, the width of a label row.
        needs_labels: bool, whether the method learns from labels.
        needs_index: bool, whether the method keeps a row for each training image.
        owner: str, the method to name in an error.

    Raises:
        ValueError: if an element is not ``(x, {"label", "index"})`` in batches.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        keys = [f"{key!r}: ..." for key in ("label", "index")]
        wanted = ", ".join(keys if needs_labels else keys[1:])
        raise ValueError(
            f"`{owner}` trains on pairs (x, y) with y = {{{wanted}}}. "
            "`kerashash.data.indexed(dataset)` adds the index. "
            f"Received elements: {spec}."
        )
    y = spec[1]
    label = y.get("label") if isinstance(y, dict) else y
    if needs_labels and label is None:
        raise ValueError(f"`{owner}` needs 'label' in y. Received keys: {sorted(y)}.")
    if needs_index and not (isinstance(y, dict) and "index" in y):
        received = f"keys: {sorted(y)}" if isinstance(y, dict) else "labels only"
        raise ValueError(
            f"`{owner}` keeps a row for each training image and needs 'index' in "
            "y: the row's number, int32 (batch,). `kerashash.data.indexed(dataset)` "
            f"adds it. Received {received}."
        )
    if needs_index and y["index"].shape.rank not in (None, 1):
        raise ValueError(
            f"`{owner}` needs batches with 'index' of shape (batch,). Received index "
            f"of shape {y['index'].shape}: a data set must be batched, "
            "`dataset.batch(128)`."
        )
    if not needs_labels:
        return
    if label.shape.rank is not None and label.shape.rank != 2:
        raise ValueError(
            f"`{owner}` needs batches with labels of shape (batch, num_classes). "
            f"Received labels of shape {label.shape}: a data set must be batched, "
            "`dataset.batch(128)`, with one row for each example."
        )
    width = label.shape[1] if label.shape.rank else None
    if width not in (None, num_classes):
        raise ValueError(
            f"`{owner}` needs label rows of width num_classes={num_classes}. "
            f"Received width: {width}."
        )


def read_image(path, size):
    """Read an image file as RGB, resized to a square.

    Args:
        path: str or path of a JPEG, PNG, BMP or GIF (first frame) file.
        size: int, the side in pixels; the aspect ratio is not kept.

    Returns:
        float32 array ``(size, size, 3)``, values in [0, 255].

    Raises:
        ValueError: if the file is missing or is not an image, naming it.
    """
    try:
        image = tf.io.decode_image(
            tf.io.read_file(os.fspath(path)), channels=3, expand_animations=False
        )
    except tf.errors.OpError as error:
        problem = "no such file" if not os.path.exists(path) else "not a readable image"
        raise ValueError(
            f"`x` must hold paths of image files. Received: {os.fspath(path)!r} "
            f"({problem})."
        ) from error
    image = tf.image.resize(image, (size, size), "bicubic", antialias=True)
    return np.clip(image.numpy(), 0.0, 255.0)


def collect(batches, num_train, function, check_labels=None, verbose="auto"):
    """One pass over training batches: labels and outputs in order of the index.

    Args:
        batches: iterable of ``(x, {"label", "index"})``; each index from 0 to
            num_train - 1 once.
        num_train: int, the number of training rows.
        function: called with ``(x, labels)`` of a batch; returns a tensor with one
            row for each.
        check_labels: called with the labels of a batch; returns float32 label rows.
            None takes batches without labels, ``(x, {"index"})``, and calls
            `function` with x alone.
        verbose: as in `progress`.

    Returns:
        ``(labels, outputs)``: float32 ``(num_train, num_classes)``, or None, and
        float32 ``(num_train, ...)``.

    Raises:
        ValueError: if an index is out of range, missing or repeated, or a label row
            is wrong.
    """
    steps = _count(batches) if isinstance(batches, tf.data.Dataset) else None
    seen = np.zeros(num_train, bool)
    found = {}

    def put(name, index, rows):
        if name not in found:
            found[name] = np.zeros((num_train, *rows.shape[1:]), np.float32)
        found[name][index] = rows

    for x, y in progress(batches, steps, "Preparing", verbose):
        index = np.asarray(y["index"])
        _check_index(index, seen)
        seen[index] = True
        if check_labels is None:
            put("output", index, function(x).numpy())
        else:
            rows = check_labels(y["label"])
            put("label", index, rows)
            put("output", index, function(x, rows).numpy())
    if not seen.all():
        raise ValueError(
            "`num_train` must be the number of training rows. Received: num_train="
            f"{num_train}, but an epoch holds {seen.sum()} indices; the first missing "
            f"is {np.argmin(seen)}."
        )
    return found.get("label"), found["output"]


def _check_index(index, seen):
    """Each training row once: an index in range and not seen before."""
    n = len(seen)
    if index.dtype.kind not in "ui" or index.ndim != 1:
        raise ValueError(
            "`index` must be integers of shape (batch,). Received dtype: "
            f"{index.dtype}, shape: {index.shape}."
        )
    if index.min() < 0 or index.max() >= n:
        raise ValueError(
            f"`index` must lie in 0 to num_train - 1 = {n - 1}. Received values from "
            f"{index.min()} to {index.max()}."
        )
    values, counts = np.unique(index, return_counts=True)
    repeated = values[(counts > 1) | seen[values]]
    if repeated.size:
        raise ValueError(
            "`index` must hold each training row once an epoch. Received again: "
            f"{repeated[:5].tolist()}."
        )


def progress(iterable, steps, title, verbose="auto"):
    """Pass an iterable through, with a progress bar on long work.

    Args:
        iterable: what to pass through.
        steps: int or None, its length if known.
        title: str, printed before the bar.
        verbose: "auto" shows the bar once the work has taken two seconds; 1
            always, 0 never.

    Yields:
        The items of `iterable`.
    """
    start, bar = time.monotonic(), None
    for step, item in enumerate(iterable, 1):
        yield item
        late = verbose == "auto" and time.monotonic() - start > 2.0
        if bar is None and (verbose == 1 or late):
            print(title)
            bar = keras.utils.Progbar(steps, unit_name="batch")
        if bar is not None:
            bar.update(step, finalize=None)
