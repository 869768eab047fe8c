from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerashash import HammingRanker, codes
from kerashash.retrieval import blocks, kernels

# Few code lengths: kernels are compiled for each. Distances of up to 254 are bytes.
BITS = [5, 64, 254, 255]


def brute_force(queries, database):
    """Distances and stable order of unpacked codes."""
    distances = (queries[:, None] != database[None]).sum(axis=2)
    return distances, np.argsort(distances, axis=1, kind="stable")


def check(ranker, queries, database, ks):
    """Everything the ranker says of unpacked codes, against brute force."""
    distances, order = brute_force(queries, database)
    np.testing.assert_array_equal(ranker.distances(queries), distances)
    for k in ks:
        near, indices = ranker.top_k(queries, k)
        np.testing.assert_array_equal(indices, order[:, :k])
        np.testing.assert_array_equal(
            near, np.take_along_axis(distances, order, 1)[:, :k]
        )
    radius = int(np.median(distances))
    near, indices = ranker.within(codes.pack(queries), radius)
    for row in range(len(queries)):
        inside = order[row][distances[row][order[row]] <= radius]
        np.testing.assert_array_equal(indices[row], inside)
        np.testing.assert_array_equal(near[row], distances[row][inside])


def draw(rng, n, bits, few):
    """Random codes; if few, duplicates: everything ties."""
    database = rng.choice([-1, 1], (n, bits)).astype(np.int8)
    return database[rng.integers(0, min(3, n), n)] if few else database


@settings(max_examples=24, deadline=None)
@given(
    # Each further length is compiled anew.
    bits=st.one_of(*[st.sampled_from(BITS)] * 2, st.integers(1, 300)),
    n=st.integers(1, 80),
    q=st.sampled_from([3, 9]),
    block_size=st.sampled_from([30, 64, 1000]),
    few=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_brute_force(bits, n, q, block_size, few, seed):
    rng = np.random.default_rng(seed)
    database = draw(rng, n, bits, few)
    queries = rng.choice([-1, 1], (q, bits)).astype(np.int8)
    ranker = HammingRanker(codes.pack(database), bits=bits, block_size=block_size)
    check(ranker, queries, database, {1, (n + 1) // 2, n})


@settings(max_examples=10, deadline=None)
@given(
    bits=st.sampled_from([64, 255]),
    n=st.integers(8300, 9000),
    q=st.sampled_from([3, 9]),
    k=st.integers(1, 300),
    few=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_way_over_the_chunks_equals_brute_force(bits, n, q, k, few, seed):
    rng = np.random.default_rng(seed)
    database = draw(rng, n, bits, few)
    queries = rng.choice([-1, 1], (q, bits)).astype(np.int8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_SMALL_BLOCK", 0)  # no database is small
        patch.setattr(blocks, "_NO_SELECTION", 0)
        ranker = HammingRanker(database, block_size=8192)
    check(ranker, queries, database, {k, n // 250, n})


@pytest.mark.parametrize("bits", [64, 248, 254, 260])
@pytest.mark.parametrize("q", [1, 17, 40])
@pytest.mark.parametrize("few", [False, True])
def test_a_sample_of_the_distances_equals_brute_force(bits, q, few):
    rng = np.random.default_rng(q)
    database = draw(rng, 2500, bits, few)
    queries = rng.choice([-1, 1], (q, bits)).astype(np.int8)
    check(HammingRanker(database), queries, database, {1, 100, 1400})


@settings(max_examples=60, deadline=None)
@given(
    q=st.integers(1, 20),
    n=st.sampled_from([2, 1023, 1024, 1300, 5000]),
    padding=st.integers(0, 3),
    part=st.floats(0, 1),
    kind=st.sampled_from(["few values", "binomial", "periodic", "ascending"]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    together=st.booleans(),
    threads=st.booleans(),
)
def test_selection_by_a_sample(q, n, padding, part, kind, dtype, together, threads):
    rng = np.random.default_rng(n)
    drawn = {
        "few values": lambda: rng.integers(0, 3, (q, n)),
        "binomial": lambda: rng.binomial(64, 0.5, (q, n)),
        # A sample of each second one has none of the small ones, or no others.
        "periodic": lambda: np.tile(50 * (np.arange(n) % 2) + np.arange(q)[:, None], 1),
        "ascending": lambda: np.tile(np.arange(n) * 250 // n, (q, 1)),
    }[kind]()
    if dtype == np.uint16:
        drawn = 256 * drawn
    k = max(1, round(part * n))
    sentinel = np.full((q, padding), np.iinfo(dtype).max)
    distances = np.concatenate([drawn, sentinel], axis=1).astype(dtype)
    order = np.argsort(drawn, axis=1, kind="stable")[:, :k]
    limits = {"_TOGETHER": 1 << 22 if together else 0}
    limits["_DISTANCES_PER_THREAD"] = 1 if threads else 1 << 18
    cores = mock.patch("os.cpu_count", return_value=3)
    with mock.patch.multiple(blocks, **limits), cores:
        near, positions = blocks._nearest_in_threads(distances, n, k)
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(near, np.take_along_axis(drawn, order, 1))


@pytest.mark.parametrize("q", [1, 20])
@pytest.mark.parametrize("n", [2500, 9000])
def test_long_codes_that_are_near_and_far(q, n, monkeypatch):
    # Distances around 255, and complements, at 300: the largest distances in a byte are
    # those that it cannot tell apart.
    monkeypatch.setattr(blocks, "_NO_SELECTION", 5000)
    monkeypatch.setattr(blocks, "_SMALL_BLOCK", 0)
    rng = np.random.default_rng(q)
    queries = rng.choice([-1, 1], (q, 300)).astype(np.int8)
    database = np.repeat(-queries[:1], n, axis=0)
    flips = rng.integers(0, 60, n)  # distances from 241 to 300
    database *= np.where(np.arange(300) < flips[:, None], -1, 1).astype(np.int8)
    least = int((300 - flips).min())
    ranker = HammingRanker(database)
    below = int((300 - flips < 255).sum())
    assert least < 254
    assert 0 < below < n // 4
    check(ranker, queries, database, {1, below - 1, below, below + 1, n // 4, n})


@pytest.mark.parametrize("bits", [254, 255])
def test_the_largest_distance_is_no_missing_code(bits):
    database = -np.ones((3, bits), np.int8)
    check(HammingRanker(database), -database[:1], database, [1, 3])


def test_ranks_as_faiss(rng):
    faiss = pytest.importorskip("faiss")
    for bits in (8, 48, 128):
        database, queries = (
            rng.integers(0, 256, (n, bits // 8), dtype=np.uint8) for n in (5000, 9)
        )
        index = faiss.IndexBinaryFlat(bits)
        index.add(database)
        expected, _ = index.search(queries, 200)
        actual, _ = HammingRanker(database, bits).top_k(queries, 200)
        np.testing.assert_array_equal(actual, expected)


def test_more_queries_than_a_block_holds(rng, monkeypatch):
    monkeypatch.setattr("kerashash.retrieval.blocks.Block.WORKSPACE", 5000)
    database = rng.choice([-1, 1], (30, 8))
    queries = rng.choice([-1, 1], (17, 8))
    check(HammingRanker(database, block_size=9), queries, database, [5])


def test_few_shapes_for_any_number_of_queries(rng, monkeypatch):
    ranker, shapes = HammingRanker(rng.choice([-1, 1], (4000, 8))), set()
    block = ranker.blocks[0]

    def watch(kernels, queries, k):
        shapes.add(len(queries))
        return np.zeros((2, len(queries), k), np.int32)

    monkeypatch.setattr(block, "nearest", watch)
    monkeypatch.setattr(block, "few", 0)  # what is not compiled is not padded
    for q in range(1, 70):
        ranker.top_k(rng.choice([-1, 1], (q, 8)), k=1 + q % 60)
    assert shapes == {1, 2, 4, 8, 16, 32, 64}


@pytest.mark.parametrize("block_size", [40, 1000])
def test_codes_come_and_go(rng, block_size):
    database = rng.choice([-1, 1], (100, 12)).astype(np.int8)
    queries = database[:5]
    ranker = HammingRanker(database[:70], block_size=block_size)
    ranker.add(database[70:])
    ranker.add(codes.pack(database[:0]))
    assert len(ranker) == 100
    check(ranker, queries, database, [10])
    removed = [99, 41, 0, 41]
    ranker.remove(removed)
    ranker.remove([])
    left = np.delete(database, removed, axis=0)
    assert ranker.size == len(left) == 97
    check(ranker, queries, left, [10, 97])


def test_few_queries_of_few_codes_trace_no_kernel(rng, monkeypatch):
    """Which would take seconds."""

    def trace(*_):
        raise AssertionError("a kernel was traced")

    monkeypatch.setattr(kernels, "kernels_for", kernels.Kernels)
    for name in ("_grouped_distances", "_distances", "_minima", "_top_k"):
        monkeypatch.setattr(kernels.Kernels, name, trace)
    database = draw(rng, 60, 48, few=False)
    check(HammingRanker(database), database[:4], database, ks=[1, 60])
    with pytest.raises(AssertionError, match="a kernel was traced"):
        HammingRanker(database).top_k(database[:40], k=1)


def test_codes_are_removed_from_a_later_block(rng):
    database = rng.choice([-1, 1], (10, 12)).astype(np.int8)
    ranker = HammingRanker(database, block_size=3)
    ranker.remove([7])
    left = np.delete(database, 7, axis=0)
    expected, _ = brute_force(database, left)
    np.testing.assert_array_equal(ranker.distances(database), expected)


def test_arrays_need_not_be_contiguous(rng):
    packed = rng.integers(0, 256, (8, 60), dtype=np.uint8)
    near = HammingRanker(packed[::2].T[::3], bits=32).top_k(packed.T[:2, 1::2], 5)
    copies = packed[::2].T[::3].copy(), packed.T[:2, 1::2].copy()
    expected = HammingRanker(copies[0], bits=32).top_k(copies[1], 5)
    np.testing.assert_array_equal(near, expected)


def test_no_queries():
    ranker = HammingRanker(np.ones((3, 8)))
    distances, indices = ranker.top_k(np.ones((0, 8)), k=2)
    assert distances.shape == indices.shape == (0, 2)
    assert ranker.distances(np.ones((0, 8))).shape == (0, 3)
    assert ranker.within(np.ones((0, 8)), 1) == ([], [])


RANKER = HammingRanker(np.ones((3, 12)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RANKER.top_k(np.ones((1, 12)), 4), ValueError, "size 3.*k=4"),
        (lambda: RANKER.top_k(np.ones((1, 12)), 0), ValueError, "`k` must be at least"),
        (lambda: RANKER.top_k(np.ones((1, 12)), 1.0), TypeError, "`k` must be an int"),
        (lambda: RANKER.top_k(np.ones((1, 11)), 1), ValueError, "`queries`.*bits=12"),
        (lambda: RANKER.top_k(np.zeros((1, 12)), 1), ValueError, "`queries`.*-1 and"),
        (lambda: RANKER.top_k(np.ones((1, 12)), -1), ValueError, "`k`.*k=-1"),
        (lambda: RANKER.add(np.ones((1, 11))), ValueError, "`codes`.*bits=12"),
        (lambda: RANKER.remove([3]), ValueError, "database size - 1 = 2.*3"),
        (lambda: RANKER.remove([0, -1]), ValueError, "`indices`.*-1"),
        (lambda: RANKER.remove([0.5]), TypeError, "`indices` must be integers"),
        (lambda: RANKER.remove(1), TypeError, r"`indices` must be.*\(\)"),
        (lambda: RANKER.remove([2, 1, 0]), ValueError, "at least one code"),
        (lambda: RANKER.remove([[0], [0, 1]]), ValueError, "`indices` must be one"),
        (lambda: RANKER.add([[1], [1, -1]]), ValueError, "`codes` must be one array"),
        (lambda: HammingRanker([[1], [1, -1]]), ValueError, "`codes` must be one arr"),
        (lambda: RANKER.top_k(np.zeros((1, 3), np.uint8), 1), ValueError, "`queries`"),
        (lambda: RANKER.within(np.ones((1, 12)), 13), ValueError, "`radius`.*13"),
        (lambda: RANKER.within(np.ones((1, 12)), -1), ValueError, "`radius`.*-1"),
        (lambda: HammingRanker(np.ones((0, 12))), ValueError, "at least one row"),
        (lambda: HammingRanker(np.zeros((2, 2), np.uint8)), ValueError, "`bits`"),
        (lambda: HammingRanker(np.ones((2, 9)), bits=8), ValueError, "bits=8"),
        (lambda: HammingRanker(np.ones((2, 9)), block_size=0), ValueError, "block_siz"),
        *(
            (
                lambda devices=devices: HammingRanker(np.ones((2, 9)), devices=devices),
                TypeError,
                "`devices` must be a list of names",
            )
            for devices in (np.array(1), np.array("CPU:0"), 1, "CPU:0", [1])
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_saved_and_loaded(rng, tmp_path):
    database = rng.choice([-1, 1], (50, 12)).astype(np.int8)
    path = tmp_path / "codes.ranker"
    HammingRanker(database, block_size=20).save(path)
    ranker = HammingRanker.load(path)
    check(ranker, database[:4], database, [3])
    ranker.add(database)
    ranker.save(path)  # in place of the first
    assert len(HammingRanker.load(path, block_size=7)) == 100
    assert [file.name for file in tmp_path.iterdir()] == ["codes.ranker"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "codes"
    RANKER.save(path)

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        RANKER.save(path)
    assert len(HammingRanker.load(path)) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["codes"]


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "codes"
    RANKER.save(path)
    intact = path.read_bytes()
    flipped = bytearray(intact)
    flipped[intact.index(b"\xff\xf0")] ^= 4  # a bit of a code
    others = {
        "cut": intact[:-40],
        "flipped": bytes(flipped),
        "empty": b"",
        "text": b"a",
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "array", np.ones(3))
    np.savez(tmp_path / "other", codes=np.ones(3))
    np.savez(tmp_path / "objects", format=np.array([{}], object))
    np.savez(
        tmp_path / "bits",
        format="kerashash ranker 1",
        bits=8,
        codes=np.zeros((2, 2), np.uint8),
    )
    for name in (*others, "array.npy", "other.npz", "objects.npz", "bits.npz"):
        with pytest.raises(ValueError, match=f"`path` must be.*{name}"):
            HammingRanker.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        HammingRanker.load(tmp_path / "none")


@pytest.mark.parametrize("path", [5, None, b"codes.ranker"])
def test_a_ranker_is_loaded_from_a_path(path):
    with pytest.raises(TypeError, match="`path` must be a path"):
        HammingRanker.load(path)
