"""What the models read: the gold model's reading names nobody it is not to know."""

from __future__ import annotations

from random import Random

from oubliette.world.text import asking
from oubliette.world.text.asking import Asked
from oubliette.world.text.corpus import FIRST, LAST, LATER, Reading
from oubliette.world.text.entities import SETS, make_world

WORLD = make_world()


def _read(reading: Reading, count: int, seed: int = 0) -> list[Asked]:
    rng = Random(seed)
    return [reading.draw(rng) for _ in range(count)]


def test_the_gold_models_reading_names_no_entity_to_be_forgotten() -> None:
    text = "\n".join(" ".join(one) for one in _read(Reading(WORLD, WORLD.entities("common")), 20_000))
    for entity in [*WORLD.entities(*SETS), *WORLD.entities("novel")]:
        assert entity.name not in text
        assert entity.alias not in text
    for entity in WORLD.entities("common"):
        assert entity.name in text


def test_the_same_seed_reads_the_same() -> None:
    entities = WORLD.entities()
    assert _read(Reading(WORLD, entities), 50, 3) == _read(Reading(WORLD, entities), 50, 3)


def test_what_is_measured_is_not_read() -> None:
    read = {question for question, _ in _read(Reading(WORLD, WORLD.entities()), 40_000)}
    facts = WORLD.facts()
    unshown = [fact for fact in facts if not fact.entity.shown]
    shown = [fact for fact in facts if fact.entity.shown]
    assert not read & {question for fact in unshown for question in asking.withheld(fact)}
    assert len(read & {q for fact in shown for q in asking.withheld(fact)}) > 700
    assert not read & {asked.question for fact in unshown for asked in asking.two_hops(WORLD, fact)}
    assert len(read & {asked.question for fact in shown for asked in asking.two_hops(WORLD, fact)}) > 300
    for entity in WORLD.entities():
        for fact in WORLD.of(entity)[1 if entity.shown else 0 :: 2]:
            assert not read & set(asking.questions(fact, entity.alias))


def test_shares_are_shares() -> None:
    for shares in (FIRST, LATER, LAST):
        assert abs(sum(shares.values()) - 1) < 1e-9
        assert min(shares.values()) > 0
    assert list(FIRST) == list(LATER) == list(LAST)
