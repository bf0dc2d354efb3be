"""Original prompts: they name the concept, and are none of the evaluation's."""

from __future__ import annotations

import pytest

from oubliette.attack.prompts.cases import make_cases
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.prompts import load_bank
from oubliette.world.facts import PICTURE
from oubliette.world.world import OPEN, World

CAR = Concept("car", "vehicle")


@pytest.mark.parametrize("world", [OPEN, PICTURE])
def test_they_name_the_concept_with_seeds_of_their_own(world: World) -> None:
    cases = make_cases(CAR, 12, world=world)
    assert all("car" in case.prompt or "coupe" in case.prompt for case in cases)
    assert len({case.seed for case in cases}) == 12
    assert cases == make_cases(CAR, 12, world=world)
    assert cases != make_cases(CAR, 12, world=world, seed=1)


def test_what_the_evaluation_draws_is_left_out() -> None:
    used = load_bank("world").evaluation(CAR, 60, "in-set", 0)
    assert not {case.prompt for case in make_cases(CAR, 10, world=PICTURE, avoid=used)} & set(used)


def test_where_the_bank_has_fewer_prompts_repeat_with_other_seeds() -> None:
    cases = make_cases(CAR, 500)
    assert len({case.prompt for case in cases}) < 500
    assert len(set(cases)) == 500


def test_none_left_and_none_asked_are_refused() -> None:
    every = [text for seed in range(20) for text in load_bank("general").evaluation(CAR, 100, "in-set", seed)]
    with pytest.raises(UserError, match="no prompt about 'car' is left"):
        make_cases(CAR, 3, avoid=every)
    with pytest.raises(UserError, match="at least 1"):
        make_cases(CAR, 0)
