"""The examples: each runs from its first line to its last, on data that are small.

pytest -m examples
"""

import pathlib
import runpy
import sys

import keras
import numpy as np
import pytest
import scipy.io
from PIL import Image
from sklearn.datasets import load_sample_images

import kerashash

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
CIFAR10 = sorted(path.name for path in EXAMPLES.glob("*_cifar10.py"))
pytestmark = [pytest.mark.slow, pytest.mark.examples]


def cifar10(protocol):
    """Make a few images that stand for CIFAR-10: light above, and light below.

    The classes differ also by cosine, in which DDH searches for neighbours.
    """
    rng = np.random.default_rng(0)
    rows = np.arange(1100)  # one protocol looks at the first 1,000 neighbours
    labels = np.eye(2, dtype=np.uint8)[rows % 2]
    light = np.repeat(labels, 16, axis=1)[:, :, None, None]  # (n, 32, 1, 1)
    x = rng.integers(0, 128, (len(rows), 32, 32, 3)) + 127 * light
    splits = {"train": rows[:1024], "query": rows[1024:1040], "database": rows[:1024]}
    if protocol == "semi":
        splits["unlabelled"] = rows[1040:]
    return kerashash.data.RetrievalData(
        "cifar10", protocol, 0, ("above", "below"), splits, x.astype(np.uint8), labels
    )


def lite0():
    """Make a network that stands for EfficientNet-Lite0, with as many features."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Resizing(8, 8),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(1280, "relu"),
        ]
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run an example in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


@pytest.mark.parametrize("name", CIFAR10)
def test_cifar10(name, run, tmp_path, monkeypatch):
    get = kerashash.backbones.get

    def get_small(name, **options):
        return lite0() if name == "efficientnet-lite0" else get(name, **options)

    monkeypatch.setattr(kerashash.data, "load", lambda _, protocol: cifar10(protocol))
    monkeypatch.setattr(kerashash.backbones, "get", get_small)
    model = run(name)["model"]
    (saved,) = tmp_path.glob("*.keras")
    x, labels = cifar10("full").arrays("query")[:2]
    codes = model.encode(x)
    assert codes.shape == (16, int(saved.stem.rpartition("-")[2]) // 8)
    np.testing.assert_array_equal(kerashash.load_model(saved).encode(x), codes)
    bits = np.unpackbits(codes, axis=1)
    distances = (bits[:, None] != bits).sum(axis=2)
    same = labels @ labels.T > 0
    assert distances[same].mean() < distances[~same].mean() / 2


def test_dcdh_digits(run, capsys):
    assert run("dcdh_digits.py")["indices"].shape == (1, 5)
    assert "learned database: 0.9" in capsys.readouterr().out


def test_own_images(run, tmp_path, capsys):
    for name, photograph in zip("ab", load_sample_images().images, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for part in range(10):
            image = Image.fromarray(photograph[36 * part :][:60, :60])
            image.save(tmp_path / "photos" / name / f"{part}.png")
    image.save(tmp_path / "query.png")
    run("own_images.py", "photos", "query.png")
    assert capsys.readouterr().out.count("bits differ: ") == 5


def test_ddh_ldl_movie(run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    path = tmp_path / "Movie.mat"
    values = {"features": rng.random((120, 12)), "labels": rng.dirichlet([1] * 5, 120)}
    scipy.io.savemat(path, values)
    run("ddh_ldl_movie.py", str(path))
    assert "DDH-LDL, 128 bits" in capsys.readouterr().out


def test_the_notebook(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=folder).execute()
    shown = [output.get("data", {}) for cell in cells for output in cell.outputs]
    assert sum("text/html" in data for data in shown) == 3
    assert any("image/png" in data for data in shown)
    (printed,) = (o.text for c in cells for o in c.outputs if o.output_type == "stream")
    assert printed.startswith("mAP@ALL 0.9")


def test_all_examples_are_run():
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    here = pathlib.Path(__file__).read_text()
    assert all(name in CIFAR10 or name in here for name in names)
