"""A short form of the kill harness: 20 kills; the dear ones are marked slow."""

import kills
import pytest

SLOW = ("fit of DCDH", "to_saved_model", "train --recipe")


@pytest.fixture(scope="module")
def server():
    with kills.Server() as server:
        yield server


@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("downloads", 5),
        ("HammingRanker.save", 4),
        ("save_model", 3),
        ("zoo.save", 3),
        ("cache_features", 2),
        ("fit", 3),
        *(pytest.param(name, 1, marks=pytest.mark.slow) for name in SLOW),
    ],
)
def test_a_kill_loses_nothing_and_leaves_nothing(server, target, number):
    counts = kills.kill(server, target, number)
    assert counts["faults"] == []
    assert counts["kills"] == number
    assert counts["completed"] > 1
