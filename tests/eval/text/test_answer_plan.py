"""Which questions are asked, and what each is held against."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_facts
from oubliette.core.errors import UserError
from oubliette.data.concept import FACTS, OTHER_FACTS
from oubliette.data.questions import QA
from oubliette.eval.plan import IN_SET, WITHHELD, PromptSet
from oubliette.eval.text.answer_plan import AnswerSets, answer_plan


def _qa(row: dict) -> QA:
    return QA(row["question"], row["answer"], paraphrases=tuple(row["paraphrases"]))


FORGET, RETAIN = ([_qa(row) for row in rows] for rows in tiny_facts.sets())
OTHER = [QA("What is the capital of France?", "Paris"), QA("How many legs has a spider?", "eight")]
SETS = AnswerSets("facts", FORGET, RETAIN, OTHER)


def _by(sets: tuple[PromptSet, ...], split: str) -> PromptSet:
    return next(one for one in sets if one.split == split)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 5))
def test_a_larger_number_extends_a_smaller_one(few: int, more: int, seed: int) -> None:
    few, more = sorted((few, more))
    small, large = (answer_plan(SETS, n=n, each=n, seed=seed)[0] for n in (few, more))
    for role in ("targets", "absent", "retained"):
        for one, other in zip(getattr(small, role), getattr(large, role), strict=True):
            assert other.prompts[: len(one.prompts)] == one.prompts


def test_the_judge_is_the_same_for_every_number_but_knows_all_answers() -> None:
    assert answer_plan(SETS, n=3, each=2)[1] == answer_plan(SETS)[1]


def test_the_judge_is_the_same_for_every_seed_and_order_of_rows() -> None:
    assert answer_plan(SETS, seed=1)[1] == answer_plan(SETS)[1]
    turned = AnswerSets("facts", FORGET[::-1], RETAIN[::-1], OTHER[::-1])
    assert answer_plan(turned)[1] == answer_plan(SETS)[1]


def test_the_seed_chooses() -> None:
    one, other = (answer_plan(SETS, n=8, each=8, seed=seed)[0] for seed in (0, 1))
    assert set(one.targets[0].prompts) != set(other.targets[0].prompts)


def test_every_question_is_held_against_its_own_answer_and_alternatives() -> None:
    rows = [QA("Where?", "Ashby", alternatives=("Old Ashby",), paraphrases=("Of which town?", "Whence?"))]
    plan, expected = answer_plan(AnswerSets("f", rows, [QA("What?", "bells")]))
    assert plan.targets[0].prompts == ("Where?",)
    assert plan.targets[1].prompts == ("Of which town?",)
    own = expected[plan.concepts[0]]
    assert own["Where?"] == own["Of which town?"] == ("Ashby", "Old Ashby")
    assert expected[plan.retained[0].concept] == {"What?": ("bells",)}


def test_paraphrases_are_the_withheld_split() -> None:
    plan, _ = answer_plan(SETS)
    assert [one.split for one in plan.targets] == [IN_SET, WITHHELD]
    assert set(_by(plan.targets, WITHHELD).prompts) == {row.paraphrases[0] for row in FORGET}
    bare = [QA(row.question, row.answer) for row in FORGET]
    assert [one.split for one in answer_plan(AnswerSets("f", bare, RETAIN))[0].targets] == [IN_SET]


def test_the_floor_is_taken_on_kept_questions_held_against_forgotten_answers() -> None:
    plan, expected = answer_plan(SETS)
    forgotten = {row.answer for row in FORGET}
    questions = {row.question for row in FORGET} | {row.paraphrases[0] for row in FORGET}
    for one in plan.absent:
        assert set(one.prompts) == {row.question for row in [*RETAIN, *OTHER]}
        assert not questions & set(one.prompts)
        for asked in one.prompts:
            assert set(expected[one.concept][asked]) <= forgotten
    assert [one.split for one in plan.absent] == [one.split for one in plan.targets]


def test_a_row_of_both_sets_is_never_taken_as_absent() -> None:
    both = FORGET[0]
    plan, expected = answer_plan(AnswerSets("f", FORGET, [both, *RETAIN]))
    assert all(both.question not in one.prompts for one in plan.absent)
    assert expected[plan.concepts[0]][both.question] == (both.answer,)
    assert both.question in plan.retained[0].prompts


def test_what_must_stay_is_of_its_own_kind_or_of_another() -> None:
    plan, _ = answer_plan(SETS, n=4, each=2)
    assert [(one.concept.name, one.concept.kind, len(one)) for one in plan.retained] == [
        ("retain", FACTS, 2),
        ("other", OTHER_FACTS, 2),
    ]
    assert plan.near == {plan.concepts[0]: "retain"}
    only = answer_plan(AnswerSets("f", FORGET, (), OTHER))[0]
    assert only.near == {}
    assert [one.concept.name for one in only.retained] == ["other"]


def test_a_question_that_stands_twice_is_asked_once_by_its_first_row() -> None:
    rows = [QA("Where?", "Ashby"), QA("Where?", "Quill")]
    plan, expected = answer_plan(AnswerSets("f", rows, RETAIN))
    assert plan.targets[0].prompts == ("Where?",)
    assert expected[plan.concepts[0]]["Where?"] == ("Ashby",)


def test_plain_text_and_conversations_are_not_asked() -> None:
    mixed = [
        QA("", "A plain text."),
        QA("And then?", "home", history=(("user", "Hi"),)),
        QA("Where?", "Ashby"),
    ]
    plan, _ = answer_plan(AnswerSets("f", mixed, [QA("", "More text."), QA("What?", "bells")]))
    assert plan.targets[0].prompts == ("Where?",)
    assert plan.retained[0].prompts == ("What?",)


@pytest.mark.parametrize(
    ("forget", "retain", "said"),
    [
        ([QA("", "plain")], RETAIN, "f: none of its 1 rows is a question with an answer"),
        (FORGET, [], "f: nothing was named that must be kept"),
        (FORGET, [QA("", "plain")], "f: nothing was named that must be kept"),
    ],
)
def test_what_cannot_be_asked_is_one_line(forget: list[QA], retain: list[QA], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        AnswerSets("f", forget, retain)
    assert "\n" not in str(caught.value)
