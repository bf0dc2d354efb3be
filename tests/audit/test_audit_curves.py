"""Curves of known shape: the advantage is what it was made to be, and its interval holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from oubliette.audit.curves import make_curve, sooner
from oubliette.audit.result import Curve, Reading
from oubliette.eval.statistics import Estimate, Rate

STEPS = (0, 1, 3, 7, 15, 31, 63)
N = 100


def reading(step: int, share: float, *, broken: bool = False, luck: np.ndarray | None = None) -> Reading:
    places = np.arange(N) / N if luck is None else luck
    hits = places < share
    return Reading(
        step=step,
        rate=Rate.mean(hits),
        leakage=Estimate(float(hits.mean()), None, None, N),
        kept=None,
        broken=broken,
        hits=[int(hit) for hit in hits],
        floor=0.0,
        span=1.0,
    )


def curve(subject: str, shares: Sequence[float], seed: int = 0, luck: np.ndarray | None = None) -> Curve:
    made = [reading(step, share, luck=luck) for step, share in zip(STEPS, shares, strict=True)]
    return make_curve(subject, seed, made)


#: Half-way at steps 1 and 15, exactly.
FAST = (0.0, 0.5, 0.8, 0.9, 1.0, 1.0, 1.0)
SLOW = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
NEVER = (0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.2)


def test_figures_of_a_curve() -> None:
    made = curve("model", FAST)
    assert (made.to_half, made.to_most) == (pytest.approx(1), pytest.approx(7))
    assert made.recovered == 1
    # Even steps in log2(1 + step): trapezoids of width one over six.
    assert made.area == pytest.approx(sum((a + b) / 2 for a, b in pairwise(FAST)) / 6)


def test_broken_and_undefined_points_do_not_count() -> None:
    made = make_curve("model", 0, [reading(0, 0.0), reading(7, 0.3), reading(31, 1.0, broken=True)])
    assert made.recovered == pytest.approx(0.3)
    assert made.to_half is None
    assert make_curve("model", 0, [reading(0, 0.0, broken=True)]).area is None


def test_an_advantage_that_is_known() -> None:
    found = sooner([curve("model", FAST)], [curve("gold", SLOW)], 0.5)
    assert found is not None
    assert (found.state, found.sign, found.interval) == ("told", "=", "pictures")
    assert found.value == pytest.approx(math.log(15))
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.value < found.high


def test_equal_curves_have_none() -> None:
    found = sooner([curve("model", SLOW)], [curve("gold", SLOW)], 0.5)
    assert found is not None
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_gold_that_never_gets_there_is_a_lower_bound() -> None:
    found = sooner([curve("model", FAST)], [curve("gold", NEVER)], 0.5)
    assert found is not None
    assert found.sign == ">"
    assert found.value == pytest.approx(math.log(63))
    other = sooner([curve("model", NEVER)], [curve("gold", FAST)], 0.5)
    assert other is not None
    assert other.sign == "<"
    assert other.value == pytest.approx(-math.log(63))


def test_what_cannot_be_told_says_why() -> None:
    there = (0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0)
    for own, gold, state in (
        (there, SLOW, "at once"),
        (SLOW, there, "undefined"),
        (NEVER, NEVER, "neither"),
    ):
        found = sooner([curve("model", own)], [curve("gold", gold)], 0.5)
        assert found is not None
        assert (found.state, found.value) == (state, None)
        assert found.note


def test_three_runs_have_a_t_interval_over_runs() -> None:
    golds = [curve("gold", SLOW, seed) for seed in range(3)]
    runs = [
        curve("model", (0.0, share, 0.8, 0.9, 1.0, 1.0, 1.0), seed)
        for seed, share in enumerate((0.5, 0.6, 0.4))
    ]
    found = sooner(runs, golds, 0.5)
    assert found is not None
    assert found.interval == "runs"
    values = np.array(found.each, dtype=float)
    assert found.value == pytest.approx(values.mean())
    half = 4.302652729911275 * values.std(ddof=1) / math.sqrt(3)
    assert found.low == pytest.approx(values.mean() - half)


def test_runs_are_compared_by_their_seeds() -> None:
    assert sooner([curve("model", FAST, 1)], [curve("gold", SLOW, 2)], 0.5) is None
    assert sooner([], [], 0.5) is None


def test_the_bootstrap_is_the_same_every_time() -> None:
    luck = np.random.default_rng(0).random(N)
    one = sooner([curve("model", FAST, luck=luck)], [curve("gold", SLOW, luck=luck)], 0.5, seed=3)
    two = sooner([curve("model", FAST, luck=luck)], [curve("gold", SLOW, luck=luck)], 0.5, seed=3)
    assert one == two
