"""Budgets: hard masks against brute force, soft ones against their sum, slopes against finite differences."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attack.attacked import diffusion
from oubliette.core.errors import UserError
from oubliette.guard.learn.budget import Budget, cut, excess, knapsack, soft_mask, soft_mask_slope
from oubliette.guard.learn.candidates import Candidates

items = st.lists(st.tuples(st.floats(-10, 10, allow_nan=False), st.integers(1, 60)), min_size=1, max_size=9)


@given(items, st.integers(0, 400))
def test_a_hard_mask_fits_and_nothing_more_would(pairs, limit):
    costs = [cost for _, cost in pairs]
    chosen = knapsack([worth / cost for worth, cost in pairs], costs, limit)
    used = sum(costs[place] for place in chosen)
    assert chosen == sorted(set(chosen))
    assert used <= limit
    assert all(used + costs[place] > limit for place in range(len(costs)) if place not in chosen)


@given(items, st.integers(0, 400))
def test_a_hard_mask_is_near_the_best_one(pairs, limit):
    """Dantzig's bound, the best subset found by trying all."""
    worths = [abs(worth) for worth, _ in pairs]
    costs = [cost for _, cost in pairs]
    order = [worth / cost for worth, cost in zip(worths, costs, strict=True)]
    chosen = knapsack(order, costs, limit)
    places = range(len(costs))
    best = max(
        sum(worths[place] for place in some)
        for size in range(len(costs) + 1)
        for some in combinations(places, size)
        if sum(costs[place] for place in some) <= limit
    )
    passed = [place for place in sorted(places, key=lambda p: (-order[p], p)) if place not in chosen]
    slack = worths[passed[0]] if passed else 0.0
    got = sum(worths[place] for place in chosen)
    assert got <= best + 1e-9
    assert got + slack >= best - 1e-9


def test_greedy_by_hand():
    assert knapsack([3.0, 2.0, 1.0], [5, 4, 1], 6) == [0, 2]  # the second does not fit any more
    assert knapsack([1.0, 1.0, 1.0], [2, 2, 2], 4) == [0, 1]  # ties to the earlier
    assert knapsack([-1.0, -2.0], [1, 1], 1) == [0]
    with pytest.raises(ValueError, match="not finite"):
        knapsack([float("nan")], [1], 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-20, 20), st.integers(1, 10**7)), min_size=1, max_size=40),
    st.floats(0.001, 0.999),
    st.floats(1e-3, 10),
)
def test_a_soft_mask_keeps_the_budget_exactly(pairs, share, temperature):
    x = torch.tensor([value for value, _ in pairs], dtype=torch.float64)
    costs = torch.tensor([float(cost) for _, cost in pairs], dtype=torch.float64)
    mask = soft_mask(x, costs, share, temperature)
    assert bool(((mask >= 0) & (mask <= 1)).all())
    wanted = share * float(costs.sum())
    assert float((mask * costs).sum()) == pytest.approx(wanted, rel=1e-6)
    order = torch.argsort(x)
    assert bool((mask[order].diff() > -1e-12).all())  # a greater x is never frozen less


def test_the_slope_follows_the_budget():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(7, generator=rng, dtype=torch.float64)
    costs = torch.randint(1, 50, (7,), generator=rng).double()
    gradient = torch.randn(7, generator=rng, dtype=torch.float64)

    def loss(at: torch.Tensor) -> float:
        return float((soft_mask(at, costs, 0.35, 0.4) * gradient).sum())

    found = soft_mask_slope(gradient, soft_mask(x, costs, 0.35, 0.4), costs, 0.4)
    step = 1e-6
    for place in range(7):
        nudge = torch.zeros(7, dtype=torch.float64)
        nudge[place] = step
        expected = (loss(x + nudge) - loss(x - nudge)) / (2 * step)
        assert float(found[place]) == pytest.approx(expected, rel=1e-5, abs=1e-8)
    # The excess is the same without the factors that only say how fast: of the same sign everywhere.
    assert torch.equal(found.sign(), excess(gradient, soft_mask(x, costs, 0.35, 0.4), costs).sign())
    # Moving all of x together changes nothing, and a gradient in proportion to the costs is worth nothing.
    assert float(found.sum()) == pytest.approx(0, abs=1e-12)
    assert soft_mask_slope(costs, soft_mask(x, costs, 0.35, 0.4), costs, 0.4).abs().max() < 1e-9


def test_a_saturated_mask_has_no_slope():
    costs = torch.ones(2, dtype=torch.float64)
    still = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.equal(soft_mask_slope(torch.ones(2), still, costs, 0.1), torch.zeros(2).double())


@given(st.floats(0.01, 0.99), st.sampled_from(["parameters", "tensors"]), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_both_kinds_of_budget_hold_on_a_model(share, kind, seed):
    candidates = _candidates()
    budget = Budget(share, kind)
    scores = dict(
        zip(candidates.names, torch.rand(len(candidates), generator=_rng(seed)).tolist(), strict=True)
    )
    costs = dict(zip(candidates.names, budget.costs(candidates), strict=True))
    total = candidates.parameters if kind == "parameters" else len(candidates.sizes)
    assert sum(costs.values()) == total
    if min(costs.values()) > share * total:
        with pytest.raises(UserError, match="choose a greater share"):
            cut(scores, candidates, budget)
        return
    names = cut(scores, candidates, budget)
    used = sum(costs[name] for name in names)
    assert used <= Fraction(str(share)) * total
    assert all(used + costs[name] > Fraction(str(share)) * total for name in costs if name not in names)
    got = candidates.shares(candidates.expand(names))
    assert (got.parameters if kind == "parameters" else got.tensors) == pytest.approx(used / total)


def test_a_limit_is_that_of_the_decimal_written():
    assert Budget(0.1).limit([1] * 30) == 3
    assert Budget(0.7).limit([1] * 10) == 7  # 0.7 * 10 is 7 to the last bit of neither
    assert Budget(0.29).limit([1] * 100) == 29


@pytest.mark.parametrize("share", [0, 1, -0.2, 1.5, float("nan"), True, "0.3", None])
def test_a_share_outside_is_refused(share):
    with pytest.raises(UserError, match="between 0 and 1") as caught:
        Budget(share)
    assert "\n" not in str(caught.value)


def test_reading_a_budget():
    assert Budget.read(0.3) == Budget(0.3) == Budget.read(Budget(0.3))
    assert Budget.read({"share": 0.5, "of": "tensors"}) == Budget(0.5, "tensors")
    assert str(Budget(0.3)) == "30 % of the parameters"
    with pytest.raises(UserError, match="did you mean 'tensors'"):
        Budget(0.3, "tensor")
    with pytest.raises(UserError, match="expected 'share' and 'of'"):
        Budget.read({"shares": 0.3})
    with pytest.raises(UserError, match="the smallest of"):
        cut(dict.fromkeys(_candidates().names, 0.0), _candidates(), Budget(1e-6))


_MADE: list[Candidates] = []


def _candidates() -> Candidates:
    if not _MADE:
        _MADE.append(Candidates.of(diffusion()))
    return _MADE[0]


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
