"""Engines: the same codes as TensorFlow's, kept, checked and chosen."""

import importlib.util
import os
import warnings
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerashash
from kerashash import engines
from kerashash.backbones.images import ResizeImages, has_own_code
from kerashash.engines import preparing
from kerashash.engines.network import silent
from kerashash.methods import encoder as encoders

PACKAGES = {"openvino": "openvino", "litert": "ai_edge_litert"}
MODULES = {"openvino": "openvino_network", "litert": "litert_network"}


def has(package):
    return importlib.util.find_spec(package) is not None


each = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            engine,
            marks=pytest.mark.skipif(not has(package), reason=f"needs {package}"),
        )
        for engine, package in PACKAGES.items()
    ],
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASHASH_CACHE", str(tmp_path / "cache"))
    # Of the second row on: each size that is tried takes a compilation.
    monkeypatch.setattr(preparing, "_ROWS", (1, 3))
    return tmp_path / "cache" / "engines"


def network(seed=0, size=8):
    keras.utils.set_random_seed(seed)
    keras.utils.clear_session()  # layers get the names that they had before
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
        ]
    )


def hasher(seed=0):
    return kerashash.AdaLabelHash(network(seed), bits=12, num_classes=3)


def images(n=23, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def never(*arguments, **options):
    raise AssertionError("called")


@each
def test_codes_are_those_of_tensorflow(engine):
    model, x = hasher(), images()
    expected = model.encode(x, engine="tensorflow")
    assert len(np.unique(expected, axis=0)) > 5
    encoder = model.encoder(engine)
    assert encoder.engine == engine
    for batch_size in (None, 1, 5, 40):
        np.testing.assert_array_equal(encoder.encode(x, batch_size), expected)
    np.testing.assert_array_equal(encoder.encode(x.astype(np.float64)), expected)
    np.testing.assert_array_equal(model.encode(x, engine=engine), expected)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(4)
    np.testing.assert_array_equal(encoder.encode(dataset), expected)
    np.testing.assert_array_equal(
        encoder.encode(x, packed=False), kerashash.codes.unpack(expected, 12)
    )
    np.testing.assert_allclose(
        encoder.continuous_codes(x), model.continuous_codes(x), atol=1e-5
    )
    assert encoder.encode(x[:0]).shape == (0, 2)


@each
def test_fractions_and_sizes_of_images(engine):
    """Images that TensorFlow resizes are resized, and fractions of grey levels stay."""
    layers = [keras.Input((None, None, 3)), ResizeImages(8), *network().layers]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), bits=8, num_classes=2)
    encoder = model.encoder(engine)
    rng = np.random.default_rng(0)
    for shape in ((8, 8), (20, 45)):
        x = rng.uniform(0, 255, (3, *shape, 3)).astype(np.float32)
        np.testing.assert_allclose(
            encoder.continuous_codes(x), model.continuous_codes(x), atol=1e-4
        )


@each
def test_what_is_not_finite_is_refused(engine):
    model, x = hasher(), images().astype(np.float32)
    x[20, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        model.encoder(engine).encode(x)


@each
def test_a_network_is_converted_once_for_its_weights(engine, cache, monkeypatch):
    model, x = hasher(), images()
    model.encoder(engine)
    (file,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_converted", never)
        patch.setattr(preparing, "_measured", never)
        np.testing.assert_array_equal(
            hasher().encoder(engine).encode(x), model.encode(x)
        )
        with pytest.raises(AssertionError, match="called"):
            hasher(seed=1).encoder(engine)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    np.testing.assert_array_equal(hasher().encoder(engine).encode(x), model.encode(x))
    assert file.read_bytes().startswith(b"kerashash engine 1\n")


class Signed(keras.layers.Layer):
    """A layer of a user, whose code may change while its config stays."""

    sign = 1.0

    def call(self, x):
        return self.sign * x


@each
def test_networks_with_code_of_users_are_not_kept(engine, cache, monkeypatch):
    def with_layer():
        net = network()
        own = keras.Sequential([*net.layers[:-1], Signed(name="own"), net.layers[-1]])
        return kerashash.AdaLabelHash(own, bits=12, num_classes=3)

    x = images()
    for sign in (1.0, -1.0):  # as in two processes, the code edited between them
        monkeypatch.setattr(Signed, "sign", sign)
        model = with_layer()
        expected = model.encode(x, engine="tensorflow")
        np.testing.assert_array_equal(model.encode(x, engine=engine), expected)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras.layers.Dense(2, activation="gelu", kernel_regularizer="l2"), False),
        (ResizeImages(8), False),
        (Signed(), True),
        (keras.layers.Lambda(lambda x: x), True),
        (keras.layers.Dense(2, activation=lambda x: x), True),
        (keras.Sequential([keras.Sequential([Signed()])]), True),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_code_of_users_is_known(layer, expected):
    assert has_own_code(layer) == expected
    assert has_own_code(keras.Sequential([keras.Input((9, 9, 3)), layer])) == expected


@each
def test_weights_that_have_changed_give_other_codes(engine):
    model, x = hasher(), images()
    old = model.encoder(engine)
    before = old.encode(x)
    model.hash_head.set_weights([-w for w in model.hash_head.get_weights()])
    after = model.encode(x, engine="tensorflow")
    assert (before != after).any(axis=1).all()
    np.testing.assert_array_equal(old.encode(x), before)
    np.testing.assert_array_equal(model.encode(x, engine=engine), after)


@each
def test_a_network_that_cannot_be_converted(engine, monkeypatch):
    @tf.function
    def call(x):
        return tf.reshape(tf.py_function(lambda v: v, [x], tf.float32), tf.shape(x))

    class Foreign(keras.layers.Layer):
        def call(self, x):
            return call(x)

        def compute_output_shape(self, shape):
            return shape

    backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model = kerashash.AdaLabelHash(
        keras.Sequential([keras.Input((8, 8, 3)), Foreign(), *backbone.layers]),
        bits=8,
        num_classes=2,
    )
    with pytest.raises(ValueError, match=f"`engine` must be .*'{engine}'"):
        model.encoder(engine)
    monkeypatch.setattr(preparing, "_AUTO", (engine,))
    with pytest.warns(UserWarning, match="TensorFlow encodes"):
        encoder = model.encoder("auto")
    assert encoder.engine == "tensorflow"


@pytest.fixture
def fake(monkeypatch):
    """An engine that needs no package: it runs TensorFlow, and counts the rows."""
    seen = []

    class Network:
        def __init__(self, model):
            self._model = model

        def run(self, batches, rows):
            for batch in batches:
                seen.append(len(batch))
                yield self._model(batch, training=False).numpy()

    speeds = {"openvino": (0, 3.0), "litert": (0, 2.0)}
    prepared = []

    def prepare(model, engine, digest, run):
        prepared.append(engine)
        differing, speed = speeds[engine]
        made = engines.Prepared(engine, Network(model), 4, differing, speed)
        preparing._made.setdefault(model, {})[engine, digest] = made
        return made

    monkeypatch.setattr(preparing, "_prepared", prepare)
    monkeypatch.setattr(preparing, "is_installed", lambda engine: True)
    monkeypatch.setattr(encoders, "_WORTH_ROWS", 20)
    monkeypatch.setattr(encoders, "_FEW_ROWS", 5)
    return speeds, seen, prepared


def test_long_work_takes_the_fastest_engine(fake):
    speeds, seen, prepared = fake
    model, x = hasher(), images()
    expected = model.encode(x, engine="tensorflow")
    np.testing.assert_array_equal(model.encode(x[:19]), expected[:19])
    assert prepared == []
    np.testing.assert_array_equal(model.encode(x), expected)
    assert (seen, prepared) == ([23], ["openvino", "litert"])
    # It is there now, and short work takes it too, but for a few rows.
    model.encode(x[:5])
    model.encode(x[:4])
    assert seen == [23, 5]
    speeds["litert"] = 0, 4.0
    assert hasher().encoder().engine == "litert"


def test_work_of_unknown_length_begins_on_tensorflow(fake):
    _, seen, prepared = fake
    model, x = hasher(), images(60)
    batches = (x[start : start + 10] for start in range(0, 60, 10))
    codes = model.encode(batches)
    np.testing.assert_array_equal(codes, model.encode(x, engine="tensorflow"))
    assert (seen, prepared) == ([10] * 4, ["openvino", "litert"])
    other = hasher(seed=1)
    other.encode(x[start : start + 10] for start in range(0, 20, 10))
    assert len(prepared) == 2


def test_engines_with_other_codes_or_without_gain_are_not_taken(fake):
    speeds, seen, _ = fake
    speeds.update(openvino=(7, 3.0), litert=(0, 0.9))
    with pytest.warns(UserWarning, match="openvino gives other codes .* 7 bits of"):
        assert hasher().encoder().engine == "tensorflow"
    model = hasher()
    with pytest.warns(UserWarning, match="TensorFlow encodes"):
        model.encode(images())
    with warnings.catch_warnings():  # once for a model
        warnings.simplefilter("error")
        model.encode(images())
    assert seen == []


def test_vectors_and_gpus_stay_with_tensorflow(fake, monkeypatch):
    _, _, prepared = fake
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    vectors = kerashash.AdaLabelHash(net, bits=8, num_classes=2)
    assert vectors.encoder().engine == "tensorflow"
    monkeypatch.setattr(preparing, "on_accelerator", lambda: True)
    assert hasher().encoder().engine == "tensorflow"
    assert prepared == []


def test_networks_without_config_stay_with_tensorflow(fake):
    class Own(keras.layers.Layer):
        def call(self, x):
            return x + 1

        def get_config(self):
            raise NotImplementedError("No `get_config`.\n\nExample: ...")

    _, _, prepared = fake
    layers = [keras.Input((8, 8, 3)), Own(), keras.layers.Flatten()]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), bits=8, num_classes=2)
    assert model.encode(images()).shape == (23, 1)
    assert model.encoder().engine == "tensorflow"
    assert prepared == []
    with pytest.raises(ValueError, match="`engine` must be 'tensorflow' for") as caught:
        model.encoder("openvino")
    assert "Example" not in str(caught.value)


def test_an_engine_whose_package_is_broken(fake, monkeypatch, collect_garbage):
    def broken(*arguments):
        raise ImportError("libtbb.so.12: no such file.")

    monkeypatch.setattr(preparing, "_prepared", broken)
    monkeypatch.setattr(preparing, "_AUTO", ("litert",))
    model = hasher()
    with pytest.warns(UserWarning, match=r"litert cannot be used: libtbb.* TensorFlow"):
        codes = model.encode(images())
    np.testing.assert_array_equal(codes, model.encode(images(), engine="tensorflow"))
    alive = weakref.ref(model)
    del model
    collect_garbage()
    assert alive() is None


def test_a_network_that_cannot_be_converted_says_why(monkeypatch):
    def broken(model):
        raise RuntimeError("Op FOO is not supported.\nSee the log.")

    monkeypatch.setattr(preparing, "statistics_inlined", broken)
    monkeypatch.setattr(preparing, "is_installed", lambda engine: True)
    monkeypatch.setattr(preparing, "_file", lambda *_: None)
    with pytest.raises(
        ValueError, match=r"'litert': RuntimeError: Op FOO is not .*d.$"
    ):
        hasher().encoder("litert")


def test_all_sizes_of_batches_are_compared(monkeypatch):
    class Network:
        def run(self, batches, rows):
            (x,) = batches
            yield model(x, training=False).numpy() * (1 if rows == 3 else -1)

    model = hasher()
    monkeypatch.setattr(preparing, "_ROWS", (1, 3))
    assert preparing._measured(model, Network(), model)["differing"] > 64


def test_training_makes_new_networks(fake):
    _, _, prepared = fake
    model, x = hasher(), images()
    model.compile("sgd")  # not later: it changes the config
    model.encode(x)
    model.fit(x, np.eye(3)[np.arange(23) % 3], epochs=1, verbose=0)
    np.testing.assert_array_equal(model.encode(x), model.encode(x, engine="tensorflow"))
    assert len(prepared) == 4


def test_stores_encode_by_an_engine(fake, tmp_path):
    from PIL import Image

    _, seen, _ = fake
    for number, pixels in enumerate(images()):
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    model = hasher()
    folder = str(tmp_path / "*.png")
    store = kerashash.CodeStore.create(tmp_path / "a.khs", model)
    kerashash.store.encode_files(folder, store, batch_size=10)
    assert seen == [10, 10, 3]
    np.testing.assert_array_equal(
        store.codes(), model.encode(images(), engine="tensorflow")
    )
    with pytest.raises(ValueError, match=r"`engine` must be .*'openvino-int8'"):
        kerashash.store.encode_files(folder, store, engine="openvino-int8")


def test_wrong_engines(monkeypatch, tmp_path):
    model = hasher()
    with pytest.raises(ValueError, match=r"`engine` must be .*'gpu'"):
        model.encode(images(), engine="gpu")
    with pytest.raises(ValueError, match="`calibration` must be None"):
        model.encoder("auto", calibration=images())
    with pytest.raises(ValueError, match="`calibration` must have shape"):
        model.encoder("openvino-int8", calibration=np.zeros((2, 5)))
    unbuilt = kerashash.AdaLabelHash(
        keras.Sequential([keras.layers.Flatten()]), bits=8, num_classes=2
    )
    assert unbuilt.encoder().engine == "tensorflow"
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "is_installed", lambda engine: True)
        patch.setattr(preparing, "_file", lambda *_: tmp_path / "none")
        with pytest.raises(ValueError, match="not built"):
            unbuilt.encoder("litert")
        with pytest.raises(ValueError, match="calibration=images"):
            model.encoder("openvino-int8")
    monkeypatch.setattr(preparing, "is_installed", lambda engine: False)
    with pytest.raises(ImportError, match=r"kerashash\[openvino\]"):
        model.encoder("openvino")


@pytest.mark.skipif(not has("nncf") or not has("openvino"), reason="needs nncf")
def test_a_network_in_integers_is_kept_and_near():
    model = hasher()
    x = images(64)
    with pytest.raises(ValueError, match=r"at least one|shape"):
        model.encoder("openvino-int8", calibration=x[:0])
    encoder = model.encoder("openvino-int8", calibration=x[:48])
    codes = encoder.encode(x, packed=False)
    same = (codes == model.encode(x, packed=False)).mean()
    assert same > 0.9
    assert encoder.engine == "openvino-int8"
    difference = encoder.continuous_codes(x) - model.continuous_codes(x)
    assert 1e-4 < np.abs(difference).max() < 0.2
    # A new process, as it were: the same network, without calibration.
    again = hasher().encode(x, packed=False, engine="openvino-int8")
    np.testing.assert_array_equal(again, codes)


@pytest.mark.skipif(not has("openvino"), reason="needs openvino")
@pytest.mark.parametrize("folder", ["a file/cache", "~nobodyx/cache"])
def test_without_a_cache_networks_are_made_for_the_process(
    tmp_path, monkeypatch, folder
):
    (tmp_path / "a file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERASHASH_CACHE", folder)
    preparing._warn_once.cache_clear()
    models = [hasher(seed) for seed in range(2)]
    with pytest.warns(UserWarning, match=folder) as caught:
        encoders = [model.encoder("openvino") for model in models]
    assert len(caught) == 1
    for model, encoder in zip(models, encoders, strict=True):
        codes = model.encode(images(), engine="tensorflow")
        np.testing.assert_array_equal(encoder.encode(images()), codes)


@pytest.mark.skipif(not has("openvino"), reason="needs openvino")
def test_no_network_is_written_through_a_link(cache, tmp_path):
    hasher().encoder("openvino")
    (file,) = cache.iterdir()
    thesis = tmp_path / "thesis.txt"
    thesis.write_bytes(b"my thesis")
    file.unlink()
    file.symlink_to(thesis)
    hasher().encoder("openvino")
    assert thesis.read_bytes() == b"my thesis"
    assert not file.is_symlink()


@pytest.mark.skipif(not has("ai_edge_litert"), reason="needs LiteRT")
def test_what_cannot_be_converted_is_told_in_one_line(capfd):
    layers = [
        keras.layers.Conv2D(2, 3, dtype="mixed_float16"),
        keras.layers.GlobalAveragePooling2D(),
    ]
    net = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    model = kerashash.AdaLabelHash(net, bits=8, num_classes=2)
    with pytest.raises(ValueError, match=r"'litert', for layers with .*mixed_float16"):
        model.encoder("litert")
    assert "error" not in capfd.readouterr().err


def test_standard_error_is_silent_in_a_block_alone(capfd):
    with silent():
        os.write(2, b"pages")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
