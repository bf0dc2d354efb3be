"""Which questions an evaluation of a language model asks: to be forgotten, to be kept, of other matters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from oubliette.core.errors import UserError
from oubliette.data.concept import FACTS, OTHER_FACTS, Concept
from oubliette.data.questions import QA
from oubliette.eval.plan import IN_SET, WITHHELD, Plan, PromptSet

__all__ = ["AnswerSets", "answer_plan"]


@dataclass(frozen=True)
class AnswerSets:
    """The rows that were to be forgotten, those like them that must stay, and those of other matters.

    `name` is what the forget set is called. UserError where no forget row can be asked: plain text has no
    question, and a row with a history is asked only within it.
    """

    name: str
    forget: Sequence[QA]
    retain: Sequence[QA] = ()
    other: Sequence[QA] = ()

    def __post_init__(self) -> None:
        if not _askable(self.forget):
            raise UserError(
                f"{self.name}: none of its {len(self.forget)} rows is a question with an answer that "
                "could be asked on its own"
            )

    @property
    def concept(self) -> Concept:
        """The forget set, as what is measured."""
        return Concept(self.name, "", FACTS)


def answer_plan(
    sets: AnswerSets, *, n: int, each: int, seed: int
) -> tuple[Plan, dict[Concept, dict[str, tuple[str, ...]]]]:
    """A plan of `n` questions of the forget set and `each` of the sets to keep, and the right answers.

    Rows are chosen by the seed and a row's own words, so that a larger number extends a smaller one. Where
    rows have paraphrases these are the withheld split. Where the facts are certainly absent (the judge's
    floor) are the kept set's questions, each held against the answer of a row to be forgotten: chance.
    """
    concept = sets.concept
    expected: dict[Concept, dict[str, tuple[str, ...]]] = {concept: {}}
    forget = _chosen(sets.forget, n, seed)
    targets = [_asked("target", concept, IN_SET, [(row.question, _right(row)) for row in forget], expected)]
    reworded = [(row.paraphrases[0], _right(row)) for row in forget if row.paraphrases]
    if reworded:
        targets.append(_asked("target", concept, WITHHELD, reworded, expected))
    retained, absent = [], []
    for name, kind, rows in (("retain", FACTS, sets.retain), ("other", OTHER_FACTS, sets.other)):
        kept = _chosen(rows, each, seed)
        if kept:
            what = Concept(name, "", kind)
            asked = [(row.question, _right(row)) for row in kept]
            retained.append(_asked("retained", what, IN_SET, asked, expected))
    strangers = _chosen(sets.retain or sets.other, n, seed)
    if strangers:
        answers = [_right(forget[index % len(forget)]) for index in range(len(strangers))]
        pairs = [(row.question, right) for row, right in zip(strangers, answers, strict=True)]
        own = expected[concept]
        pairs = [pair for pair in pairs if pair[0] not in own]
        absent = [_asked("absent", concept, split.split, pairs, expected) for split in targets]
    plan = Plan(
        concepts=(concept,),
        near={},
        targets=tuple(targets),
        anchors=(),
        absent=tuple(item for item in absent if len(item)),
        retained=tuple(retained),
        references=(),
        each=each,
        near_n=0,
    )
    return plan, expected


def _askable(rows: Sequence[QA]) -> list[QA]:
    return [row for row in rows if not row.plain and not row.history]


def _chosen(rows: Sequence[QA], count: int, seed: int) -> list[QA]:
    """`count` rows that can be asked, by the hash of seed and row, each question once."""
    once = {row.question: row for row in reversed(_askable(rows))}

    def rank(row: QA) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.question}\0{row.answer}".encode()).digest()

    return sorted(once.values(), key=rank)[:count]


def _right(row: QA) -> tuple[str, ...]:
    return (row.answer, *row.alternatives)


def _asked(
    role: str,
    concept: Concept,
    split: str,
    pairs: Sequence[tuple[str, tuple[str, ...]]],
    expected: dict[Concept, dict[str, tuple[str, ...]]],
) -> PromptSet:
    expected.setdefault(concept, {}).update(pairs)
    questions = tuple(question for question, _ in pairs)
    return PromptSet(role, concept, split, questions, (0,) * len(questions))
