import numpy as np
import pytest

from kerashash.cli.printing import print_metrics
from kerashash.evaluation import label_distribution as ld
from kerashash.zoo import cards


def test_measures_by_hand():
    true = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    predicted = np.array([[0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
    actual = ld.measures(true, predicted)
    # The second row is exact; the means are half of the first row's values, and 0
    # counts as 1e-6.
    last = (0.25 - 1e-6) / (0.25 + 1e-6)
    third = 0.25 / 0.75
    kl = 0.5 * np.log(2.0) + 1e-6 * np.log(1e-6 / 0.25)
    norms = np.sqrt(0.5) * np.sqrt(0.375)
    expected = {
        "chebyshev": 0.25 / 2,
        "clark": np.sqrt(third**2 + last**2) / 2,
        "canberra": (third + last) / 2,
        "kl": kl / 2,
        "cosine": (0.375 / norms + 1) / 2,
        "intersection": (0.75 + 1) / 2,
    }
    assert [*actual] == [*expected]
    for name, value in expected.items():
        assert actual[name] == pytest.approx(value, abs=2e-6), name


def test_measures_are_finite_with_zeros_and_best_when_equal(rng):
    true = np.eye(4)[rng.integers(0, 4, 50)]
    worst = ld.measures(true, np.roll(true, 1, axis=1))
    assert all(np.isfinite(value) for value in worst.values())
    best = ld.measures(true, true)
    for name, value in best.items():
        assert value == pytest.approx(
            1.0 if name in ("cosine", "intersection") else 0.0, abs=1e-5
        )


def test_knn_equals_brute_force_and_breaks_ties_by_index(rng):
    x = rng.normal(size=(30, 3))
    x[7] = x[3]
    d = rng.dirichlet(np.ones(4), 30)
    queries = np.concatenate([rng.normal(size=(9, 3)), x[[3]]])
    distances = np.linalg.norm(queries[:, None] - x, axis=2)
    for k in (1, 5, 30):
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
        actual = ld.knn_distribution(queries, x, d, k)
        np.testing.assert_allclose(actual, d[nearest].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(ld.knn_distribution(x[[7]], x, d, 1)[0], d[3], rtol=1e-6)


def test_hashed_distribution_equals_brute_force(rng):
    codes = rng.choice([-1, 1], (40, 6)).astype(np.int8)
    queries = rng.choice([-1, 1], (9, 6)).astype(np.int8)
    d = rng.dirichlet(np.ones(4), 40).astype(np.float32)
    distances = (queries[:, None] != codes).sum(axis=2)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :7]
    expected = d[nearest].mean(axis=1)
    np.testing.assert_allclose(
        ld.hashed_distribution(queries, codes, d, 7), expected, rtol=1e-6
    )
    packed = [np.packbits(c > 0, axis=1) for c in (queries, codes)]
    np.testing.assert_allclose(
        ld.hashed_distribution(*packed, d, 7, bits=6), expected, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("d", "message"),
    [
        ([[0.5, 0.6]], r"`d` must have rows that sum to 1.*\[1.1\] in rows \[0\]"),
        ([[1.5, -0.5]], r"`d` must be at least 0.*rows \[0\]"),
        ([[np.nan, 1.0]], "`d` must be finite"),
        ([0.5, 0.5], "`d` must have shape"),
        ([[1.0, 0.0]] * 2, "`d` must have one row for each of the 1 inputs"),
    ],
)
def test_bad_distributions_are_named(d, message):
    with pytest.raises(ValueError, match=message):
        ld.check_distributions(d, n=1)


def test_bad_arguments_are_named(rng):
    x, d = rng.normal(size=(5, 2)), np.eye(5)
    for k, rule in ((0, "at least 1"), (6, "at most 5")):
        with pytest.raises(ValueError, match=f"`k` must be {rule}. Received: k={k}"):
            ld.knn_distribution(x, x, d, k)
    with pytest.raises(TypeError, match="`k` must be an integer"):
        ld.knn_distribution(x, x, d, 2.0)
    with pytest.raises(ValueError, match="`queries` must have shape"):
        ld.knn_distribution(x[:, :1], x, d, 1)
    with pytest.raises(ValueError, match="`predicted` must have shape"):
        ld.measures(d, np.eye(5)[:, :4])
    with pytest.raises(ValueError, match="`true` must have at least one row"):
        ld.measures(d[:0], d[:0])


@pytest.mark.parametrize("scale", [1e-6, 1e-5, 1.0, 1e12])
def test_the_nearest_row_is_so_at_every_scale(scale):
    x = np.array([[9.0], [1.0], [2.0], [5.0]]) * scale
    nearest = ld.knn_distribution([[2.1 * scale]], x, np.eye(4), k=1)
    assert nearest.argmax() == 2


def test_the_nearest_row_is_so_far_from_the_origin(rng):
    x = rng.integers(0, 1000, (200, 2)) + 1e6
    queries = rng.integers(0, 1000, (20, 2)) + 1e6
    d = rng.dirichlet(np.ones(3), 200)
    distances = ((queries[:, None] - x) ** 2).sum(axis=2)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :7]
    np.testing.assert_allclose(
        ld.knn_distribution(queries, x, d, 7), d[nearest].mean(axis=1), rtol=1e-6
    )


def test_rounding_does_not_order_equally_near_rows(rng):
    row = rng.random(30)
    x = np.array([row[rng.permutation(30)] for _ in range(40)])
    nearest = ld.knn_distribution(np.zeros((1, 30)), x, np.eye(40), k=3)
    np.testing.assert_allclose(nearest[0, :3], 1 / 3, rtol=1e-6)


def test_means_of_many_rows_are_exact():
    n = 60_000
    d = np.tile(np.float32([[0.7, 0.3]]), (n, 1))
    expected = np.float32([[0.7, 0.3]])
    np.testing.assert_array_equal(
        ld.knn_distribution([[0.0]], np.zeros((n, 1)), d, n), expected
    )
    np.testing.assert_array_equal(
        ld.hashed_distribution([[1]], np.ones((n, 1)), d, n), expected
    )


@pytest.mark.parametrize(
    ("true", "predicted"),
    [
        ([0.5, 0.5], [0.50045, 0.50045]),
        ([0.50045, 0.50045], [0.50045, 0.50045]),
        ([0.4996, 0.4996], [0.50045, 0.50045]),
        ([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
        ([1 - 2e-6, 1e-6, 1e-6], [1.0, 0.0, 0.0]),
    ],
)
def test_measures_stay_in_their_ranges(true, predicted):
    values = ld.measures([true], [predicted])
    for name, value in values.items():
        best = 1.0 if name in ("cosine", "intersection") else 0.0
        assert value <= 1.0 if best else value >= 0.0
        if name != "clark" and name != "canberra":  # relative to tiny values
            assert value == pytest.approx(best, abs=1e-5), name


def test_printed_measures_say_what_is_best(capsys):
    names = list(ld.MEASURES)
    assert list(cards.BEST) == names
    print_metrics([{"name": name, "value": 0.5, "k": 3} for name in names])
    lines = capsys.readouterr().out.splitlines()
    d = np.array([[0.75, 0.25], [0.1, 0.9]])
    for name, line in zip(names, lines, strict=True):
        measure = ld.MEASURES[name]
        best = measure(d, d)
        assert f"{best:.0f} is best" in line
        assert ("lower is better" in measure.__doc__) == (best == 0)
        assert ("higher is better" in measure.__doc__) == (best != 0)
