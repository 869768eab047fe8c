"""HashModel: encoding, its input checks, and models on another backbone."""

import json
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp
from test_configs import OPTIONS

import kerashash
from kerashash import baselines, codes
from kerashash.data.progress import progress


@pytest.fixture
def model():
    return kerashash.AdaLabelHash(mlp(6), bits=12, num_classes=3)


@pytest.fixture
def image_model():
    net = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    )
    return kerashash.AdaLabelHash(net, bits=12, num_classes=3)


def test_encode_is_the_sign_of_the_continuous_code(model, rng):
    x = rng.normal(size=(37, 6)).astype(np.float32)
    u = model.predict(x, verbose=0)
    np.testing.assert_allclose(model.continuous_codes(x, batch_size=5), u, atol=1e-6)
    unpacked = model.encode(x, batch_size=10, packed=False)
    assert unpacked.dtype == np.int8
    np.testing.assert_array_equal(unpacked, np.where(u >= 0, 1, -1))
    packed = model.encode(x)
    assert packed.shape == (37, 2)
    np.testing.assert_array_equal(codes.unpack(packed, 12), unpacked)
    assert model.encode(x[:0]).shape == (0, 2)


def test_the_sign_of_zero_is_one():
    model = kerashash.AdaLabelHash("features", 12, 3, hash_initializer="zeros")
    x = np.ones((2, 6))
    assert model.encode(x).tolist() == [[255, 240]] * 2
    assert (model.encode(x, packed=False) == 1).all()


def test_encode_takes_arrays_and_data_sets_batched_or_not(model, rng):
    x = rng.normal(size=(37, 6)).astype(np.float32)
    expected = model.encode(x)
    only_x = tf.data.Dataset.from_tensor_slices(x)
    pairs = tf.data.Dataset.from_tensor_slices((x, {"label": np.eye(3)[[0] * 37]}))
    for source in (x.tolist(), only_x, only_x.batch(8), pairs, pairs.batch(8)):
        np.testing.assert_array_equal(model.encode(source, batch_size=5), expected)


def test_a_backbone_without_an_input_shape_takes_data_sets(digits):
    model = kerashash.AdaLabelHash("features", bits=8, num_classes=10)
    assert model.encode(digits.query).shape == (300, 1)
    assert model.encode(digits.query.batch(50)).shape == (300, 1)


def test_encode_takes_image_files(image_model, rng, tmp_path):
    images = rng.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        tf.io.write_file(str(path), tf.io.encode_png(image))
    expected = image_model.encode(images)
    np.testing.assert_array_equal(image_model.encode(paths, batch_size=2), expected)
    # A network that contains networks, as `with_backbone` may make it.
    head = keras.Sequential([keras.Input((784,)), keras.layers.Dense(4)])
    nested = keras.Sequential([image_model.backbone, head])
    model = kerashash.AdaLabelHash(nested, bits=12, num_classes=3)
    np.testing.assert_array_equal(model.encode(paths), model.encode(images))
    big = tmp_path / "big.jpg"
    tf.io.write_file(str(big), tf.io.encode_jpeg(np.zeros((50, 30, 3), np.uint8)))
    assert image_model.encode([str(big)]).shape == (1, 2)


def test_image_files_that_cannot_be_read_are_named(image_model, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    with pytest.raises(ValueError, match=r"broken\.jpg.*not a readable image"):
        image_model.encode([broken])
    with pytest.raises(ValueError, match=r"missing\.jpg.*no such file"):
        image_model.encode([tmp_path / "missing.jpg"])
    with pytest.raises(ValueError, match=r"`x`.*'photo\.jpg', where there is nothing"):
        image_model.encode("photo.jpg")


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((3, 5)), ValueError, r"`x` must have shape \(n, 6\).*\(3, 5\)"),
        (np.full((3, 6), np.nan), ValueError, r"`x` must be finite.*\[0, 1, 2\]"),
        (np.array([["a"] * 6]), TypeError, "`x` must hold integers or floats"),
        (np.zeros((3, 6), bool), TypeError, "`x` must hold integers or floats"),
        (["a.jpg"], ValueError, "takes no images"),
    ],
)
def test_encode_names_bad_input(model, x, error, message):
    with pytest.raises(error, match=message):
        model.encode(x)


def test_encode_names_bad_data_sets(model):
    repeated = tf.data.Dataset.from_tensors(np.zeros(6, np.float32)).repeat()
    with pytest.raises(ValueError, match=r"`x` must be finite.*repeats"):
        model.encode(repeated)
    narrow = tf.data.Dataset.from_tensor_slices(np.zeros((4, 5), np.float32))
    with pytest.raises(ValueError, match="`x` must yield batches of shape"):
        model.encode(narrow)
    nan = tf.data.Dataset.from_tensor_slices(np.full((4, 6), np.nan, np.float32))
    with pytest.raises(ValueError, match="finite codes"):
        model.encode(nan)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        model.encode(np.zeros((3, 6)), batch_size=0)


def test_progress_is_a_line_at_both_ends_where_there_is_no_terminal(
    model, rng, capsys, monkeypatch
):
    monkeypatch.setattr("kerashash.data.progress._PATIENCE", 0.01)
    x = rng.normal(size=(2000, 6))

    def slow():
        time.sleep(0.1)
        yield np.zeros((7, 6), np.float32)

    model.encode(slow())
    assert capsys.readouterr() == ("", "")
    model.encode(x, batch_size=5, verbose=1)
    out, error = capsys.readouterr()
    assert out == ""
    first, last = error.splitlines()
    assert first == "Encoding: 2,000 images"
    assert re.fullmatch(r"Encoding: 2,000 images in \d+ s", last)


def test_progress_on_a_terminal_has_counts_rate_and_time(capsys, monkeypatch):
    monkeypatch.setattr("kerashash.data.progress._PATIENCE", 0.01)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")

    def slow():
        for _ in range(4):
            time.sleep(0.3)
            yield range(500)

    assert [len(batch) for batch in progress(slow(), 2000, "Reading [b]x")] == 4 * [500]
    out, error = capsys.readouterr()
    assert out == ""
    # It begins before the first batch is there.
    assert re.search(r"Reading \[b\]x .*0 of 2,000 images", error)
    assert re.search(r"1,[05]00 of 2,000 images, \d,\d{3}/s, 0:0\d left", error)
    assert re.search(r"2,000 images in 0:0\d\n", error)
    # The cursor is back, also after what stops early.
    assert error.count("\x1b[?25l") == error.count("\x1b[?25h") == 1
    for _ in progress(slow(), None, "Reading"):
        break
    error = capsys.readouterr().err
    assert re.search("Reading .*0 images", error)
    assert error.count("\x1b[?25l") == error.count("\x1b[?25h") == 1
    with pytest.raises(ValueError, match="`verbose` must be"):
        next(progress([], 0, "Reading", verbose="yes"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, "`bits` must be at least 1"),
        ({"bits": 1.5}, "`bits` must be an integer"),
        ({"num_classes": 0}, "`num_classes` must be at least 1"),
        ({"num_classes": "10"}, "`num_classes` must be an integer"),
        ({"backbone": "resnet-lite"}, "`backbone` must be one of"),
        ({"backbone": 3}, "`backbone` must be a name"),
        ({"dtype": {"class_name": "x", "config": {}}}, "`dtype` must be a dtype"),
    ],
)
def test_constructor_names_bad_arguments(options, message):
    options = {"backbone": "features", "bits": 8, "num_classes": 2} | options
    with pytest.raises((TypeError, ValueError), match=message):
        kerashash.AdaLabelHash(**options)


def of_numpy(value):
    """A value with NumPy's integers in place of Python's."""
    if isinstance(value, tuple):
        return tuple(map(of_numpy, value))
    return np.int64(value) if type(value) is int else value


@pytest.mark.parametrize("cls", OPTIONS, ids=lambda cls: cls.__name__)
def test_integers_of_numpy_are_integers(cls):
    more = {"variant": "full"} if cls is kerashash.DCDH else {}
    options = {name: of_numpy(v) for name, v in (OPTIONS[cls] | more).items()}
    model = cls(mlp(6), bits=np.uint8(4), **options)
    json.dumps(model.get_config())
    assert type(model.bits) is type(model.num_classes) is int


def test_integers_of_numpy_are_integers_of_label_distributions():
    count = np.int64(3)
    for model in (
        baselines.CPNN("features", count, units=count, seed=count),
        baselines.LDSVR("features", count, num_train=count),
        baselines.IISLLD("features", count),
    ):
        json.dumps(model.get_config())


def test_with_backbone_keeps_the_trained_head(rng):
    whole = mlp(6, units=(8, 5))
    lower, upper = kerashash.backbones.split(whole, whole.layers[0].name)
    model = kerashash.DCDH(
        upper, 12, 3, num_train=20, label_units=(8,), fusion_units=(8,)
    )
    model.compile("adam")
    x = rng.normal(size=(20, 6)).astype(np.float32)
    model.fit(lower(x), np.arange(20) % 3, verbose=0)
    moved = model.with_backbone(whole)
    np.testing.assert_array_equal(moved.encode(x), model.encode(lower(x).numpy()))
    np.testing.assert_array_equal(moved.learned_codes(), model.learned_codes())


def test_import_is_light():
    code = (
        "import sys, kerashash; kerashash.__version__; dir(kerashash); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'NoSuchMethod'"):
        kerashash.NoSuchMethod  # noqa: B018
    for name in kerashash.__all__:
        assert getattr(kerashash, name) is not None


class Empty(keras.utils.PyDataset):
    def __len__(self):
        return 0

    def __getitem__(self, number):
        raise AssertionError("there is no batch")


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_that_turn_out_to_be_empty_are_named():
    model = kerashash.AdaLabelHash(mlp(4), bits=8, num_classes=3)
    model.compile("adam")
    spec = (tf.TensorSpec((None, 4)), tf.TensorSpec((None, 3)))
    empty = tf.data.Dataset.from_generator(lambda: iter(()), output_signature=spec)
    x, y = np.ones((5, 4), np.float32), np.arange(5) % 3
    with pytest.raises(ValueError, match="`x` must have batches"):
        model.fit(empty, verbose=0)
    with pytest.raises(ValueError, match=r"`x` must have batches.*PyDataset of length"):
        model.fit(Empty(), verbose=0)
    with pytest.raises(ValueError, match="`validation_data` must have rows"):
        model.fit(x, y, validation_data=empty, verbose=0)
    for pair in ((empty,), (x[:0], y[:0])):
        with pytest.raises(ValueError, match="`x` must have rows"):
            model.evaluate(*pair, verbose=0)
    assert model.encode(empty).shape == (0, 1)


class Subclass(keras.Model):
    """A network that says nothing of its shapes, as many do."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(8)

    def call(self, x, training=None):
        return self.dense(x)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_backbone_may_be_a_subclass_of_model(labelled):
    x, y = np.random.default_rng(0).random((12, 6)), np.arange(12) % 3
    if labelled:
        model = kerashash.AdaLabelHash(Subclass(), bits=8, num_classes=3)
        model.compile("adam", run_eagerly=True)
    else:
        model = kerashash.baselines.ITQ(Subclass(), bits=8)
    model.fit(x, y if labelled else None, verbose=0)
    assert model.encode(x).shape == (12, 1)


def test_backbones_have_one_input_and_one_output():
    a, b = keras.Input((3,)), keras.Input((4,))
    both = keras.layers.Concatenate()([a, b])
    for inputs, outputs, received in (
        ([a, b], both, "2 inputs, 1 outputs"),
        (a, [a, keras.layers.Dense(2)(a)], "1 inputs, 2 outputs"),
    ):
        net = keras.Model(inputs, outputs)
        with pytest.raises(ValueError, match=f"one input and one output.*{received}"):
            kerashash.AdaLabelHash(net, bits=8, num_classes=3)
    images = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    with pytest.raises(ValueError, match=r"`backbone` must give features .*6, 6, 4"):
        kerashash.AdaLabelHash(images, bits=8, num_classes=3)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    model = kerashash.AdaLabelHash("features", bits=8, num_classes=3)
    model.build((None, 6))
    for name in ("model.h5", "model.hdf5"):
        with pytest.raises(ValueError, match=r"`filepath` must end in '.keras'"):
            model.save(tmp_path / name)
    with pytest.raises(ValueError, match="`quantize` is not supported by"):
        model.quantize("int8")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["my model", "модель", "_x", ""])
def test_names_are_those_that_tensorflow_takes(name):
    with pytest.raises(ValueError, match=f"`name` must consist of .*{name}"):
        kerashash.AdaLabelHash("features", bits=8, num_classes=3, name=name)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label_units": 8}, TypeError, "`label_units` must be a list of widths"),
        ({"label_units": [8.5]}, TypeError, "`label_units` must be an integer"),
        ({"fusion_units": [0]}, ValueError, "`fusion_units` must be at least 1"),
        (
            {"label_loss_weight": None},
            TypeError,
            "`label_loss_weight` must be a number",
        ),
        (
            {"quantization_weight": "1"},
            TypeError,
            "`quantization_weight` must be a num",
        ),
        ({"focal_gamma": np.inf}, ValueError, "`focal_gamma` must be .* and finite"),
    ],
)
def test_options_of_wrong_types_are_named(options, error, message):
    with pytest.raises(error, match=message):
        kerashash.DCDH("features", bits=8, num_classes=3, num_train=9, **options)


def normalizing(rows):
    """A model with the statistics of rows, and always the same weights."""
    normalization = keras.layers.Normalization()
    normalization.adapt(rows)
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((6,)), normalization, keras.layers.Dense(8)])
    return kerashash.AdaLabelHash(net, bits=24, num_classes=3)


def test_statistics_that_are_loaded_or_adapted_count(rng, tmp_path):
    x = rng.normal(size=(9, 6)).astype(np.float32)
    model, other = normalizing(x), normalizing(5 * x + 3)
    expected, encoder = model.encode(x), other.encoder("tensorflow")
    assert (other.encode(x) != expected).any()
    other.predict(x, verbose=0)
    model.save_weights(tmp_path / "n.weights.h5")
    other.load_weights(tmp_path / "n.weights.h5")
    np.testing.assert_array_equal(other.encode(x), expected)
    np.testing.assert_array_equal(encoder.encode(x), expected)
    np.testing.assert_array_equal(
        other.continuous_codes(x), model.predict(x, verbose=0)
    )
    np.testing.assert_array_equal(
        other.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    other.backbone.layers[0].adapt(5 * x + 3)
    assert (other.encode(x) != expected).any()
    model.backbone.layers[0].adapt(5 * x + 3)
    np.testing.assert_array_equal(other.encode(x), model.encode(x))


def test_training_takes_statistics_that_are_adapted_after_it(rng):
    x, y = rng.normal(size=(9, 6)), np.arange(9) % 3

    def loss(model):
        model.compile("sgd")
        history = model.fit(x, y, shuffle=False, verbose=0).history
        return history["loss"], model.train_function

    def again(model):
        model.backbone.layers[0].adapt(x)
        return model.fit(x, y, shuffle=False, verbose=0).history["loss"]

    old, new = normalizing(5 * x + 3), normalizing(x)
    (_, function), _ = loss(old), loss(new)
    old.set_weights(new.get_weights())
    np.testing.assert_allclose(again(old), again(new), rtol=1e-5)
    assert old.train_function is not function
    function = old.train_function
    old.fit(x, y, verbose=0)  # with nothing new, nothing is traced
    assert old.train_function is function


def test_packed_is_a_flag(model):
    with pytest.raises(TypeError, match="`packed` must be True or False"):
        model.encode(np.ones((2, 6)), packed="no")
