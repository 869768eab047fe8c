import dataclasses
import errno
import io
import os

import keras
import numpy as np
import pytest

import kerashash
from kerashash.data import feature_cache


def network(scale=1.0, width=64):
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Rescaling(scale)]
    return keras.Sequential([keras.Input((width,)), *layers])


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def test_features_are_those_of_the_backbone(digits, tmp_path):
    net = network()
    data = kerashash.data.cache_features(digits, net, tmp_path / "a/b", batch_size=100)
    np.testing.assert_allclose(data.x, net.predict(digits.x, verbose=0), atol=1e-6)
    assert isinstance(data.x, np.memmap)
    assert data.x.dtype == np.float32
    assert data.splits is digits.splits
    x, y = next(iter(data.query.batch(16)))
    np.testing.assert_array_equal(x, data.arrays("query")[0][y["index"]])


def test_mirrored_features_are_of_the_image_and_its_mirror_image(rng, tmp_path):
    inputs = keras.Input((3, 4, 2))
    lower = keras.Model(inputs, keras.layers.Identity()(inputs))
    x = rng.normal(size=(130, 3, 4, 2)).astype(np.float16)
    features = feature_cache.mirrored_features(lower, x, tmp_path)
    np.testing.assert_array_equal(features[:, 0], x)
    np.testing.assert_array_equal(features[:, 1], x[:, :, ::-1])


def test_training_behind_the_cache_is_training_the_head(digits, tmp_path):
    net = network()
    data = kerashash.data.cache_features(digits, net, tmp_path)
    hidden = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu")])
    model = kerashash.AdaLabelHash(hidden, bits=16, num_classes=10)
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(data.train.batch(64), verbose=0)
    whole = model.with_backbone(keras.Sequential([net, hidden]))
    np.testing.assert_array_equal(
        whole.encode(digits.query), model.encode(data.query, verbose=0)
    )


def test_a_file_belongs_to_its_images_and_backbone(digits, tmp_path):
    first = network()
    kerashash.data.cache_features(digits, first, tmp_path)
    (name,) = files(tmp_path)
    # The same network has other layer names later in a process.
    same = network()
    same.set_weights(first.get_weights())
    assert same.layers[0].name != first.layers[0].name
    kerashash.data.cache_features(digits, same, tmp_path)
    assert files(tmp_path) == [name]
    changed = network(scale=2.0)
    changed.set_weights(first.get_weights())
    kerashash.data.cache_features(digits, changed, tmp_path)
    kerashash.data.cache_features(digits, network(), tmp_path)
    assert len(files(tmp_path)) == 3
    other = dataclasses.replace(digits, x=digits.x[::-1])
    features = kerashash.data.cache_features(other, first, tmp_path).x
    np.testing.assert_allclose(features, first(digits.x[::-1]), atol=1e-5)
    assert len(files(tmp_path)) == 4


def nested(h, *layers):
    """Layers, each in a network of its own, one after the other."""
    for layer in layers:
        x = keras.Input((8,))
        h = keras.Model(x, layer(x))(h)
    return h


def timed(h, *layers):
    """Layers, each within another layer, one after the other."""
    h = keras.layers.Reshape((1, 8))(h)
    for layer in layers:
        h = keras.layers.TimeDistributed(layer)(h)
    return h


def attention(h, causal):
    rows = keras.layers.Reshape((2, 4))(h)
    return keras.layers.MultiHeadAttention(1, 2)(rows, rows, use_causal_mask=causal)


# Pairs of networks above h, of two dense layers f and g; `o` tells one from the other.
CONNECTIONS = {
    "input": lambda h, f, g, o: keras.layers.Add()([g(a := f(h)), a if o else h]),
    "order": lambda h, f, g, o: keras.layers.Subtract()([h, f(h)][:: -1 if o else 1]),
    "calls": lambda h, f, g, o: f(f(h)) if o else f(h),
    "shared": lambda h, f, g, o: nested(h, f, g if o else f, g),
    "wrapped": lambda h, f, g, o: timed(h, f, g if o else f, g),
    "output": lambda h, f, g, o: keras.ops.split(f(h), 2, axis=1)[o],
    "constant": lambda h, f, g, o: f(h) * (1.0 + o),
    "array": lambda h, f, g, o: f(h) * np.float32([1, 2 + o] * 4),
    "axis": lambda h, f, g, o: keras.ops.flip(keras.layers.Reshape((2, 4))(h), 1 + o),
    "argument": lambda h, f, g, o: attention(h, causal=o),
}


@pytest.mark.parametrize("connections", CONNECTIONS)
def test_a_file_belongs_to_the_connections_of_layers(digits, tmp_path, connections):
    expected = []
    for other in (False, True, False, True):
        keras.utils.set_random_seed(0)
        x = keras.Input((64,))
        h, f, g = keras.layers.Dense(8)(x), keras.layers.Dense(8), keras.layers.Dense(8)
        f.build((None, 8))
        g.build((None, 8))
        net = keras.Model(x, CONNECTIONS[connections](h, f, g, other))
        expected.append(net(digits.x))
        features = kerashash.data.cache_features(digits, net, tmp_path).x
        np.testing.assert_allclose(features, expected[-1], atol=1e-4)
    assert not np.allclose(expected[0], expected[1], atol=1e-2)
    assert len(files(tmp_path)) == 2


def varied():
    """A network of many kinds of parts, without state of its own."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x, y = keras.Input((64,)), keras.Input((4,))
    inner = keras.Model(y, layers.Concatenate()([y * 2.0, layers.Dense(3)(y)]))
    h = layers.TimeDistributed(layers.Dense(4))(layers.Reshape((4, 16))(x))
    h = layers.Bidirectional(layers.SimpleRNN(2))(h)
    h = layers.Add()([inner(h), inner(h + np.ones(4, np.float32))])
    top = keras.Sequential([layers.Dropout(0.5), layers.Dense(3, trainable=False)])
    return keras.Model(x, top(h[:, 1:]))


def test_equal_networks_have_one_file(digits, tmp_path):
    first = varied()
    first.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert varied().layers[1].name != first.layers[1].name
    for net in (first, varied(), loaded):
        kerashash.data.cache_features(digits, net, tmp_path / "features")
    assert len(files(tmp_path / "features")) == 1


def test_networks_without_weights_get_them_first(digits, tmp_path):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    for make in (lambda: keras.Sequential([keras.layers.Dense(2)]), Net):
        for net in (make(), make()):
            features = kerashash.data.cache_features(digits, net, tmp_path).x
            np.testing.assert_allclose(features, net(digits.x), atol=1e-4)
    assert len(files(tmp_path)) == 4


def test_a_file_belongs_to_the_shape_and_type_of_images(digits, tmp_path, rng):
    layers = [keras.layers.Cropping2D(((0, 1), 0)), keras.layers.GlobalMaxPooling2D()]
    net = keras.Sequential([keras.Input((None, None, 1)), *layers])
    x = rng.integers(0, 256, (len(digits.x), 4, 4, 1)).astype(np.uint8)
    for images in (x, x.reshape(-1, 2, 8, 1), x.view(np.int8)):
        data = dataclasses.replace(digits, x=images)
        features = kerashash.data.cache_features(data, net, tmp_path).x
        np.testing.assert_array_equal(features, images[:, :-1].max(axis=(1, 2)))
    inputs = keras.Input((4, 4, 1))
    lower = keras.Model(inputs, keras.layers.Identity()(inputs))
    for images in (x, x.view(np.int8)):
        features = feature_cache.mirrored_features(lower, images, tmp_path)
        np.testing.assert_array_equal(features[:, 0], images)


@pytest.mark.parametrize("written", [0, 3, 10])
def test_a_stopped_run_goes_on(tmp_path, written):
    expected = np.random.default_rng(0).normal(size=(47, 3, 2)).astype(np.float32)
    file, calls = tmp_path / "x.npy", []

    def rows(start):
        calls.append(start)
        if len(calls) == written + 1:
            raise KeyboardInterrupt
        return expected[start : start + 4]

    with pytest.raises(KeyboardInterrupt):
        feature_cache.computed(file, expected.shape, np.float32, rows, 4, verbose=0)
    (part,) = files(tmp_path)
    assert part == "x.npy.part"
    # What a process leaves that is killed in the middle of a row.
    with (tmp_path / part).open("ab") as stream:
        stream.write(b"12345")
    actual = feature_cache.computed(
        file, expected.shape, np.float32, rows, 4, verbose=0
    )
    np.testing.assert_array_equal(actual, expected)
    assert calls == [*range(0, 4 * written + 1, 4), *range(4 * written, 47, 4)]
    assert files(tmp_path) == ["x.npy"]
    feature_cache.computed(file, expected.shape, np.float32, pytest.fail, 4, verbose=0)


def test_a_part_of_another_array_is_not_taken(tmp_path):
    (tmp_path / "x.npy.part").write_bytes(b"anything else" * 100)
    expected = np.arange(10.0).reshape(5, 2)
    actual = feature_cache.computed(
        tmp_path / "x.npy", (5, 2), float, lambda start: expected[start : start + 3], 3
    )
    np.testing.assert_array_equal(actual, expected)


def test_two_writers_are_noticed(tmp_path):
    file, rows = tmp_path / "x.npy", np.ones((2, 4), np.float32)

    def other(start):
        if start == 4:
            with file.with_suffix(".npy.part").open("ab") as stream:
                stream.write(b"from elsewhere")
        return rows

    with pytest.raises(OSError, match=r"Another process is writing.*x\.npy\.part"):
        feature_cache.computed(file, (10, 4), np.float32, other, 2, verbose=0)
    assert not file.exists()


def test_features_of_code_that_has_changed_are_computed_again(digits, tmp_path):
    class Scaled(keras.layers.Layer):
        factor = 1.0

        def call(self, x):
            return self.factor * x

    def features(layer):
        net = keras.Sequential([keras.Input((64,)), layer])
        return kerashash.data.cache_features(digits, net, tmp_path, verbose=0).x[:9]

    np.testing.assert_allclose(features(Scaled()), digits.x[:9])
    Scaled.factor = 2.0
    np.testing.assert_allclose(features(Scaled()), 2 * digits.x[:9])
    assert len(files(tmp_path)) == 1


def test_bad_arguments_are_named(digits, tmp_path):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        kerashash.data.cache_features(digits, network(), tmp_path, batch_size=0)
    with pytest.raises(TypeError, match="`data` must be a RetrievalData"):
        kerashash.data.cache_features(digits.x, network(), tmp_path)
    with pytest.raises(ValueError, match="`backbone` must take images of shape"):
        kerashash.data.cache_features(digits, network(width=32), tmp_path)
    assert not files(tmp_path)


EXPECTED = np.random.default_rng(0).normal(size=(47, 3, 2)).astype(np.float32)


def compute(file, step=4, shape=EXPECTED.shape):
    """The array of a file, and the first rows of the steps that were computed."""
    calls = []

    def rows(start):
        calls.append(start)
        return EXPECTED[: shape[0]][start : start + step]

    return feature_cache.computed(file, shape, np.float32, rows, step, verbose=0), calls


def flip(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("damage", "computed_again"),
    [
        (lambda data: data[: len(data) // 2], 12),  # the checksums are at the end
        (lambda data: data[:128], 12),
        (lambda data: data[:3], 12),
        (lambda data: b"", 12),
        (lambda data: bytes(len(data)), 12),
        (lambda data: flip(data, 128 + 24 * 21), 1),
        (lambda data: flip(data, 20), 12),
        (lambda data: flip(data, len(data) - 1), 1),
        (lambda data: flip(data, 128 + 24 * 47), 12),
        (lambda data: data[: 128 + 24 * 47], 12),  # one of 0.1, without checksums
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npy.part"])
def test_damaged_files_are_mended(tmp_path, damage, computed_again, suffix):
    file = tmp_path / "x.npy"
    whole, _ = compute(file)
    data = file.read_bytes()
    del whole
    file.rename(file.with_suffix(suffix))
    file.with_suffix(suffix).write_bytes(damage(data))
    actual, calls = compute(file)
    np.testing.assert_array_equal(actual, EXPECTED)
    assert len(calls) == computed_again
    assert files(tmp_path) == ["x.npy"]
    assert compute(file)[1] == []
    np.testing.assert_array_equal(np.load(file), EXPECTED)


def test_a_file_of_another_shape_is_not_taken(tmp_path):
    compute(tmp_path / "x.npy", shape=(10, 3, 2))
    actual, calls = compute(tmp_path / "x.npy")
    np.testing.assert_array_equal(actual, EXPECTED)
    assert len(calls) == 12


def test_a_file_is_read_and_mended_with_another_step(tmp_path):
    file = tmp_path / "x.npy"
    compute(file, step=4)
    assert compute(file, step=6)[1] == []
    file.write_bytes(flip(file.read_bytes(), 128 + 24 * 13))  # in rows 12 to 15
    actual, calls = compute(file, step=6)
    np.testing.assert_array_equal(actual, EXPECTED)
    assert calls == [12]


def test_the_later_of_two_writers_goes_on(tmp_path):
    file = tmp_path / "x.npy"

    def other(start):
        if start == 8:
            assert compute(file)[1][0] == 8
        return EXPECTED[start : start + 4]

    with pytest.raises(OSError, match=r"Another process is writing.*x\.npy\.part"):
        feature_cache.computed(file, EXPECTED.shape, np.float32, other, 4, verbose=0)
    assert compute(file)[1] == []


def test_nothing_is_written_through_a_link(tmp_path):
    for name in ("x.npy", "x.npy.part"):
        folder = tmp_path / name
        folder.mkdir()
        thesis = tmp_path / f"{name}.txt"
        thesis.write_bytes(b"my thesis")
        (folder / name).symlink_to(thesis)
        actual, _ = compute(folder / "x.npy")
        np.testing.assert_array_equal(actual, EXPECTED)
        assert thesis.read_bytes() == b"my thesis"
        assert files(folder) == ["x.npy"]
        assert not (folder / "x.npy").is_symlink()


def test_a_link_to_whole_features_is_read(tmp_path):
    compute(tmp_path / "x.npy")
    (tmp_path / "y.npy").symlink_to(tmp_path / "x.npy")
    assert compute(tmp_path / "y.npy")[1] == []


def test_what_is_no_file_is_not_written_to(tmp_path):
    os.mkfifo(tmp_path / "x.npy.part")
    with pytest.raises(OSError, match=r"x\.npy\.part must be a regular file"):
        compute(tmp_path / "x.npy")


@pytest.mark.parametrize("make", ["mkfifo", "mkdir"])
def test_what_is_no_file_is_not_read(tmp_path, make):
    getattr(os, make)(tmp_path / "x.npy")
    with pytest.raises((ValueError, OSError), match=r"x\.npy"):
        compute(tmp_path / "x.npy")


@pytest.mark.parametrize("below", [".", "a/b"])
def test_a_folder_that_cannot_be_is_named(digits, tmp_path, below):
    (tmp_path / "file").write_bytes(b"my thesis")
    with pytest.raises(ValueError, match="`folder` must be a folder"):
        kerashash.data.cache_features(digits, network(), tmp_path / "file" / below)
    x = digits.x[:, None, None]
    lower = keras.Model(i := keras.Input((1, 1, 64)), i * 1.0)
    with pytest.raises(ValueError, match="`cache_dir` must be a folder"):
        feature_cache.mirrored_features(lower, x, tmp_path / "file" / below)


@pytest.mark.parametrize("step", ["truncate", "write"])
def test_a_full_disk_is_named(tmp_path, monkeypatch, step):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk = type("Disk", (io.FileIO,), {step: full})
    monkeypatch.setattr(
        feature_cache.files, "open_in_place", lambda path: disk(path, "w+")
    )
    with pytest.raises(OSError, match=r"No space left.*x\.npy\.part") as caught:
        compute(tmp_path / "x.npy")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("folder", [None, 5, b"features", "a\0b", "~nobodyx/a"])
def test_a_folder_that_is_no_path_is_named(digits, folder):
    with pytest.raises((TypeError, ValueError), match="`folder` must be a path"):
        kerashash.data.cache_features(digits, network(), folder)


@pytest.mark.parametrize("backbone", ["efficientnet-lite0", network(width=3)])
def test_a_backbone_of_other_inputs_is_refused(digits, tmp_path, backbone):
    with pytest.raises(ValueError, match=r"`backbone` must take images of shape \(64,"):
        kerashash.data.cache_features(digits, backbone, tmp_path)
