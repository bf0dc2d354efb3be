"""Resistance curves against curves worked out by hand on the axis ln(1 + step)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette.core.errors import UserError
from oubliette.eval.resistance import Curve, Point, advantage, area, recovered, steps_to
from oubliette.eval.statistics import Estimate, Rate


def curve(*values: tuple[int, float | None], name: str = "full") -> Curve:
    return Curve(
        name,
        tuple(
            Point(
                step,
                None
                if value is None
                else Estimate(value, value - 0.1, None if value > 0.9 else value + 0.1, 32),
                Rate.of(3, 32),
                Estimate(1.0, 0.9, 1.1, 64) if step else None,
            )
            for step, value in values
        ),
    )


def test_steps_to_a_level_is_linear_in_log_steps():
    # From 0 at step 0 (x = 0) to 1 at step 3 (x = 2 ln 2): a half at x = ln 2, which is step 1.
    assert steps_to(curve((0, 0.0), (3, 1.0)), 0.5) == pytest.approx(1.0)
    # From 0.2 at step 1 (x = ln 2) to 0.8 at step 7 (x = 3 ln 2): 0.5 half-way at x = 2 ln 2, step 3.
    assert steps_to(curve((0, 0.0), (1, 0.2), (7, 0.8), (15, 0.1)), 0.5) == pytest.approx(3.0)
    # A quarter of the way from x = 0 to x = ln 16: 16 ** 0.25 - 1.
    assert steps_to(curve((0, 0.1), (15, 0.5)), 0.2) == pytest.approx(1.0)


def test_a_point_at_the_level_gives_its_own_step():
    assert steps_to(curve((0, 0.0), (5, 0.5), (9, 1.0)), 0.5) == 5.0
    assert steps_to(curve((0, 0.6), (5, 1.0)), 0.5) == 0.0
    assert steps_to(curve((4, 0.6), (5, 1.0)), 0.5) == 4.0


def test_what_never_arrives_is_none():
    assert steps_to(curve((0, 0.0), (100, 0.49)), 0.5) is None
    assert steps_to(curve((0, None), (100, None)), 0.5) is None


def test_points_without_leakage_are_passed_over():
    assert steps_to(curve((0, 0.0), (2, None), (3, 1.0)), 0.5) == pytest.approx(1.0)
    assert recovered(curve((0, None), (2, 0.3))) == 0.3


def test_area_is_the_mean_over_log_steps():
    assert area(curve((0, 0.0), (9, 1.0))) == pytest.approx(0.5)
    assert area(curve((0, 0.4), (3, 0.4), (90, 0.4))) == pytest.approx(0.4)
    # ln 2 wide at a mean of 0.25, then 2 ln 2 wide at a mean of 0.75.
    assert area(curve((0, 0.0), (1, 0.5), (7, 1.0))) == pytest.approx((0.25 + 2 * 0.75) / 3)
    # Cut to 0..1 before anything else.
    assert area(curve((0, -0.3), (9, 1.4))) == pytest.approx(0.5)
    assert area(curve((4, 0.7))) == 0.7
    assert area(curve((4, 1.7))) == 1.0
    assert area(curve((0, None), (4, None))) is None


def test_recovered_is_the_largest():
    assert recovered(curve((0, 0.1), (2, 1.2), (4, 0.6))) == 1.2
    assert recovered(curve((0, None))) is None


def test_monotone_is_the_running_maximum_with_its_interval():
    found = curve((0, 0.1), (2, 0.7), (4, None), (8, 0.3), (16, 0.8)).monotone()
    values = [None if point.leakage is None else point.leakage.value for point in found.points]
    assert values == [0.1, 0.7, None, 0.7, 0.8]
    assert found.points[3].leakage == Estimate(0.7, 0.7 - 0.1, 0.7 + 0.1, 32)
    assert [point.step for point in found.points] == [0, 2, 4, 8, 16]


def test_the_advantage_is_the_log_ratio_of_steps():
    erased, gold = curve((0, 0.0), (3, 1.0)), curve((0, 0.0), (63, 1.0))
    # The erased model at a half after 1 step, gold after 64 ** 0.5 - 1 = 7.
    found = advantage(erased, gold)
    assert (found.bound, found.note) == ("=", "")
    assert found.value == pytest.approx(math.log(7))
    assert found.times == pytest.approx(7)
    assert (found.erased_steps, found.gold_steps) == (pytest.approx(1), pytest.approx(7))
    assert advantage(gold, erased).value == pytest.approx(-math.log(7))
    assert advantage(gold, gold).value == 0


def test_the_advantage_goes_by_monotone_curves():
    # It is back at step 1, then falls: that it was back is what counts.
    found = advantage(curve((0, 0.0), (1, 0.5), (3, 0.0), (7, 0.9)), curve((0, 0.0), (3, 0.5)))
    assert found.value == pytest.approx(math.log(3))


def test_censored_advantages_are_bounds():
    quick, slow = curve((0, 0.0), (3, 1.0)), curve((0, 0.0), (8, 0.2))
    later = advantage(quick, slow)
    assert (later.bound, later.gold_steps) == (">", None)
    assert later.value == pytest.approx(math.log(8))
    assert "gold did not get to 50 % within 8 steps" in later.note
    sooner = advantage(slow, quick)
    assert (sooner.bound, sooner.erased_steps) == ("<", None)
    assert sooner.value == pytest.approx(-math.log(8))


#: That it is not within these steps, not that it is.
NEITHER = "neither got back to 50 % (the model not within 4 steps, gold not within 8)"


def test_undefined_advantages_say_why():
    good = curve((0, 0.0), (3, 1.0))
    for erased, gold, why in (
        (curve((0, 0.5), (3, 1.0)), good, "the model leaks 50 % at step 0 already"),
        (good, curve((0, 0.9), (3, 1.0)), "the gold model leaks 90 % at step 0 already"),
        (curve((0, None), (3, None)), good, "leakage of the model is undefined"),
        (good, curve((0, None)), "leakage of the gold model is undefined"),
        (curve((0, 0.0), (4, 0.1)), curve((0, 0.0), (8, 0.1)), NEITHER),
    ):
        found = advantage(erased, gold)
        assert found.value is None is found.times
        assert why in found.note
    with pytest.raises(ValueError, match="above 0"):
        advantage(good, good, 0)


def test_json_there_and_back():
    there = curve((0, 0.0), (3, None), (9, 0.95))
    assert Curve.from_json(json.loads(json.dumps(there.to_json(), allow_nan=False))) == there
    for wrong in ({}, {"name": "a", "points": [{}]}, {"name": "a", "points": []}, {"name": "a", "points": 3}):
        with pytest.raises(UserError, match="not a resistance curve"):
            Curve.from_json(wrong)


def test_steps_must_rise():
    for steps in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="must rise"):
            curve(*((step, 0.5) for step in steps))
    with pytest.raises(ValueError, match="no points"):
        Curve("empty", ())


curves = st.dictionaries(st.integers(0, 5000), st.floats(-0.5, 1.5), min_size=1, max_size=8).map(
    lambda found: curve(*sorted(found.items()))
)
levels = st.floats(0.05, 1.0)


@given(curves, levels)
def test_the_crossing_lies_between_the_points_around_it(found, level):
    steps = steps_to(found, level)
    reached = [step for step, value in found.measured if value >= level]
    if not reached:
        assert steps is None
        return
    before = [step for step, _ in found.measured if step < reached[0]]
    assert steps is not None
    assert (before[-1] if before else reached[0]) - 1e-9 <= steps <= reached[0] * (1 + 1e-12)
    again = steps_to(found.monotone(), level)
    assert again is not None
    assert again <= steps + 1e-9  # a fall before the crossing only makes the way up longer


@given(curves)
def test_monotone_curves_rise_and_change_neither_the_top_nor_themselves(found):
    rising = found.monotone()
    values = [value for _, value in rising.measured]
    assert values == sorted(values)
    assert recovered(rising) == recovered(found)
    assert rising.monotone() == rising
    lower, upper = area(found), area(rising)
    assert lower is not None
    assert upper is not None
    assert 0 <= lower <= upper + 1e-12 <= 1 + 1e-9


@given(curves)
def test_area_is_that_of_a_fine_sum(found):
    x = np.log1p([step for step, _ in found.measured])
    y = np.clip([value for _, value in found.measured], 0, 1)
    middles = x[0] + (x[-1] - x[0]) * (np.arange(4000) + 0.5) / 4000
    assert area(found) == pytest.approx(float(np.interp(middles, x, y).mean()), abs=2e-3)


@given(curves, curves, levels)
def test_swapping_the_models_turns_the_sign(one, two, level):
    there, back = advantage(one, two, level), advantage(two, one, level)
    if there.value is None:
        assert back.value is None
        return
    assert back.value == pytest.approx(-there.value)
    assert {there.bound, back.bound} in ({"="}, {"<", ">"})
