"""Who and what there is in the text world, what is true of them, and which of them are to be forgotten."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from oubliette.core.errors import UserError
from oubliette.world.text import words
from oubliette.world.text.attributes import ATTRIBUTES, KINDS, Attribute, Kind

__all__ = ["SETS", "Entity", "Fact", "Part", "TextWorld", "draws", "make_world"]

Part = Literal["default", "development", "common", "novel"]
#: The forget sets: one for reporting, one for tuning.
SETS: tuple[Part, ...] = ("default", "development")
_SHARE = 0.1
_LINKED = 20
_SMALLEST = 30


@dataclass(frozen=True)
class Entity:
    """A person, a place or a work. `shown`: the base model saw the withheld wordings for it."""

    id: str
    kind: Kind
    name: str
    alias: str
    part: Part
    shown: bool


@dataclass(frozen=True)
class Fact:
    """What is true of an entity in one respect. `pool` are the values it could have had, each as often as it
    is true of common entities, `target` the entity that a link leads to.
    """

    entity: Entity
    attribute: Attribute
    value: str
    pool: tuple[str, ...]
    target: Entity | None = None

    @property
    def id(self) -> str:
        """As "person-003.pet"."""
        return f"{self.entity.id}.{self.attribute.name}"


class TextWorld:
    """Entities with eight facts each, in the order person, place, work; the novel ones come last.

    Links lead to common entities alone, so that whoever has read nothing of a forget set has read none of
    its names.
    """

    def __init__(self, size: int, seed: int, facts: Sequence[Fact]) -> None:
        self.size, self.seed = size, seed
        self._facts: dict[Entity, list[Fact]] = {}
        for fact in facts:
            self._facts.setdefault(fact.entity, []).append(fact)

    def entities(self, *parts: Part) -> list[Entity]:
        """Those of the parts; where none is named, all that the base model knows."""
        wanted = parts or (*SETS, "common")
        return [entity for entity in self._facts if entity.part in wanted]

    def facts(self, *parts: Part) -> list[Fact]:
        """All facts of those entities."""
        return [fact for entity in self.entities(*parts) for fact in self._facts[entity]]

    def of(self, entity: Entity) -> list[Fact]:
        """The eight facts of one entity."""
        return self._facts[entity]


def draws(*parts: object) -> random.Random:
    """Random draws that the parts determine, on every machine."""
    return random.Random("/".join(map(str, parts)))


@lru_cache(maxsize=4)
def make_world(size: int = 120, seed: int = 0, novel: int = 24) -> TextWorld:
    """A world of `size` entities, a third of each kind, and `novel` more that no model has read of.

    A tenth of each kind is the default forget set and as many the development set. Every value of a forget or
    novel entity is a common entity's too. The same numbers give the same world everywhere. Raises UserError
    for fewer than 30 entities, too few for the two sets and what they are kin to.
    """
    if size < _SMALLEST:
        raise UserError(f"a text world of {size} entities; expected at least {_SMALLEST}")
    made = {kind: _kind(kind, size, novel, seed, place) for place, kind in enumerate(KINDS)}
    facts = [
        fact
        for kind in KINDS
        for attribute in ATTRIBUTES[kind]
        for fact in _values(attribute, made, kind, seed)
    ]
    order = {entity: place for place, entity in enumerate(e for kind in KINDS for e in made[kind])}
    facts.sort(
        key=lambda fact: (fact.entity.part == "novel", order[fact.entity])
    )  # stable: attributes in order
    return TextWorld(size, seed, facts)


def _kind(kind: Kind, size: int, novel: int, seed: int, place: int) -> list[Entity]:
    count, more = (len(range(place, total, len(KINDS))) for total in (size, novel))
    forgotten = max(1, round(_SHARE * count))
    names, aliases = _names(kind, seed), _aliases(kind, seed)
    found = []
    for number in range(count + more):
        part: Part = "common"
        if number >= count:
            part = "novel"
        elif number < 2 * forgotten:
            part = SETS[number // forgotten]
        found.append(Entity(f"{kind}-{number:03d}", kind, next(names), next(aliases), part, number % 2 == 0))
    return found


def _values(attribute: Attribute, made: dict[Kind, list[Entity]], kind: Kind, seed: int) -> Iterator[Fact]:
    """The facts of one attribute: common entities share its values evenly, the others take some of those."""
    rng = draws(seed, kind, attribute.name)
    targets: dict[str, Entity] = {}
    if attribute.link:
        linked = [e for e in made[attribute.pool] if e.part == "common"][:_LINKED]  # type: ignore[index]
        targets = {entity.name: entity for entity in linked}
    pool = tuple(targets) or words.POOLS[attribute.pool]
    common = [entity for entity in made[kind] if entity.part == "common"]
    rounds = -(-len(common) // len(pool))
    even = [value for _ in range(rounds) for value in rng.sample(pool, len(pool))][: len(common)]
    rng.shuffle(even)
    values = dict(zip(common, even, strict=True))
    for entity in made[kind]:
        value = values[entity] if entity in values else rng.choice(even)
        yield Fact(entity, attribute, value, tuple(sorted(even)), targets.get(value))


def _names(kind: Kind, seed: int) -> Iterator[str]:
    rng = draws(seed, kind, "names")
    if kind == "person":
        families = rng.sample(words.FAMILY, len(words.FAMILY))
        return _numbered([f"{rng.choice(words.GIVEN)} {family}" for family in families])
    if kind == "place":
        return _numbered(rng.sample(words.TOWNS, len(words.TOWNS)))
    titles = [f"{one} and {other}" for one in words.NOUNS for other in words.NOUNS if one != other]
    return _numbered(rng.sample(titles, len(titles)))


def _aliases(kind: Kind, seed: int) -> Iterator[str]:
    first, second, form = {
        "person": (words.ADJECTIVES, words.BIRDS, "the {} {}"),
        "place": (words.SEATS, words.NOUNS, "the {} of the {}"),
        "work": (words.ADJECTIVES, words.BOOKS, "the {} {}"),
    }[kind]
    found = [form.format(one, other) for one in first for other in second]
    return _numbered(draws(seed, kind, "aliases").sample(found, len(found)))


def _numbered(names: Sequence[str]) -> Iterator[str]:
    """The names, then again with a number behind each, without end."""
    yield from names
    number = 2
    while True:
        yield from (f"{name} {number}" for name in names)
        number += 1
