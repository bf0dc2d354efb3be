"""Baselines that look at gradients, each in a way of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.progress import progress
from oubliette.core.validation import StrictModel
from oubliette.guard.layers import block_of
from oubliette.guard.learn.budget import Budget
from oubliette.guard.learn.draws import paired
from oubliette.guard.learn.problem import Found, Problem
from oubliette.guard.learn.slopes import Statistic, gathered
from oubliette.guard.learners.saliency import Saliency, saliency_scores

__all__ = ["Block", "FisherRatio", "GradientDifference"]


class BatchesOptions(StrictModel):
    """How many `batches` a side are averaged."""

    batches: int = Field(default=32, ge=1)


class FisherRatio:
    """Freezes what matters to the illegal data more than to the innocent: F_illegal / F_innocent.

    F is a candidate's mean squared gradient at theta_pre over batches (of a batch's mean gradient, so that it
    is the empirical Fisher's diagonal at a batch of one row and smaller above).
    """

    name: ClassVar[str] = "fisher-ratio"
    about: ClassVar[str] = "squared gradients of the illegal loss over the innocent one's, at the base"
    paper: ClassVar[str] = "selective synaptic dampening's ratio (2308.07707) as a freeze mask"
    Options: ClassVar[type[StrictModel]] = BatchesOptions

    def __init__(self, options: Any) -> None:
        self.options: BatchesOptions = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """An order by the ratio, which is free of size already."""
        squares = _means(problem, self.options.batches, self.name, lambda _, g: g.float().square().sum())
        # A candidate that neither side reaches has no claim to be frozen: 0 over the floor.
        floor = float(squares[1].max()) * 1e-12 + torch.finfo(torch.float64).tiny
        return Found.of(problem.candidates, squares[0] / (squares[1] + floor), order=True)


class GradientDifference:
    """Freezes what moved along large illegal gradients: sum over entries of |d g|, g at theta_ft.

    The first-order saliency of pruning, of the illegal side alone and without its sign.
    """

    name: ClassVar[str] = "gradient-difference"
    about: ClassVar[str] = "|illegal gradient x difference| at the relearned weights"
    paper: ClassVar[str] = "first-order Taylor saliency (Molchanov et al. 2017, 1611.06440) as a freeze mask"
    Options: ClassVar[type[StrictModel]] = BatchesOptions

    def __init__(self, options: Any) -> None:
        self.options: BatchesOptions = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """Worths, to be weighed against each tensor's size by whoever cuts."""
        with problem.mixed() as mixed:
            mixed.hold(0.0)
            values = _means(
                problem,
                self.options.batches,
                self.name,
                lambda name, g: (problem.difference[name].float() * g.float()).abs().sum(),
                innocent=False,
            )
        return Found.of(problem.candidates, values[0])


class Block:
    """Whole blocks of the network, the one with the most saliency per parameter first.

    Candidates of a block share its number, so the last block that the budget reaches is frozen in part, and
    smaller ones fill what is left.
    """

    name: ClassVar[str] = "block"
    about: ClassVar[str] = "whole blocks, by their saliency"
    paper: ClassVar[str] = "the coarse masks that FreezeAsGuard (2405.17472) argues against"
    Options: ClassVar[type[StrictModel]] = Saliency.Options

    def __init__(self, options: Any) -> None:
        self.options: Any = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """An order of blocks by their mean saliency per parameter."""
        options = self.options
        scores, facts = saliency_scores(problem, options.batches, options.points, options.beta)
        units = problem.candidates.units
        sums: dict[str, float] = {}
        sizes: dict[str, int] = {}
        for unit, score in zip(units, scores.tolist(), strict=True):
            block = block_of(unit.name)
            sums[block] = sums.get(block, 0.0) + score
            sizes[block] = sizes.get(block, 0) + unit.parameters
        values = [sums[block_of(unit.name)] / sizes[block_of(unit.name)] for unit in units]
        facts["blocks"] = {block: sums[block] / sizes[block] for block in sums}
        return Found.of(problem.candidates, values, order=True, facts=facts)


def _means(
    problem: Problem, batches: int, name: str, statistic: Statistic, *, innocent: bool = True
) -> list[Tensor]:
    """The statistic's mean over batches for each side, (N,) float64, at the weights as they stand."""
    sides = 2 if innocent else 1
    total = [torch.zeros(len(problem.candidates), dtype=torch.float64) for _ in range(sides)]
    with progress(name, batches, "batches", enabled=problem.show_progress) as tick:
        for place in range(batches):
            pair = paired(problem.illegal, problem.innocent, problem.batch, problem.seed, name, place)
            for side, picked in zip(total, pair, strict=False):
                side += gathered(problem, picked, statistic, f" {name}, batch {place}")[1] / batches
            tick(place + 1, "")
    return total
