"""How much may be frozen: exact for soft masks, never exceeded by hard ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import torch
from torch import Tensor

from oubliette.core.errors import UserError, suggest
from oubliette.core.numbers import percent
from oubliette.guard.learn.candidates import Candidates

__all__ = ["Budget", "Of", "cut", "excess", "knapsack", "soft_mask", "soft_mask_slope"]

Of = Literal["parameters", "tensors"]
_KINDS = ("parameters", "tensors")
_HALVINGS = 200  # of the bracket; floating point ends long before


@dataclass(frozen=True)
class Budget:
    """A share of the scope that may be frozen, in (0, 1): of its parameters, or of its tensors as published.

    A share of tensors says little: 20 % of an SD 1.5 UNet's can be anything between 0.006 and 93 % of its
    parameters. UserError for any other share or kind.
    """

    share: float
    of: Of = "parameters"

    def __post_init__(self) -> None:
        if self.of not in _KINDS:
            raise UserError(f"guard budget: no kind is called {self.of!r}; {suggest(str(self.of), _KINDS)}")
        number = isinstance(self.share, (int, float)) and not isinstance(self.share, bool)
        if not number or not 0 < self.share < 1:
            raise UserError(
                f"guard budget: a share of {self.of} lies between 0 and 1, exclusive, found {self.share!r}"
            )

    @classmethod
    def read(cls, spec: Budget | float | Mapping[str, Any]) -> Budget:
        """A budget from itself, a share of parameters, or a mapping with `share` and `of`."""
        if isinstance(spec, Budget):
            return spec
        if not isinstance(spec, Mapping):
            return cls(spec)
        unknown = [key for key in spec if key not in ("share", "of")]
        if unknown or "share" not in spec:
            raise UserError(f"guard budget: expected 'share' and 'of', found {dict(spec)!r}")
        return cls(**spec)

    def costs(self, candidates: Candidates) -> list[int]:
        """What freezing each candidate takes of the budget: its parameters or tensors, followers counted."""
        if self.of == "parameters":
            return [unit.parameters for unit in candidates.units]
        return [len(unit.tensors) for unit in candidates.units]

    def limit(self, costs: Sequence[int]) -> int:
        """The greatest sum of costs within the budget, of the decimal number as it was written."""
        return math.floor(Decimal(str(self.share)) * sum(costs))

    def __str__(self) -> str:
        return f"{percent(self.share, 'g')} of the {self.of}"


def cut(
    values: Mapping[str, float], candidates: Candidates, budget: Budget, *, order: bool = False
) -> list[str]:
    """The candidates to freeze within a budget, in the model's order.

    `values` are worths by candidate, the sum of whose frozen ones is to be great; with `order` they are an
    order already, the greatest first, whatever each costs. UserError where not one candidate fits.
    """
    costs = budget.costs(candidates)
    limit = budget.limit(costs)
    if min(costs) > limit:
        raise UserError(
            f"guard budget: {budget} are {limit}, and the smallest of {len(costs)} candidates has "
            f"{min(costs)}; choose a greater share"
        )
    numbers = [float(values[name]) for name in candidates.names]
    if not order:
        numbers = [number / cost for number, cost in zip(numbers, costs, strict=True)]
    return [candidates.names[place] for place in knapsack(numbers, costs, limit)]


def knapsack(order: Sequence[float], costs: Sequence[int], limit: int) -> list[int]:
    """Places of a subset whose costs sum to at most `limit`, the greatest in `order` first, ascending.

    Ties go to the earlier place; what does not fit is passed over, so that none left out would still fit.
    Where the order is worth per cost, of worths of at least 0, the subset falls short of the best one by no
    more than the worth of the first that was passed over (Dantzig 1957). Candidates of negative worth are
    taken too, last: the budget is to be used.
    """
    if any(not math.isfinite(number) for number in order):
        raise ValueError("a number of the order is not finite")
    chosen: list[int] = []
    used = 0
    for place in sorted(range(len(order)), key=lambda place: (-order[place], place)):
        if used + costs[place] <= limit:
            chosen.append(place)
            used += costs[place]
    return sorted(chosen)


def soft_mask(x: Tensor, costs: Tensor, share: float, temperature: float) -> Tensor:
    """m_i = sigmoid((x_i - b) / T) with the b at which sum(n_i m_i) = share * sum(n_i); (N,), float64.

    b is found by bisection; the sum holds to 1e-6 relative as long as T is above the rounding of x.
    """
    values, weights = x.detach().double(), costs.double()
    wanted = share * float(weights.sum())
    # At these ends every m_i is below, and above, the share.
    reach = temperature * (abs(math.log(share / (1 - share))) + 1)
    low, high = float(values.min()) - reach, float(values.max()) + reach
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if float((weights * torch.sigmoid((values - middle) / temperature)).sum()) > wanted:
            low = middle
        else:
            high = middle
    return torch.sigmoid((values - (low + high) / 2) / temperature)


def soft_mask_slope(gradient: Tensor, mask: Tensor, costs: Tensor, temperature: float) -> Tensor:
    """dL/dx from dL/dm at a `soft_mask`, with b a function of x; (N,), float64.

    With s_i = m_i (1 - m_i) / T, the budget makes db/dx_j = n_j s_j / sum(n_i s_i), so that
    dL/dx_j = s_j n_j h_j with the `excess` h_j.
    """
    steep = mask.double() * (1 - mask.double()) / temperature
    return steep * costs.double() * excess(gradient, mask, costs)


def excess(gradient: Tensor, mask: Tensor, costs: Tensor) -> Tensor:
    """h_j = dL/dm_j / n_j - p at a `soft_mask`, p = sum(s_i dL/dm_i) / sum(n_i s_i); (N,), float64.

    What the loss rises by when j is frozen further, per cost, less what that cost would do elsewhere.
    """
    steep = mask.double() * (1 - mask.double())
    weights, slope = costs.double(), gradient.double()
    total = float((weights * steep).sum())
    if total == 0:
        return torch.zeros_like(slope)  # every m is 0 or 1 to the last bit: nothing can be exchanged
    return slope / weights - float((steep * slope).sum()) / total
