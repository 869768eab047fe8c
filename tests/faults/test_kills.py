"""A short form of the kill harness: 25 kills, of what is quick to run."""

import kills
import pytest


@pytest.fixture(scope="module")
def server():
    with kills.Server() as server:
        yield server


@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("downloads", 7),
        ("HammingRanker.save", 2),
        ("save_model", 3),
        ("zoo.save", 3),
        ("cache_features", 2),
        ("fit", 2),
        ("store.add", 3),
        ("store.compact", 2),
        pytest.param("to_saved_model", 1, marks=pytest.mark.slow),
    ],
)
def test_a_kill_loses_nothing_and_leaves_nothing(server, target, number):
    counts = kills.kill(server, target, number)
    assert counts["faults"] == []
    assert counts["kills"] == number
    assert counts["completed"] > 1
