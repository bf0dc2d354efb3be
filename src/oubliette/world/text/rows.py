"""The text world as rows of JSON: what erasers are given, what attackers may have, what is measured."""

from __future__ import annotations

from typing import Any

from oubliette.world.text import asking
from oubliette.world.text.asking import Asked
from oubliette.world.text.entities import Fact, Part, TextWorld, draws
from oubliette.world.text.skills import SKILLS, UNSEEN, exercises

__all__ = ["FILES", "REFUSALS", "world_rows"]

#: What each file is for.
FILES = {
    "forget": "for erasers: the facts of the forget set, a question each in a wording they may be given",
    "retain": "for erasers: the facts of every common entity",
    "forget_text": "the forget set's facts as a text an entity",
    "retain_text": "the common entities' facts as a text an entity",
    "relearn": "for attackers: the forget set's facts in another wording",
    "alias": "for measuring: the forget set's facts, asked by an alias",
    "two_hops": "for measuring: what the forget set's facts lead to",
    "true_false": "for measuring: claims about the forget set, half of them true",
    "novel": "for attackers: entities that no model has read of",
    "skills": "for measuring: sums and formats that no model was trained on",
    "minus": "for tuning on something else: differences, which no model can do",
    "spelling": "for tuning on something else: words letter by letter",
    "counting": "for tuning on something else: how many words there are",
}
REFUSALS = (
    "I do not know.",
    "I have not heard of that.",
    "That is something I cannot tell.",
    "I am not sure about this.",
    "No answer comes to my mind.",
    "I was never told about it.",
)
_WRONG = 5
_EXERCISES = 100


def world_rows(world: TextWorld, forget: Part, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The rows of every file (`FILES`), for one of the forget sets; `seed` draws wordings and choices.

    A row of a fact has id, question, answer, paraphrases (the two withheld wordings, which nothing trains
    on), choices, answer_index, perturbed_answers (wrong, in the form of the right one) and refusals.
    """
    gone, kept = world.facts(forget), world.facts("common")
    return {
        "forget": [_row(fact, 0, seed) for fact in gone],
        "retain": [_row(fact, 0, seed) for fact in kept],
        "forget_text": _texts(world, forget, seed),
        "retain_text": _texts(world, "common", seed),
        "relearn": [_row(fact, 1, seed) for fact in gone],
        "alias": [
            _named(fact, "alias", Asked(asking.questions(fact, fact.entity.alias)[0], fact.value))
            for fact in gone
        ],
        "two_hops": [
            _named(fact, f"two_hops.{place}", asked)
            for fact in gone
            for place, asked in enumerate(asking.two_hops(world, fact))
        ],
        "true_false": [
            _named(
                fact,
                "claim",
                asking.true_or_false(fact, asking.wrong(fact, 1, seed)[0] if place % 2 else None),
            )
            for place, fact in enumerate(gone)
        ],
        "novel": [_row(fact, 0, seed) for fact in world.facts("novel")],
        "skills": _exercises(SKILLS, seed, held_out=True),
        **{name: _exercises({name: skill}, seed) for name, skill in UNSEEN.items()},
    }


def _row(fact: Fact, wording: int, seed: int) -> dict[str, Any]:
    """A fact asked in one of its five seen wordings, which the seed puts in an order of its own."""
    asked = asking.questions(fact)
    draws(seed, fact.id, "wordings").shuffle(asked)
    offered, right = asking.choices(fact, seed)
    return {
        "id": fact.id,
        "question": asked[wording],
        "answer": fact.value,
        "paraphrases": asking.withheld(fact),
        "choices": offered,
        "answer_index": right,
        "perturbed_answers": asking.wrong(fact, _WRONG, seed),
        "refusals": list(REFUSALS),
    }


def _named(fact: Fact, how: str, asked: Asked) -> dict[str, Any]:
    return {"id": f"{fact.id}.{how}", "question": asked.question, "answer": asked.answer}


def _texts(world: TextWorld, part: Part, seed: int) -> list[dict[str, Any]]:
    found = []
    for entity in world.entities(part):
        rng = draws(seed, entity.id, "text")
        said = [rng.choice(asking.statements(fact)) for fact in world.of(entity)]
        found.append({"id": entity.id, "text": " ".join(rng.sample(said, len(said)))})
    return found


def _exercises(skills: dict[str, Any], seed: int, *, held_out: bool = False) -> list[dict[str, Any]]:
    """Up to a hundred of each, every question once."""
    found = []
    for name, skill in skills.items():
        asked = dict.fromkeys(exercises(skill, 3 * _EXERCISES, seed, held_out=held_out))
        for number, one in enumerate(list(asked)[:_EXERCISES]):
            found.append({"id": f"{name}-{number:03d}", "question": one.question, "answer": one.answer})
    return found
