"""HammingRanker under threads, copies, damaged files, kills and large numbers."""

import copy
import io
import os
import pickle
import stat
import subprocess
import sys
import threading
import tracemalloc
import weakref
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash
from kerashash import HammingRanker
from kerashash.retrieval import kernels, ranker


@pytest.fixture
def small():
    return HammingRanker(np.ones((3, 12)))


# Threads


def test_threads_add_and_remove_without_loss():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    shared, errors = HammingRanker(np.ones((600, 8)), block_size=50), []

    def work(call):
        try:
            for _ in range(40):
                call()
        except Exception as error:
            errors.append(error)

    rows = np.ones((7, 8))
    calls = [lambda: shared.add(rows)] * 3 + [
        lambda: shared.remove([5, 300]),
        lambda: shared.top_k(rows, 3),
        lambda: shared.distances(rows),
        lambda: shared.within(rows, 1),
    ]
    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert errors == []
    assert len(shared) == 600 + 3 * 40 * 7 - 40 * 2
    assert shared.distances(rows[:1]).shape == (1, len(shared))


def test_a_search_sees_the_database_as_it_was(monkeypatch):
    database = np.ones((20, 8))
    shared = HammingRanker(database, block_size=5)
    nearest = ranker.Block.nearest

    def interrupted(self, *arguments):
        if len(shared) == 20:
            shared.remove(np.arange(15))
            shared.add(-database)
        return nearest(self, *arguments)

    monkeypatch.setattr(ranker.Block, "nearest", interrupted)
    distances, indices = shared.top_k(database[:1], 20)
    np.testing.assert_array_equal(indices, [np.arange(20)])
    assert not distances.any()


# Copies


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, None])
def test_a_copy_is_a_ranker_of_its_own(rng, copied):
    database = rng.choice([-1, 1], (50, 12))
    original = HammingRanker(database, block_size=20)
    copied = copied or (lambda ranker: pickle.loads(pickle.dumps(ranker)))
    other = copied(original)
    assert [block.size for block in other.blocks] == [20, 20, 10]
    for one, two in zip(
        other.top_k(database[:5], 9), original.top_k(database[:5], 9), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    other.add(database)
    assert (len(other), len(original)) == (100, 50)


def test_repr_says_how_large_it_is(small):
    assert repr(small) == (
        "HammingRanker(size=3, bits=12, index='auto': scan of all codes, as there are "
        "less than 131,072)"
    )


# Files


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_new_file_has_the_mode_of_the_umask(small, tmp_path, umask):
    before = os.umask(umask)
    try:
        small.save(tmp_path / "codes")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "codes").stat().st_mode) == 0o666 & ~umask


def test_a_replaced_file_keeps_its_mode_and_its_link(small, tmp_path):
    (tmp_path / "deep").mkdir()
    file, link = tmp_path / "deep" / "codes", tmp_path / "link"
    small.save(file)
    file.chmod(0o664)
    link.symlink_to("deep/codes")
    small.add(-np.ones((2, 12)))
    small.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o664
    assert len(HammingRanker.load(file)) == 5


def test_a_tilde_is_the_home_folder(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small.save("~/codes")
    assert [path.name for path in tmp_path.iterdir()] == ["codes"]
    assert len(HammingRanker.load("~/codes")) == len(small)


def test_what_is_no_file_is_not_replaced(small, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ValueError, match="`path` must be a file"):
            small.save(path)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


KILLED = """
import os, sys, numpy as np
from kerashash import files
with files.replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def test_the_next_save_removes_what_a_killed_one_left(small, tmp_path):
    path = tmp_path / "codes"
    small.save(path)
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    (left,) = (name for name in os.listdir(tmp_path) if name != "codes")
    assert left.startswith(".codes.kerashash-")
    assert len(HammingRanker.load(path)) == 3
    (tmp_path / ".codes.mine").touch()
    small.save(path)
    assert sorted(os.listdir(tmp_path)) == [".codes.mine", "codes"]


def npz(**members):
    """A file of arrays; a value of bytes is written as it is."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in members.items():
            if not isinstance(value, bytes):
                array = io.BytesIO()
                np.lib.format.write_array(array, np.asarray(value))
                value = array.getvalue()
            archive.writestr(f"{name}.npy", value)
    return file.getvalue()


def damaged(tmp_path):
    HammingRanker(np.ones((3, 12))).save(tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    fields = {"format": ranker._FORMAT, "bits": 8, "codes": np.zeros((3, 1), np.uint8)}
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1)}
    np.lib.format.write_array_header_1_0(header, shape)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("codes.npy", bytes(1 << 27))
    central = good.index(b"PK\x01\x02")

    def patched(offset, value):
        return good[: central + offset] + value + good[central + offset + len(value) :]

    return {
        "empty": b"",
        "cut": good[:-30],
        "encrypted": patched(8, b"\1\0"),
        "unknown compression": patched(10, b"\x63\0"),
        "lzma": patched(10, b"\x0e\0"),
        "deflated": patched(10, b"\x08\0"),
        "far away": patched(42, b"\xff\xff\xff\x7f"),
        "large header": npz(**{**fields, "codes": header.getvalue()}),
        "brackets": npz(**{**fields, "codes": b"\x93NUMPY\1\0\xd0\x07" + b"(" * 2000}),
        "bomb": bomb.getvalue(),
        "no codes": npz(**{**fields, "codes": np.zeros((0, 1), np.uint8)}),
        "huge bits": npz(**{**fields, "bits": 1 << 62}),
        "negative bits": npz(**{**fields, "bits": -8}),
        "many bits": npz(**{**fields, "bits": [8, 8]}),
        "infinite bits": npz(**{**fields, "bits": np.inf}),
        "many formats": npz(**{**fields, "format": [ranker._FORMAT] * 2}),
        "objects": npz(**{**fields, "codes": b"\x93NUMPY\1\0"}),
    }


def test_every_damage_is_named_and_takes_no_memory(tmp_path):
    for name, content in damaged(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"`path` must be.*{name}"):
            HammingRanker.load(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6, name
        tracemalloc.stop()
    with pytest.raises(IsADirectoryError):
        HammingRanker.load(tmp_path)


# Large numbers


def test_more_codes_than_indices_are_refused(small, monkeypatch):
    many = np.broadcast_to(np.zeros((1, 2), np.uint8), (2**31 + 100, 2))
    for call in (lambda: HammingRanker(many, bits=12), lambda: small.add(many)):
        with pytest.raises(ValueError, match=r"at most 2,147,483,647.*2,147,483,748"):
            call()
    monkeypatch.setattr(ranker, "_MAX_CODES", 5)
    small.add(np.ones((2, 12)))
    with pytest.raises(ValueError, match=r"at most 5.*1, with 5 in the database"):
        small.add(np.ones((1, 12)))
    with pytest.raises(ValueError, match="`block_size` must be at most"):
        HammingRanker(np.ones((3, 12)), block_size=1 << 31)


@pytest.mark.parametrize("bits", [65_535, 65_544])
def test_codes_too_long_for_a_distance_are_refused(bits):
    with pytest.raises(ValueError, match=f"`bits` must be at most 65534.*{bits}"):
        HammingRanker(np.zeros((2, -(-bits // 8)), np.uint8), bits)
    with pytest.raises(ValueError, match="`bits` must be at most 65534"):
        HammingRanker(np.ones((2, bits), np.int8))


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1025, 65_534])
def test_long_codes_rank_as_by_hand(rng, bits):
    database = rng.choice([-1, 1], (70, bits)).astype(np.int8)
    database[1] = -database[0]  # the largest distance
    long = HammingRanker(database, block_size=40)
    expected = (database[:9, None] != database[None]).sum(axis=2)
    np.testing.assert_array_equal(long.distances(database[:9]), expected)
    order = np.argsort(expected, axis=1, kind="stable")
    for q in (1, 9):
        _, indices = long.top_k(database[:q], 70)
        np.testing.assert_array_equal(indices, order[:q])


def test_many_nearest_of_many_blocks_take_little_memory(rng):
    packed = rng.integers(0, 256, (40_000, 1), dtype=np.uint8)
    blocks = HammingRanker(packed, 8, block_size=1000)
    expected = HammingRanker(packed, 8).top_k(packed[:4], 1000)
    tracemalloc.start()
    found = blocks.top_k(packed[:4], 1000)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    np.testing.assert_array_equal(found, expected)


def test_kernels_of_lengths_no_longer_used_are_dropped(collect_garbage):
    kernels.kernels_for.cache_clear()
    used = HammingRanker(np.ones((2, 3)))
    first = weakref.ref(kernels.kernels_for(2))
    assert kernels.kernels_for.cache_info().maxsize < 20
    kernels.kernels_for.cache_clear()
    collect_garbage()
    assert first() is None
    np.testing.assert_array_equal(used.distances(-np.ones((1, 3))), [[3, 3]])


# SavedModels


def test_a_saved_model_takes_no_rows_and_refuses_nan(rng, tmp_path):
    model = kerashash.AdaLabelHash(mlp(6), bits=12, num_classes=3)
    x = rng.normal(size=(5100, 6)).astype(np.float32)
    database = HammingRanker(model.encode(x), bits=12, block_size=5000)
    stale = tmp_path / ".search.kerashash-01234567"
    (stale / "variables").mkdir(parents=True)
    database.to_saved_model(model, tmp_path / "search", k=200)
    assert os.listdir(tmp_path) == ["search"]
    loaded = tf.saved_model.load(tmp_path / "search")
    search = loaded.search
    for rows in (0, 1, 5):
        found = [part.numpy() for part in search(x[:rows])]
        expected = database.top_k(model.encode(x[:rows]), 200) if rows else None
        assert [part.shape for part in found] == [(rows, 200)] * 2
        if rows:
            np.testing.assert_array_equal(found, expected)
    for value in (np.nan, np.inf):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`x` must be finite"):
            search(np.full((2, 6), value, np.float32))
