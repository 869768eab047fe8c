import itertools

import numpy as np
import pytest

from kerashash.maths.communities import find_communities, modularity


def weights(rng, n, groups):
    """Random links, of which those within groups are heavier."""
    groups = np.arange(n) % groups
    values = rng.random((n, n)) * (1 + 2 * (groups[:, None] == groups))
    values = np.triu(values, 1)
    return values + values.T


def partitions(n):
    """All ways to group n nodes."""
    for groups in itertools.product(range(n), repeat=n):
        if all(g <= max(groups[:i], default=-1) + 1 for i, g in enumerate(groups)):
            yield np.array(groups)


def test_modularity_is_its_definition(rng):
    w, groups = weights(rng, 6, 2), np.array([0, 1, 1, 0, 2, 2])
    total, degrees = w.sum(), w.sum(axis=1)
    expected = sum(
        (w[i, j] - degrees[i] * degrees[j] / total) / total
        for i in range(6)
        for j in range(6)
        if groups[i] == groups[j]
    )
    assert modularity(w, groups) == pytest.approx(expected)
    assert modularity(w, np.zeros(6, int)) == pytest.approx(0)
    assert modularity(3 * w, groups) == pytest.approx(expected)


def test_groups_are_about_the_best_there_are():
    for seed in range(5):
        w = weights(np.random.default_rng(seed), 6, 2)
        best = max(modularity(w, groups) for groups in partitions(6))
        assert modularity(w, find_communities(w)) >= best - 0.02


def test_no_move_of_a_node_raises_the_modularity():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        w = weights(rng, 12, 1) * (rng.random((12, 12)) < 0.3)  # few links, no groups
        w = w + w.T
        groups = find_communities(w)
        reached = modularity(w, groups)
        for node, group in itertools.product(range(12), range(13)):  # or alone
            moved = groups.copy()
            moved[node] = group
            assert modularity(w, moved) <= reached + 1e-9


def test_cliques_are_found_whatever_the_order_of_their_nodes(rng):
    truth = rng.permutation(np.repeat(np.arange(4), 5))
    w = (truth[:, None] == truth) * 1.0 + 0.05
    np.fill_diagonal(w, 0)
    groups = find_communities(w)
    np.testing.assert_array_equal(groups[:, None] == groups, truth[:, None] == truth)
    # Numbered in order of their first nodes.
    assert [*dict.fromkeys(groups.tolist())] == [0, 1, 2, 3]


def test_nodes_without_links_stay_alone():
    np.testing.assert_array_equal(find_communities(np.zeros((3, 3))), [0, 1, 2])
    np.testing.assert_array_equal(find_communities([[0.0]]), [0])


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e200, 1e300])
def test_groups_do_not_depend_on_the_unit(unit, rng):
    w = weights(rng, 12, 3)
    np.testing.assert_array_equal(find_communities(unit * w), find_communities(w))
    groups = np.arange(12) % 3
    assert modularity(unit * w, groups) == pytest.approx(modularity(w, groups))


@pytest.mark.parametrize(
    "w",
    [
        [1.0],
        [[0, 1], [2, 0]],
        [[0, -1], [-1, 0]],
        [[0, np.inf], [np.inf, 0]],
        [[0, np.nan], [np.nan, 0]],
        [[0, 1e-12], [2e-12, 0]],
        [["a", "b"], ["b", "a"]],
        [[0, 1], [1]],
    ],
)
def test_wrong_weights_are_named(w):
    with pytest.raises((TypeError, ValueError), match="`weights` must"):
        find_communities(w)
    with pytest.raises(ValueError, match="`groups` must have shape"):
        modularity(np.zeros((2, 2)), [0])
