"""Baselines that never look at the data."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.guard.layers import layer_type
from oubliette.guard.learn.budget import Budget
from oubliette.guard.learn.draws import rng_for
from oubliette.guard.learn.problem import Found, Problem

__all__ = ["Largest", "LayerType", "Random"]


class NoOptions(StrictModel):
    """A learner without options."""


class Random:
    """Candidates in random order until the budget is full: a random mask of the same share of parameters.

    Drawn by tensor count, a random 20 % of an SD 1.5 UNet is anything between 12 and 30 % of its parameters.
    """

    name: ClassVar[str] = "random"
    about: ClassVar[str] = "tensors at random, of the same share"
    paper: ClassVar[str] = "FreezeAsGuard's random freezing, matched on the budget"
    Options: ClassVar[type[StrictModel]] = NoOptions

    def __init__(self, options: Any) -> None:
        self.options = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """A random order."""
        return Found.of(problem.candidates, _uniform(problem, self.name), order=True)


class LayerTypeOptions(StrictModel):
    """`type` is frozen first, at random within it."""

    type: Literal["attention", "feed-forward", "convolution", "time", "embedding", "other"] = Field(
        default="attention"
    )


class LayerType:
    """Layers of one type first, at random among themselves; what budget they leave goes to others at random.

    UserError where the scope has none of the type.
    """

    name: ClassVar[str] = "layer-type"
    about: ClassVar[str] = "one type of layer first: attention, feed-forward, convolution, ..."
    paper: ClassVar[str] = "the coarse masks that FreezeAsGuard (2405.17472) argues against"
    Options: ClassVar[type[StrictModel]] = LayerTypeOptions

    def __init__(self, options: Any) -> None:
        self.options: LayerTypeOptions = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """An order: the type's candidates above all others."""
        units = problem.candidates.units
        of_type = [layer_type(unit.name, unit.dimensions) == self.options.type for unit in units]
        if not any(of_type):
            found = sorted({layer_type(unit.name, unit.dimensions) for unit in units})
            raise UserError(
                f"guard learner 'layer-type': scope '{problem.candidates.scope}' has no layer of type "
                f"'{self.options.type}'; it has {', '.join(found)}"
            )
        share = sum(unit.parameters for unit, chosen in zip(units, of_type, strict=True) if chosen)
        return Found.of(
            problem.candidates,
            _uniform(problem, self.name) + 2 * torch.tensor(of_type, dtype=torch.float64),
            order=True,
            facts={"share_of_type": share / problem.candidates.parameters},
        )


class Largest:
    """The largest tensors first: the fewest of them for a share of parameters."""

    name: ClassVar[str] = "largest"
    about: ClassVar[str] = "the largest tensors first"
    paper: ClassVar[str] = "a control: what freezing the most parameters by the fewest tensors does"
    Options: ClassVar[type[StrictModel]] = NoOptions

    def __init__(self, options: Any) -> None:
        self.options = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """An order by parameters, followers counted."""
        sizes = [float(unit.parameters) for unit in problem.candidates.units]
        return Found.of(problem.candidates, sizes, order=True)


def _uniform(problem: Problem, name: str) -> Tensor:
    """A number in (0, 1) for each candidate, by the seed."""
    return torch.rand(len(problem.candidates), generator=rng_for(problem.seed, name), dtype=torch.float64)
