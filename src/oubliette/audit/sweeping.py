"""A row's sweep: the strongest learning rate that keeps enough of the rest, found with seeds of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel

if TYPE_CHECKING:
    from oubliette.attack.catalogue import Attack
    from oubliette.audit.result import Curve, Swept

__all__ = ["Sweep", "at_rate", "rates_of", "sweep_seeds", "worst"]

#: The first seed of a sweep lies this far from the suite's own, of which no suite has so many.
_FAR = 10_000


class Sweep(StrictModel):
    """How a row's learning rate is sought: the strongest attack that keeps `keep_at_least` of the rest.

    Strength is the area under the resistance curve, what is kept that at the last point that counts, both
    means over `seeds` runs of each of the `learning_rates` (by default the catalogue's). `search` "optuna"
    tries `trials` rates, those given first and then others between them; it needs the extra `sweep`.
    """

    learning_rates: list[float] = Field(default_factory=list)
    seeds: int = Field(default=2, ge=1)
    keep_at_least: float = Field(default=0.9, gt=0, le=1)
    search: Literal["grid", "optuna"] = "grid"
    trials: int | None = Field(default=None, ge=1)

    @field_validator("learning_rates")
    @classmethod
    def _distinct(cls, rates: list[float]) -> list[float]:
        if len(set(rates)) != len(rates) or any(rate <= 0 for rate in rates):
            raise ValueError("expected learning rates above 0, none of them twice")
        return rates

    @model_validator(mode="after")
    def _trials(self) -> Sweep:
        if (self.trials is not None) != (self.search == "optuna"):
            raise ValueError("'trials' says how many rates 'search: optuna' tries, and goes with it alone")
        return self

    def tries(self, rates: Sequence[float]) -> int:
        """How many learning rates are tried, at most."""
        return self.trials or len(rates)


def rates_of(spec: Any, found: Attack) -> list[float]:
    """The learning rates that a row's sweep begins with, its own or its attack's; UserError for none."""
    rates = spec.sweep.learning_rates or list(found.learning_rates)
    if not rates:
        raise UserError(
            f"nothing to sweep: '{found.name}' names no learning rates; give some, as in "
            "sweep: {learning_rates: [1.0e-5, 1.0e-4]}"
        )
    return rates


def at_rate(spec: Any, rate: float) -> Any:
    """The row at one learning rate, as one without a sweep says it."""
    fixed = {"learning_rate": rate}
    return spec.model_copy(
        update={"budget": {**spec.budget, **fixed}, "nano": {**spec.nano, **fixed}, "sweep": None}
    )


def sweep_seeds(spec: Any, seed: int, runs: int) -> list[int]:
    """The seeds of a sweep, none of which is among the suite's `runs` from `seed` on."""
    first = seed + max(_FAR, runs)
    return [first + index for index in range(spec.sweep.seeds)]


def worst(spec: Any, rates: Sequence[float], seeds: Sequence[int], run: Callable[[Any, int], Curve]) -> Swept:
    """Run the row at its learning rates on the model and name the winner.

    `run(row, seed)` gives the model's curve. UserError where nothing says what an attack leaves of the rest,
    since the cap on that is what keeps the strongest attack from being the most ruinous one.
    """
    from oubliette.attack.sweep import Outcome, search
    from oubliette.audit.result import Swept, Tried, usable
    from oubliette.train.tuning.budget import Budget

    def attempt(budget: Budget) -> Outcome:
        curve = run(at_rate(spec, budget.learning_rate), budget.seed)
        points = usable(curve)
        if curve.area is None or not points:
            return Outcome(0.0, 0.0)
        kept = points[-1].kept
        if kept is None:
            raise UserError("a sweep must know what is kept of the rest, and nothing of it is judged here")
        return Outcome(curve.area, kept.value)

    how = spec.sweep
    found = search(
        attempt,
        Budget(),
        learning_rates=rates,
        seeds=seeds,
        keep_at_least=how.keep_at_least,
        by=how.search,
        trials=how.trials,
    )
    tried = [Tried(one.learning_rate, one.seed, one.outcome.strength, one.outcome.kept) for one in found.grid]
    return Swept(how.search, how.keep_at_least, tried, found.winner)
