import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerashash import codes, evaluation
from kerashash.evaluation import average_precision, compiled_counts, counts
from kerashash.evaluation.relevance import Relevance


def brute_force(query, database, relevant):
    """Items and relevant items at each distance, of unpacked codes."""
    distances = (query[:, None] != database[None]).sum(axis=2)
    at = distances[:, :, None] == np.arange(query.shape[1] + 1)
    return at.sum(axis=1), (at & relevant[:, :, None]).sum(axis=1)


@settings(max_examples=12, deadline=None)
@given(
    # Few sizes: a kernel is compiled for each.
    size=st.sampled_from([(1, 2), (12, 300), (64, 21), (260, 1)]),
    single=st.booleans(),
    n=st.one_of(st.integers(1, 1000), st.integers(2100, 3000)),
    seed=st.integers(0, 1000),
)
def test_histograms_equal_brute_force(size, single, n, seed):
    bits, classes = size
    rng = np.random.default_rng(seed)
    query, database = rng.choice([-1, 1], (5, bits)), rng.choice([-1, 1], (n, bits))
    if single:
        labels = rng.integers(0, classes, 5), rng.integers(0, classes, n)
        relevant = labels[0][:, None] == labels[1]
    else:
        labels = rng.random((5, classes)) < 0.2, rng.random((n, classes)) < 0.2
        relevant = labels[0].astype(int) @ labels[1].T.astype(int) > 0
    relevance = Relevance(*labels, num_queries=5, num_items=n)
    np.testing.assert_array_equal(relevance.of(slice(1, 4)), relevant[1:4])
    items = rng.integers(0, n, (5, 7))
    np.testing.assert_array_equal(
        relevance.of(slice(None), items), np.take_along_axis(relevant, items, axis=1)
    )
    packed = codes.pack(query), codes.pack(database)
    right = brute_force(query, database, relevant)
    for count in (counts.histograms, compiled_counts.histograms):
        np.testing.assert_array_equal(count(*packed, bits, relevance), right)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "_MANY", 2)
        patch.setattr(counts, "_BYTES", 700)
        np.testing.assert_array_equal(
            counts.histograms(*packed, bits, relevance), right
        )


def test_one_pass_measures_everything(rng, monkeypatch):
    passes = []

    def watch(*arguments):
        passes.append(1)
        return counts.histograms(*arguments)

    monkeypatch.setattr(average_precision, "histograms", watch)
    ranked = (rng.choice([-1, 1], (4, 8)), [0, 1, 0, 1]) * 2
    result = evaluation.evaluate_codes(*ranked)
    assert len(passes) == 1
    assert result["mAP@ALL"] == pytest.approx(
        evaluation.mean_average_precision(*ranked)
    )


@pytest.mark.parametrize("most", [0.0, 0.002])
def test_thousands_of_classes_need_no_operation_each(most):
    """The compiled kernel does not grow with the classes."""
    rng = np.random.default_rng(0)
    rows = np.zeros((2, 300, 20_000), np.uint8)
    # One label each (or none), or sets of labels.
    for labels in rows:
        for row in labels[1:]:
            row[rng.integers(0, 500) * 40] = 1
        labels |= rng.random(labels.shape) < most
    query_labels, database_labels = rows[0, :5], rows[1]
    relevant = query_labels.astype(int) @ database_labels.T.astype(int) > 0
    query, database = rng.choice([-1, 1], (5, 8)), rng.choice([-1, 1], (300, 8))
    relevance = Relevance(query_labels, database_labels, 5, 300)
    assert relevance.single == (most == 0.0)
    np.testing.assert_array_equal(relevance.of(slice(None)), relevant)
    items = rng.integers(0, 300, (5, 7))
    np.testing.assert_array_equal(
        relevance.of(slice(None), items), np.take_along_axis(relevant, items, axis=1)
    )
    start = time.monotonic()
    right = brute_force(query, database, relevant)
    for count in (counts.histograms, compiled_counts.histograms):
        actual = count(codes.pack(query), codes.pack(database), 8, relevance)
        np.testing.assert_array_equal(actual, right)
    assert time.monotonic() - start < 10.0


def test_rows_without_shared_classes_are_relevant_to_none():
    labels = np.eye(4, dtype=int)
    assert not Relevance(labels[:2], labels[2:], 2, 2).of(slice(None)).any()
    none = np.zeros((2, 3))
    assert not Relevance(none, none, 2, 2).of(slice(None)).any()


@pytest.mark.parametrize("dtypes", [("u8", "i8"), ("i8", "u8"), ("u8", "u8")])
def test_large_class_ids_of_different_types_stay_exact(dtypes):
    ids = [2**53, 2**53 + 1, 2**53 + 2]
    query, database = (np.array(ids, dtype) for dtype in dtypes)
    relevance = Relevance(query, database, 3, 3)
    np.testing.assert_array_equal(relevance.of(slice(None)), np.eye(3, dtype=bool))


def test_given_codes_are_measured_without_tensorflow(tmp_path):
    code = (
        "import sys\n"
        "from kerashash import evaluation\n"
        "ranked = ([[1, 1], [1, -1]], [0, 1]) * 2\n"
        "for name in evaluation.PROTOCOLS:\n"
        "  evaluation.evaluate_codes(*ranked, protocol=name, at=2)\n"
        "evaluation.CONVENTIONS['F'](*ranked), evaluation.CONVENTIONS['H'](*ranked)\n"
        "assert not {'tensorflow', 'keras'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize("bits", [7, 8, 63, 64, 127, 128])
def test_stable_order_is_that_of_distance_and_index(bits, rng):
    n = 150
    database = np.where(rng.random((n, bits)) < 0.5 / bits, -1, 1)  # many ties
    query = np.concatenate([database[:2], -database[:1]])
    labels = rng.random((3, 4)) < 0.4, rng.random((n, 4)) < 0.4
    relevant = labels[0].astype(int) @ labels[1].T.astype(int) > 0
    distances = (query[:, None] != database).sum(axis=2)
    ranked = np.take_along_axis(
        relevant, np.argsort(distances, axis=1, kind="stable"), axis=1
    )
    hits = np.cumsum(ranked, axis=1)
    precision = hits / np.arange(1, n + 1)
    for at in (1, 20, n):
        for denominator, counted in (
            ("retrieved", ranked & (np.arange(n) < at)),
            ("first", ranked & (hits <= at)),
        ):
            expected = (precision * counted).sum(axis=1) / counted.sum(axis=1).clip(1)
            actual = evaluation.mean_average_precision(
                query,
                labels[0],
                database,
                labels[1],
                at=at,
                denominator=denominator,
                ties="stable",
            )
            assert actual == pytest.approx(expected.mean())
