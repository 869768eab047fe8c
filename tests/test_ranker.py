import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerashash import HammingRanker, codes


def brute_force(queries, database):
    """Distances and stable order of unpacked codes."""
    distances = (queries[:, None] != database[None]).sum(axis=2)
    return distances, np.argsort(distances, axis=1, kind="stable")


@settings(max_examples=30, deadline=None)
@given(
    bits=st.integers(1, 130),
    n=st.integers(1, 80),
    block_size=st.sampled_from([1, 7, 64, 1000]),
    few=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_brute_force(bits, n, block_size, few, seed):
    rng = np.random.default_rng(seed)
    database = rng.choice([-1, 1], (n, bits)).astype(np.int8)
    if few:  # duplicates: all ties
        database = database[rng.integers(0, min(3, n), n)]
    queries = rng.choice([-1, 1], (3, bits)).astype(np.int8)
    distances, order = brute_force(queries, database)
    ranker = HammingRanker(codes.pack(database), bits=bits, block_size=block_size)
    np.testing.assert_array_equal(ranker.distances(queries), distances)
    for k in {1, (n + 1) // 2, n}:
        near, indices = ranker.top_k(queries, k)
        np.testing.assert_array_equal(indices, order[:, :k])
        np.testing.assert_array_equal(
            near, np.take_along_axis(distances, order, 1)[:, :k]
        )
    radius = int(distances.min())
    near, indices = ranker.within(codes.pack(queries), radius)
    for row in range(3):
        inside = order[row][distances[row][order[row]] <= radius]
        np.testing.assert_array_equal(indices[row], inside)
        np.testing.assert_array_equal(near[row], distances[row][inside])


def test_more_queries_than_a_block_holds(rng, monkeypatch):
    monkeypatch.setattr("kerashash.ranker._BLOCK_ENTRIES", 100)
    database = rng.choice([-1, 1], (30, 8))
    queries = rng.choice([-1, 1], (17, 8))
    _, order = brute_force(queries, database)
    ranker = HammingRanker(database, block_size=9)
    np.testing.assert_array_equal(ranker.top_k(queries, 5)[1], order[:, :5])
    assert ranker.distances(queries).shape == (17, 30)


def test_one_trace_for_any_number_of_queries_and_k(rng):
    ranker = HammingRanker(rng.choice([-1, 1], (30, 8)))
    for q, k in ((1, 1), (5, 3), (9, 30)):
        ranker.top_k(rng.choice([-1, 1], (q, 8)), k)
    assert ranker._top_k.experimental_get_tracing_count() == 1


def test_no_queries():
    ranker = HammingRanker(np.ones((3, 8)))
    distances, indices = ranker.top_k(np.ones((0, 8)), k=2)
    assert distances.shape == indices.shape == (0, 2)
    assert ranker.distances(np.ones((0, 8))).shape == (0, 3)


RANKER = HammingRanker(np.ones((3, 12)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RANKER.top_k(np.ones((1, 12)), 4), ValueError, "size 3.*k=4"),
        (lambda: RANKER.top_k(np.ones((1, 12)), 0), ValueError, "`k` must be at least"),
        (lambda: RANKER.top_k(np.ones((1, 12)), 1.0), TypeError, "`k` must be an int"),
        (lambda: RANKER.top_k(np.ones((1, 11)), 1), ValueError, "`queries`.*bits=12"),
        (lambda: RANKER.top_k(np.zeros((1, 12)), 1), ValueError, "`queries`.*-1 and"),
        (lambda: RANKER.top_k(np.zeros((1, 3), np.uint8), 1), ValueError, "`queries`"),
        (lambda: RANKER.within(np.ones((1, 12)), 13), ValueError, "`radius`.*13"),
        (lambda: RANKER.within(np.ones((1, 12)), -1), ValueError, "`radius`.*-1"),
        (lambda: HammingRanker(np.ones((0, 12))), ValueError, "at least one row"),
        (lambda: HammingRanker(np.zeros((2, 2), np.uint8)), ValueError, "`bits`"),
        (lambda: HammingRanker(np.ones((2, 9)), bits=8), ValueError, "bits=8"),
        (lambda: HammingRanker(np.ones((2, 9)), block_size=0), ValueError, "block_siz"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
