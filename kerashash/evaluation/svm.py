"""Classification of hash codes by a linear support vector machine."""

import numpy as np

from kerashash import codes as hash_codes


def svm_accuracy(train, validation, test, bits=None):
    """How many labels a linear support vector machine gets right from hash codes.

    Its penalty is the one of 1e-5, 1e-4, ..., 1 that does best on the validation rows,
    the least of equals.

    Args:
        train, validation, test: pairs of hash codes, packed or not as in
            `mean_average_precision`, and labels, one for each row: class ids ``(n,)``
            or label rows ``(n, num_classes)``.
        bits: int, the code length; may be left out for unpacked codes.

    Returns:
        float in [0, 1], on the test rows.

    Raises:
        TypeError, ValueError: if codes or labels are not what they must be.

    Example:
        >>> rows = [[1, 1], [1, -1], [-1, 1], [-1, -1]], [0, 0, 1, 1]
        >>> svm_accuracy(rows, rows, rows)
        1.0

    Reference:
        DDH (Song et al., ECML PKDD 2017), on Oxford Flowers-17.
    """
    from sklearn.svm import SVC

    parts = []
    for name, (its, labels) in zip(
        ("train", "validation", "test"), (train, validation, test), strict=True
    ):
        its, bits = hash_codes.as_packed(its, bits, name)
        labels = np.asarray(labels)
        if labels.ndim == 2:
            several = np.flatnonzero(np.count_nonzero(labels, axis=1) != 1)
            if several.size:
                raise ValueError(
                    f"`{name}` must have one label for each row. Received none or "
                    f"several in rows {several[:5].tolist()}."
                )
            labels = labels.argmax(axis=1)
        if labels.shape != (len(its),):
            raise ValueError(
                f"`{name}` must have as many labels as codes. Received: {len(its)} "
                f"codes and labels of shape {labels.shape}."
            )
        parts.append((hash_codes.unpack(its, bits).astype(np.float32), labels))
    train, validation, test = parts
    machines = (SVC(kernel="linear", C=c).fit(*train) for c in 10.0 ** np.arange(-5, 1))
    return float(max(machines, key=lambda svm: svm.score(*validation)).score(*test))
