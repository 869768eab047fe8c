"""Classification of hash codes by a linear support vector machine."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import checks
from kerashash import codes as hash_codes


def svm_accuracy(
    train: tuple[npt.ArrayLike, npt.ArrayLike],
    validation: tuple[npt.ArrayLike, npt.ArrayLike],
    test: tuple[npt.ArrayLike, npt.ArrayLike],
    bits: int | None = None,
) -> float:
    """Accuracy of a linear support vector machine that classifies hash codes.

    The penalty C is chosen from 1e-5, 1e-4, ..., 1 by the accuracy on the validation
    rows; among equals the smallest is taken.

    Args:
        train, validation, test: tuples ``(codes, labels)``. Codes are packed or not, as
            in `mean_average_precision`; each row has one label: class ids ``(n,)`` or
            label rows ``(n, num_classes)``.
        bits: int, the code length; may be left out for unpacked codes.

    Returns:
        float in [0, 1], the accuracy on the test rows.

    Raises:
        TypeError: if `bits` is not an integer.
        ValueError: if codes or labels are invalid, their numbers differ, a split has no
            rows, or the training rows are all of one class.

    Example:
        >>> rows = [[1, 1], [1, -1], [-1, 1], [-1, -1]], [0, 0, 1, 1]
        >>> svm_accuracy(rows, rows, rows)
        1.0

    Reference:
        DDH (Song et al., ECML PKDD 2017), on Oxford Flowers-17.
    """
    from sklearn.svm import SVC

    splits = []
    for name, pair in (("train", train), ("validation", validation), ("test", test)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"`{name}` must be a pair (codes, labels). Received type: "
                f"{type(pair).__name__}."
            )
        codes, labels = pair
        packed, bits = hash_codes.as_packed(codes, bits, name)
        class_ids = _class_ids(labels, len(packed), name)
        splits.append((hash_codes.unpack(packed, bits).astype(np.float32), class_ids))
    if np.all(splits[0][1] == splits[0][1][0]):
        raise ValueError(
            "`train` must have rows of two classes or more. Received one class, "
            f"{splits[0][1][0]}."
        )
    fitted = (
        SVC(kernel="linear", C=penalty).fit(*splits[0])
        for penalty in 10.0 ** np.arange(-5, 1)
    )
    best = max(fitted, key=lambda svm: svm.score(*splits[1]))
    return float(best.score(*splits[2]))


def _class_ids(labels: npt.ArrayLike, num_codes: int, name: str) -> npt.NDArray[Any]:
    """Class ids ``(num_codes,)`` of class ids or one-hot label rows."""
    class_ids = checks.as_array(labels, name)
    if class_ids.ndim == 2:
        rows = checks.check_labels(class_ids, class_ids.shape[1], name=name)
        wrong = np.flatnonzero(rows.sum(axis=1) != 1)
        if wrong.size:
            raise ValueError(
                f"`{name}` must have one label for each row. Received no label, or "
                f"more than one, in rows {wrong[:5].tolist()}."
            )
        class_ids = rows.argmax(axis=1)
    if class_ids.shape != (num_codes,) or not num_codes:
        raise ValueError(
            f"`{name}` must have codes, and as many labels. Received: {num_codes} "
            f"codes and labels of shape {class_ids.shape}."
        )
    if class_ids.dtype.kind not in "ui":
        raise ValueError(
            f"`{name}` must have integer class ids or label rows. Received dtype: "
            f"{class_ids.dtype}."
        )
    if class_ids.min() < 0:
        raise ValueError(
            f"`{name}` must have class ids of at least 0. Received: {class_ids.min()}."
        )
    return class_ids
