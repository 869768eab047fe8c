"""Arrays in any order, byte order and place in memory give what plain ones give, and
so they do where NumPy raises what it otherwise ignores."""

import numpy as np
import pytest

from kerashash import HammingRanker, codes, evaluation
from kerashash.codes import as_words
from kerashash.data import RetrievalData
from kerashash.retrieval import hashed_distribution, knn_distribution

#: How an array of the same values may lie in memory.
LAYOUTS = {
    "Fortran": np.asfortranarray,
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "slice": lambda a: np.stack([a, a], axis=-1)[..., 0],
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 40)
ROWS = (RNG.random((40, 3)) < 0.4).astype(np.int16)
VALUES = RNG.normal(size=(40, 12)).astype(np.float32)
SHARES = RNG.dirichlet(np.ones(3), 40)
SHARES[:, 0] = 1e-50  # less than float32 holds
SHARES /= SHARES.sum(axis=1, keepdims=True)


def unpacked(bits):
    return np.random.default_rng(1).choice([-1, 1], (40, bits)).astype(np.int16)


def of_codes(place, bits):
    """What the package makes of codes, packed ones and others, placed so."""
    b = unpacked(bits)
    p = place(codes.pack(b))
    b = place(b)
    results = [codes.pack(b), codes.unpack(p, bits), codes.check_packed(p, bits)]
    results += [as_words(p), codes.bit_imbalance(b), codes.bit_imbalance(p, bits)]
    for array in (b, p):
        ranker = HammingRanker(array, bits)
        queries = array[3:9]
        results += [ranker.top_k(queries[:1], 5), ranker.top_k(queries, 5)]
        results += [ranker.distances(queries), ranker.within(queries, bits // 2)]
        for labels in (LABELS, ROWS):
            ranked = queries, place(labels[3:9]), array, place(labels), bits
            results += [evaluation.evaluate_codes(*ranked)]
        results += [hashed_distribution(queries, array, place(SHARES), 3, bits)]
    return results


def of_values(place):
    """What is measured of floats, placed so."""
    v, d = place(VALUES), place(SHARES)
    return [
        *(evaluation.CONVENTIONS[name](v, LABELS, v, LABELS) for name in "FG"),
        knn_distribution(v[:5], v, d, k=3),
        evaluation.label_distribution.measures(d, d[::-1]),
        evaluation.svm_accuracy(*[(place(unpacked(12)), place(LABELS))] * 3),
        evaluation.pairwise_label_precision(place(ROWS @ ROWS.T > 0), place(LABELS)),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_place_of_an_array_makes_no_difference(layout):
    place = LAYOUTS[layout]
    for bits in (12, 64, 100):
        np.testing.assert_equal(
            of_codes(place, bits), of_codes(np.ascontiguousarray, bits)
        )
    np.testing.assert_equal(of_values(place), of_values(np.ascontiguousarray))


def test_nothing_depends_on_what_numpy_ignores():
    plain = of_codes(np.ascontiguousarray, 64), of_values(np.ascontiguousarray)
    with np.errstate(all="raise"):
        strict = of_codes(np.ascontiguousarray, 64), of_values(np.ascontiguousarray)
    np.testing.assert_equal(strict, plain)


def data_set(x):
    n = len(x)
    return RetrievalData(
        name="mine",
        protocol="none",
        seed=0,
        class_names=["a", "b"],
        splits=dict.fromkeys(("train", "query", "database"), np.arange(n)),
        x=x,
        labels=np.eye(2)[np.arange(n) % 2],
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "bool", "int16", "float16", "float64"])
def test_data_sets_read_any_array(layout, dtype):
    x = np.arange(8).reshape(4, 2).astype(dtype)
    data = data_set(LAYOUTS[layout](x))
    np.testing.assert_array_equal([*data.database.map(lambda x, y: x)], x)
    found, _ = data.arrays("query")
    np.testing.assert_array_equal(found, x)
    assert found.dtype.isnative
    assert data.train.element_spec[0].dtype == dtype


def test_data_sets_read_files_of_another_byte_order(tmp_path):
    x = np.memmap(tmp_path / "x", ">i4", "w+", shape=(4, 2))
    x[:] = np.arange(8).reshape(4, 2)
    data = data_set(x)
    assert data.x is x
    np.testing.assert_array_equal([*data.query.map(lambda x, y: x)], x)
    assert data.arrays("query")[0].dtype.isnative


@pytest.mark.parametrize(
    "dtype", ["longdouble", "complex64", "object", "M8[s]", "m8[s]", "i4, f4", "S3"]
)
def test_data_sets_refuse_what_tensorflow_does_not_read(dtype, tmp_path):
    if np.dtype(dtype).itemsize == 8 and dtype == "longdouble":
        pytest.skip("long doubles are doubles here")
    refused = pytest.raises(TypeError, match=r"^`x` must be an array .*dtype: ")
    with refused:
        data_set(np.zeros((4, 2), dtype))
    if dtype != "object":
        with refused:
            data_set(np.memmap(tmp_path / "x", dtype, "w+", shape=(4, 2)))


@pytest.mark.parametrize("integer", [np.uint8, np.int64, np.uint64])
def test_integers_of_numpy_are_integers(integer):
    b = unpacked(250)
    packed, n = codes.pack(b), integer(250)
    ranker = HammingRanker(packed, n, block_size=integer(7))
    plain = HammingRanker(packed, 250, block_size=7)
    assert type(ranker.bits) is int
    np.testing.assert_equal(
        [ranker.top_k(b[:2], integer(9)), ranker.within(b[:2], integer(125))],
        [plain.top_k(b[:2], 9), plain.within(b[:2], 125)],
    )
    np.testing.assert_equal(codes.unpack(packed, n), b)
    ranked = b, LABELS, b, LABELS
    np.testing.assert_equal(
        evaluation.evaluate_codes(packed, LABELS, packed, LABELS, n, at=integer(9)),
        evaluation.evaluate_codes(*ranked, at=9),
    )
    for at in ([integer(3), integer(9)], np.array([3, 9], integer)):
        np.testing.assert_equal(
            evaluation.precision_recall(*ranked, at=at),
            evaluation.precision_recall(*ranked, at=[3, 9]),
        )
    rerank = evaluation.reranked_mean_average_precision
    assert rerank(*ranked, radius=integer(99)) == rerank(*ranked, radius=99)
