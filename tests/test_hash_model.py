"""HashModel: encoding, its input checks, and models on another backbone."""

import os
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash
from kerashash import codes
from kerashash.data.progress import progress
from kerashash.methods import forks


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


def test_a_fork_that_uses_models_is_refused(model, rng):
    x = rng.normal(size=(3, *model.backbone.input_shape[1:]))
    model.encode(x)
    uses = (
        lambda: model.encode(x),
        lambda: model.continuous_codes(x),
        lambda: model.fit(x, np.zeros(3, int)),
        lambda: kerashash.AdaLabelHash("features", bits=8, num_classes=2),
    )
    pid = os.fork()
    if not pid:  # TensorFlow would hang here
        refused = 0
        for use in uses:
            try:
                use()
            except RuntimeError as error:
                refused += "get_context('spawn')" in str(error)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == len(uses)
    assert model.encode(x).shape[0] == 3


def test_a_fork_is_refused_where_tensorflow_has_run_without_a_model(monkeypatch):
    monkeypatch.setattr(forks, "_process", None)
    tf.constant(1) + 1
    pid = os.fork()
    if not pid:
        try:
            kerashash.AdaLabelHash("features", bits=8, num_classes=2)
        except RuntimeError as error:
            os._exit("get_context('spawn')" in str(error))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


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
