"""What stores in LanceDB alone do: the approximate index, and writers at one time."""

import errno
import importlib.util
import os
import threading

import numpy as np
import pytest

from kerashash import CodeStore

if importlib.util.find_spec("lancedb") is None:
    pytest.skip("lancedb is not installed", allow_module_level=True)

from kerashash.store import lance

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
