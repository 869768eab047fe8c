"""Break the code in small ways, and see that a test notices each of them.

A mutant replaces one piece of text in a copy of the package, as a careless change
might. `mutants.toml` lists them, each with the tests of which one must fail. The same
tests must pass on the package as it is. Text that is not found exactly once is refused,
so that the list stays true as code moves.

    python tests/faults/mutants.py              # all; rows in results/mutants.csv
    python tests/faults/mutants.py --name DCDH  # those with "DCDH" in their names
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import time
import tomllib
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
LIST = pathlib.Path(__file__).with_suffix(".toml")
SECONDS = 600  # for the tests of one mutant
# Imported once; the tests of each mutant run in a fork of that process.
PRELOAD = [
    *("tensorflow", "keras", "tensorflow_datasets", "spektral", "scipy.io"),
    *("sklearn.svm", "h5py", "matplotlib", "PIL.Image", "pytest"),
]


class Mutant(NamedTuple):
    """A piece of text to replace in a file of the package.

    Attributes:
        name: str; what is broken.
        file: str; the file, from the folder `kerashash`.
        old, new: str; the text before and after.
        tests: str; the file of the tests to run.
        select: str; which of its tests, as for ``pytest -k``.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    select: str

    def applied(self) -> str:
        """The text of the file with the replacement.

        Raises:
            ValueError: if the file does not have `old` exactly once.
        """
        text = (ROOT / "kerashash" / self.file).read_text()
        count = text.count(self.old)
        if count != 1 or self.old == self.new:
            raise ValueError(
                f"Mutant {self.name!r} must replace text that is exactly once in "
                f"kerashash/{self.file}. It is there {count} times: {self.old!r}."
            )
        return text.replace(self.old, self.new)


def read() -> list[Mutant]:
    """Read the list of mutants."""
    tables = tomllib.loads(LIST.read_text())["mutant"]
    mutants = [Mutant(**table) for table in tables]
    names = {mutant.name for mutant in mutants}
    if len(names) < len(mutants):
        raise ValueError(f"{LIST} must give each mutant a name of its own.")
    return mutants


class _Failures:
    """Plugin of pytest that keeps the names of the tests that failed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.names.append(report.nodeid)


def _run_tests(folder: str, tests: str, select: str, log: str, results) -> None:
    """Run tests on the package in a folder; put pytest's exit status and failures."""
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = False  # most files stay as they are from run to run
    os.environ["PYTHONPATH"] = folder
    os.chdir(folder)
    with open(log, "w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    import pytest

    import kerashash

    assert pathlib.Path(kerashash.__file__).parent == pathlib.Path(folder, "kerashash")
    failures = _Failures()
    options = [
        "-x",
        "-q",
        "-n",
        "0",
        "-m",
        "",
        "-p",
        "no:cacheprovider",
        "--tb",
        "line",
    ]
    status = pytest.main([*options, tests, "-k", select], plugins=[failures])
    results.put((int(status), failures.names))


@contextlib.contextmanager
def copy():
    """A copy of the package and its tests, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="kerashash-mutant-") as name:
        folder = pathlib.Path(name)
        shutil.copytree(
            ROOT / "kerashash",
            folder / "kerashash",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for entry in ("tests", "zoo", "docs", "examples", "README.md", "setup.cfg"):
            (folder / entry).symlink_to(ROOT / entry)
        (folder / "kerashash" / "pretrained").symlink_to(ROOT / "zoo")
        yield folder


def run(folder: pathlib.Path, tests: str, select: str) -> tuple[int, list[str]]:
    """Run tests on the package in a folder, in a process of their own.

    Returns:
        ``(status, failures)``: pytest's exit status, or -1 if the process ended without
        one or was stopped after some minutes, and the names of the tests that failed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    results = context.SimpleQueue()
    log = str(folder / "log.txt")
    process = context.Process(
        target=_run_tests, args=(str(folder), tests, select, log, results)
    )
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    return (-1, []) if results.empty() else results.get()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="", help="only mutants whose name has this")
    parser.add_argument("--resume", action="store_true", help="only those without row")
    options = parser.parse_args()
    sys.path.append(str(ROOT))
    from benchmarks.table import Table

    all_mutants = read()
    mutants = [mutant for mutant in all_mutants if options.name in mutant.name]
    table = Table("mutants.csv", "mutant")
    table.keep({(mutant.name,) for mutant in all_mutants})
    if options.resume:
        mutants = [mutant for mutant in mutants if (mutant.name,) not in table]
    changed = [mutant.applied() for mutant in mutants]  # all, before any runs
    print(f"{len(mutants)} mutants; their tests run on the package as it is, first")
    selected: dict[str, dict[str, None]] = {}
    for mutant in mutants:
        selected.setdefault(mutant.tests, {})[f"({mutant.select})"] = None
    survived = 0
    with copy() as folder:
        for mutant, text in zip(mutants, changed, strict=True):
            if selections := selected.pop(mutant.tests, None):
                status, failures = run(folder, mutant.tests, " or ".join(selections))
                if status:
                    print((folder / "log.txt").read_text()[-2000:])
                    print(f"{mutant.tests} must pass. Status {status}: {failures}")
                    return 2
            start = time.monotonic()
            path = folder / "kerashash" / mutant.file
            shutil.copy2(path, folder / "original")
            path.write_text(text)
            status, failures = run(folder, mutant.tests, mutant.select)
            shutil.copy2(folder / "original", path)
            # Only a test that fails counts: not a mutant that cannot be imported, say.
            killed = status == 1 and bool(failures)
            survived += not killed
            row = {
                "mutant": mutant.name,
                "file": mutant.file,
                "result": "killed" if killed else f"survived (status {status})",
                "test": failures[0] if killed else "",
                "seconds": round(time.monotonic() - start),
            }
            table.add(row)
    print(f"{len(mutants) - survived} killed, {survived} survived")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
