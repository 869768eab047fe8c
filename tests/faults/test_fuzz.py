"""A short form of the fuzz harness: 300 damaged files, dealt out to the loaders."""

import fuzz
import pytest

EACH = 300 // len(fuzz.TARGETS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    fuzz.prepare(root)
    return root


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_damaged_files_are_refused_by_name_or_accepted(root, target, monkeypatch):
    monkeypatch.setenv("KERASHASH_CACHE", str(root / "cache"))
    counts = fuzz.fuzz(root, target, range(EACH))
    assert [error for _, error in counts["other errors"]] == []
    assert counts["refused by name"] + counts["accepted"] == EACH
    assert counts["refused by name"] > EACH // 3
