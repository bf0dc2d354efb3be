"""The control run on the embedded models themselves: each gets the word that is known of it beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oubliette.audit.read_suite import build_suite
from oubliette.audit.result import Audit
from oubliette.backends import open_model
from oubliette.data.concept import Concept
from oubliette.eval.controls import filtered, shuffled
from oubliette.eval.surroundings import words_of
from oubliette.workflows.audit import audit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

EVALUATION = {"row": "evaluation", "n": 48, "each": 1, "near_n": 4}
RELEARN = {"row": "relearn", "attack": "F2", "at": [0, 8, 24, 64]}
HOW = {"pictures": 24, "kept": 8, "steps": 12}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of nano and gold, drawn once for all."""
    return tmp_path_factory.mktemp("cache")


def audited(model: Any, out: Path, cache: Path, *rows: dict[str, Any]) -> Audit:
    suite = build_suite({**HOW, "rows": [EVALUATION, *rows]})
    return audit(model, "nano", "car", out=out, suite=suite, cache=cache, show_progress=False).audit


def test_gold_is_erased(tmp_path: Path, cache: Path) -> None:
    found = audited("nano-gold", tmp_path / "out", cache, RELEARN)
    assert found.verdict.word == "erased", found.verdict
    own, gold = found.rows[1].of("model"), found.rows[1].of("gold")
    assert [curve.readings for curve in own] == [curve.readings for curve in gold]


def test_nano_knows_nothing_of_the_novel_pool(tmp_path: Path, cache: Path) -> None:
    """So that its concepts can stand in for gold; what it knows is refused."""
    from oubliette.audit.novel_reference import novel_facts
    from oubliette.core.errors import UserError
    from oubliette.workflows.audit_setup import set_up

    suite = build_suite({**HOW, "rows": [EVALUATION, RELEARN]})
    for name in ("bicycle", "umbrella", "mushroom"):
        made = set_up("nano-gold", "nano", "car", suite=suite, gold="novel", novel=name, cache=cache)
        found = novel_facts(made.bench)
        assert found is not None
        assert found.full.value > 0.8
        assert found.start.value < 0.1
    known = set_up("nano-gold", "nano", "car", suite=suite, gold="novel", novel="truck", cache=cache)
    with pytest.raises(UserError, match="the model knows 'truck' already"):
        novel_facts(known.bench)


def test_none_is_not_erased(tmp_path: Path, cache: Path) -> None:
    assert audited("nano", tmp_path / "out", cache).verdict.word == "not erased"


def test_random_weights_are_destroyed(tmp_path: Path, cache: Path) -> None:
    model = open_model("nano")
    with shuffled(model, 0):
        assert audited(model, tmp_path / "out", cache).verdict.word == "destroyed"


def test_a_prompt_filter_is_not_erased(tmp_path: Path, cache: Path) -> None:
    nano = open_model("nano")
    veiled = filtered(nano, words_of(nano, Concept("car", "object")))
    found = audited(veiled, tmp_path / "out", cache)
    assert found.verdict.word == "not erased"
    assert "in words that no eraser is given" in found.verdict.sentence
