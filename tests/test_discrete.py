import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerashash.maths import discrete


def problem(rng, n, bits):
    """The kind of problem that DCDH poses."""
    u = np.tanh(rng.normal(size=(200, bits)))
    gram = (u.T @ u).astype(np.float32)
    target = (10 * rng.normal(size=(n, bits)) * np.sqrt(bits)).astype(np.float32)
    start = rng.choice([-1, 1], (n, bits)).astype(np.int8)
    return start, gram, target


def objective(codes, gram, target):
    codes = codes.astype(np.float64)
    return np.trace(codes @ gram @ codes.T) - 2 * np.trace(codes @ target.T)


def test_sign_of_zero_is_one():
    assert discrete.sign(tf.constant([-1e-9, -0.0, 0.0, 3.0])).numpy().tolist() == [
        -1.0,
        1.0,
        1.0,
        1.0,
    ]


def test_code_objective_is_the_formula(rng):
    arguments = problem(rng, 20, 6)
    np.testing.assert_allclose(
        discrete.code_objective(*arguments), objective(*arguments), rtol=1e-5
    )


def test_dcc_equals_a_plain_loop_over_bits(rng):
    codes, gram, target = problem(rng, 30, 9)
    expected = codes.astype(np.float64)
    coupling = gram - np.diag(np.diag(gram))
    for _ in range(3):
        for k in range(9):
            expected[:, k] = np.where(
                target[:, k] - expected @ coupling[:, k] >= 0, 1, -1
            )
    actual = discrete.dcc(codes, gram, target, sweeps=3)
    assert actual.dtype == tf.int8
    np.testing.assert_array_equal(actual, expected)


def test_dcc_never_increases_the_objective_and_the_wrong_sign_does(rng):
    wrong_increases = 0
    for _ in range(5):
        codes, gram, target = problem(rng, 50, 16)
        coupling = gram - np.diag(np.diag(gram))
        values, wrong = [objective(codes, gram, target)], codes.copy()
        for _ in range(4):
            codes = discrete.dcc(codes, gram, target, sweeps=1).numpy()
            values.append(objective(codes, gram, target))
        assert all(np.diff(values) <= 1e-3 * np.abs(values[:-1]))
        assert values[-1] < values[0]
        for k in range(16):
            before = objective(wrong, gram, target)
            wrong[:, k] = np.where(target[:, k] - wrong @ coupling[:, k] > 0, -1, 1)
            wrong_increases += objective(wrong, gram, target) > before
    assert wrong_increases > 20


def test_dcc_is_close_to_brute_force(rng):
    codes, gram, target = problem(rng, 40, 8)
    every = np.array(list(itertools.product([-1, 1], repeat=8)))
    quadratic = np.einsum("ck,kl,cl->c", every, gram, every)
    best = (quadratic[None] - 2 * target @ every.T).min(axis=1).sum()
    actual = discrete.dcc(codes, gram, target, sweeps=10).numpy()
    assert objective(actual, gram, target) <= best + 0.01 * abs(best)
    signs = np.where(target >= 0, 1, -1)
    assert objective(actual, gram, target) < objective(signs, gram, target)


def test_rows_are_independent(rng):
    codes, gram, target = problem(rng, 30, 12)
    whole = discrete.dcc(codes, gram, target).numpy()
    parts = [discrete.dcc(codes[i::3], gram, target[i::3]).numpy() for i in range(3)]
    for i in range(3):
        np.testing.assert_array_equal(parts[i], whole[i::3])


def test_zero_argument_keeps_the_bit():
    codes = np.array([[1, -1]], np.int8)
    zero = np.zeros((2, 2), np.float32)
    np.testing.assert_array_equal(discrete.dcc(codes, zero, zero[:1]), codes)


def test_procrustes_rotation_is_orthogonal_and_beats_random_ones(rng):
    h = rng.normal(size=(200, 6)).astype(np.float32)
    codes = rng.choice([-1.0, 1.0], (200, 6)).astype(np.float32)
    rotation = discrete.procrustes_rotation(codes, h).numpy()
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(6), atol=1e-5)
    value = np.linalg.norm(codes - h @ rotation)
    for _ in range(100):
        other = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        assert value <= np.linalg.norm(codes - h @ other)


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_procrustes_rotation_of_bits_that_are_alike_is_orthogonal(seed):
    """Of H of rank 1, a decomposition in float32 misses by .01, .5 and 280."""
    rng = np.random.default_rng(seed)
    h = np.tanh(rng.normal(size=(200, 1)) @ rng.normal(size=(1, 64)))
    h = (h + 1e-3 * rng.normal(size=h.shape)).astype(np.float32)
    rotation = discrete.procrustes_rotation(discrete.sign(h), h).numpy()
    assert rotation.dtype == np.float32
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(64), atol=1e-5)


def test_procrustes_rotation_finds_a_hidden_rotation(rng):
    hidden = np.linalg.qr(rng.normal(size=(5, 5)))[0].astype(np.float32)
    codes = rng.choice([-1.0, 1.0], (100, 5)).astype(np.float32)
    actual = discrete.procrustes_rotation(codes, codes @ hidden.T)
    np.testing.assert_allclose(actual, hidden, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_dcc_runs_inside_a_graph(rng, jit):
    arguments = problem(rng, 10, 5)
    inside = tf.function(lambda *args: discrete.dcc(*args), jit_compile=jit)
    np.testing.assert_array_equal(inside(*arguments), discrete.dcc(*arguments))


def rotation_objective(h, d, rotation, projection, codes, label_weight):
    fit = np.linalg.norm(codes - h @ rotation) ** 2
    return fit + label_weight * np.linalg.norm(codes - d @ projection) ** 2


@pytest.fixture
def rotated(rng):
    """Continuous codes that follow label distributions, up to a rotation."""
    d = rng.dirichlet(np.ones(4), 120).astype(np.float32)
    h = np.tanh(d @ rng.normal(size=(4, 8)) + 0.3 * rng.normal(size=(120, 8)))
    return h.astype(np.float32), d


@pytest.mark.parametrize("label_weight", [0.1, 10.0])
def test_label_rotation_never_increases_its_objective(rotated, label_weight):
    h, d = rotated
    values = []
    for iterations in range(1, 9):
        actual = discrete.label_rotation(h, d, label_weight, iterations)
        actual = [value.numpy() for value in actual]
        values.append(rotation_objective(h, d, *actual, label_weight))
        rotation, projection, codes = actual
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(8), atol=1e-5)
        assert set(np.unique(codes)) == {-1.0, 1.0}
        again = np.where(h @ rotation + label_weight * d @ projection >= 0, 1, -1)
        np.testing.assert_array_equal(codes, again)
    assert (np.diff(values) <= 1e-3 * values[0]).all()
    assert values[-1] < values[0]


def test_label_rotation_sees_labels_from_its_second_iteration_on(rotated):
    h, d = rotated
    first = [discrete.label_rotation(h, d, a, iterations=1)[0] for a in (0.0, 10.0)]
    np.testing.assert_array_equal(*first)
    second = [discrete.label_rotation(h, d, a, iterations=2)[0] for a in (0.0, 10.0)]
    assert not np.allclose(*second)
