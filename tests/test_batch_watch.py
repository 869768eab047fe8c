"""What `fit` and `encode` check in each batch: labels, and the range of images."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerashash
from kerashash import DCDH, DDH, DDHLDL, DSRE, AdaLabelHash
from kerashash.baselines import SSDH
from kerashash.data import batch_watch


def pairs(labels, width=8):
    """A data set of batches, some of them before those with the given labels."""
    labels = np.concatenate([np.tile(np.eye(4), (4, 1)), labels]).astype(np.float32)
    x = np.random.default_rng(0).random((len(labels), width)).astype(np.float32)
    dataset = kerashash.data.indexed(tf.data.Dataset.from_tensor_slices((x, labels)))
    return dataset.batch(4), len(labels)


def network():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(8, "relu")])


@pytest.mark.parametrize(
    ("method", "wrong", "message"),
    [
        (AdaLabelHash, 2 * np.eye(4), r"`label` must contain only 0, 1, -1.*\[2\.\]"),
        (AdaLabelHash, np.eye(4) * np.nan, "`label` must contain only 0, 1, -1"),
        (SSDH, 2 * np.eye(4), r"`label` must contain only 0, 1\..*\[2\.\]"),
        (SSDH, -np.eye(4), r"`label` must contain only 0, 1\..*\[-1\.\]"),
        (DCDH, 0.5 * np.eye(4), r"`label` must contain only 0, 1, -1.*\[0\.5\]"),
        (DSRE, 2 * np.eye(4), r"`label` must contain only 0, 1\..*\[2\.\]"),
        (DDHLDL, 2 * np.eye(4), "`label` must have rows that sum to 1"),
        (DDHLDL, 2 * np.eye(4) - 0.25, "`label` must be at least 0"),
    ],
)
def test_labels_of_data_sets_are_checked(method, wrong, message):
    dataset, n = pairs(wrong)
    kwargs = {} if method in (AdaLabelHash, SSDH) else {"num_train": n}
    model = method(network(), bits=8, num_classes=4, **kwargs)
    model.compile("adam")
    with pytest.raises(ValueError, match=message):
        model.fit(dataset, verbose=0)


def test_labels_that_a_method_takes_pass():
    unknown = np.eye(4)
    unknown[:, 0] = -1
    model = AdaLabelHash(network(), bits=8, num_classes=4)
    model.compile("adam")
    model.fit(pairs(unknown)[0], epochs=2, verbose=0)
    # Without labels there is nothing to check.
    dataset, n = pairs(2 * np.eye(4))
    model = DDH(network(), bits=8, num_train=n)
    model.compile("adam")
    model.fit(dataset.map(lambda x, y: (x, {"index": y["index"]})), verbose=0)


def test_other_errors_of_a_data_set_stay_as_they_are():
    def fail(x):
        raise RuntimeError("a broken disk")

    dataset, _ = pairs(np.eye(4))
    broken = dataset.map(
        lambda x, y: (
            tf.ensure_shape(tf.numpy_function(fail, [x], tf.float32), (None, 8)),
            y,
        )
    )
    model = AdaLabelHash(network(), bits=8, num_classes=4)
    model.compile("adam")
    with pytest.raises(tf.errors.OpError, match="a broken disk"):
        model.fit(broken, verbose=0)


@pytest.fixture(scope="module")
def image_model():
    """A model on a network that scales images itself."""
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    net = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    model = AdaLabelHash(net, bits=8, num_classes=2)
    model.compile("adam")
    return model


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), np.uint8)
LABELS = np.eye(2, dtype=np.float32)[np.arange(12) % 2]


def sources(x):
    """The ways in which images are passed, for `encode` and for `fit`."""
    dataset = tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(4)
    return [(x, LABELS), (dataset, None)]


@pytest.mark.parametrize(
    ("scaled", "received"),
    [
        (IMAGES / 255.0, "none above 1"),
        (IMAGES / 127.5 - 1.0, "none above 1"),
        (IMAGES / 60.0 - 2.0, "some below 0"),
        (IMAGES * 257.0, "some above 255"),
    ],
)
def test_scaled_images_are_warned_of_once(image_model, scaled, received):
    for x, y in sources(np.float32(scaled)):
        for run in (
            lambda x=x: image_model.encode(x, batch_size=2),
            lambda x=x, y=y: image_model.fit(x, y, batch_size=2, verbose=0),
        ):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                run()
            (warning,) = caught
            assert r"in [0, 255]" in str(warning.message)
            assert received in str(warning.message)


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_integers_out_of_range_are_warned_of(dtype):
    values = IMAGES.astype(dtype) * 257
    received = {"uint16": "some above 255", "int32": "some below 0"}[dtype]
    values = values - 300 if dtype == "int32" else values
    watch = batch_watch.BatchWatch(keras.layers.Rescaling(1 / 255))
    with pytest.warns(UserWarning, match=rf"in \[0, 255\].*{received}"):
        watch.check_images(values)
    watch = batch_watch.BatchWatch(keras.layers.Rescaling(1 / 255))
    with pytest.warns(UserWarning, match=received), watch:
        [*watch.over(tf.data.Dataset.from_tensors((values, LABELS)))]


def test_images_without_pixels_are_refused():
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D()]
    net = keras.Sequential([keras.Input((None, None, 3)), *layers])
    model = AdaLabelHash(net, bits=8, num_classes=2)
    model.compile("adam")
    assert model.encode(np.zeros((0, 4, 4, 3))).shape == (0, 1)
    for x, y in sources(np.zeros((12, 0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"`x` must hold images with.*a side of 0"):
            model.encode(x)
        with pytest.raises(ValueError, match=r"`x` must hold images with.*a side of 0"):
            model.fit(x, y, verbose=0)


@pytest.mark.parametrize("x", [IMAGES, np.float32(IMAGES), np.zeros((12, 4, 4, 3))])
def test_images_in_range_are_not_warned_of(image_model, x):
    for given, y in sources(x):
        image_model.encode(given)
        image_model.fit(given, y, verbose=0)


def test_networks_of_another_range_are_not_warned_of():
    net = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    AdaLabelHash(net, bits=8, num_classes=2).encode(IMAGES / 255.0)
    vectors = AdaLabelHash(network(), bits=8, num_classes=4)
    vectors.encode(np.random.default_rng(0).random((5, 8)))
    backbone = kerashash.backbones.get("cnn-f")
    with pytest.warns(UserWarning, match=r"in \[0, 255\]"):
        AdaLabelHash(backbone, bits=8, num_classes=2).encode(IMAGES[:2] / 255.0)


def test_the_range_is_documented():
    for method in (kerashash.HashModel.encode, kerashash.HashModel.fit):
        assert "[0, 255]" in method.__doc__


@pytest.mark.parametrize(
    ("n", "batch_size", "expected"),
    [
        (1025, 1024, 1025),
        (1087, 1024, 1023),  # with a rest of 64
        (1088, 1024, 1024),
        (33, 32, 33),
        (9, 8, 8),
        (5, 1024, 1024),
    ],
)
def test_batch_sizes_without_a_tiny_rest(n, batch_size, expected):
    assert batch_watch.untrimmed_batch_size(n, batch_size) == expected


def normalized(**options):
    layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(**options)]
    return keras.Sequential([keras.Input((3,)), *layers])


def sizes_of_batches(model, *data, **options):
    """How many rows the steps of one epoch get."""
    sizes, step = [], model.train_step

    def watched(batch):
        sizes.append(len(batch[0]))
        return step(batch)

    model.train_step = watched
    model.compile("sgd", run_eagerly=True)
    model.fit(*data, verbose=0, **options)
    return sizes


@pytest.mark.parametrize("method", [AdaLabelHash, DSRE, DDHLDL])
def test_batch_normalization_gets_no_tiny_batch(method, rng):
    x, y = rng.normal(size=(33, 3)), np.eye(4)[np.arange(33) % 4]
    options = {"bits": 4, "num_classes": 4}
    if method is DDHLDL:
        units = {"code_units": (4,), "function_units": (4,)}
        options = {**options, **units, "num_train": 33, "code_epochs": 2}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The function network")
        model = method(normalized(), **options)
        assert sizes_of_batches(model, x, y, batch_size=32) == [33]
        if method is not DDHLDL:
            model = method(normalized(trainable=False), **options)
            assert sizes_of_batches(model, x, y, batch_size=32) == [32, 1]
        rows = {"label": y, "index": np.arange(33, dtype=np.int32)}
        dataset = tf.data.Dataset.from_tensor_slices((x, rows)).batch(32)
        model = method(normalized(), **options)
        with pytest.warns(UserWarning, match="batches of 32 rows and one of 1"):
            assert sizes_of_batches(model, dataset) == [32, 1]
