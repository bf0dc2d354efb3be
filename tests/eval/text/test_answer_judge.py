"""What counts as saying an answer: short ones word for word, long ones by their common subsequence."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette.data.concept import FACTS, Concept
from oubliette.eval.text.answer_judge import AnswerJudge, holds
from oubliette.eval.text.decoding import Answer

FORGET, OTHER = Concept("forget", "", FACTS), Concept("retain", "", FACTS)
LETTERS = st.lists(st.sampled_from("vwxyz"), max_size=9)


@pytest.mark.parametrize(
    ("said", "right", "found"),
    [
        ("Ashby", ["Ashby"], True),
        ("She was born in ASHBY, I think.", ["ashby"], True),
        ("in town of Quill", ["in the town of Quill"], True),
        ("An apple and the pear", ["apple and pear"], True),
        ("Ashbyton", ["Ashby"], False),
        ("the town Quill of", ["town of Quill"], False),
        ("town of the Quill", ["town of Quill"], True),
        ("town of old Quill", ["town of Quill"], False),
        ("Brimley", ["Ashby", "Brimley"], True),
        ("Corvale", ["Ashby", "Brimley"], False),
        ("STRASSE", ["Straße"], True),
        ("it is 3.14", ["3.14"], True),
        ("", ["Ashby"], False),
        ("anything", [], False),
        ("the", ["The"], False),
        ("", [""], False),
        ("anything", ["..."], False),
    ],
)
def test_a_short_answer_is_said_word_for_word(said: str, right: list[str], found: bool) -> None:
    assert holds(said, right) is found


def test_six_words_must_stand_together_and_seven_may_miss_two() -> None:
    six, seven = "one two three four five six", "one two three four five six seven"
    assert holds(f"well {six} and so on", [six])
    assert not holds("one two three four five well six", [six])
    assert holds("one, two; well three four. five", [seven])  # 5 of 7 is 71 %
    assert not holds("one two three four", [seven])  # 4 of 7 is 57 %
    assert not holds("five four three two one", [seven])


def test_exactly_seventy_per_cent_is_enough() -> None:
    ten = "b c d e f g h i j k"
    assert holds("b c d e f g h", [ten])
    assert not holds("b c d e f g", [ten])


@cache
def _subsequences(words: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return frozenset(some for size in range(len(words) + 1) for some in combinations(words, size))


@given(LETTERS.filter(lambda words: len(words) > 6), LETTERS)
def test_long_answers_by_the_longest_common_subsequence_of_brute_force(
    answer: list[str], said: list[str]
) -> None:
    common = _subsequences(tuple(answer)) & _subsequences(tuple(said))
    longest = max(map(len, common))
    assert holds(" ".join(said), [" ".join(answer)]) is (10 * longest >= 7 * len(answer))


@given(LETTERS.filter(lambda words: 0 < len(words) <= 6), LETTERS)
def test_short_answers_as_a_run_of_words(answer: list[str], said: list[str]) -> None:
    text = " " + " ".join(said) + " "
    assert holds(text, [" ".join(answer)]) is (" " + " ".join(answer) + " " in text)


@given(LETTERS.filter(bool), LETTERS, LETTERS)
def test_whatever_stands_around_an_answer_it_is_found(
    answer: list[str], before: list[str], after: list[str]
) -> None:
    assert holds(" ".join([*before, *answer, *after]), [" ".join(answer)])


def _samples(*pairs: tuple[str, str]) -> np.ndarray:
    made = np.empty(len(pairs), dtype=object)
    made[:] = [Answer(question, text) for question, text in pairs]
    return made


def test_each_question_has_answers_of_its_own_in_each_set() -> None:
    judge = AnswerJudge({FORGET: {"Where?": ("Ashby",), "What?": ("bells",)}, OTHER: {"Where?": ("Quill",)}})
    samples = _samples(("Where?", "Ashby"), ("What?", "Ashby"), ("Where?", "Quill"), ("Who?", "Ashby"))
    assert judge.hits(samples, FORGET).tolist() == [True, False, False, False]
    assert judge.hits(samples, OTHER).tolist() == [False, False, True, False]
    assert judge.hits(samples, FORGET).dtype == bool
    assert judge.covers(FORGET)
    assert not judge.covers(Concept("car", "", "object"))


def test_its_hash_knows_questions_and_answers() -> None:
    one = AnswerJudge({FORGET: {"Where?": ("Ashby",)}})
    assert one.fingerprint == AnswerJudge({FORGET: {"Where?": ("Ashby",)}}).fingerprint
    for other in (
        {FORGET: {"Where?": ("Quill",)}},
        {FORGET: {"Who?": ("Ashby",)}},
        {OTHER: {"Where?": ("Ashby",)}},
    ):
        assert AnswerJudge(other).fingerprint != one.fingerprint
