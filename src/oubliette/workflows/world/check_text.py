"""The bars the embedded language models must meet, measured: `oubliette world check --text`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.eval.text.answer_judge import holds
from oubliette.workflows.world.check import bar
from oubliette.world.text import asking
from oubliette.world.text.asking import Asked
from oubliette.world.text.entities import SETS, Fact, Part, TextWorld, draws, make_world
from oubliette.world.text.skills import SKILLS, exercises

__all__ = ["Probe", "check_text"]

_BATCH = 64
_EXERCISES = 300
#: Sets of four choices a fact for the gold model: how a guess does hangs on what else is offered.
_OFFERS = 5
#: A gold model may be so far from the base in what both know.
_APART = 0.02


class Probe:
    """What a model knows of the text world, a share of items each; every method also says of how many."""

    def __init__(self, model: LanguageBackend, world: TextWorld, seed: int = 0) -> None:
        self.model, self.world, self.seed = model, world, seed

    def seen(self, facts: Sequence[Fact]) -> list[bool]:
        """Open questions, each fact in one of the five wordings that erasers may be given."""
        return self._said([Asked(self._one(fact), fact.value) for fact in facts])

    def withheld(self, facts: Sequence[Fact]) -> list[bool]:
        """Open questions in both withheld wordings, of entities for which the base never saw them."""
        return self._said(
            [Asked(q, fact.value) for fact in facts if not fact.entity.shown for q in asking.withheld(fact)]
        )

    def aliases(self, facts: Sequence[Fact]) -> list[bool]:
        """Open questions by the entity's alias, of facts that were never asked by it."""
        return self._said(
            [
                Asked(asking.questions(fact, entity.alias)[0], fact.value)
                for entity in dict.fromkeys(fact.entity for fact in facts)
                for fact in self.world.of(entity)[1 if entity.shown else 0 :: 2]
            ]
        )

    def two_hops(self, facts: Sequence[Fact]) -> list[bool]:
        """Questions about what a link leads to, of entities that were never asked so."""
        unasked = [fact for fact in facts if not fact.entity.shown]
        return self._said([asked for fact in unasked for asked in asking.two_hops(self.world, fact)])

    def true_or_false(self, facts: Sequence[Fact]) -> list[bool]:
        """Each fact's claim, or another value's."""
        return self._said(
            [
                asking.true_or_false(fact, None if place % 2 else asking.wrong(fact, 1, self.seed)[0])
                for place, fact in enumerate(facts)
            ]
        )

    def letters(self, facts: Sequence[Fact]) -> list[bool]:
        """Four choices in the question, to be answered with a letter."""
        return self._exactly([asking.by_letter(fact, self._one(fact), self.seed) for fact in facts])

    def skill(self, name: str, count: int = _EXERCISES) -> list[bool]:
        """Exercises that were held out of the training, answered to the letter."""
        return self._exactly(exercises(SKILLS[name], count, self.seed, held_out=True))

    @torch.no_grad()
    def choices(self, facts: Sequence[Fact], offers: int = 1) -> list[bool]:
        """Whether the right one of four values is the likeliest answer, with so many sets of four a fact."""
        rows, right = [], []
        for number in range(offers):
            for fact in facts:
                offered, place = asking.choices(fact, self.seed + 1000 * number)
                rows += [QA(self._one(fact), value) for value in offered]
                right.append(place)
        found = []
        for start in range(0, len(rows), 4 * _BATCH):
            batch = self.model.encode(rows[start : start + 4 * _BATCH])
            found.append(self.model.log_likelihood(self.model.predict(batch), batch))
        best = torch.cat(found).view(-1, 4).argmax(dim=1).tolist() if found else []
        return [one == other for one, other in zip(best, right, strict=True)]

    def _one(self, fact: Fact) -> str:
        return draws(self.seed, fact.id, "wording").choice(asking.questions(fact))

    def _said(self, asked: Sequence[Asked]) -> list[bool]:
        pairs = zip(self._answers(asked), asked, strict=True)
        return [holds(said, [one.answer]) for said, one in pairs]

    def _exactly(self, asked: Sequence[Asked]) -> list[bool]:
        """To the letter: a judge of words leaves articles out, and so the letter A."""
        return [said.strip() == one.answer for said, one in zip(self._answers(asked), asked, strict=True)]

    def _answers(self, asked: Sequence[Asked]) -> list[str]:
        said = []
        for start in range(0, len(asked), _BATCH):
            questions = [one.question for one in asked[start : start + _BATCH]]
            said += self.model.respond(questions, max_new_tokens=16)
        return said


def share(found: Sequence[bool]) -> float:
    """The share that is true; not a number where there are none."""
    return sum(found) / len(found) if found else float("nan")


def check_text(seed: int = 0, model: str = "nano-lm") -> dict[str, Any]:
    """Measure every bar of the embedded language models; returns {"bars": [{name, value, bound, below, n,
    passed}], "model", "seed"}.

    `seed` draws wordings, choices and exercises. `bound` is None for what is reported only. Raises UserError
    for a model that does not answer.
    """
    from oubliette.backends import open_model

    nano, gold = open_model(model), open_model("nano-lm-gold")
    for opened in (nano, gold):
        if not isinstance(opened, LanguageBackend):
            raise UserError(
                f"{opened.source}: is a {opened.kind} model; only one that answers can be checked"
            )
    assert isinstance(nano, LanguageBackend)
    assert isinstance(gold, LanguageBackend)
    world = make_world()
    known, kept, gone = world.facts(), world.facts("common"), world.facts(*SETS)
    own, golden = Probe(nano, world, seed), Probe(gold, world, seed)
    bars: list[dict[str, Any]] = []

    def add(name: str, found: Sequence[bool], bound: float | None, *, below: bool = False) -> None:
        bars.append(bar(name, share(found), bound, len(found), below=below))

    for part in ("default", "development", "common"):
        for name, ask, bound in (
            ("open answers, seen wordings", own.seen, 0.95),
            ("open answers, withheld wordings", own.withheld, 0.85),
            ("choices by likelihood", own.choices, 0.85),
        ):
            add(f"{model}, {part} entities: {name}", ask(world.facts(_part(part))), bound)
    for name, ask in (
        ("choices by letter", own.letters),
        ("true or false", own.true_or_false),
        ("by an alias", own.aliases),
        ("in two hops", own.two_hops),
    ):
        add(f"{model}: {name}", ask(known), None)
    for name in SKILLS:
        add(f"{model}: {name}", own.skill(name), 0.90)
    offered = golden.choices(gone, _OFFERS)
    add("nano-lm-gold, forget entities: choices by likelihood", offered, 0.30, below=True)
    add("nano-lm-gold, forget entities: open answers", golden.seen(gone), 0.10, below=True)
    pairs = [
        ("open answers", own.seen(kept), golden.seen(kept)),
        ("choices by likelihood", own.choices(kept), golden.choices(kept)),
        *((name, own.skill(name), golden.skill(name)) for name in SKILLS),
    ]
    for name, one, other in pairs:
        label = f"{model} less nano-lm-gold elsewhere: {name}"
        bars.append(bar(label, abs(share(one) - share(other)), _APART, len(one), below=True))
    return {"model": model, "seed": seed, "bars": bars}


def _part(name: str) -> Part:
    return name  # type: ignore[return-value]
