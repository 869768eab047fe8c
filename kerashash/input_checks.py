"""Checks of arrays, labels and data sets that users hand to a model."""

import numpy as np


def check_array(x, shape=None, name="x"):
    """Validate images or feature vectors given as one array.

    Args:
        x: array-like ``(n, ...)`` of integers or floats.
        shape: tuple or None; the shape to demand, None where free.
        name: str, the argument to name in an error.

    Returns:
        uint8 or float32 array.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong or a value is not finite.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "uif":
        raise TypeError(
            f"`{name}` must hold integers or floats. Received dtype: {x.dtype}."
        )
    fits = shape is None or (
        x.ndim == len(shape)
        and all(want in (None, got) for want, got in zip(shape, x.shape, strict=True))
    )
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in ("n", *shape[1:]))
        raise ValueError(
            f"`{name}` must have shape ({wanted}). Received shape: {x.shape}."
        )
    if x.dtype != np.uint8:
        x = x.astype(np.float32, copy=False)
        finite = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        if not finite.all():
            raise ValueError(
                f"`{name}` must be finite. Received NaN or infinity in rows "
                f"{np.flatnonzero(~finite)[:5].tolist()}."
            )
    return x


def check_labels(y, num_classes, n=None, unknown=False, name="y"):
    """Validate labels given as one array.

    Args:
        y: integer array ``(n,)`` of class ids, or array ``(n, num_classes)``
            with 1 where an image has the label and 0 where not.
        num_classes: int, the number of labels.
        n: int or None, the number of rows to demand.
        unknown: bool, whether -1 ("not known") is a value too.
        name: str, the argument to name in an error.

    Returns:
        float32 array ``(n, num_classes)``.

    Raises:
        ValueError: if the shape or a value is wrong.
    """
    y = np.asarray(y)
    if n is not None and (y.ndim == 0 or len(y) != n):
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs. "
            f"Received shape: {y.shape}."
        )
    if y.ndim == 1 and y.dtype.kind in "ui":
        if y.size and (y.min() < 0 or y.max() >= num_classes):
            raise ValueError(
                f"`{name}` must hold class ids from 0 to num_classes - 1 = "
                f"{num_classes - 1}. Received ids from {y.min()} to {y.max()}."
            )
        return np.eye(num_classes, dtype=np.float32)[y]
    if y.ndim != 2 or y.shape[1] != num_classes:
        raise ValueError(
            f"`{name}` must be integer class ids of shape (n,) or label rows of "
            f"shape (n, num_classes={num_classes}). Received shape: {y.shape}, "
            f"dtype: {y.dtype}."
        )
    allowed = (0, 1, -1) if unknown else (0, 1)
    valid = np.isin(y, allowed)
    if not valid.all():
        raise ValueError(
            f"`{name}` must contain only {', '.join(map(str, allowed))}. "
            f"Received values: {np.unique(y[~valid])[:5]}."
        )
    return y.astype(np.float32)


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
