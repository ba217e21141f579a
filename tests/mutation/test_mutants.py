"""The mutants are run by hand; that they fit the code is seen to with everything else."""

from __future__ import annotations

import pytest
from mutation.mutate import MUTANTS, ROOT, Mutant, broken


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_changes_one_place_and_is_still_python(mutant: Mutant) -> None:
    assert broken(mutant) != (ROOT / mutant.file).read_text()
