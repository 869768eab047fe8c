import numpy as np
import pytest
import tensorflow as tf

from kerashash.data import augmented


@pytest.fixture
def pairs(rng):
    x = rng.integers(0, 256, (6, 8, 10, 3), np.uint8)
    return x, tf.data.Dataset.from_tensor_slices((x, {"index": np.arange(6)}))


def views(image, shift):
    """All that an image may become."""
    padded = np.pad(image, [(shift, shift)] * 2 + [(0, 0)], "reflect")
    size = 2 * shift + 1
    moved = [padded[i:, j:][:8, :10] for i in range(size) for j in range(size)]
    return moved + [view[:, ::-1] for view in moved]


def test_images_move_and_are_mirrored(pairs):
    x, dataset = pairs
    seen = set()
    for image, y in augmented(dataset, shift=1).repeat(20).as_numpy_iterator():
        matches = [np.array_equal(image, view) for view in views(x[y["index"]], 1)]
        assert any(matches)
        seen.add(np.argmax(matches))
    assert len(seen) == 18


def test_the_same_seed_draws_the_same(pairs):
    runs = []
    for seed in (3, 3, 4):
        tf.random.set_seed(seed)
        runs.append([x for x, _ in augmented(pairs[1], shift=2).as_numpy_iterator()])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_nothing_asked_for_changes_nothing(pairs):
    x, dataset = pairs
    same = augmented(dataset, flip=False).as_numpy_iterator()
    np.testing.assert_array_equal([image for image, _ in same], x)


def test_bad_arguments_are_named(pairs):
    _, dataset = pairs
    with pytest.raises(TypeError, match=r"`dataset` must be a tf\.data\.Dataset"):
        augmented([1])
    for wrong in (dataset.batch(2), dataset.map(lambda x, y: x)):
        with pytest.raises(ValueError, match="`dataset` must have elements"):
            augmented(wrong)
    with pytest.raises(TypeError, match="`flip` must be True or False"):
        augmented(dataset, flip="false")
    for shift in (-1, 8):
        with pytest.raises(ValueError, match="`shift` must be"):
            augmented(dataset, shift=shift)
