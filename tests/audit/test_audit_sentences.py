"""The verdict's sentence where the model learns the concept as slowly as gold, or more slowly."""

from __future__ import annotations

import pytest

from audit import toys
from audit.test_audit_controls import audited

CASES = {
    # Half-way after so many steps: the model, gold; the attack has 64.
    "both": (16.0, 12.0, r"it was half-way back after \d+ steps; a model that never knew it needs \d+\."),
    "gold alone": (
        900.0,
        12.0,
        r"it was not half-way back within 64 steps; a model that never knew it needs \d+\.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_erased(case: str) -> None:
    import re

    own, gold, said = CASES[case]
    model = toys.Pupil(half=own, source="model")
    found = audited(model, toys.RELEARN, gold=toys.Pupil(half=gold, source="gold"))
    assert found.verdict.word == "erased"
    assert re.search(said, found.verdict.sentence), found.verdict.sentence
    if case == "gold alone":
        assert "times later than in gold" in " ".join(found.verdict.reasons)
