"""Which items are relevant to a query: those that share a label with it."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kerashash import checks

# Widest packed labels, in bytes, that are compared byte by byte.
_FEW_BYTES = 32


class Relevance:
    """Which database items share a label with which query, from packed labels.

    Args:
        query_labels: label rows ``(q, classes)`` of 0 and 1, or class ids ``(q,)``.
        database_labels: as `query_labels`, n rows.
        num_queries: int, q.
        num_items: int, n.

    Attributes:
        single: bool, whether each row has at most one label, packed as a number,
            instead of a set of labels.
        query, database: packed labels, uint8 ``(q, width)`` and ``(n, width)``.

    Raises:
        ValueError: if the labels are invalid or do not match.

    Example:
        >>> labels = [[1, 0]], [[1, 1], [0, 1]]
        >>> Relevance(*labels, num_queries=1, num_items=2).of([0])
        array([[ True, False]])
    """

    def __init__(
        self,
        query_labels: npt.ArrayLike,
        database_labels: npt.ArrayLike,
        num_queries: int,
        num_items: int,
    ) -> None:
        query = _check_labels(query_labels, num_queries, "query_labels")
        database = _check_labels(database_labels, num_items, "database_labels")
        if query.shape[1:] != database.shape[1:]:
            raise ValueError(
                "`query_labels` and `database_labels` must have the same number of "
                f"classes. Received shapes: {query.shape}, {database.shape}."
            )
        if query.ndim == 2:
            query, database = _without_unshared(query, database)
            if all(rows.sum(axis=1).max(initial=0) <= 1 for rows in (query, database)):
                query, database = _ids(query, 0), _ids(database, 1)
        self.single = query.ndim == 1
        self.query, self.database = _pack(query, database)

    def of(
        self,
        rows: slice | Sequence[int] | npt.NDArray[Any],
        items: npt.NDArray[Any] | slice | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Whether items are relevant to some of the queries.

        Args:
            rows: slice or ints, the rows of b queries.
            items: int ``(b, m)``, the items to look at for each query; or a slice of
                the items; None for all n items.

        Returns:
            bool ``(b, m)`` or ``(b, n)``.
        """
        query = self.query[rows][:, None]
        database = self.database if items is None else self.database[items]
        combine = np.bitwise_xor if self.single else np.bitwise_and
        if query.shape[2] > _FEW_BYTES:
            return self._of_many_classes(query[:, 0], database)
        # A loop over bytes, because a reduction over a short axis is slow.
        combined = np.zeros((1, 1), np.uint8)
        for byte in range(query.shape[2]):
            combined = combined | combine(query[..., byte], database[..., byte])
        return np.asarray((combined != 0) != self.single)

    def to(
        self, rows: npt.NDArray[np.intp], mark: np.generic = np.True_
    ) -> Iterator[npt.NDArray[Any]]:
        """Yield which items are relevant, for one query after the other; faster than
        `of`, above all in the order `by_labels`.

        Args:
            rows: int array; the rows of the queries.
            mark: scalar of NumPy; what stands for a relevant item, in place of True.

        Yields:
            Array ``(n,)`` of `mark` and 0, which the next row overwrites.
        """
        n = len(self.database)
        combined, compared = np.empty(n, np.uint8), np.empty(n, np.uint8)
        relevant, marks = np.empty(n, bool), np.empty(n, mark.dtype)
        combine = np.bitwise_xor if self.single else np.bitwise_and
        decide = np.equal if self.single else np.not_equal
        labels = None
        for row in rows:
            if labels is None or not np.array_equal(labels, self.query[row]):
                labels = self.query[row]
                combined[:] = 0
                # Of many classes, a query has few.
                read = range(len(labels)) if self.single else np.flatnonzero(labels)
                for byte in read:
                    combined |= combine(self._by_byte[byte], labels[byte], out=compared)
                decide(combined, 0, out=relevant)
                np.multiply(relevant, mark, out=marks)
            yield marks

    def by_labels(self) -> npt.NDArray[np.intp]:
        """Rows of the queries, those of equal labels one after the other."""
        return np.lexsort(self.query.T)

    @functools.cached_property
    def _by_byte(self) -> npt.NDArray[np.uint8]:
        """The items' packed labels, byte by byte: ``(width, n)``."""
        return np.ascontiguousarray(self.database.T)

    @staticmethod
    def _of_many_classes(
        query: npt.NDArray[np.uint8], database: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.bool_]:
        """Compare sets of labels in the bytes in which the query has labels, few of
        many: query ``(b, width)``, database ``(n, width)`` or ``(b, m, width)``."""
        relevant = np.zeros((len(query), database.shape[-2]), bool)
        for row, labels in enumerate(query):
            items = database if database.ndim == 2 else database[row]
            for byte in np.flatnonzero(labels):
                relevant[row] |= (items[:, byte] & labels[byte]) != 0
        return relevant


def _without_unshared(
    query: npt.NDArray[Any], database: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Label rows as bool, without classes that are not on both sides: they make no
    item relevant."""
    query, database = query != 0, database != 0
    shared = query.any(axis=0) & database.any(axis=0)
    if shared.all():
        return query, database
    return query[:, shared], database[:, shared]


def _ids(rows: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.int64]:
    """Class ids of label rows with at most one label. A row without labels gets an id
    that no row of the other side has."""
    ids = np.full(len(rows), rows.shape[1] + side)
    labelled, classes = np.nonzero(rows)
    ids[labelled] = classes
    return ids


def _pack(
    query: npt.NDArray[Any], database: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Labels as bytes: label rows with one bit a class, or class ids renumbered from 0
    so that they fit in few bytes."""
    if query.ndim == 2:
        return np.packbits(query > 0, axis=1), np.packbits(database > 0, axis=1)
    # As uint64: NumPy's common type of uint64 and int64 is float64, which rounds.
    ids = np.concatenate([query.astype(np.uint64), database.astype(np.uint64)])
    classes, numbers = np.unique(ids, return_inverse=True)
    width = -(-(len(classes) - 1).bit_length() // 8) or 1
    rows = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width]
    return rows[: len(query)], rows[len(query) :]


def _check_labels(labels: npt.ArrayLike, n: int, name: str) -> npt.NDArray[Any]:
    """Class ids ``(n,)`` unchanged, or label rows ``(n, classes)`` of 0 and 1."""
    labels = checks.as_array(labels, name)
    if labels.ndim == 2 and labels.dtype.kind in "uifb":
        if labels.dtype.kind in "ub" and len(labels) == n and labels.max(initial=0) < 2:
            return labels  # right as they are; to convert them takes long
        return checks.check_labels(labels, labels.shape[1], n, name=name)
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise ValueError(
            f"`{name}` must be integer class ids (n,) or label rows (n, classes). "
            f"Received shape: {labels.shape}, dtype: {labels.dtype}."
        )
    if len(labels) != n:
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs. Received shape: "
            f"{labels.shape}."
        )
    if labels.min(initial=0) < 0:
        raise ValueError(
            f"`{name}` must hold class ids of at least 0. Received: {labels.min()}."
        )
    return labels
