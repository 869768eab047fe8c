"""Groups of nodes that are linked more than by chance: modularity."""

import numpy as np
import numpy.typing as npt

from kerashash.checks import as_array, as_floats

__all__ = ["find_communities", "modularity"]
__dir__ = __all__.copy  # what completion offers


def modularity(weights: npt.ArrayLike, groups: npt.ArrayLike) -> float:
    """How much more weight lies within groups than chance would put there.

    Formula:
        Q = 1 / 2m  sum_ij (w_ij - k_i k_j / 2m) [i and j are in one group],
        k_i = sum_j w_ij,  2m = sum_i k_i

    Args:
        weights: float array ``(n, n)``, symmetric, at least 0; what links two nodes.
        groups: integer array ``(n,)``; the group of each node.

    Returns:
        float in [-0.5, 1]; 0 if all nodes are in one group, or if nothing links them.

    Raises:
        TypeError: if `weights` are not numbers.
        ValueError: if `weights` is not symmetric, or negative, or not finite, or does
            not match `groups`.

    Example:
        >>> two_pairs = np.kron(np.eye(2), 1 - np.eye(2))
        >>> modularity(two_pairs, [0, 0, 1, 1])
        0.5

    Reference:
        M. E. J. Newman, Analysis of weighted networks, Physical Review E 2004.
    """
    weights, groups = _checked(weights), as_array(groups, "groups")
    if groups.shape != weights.shape[:1]:
        raise ValueError(
            f"`groups` must have shape ({len(weights)},), as `weights`. Received "
            f"shape: {groups.shape}."
        )
    same = groups[:, None] == groups
    return float(_gains(weights)[same].sum())


def find_communities(weights: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Group nodes such that most weight lies within the groups.

    Solves:
        max Q over the groups of all nodes, where Q is the `modularity`; greedily: each
        node begins as a group, and the two groups that raise Q most are merged, or a
        node moves to another group, until nothing raises it.

    Args:
        weights: float array ``(n, n)``, symmetric, at least 0; what links two nodes.

    Returns:
        int array ``(n,)``; the group of each node, from 0, in order of their first
        nodes.

    Raises:
        TypeError: if `weights` are not numbers.
        ValueError: if `weights` is not square and symmetric, or negative, or not
            finite.

    Example:
        >>> two_pairs = np.kron(np.eye(2), 1 - np.eye(2))
        >>> find_communities(two_pairs)
        array([0, 0, 1, 1])

    Reference:
        A. Clauset, M. E. J. Newman, C. Moore, Finding community structure in very large
        networks, Physical Review E 2004; the moves of nodes are those of V. D. Blondel
        et al., Fast unfolding of communities in large networks, 2008.
    """
    gains = _gains(_checked(weights))  # (n, n)
    n = len(gains)
    member = np.eye(n)  # (nodes, groups)
    while True:
        between = member.T @ gains @ member  # (groups, groups)
        np.fill_diagonal(between, -np.inf)
        first, second = np.unravel_index(np.argmax(between), between.shape)
        if n < 2 or between[first, second] <= _TOLERANCE:
            break
        member[:, first] += member[:, second]
        member[:, second] = 0
    moved = True
    while moved:
        moved = False
        for node in range(n):
            own = int(np.argmax(member[node]))
            member[node] = 0
            to = gains[node] @ member  # what the node adds to each group
            best = int(np.argmax(to))
            if to[best] <= to[own] + _TOLERANCE:
                best = own
            moved |= best != own
            member[node, best] = 1
    _, first_nodes, groups = np.unique(
        np.argmax(member, axis=1), return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first_nodes))[groups]


# Less than this is a rounding error.
_TOLERANCE = 1e-12


def _gains(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What each two nodes add to the modularity if they are in one group."""
    degrees = weights.sum(axis=1)
    total = degrees.sum()
    if not total:
        return weights
    return weights / total - np.outer(degrees, degrees) / total**2


def _checked(weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The weights as a share of the largest: groups do not depend on their unit."""
    values = as_floats(weights, "weights").astype(np.float64)
    if values.ndim != 2 or len({*values.shape}) != 1 or values.size == 0:
        raise ValueError(
            f"`weights` must have shape (n, n). Received shape: {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError("`weights` must be finite. Received NaN or infinity.")
    shares = values / (np.abs(values).max() or 1.0)
    if not (shares >= 0).all() or not np.allclose(shares, shares.T):
        raise ValueError(
            "`weights` must be symmetric and at least 0. Received values from "
            f"{values.min()} to {values.max()}, and differences of up to "
            f"{np.abs(values - values.T).max()} to the transposed array."
        )
    return shares
