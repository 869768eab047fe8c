import functools
import pathlib

import h5py
import keras
import numpy as np
import pytest
import scipy.io
import tensorflow as tf

import kerashash
from kerashash import backbones
from kerashash.backbones import cnn_f, efficientnet_lite
from kerashash.backbones.images import ResizeImages, input_size

VARIANTS = {"lite0": (224, 3_413_024), "lite2": (260, 4_869_168)}


@pytest.fixture(scope="module")
def small():
    return backbones.get("efficientnet-lite0", image_size=64)


@pytest.fixture
def few_blocks(monkeypatch):
    """EfficientNet-Lite of 3 blocks and 5 layers."""
    blocks = efficientnet_lite._LITE_BLOCKS[::3]
    monkeypatch.setattr(efficientnet_lite, "_LITE_BLOCKS", blocks)


@pytest.fixture
def tiny(few_blocks):
    backbone = backbones.get("efficientnet-lite0", image_size=64, weights=None)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(4 * layer.gamma)  # or random features are nearly 0
    return backbone


@pytest.fixture
def zeros(monkeypatch):
    """Dense layers without the time that large random kernels take."""
    dense = functools.partial(keras.layers.Dense, kernel_initializer="zeros")
    monkeypatch.setattr(cnn_f.layers, "Dense", dense)


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_are_those_of_the_original_network(variant):
    """The file holds the features that the PyTorch network gives for this picture.

    The largest are 4.2 and 5.8; kernels rounded to float16 change them by up to .024.
    """
    size, parameters = VARIANTS[variant]
    y, x = np.mgrid[:size, :size]
    channels = [127 + 100 * np.sin(x / 17 + c) * np.cos(y / (11 + c)) for c in range(3)]
    picture = np.stack(channels, axis=-1).astype(np.uint8)[None]
    backbone = backbones.EfficientNetLite(variant, image_size=size)
    assert backbone.count_params() == parameters
    file = pathlib.Path(__file__).parent / "data/efficientnet_lite_features.npz"
    with np.load(file) as original:
        np.testing.assert_allclose(backbone(picture)[0], original[variant], atol=0.03)


def test_any_size_and_dtype_of_image(small, rng):
    images = rng.integers(0, 256, (2, 40, 30, 3)).astype(np.uint8)
    features = small(images).numpy()
    assert features.shape == (2, 1280)
    np.testing.assert_allclose(small(images.astype(np.float32)), features, atol=1e-4)
    resized = tf.image.resize(images, (64, 64), "bicubic")
    np.testing.assert_allclose(small(resized), features, atol=1e-4)


def test_calling_does_not_train(small):
    """A layer in training mode by default would move the batch statistics."""
    before = [v.numpy() for v in small.non_trainable_variables]
    small(np.zeros((2, 64, 64, 3), np.uint8))
    for old, new in zip(before, small.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_save_and_load(tiny, rng, tmp_path):
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    tiny.save(tmp_path / "b.keras")
    loaded = keras.saving.load_model(tmp_path / "b.keras")
    assert type(loaded) is backbones.EfficientNetLite
    np.testing.assert_array_equal(loaded(images), tiny(images))


def test_weights_that_are_not_those_of_the_card_are_refused(monkeypatch):
    monkeypatch.setattr(
        "kerashash.backbones.efficientnet_lite.json.loads", lambda _: {"sha256": "0"}
    )
    with pytest.raises(ValueError, match=r"efficientnet-lite0.*is not the file"):
        backbones.get("efficientnet-lite0")


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_that_cannot_be_read_are_named(few_blocks, tmp_path):
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    for path in (tmp_path / "missing.weights.h5", other, "imagenet1k", 5):
        with pytest.raises(ValueError, match='`weights` must be "imagenet", None'):
            backbones.EfficientNetLite(image_size=64, weights=path)


def test_weights_are_read_from_a_path(tiny, rng, tmp_path):
    tiny.save_weights(tmp_path / "own.weights.h5")
    loaded = backbones.EfficientNetLite(
        image_size=64, weights=tmp_path / "own.weights.h5"
    )
    images = rng.integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    np.testing.assert_array_equal(loaded(images), tiny(images))


def test_saved_model(tiny, rng, tmp_path):
    images = rng.integers(0, 256, (2, 40, 30, 3)).astype(np.float32)
    tiny.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    features = tiny(images).numpy()
    assert features.max() > 0.1
    np.testing.assert_allclose(loaded.serve(images), features, atol=1e-5)


def test_split_shares_the_layers(tiny, rng):
    lower, upper = backbones.split(tiny, "block2b")
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    whole = tiny(images).numpy()
    assert whole.max() > 0.1
    np.testing.assert_allclose(upper(lower(images)), whole, atol=1e-5)
    upper.compile("sgd", "mse")
    upper.fit(lower(images), np.ones((2, 1280)), verbose=0)
    assert np.abs(tiny(images) - whole).max() > 1e-4
    np.testing.assert_allclose(upper(lower(images)), tiny(images), atol=1e-5)


def test_mirrored_features_are_those_of_both_images(tiny, rng, tmp_path):
    images = rng.integers(0, 256, (3, 40, 56, 3)).astype(np.uint8)
    mirror_images = np.flip(images, axis=2)
    network = backbones.mirrored(tiny)
    features = network(images)
    alone = tiny(images), tiny(mirror_images)
    assert not np.allclose(*alone, rtol=1e-3)
    np.testing.assert_allclose(features, (alone[0] + alone[1]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(features, network(mirror_images))
    assert input_size(network) == input_size(tiny)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(features, loaded(images))
    # The two ways through the network share its weights.
    assert len(network.weights) == len(loaded.weights) == len(tiny.weights)


@pytest.mark.parametrize("shape", [(8,), (8, 3)])
def test_only_networks_of_images_are_mirrored(shape):
    network = keras.Sequential([keras.Input(shape), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`backbone` must take images"):
        backbones.mirrored(network)
    with pytest.raises(ValueError, match="`backbone` must take images"):
        backbones.mirrored(keras.layers.Dense(2))


def test_split_names_layers_that_do_not_cut(small):
    with pytest.raises(ValueError, match=r"'block5'.*block5a"):
        backbones.split(small, "block5")
    with pytest.raises(ValueError, match="must cut the backbone in two"):
        backbones.split(small, "block5b_expand_conv")
    with pytest.raises(ValueError, match="must cut the backbone in two"):
        backbones.split(small, "pool")
    with pytest.raises(TypeError, match="`layer_name` must be a name"):
        backbones.split(small, 3)
    with pytest.raises(TypeError, match="`backbone` must be a functional"):
        backbones.split(keras.Sequential([keras.layers.Dense(2, name="a")]), "a")


def test_cnn_f_is_the_published_architecture(zeros):
    backbone = backbones.get("cnn-f")
    shapes = {
        layer.name: tuple(layer.output.shape[1:])
        for layer in backbone.layers
        if layer.name.startswith(("conv", "pool", "fc"))
    }
    assert shapes["conv1"] == (54, 54, 64)
    assert shapes["pool1"] == (27, 27, 64)
    assert shapes["conv2"] == (27, 27, 256)
    assert shapes["pool2"] == (13, 13, 256)
    assert shapes["conv5"] == (13, 13, 256)
    assert shapes["pool5"] == (6, 6, 256)
    assert shapes["fc7"] == (4096,)
    kernels = 11**2 * 3 * 64 + 5**2 * 64 * 256 + 3 * 3**2 * 256**2
    kernels += 9216 * 4096 + 4096**2
    biases = 64 + 4 * 256 + 2 * 4096
    trained = sum(np.prod(v.shape) for v in backbone.trainable_variables)
    assert trained == kernels + biases
    gray = np.full((1, 224, 224, 3), 128, np.float32)
    centered = backbone.get_layer("center")(gray)[0, 5, 7]
    np.testing.assert_allclose(centered, [4.32, 11.221, 24.061], rtol=1e-5)


def test_local_response_normalization_is_the_formula(rng):
    x = (50 * rng.normal(size=(1, 2, 2, 8))).astype(np.float32)
    energy = np.stack(
        [(x[..., max(0, c - 2) : c + 3] ** 2).sum(-1) for c in range(8)], axis=-1
    )
    layer = backbones.cnn_f.LocalResponseNormalization()
    np.testing.assert_allclose(layer(x), x / (2 + 1e-4 * energy) ** 0.75, rtol=1e-4)


@pytest.mark.parametrize(
    "form",
    [
        "filters",
        pytest.param("net.weights", marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def test_cnn_f_reads_matconvnet_files(form, zeros, rng, tmp_path):
    backbone = backbones.get("cnn-f")
    layers, expected = [], {}
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
        shape = backbone.get_layer(name).kernel.shape
        if name == "fc6":
            shape = (6, 6, 256, 4096)
        elif name == "fc7":
            shape = (1, 1, 4096, 4096)
        kernel = np.full(shape, rng.normal(), np.float32)
        kernel.flat[:7] = rng.normal(size=7)
        bias = rng.normal(size=(1, shape[-1])).astype(np.float32)
        expected[name] = kernel, bias.ravel()
        both = np.empty((1, 2), object)
        both[0, 0], both[0, 1] = kernel, bias
        own = (
            {"filters": kernel, "biases": bias}
            if form == "filters"
            else {"weights": both}
        )
        layers += [{"name": name, "type": "conv", **own}, {"name": "relu", "type": "r"}]
    cells = np.empty((1, len(layers)), object)
    cells[0] = layers
    path = tmp_path / "imagenet-vgg-f.mat"
    # One form keeps a mean image, the other a mean colour.
    size = 1 if form == "filters" else 224
    mean = (100 + rng.normal(size=(size, size, 3))).astype(np.float32)
    description = {"normalization": {"averageImage": mean}}
    if form == "filters":
        scipy.io.savemat(path, {"layers": cells, **description})
    else:
        scipy.io.savemat(path, {"net": {"layers": cells, "meta": description}})
    loaded = backbones.get("cnn-f", weights=path)
    (center,) = loaded.get_layer("center").get_weights()
    np.testing.assert_array_equal(center, np.broadcast_to(mean, (224, 224, 3)))
    for name, (kernel, bias) in expected.items():
        weights = loaded.get_layer(name).get_weights()
        np.testing.assert_array_equal(weights[0].ravel(), kernel.ravel())
        np.testing.assert_array_equal(weights[1], bias)


def test_cnn_f_names_files_that_are_not_its_weights(zeros, tmp_path):
    other = tmp_path / "other.mat"
    scipy.io.savemat(other, {"x": np.zeros(3)})
    empty = tmp_path / "empty.mat"
    empty.touch()
    for path in (other, empty, tmp_path / "missing.mat", __file__, 5):
        with pytest.raises(ValueError, match="`weights` must be None or a path"):
            backbones.get("cnn-f", weights=path)


def test_keras_applications_bring_their_preprocessing(rng, tmp_path):
    backbone = backbones.get("MobileNet", weights=None, image_size=64)
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    inner = backbone.get_layer("mobilenet_1.00_64")
    scaled = keras.applications.mobilenet.preprocess_input(images.astype(np.float32))
    # In units of the largest: features of random weights are nearly 0.
    expected = inner(scaled).numpy()
    unit = np.abs(expected).max()
    np.testing.assert_allclose(backbone(images) / unit, expected / unit, atol=1e-3)
    raw = inner(images.astype(np.float32)).numpy()
    assert np.abs(raw - expected).max() > 0.1 * unit
    backbone.save(tmp_path / "b.keras")
    loaded = keras.saving.load_model(tmp_path / "b.keras")
    np.testing.assert_allclose(loaded(images), backbone(images), atol=1e-6)


def test_features_pass_vectors_on():
    x = tf.random.normal((3, 5))
    np.testing.assert_array_equal(backbones.get("features")(x), x)


def test_a_model_is_its_own_backbone(small):
    assert backbones.get(small) is small


def test_features_of_a_list_stand_side_by_side(few_blocks, rng, tmp_path):
    names = ["efficientnet-lite0", "efficientnet-lite2"]
    both = backbones.get(names, image_size=64, weights=None)
    assert input_size(both) == 64
    images = rng.integers(0, 256, (2, 40, 30, 3)).astype(np.uint8)
    apart = [both.get_layer(name.replace("-", "_"))(images) for name in names]
    np.testing.assert_allclose(both(images), np.hstack(apart), atol=1e-6)
    both.save(tmp_path / "b.keras")
    loaded = keras.saving.load_model(tmp_path / "b.keras")
    np.testing.assert_array_equal(loaded(images), both(images))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([],), {}, ValueError, "hold two or more networks"),
        ((["features", keras.Sequential(name="b")],), {}, ValueError, "same images"),
        ((["cnn-f", 5],), {}, TypeError, "Received: 5"),
        (("efficientnet-lite1",), {}, ValueError, "Did you mean.*efficientnet-lite"),
        (("MobilNetV2",), {}, ValueError, "Did you mean.*MobileNetV2"),
        ((5,), {}, TypeError, "`backbone` must be a name or a keras.Model"),
        (("efficientnet-lite0",), {"image_size": 8}, ValueError, "at least 32"),
        (("efficientnet-lite0",), {"image_size": 9.5}, TypeError, "an integer"),
        (("efficientnet-lite0",), {"imagesize": 64}, TypeError, "imagesize"),
        (("cnn-f",), {"image_size": 64}, TypeError, "image_size"),
        ((keras.Sequential(),), {"image_size": 64}, TypeError, "takes no options"),
    ],
)
def test_bad_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        backbones.get(*arguments, **options)


def test_unknown_variant_is_named():
    with pytest.raises(ValueError, match=r"`variant` must be one of.*'lite9'"):
        backbones.EfficientNetLite("lite9")


def test_input_size_is_found_wherever_the_resizing_is(few_blocks):
    lite = backbones.get("efficientnet-lite0", image_size=96, weights=None)
    nested = keras.Sequential([lite, keras.layers.Dense(3)])
    mobile = backbones.get("MobileNet", image_size=64, weights=None)
    fixed = keras.Sequential([keras.Input((20, 20, 3)), keras.layers.Flatten()])
    free = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)])
    vectors = keras.Sequential([keras.Input((20,)), keras.layers.Dense(3)])
    features = backbones.get("features")
    both = backbones.get([mobile, lite])
    networks = (lite, nested, mobile, both, fixed, free, vectors, features)
    sizes = [input_size(network) for network in networks]
    assert sizes == [96, 96, 64, 96, 20, None, None, None]


@pytest.mark.parametrize("mode", ["known size", "any size", "XLA"])
def test_resizing_is_that_of_tensorflow(mode, rng):
    """Up and down, to 1e-3 of a grey level; in graphs, where divisions by constants
    become products, too."""
    sides = [(1, 1), (31, 64), (64, 31), (200, 99), (454, 463), (397, 465)]
    for size in (32, 99, 224, 331) if mode == "known size" else (99, 331):
        layer = ResizeImages(size)
        if mode != "known size":
            spec = tf.TensorSpec((None, None, None, 3), tf.uint8)
            layer = tf.function(layer, [spec], jit_compile=mode == "XLA")
        for height, width in sides if mode != "XLA" else sides[-1:]:
            images = rng.integers(0, 256, (2, height, width, 3)).astype(np.uint8)
            expected = tf.image.resize(images, (size, size), "bicubic")
            np.testing.assert_allclose(layer(images), expected, atol=1e-3, rtol=0)


def test_resizing_large_photographs_and_what_has_its_size(rng):
    photograph = rng.integers(0, 256, (1, 700, 1201, 3)).astype(np.uint8)
    expected = tf.image.resize(photograph, (32, 32), "bicubic")
    np.testing.assert_allclose(ResizeImages(32)(photograph), expected, atol=1e-3)
    same = rng.integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    resized = ResizeImages(32)(same)
    assert resized.dtype == tf.float32
    np.testing.assert_array_equal(resized, same)


def test_resizing_is_in_float32_in_mixed_precision(rng):
    images = (255 * rng.random((1, 40, 30, 3))).astype(np.float32)
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        resized = ResizeImages(64)(images)
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    expected = tf.image.resize(images, (64, 64), "bicubic")
    np.testing.assert_allclose(resized, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "cnn-f", "MobileNet"])
def test_images_have_channels_last_whatever_keras_is_set_to(
    name, few_blocks, zeros, rng
):
    options = {} if name == "cnn-f" else {"image_size": 64, "weights": None}
    images = rng.integers(0, 256, (2, 40, 30, 3)).astype(np.uint8)
    backbone = backbones.get(name, **options)
    config = keras.saving.serialize_keras_object(backbone)
    keras.config.set_image_data_format("channels_first")
    try:
        copies = [
            backbones.get(name, **options),
            keras.saving.deserialize_keras_object(config),
        ]
        for copy in copies:
            copy.set_weights(backbone.get_weights())
            np.testing.assert_allclose(copy(images), backbone(images), atol=1e-5)
        assert keras.config.image_data_format() == "channels_first"
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("name", ["efficientnet-lite0", "cnn-f", "MobileNet"])
def test_backbones_in_float64(name, few_blocks, zeros, rng):
    options = {} if name == "cnn-f" else {"image_size": 64, "weights": None}
    images = rng.integers(0, 256, (1, 40, 30, 3)).astype(np.uint8)
    backbone = backbones.get(name, **options)
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        wide = backbones.get(name, **options)
        wide.set_weights(backbone.get_weights())
        features = wide(images)
        assert features.dtype == tf.float64
        np.testing.assert_allclose(features, backbone(images), atol=1e-3)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)


def quantile_model(rows, steps=4):
    encoding = backbones.QuantileEncoding(steps)
    encoding.adapt(rows)
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((3,)), encoding, keras.layers.Dense(8)])
    return kerashash.AdaLabelHash(net, bits=24, num_classes=3)


def test_quantiles_are_loaded_with_the_weights(rng, tmp_path):
    rows, path = rng.normal(size=(50, 3)), tmp_path / "q.weights.h5"
    model, other = quantile_model(rows), quantile_model(5 * rows + 3)
    model.save_weights(path)
    assert (other.encode(rows) != model.encode(rows)).any()
    other.load_weights(path)
    np.testing.assert_array_equal(other.encode(rows), model.encode(rows))
    assert other.backbone.layers[0].adapted == model.backbone.layers[0].adapted
    binary = np.concatenate([rows[:, :2], rows[:, 2:] > 0], axis=1)
    with pytest.raises(ValueError, match=r"3 columns, 2 of them numeric.* 3 of them"):
        quantile_model(binary).load_weights(path)
    with pytest.raises(ValueError, match=r"has steps=5.*\(3, 3\)"):
        quantile_model(rows, steps=5).load_weights(path)
    # Files of version 0.1 have the quantiles in the config of a model alone.
    with h5py.File(path, "r+") as file:
        file["backbone/layers/quantile_encoding/vars"].clear()
    old = quantile_model(5 * rows + 3)
    before = old.backbone.layers[0].adapted
    old.load_weights(path)
    assert old.backbone.layers[0].adapted == before


def test_whitening_names_another_width(rng):
    layer = backbones.Whitening(components=2)
    layer.adapt(rng.normal(size=(9, 4)))
    assert layer(np.ones((2, 4))).shape == (2, 2)
    with pytest.raises(ValueError, match=r"adapted to 4 columns.*\(2, 5\)"):
        layer(np.ones((2, 5)))
