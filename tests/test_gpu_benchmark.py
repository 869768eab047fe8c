"""Programs of benchmarks/gpu.py, exported from TensorFlow and run by JAX."""

import csv
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("jax", reason="runs the programs")

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "gpu.py"

# On a GPU, JAX passes programs on as StableHLO alone, which a processor does not need.
CHECK_OPERATIONS = """
import pathlib, sys
import gpu
from jax.extend import mlir
from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir.dialects import stablehlo
with make_ir_context():
    module = mlir.deserialize_portable_artifact(pathlib.Path(sys.argv[1]).read_bytes())
    gpu.drop_copies(module)
    stablehlo.serialize_portable_artifact(module, stablehlo.get_current_version())
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Exported programs and, twice more, broken ones."""
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    folder = tmp_path_factory.mktemp("programs")
    only = ["nearest_12", "dcc", "counts", "step_adalabel"]
    gpu.export(folder, small=True, variants=False, only=only)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in [item["name"] for item in manifest["items"]]:
        if name.startswith(("nearest", "dcc")):
            for suffix in ("mlir", "npz"):
                source = folder / f"{name}.{suffix}"
                shutil.copy(source, folder / f"broken_{name}.{suffix}")
            manifest["items"].append({"name": f"broken_{name}", "kind": "example"})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    # Another expectation is not met, and what cannot be read does not stop the rest.
    (path,) = folder.glob("broken_dcc*.npz")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["out_0"][0, 0] *= -1
    np.savez(path, **arrays)
    (path,) = folder.glob("broken_nearest*.mlir")
    path.write_bytes(b"no program")
    return folder


@pytest.mark.slow
def test_outputs_are_those_of_tensorflow(programs, tmp_path):
    command = [sys.executable, SCRIPT, "run", programs, "--small", "--out", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    with (tmp_path / "gpu.csv").open(newline="") as file:
        assert file.readline().startswith("# cpu")
        rows = {row["item"].partition("_bits")[0]: row for row in csv.DictReader(file)}
    equal = {name: row["equal"] for name, row in rows.items()}
    assert equal == {
        "copy": "",
        "nearest_12": "True",
        "counts_8_queries_3000_items": "True",
        "dcc_50_codes_8": "True",
        "step_adalabel": "True",
        "broken_nearest_12": "",
        "broken_dcc_50_codes_8": "False",
    }
    assert rows["broken_nearest_12"]["error"]
    assert rows["broken_dcc_50_codes_8"]["max_difference"] == "2"


@pytest.mark.slow
def test_a_step_has_operations_of_stablehlo_alone(programs, tmp_path):
    subprocess.run(
        [sys.executable, "-c", CHECK_OPERATIONS, programs / "step_adalabel.mlir"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SCRIPT.parent), "PATH": ""},
        check=True,
    )
