"""The worst attacker: learning rates and seeds on a grid, under a cap on lost utility; the winner rerun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oubliette.attack.budget import Budget
from oubliette.errors import UserError

__all__ = ["Attempt", "Outcome", "Swept", "sweep"]


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
    """One cell of the grid, or one run of the winner."""

    learning_rate: float
    seed: int
    outcome: Outcome


@dataclass(frozen=True)
class Swept:
    """The whole grid, the learning rate that won, and its runs on fresh seeds: the ones to report.

    `winner` is None, and `fresh` empty, where no learning rate kept enough utility.
    """

    grid: tuple[Attempt, ...]
    winner: float | None
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
    """Run `attempt` at every learning rate and seed; the strongest rate that keeps enough utility runs
    afresh.

    A rate's strength and utility are means over its seeds; it is allowed if the mean utility is at least
    `keep_at_least`. Of equals the smaller rate wins. The winner's figures on the seeds it was chosen by are
    too good, so only those on `fresh_seeds` are to be reported. UserError where a list is empty, names
    something twice, or where a fresh seed was used in the grid.
    """
    for what, values in (("learning rate", learning_rates), ("seed", seeds), ("fresh seed", fresh_seeds)):
        if not values or len(set(values)) != len(values):
            raise UserError(f"a sweep needs at least one {what}, none of them twice; found {list(values)}")
    if used := sorted(set(seeds) & set(fresh_seeds)):
        raise UserError(
            f"seed {used[0]} is in the sweep and among the fresh seeds; a winner needs seeds of its own"
        )
    total = len(learning_rates) * len(seeds) + len(fresh_seeds)
    done = 0

    def run(rate: float, seed: int) -> Attempt:
        nonlocal done
        found = Attempt(rate, seed, attempt(budget.changed("sweep", learning_rate=rate, seed=seed)))
        done += 1
        if progress is not None:
            progress(done, total)
        return found

    grid = tuple(run(rate, seed) for rate in sorted(learning_rates) for seed in seeds)
    best: tuple[float, float] | None = None
    for rate in sorted(learning_rates):
        own = [each.outcome for each in grid if each.learning_rate == rate]
        strength = _mean([each.strength for each in own])
        if _mean([each.kept for each in own]) >= keep_at_least and (best is None or strength > best[1]):
            best = rate, strength
    if best is None:
        return Swept(grid, None, ())
    return Swept(grid, best[0], tuple(run(best[0], seed) for seed in fresh_seeds))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
