"""The driver of the benchmarks, their tables, and times of calls that take turns."""

import csv
import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent
sys.path.append(str(ROOT))  # the benchmarks are not installed

from benchmarks import __main__ as driver  # noqa: E402
from benchmarks import plots, table, turns  # noqa: E402
from kerashash import zoo  # noqa: E402

HELPERS = {"__init__", "__main__", "features", "plots", "summary", "table", "turns"}
# Columns that figures show as they are.
MEASURED = {"value", "from memory", "all_measures_s", "argsort_loop_s", "GB/s"}


def rows_of(path):
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "FOLDER", tmp_path / "results")
    return tmp_path / "results"


def test_rows_say_where_they_are_from(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks/ranker.py"), "a/b", "-c"])
    monkeypatch.setitem(sys.modules, "faiss", type("faiss", (), {"__version__": "1.9"}))
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(
        table, "_cpuinfo", {"model name": "AMD EPYC", "flags": "avx avx2"}.__getitem__
    )
    table.Table("some.csv", "n").add({"n": 1, "ms": 2.5})
    (row,) = rows_of(folder / "some.csv")
    assert row["n"] == "1"
    assert row["ms"] == "2.5"
    assert row["machine"].endswith(" CPU cores, AMD EPYC, AVX2")
    assert row["isa"] == "AVX2"
    assert row["numpy"] == importlib.metadata.version("numpy")
    assert "faiss 1.9" in row["anchors"]
    assert row["command"] == "python -m benchmarks ranker b -c"


@pytest.mark.parametrize(
    ("flags", "limit", "isa"),
    [
        ("sse4_2 avx avx2 avx512f", "", "AVX-512"),
        ("sse4_2 avx avx2 avx512f", "--xla_cpu_max_isa=AVX2 --a=1", "AVX2"),
        ("sse4_2 avx avx2 avx512f", "--xla_cpu_max_isa=avx512", "AVX-512"),
        ("sse4_2 avx avx2", "--xla_cpu_max_isa=AVX512", "AVX2"),
        ("", "--xla_cpu_max_isa=AVX2", ""),
    ],
)
def test_vector_instructions_are_those_that_xla_may_use(flags, limit, isa, monkeypatch):
    monkeypatch.setattr(table, "_cpuinfo", {"flags": flags, "Features": ""}.__getitem__)
    monkeypatch.setenv("XLA_FLAGS", limit)
    assert table._allowed_instructions() == isa


def test_rows_replace_those_with_their_keys(folder, monkeypatch):
    folder.mkdir()
    (folder / "some.csv").write_text("n,old,machine,command\n1,a,2 cores,x\n2,b,,y\n")
    results = table.Table("some.csv", "n", "isa")
    assert (1, "") in results
    monkeypatch.setattr(table, "run", lambda: dict.fromkeys(table.RUN, "AVX2"))
    results.add({"n": 1, "new": "c"})
    assert (1, "AVX2") in results
    results.add({"n": 1, "new": "d"})
    old, other, new = rows_of(folder / "some.csv")
    assert [*new] == ["n", "old", "new", *table.RUN]
    assert [old[c] for c in ("n", "old", "new", "machine")] == ["1", "a", "", "2 cores"]
    assert other["command"] == "y"
    assert [new[c] for c in ("n", "old", "new")] == ["1", "", "d"]
    results.keep({("2", ""), ("1", "AVX2")})
    assert rows_of(folder / "some.csv") == [other, new]


def test_two_writers_lose_no_row(folder):
    tables = [table.Table("some.csv", "writer", "n") for _ in range(2)]

    def write(number):
        for n in range(20):
            tables[number].add({"writer": number, "n": n})

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    keys = {(row["writer"], row["n"]) for row in rows_of(folder / "some.csv")}
    assert keys == {(str(w), str(n)) for w in range(2) for n in range(20)}
    assert [path.name for path in folder.iterdir()] == ["some.csv"]


def test_a_failed_write_leaves_the_table(folder, monkeypatch):
    results = table.Table("some.csv", "n")
    results.add({"n": 1})
    before = (folder / "some.csv").read_bytes()

    class Broken:
        def __str__(self):
            raise OSError("no space")

        __repr__ = object.__repr__

    with pytest.raises(OSError, match="no space"):
        results.add({"n": 2, "value": Broken()})
    assert (folder / "some.csv").read_bytes() == before
    results.add({"n": 3})  # the lock is free
    assert [row["n"] for row in rows_of(folder / "some.csv")] == ["1", "3"]


def test_entries_are_named_with_their_versions():
    version = zoo.entry("adalabel-cifar10-48").card["version"]
    name = f"adalabel-cifar10-48@{version}"
    assert table.versioned("adalabel-cifar10-48") == name
    assert table.versioned(name) == name
    assert "version" not in zoo.entry("dcdh-ap-mirflickr-48").card
    assert table.versioned("dcdh-ap-mirflickr-48") == "dcdh-ap-mirflickr-48@1"


def test_calls_take_turns(monkeypatch):
    order, clock = [], [0.0]
    durations = {"a": [1, 1, 8], "b": [2, 4, 2], "slow": [30, 50]}
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: order.append(seconds))

    def call(name):
        order.append(name)
        warm = len([some for some in order if some == name]) % 2
        clock[0] += 1000 if warm else durations[name].pop(0)

    times = turns.take_turns(
        {name: lambda name=name: call(name) for name in durations},
        3,
        fewer={"slow": 2},
        units={"slow": 10},
        pause=0.25,
        warm_up=True,
    )
    names = [*"ab", "slow", "slow", *"ba", *"ab"]
    assert order == [each for name in names for each in (0.25, name, name)]
    assert times.wall == {"a": [1, 1, 8], "b": [2, 4, 2], "slow": [3, 5]}
    assert times.median("b") == 2
    assert times.ratio("b", "a") == 2  # of 2, 4 and 1/4
    assert times.ratio("slow", "a") == 4


def test_processor_times_are_those_of_all_threads():
    def waits():
        time.sleep(0.05)

    def works():
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

    times = turns.take_turns({"waits": waits, "works": works}, 3)
    assert times.processor_median("works") >= 0.02 > times.processor_median("waits")
    assert times.processor_ratio("works", "waits") > 2
    assert times.median("waits") >= 0.05


def run(*words):
    command = [sys.executable, "-m", "benchmarks", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_driver_lists_every_benchmark():
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert modules - HELPERS == {*driver.BENCHMARKS}
    result = run()
    assert result.returncode == 0
    assert not result.stderr
    for name in driver.BENCHMARKS:
        assert f"\n{name} " in "\n" + result.stdout


def test_needs_that_are_not_there_are_named(tmp_path, monkeypatch, capsys):
    some = driver.Benchmark("a", "b", 1, ((driver.PHOTOGRAPHS,),), None, ("no_such",))
    monkeypatch.setattr(driver, "DATA", tmp_path)
    other = driver.Benchmark("c", "d", 1, data="cifar10")
    monkeypatch.setattr(driver, "BENCHMARKS", {"some": some, "other": other})
    assert "package no_such (missing)" in driver.listing()
    assert driver.main(["--all"]) == 0
    assert driver.main(["some", "other"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "some is left out: it needs package no_such, --photographs FOLDER."
    )
    assert lines[1] == f"other is left out: it needs {tmp_path}/cifar10."
    assert lines[-1] == "Not run, or failed: some, other."
    (tmp_path / "cifar10" / "3.0.2").mkdir(parents=True)
    path = f"{tmp_path}/cifar10"
    assert other.needs(None) == {path: False}  # not ready: begun, and empty
    (tmp_path / "cifar10" / "3.0.2" / "dataset_info.json").write_text("{}")
    assert other.needs(None) == {path: True}
    assert some.needs(tmp_path)["--photographs FOLDER"]
    driver.BENCHMARKS.pop("other")
    assert driver.main(["--quick", "--all"]) == 0
    assert "some is left out: it has no short form." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "Expected --all or names of benchmarks. Received: nothing"),
        (["--all", "ranker"], "Expected --all or names of benchmarks"),
        (["ranker", "store", "ivf"], "Only a single benchmark takes arguments"),
        (["--quick", "store", "ivf"], "Only a single benchmark takes arguments"),
        (["--quack"], "unrecognized arguments: --quack"),
    ],
)
def test_wrong_commands_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        driver.main(words)
    assert message in capsys.readouterr().err


def test_arguments_and_the_folder_reach_a_benchmark(tmp_path, monkeypatch, capfd):
    """A benchmark of this test's own, beside the others."""
    package = tmp_path / "root" / "benchmarks"
    shutil.copytree(ROOT / "benchmarks", package, ignore=shutil.ignore_patterns("res*"))
    (package / "tiny.py").write_text(
        "import sys\n"
        "from benchmarks import table, turns\n"
        "times = turns.take_turns({'a': lambda: 1, 'b': lambda: 2}, 3)\n"
        "row = {'what': sys.argv[1], 'a / b': times.ratio('a', 'b')}\n"
        "table.Table('tiny.csv', 'what').add(row)\n"
        "sys.exit(sys.argv[1] == 'fails')\n"
    )
    monkeypatch.chdir(package.parent)
    tiny = driver.Benchmark("a", "b", 1, runs=(("one",), ("fails",)), quick=("short",))
    monkeypatch.setattr(driver, "BENCHMARKS", {"tiny": tiny})
    output = tmp_path / "output"
    assert driver.main(["--output", str(output), "tiny"]) == 1
    assert "Not run, or failed: tiny." in capfd.readouterr().out
    assert driver.main(["--output", str(output), "--quick", "tiny"]) == 0
    assert driver.main(["--output", str(output), "tiny", "given", "--more"]) == 0
    rows = rows_of(output / "tiny.csv")
    assert [row["what"] for row in rows] == ["one", "fails", "short", "given"]
    assert rows[-1]["command"] == "python -m benchmarks tiny given --more"
    assert all(float(row["a / b"]) > 0 for row in rows)
    assert [path.name for path in output.iterdir()] == ["tiny.csv"]


@pytest.mark.parametrize("name", plots.FIGURES)
def test_figures_show_the_committed_results(name):
    rows = plots.read(table.RESULTS / f"{name}.csv")
    figure = plots.FIGURES[name](rows)
    machine = figure.get_suptitle().split(" (", 1)[1].removesuffix(")")
    assert machine.partition(", limited")[0] in {row["machine"] for row in rows}
    drawn = set()
    for axis in figure.axes:
        assert axis.get_xlabel()
        for line in axis.lines:
            drawn |= {float(f"{y:.4g}") for y in line.get_ydata()}
        drawn |= {float(f"{bar.get_width():.4g}") for bar in axis.patches}
    given = set()
    for row in rows:
        for column, cell in row.items():
            if cell and column in MEASURED:
                given.add(float(f"{float(cell):.4g}"))
            if cell and column.endswith(plots.SPEED):
                given.add(float(f"{1000 / float(cell):.4g}"))
    assert drawn
    assert drawn <= given


def test_what_there_is_is_drawn(tmp_path):
    for name in ("evaluation", "encoding", "serving"):
        shutil.copy(table.RESULTS / f"{name}.csv", tmp_path)
    lines = (tmp_path / "encoding.csv").read_text().splitlines(keepends=True)
    with_rate = [line for line in lines[1:] if "encode by path" in line]
    others = [line for line in lines if line not in with_rate]
    (tmp_path / "encoding.csv").write_text("".join(others))  # killed before the rest
    assert driver.main(["--plot", "--output", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["evaluation.png"]
    assert (tmp_path / "evaluation.png").stat().st_size > 5000


def test_searches_with_fewer_instructions_are_dashed():
    speeds = {"kerashash ms/query": "2", "faiss ms/query": "4", "numpy ms/query": "9"}
    rows = [
        {**speeds, "codes": "random", "k": "100", "bits": "64", "queries": "64"}
        | {"n": n, "machine": "2 CPU cores, AVX-512", "isa": isa}
        | ({"kerashash ms/query": "3"} if isa == "AVX2" else {})
        for n in ("10000", "1000000")
        for isa in ("AVX-512", "AVX2", "AVX2")  # more of them than of the whole
    ]
    figure = plots.ranker(rows)
    assert figure.get_suptitle().endswith("(2 CPU cores, AVX-512)")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert [*lines] == [
        *("kerashash", "kerashash, AVX2", "faiss", "faiss, AVX2", "numpy"),
    ]
    assert [line.get_linestyle() for line in lines.values()] == [
        *("-", "--", "-", "--", "-"),
    ]
    assert {*lines["kerashash, AVX2"].get_ydata()} == {1000 / 3}
    assert lines["faiss"].get_color() == lines["faiss, AVX2"].get_color()


def test_figures_are_of_one_machine():
    row = {"what": "encode", "value": "5", "from memory": "6", "network": "n"}
    kinds = [("2 CPU cores, AVX-512", "AVX-512"), ("2 CPU cores, AVX-512", "AVX2")]
    rows = [{**row, "machine": m, "isa": isa} for m, isa in [*kinds, kinds[1]]]
    figure = plots.encoding(rows)
    assert "2 CPU cores, AVX-512, limited to AVX2" in figure.get_suptitle()
    assert len(figure.axes[0].patches) == 4
