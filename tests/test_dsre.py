"""DSRE: its terms, its solvers for B and W, and its options."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp
from scipy import optimize

from kerashash.maths import discrete
from kerashash.methods import DSRE

DSDH = {"divergence": None, "b_update": "dcc", "w_update": "ridge"}


def fitted(digit_pairs, epochs=2, n=200, **options):
    x, labels, _ = digit_pairs
    model = DSRE(mlp(128), 8, 10, num_train=n, **options)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.fit(x[:n], labels[:n], epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("quantization", [1e-3, 0.1, 5.0])
def test_code_step_never_increases_its_objective(digit_pairs, quantization):
    model = fitted(digit_pairs, **DSDH, quantization_weight=quantization)
    y, w = model.rows.labels.numpy(), model.classifier.kernel.numpy()

    def objective():
        b = model.learned_codes()
        pull = quantization / model.bits
        u = model.rows.u.numpy()
        return ((y - b @ w) ** 2).sum() + pull * ((u - b) ** 2).sum()

    start = np.where(np.random.default_rng(0).random((200, 8)) < 0.5, 1, -1)
    model.train_codes.assign(start.astype(np.int8))
    gram, target = model._code_problem()
    values = [objective()]
    for _ in range(4):
        codes = discrete.dcc(model.train_codes.value, gram, target, sweeps=1)
        model.train_codes.assign(codes)
        values.append(objective())
    assert values[1] < values[0]
    assert (np.diff(values) <= 1e-4 * values[0]).all()


def test_classifier_step_is_stationary(digit_pairs):
    model = fitted(digit_pairs, **DSDH, classification_weight=0.5)
    b = model.learned_codes().astype(np.float64)
    y = model.rows.labels.numpy()
    w = model.classifier.kernel.numpy()
    # Gradient of alpha / n ||Y - B W||^2 + lambda ||W||^2.
    gradient = 0.5 / 200 * b.T @ (b @ w - y) + 1e-3 * w
    assert np.abs(gradient).max() < 1e-5


@pytest.mark.parametrize("w_update", ["bp", "ridge"])
def test_learned_codes_are_the_signs_without_dcc(digit_pairs, w_update):
    """Of u without dropout: with a rate of 0, training changes nothing."""
    x, labels, _ = digit_pairs
    dropout = keras.layers.Dropout(0.5)
    network = keras.Sequential([keras.Input((128,)), dropout, keras.layers.Dense(16)])
    model = DSRE(network, 8, 10, num_train=50, w_update=w_update)
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(x[:50], labels[:50], verbose=0)
    np.testing.assert_array_equal(
        model.learned_codes(), model.encode(x[:50], packed=False)
    )


@pytest.mark.parametrize("options", [DSDH, {"num_train": 50}])
def test_discrete_step_is_in_the_last_step_of_each_epoch(digit_pairs, options):
    x, labels, _ = digit_pairs
    model = DSRE(mlp(128), 8, 10, **{"num_train": 50, **options})
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    seen, step = [], model.train_step

    def watched(data):
        before = model.train_codes.numpy()
        values = step(data)
        seen.append((before != model.train_codes.numpy()).any())
        return values

    model.train_step = watched
    history = model.fit(x[:50], labels[:50], batch_size=20, epochs=2, verbose=0)
    assert seen == [False, False, True] * 2
    flips = history.history["learned_bit_flips"]
    assert all(0 < flip < 1 for flip in flips)


def test_ridge_and_dcc_leave_w_to_the_solver(digit_pairs):
    assert len(fitted(digit_pairs, **DSDH).classifier.trainable_variables) == 0
    assert len(fitted(digit_pairs).classifier.trainable_variables) == 1


@pytest.mark.parametrize("divergence", ["js", "kl"])
def test_divergence_falls_when_it_dominates_the_loss(digit_pairs, divergence):
    x, labels, _ = digit_pairs
    model = DSRE(
        mlp(128),
        8,
        10,
        divergence=divergence,
        divergence_weight=100.0,
        classification_weight=0.0,
        quantization_weight=0.0,
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    history = model.fit(x[:512], labels[:512], batch_size=128, epochs=30, verbose=0)
    first, last = history.history["divergence_loss"][::29]
    assert last < 0.8 * first


def test_p_features(digit_pairs):
    x = tf.constant(digit_pairs[0][:40])
    frozen = keras.Sequential([keras.Input((128,)), keras.layers.Dense(3)])
    for source, expected in (
        (None, x),
        ("input", x),
        ("penultimate", "backbone"),
        (frozen, frozen(x)),
    ):
        model = DSRE(mlp(128), 8, 10, p_features=source)
        features = model.backbone(x)
        expected = features if isinstance(expected, str) else expected
        affinity_features = model._affinity_features(x, features)
        np.testing.assert_array_equal(affinity_features, expected)
        rebuilt = DSRE.from_config(model.get_config())
        assert len(rebuilt.trainable_variables) == len(model.trainable_variables)
    images = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    assert DSRE(images, 8, 10).get_config()["p_features"] == "penultimate"


def test_a_last_batch_of_one_image_gives_a_finite_loss(digit_pairs):
    x, labels, _ = digit_pairs
    model = DSRE(mlp(128), 8, 10)
    model.compile(optimizer="adam")
    history = model.fit(x[:33], labels[:33], batch_size=32, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_images_without_labels_are_similar_to_nothing(digit_pairs):
    x = digit_pairs[0]
    model = DSRE(mlp(128), 8, 10, divergence=None)
    u = tf.random.normal((4, 8))
    none = tf.zeros((4, 10))
    values = model.compute_losses(x[:4], None, u, none, discrete.sign(u))
    t = u @ tf.transpose(u) / 2
    off_diagonal = tf.boolean_mask(tf.nn.softplus(t), 1 - tf.eye(4))
    expected = tf.reduce_mean(off_diagonal)
    np.testing.assert_allclose(values["pair_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divergence": "tv"}, "`divergence` must be one of"),
        ({"w_update": "svd"}, "`w_update` must be one of"),
        ({"b_update": "never"}, "`b_update` must be one of"),
        ({"p_features": "pixels"}, "`p_features` must be"),
        ({"perplexity": 0}, "`perplexity` must be at least 1"),
        ({"divergence_weight": -1}, "`divergence_weight` must be at least 0"),
        ({"b_update": "dcc"}, "`num_train` must be an integer with"),
        ({"w_update": "ridge"}, "`num_train` must be an integer with"),
        (
            {"b_update": "dcc", "num_train": 4, "classification_weight": 0},
            "`classification_weight` must be positive",
        ),
        ({"num_classes": None}, "`num_classes` must be an integer"),
        ({"preset": "papers"}, "`preset` must be one of"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DSRE("features", 8, **{"num_classes": 3, **options})


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_loss_is_equation_11_by_hand(rng, preset):
    """With weights of which no two are equal."""
    alpha, beta, eta, lam, perplexity = 0.7, 1.3, 0.4, 0.02, 3.0
    n, bits, classes = 14, 5, 4
    model = DSRE(
        mlp(6, (7,)),
        bits,
        classes,
        classification_weight=alpha,
        divergence_weight=beta,
        quantization_weight=eta,
        classifier_penalty=lam,
        perplexity=perplexity,
        preset=preset,
    )
    w = rng.normal(size=(bits, classes)).astype(np.float32)
    model.classifier.kernel.assign(w)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    y = (rng.random((n, classes)) < 0.4).astype(np.float32)

    hidden, head = model.backbone.layers[0], model.hash_head
    phi = np.maximum(x @ hidden.kernel.numpy() + hidden.bias.numpy(), 0)
    u = (phi @ head.kernel.numpy() + head.bias.numpy()).astype(float)  # eq. 10
    u = u if preset == "paper" else np.tanh(u)
    b = np.where(u >= 0, 1, -1)  # eq. 12
    off = ~np.eye(n, dtype=bool)
    t = u @ u.T / 2
    pair = (np.log1p(np.exp(t)) - (y @ y.T > 0) * t)[off].mean()  # eq. 2
    classes_loss = ((y - u @ w) ** 2).sum(axis=1).mean()  # eq. 5

    def conditional(i):  # eq. 6
        squares = ((x[i] - np.delete(x, i, 0)) ** 2).sum(axis=1).astype(float)

        def probabilities(precision):
            p = np.exp(-precision * (squares - squares.min()))
            return p / p.sum()

        def excess(precision):
            p = probabilities(precision)
            return -(p * np.log(p)).sum() - np.log(perplexity)

        return np.insert(probabilities(optimize.brentq(excess, 1e-6, 20)), i, 0)

    p = np.stack([conditional(i) for i in range(n)])
    p = (p + p.T) / (2 * n)
    q = 1 / (1 + ((u[:, None] - u) ** 2).sum(axis=2)) * off  # eq. 7
    q /= q.sum()
    m = (p + q) / 2
    js = (p[off] * np.log(p[off] / m[off]) + q[off] * np.log(q[off] / m[off])).sum() / 2
    quantization = ((u - b) ** 2).mean()
    total = pair + alpha * classes_loss + beta * js + eta * quantization
    total += lam * (w**2).sum()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    history = model.fit(x, y, batch_size=n, verbose=0).history
    expected = {
        "pair_loss": pair,
        "class_loss": classes_loss,
        "divergence_loss": js,  # eq. 8
        "quantization_loss": quantization,
        "loss": total,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(history[name], [value], rtol=1e-4, err_msg=name)


def test_the_head_is_trained_as_in_training(rng):
    """Such as its dropout, which nothing else of this network has."""
    head = keras.Sequential([keras.layers.Dropout(0.5), keras.layers.Dense(8)])
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16)])
    model = DSRE(net, bits=8, num_classes=2, head=head)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x, y = rng.normal(size=(20, 4)), np.arange(20) % 2
    history = model.fit(x, y, batch_size=20, epochs=2, verbose=0).history
    assert history["loss"][0] != history["loss"][1]
    values = [model.evaluate(x, y, verbose=0)[0] for _ in range(2)]
    assert values[0] == values[1]
