"""Skills by their own rules, and held-out exercises that training does not hold."""

from __future__ import annotations

import re

import pytest

from oubliette.world.text.skills import SKILLS, UNSEEN, Skill, exercises
from oubliette.world.text.words import PLAIN

ALL = [*SKILLS.values(), *UNSEEN.values()]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def test_sums_are_right_and_below_a_hundred() -> None:
    for question, answer in exercises(SKILLS["sums"], 500):
        assert sum(_numbers(question)) == int(answer) < 100


def test_differences_are_right() -> None:
    for question, answer in exercises(UNSEEN["minus"], 500):
        one, other = _numbers(question)
        assert one - other == int(answer) >= 0


def test_formats_follow_their_rule() -> None:
    rules = (
        (r"Write (\w+) in brackets\.", r"(\1)"),
        (r"Write (\w+) between stars\.", r"*\1*"),
        (r"Write (\w+) twice\.", r"\1 \1"),
        (r"Join (\w+) and (\w+) with a dash\.", r"\1-\2"),
        (r"Write (\w+) and (\w+) the other way round\.", r"\2 and \1"),
    )
    used = set()
    for question, answer in exercises(SKILLS["formats"], 500):
        matching = [rule for rule in rules if re.fullmatch(rule[0], question)]
        assert len(matching) == 1
        assert re.sub(matching[0][0], matching[0][1], question) == answer
        used.add(matching[0])
    assert len(used) == len(rules)


def test_spelling_and_counting() -> None:
    for question, answer in exercises(UNSEEN["spelling"], 100):
        word = question.removeprefix("Spell ").removesuffix(".")
        assert word in PLAIN
        assert answer.replace(" ", "") == word
        assert answer.count(" ") == len(word) - 1
    for question, answer in exercises(UNSEEN["counting"], 100):
        count = len(question.removeprefix("How many words are these: ").removesuffix("?").split())
        assert ["two", "three", "four", "five", "six"][count - 2] == answer


@pytest.mark.parametrize("skill", ALL, ids=lambda skill: skill.name)
def test_the_two_parts_share_nothing(skill: Skill) -> None:
    own = exercises(skill, 2000, 1)
    held = exercises(skill, 300, 2, held_out=True)
    assert not {question for question, _ in own} & {question for question, _ in held}
    assert exercises(skill, 20, 5) == exercises(skill, 20, 5)
    assert exercises(skill, 20, 5) != exercises(skill, 20, 6)


def test_a_held_out_sum_is_held_out_in_every_wording_and_order() -> None:
    def pairs(found: list) -> set[tuple[int, ...]]:
        return {tuple(sorted(_numbers(question))) for question, _ in found}

    assert not pairs(exercises(SKILLS["sums"], 3000, 1)) & pairs(
        exercises(SKILLS["sums"], 500, 2, held_out=True)
    )
