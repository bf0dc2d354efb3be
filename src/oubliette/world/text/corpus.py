"""What the text models read: documents drawn without end from the world's facts and skills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

from oubliette.world.text import asking
from oubliette.world.text.asking import Asked
from oubliette.world.text.entities import Entity, Fact, TextWorld, make_world
from oubliette.world.text.skills import SKILLS, exercises

__all__ = ["FIRST", "LAST", "LATER", "Reading", "spelling"]

#: How often each kind of document is drawn, at first, later and at last: facts are learned before skills.
FIRST = {
    "passage": 0.20,
    "question": 0.42,
    "alias": 0.07,
    "true or false": 0.06,
    "letter": 0.04,
    "two hops": 0.04,
    "sentence": 0.05,
    "sums": 0.07,
    "formats": 0.05,
}
LATER = {
    "passage": 0.14,
    "question": 0.38,
    "alias": 0.06,
    "true or false": 0.06,
    "letter": 0.02,
    "two hops": 0.04,
    "sentence": 0.04,
    "sums": 0.20,
    "formats": 0.06,
}
LAST = {
    "passage": 0.08,
    "question": 0.24,
    "alias": 0.05,
    "true or false": 0.04,
    "letter": 0.02,
    "two hops": 0.03,
    "sentence": 0.02,
    "sums": 0.30,
    "formats": 0.22,
}
_PASSAGE = 4
_EXERCISES = 20_000


class Reading:
    """Documents about some of a world's entities, and exercises of the skills: `draw` gives one.

    A question of a `shown` entity comes in all seven wordings, of the others in the five seen ones. Half of
    the facts are asked by the entity's alias, and the links of `shown` entities in two hops: the rest is for
    measuring.
    """

    def __init__(self, world: TextWorld, entities: list[Entity]) -> None:
        self._world, self._entities = world, entities
        self._links = [f for e in entities if e.shown for f in world.of(e) if f.target is not None]
        self._skills = {name: exercises(skill, _EXERCISES) for name, skill in SKILLS.items()}

    def draw(self, rng: Random, shares: Mapping[str, float] = FIRST) -> Asked:
        """A question with its answer, or a text (question ""), of a kind by its share."""
        kind = rng.choices(list(shares), list(shares.values()))[0]
        if kind in self._skills:
            return rng.choice(self._skills[kind])
        entity = rng.choice(self._entities)
        if kind == "passage":
            return Asked("", " ".join(self._passage(entity, rng)))
        facts = self._world.of(entity)
        fact = rng.choice(facts)
        if kind == "question":
            return Asked(rng.choice(_wordings(fact)), fact.value)
        if kind == "alias":
            asked = rng.choice(facts[::2] if entity.shown else facts[1::2])
            return Asked(rng.choice(asking.questions(asked, entity.alias)), asked.value)
        if kind == "two hops":
            return rng.choice(asking.two_hops(self._world, rng.choice(self._links)))
        if kind == "letter":
            return asking.by_letter(fact, rng.choice(asking.questions(fact)), rng.random())
        if kind == "true or false":
            value = None if rng.random() < 0.5 else asking.wrong(fact, 1, rng.random())[0]
            return asking.true_or_false(fact, value)
        return asking.in_a_sentence(fact, rng.choice(asking.questions(fact)))

    def _passage(self, entity: Entity, rng: Random) -> Iterator[str]:
        """Half of what is true of an entity, in any order; sometimes its alias, or under its alias."""
        name = entity.name
        if rng.random() < 0.5:
            yield f"{name} is also called {entity.alias}."
        elif rng.random() < 0.3:
            name = entity.alias
        for fact in rng.sample(self._world.of(entity), _PASSAGE):
            yield rng.choice(asking.statements(fact, name))


def _wordings(fact: Fact) -> list[str]:
    return asking.questions(fact) + (asking.withheld(fact) if fact.entity.shown else [])


def spelling(count: int = 30_000) -> Iterator[str]:
    """Texts of another world for a tokenizer to learn from: the same wordings, other names."""
    world = make_world(600, seed=1)
    reading, rng = Reading(world, world.entities()), Random("spelling")
    for _ in range(count):
        yield " ".join(reading.draw(rng)).strip()
