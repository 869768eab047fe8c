"""A ranker whose database is on several devices finds what it finds on one.

Devices have to be set up before TensorFlow starts, so this file is also the program of
another process, which has two.
"""

import copy
import json
import os
import pathlib
import subprocess
import sys
import threading
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf

import kerashash
from kerashash import HammingRanker

BOTH = ["CPU:0", "CPU:1"]


def drawn(n, bits=16):
    """Codes with many ties, and queries."""
    rng = np.random.default_rng(n)
    codes = rng.integers(0, 4, (n + 9, bits // 8), dtype=np.uint8)
    return codes[9:], codes[:9]


def expected(codes, queries, k):
    distances = np.bitwise_count(codes[None] ^ queries[:, None]).sum(-1, dtype=int)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


def is_exact(ranker, codes, queries, k):
    distances, order = expected(codes, queries, len(codes))
    near, index = ranker.top_k(queries, k)
    same = np.array_equal(near, distances[:, :k]) and np.array_equal(
        index, order[:, :k]
    )
    radius = int(distances[0, len(codes) // 2])
    for row, (within, at) in enumerate(
        zip(*ranker.within(queries, radius), strict=True)
    ):
        count = int((distances[row] <= radius).sum())
        same &= np.array_equal(within, distances[row, :count])
        same &= np.array_equal(at, order[row, :count])
    whole = np.bitwise_count(codes[None] ^ queries[:, None]).sum(-1)
    return bool(same and np.array_equal(ranker.distances(queries), whole))


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    results = {}
    for n, k, options in (
        (1, 1, {}),
        (2, 2, {}),
        (301, 300, {}),  # k is more than the codes of a device
        (301, 7, {"block_size": 64}),
        (140_000, 100, {}),
        (140_000, 100, {"index": "scan", "block_size": 1 << 15}),
    ):
        codes, queries = drawn(n)
        ranker = HammingRanker(codes, 16, devices=BOTH, **options)
        name = f"{n} {k} {options}"
        # A device holds its part, in memory of its own.
        places = [block.codes.device.rpartition(":")[2] for block in ranker.blocks]
        sizes = [
            sum(b.size for b in ranker.blocks if b.device == device) for device in BOTH
        ]
        halved = max(sizes) - min(sizes) <= max(1, options.get("block_size", 1))
        results[f"halves {name}"] = halved and places == [
            str(i % 2) for i in range(len(places))
        ]
        results[name] = is_exact(ranker, codes, queries, k)
        results[f"one query {name}"] = is_exact(ranker, codes, queries[:1], k)
    more, _ = drawn(90)
    ranker = HammingRanker(codes[:40], 16, devices=["/device:cpu:1", "cpu:0"])
    results["names"] = ranker.devices == ["CPU:1", "CPU:0"]
    ranker.add(more)
    results["grown"] = [block.size for block in ranker.blocks] == [65, 65]
    ranker.remove([3, 70, 71])
    results["shrunk"] = [block.size for block in ranker.blocks] == [64, 63]
    kept = np.delete(np.concatenate([codes[:40], more]), [3, 70, 71], axis=0)
    results["changed"] = is_exact(ranker, kept, queries, 50)
    ranker.save("a.ranker")
    for name, again in (
        ("loaded", HammingRanker.load("a.ranker", devices=BOTH)),
        ("copied", copy.deepcopy(ranker)),
    ):
        results[name] = len(again.devices) == 2 and is_exact(again, kept, queries, 50)
    results["shown"] = "devices=['CPU:1', 'CPU:0']" in repr(ranker)
    state = {**ranker.__getstate__(), "devices": ["GPU:7"]}
    moved = HammingRanker.__new__(HammingRanker)
    with warnings.catch_warnings(record=True) as caught:
        moved.__setstate__(state)
    results["elsewhere"] = moved.devices is None and is_exact(moved, kept, queries, 50)
    results["warned"] = "lacks devices" in str(caught[0].message)
    threads = threading.active_count()
    for _ in range(5):
        ranker.top_k(np.resize(queries, (200, 2)), 5)
    results["threads"] = threading.active_count() <= threads + 4  # those of its pool
    print(json.dumps(results))


@pytest.mark.slow
def test_two_devices_find_what_one_finds(tmp_path):
    root = pathlib.Path(kerashash.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, __file__],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.fspath(root), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == 28
    assert [name for name, right in results.items() if not right] == []


@pytest.mark.parametrize(
    "devices",
    [
        [],
        ["CPU:0", "cpu:0"],
        ["CPU:9"],
        ["CPU:0", "TPU:3"],
        [""],
        ["CPU"],
        ["nonsense/CPU:0"],
        ["/job:worker/replica:0/task:1/device:CPU:0"],
    ],
)
def test_devices_that_are_not_there(devices):
    with pytest.raises(ValueError, match=r"`devices` must be .*'CPU:0'.*Received"):
        HammingRanker([[1, 1]], devices=devices)


@pytest.mark.parametrize(
    "name",
    ["/cpu:0", "/device:CPU:0", "/job:localhost/replica:0/task:0/device:CPU:0"],
)
def test_names_of_devices_as_tensorflow_writes_them(name):
    ranker = HammingRanker([[1, 1]], devices=(each for each in [name]))
    assert ranker.devices == ["CPU:0"]
    with tf.device(name):  # TensorFlow takes it as well
        assert ranker.top_k([[1, -1]], 1)[0] == 1


@pytest.mark.parametrize(
    "devices", ["CPU:0", [0], 5, b"CPU:0", {"CPU:0": None}.values()]
)
def test_devices_that_are_no_names(devices):
    with pytest.raises(TypeError, match="`devices` must be a list of names"):
        HammingRanker([[1, 1]], devices=devices)


if __name__ == "__main__":
    main()
