"""indexed: number the elements of a data set."""

import tensorflow as tf

from kerashash.checks import check_integer


def indexed(dataset, start=0):
    """Add to each element its number, the row of the learned codes it belongs to.

    Apply it before `shuffle`, `repeat` and `batch`: after them an element would not
    keep its number.

    Args:
        dataset: `tf.data.Dataset`, not batched, of ``(x, label)`` or ``(x, {"label":
            label})`` with a label row ``(num_classes,)``; or of ``x``, for methods that
            need no labels.
        start: int, at least 0, the number of the first element.

    Returns:
        `tf.data.Dataset` of ``(x, {"label": float32, "index": int32})``, without
        "label" if there is none.

    Raises:
        TypeError: if `dataset` is not a `tf.data.Dataset` or `start` no integer.
        ValueError: if its elements are not such pairs, or `start` is negative.

    Example:
        >>> import numpy as np
        >>> pairs = tf.data.Dataset.from_tensor_slices((np.zeros((3, 4)), np.eye(3)))
        >>> [int(y["index"]) for _, y in indexed(pairs)]
        [0, 1, 2]
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "`dataset` must be a tf.data.Dataset. Received type: "
            f"{type(dataset).__name__}."
        )
    check_integer("start", start, least=0)
    if isinstance(dataset.element_spec, tf.TensorSpec):
        return dataset.enumerate(start).map(
            lambda index, x: (x, {"index": tf.cast(index, tf.int32)})
        )
    if not _is_label_row(_label(dataset.element_spec)):
        raise ValueError(
            "`dataset` must have elements x, (x, label) or (x, {'label': label}), not "
            "batched, with a label row (num_classes,) of numbers. Received elements: "
            f"{dataset.element_spec}."
        )

    def element(index, pair):
        return pair[0], {
            "label": tf.cast(_label(pair), tf.float32),
            "index": tf.cast(index, tf.int32),
        }

    return dataset.enumerate(start).map(element)


def _label(pair):
    """The label of ``(x, label)`` or ``(x, {"label": label})``, if it is such."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        return None
    y = pair[1]
    return y.get("label") if isinstance(y, dict) else y


def _is_label_row(spec):
    # A vector of unknown length is what a batch of class numbers looks like.
    return (
        isinstance(spec, tf.TensorSpec)
        and spec.shape.rank == 1
        and spec.shape[0] is not None
        and (spec.dtype.is_floating or spec.dtype.is_integer or spec.dtype.is_bool)
    )
