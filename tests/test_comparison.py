"""The papers' tables: what they print, and how they are filled and go on."""

import contextlib
import csv
import math
import signal
import subprocess
import sys
import threading
import time
import types

import keras
import numpy as np
import pytest

from kerashash import cli, data, files, zoo
from kerashash.comparison import (
    cells,
    choices,
    compare,
    figures,
    list_tables,
    table,
    values,
)
from kerashash.comparison.tables import Part, Row
from kerashash.evaluation import label_distribution
from kerashash.evaluation.choices import PROTOCOLS

QUIET = {"report": lambda line: None}
unix = pytest.mark.skipif(sys.platform == "win32", reason="no file locks")
# Parts that are in no table of a paper.
OURS = {"SBU_3DFE", "Emotion6", "Natural Scene"}
HEADER = ",".join(values.COLUMNS).encode()


def digits(folder, methods=("ITQ",), bits=(8,), seeds=1, **options):
    choices = {"methods": methods, "bits": bits, "seeds": seeds, "data": "digits"}
    return compare("dsre-1", folder, **{**choices, **QUIET, **options})


def write(file, seed, measured=None):
    """Append the values of a cell."""
    full = table("dsre-1")
    task = values.Task(full.parts[0], full.rows[1], 24, seed)
    cell = cells.Cell(measured or {"mAP": 0.25, "mAP, ties averaged": 0.3}, 1.0, 1.0)
    values.append(file, "dsre-1", task, cell)


def lines(file):
    with file.open(newline="") as stream:
        return [*csv.DictReader(stream)]


@pytest.mark.parametrize("name", list_tables())
def test_tables_are_whole(name):
    full = table(name)
    known = data.list()
    for part in full.parts:
        assert part.data["protocol" if "protocol" in part.data else "name"]
        assert part.data["name"] in known
        protocol = part.data.get("protocol")
        assert protocol is None or protocol in known[part.data["name"]]
        assert part.metric in (*PROTOCOLS, "SVM accuracy", "label distributions")
        assert cells.measures(part)
        assert cells.definition(part)
        columns = len(part.measures or part.bits)
        for row in full.rows:
            if not row.printed:  # of ours, beside the paper's rows
                assert row.options["preset"] == "paper"
                continue
            if part.name in OURS:
                assert part.name not in row.printed
                continue
            values = row.printed[part.name]
            assert len(values) == columns
            most = 1000 if part.measures else 1
            assert all(math.isnan(value) or 0 <= value <= most for value in values)
    for row in full.rows:
        assert (row.method is None) == bool(row.absent)
    assert len({row.name for row in full.rows}) == len(full.rows)


@pytest.mark.parametrize(
    ("name", "row", "part", "column", "value"),
    [
        ("dcdh-1", "DPSH", "MIRFlickr", 3, 0.7182),
        ("dcdh-2", "DCDH-S", "NUS-WIDE", 1, 0.8523),
        ("dsre-1", "NINH", "NUS-WIDE", 0, 0.674),
        ("dsre-2", "DTSH", "CIFAR-10", 2, 0.925),
        ("adalabel-3", "DNNH", "CIFAR-10", 1, 0.558),
        ("ddh-2", "DDH", "CIFAR-10", 2, 0.535),
        ("ddh-ldl-2", "LDSVR", "Flickr-LDL", 3, 1.7603),
    ],
)
def test_printed_values(name, row, part, column, value):
    rows = {row.name: row for row in table(name).rows}
    assert rows[row].printed[part][column] == value


def test_what_is_trained_otherwise_is_another_cell():
    part = table("ddh-ldl-2").parts[0]
    rows = [
        Row("own", {}, "DDHLDL", training=training)
        for training in ({}, {"epochs": 70}, {"batch_size": 8192})
    ]
    assert len({values.Task(part, row, 128, 0).key() for row in rows}) == 3


def test_names_of_papers_stand_for_the_right_classes():
    methods = {
        row.name: row.method for name in list_tables() for row in table(name).rows
    }
    expected = {
        "DNNH": "NINH",
        "NINH": "NINH",
        "DISH": "DISH",
        "DIDH": "DISH",
        "DSDH": "DSDH",
        "PCA-ITQ": "ITQ",
        "DVSQ": None,
        "DQN": None,
    }
    assert {name: methods[name] for name in expected} == expected
    deep = {"CNNH", "NINH", "DHN", "DPSH", "DTSH", "DSDH", "DISH", "SSDH"}
    assert deep <= {*methods.values()}
    known = {None, cells.NEAREST, *cells.CLASSES}
    assert {*methods.values()} <= known


def test_a_table_is_filled_once(tmp_path, monkeypatch):
    said = []
    text = digits(tmp_path, seeds=2, report=said.append)
    assert len(said) == 2
    rows = lines(tmp_path / "dsre-1.csv")
    assert [(row["bits"], row["seed"]) for row in rows] == [("8", "0")] * 2 + [
        ("8", "1")
    ] * 2
    assert text == (tmp_path / "dsre-1.md").read_text()
    values = [float(row["value"]) for row in rows if row["measure"] == "mAP"]
    assert 0.3 < min(values) < max(values) < 0.9  # random codes: 0.10
    assert f"| ITQ | {sum(values) / 2:.3f} ± " in text
    # A second time nothing is trained, and nothing is read but the CSV file.
    monkeypatch.setattr(cells, "load", None)
    assert digits(tmp_path, seeds=2, report=said.append) == text
    assert len(said) == 2


def test_curves_are_kept_and_drawn(tmp_path, monkeypatch):
    digits(tmp_path, methods=["ITQ", "SH"], bits=[4, 8], seeds=2)
    rows = lines(tmp_path / "dsre-1-curves.csv")
    assert {row["seed"] for row in rows} == {"0"}
    assert len(rows) == 4
    drawn = []

    def draw(curves, kind, path, title):
        drawn.append((kind, title, curves))
        path.touch()

    monkeypatch.setattr("kerashash.monitoring.curves.retrieval_curves", draw)
    monkeypatch.setattr(cells, "load", None)  # all are there
    digits(tmp_path, methods=["ITQ", "SH"], bits=[4, 8], seeds=2)
    title = "dsre-1, digits, 8 bits"
    assert [entry[:2] for entry in drawn] == [("pn", title), ("pr", title)]
    curves = drawn[0][2]
    assert [*curves] == ["SH", "ITQ"]
    curve = curves["ITQ"]
    shapes = {array.shape for array in curve.values()}
    assert len(shapes) == 1
    # The whole database: all relevant items, and their share.
    assert curve["recall_at"][-1] == 1
    assert curve["precision_at"][-1] == pytest.approx(0.1, abs=0.01)
    assert curve["precision_at"][0] > 0.5
    assert (np.diff(curve["ranks"]) > 0).all()
    # A line that was not written to its end is cut off; the others are drawn.
    file = tmp_path / "dsre-1-curves.csv"
    file.write_bytes(file.read_bytes()[:-20])
    digits(tmp_path, methods=["ITQ", "SH"], bits=[4, 8], seeds=2)
    assert [*drawn[-1][2]] == ["SH"]
    assert len(lines(file)) == 3


def test_a_torn_line_is_cut_off_and_its_cell_done_again(tmp_path):
    text = digits(tmp_path)
    file = tmp_path / "dsre-1.csv"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])  # in the last line: a cell with one of two measures
    said = []
    assert digits(tmp_path, report=said.append) == text
    assert len(said) == 1
    assert len(lines(file)) == 3  # that of the first measure is there twice


@contextlib.contextmanager
def locked(file):
    """Write to a file as another process does."""
    with file.open("ab", buffering=0) as stream:
        assert files.lock(stream.fileno(), time.monotonic())
        yield stream


@unix
@pytest.mark.parametrize("change", [values.repair, lambda file: write(file, seed=1)])
def test_a_file_is_of_one_process_at_a_time(tmp_path, change):
    write(tmp_path / "other.csv", seed=0)
    line = (tmp_path / "other.csv").read_bytes()
    file = tmp_path / "a.csv"
    with locked(file) as stream:
        stream.write(line[:-5])
        thread = threading.Thread(target=change, args=[file])
        thread.start()
        thread.join(0.05)
        stream.write(line[-5:])
    thread.join()
    assert {key[-1] for key in values.read(file)} >= {"0"}
    assert file.read_bytes().startswith(line)


@unix
def test_the_first_two_appends_at_once_write_one_header(tmp_path):
    write(tmp_path / "other.csv", seed=0)
    file = tmp_path / "a.csv"
    with locked(file) as stream:
        thread = threading.Thread(target=write, args=[file], kwargs={"seed": 1})
        thread.start()
        thread.join(0.05)
        stream.write((tmp_path / "other.csv").read_bytes())
    thread.join()
    assert {key[-1] for key in values.read(file)} == {"0", "1"}


@unix
def test_a_file_that_stays_locked_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(values, "_PATIENCE", 0.0)
    file = tmp_path / "a.csv"
    with locked(file), pytest.raises(TimeoutError, match=r"a.csv has been written by"):
        write(file, seed=0)


def test_a_torn_line_of_another_process_is_not_appended_to(tmp_path):
    file = tmp_path / "a.csv"
    write(file, seed=0)
    with file.open("ab") as stream:
        stream.write(b"dsre-1,CIF")
    write(file, seed=1)
    assert {key[-1] for key in values.read(file)} == {"0", "1"}


ENCODINGS = """
import pathlib, warnings
from kerashash.comparison import list_tables, table, values

warnings.simplefilter("error", EncodingWarning)
table(list_tables()[0])
values.read(pathlib.Path("a.csv"))
"""


def test_files_are_utf_8_everywhere(tmp_path):
    write(tmp_path / "a.csv", seed=0)
    command = [sys.executable, "-X", "warn_default_encoding", "-c", ENCODINGS]
    subprocess.run(command, cwd=tmp_path, timeout=60, check=True)


KILLED = """
import os, signal, sys
from kerashash.comparison import compare

def report(line):
    os.kill(os.getpid(), signal.SIGKILL)

compare("dsre-1", sys.argv[1], methods=["ITQ"], bits=[4, 8], seeds=1, data="digits",
        report=report)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.run(command, cwd=tmp_path, timeout=300, check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(lines(tmp_path / "dsre-1.csv")) == 2
    said = []
    digits(tmp_path, bits=[4, 8], report=said.append)
    assert len(said) == 1
    assert said[0].startswith("digits, ITQ, 8 bits")


def test_the_cache_is_that_of_the_package(tmp_path, monkeypatch):
    folders = []

    def load(part, seed, cache_dir, data_dir):
        folders.append(cache_dir)
        raise data.DatasetUnavailableError("none")

    monkeypatch.setattr(cells, "load", load)
    monkeypatch.setenv("KERASHASH_CACHE", str(tmp_path / "kerashash"))
    for given in (None, tmp_path / "own"):
        digits(tmp_path / "out", cache_dir=given)
    assert folders == [tmp_path / "kerashash", tmp_path / "own"]


def test_missing_data_are_named(tmp_path):
    text = compare(
        "dsre-1", tmp_path, methods=["ITQ"], data_dir=tmp_path, seeds=1, **QUIET
    )
    for part in ("CIFAR-10", "NUS-WIDE"):
        assert f"Without values: {part}: " in text
    assert "| ITQ | 0.162 / – | 0.169 / – | 0.172 / – | 0.175 / – |" in text


def test_a_cell_that_cannot_be_trained_says_why(tmp_path):
    text = digits(tmp_path, bits=[8, 65])
    assert "Without values: digits, ITQ, 65 bits: `bits` must be" in text
    assert len(lines(tmp_path / "dsre-1.csv")) == 2


def test_rows_without_a_class_say_why(tmp_path):
    text = digits(tmp_path, methods=["DQN"])
    assert "Printed only: DQN: a quantization method" in text
    assert "| DQN |" not in text  # of data that are not the paper's
    assert not (tmp_path / "dsre-1.csv").exists()


@pytest.mark.parametrize("method", ["AA-kNN", "DDHLDL", "IISLLD", "CPNN", "LDSVR"])
def test_label_distributions(method, rng):
    d = rng.dirichlet([1.0, 1.0, 1.0], 40).astype("float32")
    x = rng.normal(size=(40, 5)).astype("float32")
    rows = data.DistributionData(x[:30], d[:30], x[30:], d[30:])
    part = Part(
        name="own",
        data={},
        metric="label distributions",
        bits=[8],
        features={"encoding": "standardized"},
        training={"epochs": 1, "batch_size": 30, "learning_rate": 1e-3},
        measures=["kl", "train seconds"],
        neighbours=30,
    )
    small = {"code_units": [8], "function_units": [8], "code_epochs": 1}
    options = small if method == "DDHLDL" else {}
    row = Row("own", {}, method, options=options, training={"epochs": 2})
    cell = cells.run(part, row, 8, 0, rows)
    assert [*cell.values] == ["kl", "train seconds"]
    if method in ("IISLLD", "CPNN", "LDSVR"):
        assert 0 < cell.values["kl"] < 5  # of functions of the columns
        return
    # All 30 rows are the neighbours of each query: the prediction is their mean.
    mean = d[:30].mean(axis=0)
    expected = label_distribution.kl_divergence(d[30:], [mean] * 10)
    assert cell.values["kl"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["ITX"]}, "`methods` must be rows of dsre-1"),
        ({"bits": [0]}, "`bits` must be at least 1"),
        ({"seeds": 0}, "`seeds` must be at least 1"),
        ({"data": "digit"}, "`data` must be a folder of images, a recipe"),
        ({"features": "resnet"}, "`features` must be one of"),
        ({"image_size": 0, "data": None}, "`image_size` must be at least 1"),
    ],
)
def test_wrong_choices_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        digits(tmp_path, **options)
    with pytest.raises(ValueError, match="`table` must be one of"):
        compare("dsre-9", tmp_path)


@pytest.mark.parametrize("name", ["dsre-1.csv", "dsre-1-curves.csv"])
@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"my,notes\n1,2\n3,4",
        b"name,score\rann,3\rbob,4",
        b"notes without a line end",
        b"\n",
        ",".join(values.COLUMNS).encode("utf-16"),
        b"a" * 200_000,
        b'"open,quote\n',
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_of_others_stays_as_it_is(name, content, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "load", None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} must have the columns"):
        digits(tmp_path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
        (name, content)
    ]
    with pytest.raises(ValueError, match=f"{name} must have the columns"):
        write(tmp_path / name, seed=0)
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("header", [b"", b"tab", b"\xef\xbb\xbftab", HEADER])
def test_a_header_that_was_not_written_to_its_end_is_written_again(header, tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(header)
    assert values.read(file) == {}
    write(file, seed=0)
    write(tmp_path / "other.csv", seed=0)
    assert file.read_bytes() == (tmp_path / "other.csv").read_bytes()


@pytest.mark.parametrize(
    "saved",
    [
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(HEADER, HEADER.replace(b"table", b'"table"')),
        lambda text: text + b"\n\n",
    ],
    ids=["CR", "CRLF", "BOM", "quotes", "empty lines"],
)
def test_values_that_another_program_saved_are_kept(saved, tmp_path):
    file = tmp_path / "a.csv"
    write(file, seed=0)
    content = saved(file.read_bytes())
    file.write_bytes(content)
    before = values.read(file)
    assert {key[-1] for key in before} == {"0"}
    values.repair(file)
    assert file.read_bytes() == content
    write(file, seed=1)
    assert file.read_bytes().startswith(content)
    both = values.read(file)
    assert {key[-1] for key in both} == {"0", "1"}
    assert before.items() <= both.items()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"mAP,0.25", b"mAP,7.5", r"line 2: mAP must be in \[0, 1\], not 7.5"),
        (b'averaged",0.3', b'averaged",nan', r"line 3: .* must be in .*, not nan"),
        (b"mAP,0.25", b"mAP,-0.25", "line 2: mAP must be in"),
        (b"mAP,0.25", b"kl,-1", "line 2: kl must be finite and at least 0, not -1"),
        (b"mAP,0.25", b"kl,1e400", "line 2: kl must be finite"),
        (b"mAP,0.25", b"mAP,abc", "line 2: could not convert .*'abc'"),
        (b"mAP,0.25", b"mAP,", "line 2: could not convert"),
        (b"ITQ", b"\xff", "line 2: 'utf-8' codec"),
        (b"ITQ", b"a" * 200_000, "line 2: field larger"),
        (b"ITQ", b'"ITQ', "line 2: ',' expected"),
        (b'averaged"', b"averaged", "line 3: unexpected end of data"),
        (b"ITQ", b'"ITQ"x', "line 2: ',' expected"),
        (b"ITQ,ITQ", b"ITQ", "line 2: 12 of 13 columns"),
        (b"ITQ,ITQ", b"ITQ,ITQ,ITQ", "line 2: 14 of 13 columns"),
    ],
    ids=str,
)
def test_a_damaged_line_is_named(old, new, message, tmp_path):
    file = tmp_path / "a.csv"
    write(file, seed=0)
    content = file.read_bytes()
    start = content.index(b"\n") + 1  # after the header
    file.write_bytes(content[:start] + content[start:].replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"a\.csv must hold .* {message}"):
        values.read(file)


def test_values_may_be_what_their_measures_possible(tmp_path):
    file = tmp_path / "a.csv"
    possible = {"mAP": 1.0, "cosine": 1 + 1e-9, "clark": 3.5, "kl": 0.0}
    possible["train seconds"] = 800.0
    write(file, seed=0, measured=possible)
    assert [*values.read(file).values()] == [possible]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"1 2", b"1", r"arrays of \[1, 2, 2\] values"),
        (b"1 2,0.5 0.25,0.1 1", b",,", r"arrays of \[0, 0, 0\] values"),
        (b"0.5 0.25,", b"", "9 of 10 columns"),
        (b"0.25", b"x", "could not convert .*'x'"),
        (b"0.25", b"2.5", r"precision_at must be in \[0, 1\], not 2.5"),
        (b",0.1 1", b",0.1 nan", r"recall_at must be in \[0, 1\], not nan"),
        (b"1 2", b"0 2", "ranks must be finite and at least 1, not 0"),
    ],
)
def test_a_damaged_curve_is_named_before_anything_is_trained(
    old, new, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(cells, "load", None)
    curve = dict(zip(values.CURVE, ([1, 2], [0.5, 0.25], [0.1, 1]), strict=True))
    full = table("dsre-1")
    task = values.Task(full.parts[0], full.rows[1], 24, 0)
    file = tmp_path / "dsre-1-curves.csv"
    values.append_curve(file, task, cells.Cell({}, 1.0, 1.0, curve))
    (read,) = values.read_curves(file).values()
    assert {name: array.tolist() for name, array in read.items()} == curve
    content = file.read_bytes()
    assert content.count(old) == 1
    file.write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match=rf"curves\.csv .* in line 2: {message}"):
        digits(tmp_path)


def test_a_line_that_is_being_written_is_not_read(tmp_path):
    file = tmp_path / "a.csv"
    write(file, seed=0)
    before = values.read(file)
    with file.open("ab") as stream:
        stream.write(b"dsre-1,CIF")
    assert values.read(file) == before


def test_a_folder_of_photographs_is_compared(tmp_path, monkeypatch, rng):
    from PIL import Image

    for name, shade in (("dark", 30), ("light", 200)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(shade, shade + 50, (16, 12, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    pooled = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
        ]
    )
    networks = types.SimpleNamespace(get=lambda **_: pooled)
    monkeypatch.setattr(cells, "backbones", networks)
    choices = {"data": tmp_path / "pets", "cache_dir": tmp_path / "features"}
    text = digits(tmp_path, bits=[4], **choices)
    assert "## pets" in text
    assert "| ITQ | 1.000 |" in text
    # Values of photographs that were there before are not those of the new ones.
    for number in range(20):
        dark, light = (tmp_path / "pets" / name for name in ("dark", "light"))
        (dark / f"{number}.png").rename(tmp_path / "moved.png")
        if number % 2:
            (light / f"{number}.png").rename(dark / f"{number}.png")
            (tmp_path / "moved.png").rename(light / f"{number}.png")
        else:
            (tmp_path / "moved.png").rename(dark / f"{number}.png")
    assert "| ITQ | 1.000 |" not in digits(tmp_path, bits=[4], **choices)


def test_recipes_and_folders_are_data(tmp_path):
    (tmp_path / "pets").mkdir()
    own = choices._own_part(table("dsre-1").parts[0], tmp_path / "pets")
    assert own.data == {"folder": str((tmp_path / "pets").resolve())}
    assert own.name == "pets"
    own = choices._own_part(
        table("ddh-2").parts[0], zoo.recipe_path("dcdh-ap-mirflickr-48")
    )
    assert own.data == {"name": "mirflickr25k", "allow_missing": True}
    assert own.features["image_size"] == 224
    assert own.metric == "kerashash"  # all ranks, not the first 1,000
    with pytest.raises(
        ValueError, match=r"`data` must be a recipe whose backbone .*of"
    ):
        choices._own_part(
            table("ddh-2").parts[0], zoo.recipe_path("dcdh-full-cifar10-48")
        )


def test_values_are_drawn_beside_the_printed_ones(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "kerashash.monitoring.plots.against_bits",
        lambda methods, title, label, path: drawn.update(methods) or path.touch(),
    )
    for seed in (0, 1):
        write(tmp_path / "a.csv", seed)
    done = values.read(tmp_path / "a.csv")
    figures.draw(table("dsre-1"), done, 2, tmp_path)
    assert [path.name for path in tmp_path.glob("*.png")] == ["dsre-1-cifar_10.png"]
    assert [*drawn] == ["ITQ"]
    assert drawn["ITQ"]["printed"] == [0.162, 0.169, 0.172, 0.175]
    np.testing.assert_equal(drawn["ITQ"]["measured"], [np.nan, 0.25, np.nan, np.nan])


def test_command(tmp_path, capsys):
    words = ["compare", "--table", "dsre-1", "--data", "digits", "--methods", "ITQ"]
    words += ["--bits", "8", "--seeds", "1", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert captured.out == (tmp_path / "dsre-1.md").read_text()
    assert "digits, ITQ, 8 bits, seed 0: mAP 0." in captured.err
    for wrong, message in (
        ([*words, "--methods", "DQN", "--out", str(tmp_path / "none")], "No value of"),
        (["compare"], "Name entries, or a --table"),
        (["compare", "--bits", "8", "a"], "--bits goes with --table"),
        ([*words, "--rate"], "--rate does not go with --table"),
        ([*words[:-1], str(tmp_path), "ssdh"], "ENTRY does not go with --table"),
        (["compare", "--table", "dsre-1", "--bits", "x"], "--bits must be numbers"),
    ):
        assert cli.main(wrong) == 2
        assert message in capsys.readouterr().err
