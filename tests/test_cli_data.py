"""`kerashash data` and `kerashash doctor`."""

import configparser
import importlib.metadata
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.io

import kerashash
from kerashash import cli
from kerashash.cli import doctor
from kerashash.cli.data import DATASETS, protocols
from kerashash.data.builders import flowers17, ldl, mirflickr25k, nus_wide

SETUP = pathlib.Path(__file__).parent.parent / "setup.cfg"


def run_json(capsys, *words):
    assert cli.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "tensorflow_datasets"


def put_sjaffe(root):
    manual = root / "downloads" / "manual" / "ldl"
    manual.mkdir(parents=True)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(213, 243))
    labels = rng.dirichlet(np.ones(6), 213)
    scipy.io.savemat(manual / "SJAFFE.mat", {"features": features, "labels": labels})


def test_what_is_said_without_builders_is_what_they_say():
    assert [*DATASETS] == [*kerashash.data.list()]
    for name, names in kerashash.data.list().items():
        assert tuple(protocols(name)) == names
    for config in ldl.Ldl.BUILDER_CONFIGS:
        about = DATASETS[f"ldl/{config.name}"]
        assert (about.rows, about.files) == (config.rows, (f"ldl/{config.file}",))
    for name, builder in (
        ("mirflickr25k", mirflickr25k.Mirflickr25k),
        ("nus_wide", nus_wide.NusWide),
        ("flowers17", flowers17.Flowers17),
    ):
        assert DATASETS[name].files == builder.FOLDERS
        if name != "flowers17":
            assert DATASETS[name].rows == builder.NUM_IMAGES
    flowers = flowers17.Flowers17.IMAGES_A_CLASS * len(flowers17.CLASSES)
    assert DATASETS["flowers17"].rows == flowers
    digits = kerashash.data.load("digits")
    assert protocols("digits")["default"] == {
        split: getattr(digits, f"num_{split}")
        for split in ("train", "query", "database")
    }


def test_list_says_what_is_there(root, capsys):
    def states():
        return {r["name"]: r["state"] for r in run_json(capsys, "data", "list")}

    first = states()
    assert first.pop("digits") == "prepared"
    assert first.pop("cifar10") == "downloads"
    assert {*first.values()} == {"by hand"}
    (root / "downloads/manual/nuswide").mkdir(parents=True)
    for folder in ("mirflickr25k/incomplete/1.0.0", "cifar10/3.0.2"):
        (root / folder).mkdir(parents=True)
        (root / folder / "dataset_info.json").touch()
    second = states()
    assert second["nus_wide"] == "files found"
    assert second["mirflickr25k"] == "incomplete"
    assert second["cifar10"] == "prepared"
    (root / "mirflickr25k/complete/1.0.0").mkdir(parents=True)
    assert states()["mirflickr25k"] == "incomplete"
    (root / "mirflickr25k/complete/1.0.0/dataset_info.json").touch()
    assert states()["mirflickr25k"] == "prepared"
    rows = {row["name"]: row for row in run_json(capsys, "data", "list")}
    assert rows["cifar10"]["protocols"] == ["full", "5k-train", "semi"]
    assert cli.main(["data", "list", "--data-dir", "none"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    assert "Folder: none" in lines


def test_list_needs_no_tensorflow(tmp_path):
    program = (
        "import sys; from kerashash.cli import main\n"
        "assert main(['data', 'list', '--json']) == 0\n"
        "assert main(['compare', 'dcdh-cifar10-12']) == 0\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_info_says_where_files_come_from_and_are_looked_for(root, capsys):
    about = run_json(capsys, "data", "info", "mirflickr25k")
    assert about["protocols"]["38-labels"] == {
        "train": 23_300,
        "query": 1700,
        "database": 23_300,
    }
    assert "Creative Commons" in about["licence"]
    assert about["manual"] == str(root / "downloads/manual/mirflickr25k")
    assert about["folder"] == str(root / "mirflickr25k/complete/1.0.0")
    assert cli.main(["data", "info", "mirflickr25k"]) == 0
    text = capsys.readouterr().out
    assert "http://press.liacs.nl/mirflickr/mirdownload.html" in text
    assert "mirflickr/im1.jpg ... im25000.jpg" in text
    assert "24-labels          23,300    1,700    23,300\n" in text
    assert cli.main(["data", "info", "digits"]) == 0
    assert "scikit-learn" in capsys.readouterr().out
    assert cli.main(["data", "info", "cifar"]) == 2
    assert "Did you mean ['cifar10']" in capsys.readouterr().err


def test_prepare_reads_the_publisher_s_files(root, capsys):
    assert cli.main(["data", "prepare", "ldl/sjaffe"]) == 2
    error = capsys.readouterr().err
    assert str(root) in error
    assert "SJAFFE.mat" in error
    assert "https://github.com/SpriteMisaka/PyLDL" in error
    put_sjaffe(root)
    assert cli.main(["data", "prepare", "ldl/sjaffe"]) == 0
    assert "192 training rows, 21 queries" in capsys.readouterr().out
    (row,) = (
        row for row in run_json(capsys, "data", "list") if row["name"] == "ldl/sjaffe"
    )
    assert row["state"] == "prepared"


@pytest.fixture
def extras(monkeypatch):
    """The requirements of setup.cfg, whatever the installation was made of."""
    parser = configparser.ConfigParser()
    parser.read(SETUP)
    sections = dict(parser["options.extras_require"]) | {
        None: parser["options"]["install_requires"]
    }
    lines = {
        extra: [
            line for line in text.split("\n") if line.strip(" %") and "#" not in line
        ]
        for extra, text in sections.items()
    }
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: [
            line + (f'; extra == "{extra}"' if extra else "")
            for extra, texts in lines.items()
            for line in texts
            if not line.startswith("%")
        ],
    )
    return lines


def test_doctor_says_what_is_installed_and_what_brings_the_rest(
    root, extras, monkeypatch, capsys
):
    version = importlib.metadata.version

    def versions(name):
        if name == "openvino":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"fastapi": "0.1", "uvicorn": "99"}.get(name) or version(name)

    monkeypatch.setattr(importlib.metadata, "version", versions)
    report = run_json(capsys, "doctor")
    assert {*report["optional"]} == {*extras} - {None, "docs", "test", "dev"}
    assert report["required"]["tensorflow"]["version"] == version("tensorflow")
    assert report["keras_backend"] == "tensorflow"
    assert all(package["fits"] for package in report["required"].values())
    assert report["optional"]["openvino"]["openvino"]["version"] is None
    assert not report["optional"]["serve"]["fastapi"]["fits"]
    assert report["optional"]["serve"]["uvicorn"]["fits"]
    assert [*report["registries"].values()][-1] == len(kerashash.zoo.list())
    cache = root.parent / ".cache/kerashash"
    assert report["caches"] == {str(cache): 0}
    monkeypatch.setenv("KERASHASH_CACHE", str(root / "other"))
    report = run_json(capsys, "doctor")
    assert {*report["caches"]} == {str(cache), str(root / "other")}
    cache.mkdir(parents=True)
    (cache / "0123456789abcdef.npy").write_bytes(bytes(2_500_000))
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"2.5 MB  {cache}\n" in text
    assert "backend of Keras: tensorflow\n" in text
    assert 'encoders for OpenVINO         missing: pip install "kerashash[openv' in text
    assert 'pip install "kerashash[serve]"' in text
    assert "by hand (`kerashash data info NAME`): mirflickr25k, nus_wide" in text


def test_doctor_names_what_does_not_fit(root, monkeypatch, capsys):
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda name: ["numpy>=99", "kers>=1"]
    )
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setenv("KERASHASH_ZOO", str(root / "none"))
    monkeypatch.setenv("KERASHASH_CACHE", "~no-such-user/cache")
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f'numpy {np.__version__}: pip install "numpy>=99"' in text
    assert 'kers None: pip install "kers>=1"' in text
    assert "ModuleNotFoundError: import of tensorflow halted" in text
    assert "`KERASHASH_ZOO` must hold folders" in text
    assert "Could not determine home directory.  ~no-such-user/cache" in text


@pytest.mark.parametrize("place", ["file", "file/below", "/dev/null"])
def test_doctor_says_that_a_cache_is_of_no_use(place, root, monkeypatch):
    root.mkdir()
    (root / "file").touch()
    folder = root / place
    monkeypatch.setenv("KERASHASH_CACHE", str(folder))
    fault = doctor._caches()[str(folder)]
    assert fault.startswith("`KERASHASH_CACHE` must lie in a folder in which one can")


def test_doctor_lets_nothing_be_deleted_but_what_kerashash_made(
    root, monkeypatch, capsys
):
    home = root / "ho\nme"
    theirs = {"thesis-unfinished/a.tex", "zoo/lion.jpg", "notes-01234567", "a.npy"}
    ours = {
        "zoo/localhost-01234567/entry/card.json": "zoo/localhost-01234567",
        "encoders/0123456789abcdef": "encoders/0123456789abcdef",
        "0123456789abcdef-mirrored.npy": "0123456789abcdef-mirrored.npy",
        "a-b-12-unfinished/0123456789abcdef/a": "a-b-12-unfinished/0123456789abcdef",
    }
    for name in (*theirs, *ours):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"12345")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KERASHASH_CACHE", "~")
    caches = doctor._caches()
    assert caches.pop(str(home / ".cache/kerashash")) == 0
    assert caches == {str(home / name): 5 for name in ours.values()}
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"\n  0.0 MB  {root}/ho\\nme/zoo/localhost-01234567\n" in text
    assert "KERAS_BACKEND='jax'" in text
    for name in theirs:
        (home / name).unlink()
    (home / "thesis-unfinished").rmdir()
    assert doctor._caches()[str(home)] == 20


def test_doctor_says_that_a_driver_is_not_used(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert "tensorflow[and-cuda]" in doctor._devices()["error"]
