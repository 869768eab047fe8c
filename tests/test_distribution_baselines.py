"""The baselines that predict label distributions: their contract, and their solvers."""

import keras
import numpy as np
import pytest
import scipy.optimize
from sklearn.svm import LinearSVR

import kerashash
from kerashash.baselines import CPNN, IISLLD, LDSVR
from kerashash.evaluation import label_distribution
from kerashash.maths import conditional, entropy, svr

ROWS, CLASSES = 80, 4
OPTIONS = {IISLLD: {}, CPNN: {"units": 16}, LDSVR: {"num_train": ROWS}}
CASES = pytest.mark.parametrize("method", OPTIONS, ids=lambda method: method.__name__)


def build(method, backbone="features", **options):
    return method(backbone, CLASSES, **OPTIONS[method] | options)


@pytest.fixture(scope="module")
def rows():
    """Vectors, and distributions that depend on them; other rows of the same kind."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS + 40, 5)).astype(np.float32) * 3 + 100
    logits = (x - 100) / 3 @ rng.normal(size=(5, CLASSES))
    d = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return x[:ROWS], d[:ROWS], x[ROWS:], d[ROWS:]


@CASES
def test_predicts_better_than_the_mean(method, rows):
    x, d, queries, true = rows
    model = build(method)
    losses = model.fit(x, d, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    predicted = model.predict_distribution(queries, verbose=0)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted.sum(axis=1), 1.0, rtol=1e-5)
    mean = np.tile(d.mean(axis=0), (len(true), 1))
    kl = label_distribution.kl_divergence
    assert kl(true, predicted) < 0.3 * kl(true, mean)


@CASES
def test_saves_and_goes_on_as_if_not_interrupted(method, rows, tmp_path):
    x, d, queries, _ = rows
    whole, half = build(method), build(method)
    losses = whole.fit(x, d, epochs=4, verbose=0).history["loss"]
    first = half.fit(x, d, epochs=2, verbose=0).history["loss"]
    half.save(tmp_path / "model.keras")
    loaded = kerashash.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == half.get_config() | {
        "backbone": loaded.get_config()["backbone"]
    }
    before = half.predict_distribution(queries)
    np.testing.assert_array_equal(loaded.predict_distribution(queries), before)
    last = loaded.fit(x, d, verbose=0, initial_epoch=2, epochs=4).history["loss"]
    assert first + last == losses
    after = whole.predict_distribution(queries)
    np.testing.assert_array_equal(loaded.predict_distribution(queries), after)
    moved = whole.with_backbone(
        keras.Sequential([keras.Input((5,)), keras.layers.Identity()])
    )
    np.testing.assert_array_equal(moved.predict_distribution(queries), after)


@CASES
def test_wrong_arguments_are_named(method, rows):
    x, d, _, _ = rows
    model = build(method)
    with pytest.raises(TypeError, match="has no hash codes"):
        model.encode(x)
    with pytest.raises(ValueError, match="predicts nothing before `fit`"):
        build(method, keras.Sequential([keras.Input((5,))])).predict_distribution(x)
    with pytest.raises(ValueError, match="must have rows that sum to 1"):
        model.fit(x, d + 0.5, verbose=0)
    with pytest.raises(ValueError, match=r"`y` must have shape \(n, 4\)"):
        model.fit(x, d[:, :3], verbose=0)
    with pytest.raises(TypeError, match=f"`{method.__name__}` has no argument `bits`"):
        build(method, bits=8)
    with pytest.raises(ValueError, match="`num_classes` must be at least 1"):
        method("features", 0, **OPTIONS[method])


def test_wrong_options_are_named(rows):
    x, d, _, _ = rows
    for options in ({"penalty": 0.0}, {"bandwidth": np.nan}):
        with pytest.raises(ValueError, match="must be above 0 and finite"):
            build(LDSVR, **options)
    with pytest.raises(ValueError, match="`epsilon` must be at least 0"):
        build(LDSVR, epsilon=-1.0)
    with pytest.raises(ValueError, match="`units` must be at least 1"):
        build(CPNN, units=0)
    with pytest.raises(ValueError, match="num_train=80, and 50 rows"):
        build(LDSVR).fit(x[:50], d[:50], verbose=0)


def test_iis_likelihood_never_falls_and_reaches_the_best(rng):
    g = np.column_stack([rng.normal(size=(30, 3)) * [1, 4, 0.2], np.ones(30)])
    d = rng.dirichlet([1.0, 1.0, 1.0], 30)
    weights = np.zeros((4, 3))
    values = [entropy.likelihood(g, d, weights)]
    for _ in range(400):
        weights = entropy.scaling_step(g, d, weights)
        values.append(entropy.likelihood(g, d, weights))
    assert (np.diff(values) >= -1e-12).all()
    best = scipy.optimize.minimize(
        lambda w: -entropy.likelihood(g, d, w.reshape(4, 3)), np.zeros(12)
    )
    assert values[-1] == pytest.approx(-best.fun, abs=2e-3)
    assert values[-1] > values[0] + 0.02


def test_cpnn_gradients_are_those_of_differences(rng):
    x, d = rng.normal(size=(6, 3)), rng.dirichlet([1.0] * 4, 6)
    shapes = {"kernel": (3, 5), "label": (5,), "bias": (5,), "output": (5,)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    weights["places"] = np.linspace(0, 1, 4)
    value, gradients = conditional.divergence_and_gradients(x, d, weights)
    logits, _ = conditional.conditional_logits(x, weights)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert value == pytest.approx((d * np.log(d / p)).sum(axis=1).mean())
    for name, shape in shapes.items():
        step = rng.normal(size=shape)
        ends = [
            conditional.divergence_and_gradients(
                x, d, weights | {name: weights[name] + length * step}
            )[0]
            for length in (1e-5, -1e-5)
        ]
        slope = (ends[0] - ends[1]) / 2e-5
        assert slope == pytest.approx((gradients[name] * step).sum(), rel=1e-5)


def test_ldsvr_of_one_column_is_the_regression_of_scikit_learn(rng):
    x = rng.normal(size=(40, 3))
    z = x @ [1.0, -2.0, 0.5] + 3.0 + 0.3 * rng.normal(size=40)
    penalty, epsilon = 0.7, 0.2
    beta, bias, values = np.zeros((40, 1)), np.zeros(1), []
    for _ in range(60):
        rest = (penalty, epsilon)
        beta, bias = svr.svr_step(x @ x.T, z[:, None], beta, bias, *rest)
        values.append(svr.svr_objective(x @ x.T, z[:, None], beta, bias, *rest))
    assert (np.diff(values) <= 1e-9).all()
    # A large constant, so that the intercept is hardly penalised.
    anchor = LinearSVR(
        epsilon=epsilon,
        C=penalty,
        loss="squared_epsilon_insensitive",
        dual=False,
        intercept_scaling=1e3,
        tol=1e-10,
        max_iter=100000,
    ).fit(x, z)
    np.testing.assert_allclose((x.T @ beta)[:, 0], anchor.coef_, atol=2e-3)
    np.testing.assert_allclose(bias, anchor.intercept_, atol=2e-3)
