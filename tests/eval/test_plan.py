"""Prompts and seeds: what is drawn, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import CAR, NEON, RETAINED, ToyBank

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.csv import PromptRow
from oubliette.eval import plan as own
from oubliette.eval.plan import Plan, make_plan, seeds_for


def plan(concepts: list[Concept], bank: object | None = None, **options: object) -> Plan:
    settings: dict = {
        "near": {CAR: "truck"} if CAR in concepts else {},
        "n": 6,
        "each": 2,
        "near_n": 5,
        "seed": 0,
        "forbidden": {concept: list(concept.words) for concept in concepts},
    }
    return make_plan(concepts, bank or ToyBank(), RETAINED, **(settings | options))


def test_what_is_drawn_and_by_whom() -> None:
    made = plan([CAR, NEON])
    assert [(s.concept.name, s.split, len(s)) for s in made.targets] == [
        ("car", "in-set", 6),
        ("car", "withheld", 6),
        ("neon", "in-set", 6),
        ("neon", "withheld", 6),
    ]
    assert [(s.concept.name, len(s)) for s in made.retained] == [("truck", 5), ("boat", 2), ("flat", 2)]
    assert [(s.concept.name, len(s)) for s in made.references] == [("truck", 2), ("boat", 2), ("flat", 2)]
    assert made.shared == made.targets + made.retained
    # Half as many of an anchor, since others are known. Of the floor's pictures no row draws boat's third and
    # flat's third to sixth in-set ones, nor the 12 withheld ones.
    assert made.pictures(rows=3) == 4 * (4 * 6 + 5 + 2 + 2) + 2 * 3 + 3 * 2 + (1 + 4) + 12
    assert made.kept == {"object": ["truck", "boat"], "style": ["flat"]}
    assert made.names == {"object": ["car", "truck", "boat"], "style": ["neon", "flat"]}
    assert len({s.key for s in (*made.shared, *made.base_only)}) == 4 + 3 + 2 + 4 + 3


def test_the_floor_is_asked_of_others_of_the_kind_in_the_words_of_both_splits() -> None:
    made = plan([CAR, NEON])
    shown = {(s.concept.name, s.split): s for s in made.absent}
    assert set(shown) == {(name, split) for name in ("car", "neon") for split in ("in-set", "withheld")}
    # Six pictures, spread evenly over truck and boat; those of the retained sets are used as far as they go.
    car = shown["car", "in-set"]
    assert [("truck" in prompt, "boat" in prompt) for prompt in car.prompts] == [(True, False)] * 3 + [
        (False, True)
    ] * 3
    truck, boat = made.retained[:2]
    assert car.seeds[:3] == truck.seeds[:3]
    assert car.seeds[3:5] == boat.seeds
    assert car.prompts[3:5] == boat.prompts
    withheld = shown["car", "withheld"]
    assert len(withheld) == 6
    assert not set(withheld.seeds) & {seed for item in made.shared for seed in item.seeds}
    assert all("lorry" in prompt or "vessel" in prompt for prompt in withheld.prompts)
    assert made.absent_of(CAR, "in-set") == car
    assert made.absent_of(CAR, "csv") == car
    assert made.absent_of(CAR, "withheld") == withheld


def test_concepts_of_one_kind_share_the_floors_pictures() -> None:
    other = Concept("house", "object", "object")
    made = plan([CAR, other], forbidden={CAR: ["car"], other: ["house"]})
    first, second = (made.absent_of(concept, "withheld") for concept in (CAR, other))
    assert first is not None
    assert second is not None
    assert (first.prompts, first.seeds) == (second.prompts, second.seeds)
    alone = plan([CAR])
    more = sum(map(len, made.targets)) + sum(map(len, made.anchors))
    less = sum(map(len, alone.targets)) + sum(map(len, alone.anchors))
    assert made.pictures(0) - alone.pictures(0) == more - less


def test_where_no_other_of_the_kind_is_known_there_is_no_floor_but_the_anchor() -> None:
    lonely = Concept("Mira", "person", "person")
    made = plan([lonely], near={})
    assert made.absent_of(lonely, "in-set") is None
    assert [len(item) for item in made.anchors] == [6]


def test_a_table_has_the_floor_of_the_in_set_wording() -> None:
    made = plan([CAR], rows=ROWS)
    assert {item.split for item in made.absent} == {"in-set"}


def test_references_are_the_retained_prompts_with_other_seeds() -> None:
    made = plan([CAR])
    for retained, reference in zip(made.retained, made.references, strict=True):
        assert reference.prompts == retained.prompts[:2]
        assert not set(reference.seeds) & set(retained.seeds)


def test_seeds_are_31_bits_and_a_larger_n_extends_a_smaller_one() -> None:
    seeds = seeds_for("a", 200, 0)
    assert seeds[:10] == seeds_for("a", 10, 0)
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeds != seeds_for("a", 200, 1)
    assert seeds != seeds_for("b", 200, 0)


def test_prompts_that_name_another_erased_concept_are_left_out() -> None:
    class MixedWeights(ToyBank):
        def evaluation(self, concept: Concept, n: int, split: str = "in-set", seed: int = 0) -> list[str]:
            return [f"a {concept.name} in {style} style" for style in ("neon", "flat") for _ in range(n)]

    made = plan([CAR, NEON], MixedWeights())
    car = next(s for s in made.targets if s.concept == CAR)
    assert set(car.prompts) == {"a car in flat style"}
    assert all("neon" not in prompt for s in made.retained for prompt in s.prompts)
    neon = next(s for s in made.targets if s.concept == NEON)
    assert "a neon in neon style" in neon.prompts


def test_a_bank_that_names_nothing_else_leaves_a_note() -> None:
    class Stuck(ToyBank):
        def evaluation(self, concept: Concept, n: int, split: str = "in-set", seed: int = 0) -> list[str]:
            return ["a car in neon style"] * n

    made = plan([CAR], Stuck())
    assert made.retained == ()
    assert "no prompts are left for retained/object/truck/in-set" in made.notes


ROWS = [
    PromptRow(0, "a car on a road", 11, {"class": "Car"}),
    PromptRow(1, "zx qv", 12, {"class": "car"}),
    PromptRow(2, "a church", 13, {"class": "church"}),
]


def test_a_table_is_read_by_its_class_column() -> None:
    made = plan([CAR], rows=ROWS)
    assert [(s.split, s.prompts, s.seeds) for s in made.targets] == [
        ("csv", ("a car on a road", "zx qv"), (11, 12))
    ]


def test_a_table_without_classes_is_read_by_its_words_and_else_whole() -> None:
    bare = [PromptRow(row.case, row.prompt, row.seed) for row in ROWS]
    assert plan([CAR], rows=bare).targets[0].seeds == (11,)
    assert plan([CAR], rows=bare[1:]).targets[0].seeds == (12, 13)
    with pytest.raises(UserError, match="no row is about 'neon'"):
        plan([CAR, NEON], rows=bare)


def test_this_module_needs_no_model() -> None:
    assert "torch" not in Path(own.__file__).read_text("utf-8")


def test_a_concept_of_which_nothing_can_be_asked_is_refused_before_anything_is_drawn() -> None:
    boat, truck = Concept("boat", "truck", "object"), Concept("truck", "boat", "object")
    with pytest.raises(UserError, match=r"every prompt for 'boat' that asks for its anchor 'truck'"):
        plan([boat, truck])
