import numpy as np
import pytest

from kerashash import codes


@pytest.mark.parametrize("bits", [1, 7, 8, 12, 48, 100])
def test_pack_and_unpack_are_inverse(rng, bits):
    unpacked = rng.choice([-1, 1], (20, bits)).astype(np.int8)
    packed = codes.pack(unpacked)
    assert packed.dtype == np.uint8
    assert packed.shape == (20, codes.packed_width(bits))
    np.testing.assert_array_equal(codes.unpack(packed, bits), unpacked)


def test_first_bit_is_the_most_significant_and_padding_is_zero():
    assert codes.pack([[1, -1, -1, -1, -1, -1, -1, -1, 1]]).tolist() == [[128, 128]]
    assert codes.pack([[-1, 1, 1]]).tolist() == [[0b01100000]]


def test_codes_are_in_the_order_of_c(rng):
    unpacked = np.asfortranarray(rng.choice([-1, 1], (20, 70)))
    packed = codes.pack(unpacked)
    for array in (packed, codes.check_codes(unpacked), codes.as_packed(unpacked)[0]):
        assert array.flags.c_contiguous
    words = codes.as_words(packed)
    for other in (np.asfortranarray(packed), np.flip(np.flip(packed).copy())):
        np.testing.assert_array_equal(codes.as_words(other), words)


def test_bit_imbalance_is_0_for_halves_and_1_for_equal_codes():
    unpacked = [[1, 1, -1], [1, -1, -1], [1, 1, 1], [1, -1, -1]]
    assert codes.bit_imbalance(unpacked) == pytest.approx((1 + 0 + 0.5) / 3)
    assert codes.bit_imbalance(codes.pack(unpacked), bits=3) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: codes.packed_width(0), ValueError, "`bits` must be at least 1"),
        (lambda: codes.packed_width(2.0), TypeError, "`bits` must be an integer"),
        (lambda: codes.packed_width(True), TypeError, "`bits` must be an integer"),
        (lambda: codes.pack([1, -1]), ValueError, r"shape \(n, bits\)"),
        (lambda: codes.pack([[1, 0]]), ValueError, "only -1 and \\+1.*0"),
        (lambda: codes.pack([[1, np.nan]]), ValueError, "nan"),
        (lambda: codes.check_codes([[1, 1]], bits=3), ValueError, "bits=3"),
        (
            lambda: codes.unpack(np.zeros((1, 1)), 8),
            TypeError,
            "`packed` must be.*uint8",
        ),
        (lambda: codes.unpack(np.zeros((1, 1), np.uint8), 9), ValueError, "bits=9"),
        (lambda: codes.unpack(np.array([[1]], np.uint8), 7), ValueError, "padding"),
        (
            lambda: codes.as_packed(np.zeros((1, 2), np.uint8)),
            ValueError,
            "between 9 and 16",
        ),
        (lambda: codes.as_packed(np.uint8(3)), ValueError, "`bits` is required"),
        (lambda: codes.as_packed(np.uint8(3), 8), ValueError, r"shape \(n, 1\)"),
        (lambda: codes.pack([[1, -1], [1]]), ValueError, "`codes` must be one array"),
        (lambda: codes.pack([["1", "-1"]]), TypeError, "`codes` must hold numbers"),
        (lambda: codes.pack([[None, {}]]), TypeError, "`codes` must hold numbers"),
        (
            lambda: codes.bit_imbalance(np.zeros((0, 8), np.int8)),
            ValueError,
            "`codes` must have at least one row",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
