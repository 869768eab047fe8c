"""Exported encoders give the codes of `encode`, row for row."""

import errno
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash
from kerashash import backbones, exporting
from kerashash.backbones import efficientnet_lite

SUFFIXES = {"saved_model": "", "onnx": ".onnx", "litert": ".tflite", "openvino": ".xml"}


def runner(path, format):
    """A function from inputs to codes by the format's own runtime, or a skip."""
    if format == "saved_model":
        loaded = tf.saved_model.load(path)
        return lambda x: loaded.encode(x).numpy()
    if format == "onnx":
        runtime = pytest.importorskip("onnxruntime", reason="no ONNX Runtime")
        session = runtime.InferenceSession(path)
        return lambda x: session.run(["codes"], {"x": x})[0]
    if format == "litert":
        litert = pytest.importorskip(
            "ai_edge_litert.interpreter", reason="no LiteRT runtime"
        )

        def run(x):
            interpreter = litert.Interpreter(str(path))
            (source,) = interpreter.get_input_details()
            (target,) = interpreter.get_output_details()
            interpreter.resize_tensor_input(source["index"], x.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(source["index"], x)
            interpreter.invoke()
            return interpreter.get_tensor(target["index"])

        return run
    openvino = pytest.importorskip("openvino", reason="no OpenVINO")
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: compiled({"x": x})["codes"]


def export(model, format, tmp_path):
    needed = {"onnx": "tf2onnx", "openvino": "openvino"}.get(format)
    if needed:
        pytest.importorskip(needed, reason=f"{needed} writes the format")
    path = tmp_path / f"encoder{SUFFIXES[format]}"
    kerashash.export_encoder(model, path, format=format)
    return path


@pytest.fixture
def image_model(monkeypatch):
    blocks = efficientnet_lite._LITE_BLOCKS[:2]
    monkeypatch.setattr(efficientnet_lite, "_LITE_BLOCKS", blocks)
    backbone = backbones.get("efficientnet-lite0", image_size=32, weights=None)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(4 * layer.gamma)  # or random features are nearly 0
    return kerashash.AdaLabelHash(backbone, bits=12, num_classes=3)


@pytest.mark.parametrize("format", SUFFIXES)
def test_images_of_any_size(format, image_model, tmp_path, rng):
    run = runner(export(image_model, format, tmp_path), format)
    for shape in ((6, 20, 30, 3), (1, 32, 32, 3), (3, 41, 33, 3)):
        images = rng.integers(0, 256, shape).astype(np.uint8)
        codes = run(images)
        assert codes.dtype == np.uint8
        np.testing.assert_array_equal(codes, image_model.encode(images))


def test_a_saved_model_takes_no_images(tmp_path):
    layers = [keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()]
    net = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
    run = runner(export(model, "saved_model", tmp_path), "saved_model")
    assert run(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 2)


@pytest.mark.parametrize("format", SUFFIXES)
def test_vectors(format, tmp_path, rng):
    model = kerashash.DCDH(mlp(8, (16,)), bits=20, num_classes=3, num_train=5)
    run = runner(export(model, format, tmp_path), format)
    x = rng.normal(size=(9, 8)).astype(np.float32)
    x[4] = 0.0  # codes of exactly 0, whose sign is +1
    codes = run(x)
    np.testing.assert_array_equal(codes, model.encode(x))
    assert codes[4].tolist() == [255, 255, 240]


def normalized(x):
    """A model with the statistics of 200 columns."""
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    layers = [keras.Input((200,)), normalization, keras.layers.Dense(8)]
    return kerashash.AdaLabelHash(keras.Sequential(layers), bits=20, num_classes=3)


@pytest.mark.parametrize("format", SUFFIXES)
def test_wide_statistics_are_part_of_the_file(format, tmp_path, rng):
    x = rng.normal(3.0, 2.0, size=(9, 200)).astype(np.float32)
    model = normalized(x)
    run = runner(export(model, format, tmp_path), format)
    np.testing.assert_array_equal(run(x), model.encode(x))


@pytest.mark.filterwarnings("ignore:In the future `np.object`")
def test_onnx_of_keras_has_wide_statistics(tmp_path, rng):
    onnxruntime = pytest.importorskip("onnxruntime", reason="no ONNX Runtime")
    x = rng.normal(3.0, 2.0, size=(9, 200)).astype(np.float32)
    model = normalized(x)
    path = tmp_path / "network.onnx"
    model.export(path, format="onnx", verbose=False)
    (continuous,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    np.testing.assert_allclose(continuous, model(x), atol=1e-5)
    assert not isinstance(model.backbone.layers[0].mean, np.ndarray)


def test_tensors_that_onnx_cannot_have_are_named(tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx writes the format")
    scale = tf.range(200, dtype=tf.float32)
    layers = [keras.Input((200,)), keras.layers.Lambda(lambda x: x * scale)]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), bits=20, num_classes=3)
    with pytest.raises(ValueError, match="must hold its tensors as weights"):
        kerashash.export_encoder(model, tmp_path / "encoder.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "format"),
    [
        pytest.param("adalabel-cifar10-48", "litert", marks=pytest.mark.long),
        *(("ddh-ldl-natural-scene-128", format) for format in SUFFIXES),
    ],
)
def test_entries_of_the_zoo(name, format, tmp_path, rng):
    model = kerashash.zoo.load(name)
    run = runner(export(model, format, tmp_path), format)
    shape = model._batch_shape()
    if len(shape) == 4:
        x = rng.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    else:
        x = rng.normal(size=(4, *shape[1:])).astype(np.float32)
    np.testing.assert_array_equal(run(x), model.encode(x))


def test_saved_model_runs_without_kerashash(tmp_path):
    model = kerashash.AdaLabelHash(mlp(4), bits=12, num_classes=3)
    kerashash.export_encoder(model, tmp_path / "encoder")
    x = np.ones((2, 4), np.float32)
    np.save(tmp_path / "codes.npy", model.encode(x))
    code = "import sys; sys.modules['kerashash'] = sys.modules['keras'] = None;"
    code += "import numpy as np, tensorflow as tf;"
    code += "f = tf.saved_model.load('encoder').signatures['serving_default'];"
    code += "codes = f(x=tf.ones((2, 4)))['codes'].numpy();"
    code += "assert (codes == np.load('codes.npy')).all()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("format", SUFFIXES)
def test_nothing_is_replaced_and_endings_count(format, tmp_path):
    model = kerashash.AdaLabelHash(mlp(4), bits=12, num_classes=3)
    path = tmp_path / f"encoder{SUFFIXES[format]}"
    path.touch()
    with pytest.raises(FileExistsError, match=r"`path` must not exist.*encoder"):
        kerashash.export_encoder(model, path, format=format)
    if format != "saved_model":
        with pytest.raises(ValueError, match=f"`path` must end in '{path.suffix}'"):
            kerashash.export_encoder(model, tmp_path / "other", format=format)
    for ending in {*SUFFIXES.values()} - {"", path.suffix}:
        with pytest.raises(ValueError, match=f"`path` must .*format='{format}'"):
            kerashash.export_encoder(model, tmp_path / f"other{ending}", format=format)


@pytest.fixture
def small_files():
    """A function from a number of bytes, the most that a file may have from now on."""
    resource = pytest.importorskip("resource", reason="no limits on files' sizes")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("format", SUFFIXES)
def test_a_full_disk_is_told_from_a_network_that_does_not_fit(
    format, tmp_path, small_files
):
    model = kerashash.AdaLabelHash(mlp(400), bits=12, num_classes=3)
    (tmp_path / "fits").mkdir()
    export(model, format, tmp_path / "fits")
    small_files(1 << 16)
    with pytest.raises(OSError, match=r"encoder|File too large: '") as error:
        export(model, format, tmp_path)
    assert "`format`" not in str(error.value)
    small_files(-1)
    assert [path.name for path in tmp_path.iterdir()] == ["fits"]


def test_no_half_of_a_pair_stays(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="openvino writes the format")
    model = kerashash.AdaLabelHash(mlp(4), bits=12, num_classes=3)
    copy = shutil.copyfileobj

    def full(source, target):
        if source.name.endswith(".xml"):
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(exporting.shutil, "copyfileobj", full)
        with pytest.raises(OSError, match=r"No space.*encoder\.xml"):
            export(model, "openvino", tmp_path)
    assert not [*tmp_path.iterdir()]
    export(model, "openvino", tmp_path)


def test_bad_arguments_are_named(tmp_path):
    path = tmp_path / "encoder"
    model = kerashash.AdaLabelHash("features", bits=12, num_classes=3)
    with pytest.raises(ValueError, match=r"`model` must be built"):
        kerashash.export_encoder(model, path)
    with pytest.raises(TypeError, match=r"`model` must be a HashModel"):
        kerashash.export_encoder(mlp(4), path)
    with pytest.raises(ValueError, match=r"`format` must be .*'tflite'"):
        kerashash.export_encoder(model, path, format="tflite")
    built = kerashash.AdaLabelHash(mlp(4), bits=12, num_classes=3)
    with pytest.raises(ValueError, match="`path` must lie in a folder that is there"):
        kerashash.export_encoder(built, tmp_path / "no" / "x.tflite", format="litert")
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file" / "x", tmp_path / "file" / "x" / "y"):
        with pytest.raises(ValueError, match="`path` must lie in a folder"):
            kerashash.export_encoder(built, wrong)
    with pytest.raises(TypeError, match="`filepath` must be a path"):
        built.export(None)


def test_a_network_that_a_format_cannot_hold_is_named(tmp_path):
    net = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])
    model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
    with pytest.raises(ValueError, match=r"`format` must be one .*litert.*Converter"):
        kerashash.export_encoder(model, tmp_path / "x.tflite", format="litert")
    assert not any(tmp_path.iterdir())


def test_a_failed_conversion_says_why(tmp_path, monkeypatch):
    def broken(encoder, folder):
        raise RuntimeError("Op FOO is not supported.\nSee the log.")

    monkeypatch.setattr(exporting, "_write_litert", broken)
    model = kerashash.AdaLabelHash(mlp(4), bits=12, num_classes=3)
    with pytest.raises(
        ValueError, match=r"'litert': RuntimeError: Op FOO is not .*d.$"
    ):
        kerashash.export_encoder(model, tmp_path / "x.tflite", format="litert")


@pytest.mark.parametrize(
    ("format", "module"), [("onnx", "tf2onnx"), ("openvino", "openvino")]
)
def test_what_is_not_installed_is_named(format, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    model = kerashash.AdaLabelHash(mlp(4), bits=12, num_classes=3)
    path = tmp_path / f"encoder{SUFFIXES[format]}"
    with pytest.raises(ImportError, match=rf"{module}.*kerashash\[{format}\]"):
        kerashash.export_encoder(model, path, format=format)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("method", [kerashash.AdaLabelHash, kerashash.DDHLDL])
def test_export_of_keras_needs_no_call_first(method, tmp_path, rng):
    options = {"num_train": 5} if method is kerashash.DDHLDL else {}
    model = method(mlp(4), bits=12, num_classes=3, **options)
    model.export(tmp_path / "network", verbose=False)
    network = tf.saved_model.load(tmp_path / "network")
    x = rng.normal(size=(3, 4)).astype(np.float32)
    expected = model(x, training=False)
    np.testing.assert_allclose(network.serve(x), expected, atol=1e-6)
