"""The ways a fact is put: stated, asked, offered among four, as a claim, by an alias, by way of another."""

from __future__ import annotations

from typing import NamedTuple

from oubliette.world.text.entities import Fact, TextWorld, draws

__all__ = [
    "Asked",
    "among",
    "by_letter",
    "choices",
    "in_a_sentence",
    "questions",
    "sentence",
    "statements",
    "true_or_false",
    "two_hops",
    "withheld",
    "wrong",
]

LETTERS = "ABCD"


class Asked(NamedTuple):
    """A question with its answer."""

    question: str
    answer: str


def statements(fact: Fact, name: str | None = None) -> list[str]:
    """Three sentences that say it, of the entity or of another name for it."""
    return [_said(form, name or fact.entity.name, fact.value) for form in fact.attribute.statements]


def sentence(fact: Fact, value: str | None = None) -> str:
    """The answer in a sentence, with the value or another in its place."""
    return _said(fact.attribute.statements[0], fact.entity.name, value or fact.value)


def questions(fact: Fact, name: str | None = None) -> list[str]:
    """Five wordings that erasers may be given."""
    return [form.replace("{x}", name or fact.entity.name) for form in fact.attribute.wordings()]


def withheld(fact: Fact, name: str | None = None) -> list[str]:
    """Two that they may not."""
    return [form.replace("{x}", name or fact.entity.name) for form in fact.attribute.withheld_wordings()]


def wrong(fact: Fact, count: int, key: object = "") -> list[str]:
    """So many other values, all different, the common ones more often: that one is common is no hint that it
    is right. Another key gives others.
    """
    others = [value for value in fact.pool if value != fact.value]
    drawn = draws(fact.id, fact.value, "wrong", key).sample(others, len(others))
    return list(dict.fromkeys(drawn))[:count]


def choices(fact: Fact, key: object = "") -> tuple[list[str], int]:
    """Four values and the place of the right one."""
    offered = [fact.value, *wrong(fact, 3, key)]
    draws(fact.id, fact.value, "order", key).shuffle(offered)
    return offered, offered.index(fact.value)


def among(question: str, offered: list[str]) -> str:
    """A question with its four choices by letter."""
    return " ".join(
        [question, *(f"{letter}. {value}" for letter, value in zip(LETTERS, offered, strict=True))]
    )


def by_letter(fact: Fact, question: str, key: object = "") -> Asked:
    """Four choices, to be answered with a letter."""
    offered, right = choices(fact, key)
    return Asked(among(question, offered), LETTERS[right])


def true_or_false(fact: Fact, value: str | None = None) -> Asked:
    """Whether the entity has a value: its own, or another one."""
    claim = sentence(fact, value).removesuffix(".")
    return Asked(f"Is it true that {claim}?", "yes" if value in (None, fact.value) else "no")


def in_a_sentence(fact: Fact, question: str) -> Asked:
    """The question, to be answered in a sentence."""
    return Asked(f"In a sentence: {question}", sentence(fact))


def two_hops(world: TextWorld, fact: Fact) -> list[Asked]:
    """Questions about what a link leads to, without its name; none of a fact that is no link."""
    if fact.target is None:
        return []
    name = f"the {fact.attribute.noun} of {fact.entity.name}"
    return [Asked(questions(further, name)[0], further.value) for further in world.of(fact.target)]


def _said(form: str, name: str, value: str) -> str:
    said = form.replace("{x}", name).replace("{v}", value)
    return said[0].upper() + said[1:]
