"""The program that searches on a GPU, compiled here for the processor."""

import numpy as np
import pytest
import tensorflow as tf

from kerashash import HammingRanker, codes
from kerashash.retrieval import layout, program


@pytest.fixture
def on_accelerator(monkeypatch):
    """Rankers are made as where TensorFlow has a GPU."""
    monkeypatch.setattr(layout, "on_accelerator", lambda: True)


def both(database, bits, monkeypatch, **options):
    """The processor's ranker, and the one with an accelerator's blocks."""
    processor = HammingRanker(database, bits, **options)
    with monkeypatch.context() as patch:
        patch.setattr(layout, "on_accelerator", lambda: True)
        accelerator = HammingRanker(database, bits, **options)
    assert isinstance(accelerator.blocks[0], program.AcceleratorBlock)
    return processor, accelerator


def check_equal(processor, accelerator, queries, ks):
    for k in ks:
        for expected, actual in zip(
            processor.top_k(queries, k), accelerator.top_k(queries, k), strict=True
        ):
            assert actual.dtype == np.int32
            np.testing.assert_array_equal(actual, expected)


def draw(rng, n, bits):
    """Packed codes; bits beyond the code length are 0."""
    return codes.pack(rng.choice([-1, 1], (n, bits)).astype(np.int8))


# Programs are compiled for each shape, so tests share shapes where they can: 40,960
# rows of 64 bits, 3 queries, and k = 10 or 100.


# 12 bits: most codes tie. 1100 bits: more words than have operations of their own.
@pytest.mark.parametrize(
    ("bits", "n", "ks"),
    [
        (12, 40_013, [100]),
        (64, 40_013, [1, 10, 100]),
        (100, 9_013, [10]),
        (1100, 1_013, [825]),
    ],
)
def test_equals_the_processor(bits, n, ks, rng, monkeypatch):
    database, queries = draw(rng, n, bits), draw(rng, 3, bits)
    check_equal(*both(database, bits, monkeypatch), queries, ks)


@pytest.fixture
def sorts(monkeypatch):
    """Every selection is a sort, as with many queries."""
    monkeypatch.setattr(program, "_MOST_COMPARISONS", 0)
    program._program.cache_clear()
    yield
    program._program.cache_clear()


@pytest.mark.parametrize("comparisons", [1 << 10, 1 << 27])
def test_selection(comparisons, rng, monkeypatch):
    """By a sort, and by comparisons of all keys; with groups, without, and with groups
    of groups."""
    monkeypatch.setattr(program, "_MOST_COMPARISONS", comparisons)
    for size, k in ((1500, 5), (40, 40), (100, 1), (40_000, 1), (70_001, 6)):
        values = rng.integers(0, 9, (2, size)).astype(np.int32)
        found = program._smallest(tf.constant(values), k, bits=8)
        order = np.argsort(values, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(found[1], order)
        np.testing.assert_array_equal(found[0], np.take_along_axis(values, order, 1))


def test_many_queries(sorts, rng, monkeypatch):
    """More than one kernel compares at a time, and more than a block of queries."""
    database, queries = draw(rng, 20_000, 64), draw(rng, 9, 64)
    monkeypatch.setattr(program.AcceleratorBlock, "WORKSPACE", 3_000_000)
    check_equal(*both(database, 64, monkeypatch), queries, [7])


@pytest.mark.parametrize("n", [1, 1025])
def test_all_codes(n, rng, monkeypatch):
    database, queries = draw(rng, n, 48), draw(rng, 3, 48)
    rankers = both(database, 48, monkeypatch)
    check_equal(*rankers, queries, {1, n})
    np.testing.assert_array_equal(*(r.distances(queries) for r in rankers))


@pytest.mark.parametrize("few", [1, 2, 5])
def test_ties(few, rng, monkeypatch):
    """Equal codes: only the index tells chunks, and codes within them, apart."""
    database = draw(rng, few, 64)[rng.integers(0, few, 40_001)]
    check_equal(*both(database, 64, monkeypatch), database[:3], [10, 100])


def test_chunks_with_nearest_codes_at_their_ends(monkeypatch):
    """The nearest codes are the last of their chunks, all in one, or in the last."""
    size = 40_960
    queries = np.zeros((3, 8), np.uint8)
    for near in (
        np.arange(63, size, 64)[-20:],
        np.arange(1000, 1020),
        np.arange(size - 20, size),
    ):
        database = np.full((size, 8), 255, np.uint8)
        database[near, 0] = 254
        check_equal(*both(database, 64, monkeypatch), queries, [10, 100])


def test_codes_come_and_go(rng, monkeypatch):
    database, queries = draw(rng, 3000, 64), draw(rng, 3, 64)
    rankers = both(database, 64, monkeypatch, block_size=2048)
    removed = rng.choice(3000, 700, replace=False)
    for ranker in rankers:
        ranker.remove(removed)
        ranker.add(database[:900])
    check_equal(*rankers, queries, [10, 3200])
    np.testing.assert_array_equal(*(r.distances(queries) for r in rankers))
    for kept in zip(*(r.within(queries, 26) for r in rankers), strict=True):
        for rows in zip(*kept, strict=True):
            np.testing.assert_array_equal(*rows)


def test_files_move_between_devices(rng, tmp_path, on_accelerator, monkeypatch):
    database, queries = draw(rng, 500, 48), draw(rng, 3, 48)
    accelerator = HammingRanker(database, 48)
    accelerator.save(tmp_path / "codes")
    monkeypatch.undo()
    processor = HammingRanker.load(tmp_path / "codes")
    assert not isinstance(processor.blocks[0], program.AcceleratorBlock)
    check_equal(processor, accelerator, queries, [7])


def test_rows_of_few_different_numbers():
    sizes = range(1, 100_000, 501)
    rows = {
        program.AcceleratorBlock(np.zeros((size, 1), np.uint8), 0).codes.shape[1]
        for size in sizes
    }
    assert len(rows) < 50


def test_no_constant_as_large_as_the_database():
    """Positions are computed on the device: a list of them would be in the program."""
    search = program._program(64, 128)
    specs = (
        tf.TensorSpec((1, 1), tf.uint64),
        tf.TensorSpec((1, 1 << 20), tf.uint64),
        tf.TensorSpec((), tf.int32),
    )
    lower = search.experimental_get_compiler_ir(*specs)
    assert len(lower(stage="stablehlo_serialized", platform_name="CPU")) < 100_000


class _OnDevice:
    """What a tensor on a GPU gives of itself: no view of its memory, but a copy."""

    backing_device = "/job:localhost/replica:0/task:0/device:GPU:0"

    def numpy(self):
        return np.arange(3)


def test_values_of_a_tensor_on_a_gpu():
    np.testing.assert_array_equal(layout.as_array(_OnDevice()), [0, 1, 2])
    tensor = tf.constant([1, 2])
    assert np.shares_memory(layout.as_array(tensor), memoryview(tensor))


def test_where_new_tensors_are():
    assert layout.on_accelerator() == bool(tf.config.list_logical_devices("GPU"))
    with tf.device("CPU"):
        assert not layout.on_accelerator()
