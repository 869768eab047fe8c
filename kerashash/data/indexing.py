"""indexed: number the elements of a data set."""

from typing import Any

import tensorflow as tf

from kerashash.checks import check_integer


def indexed(dataset: tf.data.Dataset, start: int = 0) -> tf.data.Dataset:
    """Number the elements: add to each the index of its row of the learned codes.

    Call it before `shuffle`, `repeat` and `batch`. After them, the same image would get
    another number in each epoch.

    Args:
        dataset: `tf.data.Dataset`, not batched, of ``(x, label)`` or ``(x, {"label":
            label})`` with a label row ``(num_classes,)`` or a class id, an integer
            ``()``; or of ``x`` alone, for
            methods that need no labels.
        start: int, at least 0; the number of the first element.

    Returns:
        `tf.data.Dataset` of ``(x, {"label", "index": int32})``; label rows are float32,
        and class ids as they were. Without "label" if `dataset` has none. Other items
        of a dict stay.

    Raises:
        TypeError: if `dataset` is not a `tf.data.Dataset` or `start` not an integer.
        ValueError: if the elements of `dataset` are of another form or numbered
            already, `start` is negative, or a number would not fit into int32.

    Example:
        >>> import kerashash, numpy as np
        >>> pairs = tf.data.Dataset.from_tensor_slices((np.zeros((3, 4)), np.eye(3)))
        >>> [int(y["index"]) for _, y in kerashash.data.indexed(pairs)]
        [0, 1, 2]
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "`dataset` must be a tf.data.Dataset. Received type: "
            f"{type(dataset).__name__}."
        )
    check_integer("start", start, least=0, most=2**31 - 1)
    count = int(dataset.cardinality())  # negative if it is infinite or not known
    if start + count > 2**31:
        raise ValueError(
            "`start` must leave numbers below 2^31 for all elements. Received: "
            f"start={start}, {count} elements."
        )
    if isinstance(dataset.element_spec, tf.TensorSpec):
        return dataset.enumerate(start).map(
            lambda index, x: (x, {"index": tf.cast(index, tf.int32)})
        )
    label_spec = _label(dataset.element_spec)
    has_more = label_spec is not None and isinstance(dataset.element_spec[1], dict)
    if has_more and "index" in dataset.element_spec[1]:
        raise ValueError(
            "`dataset` must have elements that are not numbered yet. Received an "
            f'"index" in elements: {dataset.element_spec}.'
        )
    is_id = (
        isinstance(label_spec, tf.TensorSpec)
        and label_spec.shape.rank == 0
        and label_spec.dtype.is_integer
    )
    if not is_id and not _is_label_row(label_spec):
        raise ValueError(
            "`dataset` must have elements x, (x, label) or (x, {'label': label}), not "
            "batched, with a label row (num_classes,) of numbers or an integer class "
            f"id. Received elements: {dataset.element_spec}."
        )

    def add_index(index: tf.Tensor, pair: Any) -> tuple[tf.Tensor, dict[str, Any]]:
        return pair[0], {
            **(pair[1] if has_more else {}),
            "label": _label(pair) if is_id else tf.cast(_label(pair), tf.float32),
            "index": tf.cast(index, tf.int32),
        }

    return dataset.enumerate(start).map(add_index)


def _label(pair: Any) -> Any:
    """Return the label of ``(x, label)`` or ``(x, {"label": label})``, else None."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        return None
    y = pair[1]
    return y.get("label") if isinstance(y, dict) else y


def _is_label_row(spec: Any) -> bool:
    """Say whether a spec is that of a numeric label row ``(num_classes,)``."""
    # Of known length: a batch of class ids is a vector of unknown length.
    return (
        isinstance(spec, tf.TensorSpec)
        and spec.shape.rank == 1
        and spec.shape[0] is not None
        and (spec.dtype.is_floating or spec.dtype.is_integer or spec.dtype.is_bool)
    )
