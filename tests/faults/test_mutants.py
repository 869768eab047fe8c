"""The list of mutants fits the code as it is."""

import mutants
import pytest


def test_mutants_replace_text_that_is_there():
    for mutant in mutants.read():
        compile(mutant.applied(), mutant.file, "exec")  # code that runs, and is wrong
        assert (mutants.ROOT / mutant.tests).is_file()


def test_text_that_is_not_there_exactly_once_is_refused():
    for text in ("no such text", "def "):
        mutant = mutants.Mutant("m", "codes.py", text, "x", "tests/test_codes.py", "x")
        with pytest.raises(ValueError, match=r"'m' must replace.*codes\.py. It is"):
            mutant.applied()
