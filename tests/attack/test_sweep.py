"""The strongest attacker within the cap, by brute force, and its second run."""

from __future__ import annotations

import math
import sys

import pytest

from oubliette.attack.sweep import Outcome, Searched, search, sweep
from oubliette.core.errors import UserError
from oubliette.train.tuning.budget import Budget

#: Mean strength and utility by learning rate: 1e-2 is stronger, but breaks the model.
TABLE = {1e-4: (0.2, 0.99), 1e-3: (0.6, 0.92), 1e-2: (0.9, 0.5)}


def attempt(budget: Budget) -> Outcome:
    strength, kept = TABLE[budget.learning_rate]
    return Outcome(strength + 0.01 * (budget.seed % 3 - 1), kept)


def test_the_winner_is_the_strongest_allowed_and_runs_on_fresh_seeds():
    ticks = []
    found = sweep(
        attempt,
        Budget(steps=9),
        learning_rates=[1e-2, 1e-4, 1e-3],
        seeds=[0, 1, 2],
        fresh_seeds=[6, 8],
        keep_at_least=0.9,
        progress=lambda done, total: ticks.append((done, total)),
    )
    assert found.winner == 1e-3
    assert len(found.grid) == 9
    assert [(each.learning_rate, each.seed) for each in found.fresh] == [(1e-3, 6), (1e-3, 8)]
    assert found.strength == pytest.approx((0.59 + 0.61) / 2)
    assert ticks == [(count, 11) for count in range(1, 12)]


def test_the_cap_decides():
    def best(keep):
        return sweep(
            attempt, Budget(), learning_rates=list(TABLE), seeds=[0], fresh_seeds=[1], keep_at_least=keep
        ).winner

    assert [best(keep) for keep in (0.5, 0.92, 0.95, 1.0)] == [1e-2, 1e-3, 1e-4, None]


def test_no_winner_has_no_strength():
    found = sweep(attempt, Budget(), learning_rates=[1e-2], seeds=[0], fresh_seeds=[1])
    assert (found.winner, found.fresh, found.strength) == (None, (), None)


def test_of_equals_the_gentler_wins():
    found = sweep(
        lambda budget: Outcome(1, 1), Budget(), learning_rates=[3e-1, 1e-1], seeds=[0], fresh_seeds=[1]
    )
    assert found.winner == 1e-1


def test_bad_grids_are_refused():
    good = {"learning_rates": [1e-4], "seeds": [0], "fresh_seeds": [1]}
    for wrong, match in (
        ({"seeds": [1]}, "seed 1 is in the sweep and among the fresh seeds"),
        ({"seeds": []}, "at least one seed"),
        ({"learning_rates": [1e-4, 1e-4]}, "none of them twice"),
        ({"fresh_seeds": []}, "at least one fresh seed"),
        ({"learning_rates": [0]}, "sweep: 'learning_rate'"),
    ):
        with pytest.raises(UserError, match=match):
            sweep(attempt, Budget(), **(good | wrong))


def hill(budget: Budget) -> Outcome:
    """Strongest at 3e-3; above 5e-3 it breaks the model."""
    return Outcome(1 - abs(math.log10(budget.learning_rate / 3e-3)), float(budget.learning_rate <= 5e-3))


def tried(found: Searched) -> list[float]:
    return [each.learning_rate for each in found.grid]


def test_optuna_tries_the_rates_given_and_then_others_between_them():
    pytest.importorskip("optuna")
    rates = [1e-4, 1e-3, 1e-2]

    def by_optuna(trials):
        return search(hill, Budget(), learning_rates=rates, seeds=[5], by="optuna", trials=trials)

    found = by_optuna(14)
    assert tried(found)[:3] == rates
    assert len(found.grid) == 14
    assert all(1e-4 <= rate <= 1e-2 for rate in tried(found))
    assert found.winner is not None
    assert found.winner <= 5e-3
    # Better than the best of the grid, which is 1e-3.
    assert hill(Budget(learning_rate=found.winner)).strength > hill(Budget(learning_rate=1e-3)).strength
    assert by_optuna(14) == found
    assert by_optuna(3).winner == search(hill, Budget(), learning_rates=rates, seeds=[5]).winner == 1e-3


def test_a_rate_that_breaks_the_model_never_wins_by_optuna():
    pytest.importorskip("optuna")
    found = search(hill, Budget(), learning_rates=[6e-3, 9e-3], seeds=[0], by="optuna", trials=4)
    assert found.winner is None
    assert len(found.grid) == 4


def test_without_optuna_one_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'oubliette\[sweep\]'"):
        search(hill, Budget(), learning_rates=[1e-3], seeds=[0], by="optuna", trials=2)


def test_progress_counts_every_run():
    ticks = []
    search(
        attempt,
        Budget(),
        learning_rates=list(TABLE),
        seeds=[0, 1],
        progress=lambda done, total: ticks.append((done, total)),
    )
    assert ticks == [(count, 6) for count in range(1, 7)]
