import numpy as np
import pytest
import tensorflow as tf

from kerashash.maths import similarity
from kerashash.maths.similarity import (
    LabelSimilarity,
    may_share_label,
    shares_label,
)


def labelled(rng, single):
    """Labels with some empty rows, and the matrix S they define, in full."""
    if single:
        labels = np.eye(5)[rng.integers(0, 5, 60)]
    else:
        labels = (rng.random((60, 5)) < 0.3).astype(float)
        labels[:3] = 0
    return labels, labels @ labels.T > 0


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("balanced", [True, False])
def test_factorised_similarity_equals_the_matrix(rng, single, balanced):
    labels, share = labelled(rng, single)
    s = LabelSimilarity(labels, balanced)
    r = share.sum() / (~share).sum() if balanced else 1.0
    assert s.dissimilar == pytest.approx(r)
    matrix = np.where(share, 1.0, -r)
    m = rng.normal(size=(60, 7)).astype(np.float32)
    rows = tf.constant(labels, tf.float32)
    np.testing.assert_allclose(
        s.product(rows, s.sum_by_pattern(m)), matrix @ m, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(s.square_sum(rows), (matrix**2).sum(1), rtol=1e-5)


def some_unknown(rng):
    """Labels of which a third is unknown, and what is known of their pairs, in full."""
    labels = (rng.random((60, 5)) < 0.3).astype(np.float32)
    labels[rng.random((60, 5)) < 0.3] = -1
    share = ((labels == 1) @ (labels == 1).T.astype(int)) > 0
    one_side = (labels == 1) @ (labels == -1).T.astype(int)
    return labels, share, ~share & (one_side + one_side.T > 0)


@pytest.mark.parametrize("balanced", [True, False])
def test_similarity_with_unknown_labels_equals_the_matrix(rng, balanced):
    labels, share, unknown = some_unknown(rng)
    np.testing.assert_array_equal(shares_label(labels, labels), share)
    np.testing.assert_array_equal(may_share_label(labels, labels), unknown)
    s = LabelSimilarity(labels, balanced)
    np.testing.assert_array_equal(tf.gather(s.patterns, s.pattern_of), labels)
    r = share.sum() / (~share & ~unknown).sum() if balanced else 1.0
    assert s.dissimilar == pytest.approx(r)
    matrix = np.where(share, 1.0, -r)
    matrix[unknown] = matrix[~unknown].mean()  # 0 if S is balanced
    m = rng.normal(size=(60, 7)).astype(np.float32)
    np.testing.assert_allclose(
        s.product(labels, s.sum_by_pattern(m)), matrix @ m, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(s.square_sum(labels), (matrix**2).sum(1), rtol=1e-5)


def test_a_label_unknown_of_all_images_changes_nothing(rng):
    labels, _ = labelled(rng, single=False)
    with_unknown = np.hstack([labels, np.full((60, 1), -1.0)])
    s, same = (LabelSimilarity(y, balanced=True) for y in (labels, with_unknown))
    assert s.dissimilar == same.dissimilar
    np.testing.assert_array_equal(s.pattern_of, same.pattern_of)


def test_rows_outside_the_data_set(rng):
    labels, _ = labelled(rng, single=False)
    s = LabelSimilarity(labels, balanced=False)
    new = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.float32)
    m = rng.normal(size=(60, 2)).astype(np.float32)
    matrix = np.where(new @ labels.T > 0, 1.0, -1.0)
    np.testing.assert_allclose(
        s.product(new, s.sum_by_pattern(m)), matrix @ m, rtol=1e-4, atol=1e-4
    )


def test_patterns_are_the_distinct_rows(rng):
    labels, _ = labelled(rng, single=False)
    s = LabelSimilarity(labels, balanced=False)
    np.testing.assert_array_equal(tf.gather(s.patterns, s.pattern_of), labels)
    assert len(s.patterns) == len(np.unique(labels, axis=0))
    assert s.counts.numpy().sum() == 60


def test_an_image_without_labels_is_similar_to_nothing():
    assert not shares_label([[0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]).numpy().any()


def test_one_kind_of_pair_needs_no_balance():
    assert LabelSimilarity(np.ones((4, 2)), balanced=True).dissimilar == 1.0


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e25, 1e300])
def test_neighbours_do_not_depend_on_the_scale(scale, rng):
    features = rng.normal(size=(20, 3))
    np.testing.assert_array_equal(
        similarity.nearest_neighbours(scale * features, 5),
        similarity.nearest_neighbours(features, 5),
    )


@pytest.mark.parametrize(
    ("features", "k", "message"),
    [
        ([[1.0], [np.nan], [2.0]], 1, "`features` must be finite.*rows \\[1\\]"),
        ([[1.0], [np.inf], [2.0]], 1, "`features` must be finite"),
        ([1.0, 2.0], 1, "`features` must have shape"),
        ([["a"], ["b"]], 1, "`features` must hold"),
        (np.eye(3), 3, "`k` must be from 1 to n - 1 = 2"),
        (np.eye(3), 0, "`k` must be"),
        (np.eye(3), 1.0, "`k` must be an integer"),
    ],
)
def test_wrong_features_are_named(features, k, message):
    with pytest.raises((TypeError, ValueError), match=message):
        similarity.nearest_neighbours(features, k)


@pytest.mark.parametrize("labels", [[0, 1], [[0.5, 1]], [[0, 1], [1]]])
def test_wrong_labels_are_named(labels):
    with pytest.raises(ValueError, match="`labels` must"):
        LabelSimilarity(labels, balanced=True)


@pytest.mark.parametrize("balanced", [None, 1, "false"])
def test_balanced_is_true_or_false(balanced):
    with pytest.raises(TypeError, match="`balanced` must be True or False"):
        LabelSimilarity(np.eye(2), balanced)


def test_options_are_integers_of_every_type(rng):
    features = rng.normal(size=(9, 3))
    np.testing.assert_array_equal(
        similarity.nearest_neighbours(features, np.uint8(2), block=np.int64(4)),
        similarity.nearest_neighbours(features, 2),
    )
    expanded = [
        similarity.expanded_neighbours(features, *options).toarray()
        for options in ((2, 3, 4), (np.uint8(2), np.int16(3), np.int64(4)))
    ]
    np.testing.assert_array_equal(*expanded)


@pytest.mark.parametrize("kind", [list, np.array, np.uint8, bool])
def test_pairs_of_labels_of_every_type(kind):
    a, b = np.array([[1, 0], [0, 1]]), np.array([[1, 1], [0, 1], [0, 0]])
    convert = (lambda y: y.astype(kind)) if isinstance(kind, type) else kind
    a, b = (y.tolist() if kind is list else convert(y) for y in (a, b))
    expected = [[True, False, False], [True, True, False]]
    np.testing.assert_array_equal(similarity.shares_label(a, b), expected)
    assert not np.any(similarity.may_share_label(a, b))


@pytest.mark.parametrize("block", [0, -1, 1.5])
def test_blocks_have_rows(block, rng):
    features = rng.random((5, 3))
    with pytest.raises((TypeError, ValueError), match="`block` must be"):
        similarity.nearest_neighbours(features, 2, block=block)
    with pytest.raises((TypeError, ValueError), match="`block` must be"):
        similarity.expanded_neighbours(features, 2, 2, block=block)
