"""Checks of arguments."""

import tracemalloc

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from kerashash.checks import (
    as_array,
    check_array,
    check_distributions,
    check_labels,
    check_widths,
    first_line,
)


def test_class_ids_of_many_classes_take_the_memory_of_their_rows():
    tracemalloc.start()
    labels = check_labels([3, 99_999, 0, 3], num_classes=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6
    assert labels.dtype == np.float32
    assert [*zip(*np.nonzero(labels), strict=True)] == [
        (0, 3),
        (1, 99_999),
        (2, 0),
        (3, 3),
    ]


def test_class_ids_of_any_integer_type_are_taken():
    for dtype in (np.uint8, np.int64, np.uint64):
        labels = check_labels(np.array([1, 0], dtype), num_classes=2)
        np.testing.assert_array_equal(labels, [[0, 1], [1, 0]])


def test_what_is_masked_is_not_read_behind_the_mask():
    x = np.ma.masked_array(np.arange(6).reshape(3, 2), mask=False)
    np.testing.assert_array_equal(as_array(x, "x"), x.data)
    x[1, 0] = np.ma.masked
    for masked in (x, [*x], [np.ma.masked_equal([1, 0], 9), x[1]]):
        with pytest.raises(ValueError, match=r"`x` must have a value .* rows \[1\]"):
            as_array(masked, "x")


def test_sparse_arrays_are_named():
    with pytest.raises(TypeError, match=r"`x` must be a dense array, such as `toarray"):
        as_array(scipy.sparse.csr_array(np.eye(2)), "x")


def test_symbols_are_named():
    symbol, call = keras.Input((3,)), tf.function(lambda x: as_array(x, "x"))
    for x, kind in ((symbol, "KerasTensor"), ([symbol, symbol], "list")):
        with pytest.raises(
            TypeError, match=f"`x` must be an array, or .* a {kind}, of"
        ):
            check_array(x)
    with pytest.raises(TypeError, match=r"`x` must be an .* a SymbolicTensor"):
        call(tf.zeros(3))


def test_numbers_too_small_for_float32_are_0_under_any_settings():
    with np.errstate(all="raise"):
        assert check_array([[1e-50, -1e-300]]).tolist() == [[0.0, 0.0]]
        assert check_distributions([[1 - 1e-50, 1e-50]]).tolist() == [[1.0, 0.0]]
        with pytest.raises(ValueError, match="`x` must be finite"):
            check_array([1e50])


def test_widths_become_integers_of_python():
    widths = check_widths(units=[np.int64(4), 5])
    assert widths == {"units": (4, 5)}
    assert {type(width) for width in widths["units"]} == {int}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Op FOO is not supported.\nAt 0x7f", "RuntimeError: Op FOO is not supported"),
        ("\n  [1]\r\nmore", "RuntimeError: [1]"),
        ("", "RuntimeError"),
        ("x" * 999, f"RuntimeError: {'x' * 286}"),
    ],
)
def test_errors_of_others_are_cut_to_a_line(text, line):
    assert first_line(RuntimeError(text)) == line
