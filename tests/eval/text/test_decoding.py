"""How questions are put: greedily, at most so many tokens, kept under what determines an answer."""

from __future__ import annotations

from typing import Any

from oubliette.eval.sample_store import SampleStore
from oubliette.eval.text.decoding import Answer, Decoding


class _Parrot:
    source = "parrot"

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], int]] = []

    def fingerprint(self) -> str:
        return "parrot"

    def respond(self, prompts: list[str], max_new_tokens: int = 64) -> list[str]:
        self.asked.append((list(prompts), max_new_tokens))
        return [f"  {prompt}!\n" for prompt in prompts]


def test_answers_come_with_their_questions_and_without_blanks() -> None:
    model, how = _Parrot(), Decoding(5)
    made = how.together(["a", "b"], how.make(model, ["a", "b"], [0, 0]))
    assert made.tolist() == [Answer("a", "a!"), Answer("b", "b!")]
    assert model.asked == [(["a", "b"], 5)]


def test_tokens_are_the_cost_and_a_part_of_the_key() -> None:
    model: Any = _Parrot()
    assert Decoding(12).passes == 12
    assert Decoding(12).shortened() == Decoding(3)
    assert Decoding(2).shortened() == Decoding(2)
    assert Decoding(12).facts(model) != Decoding(13).facts(model)
    assert Decoding(12, batch=1).facts(model) == Decoding(12).facts(model)


def test_the_store_asks_each_question_once_in_batches() -> None:
    model, store = _Parrot(), SampleStore()
    made = store.draw(model, ["a", "b", "a", "c"], [0] * 4, Decoding(4, batch=2))
    assert [one.text for one in made] == ["a!", "b!", "a!", "c!"]
    assert [prompts for prompts, _ in model.asked] == [["a", "b"], ["c"]]
    store.draw(model, ["a"], [0], Decoding(4))
    assert len(model.asked) == 2
    store.draw(model, ["a"], [0], Decoding(5))
    assert len(model.asked) == 3


def test_words_have_no_distance() -> None:
    made = Decoding().together(["a"], ["b"])
    assert Decoding().distances(made, made) is None
