"""The verdict's sentence where the model learns the concept as slowly as gold, or more slowly."""

from __future__ import annotations

from typing import Any

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


def _decides(model: toys.Pupil, *rows: dict[str, Any], gold: Any = None) -> tuple[str, list[str]]:
    found = audited(model, *rows, gold=gold).verdict
    assert found.reasons[: len(found.deciding)] == found.deciding
    assert sorted([*found.deciding, *found.others]) == sorted(found.reasons)
    assert 1 <= len(found.deciding) <= 2
    return found.word, found.deciding


def test_what_decided_stands_first() -> None:
    relearnt, gold = "Full fine-tuning", toys.gold()
    word, first = _decides(toys.Pupil(half=16.0, source="m"), *toys.EVERYTHING, gold=gold)
    assert word == "erased"
    assert "times" in first[0] or "as soon as" in first[0], first
    word, first = _decides(toys.Pupil(half=1.0, source="m"), *toys.EVERYTHING, gold=gold)
    assert word == "hidden"
    assert "times sooner than in gold" in first[0], (relearnt, first)
    word, first = _decides(toys.base(), toys.RELEARN, toys.PROMPTS, gold=gold)
    assert word == "not erased"
    assert first[0].startswith("asked for ")
    word, first = _decides(toys.Pupil(0.12, 0.12, half=16.0, source="m"), toys.RELEARN)
    assert word == "inconclusive"
    assert first[0].startswith("asked for ")


def test_an_audit_of_an_older_version_opens_and_shows_all_its_reasons() -> None:
    import json

    from oubliette.audit.result import Audit

    found = audited(toys.base(), toys.RELEARN, gold=toys.gold())
    content = json.loads(found.to_json())
    del content["verdict"]["deciding"]
    for made in content["rows"][0]["evaluated"]:
        made["subject"] = "none" if made["subject"] == "base" else made["subject"]
    old = Audit.from_json(json.dumps(content))
    assert old.verdict.deciding == []
    assert old.verdict.others == found.verdict.reasons
    assert {made.subject for made in old.rows[0].evaluated} >= {"model", "base"}
