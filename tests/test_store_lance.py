"""What stores in LanceDB alone do: the approximate index, and writers at one time."""

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import threading

import numpy as np
import pytest

from kerashash import CodeStore

if importlib.util.find_spec("lancedb") is None:
    pytest.skip("lancedb is not installed", allow_module_level=True)

from kerashash.store import lance, lance_files

BITS = 64


def random_codes(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, BITS // 8), np.uint8)


def distances_of(queries, codes):
    return np.bitwise_count(queries[:, None] ^ codes).sum(axis=2, dtype=np.int64)


@pytest.fixture
def store(tmp_path):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS, engine="lance")
    store.add(random_codes(2000), columns={"label": np.arange(2000) % 10})
    store.create_index(partitions=16)
    return store


def test_the_index_finds_what_its_recall_says(store):
    codes, queries = store.codes(), random_codes(20, seed=1)
    exact = distances_of(queries, codes)
    bound = np.sort(exact)[:, [9]]
    recalls = []
    for nprobes in (1, 2, 16):
        found = store.search(queries, k=10, nprobes=nprobes)
        ids = found.ids.astype(int)
        assert found.distances.shape == (20, 10)
        assert found.distances.dtype == np.int32
        # True distances, each row once, in order, with its own metadata.
        np.testing.assert_array_equal(
            found.distances, np.take_along_axis(exact, ids, axis=1)
        )
        order = found.distances.astype(int) * len(codes) + ids
        assert (np.diff(order) > 0).all()
        np.testing.assert_array_equal(found.columns["label"], ids % 10)
        recalls.append((found.distances <= bound).mean())
        assert store.recall(queries, k=10, nprobes=nprobes) == recalls[-1]
    assert recalls[0] < recalls[1] < recalls[2] == 1
    assert store.search(queries[:0], nprobes=1).ids.shape == (0, 0)
    # As many rows as there are, though the nearest partition has few of them.
    near = store.search(queries, k=900, where="label = 3", nprobes=1)
    assert all({*ids} == {*range(3, 2000, 10)} for ids in near.ids.tolist())
    assert store.search(queries, k=9999, nprobes=1).ids.shape == (20, 2000)


def test_the_index_follows_the_store(store):
    before, query = store.versions()[-1].version, random_codes(1, seed=2)
    assert store.search(query, k=1, nprobes=16).distances[0, 0] > 0
    store.add(query, columns={"label": [77]})
    store.upsert(query, ids=[5])  # a row that the index knows, with another code
    for _ in range(2):
        found = store.search(query, k=2, nprobes=1)
        assert found.ids.tolist() == [[2000, 5]]
        assert found.distances.tolist() == [[0, 0]]
        store.compact()
    (index,) = [i for i in store._engine._table().list_indices() if "code" in i.name]
    assert index.num_unindexed_rows == 0
    assert store.delete("id = 2000") == 1
    assert store.search(query, k=2, nprobes=16).ids[0, 0] == 5
    assert store.search(query, where="label = 99", nprobes=1).ids.shape == (1, 0)
    full = store.versions()[-1].version
    store.delete("id >= 0")
    assert store.search(query, nprobes=1).ids.shape == (1, 0)
    assert CodeStore.open(store.path, version=full).search(query, nprobes=1).ids.size
    old = CodeStore.open(store.path, version=before)
    assert old.search(query, k=1, nprobes=16).distances[0, 0] > 0
    older = CodeStore.open(store.path, version=store.versions()[1].version)
    with pytest.raises(ValueError, match="`nprobes` must be None before `create_index"):
        older.search(query, nprobes=1)


def test_what_the_index_cannot_do_is_named(store, tmp_path):
    queries = random_codes(2)
    with pytest.raises(ValueError, match="`nprobes` must be at least 1"):
        store.search(queries, nprobes=0)
    with pytest.raises(ValueError, match="`partitions` must be at least 1"):
        store.create_index(partitions=0)
    with pytest.raises(ValueError, match="`where` must be an SQL condition"):
        store.search(queries, where="no_such = 1", nprobes=1)
    with pytest.raises(ValueError, match="must leave queries and rows"):
        store.recall(queries, where="label = 99")
    with pytest.raises(ValueError, match="must leave queries and rows"):
        store.recall(queries[:0])
    empty = CodeStore.create(tmp_path / "empty.khs", bits=BITS, engine="lance")
    with pytest.raises(ValueError, match="must have rows to index"):
        empty.create_index()
    folder = CodeStore.create(tmp_path / "folder.khs", bits=BITS)
    folder.add(queries)
    for call in (
        folder.create_index,
        lambda: folder.search(queries, nprobes=3),
        lambda: folder.recall(queries),
    ):
        with pytest.raises(
            ValueError, match=r"is for a store of engine='lance'.*folder"
        ):
            call()


# A path has a lock of writers, a URL has none.
@pytest.mark.parametrize("prefix", ["", "file://"])
@pytest.mark.parametrize("kind", ["numbered", "upsert", "add"])
def test_writers_at_one_time_double_no_key(tmp_path, prefix, kind):
    path = f"{prefix}{tmp_path}/codes.khs"
    CodeStore.create(path, bits=BITS, engine="lance")
    refused, errors = [], []
    start = threading.Barrier(2)

    def write(seed):
        store = CodeStore.open(path)
        start.wait()
        for commit in range(6):
            ids = None if kind == "numbered" else range(10 * commit, 10 * commit + 10)
            write = store.upsert if kind == "upsert" else store.add
            try:
                write(random_codes(10, seed), ids=ids, columns={"of": [seed] * 10})
            except ValueError as error:
                refused.append(str(error))
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    columns = CodeStore.open(path).columns()
    assert sorted(columns["id"]) == [*range(120 if kind == "numbered" else 60)]
    if kind == "add":
        # Each commit is of one writer, and the other has been told.
        assert len(refused) == 6
        assert all("`ids` must be new to the store" in text for text in refused)
        of = columns["of"][np.argsort(columns["id"].astype(int))]
        assert (of.reshape(6, 10) == of.reshape(6, 10)[:, :1]).all()
    else:
        assert not refused


@pytest.mark.skipif(os.name != "posix", reason="locks and links of POSIX")
def test_a_file_system_may_have_no_locks_and_a_link_is_not_written_through(
    tmp_path, monkeypatch
):
    import fcntl

    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS, engine="lance")
    outside = tmp_path / "outside"
    (tmp_path / "codes.khs" / lance._LOCK).symlink_to(outside)
    store.add(random_codes(2))
    assert not outside.exists()
    waiting = CodeStore.open(store.path)
    monkeypatch.setattr(lance, "_TIMEOUT_SECONDS", 0.0)
    with lance._locked(tmp_path / "codes.khs") as alone:
        assert alone
        with pytest.raises(TimeoutError, match=r"codes\.khs' has been written by ano"):
            waiting.add(random_codes(1))

    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with lance._locked(tmp_path / "codes.khs") as alone:
        assert not alone  # so that a commit compares its keys with all
    store.add(random_codes(3))
    assert len(store) == 5


def test_numbers_go_on_after_the_largest_key(tmp_path, monkeypatch):
    monkeypatch.setattr(lance, "_MOST_KEYS", 3)
    rng = np.random.default_rng(0)
    for trial in range(6):
        path = tmp_path / f"{trial}.khs"
        store = CodeStore.create(path, bits=BITS, engine="lance")
        scale = 10 ** int(rng.integers(1, 15))
        ids = np.unique(rng.integers(0, scale, rng.integers(1, 40)))
        store.add(random_codes(len(ids)), ids=ids)
        CodeStore.open(path).add(
            random_codes(2)
        )  # knows nothing of the writer before it
        store.add(random_codes(1))
        start = ids.max() + 1
        assert sorted(store.columns()["id"]) == [*ids, start, start + 1, start + 2]


def test_a_small_commit_reads_few_keys(tmp_path, monkeypatch):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS, engine="lance")
    store.add(random_codes(3000))
    read = []
    table_of = lance._table_of
    monkeypatch.setattr(
        lance, "_table_of", lambda query: read.append(table_of(query)) or read[-1]
    )
    for each in (store, CodeStore.open(store.path)):
        each.add(random_codes(10))
        each.upsert(random_codes(10), ids=[*range(10)])
        each.add(random_codes(2), ids=[10**6 + len(each), 10**7 + len(each)])
        each.add(random_codes(10))
    assert sum(table.num_rows for table in read) < 100


def test_the_keys_of_many_commits_are_indexed(tmp_path, monkeypatch):
    monkeypatch.setattr(lance, "_UNINDEXED", 20)
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS, engine="lance")
    for _ in range(5):
        store.add(random_codes(15))
        (index,) = store._engine._table().list_indices()
        assert index.num_unindexed_rows <= 20
    assert index.num_indexed_rows >= 55
    # Without space for an index, the rows are added all the same.
    monkeypatch.setattr(lance, "_UNINDEXED", 0)
    table = type(store._engine._table())

    def fail(*args, **options):
        raise RuntimeError("no space")

    monkeypatch.setattr(table, "create_index", fail)
    store.add(random_codes(15))
    assert store.columns()["id"].tolist() == [*range(90)]


def test_rows_of_numbers_that_lancedb_does_not_take_are_named(tmp_path):
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS, engine="lance")
    store.add(random_codes(1), columns={"few": [[np.nan, 1.0]]})
    for columns in (
        {"few": np.full((1, 12), np.nan)},
        {"vector": [[np.nan, 1.0]]},
        {"none": np.ones((1, 0))},
    ):
        rule = r"`columns\['\w+'\]` of engine='lance' must have rows of one number"
        with pytest.raises(ValueError, match=rule):
            store.add(random_codes(1), columns=columns)
    assert [*store.columns()] == ["id", "few"]


def damaged_at(store, content, offset):
    """Change a byte of a store's files, that many after some content."""
    for file in pathlib.Path(store.path, "codes.lance", "data").glob("*.lance"):
        data = bytearray(file.read_bytes())
        place = data.find(content)
        if place >= 0:
            data[place + offset] ^= 0xFF
            file.write_bytes(data)
            return CodeStore.open(store.path)
    raise AssertionError(f"there is no {content!r}")


@pytest.fixture
def keyed(tmp_path):
    """A store of 50 rows with keys "key000" to "key049" and the column "year"."""
    store = CodeStore.create(tmp_path / "keyed.khs", bits=BITS, engine="lance")
    keys = [f"key{number:03}" for number in range(50)]
    store.add(random_codes(50), ids=keys, columns={"year": np.arange(50) + 2000})
    return store


def test_a_changed_code_or_key_is_found(keyed):
    codes = random_codes(50)
    keyed.upsert(codes[:2], ids=["key049", "new"], keep=True)
    keyed.delete("year = 2003")
    keyed.compact()
    keyed.check()
    assert [*keyed.columns()] == ["id", "year"]
    assert [*keyed.search(codes[:1]).columns] == ["year"]
    with pytest.raises(ValueError, match=r"`names` must be of.*'_checksum'"):
        keyed.columns(names=["_checksum"])
    with pytest.raises(ValueError, match="`columns` of engine='lance' must have names"):
        keyed.add(codes[:1], ids=["x"], columns={"_checksum": [1]})
    damaged = damaged_at(keyed, codes[7:9].tobytes(), 3)
    with pytest.raises(ValueError, match=r"keyed\.khs': the row of 'key007' has chan"):
        damaged.check()
    damaged = damaged_at(keyed, b"key012", 5)
    with pytest.raises(ValueError, match=r"`path` must be a whole store.*keyed\.khs"):
        damaged.check()


def test_rows_without_a_checksum_are_read_and_those_to_come_have_one(keyed):
    """Those that were added before there were any."""
    keyed._engine._table().drop_columns(["_checksum"])
    old, codes = CodeStore.open(keyed.path), random_codes(4, seed=1)
    assert len(old.codes()) == 50
    old.check()
    old.add(codes, ids=[*"abcd"], columns={"year": [1, 2, 3, 4]})
    old.upsert(codes[:1], ids=["key000"])
    old.check()
    assert [*old.columns()] == ["id", "year"]
    assert old._engine._table().count_rows("_checksum IS NULL") == 49
    with pytest.raises(ValueError, match="the row of 'c' has changed"):
        damaged_at(old, codes[2:4].tobytes(), 0).check()


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_damage_is_named_and_not_the_condition(keyed, how):
    (file,) = pathlib.Path(keyed.path, "codes.lance", "data").glob("*.lance")
    if how == "gone":
        file.unlink()
    else:
        os.truncate(file, 100)
    store, query = CodeStore.open(keyed.path), random_codes(1)
    for use in (
        store.codes,
        store.columns,
        store.check,
        lambda: store.search(query),
        lambda: store.search(query, where="year > 2003"),
        lambda: store.delete("year = 2003"),
        lambda: store.upsert(query, ids=["key001"], keep=True),
    ):
        with pytest.raises(ValueError, match=r"`path` must be a whole.*keyed\.khs"):
            use()
    for where in ("no_such = 1", "year >", "year"):
        with pytest.raises(ValueError, match="`where` must be an SQL condition"):
            store.search(query, where=where)


def test_a_condition_that_fails_on_a_row_is_named(keyed):
    for where in ("1 / (year - 2003) = 1", "cast(id AS int) = 1"):
        with pytest.raises(ValueError, match="`where` must be an SQL condition"):
            keyed.search(random_codes(1), where=where)


@pytest.mark.parametrize("what", ["manifest", "types", "index"])
def test_what_lies_beside_the_rows_is_checked(keyed, what):
    if what == "index":
        files = pathlib.Path(keyed.path, "codes.lance", "_indices").rglob("*.lance")
        for file in files:
            file.write_bytes(b"x" * 99)
        store = CodeStore.open(keyed.path)
        uses = [
            lambda: store.upsert(random_codes(1), ids=["key001"]),
            lambda: store.delete("id = 'key001'"),
            lambda: store.search(random_codes(1), where="id = 'key001' AND year > 1"),
        ]
        assert store.columns("year = 2007")["id"].tolist() == ["key007"]
        with pytest.raises(ValueError, match="`where` must be an SQL condition"):
            store.columns("1 / (year - 2003) = 1")
    else:
        files = pathlib.Path(keyed.path, "codes.lance", "_versions").glob("*.manifest")
        for file in files:
            if what == "types":
                file.write_bytes(file.read_bytes().replace(b"int64", b"in|64"))
            else:
                os.truncate(file, 40)
        uses = [lambda: CodeStore.open(keyed.path)]
        uses += [keyed.versions] if what == "manifest" else [keyed.columns]
    for use in uses:
        with pytest.raises(ValueError, match=r"`path` must be a whole.*keyed\.khs"):
            use()


def set_size(content):
    """Set the size before a buffer, -1 if it is not compressed, to 2^40."""
    zstandard = content.find(bytes.fromhex("28b52ffd"))
    place = zstandard - 8 if zstandard > 0 else content.index(b"\xff" * 8)
    return content[:place] + (1 << 40).to_bytes(8, "little") + content[place + 8 :]


def set_batch(content):
    """Set the size of the batch, near the end of the footer, to 2^40."""
    assert 0 < int.from_bytes(content[-26:-18], "little") < len(content)
    return content[:-26] + (1 << 40).to_bytes(8, "little") + content[-18:]


def extend(content):
    return content.rjust((1 << 24) + 1, b"\0")


@pytest.mark.parametrize("damage", [set_size, set_batch, extend])
@pytest.mark.parametrize("rows", [1, 1000])
def test_removed_rows_of_a_size_that_ends_the_process_are_named(tmp_path, rows, damage):
    """LanceDB would ask for so much memory, and Rust ends a process that has less."""
    store = CodeStore.create(tmp_path / "codes.khs", bits=BITS, engine="lance")
    store.add(random_codes(2000))
    store.delete(f"id < {rows}")
    (file,) = pathlib.Path(store.path).rglob("*.arrow")
    content = file.read_bytes()
    # LanceDB refuses what nobody can read, if it needs it.
    file.with_name("7-8-9.arrow").write_bytes(content[:300])
    file.with_name("7-8-8.arrow").touch()
    assert len(CodeStore.open(store.path).codes()) == 2000 - rows
    file.write_bytes(damage(content))
    rule = rf"whole store.*codes\.khs': .*{file.name} (is damaged|must have at most)"
    with pytest.raises(ValueError, match=rule):
        CodeStore.open(store.path)
    file.write_bytes(content[:300])
    with pytest.raises(ValueError, match=r"`path` must be a whole.*codes\.khs"):
        CodeStore.open(store.path).check()


@pytest.mark.parametrize("rows", [0, 9])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_files_of_arrow_have_room(tmp_path, rows, compression):
    """Those of another writer: with buffers that are empty, or not compressed."""
    import pyarrow as pa

    batch = pa.record_batch([np.full(rows, 1 << 30, np.uint32)], ["row_id"])
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(tmp_path / "a.arrow", batch.schema, options=options) as file:
        file.write(batch)
    lance_files.check_files(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize(
    "pattern",
    ["codes.lance", "*/data", "*/data/*.lance", "*/_versions/*", "*/_indices/*/*_l*"],
)
def test_links_and_pipes_are_refused(keyed, tmp_path, kind, pattern):
    """Who opens a pipe waits for ever, and no signal ends LanceDB's waiting."""
    path = min(pathlib.Path(keyed.path).glob(pattern))
    path.rename(tmp_path / "outside")
    if kind == "link":
        path.symlink_to(tmp_path / "outside")
    else:
        os.mkfifo(path)
    rule = rf"whole store.*keyed\.khs'.*{path.name} must be a .*no link"
    with pytest.raises(ValueError, match=rule):
        CodeStore.open(keyed.path)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_what_a_compaction_removes_meanwhile_is_no_damage(keyed, monkeypatch):
    keyed.delete("year = 2003")
    (file,) = pathlib.Path(keyed.path).rglob("*.arrow")
    folder, pipe, scan = file.with_name("x"), file.with_name("y"), os.scandir
    folder.mkdir()
    # It is no file when it is asked, as one that has been removed may not be.
    os.mkfifo(pipe)

    def scan_late(path):
        with scan(path) as entries:
            found = [*entries]
        if file in map(pathlib.Path, found):
            file.unlink()
            folder.rmdir()
            pipe.unlink()
        return contextlib.nullcontext(found)

    monkeypatch.setattr(os, "scandir", scan_late)
    lance_files.check_files(pathlib.Path(keyed.path, "codes.lance"))
    assert not file.exists()


def test_a_missing_newest_version_is_named(keyed):
    """LanceDB would read the version before, in which the removed row is there."""
    keyed.delete("year = 2003")
    hint = pathlib.Path(keyed.path, "codes.lance", lance_files.NEWEST)
    newest = min(hint.parent.glob("*.manifest"))
    number = keyed.versions()[-1].version
    content = newest.read_bytes()
    for text in (
        "",
        "[" * 99,
        "[7]",
        '{"version": "x"}',
        '{"version": true}',
        "7" * 99,
    ):
        hint.write_text(text)  # LanceDB does not need it
        assert len(CodeStore.open(keyed.path)) == 49
    hint.write_text(json.dumps({"version": number - 1}))  # killed before it was written
    assert len(CodeStore.open(keyed.path)) == 49
    hint.write_text(json.dumps({"version": number}))
    newest.unlink()
    rule = rf"keyed\.khs': its version {number} is missing.*{number - 1}.*{hint.name}"
    for version in (None, number - 2):
        with pytest.raises(ValueError, match=rule):
            CodeStore.open(keyed.path, version=version)
    newest.write_bytes(content)
    assert len(CodeStore.open(keyed.path)) == 49
    newest.unlink()
    hint.unlink()
    assert len(CodeStore.open(keyed.path)) == 50


MODEL = {
    **{"name": "a", "in_zoo": False, "method": "DSRE", "bits": 16},
    **{"input": [4], "weights": "0" * 64},
}
META = {"format": 1, "bits": 16, "model": None, "store": "x"}


@pytest.mark.parametrize(
    ("meta", "right"),
    [
        (META, True),
        ({**META, "model": MODEL}, True),
        ({"format": 1, "bits": 16, "model": None}, True),
        *((meta, False) for meta in ([], None, 1, {}, {"format": True}, {"format": 1})),
        *(({**META, "bits": bits}, False) for bits in (None, "x", -3, 16.9, 40, True)),
        *(({**META, "model": model}, False) for model in ("x", {}, {"name": "a"})),
        ({**META, "model": {**MODEL, "bits": 15}}, False),
        ({**META, "model": {**MODEL, "name": None}}, False),
        ({**META, "store": 1}, False),
        ('{"format": 1', False),
        ("[" * 100_000, False),
    ],
    ids=lambda value: f"{value!s:.60}",
)
def test_what_a_store_says_of_itself_is_checked(tmp_path, meta, right):
    import lancedb
    import pyarrow as pa

    path, text = tmp_path / "a.khs", meta if isinstance(meta, str) else json.dumps(meta)
    schema = pa.schema({"code": pa.list_(pa.uint8(), 2), "row": pa.int64()})
    lancedb.connect(path).create_table(
        "codes", schema=schema.with_metadata({b"kerashash": text})
    )
    if right:
        CodeStore.open(path).add(np.zeros((1, 2), np.uint8))
        return
    with pytest.raises(ValueError, match=r"`path` must be a .*a\.khs"):
        CodeStore.open(path)


@pytest.mark.parametrize("wrong", ["code", "row", "id", "odd", "no id"])
def test_columns_that_no_store_has_are_named(tmp_path, wrong):
    import lancedb
    import pyarrow as pa

    fields = {"code": pa.list_(pa.uint8(), 2), "row": pa.int64(), "id": pa.string()}
    if wrong == "no id":
        fields["year"], wrong = fields.pop("id"), "id"
    else:
        fields[wrong] = pa.list_(pa.float32(), 2) if wrong == "code" else pa.date32()
    schema = pa.schema(fields).with_metadata({b"kerashash": json.dumps(META)})
    lancedb.connect(tmp_path / "a.khs").create_table("codes", schema=schema)
    with pytest.raises(ValueError, match=rf"a\.khs': its column '{wrong}' is "):
        CodeStore.open(tmp_path / "a.khs")
