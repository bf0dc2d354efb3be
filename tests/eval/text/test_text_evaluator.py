"""Measuring answers: how many tokens they may have, what is planned, what a forget set cannot be asked."""

from __future__ import annotations

from typing import Any

import pytest

import tiny_facts
from oubliette.core.errors import UserError
from oubliette.data.concept import FACTS, Concept
from oubliette.data.questions import QA
from oubliette.eval.text.answer_judge import AnswerJudge
from oubliette.eval.text.answer_plan import AnswerSets
from oubliette.eval.text.decoding import Decoding
from oubliette.eval.text.evaluator import AnswerEvaluator

FORGET, RETAIN = ([QA(row["question"], row["answer"]) for row in rows] for rows in tiny_facts.sets())


class Counts:
    """Counts letters where a model counts tokens."""

    def encode(self, rows: list[QA]) -> Counts:
        self.found = [len(row.answer) for row in rows]
        return self

    def counts(self) -> list[int]:
        return self.found


def evaluator(forget: list[QA] = FORGET, retain: list[QA] = RETAIN, **more: Any) -> AnswerEvaluator:
    return AnswerEvaluator(Counts(), AnswerSets("facts", forget, retain), **more)


def test_an_answer_may_be_eight_tokens_longer_than_the_longest_right_one() -> None:
    longest = max(len(row.answer) for row in [*FORGET, *RETAIN])
    assert evaluator().sampling == Decoding(longest + 8)
    assert evaluator(retain=[*RETAIN, QA("Long?", "x" * 30)]).sampling == Decoding(38)
    assert evaluator([*FORGET, QA("Long?", "x" * 56)]).sampling == Decoding(64)
    assert evaluator([*FORGET, QA("Long?", "x" * 500)]).sampling == Decoding(64)
    assert evaluator([*FORGET, QA("", "x" * 50)]).sampling == Decoding(longest + 8)
    other = AnswerEvaluator(Counts(), AnswerSets("f", FORGET, RETAIN, [QA("Other?", "x" * 20)]))
    assert other.sampling == Decoding(28)
    assert evaluator(decoding=Decoding(5)).sampling == Decoding(5)


def test_what_is_planned_is_as_many_of_every_set() -> None:
    made = evaluator().plan(n=5)
    assert [len(one) for one in made.targets] == [5]
    assert [len(one) for one in made.retained] == [5]
    assert [len(one) for one in evaluator().plan(n=5, each=3).retained] == [3]
    assert evaluator().plan(n=5, seed=1).targets[0].prompts != made.targets[0].prompts


def test_its_judge_knows_all_rows_whatever_is_planned() -> None:
    found = evaluator()
    (judge,) = found.judges
    assert isinstance(judge, AnswerJudge)
    assert found.concepts == [Concept("facts", "", FACTS)]
    assert judge.covers(found.concepts[0])
    assert judge.covers(Concept("retain", "", FACTS))
    mine: Any = object()
    assert evaluator(judges=[mine]).judges == [mine]


def test_nothing_is_known_of_other_concepts() -> None:
    with pytest.raises(UserError, match="car, dog: a model that answers is asked about the rows"):
        evaluator().about([Concept("car", ""), Concept("dog", "")])
    assert evaluator().words == []
    assert evaluator().settings()["sampler"] == "greedy"
