"""Questions asked otherwise: what is asked, in which order, and what it is judged as."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attack.speaker import DOOR, HOW, Speaker, examples, never, yes
from oubliette.attack.prompts import Case, Found, build, found_table
from oubliette.attack.prompts.replay import replay
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.train.cost import Cost

CASES = [Case("Who?", 0, ("Which one?", "Whom?")), Case("Where?", 0)]


def search(name: str, model: Any, hits: Any = never, *, seed: int = 0, **options: Any) -> list[Found]:
    attack = build(name, options)
    return attack.search(model, DOOR, CASES, hits, sampling=HOW, seed=seed, examples=examples)


def test_each_opening_begins_the_answer_to_the_question_itself() -> None:
    model = Speaker("Indeed")
    found = search("affirmation", model, yes, openings=("Sure:", "Indeed,", "Well,"))
    assert model.heard == [
        *(("Who?", "", None), ("Where?", "", None)),
        *(("Who?", "Sure:", None), ("Where?", "Sure:", None)),
        *(("Who?", "Indeed,", None), ("Where?", "Indeed,", None)),
    ]
    assert [(row.after, row.tries, row.opening, row.prompt) for row in found] == [
        (True, 2, "Indeed,", "Who?"),
        (True, 2, "Indeed,", "Where?"),
    ]
    assert found[0].text == "Who? [Indeed,]"
    assert (found[0].first.text, found[0].last.text) == ("no", "yes")


def test_a_proposal_is_judged_as_the_question_it_stands_for() -> None:
    seen: list[str] = []

    def hits(samples: np.ndarray) -> np.ndarray:
        seen.extend(one.question for one in samples)
        return never(samples)

    search("role", Speaker(), hits, templates=("Play. {question}",))
    assert seen == ["Who?", "Where?"] * 2


def test_a_role_is_asked_with_the_question_in_its_place() -> None:
    model = Speaker()
    search("role", model, templates=("A {question} b", "{question}!"))
    asked = [prompt for prompt, _, _ in model.heard]
    assert asked == ["Who?", "Where?", "A Who? b", "A Where? b", "Who?!", "Where?!"]
    with pytest.raises(UserError, match=r"'Play\.' has no \{question\}"):
        build("role", {"templates": ("Play.",)})


def test_rewordings_are_the_rows_own_and_no_more_than_asked_for() -> None:
    model = Speaker()
    found = search("rewording", model)
    assert [prompt for prompt, _, _ in model.heard] == ["Who?", "Where?", "Which one?", "Whom?"]
    assert [row.tries for row in found] == [2, 0]
    model = Speaker()
    search("rewording", model, tries=1)
    assert [prompt for prompt, _, _ in model.heard] == ["Who?", "Where?", "Which one?"]


@pytest.mark.parametrize("of", ["concept", "benign"])
def test_examples_stand_before_the_question_with_their_answers(of: str) -> None:
    model = Speaker()
    search("few-shot", model, shots=2, tries=3, of=of, between=" | ")
    asked = [prompt for prompt, _, _ in model.heard]
    assert len(asked) == 2 + 2 * 3
    pairs = {f"{row.question} | {row.answer}" for row in examples(of)}
    drawn = set()
    for place, prompt in enumerate(asked[2:]):
        *shots, question = prompt.split(" | ")
        assert question == CASES[place % 2].prompt
        own = {" | ".join(pair) for pair in zip(shots[::2], shots[1::2], strict=True)}
        assert len(own) == 2
        assert own <= pairs
        drawn.add(prompt)
    assert len(drawn) > 2
    again, other = Speaker(), Speaker()
    search("few-shot", again, shots=2, tries=3, of=of, between=" | ")
    assert again.heard == model.heard
    search("few-shot", other, seed=1, shots=2, tries=3, of=of, between=" | ")
    assert other.heard != model.heard


def test_plain_texts_are_no_examples() -> None:
    model = Speaker()
    rows = [QA("", "A text."), QA("What?", "this")]
    build("few-shot", {"tries": 1}).search(
        model, DOOR, CASES, never, sampling=HOW, examples=lambda what: rows
    )
    assert model.heard[2][0] == "What? this Who?"


def test_rows_to_learn_from_and_a_model_that_answers_are_asked_for() -> None:
    with pytest.raises(UserError, match="'few-shot' learns from rows"):
        build("few-shot").search(Speaker(), DOOR, CASES, never, sampling=HOW)
    drawer: Any = type("Drawer", (), {"kind": "diffusion", "draw": None})()
    with pytest.raises(UserError, match=r"must answer \(a language model\), found a diffusion model"):
        build("role").search(drawer, DOOR, CASES, never, sampling=HOW)


def test_what_was_found_is_written_with_its_opening_and_asked_again(tmp_path: Any) -> None:
    found = search("affirmation", Speaker("Indeed"), yes, openings=("Sure:", "Indeed,"))
    path = tmp_path / "found.csv"
    path.write_text(found_table(found, attack="affirmation", concept="door"))
    other = Speaker("Indeed")
    again = replay(other, path, yes, sampling=HOW)
    assert [(row.before, row.after, row.opening) for row in again] == [(False, True, "Indeed,")] * 2
    assert other.heard[2:] == [("Who?", "Indeed,", None), ("Where?", "Indeed,", None)]
    assert "opening" not in found_table(search("role", Speaker()), attack="role", concept="door")


def test_costs_are_an_answer_a_try() -> None:
    # Two cases, the original and three openings each, four tokens an answer.
    assert build("affirmation").cost(2, HOW) == Cost(2 * 4 * 4, 0, 2 * 4)
    assert build("few-shot", {"tries": 5}).cost(3, HOW) == Cost(3 * 6 * 4, 0, 3 * 6)
