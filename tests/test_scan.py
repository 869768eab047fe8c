"""The scan of a store's codes by NumPy, and stores without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerashash
from kerashash.store import scan


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([1, 8, 20, 64, 100, 300]),
    n=st.integers(1, 300),
    distinct=st.integers(1, 300),
    q=st.sampled_from([0, 1, 5]),
    piece=st.sampled_from([7, 64, 1000]),
    per_thread=st.sampled_from([40, 1000]),
    seed=st.integers(0, 1000),
)
def test_equals_brute_force(bits, n, distinct, q, piece, per_thread, seed):
    rng = np.random.default_rng(seed)
    some = kerashash.codes.pack(rng.choice([-1, 1], (distinct, bits)))
    database = some[rng.integers(0, distinct, n)]
    queries = kerashash.codes.pack(rng.choice([-1, 1], (5, bits)))[:q]
    all_distances = np.bitwise_count(queries[:, None] ^ database).sum(
        axis=2, dtype=np.int64
    )
    order = np.argsort(all_distances, axis=1, kind="stable")
    ordered = np.take_along_axis(all_distances, order, axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_CODES", piece)
        patch.setattr(scan, "_CODES_PER_THREAD", per_thread)
        codes = scan.Scan(database, bits)
        for k in {1, n // 3 + 1, n}:
            distances, indices = codes.top_k(queries, k)
            assert distances.dtype == indices.dtype == np.int32
            np.testing.assert_array_equal(distances, ordered[:, :k])
            np.testing.assert_array_equal(indices, order[:, :k])
        for radius in {0, bits // 3, bits}:
            distances, indices = codes.within(queries, radius)
            assert len(distances) == len(indices) == q
            for query in range(q):
                inside = ordered[query] <= radius
                np.testing.assert_array_equal(distances[query], ordered[query][inside])
                np.testing.assert_array_equal(indices[query], order[query][inside])


SEARCH = """
import sys

import numpy as np

import kerashash

store = kerashash.CodeStore.open("codes.khs")
store.search(np.load("queries.npy"), k=7, where="label = 1")
sys.exit("tensorflow" in sys.modules)
"""


def test_a_store_of_codes_needs_no_tensorflow(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    store = kerashash.CodeStore.create(tmp_path / "codes.khs", bits=64)
    store.add(
        rng.integers(0, 256, (500, 8), np.uint8), columns={"label": np.arange(500) % 3}
    )
    queries = rng.integers(0, 256, (9, 8), np.uint8)
    np.save(tmp_path / "queries.npy", queries)
    subprocess.run([sys.executable, "-c", SEARCH], cwd=tmp_path, check=True)

    def results():
        found = store.search(queries, k=7, where="label = 1")
        near = store.within(queries, radius=20)
        return [found.ids, found.distances, *near.ids, *near.distances]

    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "tensorflow")
        by_scan = results()
        assert isinstance(store._ranked[1], scan.Scan)
    # It takes over where something has imported it.
    by_ranker = results()
    assert isinstance(store._ranked[1], kerashash.HammingRanker)
    assert isinstance(store.ranker(), kerashash.HammingRanker)
    for actual, expected in zip(by_scan, by_ranker, strict=True):
        np.testing.assert_array_equal(actual, expected)
