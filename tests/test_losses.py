import numpy as np
import pytest
import tensorflow as tf

from kerashash import losses


def t(values):
    return tf.constant(values, tf.float32)


@pytest.mark.parametrize(
    ("labels", "scores", "options", "wanted"),
    [
        # margin 1 - 2 + 1.5
        ([[1, 0]], [[2.0, 1.5]], {}, 0.5),
        # the hardest negative is floored at 0: 1 - (-0.5) + 0
        ([[1, 0]], [[-0.5, -3.0]], {}, 1.5),
        ([[1, 0]], [[-0.5, -3.0]], {"floor": False}, 0.0),
        # both positives against the same negative: (0 + 2) / 2
        ([[1, 1, 0]], [[3.0, 0.0, 1.0]], {}, 1.0),
        # no negative at all
        ([[1, 1]], [[0.5, 2.0]], {}, 0.25),
        # -1 is neither a positive nor a negative
        ([[1, -1, 0]], [[2.0, 9.0, 1.0]], {}, 0.0),
        ([[-1, -1]], [[2.0, 9.0]], {}, 0.0),
        # margin 4: 4 - 2 + 1
        ([[1, 0]], [[2.0, 1.0]], {"margin": 4.0}, 3.0),
    ],
)
def test_codeword_hinge_by_hand(labels, scores, options, wanted):
    assert float(losses.codeword_hinge(t(labels), t(scores), **options)) == wanted


def test_codeword_hinge_gives_no_gradient_to_unknown_labels():
    scores = tf.Variable([[0.3, 2.0, 0.1], [1.0, 1.0, 1.0]])
    with tf.GradientTape() as tape:
        loss = losses.codeword_hinge(t([[1, -1, 0], [-1, -1, -1]]), scores)
    gradient = tape.gradient(loss, scores).numpy()
    assert gradient[0].tolist() == [-1.0, 0.0, 1.0]
    assert not gradient[1].any()


@pytest.mark.parametrize("value", [-1.0, -0.25])
def test_similarity_regression_equals_the_dense_sum(rng, value):
    n, bits = 40, 6
    codes = rng.choice([-1.0, 1.0], (n, bits))
    similar = np.where(rng.random((8, n)) < 0.3, 1.0, value)
    u = tf.Variable(np.tanh(rng.normal(size=(8, bits))), dtype=tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        dense = tf.reduce_mean((u @ codes.T / bits - similar) ** 2)
        factored = losses.similarity_regression(
            u,
            tf.constant(codes.T @ codes),
            tf.constant(similar @ codes),
            tf.constant((similar**2).sum(1)),
            n,
        )
    np.testing.assert_allclose(factored, dense, rtol=1e-12)
    np.testing.assert_allclose(
        tape.gradient(factored, u), tape.gradient(dense, u), rtol=1e-9, atol=1e-15
    )


def test_similarity_likelihood_by_hand():
    u, codes = t([[1.0, 0.5]]), t([[1.0, 1.0], [1.0, -1.0]])
    # Logits 4 * 1.5 / 2 = 3, similar, and 4 * 0.5 / 2 = 1, dissimilar with weight 0.5.
    wanted = (np.log1p(np.exp(-3.0)) + 0.5 * np.log1p(np.exp(1.0))) / 2
    found = losses.similarity_likelihood(u, codes, t([[1.0, -0.5]]), 4.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_sigmoid_focal_by_hand():
    # Positive with p = 0.8, negative with p = 0.3.
    logits = np.log([[0.8 / 0.2, 0.3 / 0.7]])
    wanted = 0.25 * 0.2**2 * -np.log(0.8) + 0.75 * 0.3**2 * -np.log(0.7)
    found = losses.sigmoid_focal(t([[1, 0]]), t(logits))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_softmax_focal_by_hand():
    wanted = 0.5**2 * -np.log(0.5)
    found = losses.softmax_focal(t([[1, 0]]), t([[3.0, 3.0]]))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.sigmoid_focal, losses.softmax_focal])
def test_focal_losses_stay_finite(loss):
    logits = tf.Variable([[200.0, -200.0], [-200.0, 200.0]])
    with tf.GradientTape() as tape:
        value = loss(t([[1, 0], [1, 0]]), logits)
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, logits)).all()
