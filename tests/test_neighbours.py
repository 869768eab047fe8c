"""Neighbourhoods and affinities: against brute force, by hand, by their definitions."""

import functools
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from kerashash.maths import losses, similarity


def brute_force(features, k1, k2):
    """Algorithm 1, with sets."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = unit @ unit.T
    n = len(unit)
    np.fill_diagonal(cosine, np.inf)
    lists = [set(np.argsort(-row, kind="stable")[: k1 + 1]) for row in cosine]
    similar = np.zeros((n, n), bool)
    for i in range(n):
        score = [2 * len(lists[i] & lists[j]) + (i == j) for j in range(n)]
        for j in np.argsort(-np.array(score), kind="stable")[:k2]:
            similar[i, list(lists[j])] = True
    return similar | similar.T


@pytest.mark.parametrize(("k1", "k2", "block"), [(15, 6, 64), (3, 2, 7), (1, 1, 1024)])
def test_expanded_neighbours_equal_brute_force(digits, k1, k2, block):
    x = digits.arrays("database")[0][:200]
    actual = similarity.expanded_neighbours(x, k1, k2, block)
    np.testing.assert_array_equal(actual.toarray(), brute_force(x, k1, k2))
    assert actual.diagonal().all()


def test_expansion_finds_more_of_the_class_than_plain_neighbours(digits):
    x, labels = digits.arrays("database")
    same = labels @ labels.T > 0
    expanded = similarity.expanded_neighbours(x).toarray()
    size = round(expanded.sum() / len(x))
    plain = np.zeros_like(expanded)
    near = similarity.nearest_neighbours(x, size)
    np.put_along_axis(plain, near, True, axis=1)
    assert same[expanded].mean() > same[plain | plain.T].mean() + 0.05


def test_nearest_neighbours_break_ties_by_index():
    near = similarity.nearest_neighbours(np.ones((6, 2)), k=3, block=2)
    assert near.tolist()[4] == [4, 0, 1, 2]


def duplicates(rng, distinct, n, dim):
    """Rows of which many are equal, or multiples of one another, and which are."""
    kind = rng.integers(0, distinct, n)
    rows = rng.normal(size=(distinct, dim))[kind]
    return rows * rng.choice([0.5, 1.0, 3.0], size=(n, 1)), kind


@pytest.mark.parametrize(
    ("distinct", "n", "rule"),
    [(5, 23, "few"), (60, 150, "float32"), (4, 200, "float64")],
)
def test_the_order_of_equal_rows_is_that_of_their_index(distinct, n, rule, rng):
    x, kind = duplicates(rng, distinct, n, 37)
    near = similarity.nearest_neighbours(x, 6)
    for i in range(n):
        equal = [j for j in range(n) if kind[j] == kind[i] and j != i][:6]
        assert near[i].tolist()[: 1 + len(equal)] == [i, *equal]
    for block in (1, 7):
        again = similarity.nearest_neighbours(x, 6, block)
        np.testing.assert_array_equal(again, near)
    expanded = [similarity.expanded_neighbours(x, 6, 3, b) for b in (3, 1024)]
    assert (expanded[0] != expanded[1]).nnz == 0


@pytest.mark.parametrize("values", [(0, 2), (-2, 5)])
def test_neighbours_of_whole_numbers_are_exact(values, rng):
    """Many cosines are equal, of rows that are not: by fractions, their squares."""
    x = rng.integers(*values, (60, 6))
    inner = (x @ x.T).tolist()

    def order(i, j):
        square = Fraction(inner[i][j] ** 2, inner[j][j] or 1)
        return i != j, -square if inner[i][j] > 0 else square, j

    near = [sorted(range(60), key=functools.partial(order, i))[:8] for i in range(60)]
    for features in (x, x.astype(np.float32)):
        assert similarity.nearest_neighbours(features, 7, 9).tolist() == near


def test_neighbours_nearer_than_float32_tells(rng):
    """Points of an arc, whose cosines with the next ones are 1 but for 4e-8."""
    place = rng.permutation(1000)
    x = np.stack([np.cos(3e-4 * place), np.sin(3e-4 * place)], axis=1)
    near = similarity.nearest_neighbours(x, 2)
    between = (place > 0) & (place < 999)
    assert (np.abs(place[near[:, 1:]] - place[near[:, :1]])[between] == 1).all()


@pytest.mark.parametrize("k", [0, 6, 7])
def test_neighbours_must_exist(k):
    with pytest.raises(ValueError, match="from 1 to n - 1 = 5"):
        similarity.nearest_neighbours(np.eye(6), k)
    with pytest.raises(ValueError, match="`lists` must be at least 1"):
        similarity.expanded_neighbours(np.eye(6), 2, lists=0)


def test_squared_distances(rng):
    x = rng.normal(size=(9, 4)).astype(np.float32)
    expected = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(similarity.squared_distances(x), expected, atol=1e-5)
    shifted = 4 * np.round(x) + 30_000  # exact in float32
    expected = ((shifted[:, None] - shifted[None]) ** 2).sum(axis=2)
    actual = similarity.squared_distances(shifted)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-3)


def affinity_by_bisection(x, perplexity):
    """Symmetric joint distribution whose conditional distributions each have the given
    perplexity: the precision of each is found by bisection in float64."""
    d = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    values = []
    for i in range(len(x)):
        others = np.delete(d[i], i)
        low, high = 1e-9, 1e9
        for _ in range(200):
            precision = np.sqrt(low * high)
            p = np.exp(-(others - others.min()) * precision)
            p /= p.sum()
            entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
            low, high = (
                (precision, high) if entropy > np.log(perplexity) else (low, precision)
            )
        values.append(np.insert(p, i, 0.0))
    conditional = np.array(values)
    return (conditional + conditional.T) / (2 * len(x))


def test_gaussian_affinity_has_the_perplexity(rng):
    x = rng.normal(size=(100, 5))
    actual = similarity.gaussian_affinity(tf.constant(x), perplexity=20.0).numpy()
    np.testing.assert_allclose(actual, affinity_by_bisection(x, 20.0), atol=1e-9)


@pytest.mark.parametrize(
    ("scale", "shift"), [(1, 1e3), (1, 1e4), (1e-7, 0), (1e-7, 1e-3), (1e30, 0)]
)
def test_gaussian_affinity_depends_on_no_scale_and_no_shift(rng, scale, shift):
    x = (rng.normal(size=(60, 8)) * scale + shift).astype(np.float32)
    right = affinity_by_bisection(x.astype(np.float64) / scale, 10.0)
    actual = similarity.gaussian_affinity(x, perplexity=10.0).numpy()
    np.testing.assert_allclose(actual, right, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 64])
@pytest.mark.parametrize("spread", [0.0, 1.0, 1e4])
def test_affinities_are_distributions(rng, n, spread):
    x = tf.constant(spread * rng.normal(size=(n, 3)), tf.float32)
    for affinity in (similarity.gaussian_affinity, similarity.student_t_affinity):
        p = affinity(x).numpy()
        assert np.isfinite(p).all()
        assert (p >= 0).all()
        np.testing.assert_allclose(p, p.T, atol=1e-7)
        np.testing.assert_array_equal(np.diag(p), 0)
        np.testing.assert_allclose(p.sum(), 1.0 if n > 1 else 0.0, atol=1e-4)


def test_js_divergence(rng):
    p, q = rng.dirichlet(np.ones(50), size=2)
    p, q = tf.constant(p), tf.constant(q)
    js = losses.js_divergence(p, q)
    assert 0 < js < np.log(2)
    assert losses.js_divergence(p, p) == 0
    np.testing.assert_allclose(js, losses.js_divergence(q, p))
    a, b = tf.constant([0.0, 1.0]), tf.constant([1.0, 0.0])
    np.testing.assert_allclose(losses.js_divergence(a, b), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(
        losses.kl_divergence(p, q), (p * np.log(p / q)).numpy().sum(), rtol=1e-6
    )


@pytest.mark.parametrize("divergence", [losses.js_divergence, losses.kl_divergence])
def test_gradient_of_divergence_equals_finite_differences(rng, divergence):
    features = tf.constant(rng.normal(size=(12, 6)))
    p = similarity.gaussian_affinity(features, perplexity=4.0)
    u = rng.normal(size=(12, 3))

    def value(u):
        return divergence(p, similarity.student_t_affinity(tf.constant(u)))

    with tf.GradientTape() as tape:
        variable = tf.Variable(u)
        loss = divergence(p, similarity.student_t_affinity(variable))
    gradient = tape.gradient(loss, variable).numpy()
    for i, k in ((0, 0), (5, 2), (11, 1)):
        step = np.zeros_like(u)
        step[i, k] = 1e-5
        expected = (value(u + step) - value(u - step)) / 2e-5
        np.testing.assert_allclose(gradient[i, k], expected, rtol=1e-4, atol=1e-9)


def test_gradient_is_finite_where_points_coincide():
    u = tf.Variable(tf.zeros((8, 4)))
    p = similarity.gaussian_affinity(tf.zeros((8, 4)))
    with tf.GradientTape() as tape:
        loss = losses.js_divergence(p, similarity.student_t_affinity(u))
    assert np.isfinite(tape.gradient(loss, u)).all()


def test_pairwise_likelihood_by_hand():
    u = tf.constant([[2.0, 0.0], [1.0, 1.0]])  # t = 1
    for similar, expected in ((0.0, np.log1p(np.e)), (1.0, np.log1p(np.e) - 1)):
        s = tf.fill((2, 2), similar)
        np.testing.assert_allclose(
            losses.pairwise_likelihood(u, s), expected, rtol=1e-6
        )
    assert losses.pairwise_likelihood(u[:1], tf.ones((1, 1))) == 0


def test_agreement_is_cohens_kappa():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    first, second = rng.random((30, 30)) < 0.3, rng.random((30, 30)) < 0.5
    second[:20] = first[:20]
    sparse = [scipy.sparse.csr_array(s) for s in (first, second, ~first)]
    expected = cohen_kappa_score(first.ravel(), second.ravel())
    agreement = similarity.neighbourhood_agreement
    assert agreement(*sparse[:2]) == pytest.approx(expected)
    assert agreement(sparse[0], sparse[0]) == 1.0
    assert agreement(sparse[0], sparse[2]) < 0
    ones = scipy.sparse.csr_array(np.ones((3, 3), bool))
    assert agreement(ones, ones) == 1.0
    with pytest.raises(ValueError, match="same shape"):
        agreement(sparse[0], ones)


def test_networks_agree_on_what_the_images_have(digits):
    x = digits.arrays("database")[0][:400]
    rng = np.random.default_rng(0)
    halves = np.split(rng.permutation(x.shape[1]), 2)
    related = [similarity.expanded_neighbours(x[:, half], 8, 3) for half in halves]
    shuffled = similarity.expanded_neighbours(rng.permutation(x)[:, halves[1]], 8, 3)
    assert similarity.neighbourhood_agreement(*related) > 0.2
    assert abs(similarity.neighbourhood_agreement(related[0], shuffled)) < 0.05
