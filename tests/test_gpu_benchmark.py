"""Programs of benchmarks/gpu.py, exported from TensorFlow and run by JAX."""

import csv
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def call(folder, *arguments):
    """Call the script in a process of its own; return its exit code and rows."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], cwd=folder, capture_output=True, text=True
    )
    results = folder / "out" / "gpu.csv"
    if not results.exists():
        assert done.returncode == 0, done.stderr
        return 0, []
    with results.open(newline="") as file:
        assert file.readline().startswith("# cpu")
        return done.returncode, list(csv.DictReader(file))


@pytest.mark.slow
def test_outputs_are_those_of_tensorflow(tmp_path):
    only = ["--small", "--only", "nearest_12", "dcc", "counts", "step_adalabel"]
    call(tmp_path, "export", "programs", *only)
    run = ["run", "programs", "--small", "--out", "out"]
    code, rows = call(tmp_path, *run)
    assert code == 0
    assert [row["item"].partition("_")[0] for row in rows] == [
        "copy",
        *("nearest", "counts", "dcc", "step"),
    ]
    assert all(row["equal"] == "True" for row in rows[1:])

    # Another expectation is not met, and what cannot be read does not stop the rest.
    (path,) = (tmp_path / "programs").glob("dcc*.npz")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["out_0"][0, 0] *= -1
    np.savez(path, **arrays)
    (path,) = (tmp_path / "programs").glob("nearest*.mlir")
    path.write_bytes(b"no program")
    code, rows = call(tmp_path, *run, "--only", "nearest", "dcc")
    assert code == 1
    assert [row["equal"] for row in rows] == ["", "", "False"]
    assert rows[1]["error"]
    assert rows[2]["max_difference"] == "2"
