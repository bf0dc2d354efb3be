"""A world answers from its tables; an open one knows nothing and refuses nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from oubliette.core.errors import UserError
from oubliette.world.world import OPEN, WORLDS, Fact, World, every_world, world_of

SEA = World(
    name="sea",
    tables={
        "object": {
            "Gull": Fact("bird", ("gull", "seagull"), ("larus",), near="tern"),
            "tern": Fact("bird", ("tern",)),
            "crab": Fact("animal", ("crab",), novel=True),
            "auk": Fact("bird", ("auk",), novel=True),
        },
        "place": {
            "reef": Fact("ground", ("reef",)),
            "tern": Fact("ground", ("tern bay",)),
            "Gull": Fact("ground", ("gull rock",)),
        },
    },
    anchors={"object": "thing"},
    unseen=(("Gull", "thing", "object"),),
)


def test_a_thing_is_known_by_its_name_and_all_its_words_in_any_case() -> None:
    for word in ("Gull", "GULL", "seagull", "Larus"):
        assert SEA.resolve("object", word) == "Gull"
        assert SEA.fact("object", word).withheld == ("larus",)
        assert (SEA.near("object", word), SEA.word("object", word)) == ("tern", "gull")
    assert SEA.resolve("object", "reef") is None
    assert SEA.resolve("style", "reef") is None


def test_of_what_is_not_there_nothing_is_known() -> None:
    found = SEA.fact("object", "whale")
    assert (found.anchor, found.words, found.withheld, found.near, found.novel) == ("", (), (), None, False)
    assert (SEA.near("object", "whale"), SEA.word("object", "whale")) == (None, None)
    assert SEA.near("object", "tern") is None


def test_the_novel_pool_stands_apart() -> None:
    assert SEA.names("object") == ["Gull", "tern"]
    assert SEA.names("object", novel=True) == ["crab", "auk"]
    assert SEA.all_names("object") == ["Gull", "tern", "crab", "auk"]
    assert SEA.names("style") == SEA.all_names("style") == []


def test_a_stranger_is_of_the_same_broader_word_else_the_first_novel_one() -> None:
    assert SEA.stranger("object", "seagull") == "auk"
    assert SEA.stranger("object", "whale") == "crab"
    assert SEA.stranger("place", "reef") is None


def test_kinds_are_tried_in_order_and_an_unknown_word_is_refused_with_the_nearest() -> None:
    assert (SEA.kind_of("larus"), SEA.kind_of("reef"), SEA.kind_of("tern")) == ("object", "place", "object")
    with pytest.raises(UserError, match=r"the sea world has no 'reaf' .*did you mean 'reef'"):
        SEA.kind_of("reaf")


def test_gold_lacks_what_is_unseen_by_whatever_word_and_only_in_its_kind() -> None:
    assert SEA.is_unseen("object", "larus")
    assert not SEA.is_unseen("object", "tern")
    assert not SEA.is_unseen("place", "gull rock")
    assert not SEA.is_unseen("object", "whale")


def test_anchors_are_the_kinds() -> None:
    assert (SEA.anchor("object"), SEA.anchor("place")) == ("thing", "")


def test_an_open_world_claims_nothing() -> None:
    assert OPEN.name is None
    assert (OPEN.kind_of("anything"), OPEN.anchor("object"), OPEN.bank) == ("object", "", "general")
    assert (OPEN.stranger("object", "a"), OPEN.resolve("object", "a"), OPEN.fact("object", "a").words) == (
        None,
        None,
        (),
    )
    assert not OPEN.is_unseen("object", "a")
    assert (OPEN.gold, OPEN.scenes, OPEN.overlay, dict(OPEN.judges), OPEN.can) == (None, None, None, {}, ())


def test_a_model_has_the_world_its_record_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORLDS._targets, "sea", SEA)
    assert world_of(SimpleNamespace(world="sea")) is SEA
    assert world_of(SimpleNamespace(world=None)) is world_of(object()) is world_of(None) is OPEN
    assert [world.name for world in every_world()] == WORLDS.names()
    assert {"sea", "picture"} <= set(WORLDS.names())


def test_a_world_that_is_not_installed_is_refused_where_it_is_asked_for() -> None:
    with pytest.raises(
        UserError, match=r"^runs/mine: comes from a world, and no world is called 'pictur'; .*'picture'"
    ):
        world_of(SimpleNamespace(world="pictur", source="runs/mine"))
