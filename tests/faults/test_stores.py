"""Stores of strangers: what SQLite would take, and no store holds."""

import errno
import json
import os
import sqlite3
import struct
import subprocess
import sys

import numpy as np
import pytest

from kerashash import CodeStore
from kerashash.store import filling

#: What a store of 12 bits says of its model, and what is wrong in it.
MODEL = {
    **{"name": "a", "in_zoo": False, "method": "DSRE", "bits": 12},
    **{"input": [4], "weights": "0" * 64},
}
WRONG_MODELS = [
    *({"name": name} for name in (None, 7, [])),
    *({"bits": 11}, {"bits": "12"}, {"in_zoo": 1}, {"weights": None}, {"input": 4}),
]
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@pytest.fixture
def folder(tmp_path):
    """A store of 12 codes of 12 bits; two of them are removed."""
    store = CodeStore.create(tmp_path / "codes.khs", bits=12)
    codes = np.random.default_rng(0).integers(0, 256, (12, 2), dtype=np.uint8) & 240
    rows = {"label": np.arange(12) % 3, "scores": np.ones((12, 4), np.float32)}
    store.add(codes, columns=rows)
    store.delete("label = 2 AND id > 6")
    return tmp_path / "codes.khs"


def change(folder, *statements):
    connection = sqlite3.connect(folder / "rows.sqlite", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def meta(name, value):
    return f"UPDATE meta SET value = '{value}' WHERE name = '{name}'"


def use(folder):
    store = CodeStore.open(folder)
    queries = np.zeros((1, 2), np.uint8)
    len(store), store.versions(), store.columns(), store.search(queries, k=3)
    store.add(queries)
    store.delete("label = 1")
    store.check()
    store.compact()


def test_a_whole_store_is_used_and_its_statistics_may_be_there(folder):
    change(folder, "ANALYZE")
    use(folder)


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE rows RENAME TO x", f"CREATE VIEW rows AS {ENDLESS} SELECT i x"],
        ["CREATE TRIGGER x AFTER INSERT ON rows BEGIN DELETE FROM versions; END"],
        ["DROP INDEX live_ids"],
        ["ALTER TABLE rows ADD COLUMN x"],
        ["DROP TABLE versions"],
        ["DELETE FROM meta WHERE name = 'columns'"],
        [meta("bits", "[12]")],
        [meta("bits", "true")],
        [meta("bits", 10**9)],
        [meta("generation", '"/../../x"')],
        [meta("next_id", -1)],
        [meta("next_id", "[" * 9999)],
        [meta("next_id", 3)],
        [meta("model", '{"name": "x"}')],
        *([meta("model", json.dumps(MODEL | wrong))] for wrong in WRONG_MODELS),
        [meta("model", json.dumps(MODEL)), meta("bits", 15)],
        [meta("id_type", '"float"')],
        [meta("columns", '{"label": "object", "scores": "int"}')],
        [meta("columns", '{"label": "int", "scores": {"dtype": "|O", "width": 4}}')],
        [meta("columns", '{"label": "int", "scores": {"dtype": "<f4", "width": 5}}')],
        [
            meta(
                "columns",
                '{"label": "int", "scores": {"dtype": "<f4", "width": 1099511627776}}',
            )
        ],
        ["DELETE FROM versions"],
        ["UPDATE versions SET total = 1099511627776"],
        ["UPDATE versions SET total = -1"],
        ["UPDATE versions SET rows = 99"],
        ["UPDATE versions SET time = x'00'"],
        ["UPDATE versions SET checksum = 'x'"],
        ["UPDATE versions SET version = 9223372036854775807 WHERE version = 2"],
        ["UPDATE rows SET row = -1 WHERE row = 11"],
        ["UPDATE rows SET row = 12 WHERE row = 0"],
        ["UPDATE rows SET removed = NULL"],
        ["UPDATE rows SET label = 'x' WHERE row = 0"],
        ["UPDATE rows SET scores = x'00' WHERE row = 0"],
        ["DELETE FROM rows WHERE row = 3"],
    ],
    ids=lambda statements: statements[0][:45],
)
def test_what_no_store_holds_is_named(folder, statements):
    change(folder, *statements)
    with pytest.raises(ValueError, match=r"`path` must be .*codes\.khs"):
        use(folder)


def test_what_is_not_asked_for_is_not_read(folder, tmp_path):
    """Metadata may be large: here, those that cannot be read stand for them."""
    change(folder, "UPDATE rows SET scores = x'00'")
    store, codes = CodeStore.open(folder), np.zeros((1, 2), np.uint8)
    with pytest.raises(ValueError, match="column 'scores' holds other values"):
        store.columns()
    assert store.columns(names=["label"])["label"].tolist()[:3] == [0, 1, 2]
    assert store.duplicates(radius=12) == [store.columns(names=["id"])["id"].tolist()]
    store = CodeStore.create(tmp_path / "paths.khs", bits=12)
    store.add(codes, ids=["x"], columns={"scores": np.ones((1, 4))})
    change(tmp_path / "paths.khs", "UPDATE rows SET scores = x'00'")
    (tmp_path / "a.png").touch()
    pending = filling.pending_files(tmp_path, store)
    assert [file.path for file in pending.files] == [str(tmp_path / "a.png")]


def test_a_model_of_so_many_bits_is_one(folder):
    change(folder, meta("model", json.dumps(MODEL)))
    use(folder)


@pytest.mark.parametrize("size", [0, 100, 4096])
def test_a_file_of_rows_that_was_cut_is_named(folder, size):
    os.truncate(folder / "rows.sqlite", size)
    with pytest.raises(ValueError, match=r"`path` must be a whole.*codes\.khs"):
        CodeStore.open(folder)


def test_a_journal_removes_no_file_elsewhere(folder, tmp_path):
    """SQLite removes the super-journal that a journal names, when it rolls back."""
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("five years of work\n")
    content = (folder / "rows.sqlite").read_bytes()
    page = struct.unpack(">H", content[16:18])[0]
    name, magic = str(thesis).encode(), bytes.fromhex("d9d505f920a163d7")
    journal = magic + struct.pack(">IIIII", 0, 0, len(content) // page, 512, page)
    journal = journal.ljust(512, b"\0") + struct.pack(">I", 0x40000000 // page + 1)
    journal += name + struct.pack(">II", len(name), sum(name)) + magic
    store = CodeStore.open(folder)
    (folder / "rows.sqlite-journal").write_bytes(journal)
    for read in (lambda: CodeStore.open(folder), lambda: len(store), store.compact):
        with pytest.raises(ValueError, match=r"codes\.khs.*names a super-journal"):
            read()
    assert thesis.exists()


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
@pytest.mark.parametrize("end", ["journal", "wal", "shm"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_beside_the_rows_are_refused(folder, tmp_path, end, kind):
    store, name = CodeStore.open(folder), f"rows.sqlite-{end}"
    (tmp_path / "outside").write_bytes(b"x" * 99)
    if kind == "link":
        (folder / name).symlink_to(tmp_path / "outside")
    else:
        os.mkfifo(folder / name)  # who opens it waits for ever
    for read in (lambda: CodeStore.open(folder), lambda: len(store), store.compact):
        with pytest.raises(ValueError, match=rf"codes\.khs.*{name} must be a file"):
            read()
    assert (tmp_path / "outside").read_bytes() == b"x" * 99


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named(folder, monkeypatch, number):
    def full(descriptor):
        raise OSError(number, os.strerror(number))

    store = CodeStore.open(folder)
    monkeypatch.setattr(os, "fsync", full)
    rule = r"The disk is full; the store is as before: .*codes\.khs"
    for write in (lambda: store.add(np.zeros((1, 2), np.uint8)), store.compact):
        with pytest.raises(OSError, match=rule) as error:
            write()
        assert error.value.errno == number
    monkeypatch.undo()
    use(folder)


LIMITED = """
import resource, sys
import numpy as np
import kerashash

store = kerashash.CodeStore.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.add(np.zeros((2000, 1), np.uint8), ids=[f"{i:0100}" for i in range(2000)])
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_rows_over_a_limit_of_sizes_are_named(tmp_path):
    store = CodeStore.create(tmp_path / "codes.khs", bits=8)
    # In a process of its own, whose output is no file that could meet the limit.
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, store.path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "does not take what is written; the store is as before" in run.stdout
    assert "codes.khs" in run.stdout
    assert len(store) == 0


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
@pytest.mark.parametrize("name", ["rows.sqlite", "codes-0.bin"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_are_refused(folder, tmp_path, name, kind):
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    before = outside.read_bytes()
    if kind == "link":
        (folder / name).symlink_to(outside)
    else:
        os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=rf"codes\.khs.*{name} must be a file"):
        use(folder)
    with pytest.raises(ValueError, match=rf"codes\.khs.*{name} must be a file"):
        CodeStore.open(folder).add(np.zeros((1, 2), np.uint8))
    assert outside.read_bytes() == before


def test_codes_that_are_no_codes_are_named(folder):
    content = bytearray((folder / "codes-0.bin").read_bytes())
    content[1] |= 1  # after the twelfth bit
    (folder / "codes-0.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"`path` must be .*codes\.khs.*padding bits"):
        CodeStore.open(folder).search(np.zeros((1, 2), np.uint8), k=3)


def test_damaged_text_of_the_schema_is_named(folder):
    content = (folder / "rows.sqlite").read_bytes()
    content = content.replace(b"CREATE UNIQUE INDEX live_ids", b"\xea" * 28)
    (folder / "rows.sqlite").write_bytes(content)
    with pytest.raises(ValueError, match=r"`path` must be .*codes\.khs"):
        CodeStore.open(folder)


def test_numbers_end_at_64_bits(tmp_path):
    store = CodeStore.create(tmp_path / "codes.khs", bits=12)
    store.add(np.zeros((1, 2), np.uint8), ids=[2**63 - 1])
    with pytest.raises(ValueError, match="`ids` must be given"):
        store.add(np.zeros((1, 2), np.uint8))
    assert len(store) == 1
