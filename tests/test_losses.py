import numpy as np
import pytest
import tensorflow as tf

from kerashash import evaluation
from kerashash.maths import losses


def t(values):
    return tf.constant(values, tf.float32)


@pytest.mark.parametrize(
    ("labels", "scores", "options", "expected"),
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
def test_codeword_hinge_by_hand(labels, scores, options, expected):
    assert float(losses.codeword_hinge(t(labels), t(scores), **options)) == expected


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


CODES = t([[1, 1, 1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]])


@pytest.mark.parametrize(
    ("u", "similar", "counts", "expected"),
    [
        # At distances 0 to 3: similar ones in places 1 and 3.
        ([1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1], (1 / 1 + 2 / 3) / 2),
        ([-1, -1, -1], [1, 0, 0, 1], [1, 1, 1, 1], (1 / 1 + 2 / 4) / 2),
        # Three dissimilar ones, then two similar: middle ranks 4.5, second 1.5.
        ([1, 1, 1], [0, 1, 0, 0], [3, 2, 1, 1], 1.5 / 4.5),
        # At distances 0.5, 0.5, 1.5 and 2.5: a half of each counts above and below.
        ([1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], 0.5 * 1.5 / 2 + 0.5 * 2.5 / 4.5),
        # Nothing similar.
        ([1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], 0.0),
    ],
)
def test_average_precision_by_hand(u, similar, counts, expected):
    actual = losses.average_precision_loss(t([u]), CODES, t([similar]), t(counts))
    np.testing.assert_allclose(actual, 1 - expected, rtol=1e-6)


def test_average_precision_is_that_of_the_evaluation(rng):
    codes = rng.choice([-1, 1], (400, 12)).astype(np.int8)
    labels = (rng.random((400, 5)) < 0.3).astype(int)
    labels[:, 0] |= ~labels.any(axis=1)
    similar = (labels[:50] @ labels.T > 0).astype(np.float32)
    loss = losses.average_precision_loss(t(codes[:50]), t(codes), similar, tf.ones(400))
    expected = evaluation.mean_average_precision(codes[:50], labels[:50], codes, labels)
    np.testing.assert_allclose(1 - loss, expected, atol=2e-3)


def test_average_precision_has_the_gradient_of_its_values(rng):
    u = tf.Variable(rng.uniform(-0.9, 0.9, (2, 3)))
    codes = tf.cast(CODES, tf.float64)
    similar = tf.constant([[1, 0, 1, 0], [0, 1, 1, 0]], tf.float64)

    def loss(u):
        return losses.average_precision_loss(u, codes, similar, tf.ones(4, tf.float64))

    with tf.GradientTape() as tape:
        value = loss(u)
    slope, step = tape.gradient(value, u).numpy(), 1e-6
    for place in np.ndindex(2, 3):
        moved = u.numpy()
        moved[place] += step
        np.testing.assert_allclose(
            (loss(moved) - value) / step, slope[place], atol=1e-5
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["u", "codes"])
def test_average_precision_of_what_is_no_number_is_nan(value, place):
    arrays = {"u": [[1.0, 1.0], [1.0, -1.0]], "codes": [[1.0, 1.0], [1.0, -1.0]]}
    arrays[place][1][0] = value
    similar, counts = t([[1.0, 0.0], [0.0, 1.0]]), t([1.0, 2.0])
    u, codes = t(arrays["u"]), t(arrays["codes"])
    assert np.isnan(losses.average_precision_loss(u, codes, similar, counts))
    compiled = tf.function(losses.average_precision_loss, jit_compile=True)
    assert np.isnan(compiled(u, codes, similar, counts))


def test_sigmoid_focal_by_hand():
    # Positive with p = 0.8, negative with p = 0.3.
    logits = np.log([[0.8 / 0.2, 0.3 / 0.7]])
    expected = 0.25 * 0.2**2 * -np.log(0.8) + 0.75 * 0.3**2 * -np.log(0.7)
    actual = losses.sigmoid_focal(t([[1, 0]]), t(logits))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_softmax_focal_by_hand():
    actual = losses.softmax_focal(t([[1, 0]]), t([[3.0, 3.0]]))
    np.testing.assert_allclose(actual, 2 * 0.5**2 * -np.log(0.5), rtol=1e-5)
    # p = 0.7, 0.2, 0.1: present with 0.2, absent with 0.7 and 0.1.
    logits = np.log([[0.7, 0.2, 0.1]])
    actual = losses.softmax_focal(t([[0, 1, 0]]), t(logits), gamma=3.0)
    expected = 0.7**3 * -np.log(0.3) + 0.8**3 * -np.log(0.2) + 0.1**3 * -np.log(0.9)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_unknown_labels_have_no_focal_loss():
    logits = tf.constant([[0.7, -0.4, 1.2], [0.1, 2.0, -0.3]])
    with_unknown = t([[1, -1, 0], [0, 1, -1]])
    known = losses.sigmoid_focal(t([[1, 0]]), tf.gather(logits[:1], [0, 2], axis=1))
    known += losses.sigmoid_focal(t([[0, 1]]), logits[1:, :2])
    np.testing.assert_allclose(
        losses.sigmoid_focal(with_unknown, logits), known / 2, rtol=1e-6
    )
    # A label of a softmax changes p of the others, so its own term is taken off.
    p = tf.nn.softmax(logits).numpy()
    absent = losses.softmax_focal(tf.maximum(with_unknown, 0.0), logits)
    own = -np.log(1 - p[0, 1]) * p[0, 1] ** 2 - np.log(1 - p[1, 2]) * p[1, 2] ** 2
    np.testing.assert_allclose(
        losses.softmax_focal(with_unknown, logits), absent - own / 2, rtol=1e-5
    )


def test_average_precision_leaves_out_what_has_count_0_for_a_query(rng):
    u, codes = t(rng.uniform(-1, 1, (2, 3))), t(rng.choice([-1, 1], (9, 3)))
    similar = t(rng.integers(2, size=(2, 9)))
    counts = np.array([[1] * 5 + [0] * 4, [0] * 3 + [2] * 6], np.float32)
    alone = [
        losses.average_precision_loss(
            u[i : i + 1], codes[j], similar[i : i + 1, j], tf.constant(counts[i, j])
        )
        for i, j in enumerate([slice(0, 5), slice(3, 9)])
    ]
    together = losses.average_precision_loss(u, codes, similar, tf.constant(counts))
    np.testing.assert_allclose(together, np.mean(alone), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.sigmoid_focal, losses.softmax_focal])
def test_focal_losses_stay_finite(loss):
    logits = tf.Variable([[200.0, -200.0], [-200.0, 200.0]])
    with tf.GradientTape() as tape:
        value = loss(t([[1, 0], [1, 0]]), logits)
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, logits)).all()


@pytest.mark.parametrize("loss", [losses.sigmoid_focal, losses.softmax_focal])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradients_are_finite_where_nothing_is_missed(loss, gamma):
    logits = tf.Variable([[120.0, 0.0], [-120.0, 1.0]])
    with tf.GradientTape() as tape:
        value = loss(tf.constant([[1.0, 0.0], [0.0, 1.0]]), logits, gamma=gamma)
    assert np.isfinite(tape.gradient(value, logits)).all()


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_losses_of_narrow_floats_are_computed_in_float32(dtype, rng):
    """The number of pairs of 300 codes is more than float16 holds."""
    u = tf.cast(np.sign(rng.normal(size=(300, 8))), dtype)
    similar = tf.cast(rng.random((300, 300)) < 0.1, dtype)
    wide = [tf.cast(value, tf.float32) for value in (u, similar)]
    for loss in (losses.pairwise_likelihood, losses.triplet_hinge):
        assert float(loss(u[:200], similar[:200, :200])) == float(
            loss(*(value[:200] for value in (wide[0], wide[1][:, :200])))
        )
    assert losses.pairwise_likelihood(u, similar) > 0
    p, q = tf.constant([1.0, 0.0], dtype), tf.constant([0.5, 0.5], dtype)
    np.testing.assert_allclose(losses.kl_divergence(p, q), np.log(2), rtol=1e-6)


def test_losses_have_the_type_of_their_scores():
    labels = np.array([[1, 0]])
    for scores, dtype in (
        (tf.constant([[2.0, 1.5]]), tf.float32),
        (tf.constant([[2.0, 1.5]], tf.float64), tf.float64),
        (tf.constant([[2.0, 1.5]], tf.bfloat16), tf.float32),
    ):
        for loss in (losses.codeword_hinge, losses.sigmoid_focal):
            assert loss(labels, scores).dtype == dtype


def test_floor_is_true_or_false():
    with pytest.raises(TypeError, match="`floor` must be True or False"):
        losses.codeword_hinge([[1, 0]], [[2.0, 1.5]], floor=None)
