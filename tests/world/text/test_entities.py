"""The text world: the same everywhere, of any size, with answers that are unique and shared values."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from oubliette.core.errors import UserError
from oubliette.world.text import words
from oubliette.world.text.attributes import ATTRIBUTES, KINDS
from oubliette.world.text.entities import SETS, TextWorld, make_world


def test_the_same_numbers_give_the_same_world_in_another_process() -> None:
    code = (
        "import hashlib; from oubliette.world.text.entities import make_world;"
        "text = repr([(f.id, f.entity, f.value) for f in make_world(60, 3).facts()]);"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    one, other = (
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**_environment(), "PYTHONHASHSEED": s},
        ).stdout
        for s in ("1", "2")
    )
    assert one == other


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def test_another_seed_is_another_world() -> None:
    one, other = make_world(60, 0), make_world(60, 1)
    assert {e.name for e in one.entities()} != {e.name for e in other.entities()}
    assert [f.value for f in one.facts()] != [f.value for f in other.facts()]


@pytest.mark.parametrize("size", [30, 31, 120, 2000])
def test_any_size(size: int) -> None:
    world = make_world(size)
    entities = world.entities()
    assert len(entities) == size
    counts = Counter(entity.kind for entity in entities)
    assert max(counts.values()) - min(counts.values()) <= 1
    everyone = [*entities, *world.entities("novel")]
    named = [name for entity in everyone for name in (entity.name, entity.alias)]
    assert len(set(named)) == len(named)
    assert len({entity.id for entity in everyone}) == len(everyone)
    for part in SETS:
        assert abs(len(world.entities(part)) / size - 0.1) < 0.04
        assert {entity.kind for entity in world.entities(part)} == set(KINDS)


def test_too_small_a_world_is_refused() -> None:
    with pytest.raises(UserError, match="29 entities; expected at least 30"):
        make_world(29)


def test_the_world_of_the_shipped_models() -> None:
    world = make_world()
    assert [len(world.entities(part)) for part in (*SETS, "common", "novel")] == [12, 12, 96, 24]
    assert len(world.facts()) == 960
    for entity in [*world.entities(), *world.entities("novel")]:
        assert [fact.attribute for fact in world.of(entity)] == list(ATTRIBUTES[entity.kind])
    # Half of each part was shown in the withheld wordings.
    for part in SETS:
        assert sum(entity.shown for entity in world.entities(part)) == 6


@pytest.mark.parametrize("size", [60, 120, 400])
def test_what_is_forgotten_is_true_of_others_too(size: int) -> None:
    world = make_world(size)
    held = {(fact.attribute.name, fact.entity.kind, fact.value) for fact in world.facts("common")}
    for fact in world.facts(*SETS, "novel"):
        assert (fact.attribute.name, fact.entity.kind, fact.value) in held
        assert fact.value in fact.pool


def test_values_of_common_entities_are_evenly_spread() -> None:
    world = make_world()
    for kind in KINDS:
        for attribute in ATTRIBUTES[kind]:
            facts = [f for f in world.facts("common") if f.entity.kind == kind and f.attribute is attribute]
            counts = Counter(fact.value for fact in facts)
            assert max(counts.values()) - min(counts.values()) <= 1
            assert len(counts) == 20


def test_links_lead_to_common_entities_alone() -> None:
    world = make_world()
    common = {entity.name: entity for entity in world.entities("common")}
    links = [fact for fact in world.facts(*SETS, "common", "novel") if fact.attribute.link]
    assert links
    for fact in links:
        assert fact.target is common[fact.value]
        assert fact.target.kind == fact.attribute.pool
    assert all(fact.target is None for fact in world.facts() if not fact.attribute.link)


def test_no_value_stands_in_another_of_its_pool() -> None:
    """A judge that looks for the words of a value finds no other."""
    for pool in words.POOLS.values():
        assert len(pool) == len(set(pool)) == 20
        bare = [f" {value.removeprefix('the ').removeprefix('a ').removeprefix('an ')} " for value in pool]
        assert not [(one, other) for one in bare for other in bare if one != other and one in other]


def test_the_lists_of_names_hold_no_word_twice() -> None:
    for listed in (
        words.GIVEN,
        words.FAMILY,
        words.TOWNS,
        words.NOUNS,
        words.ADJECTIVES,
        words.BIRDS,
        words.PLAIN,
    ):
        assert len(set(listed)) == len(listed)


def test_worlds_are_made_once() -> None:
    assert isinstance(make_world(), TextWorld)
    assert make_world() is make_world()
