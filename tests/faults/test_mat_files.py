"""The reader of .mat files, against SciPy's, and on damaged files."""

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io

from kerashash.data.builders import flowers17, ldl
from kerashash.mat_files import read_mat

KINDS = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?")
ARRAYS = {
    **{
        f"x{kind[0]}{kind[-1]}": np.arange(6).reshape(2, 3).astype(kind)
        for kind in KINDS
    },
    "empty": np.zeros((0, 4)),
    "deep": np.arange(24.0).reshape(2, 3, 4),
}
OPTIONS = [{}, {"do_compression": True}, {"format": "4"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_numbers_are_read_as_by_scipy(tmp_path, options):
    path = tmp_path / "x.mat"
    arrays = ARRAYS
    if "format" in options:
        arrays = {k: v for k, v in ARRAYS.items() if k in ("xf8", "xf4", "xi2", "xu1")}
    scipy.io.savemat(path, arrays, **options)
    ours, theirs = read_mat(path), scipy.io.loadmat(path)
    assert set(ours) == {*arrays}
    for name in arrays:
        np.testing.assert_array_equal(ours[name], theirs[name])
        assert ours[name].dtype == theirs[name].dtype
        assert ours[name].shape == theirs[name].shape


@pytest.mark.parametrize("options", OPTIONS[:2])
def test_structures_cells_and_text(tmp_path, options):
    layer = {"name": "conv1", "weights": np.array([np.eye(2), 3.0], object)}
    nets = {"layers": np.array([layer, {"type": "relu"}], object), "meta": {"x": "ä"}}
    path = tmp_path / "net.mat"
    scipy.io.savemat(path, {"net": nets, "one": 5}, **options)
    mat = read_mat(path, squeeze=True)
    net = mat["net"]
    assert (net.meta.x, mat["one"], net.layers.shape) == ("ä", 5, (2,))
    assert (net.layers[0].name, net.layers[1].type) == ("conv1", "relu")
    np.testing.assert_array_equal(net.layers[0].weights[0], np.eye(2))
    assert net.layers[0].weights[1] == 3
    assert read_mat(path)["net"].layers.shape == (1, 2)


def header():
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(shape, data, name=b"x", array_class=6, kind=9):
    return element(
        14,
        element(6, struct.pack("<II", array_class, 0))
        + element(5, struct.pack(f"<{len(shape)}i", *shape))
        + element(1, name)
        + (element(kind, data) if array_class == 6 else data),
    )


def compressed(data):
    data = zlib.compress(data, 9)
    return struct.pack("<II", 15, len(data)) + data


def nested(depth):
    item = array((1, 1), bytes(8))
    for _ in range(depth):
        item = array((1, 1), item, array_class=1)
    return item


def cases():
    good = array((2, 2), bytes(32))
    bomb = compressed(array((1, 1 << 23), bytes(1 << 26)))
    many = element(14, b"") * 50_000
    return {
        "nothing": b"",
        "text": b"no .mat file\n" * 20,
        "only a header": header()[:100],
        "cut": header() + good[:-8],
        "cut tag": header() + good + b"\1\2\3",
        "too large": header() + array((1 << 30, 1 << 30), bytes(32)),
        "negative": header() + array((-2, -2), bytes(32)),
        "no shape": header() + array((), bytes(32)),
        "unknown numbers": header() + array((2, 2), bytes(32), kind=99),
        "deep": header() + nested(50),
        "more cells than bytes": header()
        + array((1 << 15, 1 << 15), many, array_class=1),
        "damaged zlib": header() + compressed(good)[:-4] + b"abcd",
        "no zlib": header() + element(15, b"abcdefgh"),
        "zlib of too little": header() + compressed(good[:-8]),
        "zlib of too much": header() + compressed(good + bytes(100)),
        "a bomb": header() + bomb,
        "version 7.3": header()[:124] + struct.pack("<H", 0x0200) + b"IM" + good,
        "version 4, cut": struct.pack("<5i", 0, 1 << 15, 1 << 15, 0, 2) + b"x\0",
        "structure without fields": header()
        + array(
            (1 << 20, 1 << 10),
            struct.pack("<HHi", 5, 4, 0) + element(1, b""),
            array_class=2,
        ),
    }


CASES = cases()


@pytest.mark.parametrize("content", CASES.values(), ids=CASES)
def test_damaged_files_are_named_in_little_time_and_memory(tmp_path, content):
    path = tmp_path / "some.mat"
    path.write_bytes(content)
    started = time.monotonic()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"some\.mat must be a \.mat file"):
        read_mat(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    assert time.monotonic() - started < 3


def test_the_files_that_the_cases_damage_are_good(tmp_path):
    good = array((2, 2), bytes(32))
    for content in (good, compressed(good), nested(10)):
        (tmp_path / "x.mat").write_bytes(header() + content)
        assert [*read_mat(tmp_path / "x.mat")] == ["x"]


def test_arrays_of_mostly_zeros_are_read(tmp_path, rng):
    # As sparse as the features of a published data set, which are as compressible.
    x = np.zeros((4000, 500))
    x[rng.integers(4000, size=6000), rng.integers(500, size=6000)] = 1
    scipy.io.savemat(tmp_path / "x.mat", {"x": x}, do_compression=True)
    assert 450 < x.nbytes / (tmp_path / "x.mat").stat().st_size < 600
    np.testing.assert_array_equal(read_mat(tmp_path / "x.mat")["x"], x)


def test_builders_name_what_holds_no_numbers(tmp_path):
    scipy.io.savemat(tmp_path / "text.mat", {"features": "abc", "labels": "abc"})
    with pytest.raises((TypeError, ValueError), match=r"text\.mat"):
        ldl.read_mat(tmp_path / "text.mat")
    splits = {name: np.arange(1.0, 3) for name in flowers17.SPLITS}
    for wrong in ("abc", np.array([np.nan]), {"a": 1}):
        scipy.io.savemat(tmp_path / "datasplits.mat", {**splits, "val2": wrong})
        with pytest.raises(ValueError, match=r"datasplits\.mat.*val2"):
            flowers17.read_splits(tmp_path, 4)
