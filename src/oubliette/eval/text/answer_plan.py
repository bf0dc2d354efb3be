"""Which questions an evaluation of a language model asks: to be forgotten, to be kept, of other matters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oubliette.core.errors import UserError
from oubliette.data.concept import FACTS, OTHER_FACTS, Concept
from oubliette.data.questions import QA
from oubliette.eval.plan import IN_SET, WITHHELD, Plan, PromptSet

__all__ = ["AnswerSets", "answer_plan"]


@dataclass(frozen=True)
class AnswerSets:
    """The rows that were to be forgotten, those like them that must stay, and those of other matters.

    `more` are further sets by name, which metrics alone read: "holdout" and "shots" as they say, others as
    sets that must stay. `name` is what the forget set is called. UserError where no row to forget, or none
    to keep, can be asked: plain text has no question, and a row with a history is asked only within it.
    """

    name: str
    forget: Sequence[QA]
    retain: Sequence[QA] = ()
    other: Sequence[QA] = ()
    more: Mapping[str, Sequence[QA]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _askable(self.forget):
            raise UserError(
                f"{self.name}: none of its {len(self.forget)} rows is a question with an answer that "
                "could be asked on its own"
            )
        if not _askable([*self.retain, *self.other]):
            raise UserError(
                f"{self.name}: nothing was named that must be kept, and without that neither what is lost "
                "nor what a judge finds by chance can be told; give --retain"
            )

    @property
    def concept(self) -> Concept:
        """The forget set, as what is measured."""
        return Concept(self.name, "", FACTS)


Expected = dict[Concept, dict[str, tuple[str, ...]]]
"""Right answers by question, for each set."""


def answer_plan(
    sets: AnswerSets, *, n: int | None = None, each: int | None = None, seed: int = 0
) -> tuple[Plan, Expected]:
    """A plan of `n` questions of the forget set and `each` of the sets to keep (None: all), and the right
    answers to all of them.

    Rows are chosen by the seed and a row's own words, so that a larger number extends a smaller one. Where
    rows have paraphrases these are the withheld split. Where the facts are certainly absent (the judge's
    floor) are the kept sets' questions, each held against the answer of a row to be forgotten: chance. That
    is the floor where there is no gold, which would know how well a question is guessed.
    """
    concept = sets.concept
    expected: Expected = {concept: {}}
    forget = _chosen(sets.forget, seed)
    pairs = {
        IN_SET: [(row.question, _right(row)) for row in forget],
        WITHHELD: [(row.paraphrases[0], _right(row)) for row in forget if row.paraphrases],
    }
    targets = [
        _asked("target", concept, split, found, n, expected) for split, found in pairs.items() if found
    ]
    retained, strangers = [], []
    for name, kind, rows in (("retain", FACTS, sets.retain), ("other", OTHER_FACTS, sets.other)):
        kept = _chosen(rows, seed)
        if kept:
            what = Concept(name, "", kind)
            asked = [(row.question, _right(row)) for row in kept]
            retained.append(_asked("retained", what, IN_SET, asked, each, expected))
            strangers += [row for row in kept if row.question not in expected[concept]]
    # Held against answers in the order of their hashes, whatever `n`: the judge is the same for every plan.
    by_words = sorted(forget, key=lambda row: (row.question, row.answer))
    chance = [(row.question, _right(by_words[_number(row) % len(by_words)])) for row in strangers]
    absent = [_asked("absent", concept, target.split, chance, n, expected) for target in targets if chance]
    plan = Plan(
        concepts=(concept,),
        near={concept: retained[0].concept.name} if sets.retain and retained else {},
        targets=tuple(targets),
        anchors=(),
        absent=tuple(absent),
        retained=tuple(retained),
        references=(),
        each=max((len(made) for made in retained), default=0),
        near_n=0,
        gold_alone=True,
    )
    return plan, expected


def _askable(rows: Sequence[QA]) -> list[QA]:
    return [row for row in rows if not row.plain and not row.history]


def _chosen(rows: Sequence[QA], seed: int) -> list[QA]:
    """The rows that can be asked, each question once, in the order of their hashes with the seed."""
    once = {row.question: row for row in reversed(_askable(rows))}

    def rank(row: QA) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.question}\0{row.answer}".encode()).digest()

    return sorted(once.values(), key=rank)


def _number(row: QA) -> int:
    return int.from_bytes(hashlib.sha256(row.question.encode()).digest()[:4], "big")


def _right(row: QA) -> tuple[str, ...]:
    return (row.answer, *row.alternatives)


def _asked(
    role: str,
    concept: Concept,
    split: str,
    pairs: Sequence[tuple[str, tuple[str, ...]]],
    count: int | None,
    expected: Expected,
) -> PromptSet:
    """A set of the first `count` questions; the right answers of all of them are kept."""
    expected.setdefault(concept, {}).update(pairs)
    questions = tuple(question for question, _ in pairs)[:count]
    return PromptSet(role, concept, split, questions, (0,) * len(questions))
