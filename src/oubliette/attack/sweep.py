"""The worst attacker: learning rates and seeds, under a cap on lost utility; the winner is run afresh."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from oubliette.core.errors import UserError
from oubliette.train.tuning.budget import Budget

__all__ = ["Attempt", "Outcome", "Searched", "Swept", "need_optuna", "search", "sweep"]

By = Literal["grid", "optuna"]


@dataclass(frozen=True)
class Outcome:
    """What one attack came to: how strong it was (more is worse for the defender) and the utility it left.

    `strength` is the caller's number, such as the area under the resistance curve; `kept` the share of the
    base's utility.
    """

    strength: float
    kept: float


@dataclass(frozen=True)
class Attempt:
    """One run of one learning rate: in the search, or of the winner."""

    learning_rate: float
    seed: int
    outcome: Outcome


@dataclass(frozen=True)
class Searched:
    """All that was tried, and the learning rate that won; None where no rate kept enough utility."""

    grid: tuple[Attempt, ...]
    winner: float | None


@dataclass(frozen=True)
class Swept(Searched):
    """What was tried, the winner, and its runs on fresh seeds: the ones to report, none without a winner."""

    fresh: tuple[Attempt, ...]

    @property
    def strength(self) -> float | None:
        """The winner's mean strength over fresh seeds."""
        return _mean([each.outcome.strength for each in self.fresh]) if self.fresh else None


def sweep(
    attempt: Callable[[Budget], Outcome],
    budget: Budget,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    fresh_seeds: Sequence[int],
    keep_at_least: float = 0.9,
    progress: Callable[[int, int], None] | None = None,
) -> Swept:
    """`search` on a grid, then the winner on `fresh_seeds`.

    The winner's figures on the seeds it was chosen by are too good, so only those on fresh ones are to be
    reported. UserError as in `search`, and where a fresh seed was used in the grid.
    """
    _check("fresh seed", fresh_seeds)
    if used := sorted(set(seeds) & set(fresh_seeds)):
        raise UserError(
            f"seed {used[0]} is in the sweep and among the fresh seeds; a winner needs seeds of its own"
        )
    cells = len(learning_rates) * len(seeds)
    total = cells + len(fresh_seeds)

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, total)

    found = search(
        attempt,
        budget,
        learning_rates=learning_rates,
        seeds=seeds,
        keep_at_least=keep_at_least,
        progress=lambda done, _: tell(done),
    )
    if found.winner is None:
        return Swept(found.grid, None, ())
    fresh = []
    for seed in fresh_seeds:
        fresh.append(_run(attempt, budget, found.winner, seed))
        tell(cells + len(fresh))
    return Swept(found.grid, found.winner, tuple(fresh))


def search(
    attempt: Callable[[Budget], Outcome],
    budget: Budget,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    keep_at_least: float = 0.9,
    by: By = "grid",
    trials: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Searched:
    """Run `attempt` at every learning rate and seed, and name the strongest rate that keeps enough utility.

    A rate's strength and utility are means over its seeds; it is allowed if the mean utility is at least
    `keep_at_least`. Of equals the smaller rate wins. `by` "optuna" tries `trials` rates: those given first,
    then what its seeded TPE sampler proposes between the smallest and the largest. UserError where a list is
    empty or names something twice, and where optuna is asked for and not installed.
    """
    _check("learning rate", learning_rates)
    _check("seed", seeds)
    rates = sorted(learning_rates)
    total = (len(rates) if by == "grid" else trials or len(rates)) * len(seeds)
    means: dict[float, Outcome] = {}
    grid: list[Attempt] = []

    def measure(rate: float) -> Outcome:
        if rate not in means:
            for seed in seeds:
                grid.append(_run(attempt, budget, rate, seed))
                if progress is not None:
                    progress(len(grid), total)
            means[rate] = _mean_outcome([each.outcome for each in grid[-len(seeds) :]])
        return means[rate]

    if by == "grid":
        for rate in rates:
            measure(rate)
    else:
        _ask_optuna(measure, rates, trials or len(rates), keep_at_least, seeds[0])
    allowed = [rate for rate in sorted(means) if means[rate].kept >= keep_at_least]
    return Searched(tuple(grid), max(allowed, key=lambda rate: means[rate].strength, default=None))


def need_optuna() -> Any:
    """The optuna module; UserError with the way to install it where it is missing."""
    try:
        return importlib.import_module("optuna")
    except ImportError:
        raise UserError(
            "search: optuna is not installed; pip install 'oubliette[sweep]', or take search: grid"
        ) from None


def _ask_optuna(
    measure: Callable[[float], Outcome], rates: Sequence[float], trials: int, keep: float, seed: int
) -> None:
    """Measure the rates given, then what a TPE sampler proposes in their range, evenly in the logarithm.

    A rate that keeps too little counts for less than any that keeps enough, the less the more it loses.
    """
    optuna = need_optuna()
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=len(rates))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for rate in rates:
            study.enqueue_trial({"learning_rate": rate})
        for _ in range(trials):
            trial = study.ask()
            found = measure(trial.suggest_float("learning_rate", rates[0], rates[-1], log=True))
            study.tell(trial, found.strength if found.kept >= keep else found.kept - keep - 1)
    finally:
        optuna.logging.set_verbosity(loud)


def _run(attempt: Callable[[Budget], Outcome], budget: Budget, rate: float, seed: int) -> Attempt:
    return Attempt(rate, seed, attempt(budget.changed("sweep", learning_rate=rate, seed=seed)))


def _check(what: str, values: Sequence[float]) -> None:
    if not values or len(set(values)) != len(values):
        raise UserError(f"a sweep needs at least one {what}, none of them twice; found {list(values)}")


def _mean_outcome(found: Sequence[Outcome]) -> Outcome:
    return Outcome(_mean([each.strength for each in found]), _mean([each.kept for each in found]))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
