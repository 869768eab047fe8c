import copy
import os
import pickle
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kerashash import HammingRanker, codes
from kerashash.retrieval import index, layout
from kerashash.retrieval.distinct import DistinctCodes, rows_per_code
from kerashash.retrieval.multi_index import MultiIndex, Table, masks


@pytest.fixture
def always(monkeypatch):
    """Small databases are deduplicated and get tables, as large ones do."""
    monkeypatch.setattr(index, "_FEW_CODES", 0)
    monkeypatch.setattr(index, "_WORK_OF_TABLES", -1e9)
    monkeypatch.setattr(index, "_MOST_NEAREST", 1)


def draw(rng, n, bits, kind):
    """Packed codes: at random, few distinct ones, near a few centres, or all equal."""
    if kind == "equal":
        return np.repeat(codes.pack(rng.choice([-1, 1], (1, bits))), n, axis=0)
    unpacked = rng.choice([-1, 1], (n, bits))
    if kind != "random":
        unpacked = unpacked[rng.integers(0, max(1, n // 8), n)]
    if kind == "near":
        unpacked = unpacked * np.where(rng.random((n, bits)) < 0.05, -1, 1)
    return codes.pack(unpacked)


def brute_force(query, database):
    """Distances and indices in order of (distance, index)."""
    distances = np.bitwise_count(database ^ query).sum(axis=1, dtype=np.int64)
    order = np.argsort(distances, kind="stable")
    return distances[order], order


def check(ranker, queries, database, ks, radii):
    for k in ks:
        found = ranker.top_k(queries, k)
        for row, query in enumerate(queries):
            expected = brute_force(query, database)
            for actual, values in zip(found, expected, strict=True):
                assert actual.dtype == np.int32
                np.testing.assert_array_equal(actual[row], values[:k])
    for radius in radii:
        found = ranker.within(queries, radius)
        for row, query in enumerate(queries):
            distances, indices = brute_force(query, database)
            inside = distances <= radius
            for actual, values in zip(found, (distances, indices), strict=True):
                assert actual[row].dtype == np.int32
                np.testing.assert_array_equal(actual[row], values[inside])


def tables_of(ranker):
    return ranker._index._built.tables


@pytest.mark.usefixtures("always")
@settings(max_examples=15, deadline=None)
@given(
    bits=st.sampled_from([8, 12, 48, 64, 100, 128]),
    n=st.integers(1, 200),
    q=st.sampled_from([1, 5]),
    kind=st.sampled_from(["random", "few", "near", "equal"]),
    block_size=st.sampled_from([50, 1000]),
    seed=st.integers(0, 1000),
)
@example(bits=8, n=1, q=1, kind="random", block_size=50, seed=0)
@example(bits=128, n=200, q=5, kind="near", block_size=50, seed=0)
def test_equals_brute_force(bits, n, q, kind, block_size, seed):
    rng = np.random.default_rng(seed)
    database = draw(rng, n, bits, kind)
    queries = np.concatenate([database[:1], draw(rng, q, bits, "random")])[:q]
    ranker = HammingRanker(database, bits, block_size, index="multi")
    ks = {1, int(rng.integers(1, n + 1)), n}
    check(ranker, queries, database, ks, {0, bits // 4, bits})
    assert tables_of(ranker) is not None
    removed = rng.integers(0, n, n // 3)
    ranker.remove(removed)
    left = np.delete(database, removed, axis=0)
    ranker.add(database[: n // 2])
    database = np.concatenate([left, database[: n // 2]])
    check(ranker, queries, database, {1, len(database)}, {1})


@pytest.mark.parametrize("bits", [8, 12, 48, 64, 100, 128, 300])
def test_tables_equal_brute_force(rng, bits):
    for kind in ("random", "few", "near", "equal"):
        database = draw(rng, 200, bits, kind)
        tables = MultiIndex(database, bits)
        assert tables.tables[0].start == 0
        assert tables.tables[-1].stop == bits
        for query in (database[3], draw(rng, 1, bits, "random")[0]):
            distances, order = brute_force(query, database)
            for k in (1, 10, 199, 200):
                near, indices = tables.top_k(query, k)
                np.testing.assert_array_equal(near, distances[:k])
                np.testing.assert_array_equal(indices, order[:k])
            for radius in {0, 1, 5, bits // 3, bits}:
                near, indices = tables.within(query, radius)
                inside = distances <= radius
                np.testing.assert_array_equal(near, distances[inside])
                np.testing.assert_array_equal(indices, order[inside])


def test_tables_compare_few_codes(rng):
    """Near codes are found at the work of a few; what takes more gives up."""
    database = rng.integers(0, 256, (50_000, 8), dtype=np.uint8)
    tables = MultiIndex(database, 64)
    query = database[7] ^ np.array([0, 1, 0, 0, 0, 0, 0, 0], np.uint8)
    assert tables.within(query, 2, most_work=500)[1].tolist() == [7]
    assert tables.top_k(query, 1, most_work=500)[1].tolist() == [7]
    assert tables.top_k(query, 100, most_work=500) is None
    assert tables.within(query, 32, most_work=500) is None


def test_values_of_substrings(rng):
    packed = rng.integers(0, 256, (40, 9), dtype=np.uint8)
    bits = np.unpackbits(packed, axis=1)
    for start, stop in [(0, 1), (0, 22), (7, 29), (13, 14), (50, 72)]:
        table = Table(packed, start, stop)
        values = bits[:, start:stop] @ (1 << np.arange(stop - start)[::-1])
        np.testing.assert_array_equal(table.values(packed), values)
        np.testing.assert_array_equal(table.indices, np.argsort(values, kind="stable"))
        value = int(values[0])
        rows = table.indices[table.starts[value] : table.starts[value + 1]]
        np.testing.assert_array_equal(rows, np.flatnonzero(values == value))


def test_masks():
    values, ends = masks(10)
    for ones in range(11):
        some = values[ends[ones] : ends[ones + 1]]
        assert (np.bitwise_count(some) == ones).all()
    assert sorted(values) == list(range(1024))


@pytest.mark.parametrize("width", [1, 8, 9, 40])
def test_distinct_codes(rng, width):
    some = rng.integers(0, 256, (20, width), dtype=np.uint8)
    packed = some[rng.integers(0, 20, 400)]
    distinct = DistinctCodes.of(packed)
    expected, first, counts = np.unique(
        packed, axis=0, return_index=True, return_counts=True
    )
    order = np.argsort(first)
    np.testing.assert_array_equal(distinct.packed, expected[order])
    np.testing.assert_array_equal(np.diff(distinct.starts), counts[order])
    for code, (start, stop) in enumerate(
        zip(distinct.starts, distinct.starts[1:], strict=False)
    ):
        rows = np.flatnonzero((packed == distinct.packed[code]).all(axis=1))
        np.testing.assert_array_equal(distinct.rows[start:stop], rows)
    assert rows_per_code(packed) == pytest.approx((counts**2).sum() / 400)


def test_rows_of_few_queries_at_a_time(rng, monkeypatch):
    monkeypatch.setattr("kerashash.retrieval.distinct._ROWS_AT_A_TIME", 60)
    monkeypatch.setattr(index, "_FEW_CODES", 1)
    database = draw(rng, 400, 64, "few")
    ranker = HammingRanker(database, 64, index="multi")
    check(ranker, database[:11], database, [1, 7, 25], [])
    assert "distinct codes" in repr(ranker)


@pytest.mark.usefixtures("always")
def test_equal_hashes_of_different_codes(rng, monkeypatch):
    """They may alternate; each code is still listed once."""
    monkeypatch.setattr(
        "kerashash.retrieval.distinct.hashes", lambda words: words[0] & np.uint64(1)
    )
    database = draw(rng, 200, 12, "few")
    distinct = DistinctCodes.of(database)
    unique, counts = np.unique(database, axis=0, return_counts=True)
    assert len(distinct) == len(unique)
    assert sorted(np.diff(distinct.starts)) == sorted(counts)
    ranker = HammingRanker(database, 12, index="multi")
    check(ranker, database[:9], database, [1, 20, 200], [0, 3, 12])


def test_rows_per_code_of_a_sample(rng):
    packed = rng.integers(0, 256, (5000, 8), dtype=np.uint8)
    many = packed[rng.integers(0, 5000, 200_000)]
    assert rows_per_code(many) == pytest.approx(41, rel=0.1)
    assert rows_per_code(rng.integers(0, 256, (200_000, 8), dtype=np.uint8)) == 1


def test_auto_waits_for_searches(rng, monkeypatch):
    monkeypatch.setattr(index, "_FEW_CODES", 1000)
    monkeypatch.setattr(index, "_WORK_OF_TABLES", 0)
    database = rng.integers(0, 256, (2000, 8), dtype=np.uint8)
    ranker = HammingRanker(database, 64)
    assert "index='auto': scan of all codes, for 32 more queries" in repr(ranker)
    for query in database[:32]:
        ranker.top_k(query[None], 3)
    assert tables_of(ranker) is None
    assert "for 0 more" in repr(ranker)
    check(ranker, database[:1], database, [3], [2])
    assert tables_of(ranker) is not None
    assert "in the last search, tables for all 1 queries" in repr(ranker)
    ranker.add(database[:1])  # a changed database starts anew
    assert tables_of(ranker) is None
    ranker.top_k(database[:700], 3)  # many queries at once
    assert tables_of(ranker) is not None


def test_says_why_it_scans(rng, monkeypatch):
    def reason(n=2000, bits=64, mode="multi", k=3, few=False):
        database = rng.integers(0, 256, (n, bits // 8), dtype=np.uint8)
        database = database[rng.integers(0, 10, n)] if few else database
        ranker = HammingRanker(database, bits, index=mode)
        check(ranker, database[:2], database, [k], [1])
        assert tables_of(ranker) is None
        return repr(ranker)

    assert "index='scan': scan of all codes, as asked" in reason(mode="scan")
    assert "scan of all codes, as there are less than 131,072" in reason()
    monkeypatch.setattr(index, "_FEW_CODES", 1500)
    assert "scan of all codes, as tables would be slower" in reason()
    assert "scan of 10 distinct codes, as tables would be slower" in reason(few=True)
    monkeypatch.setattr(index, "_WORK_OF_TABLES", 0)
    assert "as tables of more than 256 bits" in reason(bits=264)

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(index, "MultiIndex", fail)
    assert "scan of all codes, as memory was short" in reason()


def test_gives_up_where_tables_do_not_pay(rng, monkeypatch):
    monkeypatch.setattr(index, "_FEW_CODES", 1)
    monkeypatch.setattr(index, "_WORK_OF_TABLES", 0)
    database = rng.integers(0, 256, (3000, 8), dtype=np.uint8)
    ranker = HammingRanker(database, 64, index="multi")
    tried = []
    top_k = MultiIndex.top_k
    monkeypatch.setattr(
        MultiIndex, "top_k", lambda *args: tried.append(1) or top_k(*args)
    )
    for query in rng.integers(0, 256, (40, 1, 8), dtype=np.uint8):
        check(ranker, query, database, [50], [])
    assert len(tried) == 5  # the first three and every sixteenth
    assert "in the last search, a scan for 1 of 1 queries" in repr(ranker)
    check(ranker, database[:1], database, [1], [1])  # another kind of search
    assert "in the last search, tables for all 1 queries" in repr(ranker)


def test_gives_up_on_many_together_where_some_do_not_pay(rng, monkeypatch):
    monkeypatch.setattr(index, "_FEW_CODES", 1)
    monkeypatch.setattr(index, "_WORK_OF_TABLES", 0)
    monkeypatch.setattr(index, "_ONE_OF_MANY", 1)
    monkeypatch.setattr(index, "_FAILURES", 1000)
    database = rng.integers(0, 256, (3000, 8), dtype=np.uint8)
    ranker = HammingRanker(database, 64, index="multi")
    tried = []
    top_k = MultiIndex.top_k
    monkeypatch.setattr(
        MultiIndex, "top_k", lambda *args: tried.append(1) or top_k(*args)
    )
    near, far = database[:40], rng.integers(0, 256, (40, 8), dtype=np.uint8)
    check(ranker, near, database, [1], [])
    assert len(tried) == 40
    assert "tables for all 40 queries" in repr(ranker)
    check(ranker, np.concatenate([near[:30], far]), database, [1], [])
    assert len(tried) < 40 + 30 + 8
    assert "too many codes are near" in repr(ranker)


def test_many_queries_at_a_time(rng, monkeypatch):
    monkeypatch.setattr(index, "_FEW_CODES", 1)
    monkeypatch.setattr(index, "_QUERIES_AT_A_TIME", 7)
    database = draw(rng, 500, 64, "few")
    ranker = HammingRanker(database, 64, index="multi")
    check(ranker, database[:30], database, [5, 31], [0, 20])
    assert "distinct codes" in repr(ranker)
    ranker.top_k(database[:1], 499)
    assert "a scan of all codes, as k was large" in repr(ranker)
    ranker.within(database[:1], 64)
    assert "a scan of all codes, as many were within the radius" in repr(ranker)
    empty = np.zeros((0, 8), np.uint8)
    assert ranker.top_k(empty, 5)[1].shape == (0, 5)
    assert ranker.within(empty, 5) == ([], [])


@pytest.mark.usefixtures("always")
def test_saved_copied_and_shared(rng, tmp_path):
    database = draw(rng, 400, 48, "near")
    ranker = HammingRanker(database, 48, index="multi")
    ranker.top_k(database[:1], 1)
    for other in (copy.deepcopy(ranker), pickle.loads(pickle.dumps(ranker))):
        assert other.index == "multi"
        check(other, database[:2], database, [9], [4])
    ranker.save(tmp_path / "codes")
    loaded = HammingRanker.load(tmp_path / "codes", index="multi")
    check(loaded, database[:2], database, [9], [4])
    assert tables_of(loaded) is not None
    assert HammingRanker.load(tmp_path / "codes").index == "auto"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_file_without_end_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="must be a regular file"):
            HammingRanker.load(path)


@pytest.mark.usefixtures("always")
def test_threads_search_while_codes_come_and_go(rng):
    database = draw(rng, 300, 24, "few")
    ranker = HammingRanker(database, 24, index="multi")
    stop = threading.Event()
    failures = []

    def search():
        while not stop.is_set():
            distances, indices = ranker.top_k(database[:2], 300)
            # The first 300 codes stay: each has a place, whatever is behind them.
            if not (np.diff(distances) >= 0).all() or len(set(indices[0])) != 300:
                failures.append((distances, indices))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        ranker.add(database[:50])
        ranker.remove(range(300, 350))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    check(ranker, database[:2], database, [300], [3])


@pytest.mark.parametrize("mode", ["tables", None, 1])
def test_wrong_modes_are_named(mode):
    with pytest.raises(ValueError, match="`index` must be"):
        HammingRanker(np.ones((3, 8)), index=mode)


@pytest.mark.usefixtures("always")
def test_accelerators_scan(monkeypatch):
    monkeypatch.setattr(layout, "on_accelerator", lambda: True)
    ranker = HammingRanker(np.ones((3, 8)), index="multi")
    assert "scan of all codes, on an accelerator" in repr(ranker)
