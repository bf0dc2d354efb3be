"""Intervals and tests against scipy, closed forms and enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from oubliette.eval import statistics as own


@given(st.integers(1, 400), st.data())
def test_wilson_is_scipys(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = own.wilson(hits, n)
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert low == pytest.approx(theirs.low, abs=1e-9)
    assert high == pytest.approx(theirs.high, abs=1e-9)
    assert 0 <= low <= hits / n <= high <= 1


def test_wilson_is_where_the_score_test_turns() -> None:
    """A bound p is in the interval exactly where |share - p| <= z sqrt(p (1 - p) / n)."""
    low, high = own.wilson(7, 40)
    z = stats.norm.ppf(0.975)
    for bound in (low, high):
        assert abs(7 / 40 - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / 40))


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="0 <= hits <= n"):
        own.wilson(hits, n)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, after = rng.random(60) < 0.6, rng.random(60) < 0.4
        found = own.mcnemar(before, after)
        lost, gained = int((before & ~after).sum()), int((~before & after).sum())
        assert (found.before_only, found.after_only) == (lost, gained)
        assert found.p == pytest.approx(stats.binomtest(lost, lost + gained, 0.5).pvalue)


def test_mcnemar_without_a_change_says_nothing() -> None:
    same = np.array([True, False, True])
    assert own.mcnemar(same, same).p == 1.0


def test_mcnemar_needs_pairs() -> None:
    with pytest.raises(ValueError, match="one shape"):
        own.mcnemar(np.zeros(3, bool), np.zeros(4, bool))


def test_t_interval_is_scipys() -> None:
    values = [0.2, 0.5, 0.1, 0.9]
    found = own.t_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))


def test_one_run_bounds_nothing() -> None:
    assert own.t_interval([0.3]) == own.Estimate(0.3, None, None, 1)
    assert own.cluster_bootstrap([np.array([0.0, 1.0])]) == own.Estimate(0.5, None, None, 1)


def test_cluster_bootstrap_enumerated_for_two_runs() -> None:
    """Two runs resample to (a, a), (a, b), (b, a), (b, b): means a, mid, mid, b; the ends are a and b."""
    runs = [np.array([0.0, 0.0, 0.0]), np.array([1.0])]
    found = own.cluster_bootstrap(runs)
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)


def test_cluster_bootstrap_is_wider_than_one_over_samples() -> None:
    """Samples within a run are alike, so resampling runs must not pretend that they are independent."""
    rng = np.random.default_rng(1)
    runs = [np.clip(rng.normal(centre, 0.01, 50), 0, 1) for centre in (0.2, 0.5, 0.8, 0.4)]
    found = own.cluster_bootstrap(runs)
    naive = own.t_interval(np.concatenate(runs))
    assert found.high - found.low > 2 * (naive.high - naive.low)


def test_combination_of_one_rate_is_its_wilson_interval() -> None:
    rate = own.Rate.of(9, 30)
    assert own.combination((1.0,), (rate,)) == pytest.approx((rate.value, rate.low, rate.high))
    assert own.combination((-1.0,), (rate,)) == pytest.approx((-rate.value, -rate.high, -rate.low))


def test_combination_of_a_difference_is_newcombes_interval() -> None:
    """Newcombe 1998, method 10: 56/70 against 48/80 gives 0.2 with the interval 0.0524 to 0.3339."""
    value, low, high = own.combination((1.0, -1.0), (own.Rate.of(56, 70), own.Rate.of(48, 80)))
    assert value == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_ratio_with_a_certain_base_is_the_rates_own_interval() -> None:
    rate = own.Rate.of(3, 40)
    certain = own.Rate(1, 1, 1.0, 1.0, 1.0)
    found = own.ratio_above_floor(rate, certain)
    assert (found.value, found.low, found.high) == pytest.approx((rate.value, rate.low, rate.high))


def test_ratio_by_hand_with_certain_floor_and_base() -> None:
    rate, certain = own.Rate.of(12, 40), own.Rate(9, 10, 0.9, 0.9, 0.9)
    floor = own.Rate(1, 10, 0.1, 0.1, 0.1)
    found = own.ratio_above_floor(rate, certain, floor)
    by_hand = [(x - 0.1) / 0.8 for x in (rate.value, rate.low, rate.high)]
    assert (found.value, found.low, found.high) == pytest.approx(by_hand)


def test_ratio_has_no_meaning_where_the_base_is_at_the_floor() -> None:
    assert own.ratio_above_floor(own.Rate.of(1, 10), own.Rate.of(2, 10), own.Rate.of(2, 10)) is None


def test_ratio_of_a_weak_base_is_not_bounded() -> None:
    found = own.ratio_above_floor(own.Rate.of(1, 10), own.Rate.of(2, 10), own.Rate.of(1, 10))
    assert found is not None
    assert found.low is None or found.high is None


@pytest.mark.parametrize(("p", "b", "f"), [(0.05, 0.95, 0.05), (0.3, 0.8, 0.1), (0.5, 0.9, 0.0)])
def test_ratio_interval_covers_the_truth(p: float, b: float, f: float) -> None:
    """Of 400 experiments with n = 50, at least 92 % must hold the true leakage (95 % less sampling error)."""
    rng = np.random.default_rng(3)
    truth, inside, runs, n = (p - f) / (b - f), 0, 400, 50
    for _ in range(runs):
        rate, base, floor = (own.Rate.of(int(rng.binomial(n, share)), n) for share in (p, b, f))
        found = own.ratio_above_floor(rate, base, floor)
        inside += (found.low is None or found.low <= truth) and (found.high is None or truth <= found.high)
    assert inside / runs >= 0.92


def test_propagation_of_a_sum_is_squaring_and_adding() -> None:
    rates = [own.Rate.of(3, 20), own.Rate.of(10, 25), own.Rate.of(30, 30)]
    found = own.propagate(lambda a, b, c: 0.2 * a + 0.5 * b + c, rates)
    assert [found.value, found.low, found.high] == pytest.approx(
        own.combination([0.2, 0.5, 1], rates), rel=1e-3
    )
    assert found.n == 75


def test_propagation_stays_in_the_function_s_range_and_needs_bounds() -> None:
    found = own.propagate(lambda a, b: a * b, [own.Rate.of(0, 10), own.Rate.of(0, 10)])
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(own.Rate.of(0, 10).high ** 2 / 2, rel=1e-3)
    unbounded = own.propagate(lambda a, b: a + b, [own.Rate.of(1, 10), own.Estimate(0.5, None, None, 1)])
    assert (unbounded.value, unbounded.low, unbounded.high) == (pytest.approx(0.6), None, None)
