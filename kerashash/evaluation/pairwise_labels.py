"""How right pairwise labels are that were made without labels."""

import numpy as np
import numpy.typing as npt
import scipy.sparse

from kerashash.checks import as_floats, renamed
from kerashash.evaluation.relevance import Relevance

# Pairs that are compared at a time.
_PAIRS = 1 << 20


def pairwise_label_precision(
    similar: scipy.sparse.csr_array, labels: npt.ArrayLike
) -> dict[str, float]:
    """Measure which pairs of images count as similar by the labels of the images.

    Methods that train without labels take neighbours for similar
    (`kerashash.maths.similarity.expanded_neighbours`): too few, and there is little to
    learn; too many, and much of it is wrong.

    Args:
        similar: sparse or dense array ``(n, n)`` of bool, or of 0 and 1, n at least 1;
            True where two images count as similar. The diagonal is left out.
        labels: label rows ``(n, classes)`` of 0 and 1, or class ids ``(n,)``.

    Returns:
        dict of float: ``precision``, the share of similar pairs that share a label;
        ``recall``, the share of pairs with a common label that are similar; and
        ``similar``, the mean number of similar images of an image. A share of no pairs
        is 0.

    Raises:
        TypeError: if `similar` is an array of other things than numbers.
        ValueError: if an argument has another shape or other values, such as -1 for
            pairs that are not similar, or the labels are invalid.

    Example:
        >>> similar = scipy.sparse.csr_array(np.ones((3, 3), bool))
        >>> pairwise_label_precision(similar, [0, 0, 1])["similar"]
        2.0

    Reference:
        DDH (J. Song et al., Deep Discrete Hashing with Self-supervised Pairwise Labels,
        ECML PKDD 2017), figure 2.
    """
    if not scipy.sparse.issparse(similar):
        similar = as_floats(similar, "similar")
    n = similar.shape[0] if similar.ndim else 0
    if similar.shape != (n, n) or not n:
        raise ValueError(
            f"`similar` must have shape (n, n). Received shape: {similar.shape}."
        )
    values = scipy.sparse.coo_array(similar).data  # before those of a pair are added
    wrong = values[(values != 0) & (values != 1)]
    if wrong.size:
        raise ValueError(
            "`similar` must hold 0 and 1, or bool: 1 where two images count as "
            f"similar. Received values: {np.unique(wrong)[:5].tolist()}."
        )
    similar = scipy.sparse.csr_array(similar, copy=True)
    similar.sum_duplicates()  # a pair that is listed twice is one
    rows, columns = similar.nonzero()
    others = rows != columns
    rows, columns = rows[others], columns[others]
    with renamed("query_labels", "labels"):
        relevance = Relevance(labels, labels, n, n)
    right = common = 0
    for start in range(0, len(rows), _PAIRS):
        block = slice(start, start + _PAIRS)
        right += int(relevance.of(rows[block], columns[block, None]).sum())
    everyone, size = np.arange(n), max(1, _PAIRS // n)
    for start in range(0, n, size):
        common += int(relevance.of(everyone[start : start + size]).sum())
    common -= int(relevance.of(everyone, everyone[:, None]).sum())  # the diagonal
    return {
        "precision": right / len(rows) if len(rows) else 0.0,
        "recall": right / common if common else 0.0,
        "similar": len(rows) / n,
    }
