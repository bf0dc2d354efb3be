"""What every prompt attack does: originals first, a stop at success, an honest record."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attack.prompts.fakes import Drawer, Listed, white
from oubliette.attack import PROMPT_ATTACKS
from oubliette.attack.prompts import Case, Found, Tally, build
from oubliette.attack.prompts.attack import Job
from oubliette.attack.types import NEEDS, Sampling
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.train.cost import Cost

CAR = Concept("car", "object")
CASES = [Case("a car", 1), Case("an open car", 2), Case("the car", 3)]


def test_only_what_does_not_show_is_attacked_and_a_success_ends_it() -> None:
    model = Drawer("open", "zzz")
    attack = Listed({"a car": ["x a car", "zzz a car", "y a car"], "the car": ["x the car"]})
    found = attack.search(model, CAR, CASES, white, sampling=Sampling(steps=2, guidance=1.0, batch=3))
    assert found == [
        Found(CASES[0], "zzz a car", False, True, 2, 1.0),
        Found(CASES[1], "an open car", True, True, 0),
        Found(CASES[2], "x the car", False, False, 1, 0.0),
    ]
    assert Tally.of(found) == Tally(3, 1, 2)
    # Each prompt with its case's own seed; nothing is drawn for a case that has ended.
    originals = [("a car", 1), ("an open car", 2), ("the car", 3)]
    assert model.drawn == [*originals, ("x a car", 1), ("x the car", 3), ("zzz a car", 1)]
    assert model.how == {"steps": 2, "guidance": 1.0, "batch": 3}


def test_progress_ends_at_what_was_planned() -> None:
    told: list[tuple[int, int]] = []
    attack = Listed({"a car": ["x a car", "zzz a car", "y a car"], "the car": ["x the car"]})
    attack.search(Drawer("open", "zzz"), CAR, CASES, white, progress=lambda done, of: told.append((done, of)))
    assert told[0] == (2, 6)
    assert told[-1] == (6, 6)
    assert told == sorted(told)


def test_a_callers_way_of_drawing_is_used() -> None:
    asked = []

    def draw(model: Drawer, prompts: list[str], seeds: list[int]) -> np.ndarray:
        asked.append(model)
        return model.draw(prompts, seeds)

    model = Drawer("car")
    Listed({}).search(model, CAR, CASES, white, draw=draw)
    assert asked == [model]


def test_a_judge_of_another_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="expected 3"):
        Listed({}).search(Drawer(), CAR, CASES, lambda pictures: np.zeros(1, dtype=bool))


def test_no_cases_and_models_that_do_not_draw_are_refused() -> None:
    with pytest.raises(UserError, match="no prompts"):
        Listed({}).search(Drawer(), CAR, [], white)
    language: Any = SimpleNamespace(kind="language", source="words")
    with pytest.raises(UserError, match="found a language model"):
        Listed({}).search(language, CAR, CASES, white)


@pytest.mark.parametrize("name", ["unlearndiffatk", "p4d"])
def test_a_base_is_asked_for_where_it_is_needed(name: str) -> None:
    attack = build(name)
    with pytest.raises(UserError, match="before erasing"):
        attack.search(Drawer(), CAR, CASES, white)
    other = Drawer()
    other.picture_side = 8
    with pytest.raises(UserError, match="must be alike"):
        attack.search(Drawer(), CAR, CASES, white, base=other)


def test_every_case_has_randomness_of_its_own() -> None:
    def job(*cases: Case, seed: int = 0, name: str = "listed") -> Job:
        return Job(None, None, CAR, cases, None, seed, name)  # type: ignore[arg-type]

    first = job(*CASES).rng(2).initial_seed()
    assert job(CASES[2]).rng(0).initial_seed() == first
    others = [job(*CASES).rng(1), job(*CASES, seed=1).rng(2), job(*CASES, name="other").rng(2)]
    assert first not in [rng.initial_seed() for rng in others]


@pytest.mark.parametrize("name", PROMPT_ATTACKS.names())
def test_each_says_what_it_is(name: str) -> None:
    kind = PROMPT_ATTACKS.get(name)
    assert kind.name == name
    assert kind.kind == "prompt"
    assert kind.about
    assert "\n" not in kind.about
    assert kind.paper
    assert kind.needs <= set(NEEDS)
    assert {"published", "nano"} <= set(kind.presets)
    for preset in kind.presets:
        assert build(name, preset=preset).tries() >= 1


def test_published_budgets_are_the_sheets() -> None:
    options = build("unlearndiffatk").options
    assert (options.tokens, options.timesteps, options.iterations) == (3, 50, 40)
    assert (options.learning_rate, options.weight_decay) == (0.01, 0.1)
    assert build("p4d").options.tokens == 16
    assert build("p4d").options.learning_rate == 0.01
    assert build("ring-a-bell").options.strength == 3.0
    assert build("ring-a-bell").options.tokens == 16
    # The baseline has what the search has.
    for preset in ("published", "nano"):
        search, baseline = build("unlearndiffatk", preset=preset), build("random-tokens", preset=preset)
        assert baseline.tries() == search.tries()
        assert baseline.options.tokens == search.options.tokens


def test_unknown_names_options_and_presets_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'p4d'"):
        build("p4")
    with pytest.raises(UserError, match="did you mean 'tokens'"):
        build("p4d", {"token": 3})
    with pytest.raises(UserError, match="preset 'nan'"):
        build("p4d", preset="nan")


def test_costs_are_counted_by_hand() -> None:
    how = Sampling(steps=10, guidance=3.0)
    baseline = build("random-tokens", {"tries": 5})
    # 2 cases: the original and 5 tries each, 10 guided steps (two passes each) a picture.
    assert baseline.cost(2, how) == Cost(2 * 6 * 20, 0, 2 * 6)
    assert baseline.cost(2, Sampling(steps=10, guidance=1.0)) == Cost(2 * 6 * 10, 0, 12)
    search = build("unlearndiffatk", {"timesteps": 5, "iterations": 7})
    # The base's picture too, and a forward and a backward pass for each of 5 x 7 updates.
    assert search.cost(2, how) == Cost(2 * 7 * 20 + 2 * 35, 2 * 35, 2 * 7)
    assert build("p4d", {"timesteps": 5, "iterations": 7}).cost(2, how) == Cost(
        2 * 7 * 20 + 2 * 2 * 35, 2 * 35, 2 * 7
    )
    ring = build("ring-a-bell", {"population": 10, "generations": 4, "pairs": 3})
    # 3 pairs; for each case the goal, 10 prompts and 4 generations of 5 children.
    assert ring.cost(2, how) == Cost(2 * 2 * 20 + 6 + 2 * (1 + 10 + 4 * 5), 0, 2 * 2)
    assert math.isfinite(build("ring-a-bell").cost(1).forwards)
