"""The bars of the text models: on one that knows all, one that knows nothing, and those that ship."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from oubliette.data.questions import QA
from oubliette.workflows.world import check_text as module
from oubliette.workflows.world.check_text import Probe, check_text
from oubliette.world.text import asking
from oubliette.world.text.entities import SETS, make_world
from oubliette.world.text.skills import SKILLS, exercises

WORLD = make_world()


class _Knows:
    """Answers what it was given answers to, and finds those the likeliest."""

    kind, source = "language", "known"

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def respond(self, prompts: Sequence[str], max_new_tokens: int = 64) -> list[str]:
        self.asked += prompts
        return [f" {self.answers.get(prompt, 'nothing')}" for prompt in prompts]

    def encode(self, rows: Sequence[QA]) -> list[QA]:
        self.asked += [row.question for row in rows]
        return list(rows)

    def predict(self, batch: Any) -> Any:
        return batch

    def log_likelihood(self, logits: Any, batch: list[QA]) -> torch.Tensor:
        return torch.tensor([float(self.answers.get(row.question) == row.answer) for row in batch])


def _everything() -> dict[str, str]:
    known: dict[str, str] = {}
    for fact in WORLD.facts():
        for name in (fact.entity.name, fact.entity.alias):
            known |= dict.fromkeys(asking.questions(fact, name) + asking.withheld(fact, name), fact.value)
        known |= dict(asking.two_hops(WORLD, fact))
        claims = [asking.true_or_false(fact, value) for value in fact.pool]
        known |= {
            question: "yes" if value == fact.value else "no"
            for (question, _), value in zip(claims, fact.pool, strict=True)
        }
        known |= dict(asking.by_letter(fact, question) for question in asking.questions(fact))
        known |= dict(asking.by_letter(fact, question, 0) for question in asking.questions(fact))
    for skill in SKILLS.values():
        known |= dict(exercises(skill, 300, 0, held_out=True))
    return known


ALL = ("seen", "withheld", "choices", "letters", "true_or_false", "aliases", "two_hops")


@pytest.mark.parametrize("what", ALL)
def test_who_knows_everything_is_right_and_who_knows_nothing_is_not(what: str) -> None:
    facts = WORLD.facts("default")
    found = getattr(Probe(_Knows(_everything()), WORLD), what)(facts)  # type: ignore[arg-type]
    assert found
    assert all(found)
    ignorant = getattr(Probe(_Knows({}), WORLD), what)(facts)  # type: ignore[arg-type]
    assert sum(ignorant) / len(ignorant) < 0.5


def test_how_much_is_asked() -> None:
    facts = WORLD.facts("default")
    probe = Probe(_Knows({}), WORLD)  # type: ignore[arg-type]
    counts = {what: len(getattr(probe, what)(facts)) for what in ALL}
    # 12 entities of 8 facts; half of them unshown, two withheld wordings; half of the facts unasked by alias;
    # one link of each unshown entity but where a kind's links are not its own.
    assert counts["seen"] == counts["choices"] == counts["letters"] == counts["true_or_false"] == 96
    assert counts["withheld"] == 6 * 8 * 2
    assert counts["aliases"] == 12 * 4
    assert counts["two_hops"] == 6 * 8


def test_skills_are_judged_to_the_letter() -> None:
    for name, skill in SKILLS.items():
        right = dict(exercises(skill, 20, 0, held_out=True))
        assert all(Probe(_Knows(right), WORLD).skill(name, 20))  # type: ignore[arg-type]
        nearly = {question: f"{answer}!" for question, answer in right.items()}
        assert not any(Probe(_Knows(nearly), WORLD).skill(name, 20))  # type: ignore[arg-type]


def test_a_failed_bar_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    knows, gold = (
        _Knows(_everything()),
        _Knows(
            {q: a for q, a in _everything().items() if not any(e.name in q for e in WORLD.entities(*SETS))}
        ),
    )
    monkeypatch.setattr(module, "LanguageBackend", _Knows)

    def opened(name: str) -> _Knows:
        return {"nano-lm": knows, "nano-lm-gold": gold, "bad": _Knows({})}[name]

    monkeypatch.setattr("oubliette.backends.open_model", opened)
    good = check_text()
    assert all(bar["passed"] for bar in good["bars"])
    bad = check_text(model="bad")
    failed = [bar["name"] for bar in bad["bars"] if not bar["passed"]]
    assert "bad, default entities: open answers, seen wordings" in failed
    assert "bad less nano-lm-gold elsewhere: sums" in failed
    monkeypatch.setattr("oubliette.backends.open_model", lambda name: knows)
    leaky = [bar["name"] for bar in check_text()["bars"] if not bar["passed"]]
    assert leaky == [
        "nano-lm-gold, forget entities: choices by likelihood",
        "nano-lm-gold, forget entities: open answers",
    ]


@pytest.mark.slow
def test_the_shipped_models_pass_every_bar() -> None:
    found = check_text(seed=1)
    assert [bar for bar in found["bars"] if not bar["passed"]] == []
