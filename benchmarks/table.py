"""The results of a benchmark or a harness: a CSV file that grows run by run."""

import contextlib
import csv
import fcntl
import importlib.metadata
import io
import os
import pathlib
import platform
import re
import shlex
import sys
from collections.abc import Container, Iterator
from typing import Any

import kerashash
from kerashash import files

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# `python -m benchmarks --output FOLDER` writes elsewhere.
FOLDER = pathlib.Path(os.environ.get("BENCHMARKS_OUTPUT", RESULTS))
# What a row says of its run, and what it was measured by.
RUN = ("machine", "isa", "keras", "tensorflow", "numpy", "anchors", "command")
# Packages that are measured beside kerashash, by the names of their modules; only those
# that nothing else imports.
ANCHORS = {
    "faiss": "faiss",
    "usearch": "usearch",
    "openvino": "openvino",
    "ai_edge_litert": "ai-edge-litert",
    "onnxruntime": "onnxruntime",
    "torch": "torch",
    "lancedb": "lancedb",
    "ray": "ray",
}
# Names of vector instructions: ours, those of /proc/cpuinfo, and those of XLA.
INSTRUCTIONS = (
    ("AVX-512", "avx512f", "AVX512"),
    ("AVX2", "avx2", "AVX2"),
    ("AVX", "avx", "AVX"),
    ("SSE4.2", "sse4_2", "SSE4_2"),
    ("SVE", "sve", ""),
    ("NEON", "asimd", ""),
)


class Table:
    """Rows of a CSV file in the folder of results, written after each run.

    An interrupted benchmark can be resumed: ``("full", 0) in table`` says whether there
    is a row with these values of the key columns. Several processes may write to one
    file. Rows of earlier runs stay; columns that they lack are empty.

    Args:
        name: str; the name of the file.
        keys: str; names of the key columns, which together identify a row. "isa" may be
            one of them: see `run`.
    """

    def __init__(self, name: str, *keys: str) -> None:
        self.file = FOLDER / name
        self.keys = keys
        self.rows = self._read()

    def __contains__(self, key: tuple[Any, ...]) -> bool:
        return tuple(map(str, key)) in self.rows

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, and what `run` says; it replaces a row with the same keys."""
        row = row | run()
        print(row, flush=True)
        with self._changing():
            self.rows[self._key(row)] = row

    def keep(self, keys: Container[tuple[str, ...]]) -> None:
        """Remove rows whose values of the key columns are not among `keys`."""
        with self._changing():
            self.rows = {key: row for key, row in self.rows.items() if key in keys}

    def _key(self, row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(row.get(name, "")) for name in self.keys)

    def _read(self) -> dict[tuple[str, ...], dict[str, Any]]:
        if not self.file.exists():
            return {}
        with self.file.open(newline="") as stream:
            return {self._key(row): row for row in csv.DictReader(stream)}

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the rows as they are in the file now, and write the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # until the folder is closed
            self.rows = self._read()
            yield
            columns = dict.fromkeys(name for row in self.rows.values() for name in row)
            ordered = [*(name for name in columns if name not in RUN), *RUN]
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, ordered, restval="")
            writer.writeheader()
            writer.writerows(self.rows.values())
            with files.replacing(self.file) as stream:
                stream.write(text.getvalue().encode())
        finally:
            os.close(folder)


def versioned(name: str) -> str:
    """Name an entry of the zoo with its version: a later one is another model."""
    card = kerashash.zoo.entry(name).card
    return f"{card['name']}@{card.get('version', 1)}"


def run() -> dict[str, str]:
    """Describe the machine, the versions and the command of this process.

    Returns:
        dict with the columns `RUN`. `isa` is the largest vector instructions that
        TensorFlow's compiled code may use: less than the processor has, if XLA_FLAGS
        limit them. `anchors` are the packages of `ANCHORS` that were imported.
    """
    processor = _processor()
    parts = [f"{os.cpu_count()} CPU cores", processor, _instructions()]
    versions = {
        name: importlib.metadata.version(name)
        for name in ("keras", "tensorflow", "numpy")
    }
    anchors = [
        f"{name} {sys.modules[module].__version__.partition('-')[0]}"
        for module, name in ANCHORS.items()
        if sys.modules.get(module)
    ]
    return {
        "machine": ", ".join(filter(None, parts)),
        "isa": _allowed_instructions(),
        **versions,
        "anchors": ", ".join(anchors),
        "command": _command(),
    }


def _processor() -> str:
    """The maker's name of the processor."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    name = re.sub(r"\((R|TM)\)|\b(CPU|Processor)\b|@.*|\d+-Core", "", name)
    return " ".join(name.split())


def _cpuinfo(field: str) -> str:
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    found = re.search(rf"^{field}\s*: (.*)$", text, re.M)
    return found[1] if found else ""


def _instructions() -> str:
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    names = (name for name, flag, _ in INSTRUCTIONS if flag in flags)
    return next(names, "")


def _allowed_instructions() -> str:
    limit = re.search(r"--xla_cpu_max_isa=(\w+)", os.environ.get("XLA_FLAGS", ""))
    own, order = _instructions(), [name for name, _, _ in INSTRUCTIONS]
    for name, _, xla in INSTRUCTIONS if limit and own else ():
        if limit and xla == limit[1].upper() and order.index(name) > order.index(own):
            return name
    return own


def _command() -> str:
    # Without the folders of file arguments: they mean nothing on other machines.
    words = [os.path.basename(word) for word in sys.argv[1:]]
    script = pathlib.Path(sys.argv[0]).resolve()
    if script.parent == ROOT / "benchmarks":
        return shlex.join(["python", "-m", "benchmarks", script.stem, *words])
    if script.is_relative_to(ROOT):
        script = script.relative_to(ROOT)
    return shlex.join(["python", script.as_posix(), *words])
