"""One shot: what freezing each tensor would do to both losses, to first order, on the way to theta_ft."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.progress import progress
from oubliette.core.validation import StrictModel
from oubliette.guard.learn.budget import Budget
from oubliette.guard.learn.draws import paired
from oubliette.guard.learn.problem import Found, Problem
from oubliette.guard.learn.slopes import slopes

__all__ = ["Saliency", "saliency_scores"]


class SaliencyOptions(StrictModel):
    """`batches` a side at each of `points` points of the way; `beta` weighs the innocent loss."""

    batches: int = Field(default=32, ge=1)
    points: int = Field(default=3, ge=1)
    beta: float = Field(default=1.0, ge=0)


class Saliency:
    """Freezes what the illegal loss fell by on the way from theta_pre to theta_ft, per parameter.

    score_i = <theta_pre,i - theta_ft,i, E[dL_illegal/dtheta_i - beta dL_innocent/dtheta_i]>, averaged over
    points a = (k + 1/2) / points of theta_pre - a d: positive where freezing tensor i raises the illegal loss
    by more than beta times the innocent. Without the innocent side the scores sum to what the illegal loss
    fell by, in the limit of many points (completeness of integrated gradients, Sundararajan et al. 2017).
    """

    name: ClassVar[str] = "saliency"
    about: ClassVar[str] = "one shot: illegal minus innocent loss that each tensor's way to theta_ft explains"
    paper: ClassVar[str] = "path-averaged first-order form of FreezeAsGuard's upper level (2405.17472)"
    Options: ClassVar[type[StrictModel]] = SaliencyOptions

    def __init__(self, options: Any) -> None:
        self.options: SaliencyOptions = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """Worths, to be weighed against each tensor's size by whoever cuts."""
        options = self.options
        scores, facts = saliency_scores(problem, options.batches, options.points, options.beta)
        return Found.of(problem.candidates, scores, facts=facts)


def saliency_scores(
    problem: Problem, batches: int, points: int, beta: float = 1.0
) -> tuple[Tensor, dict[str, Any]]:
    """The scores (N,) float64, and the mean losses of both sides at each point.

    The same batches serve every point, illegal and innocent under the same noise.
    """
    total = torch.zeros(len(problem.candidates), dtype=torch.float64)
    losses: dict[str, list[float]] = {"illegal": [], "innocent": []}
    title, done = "saliency", 0
    show = problem.show_progress
    with problem.mixed() as mixed, progress(title, points * batches, "batches", enabled=show) as tick:
        for point in range(points):
            mixed.hold(1 - (point + 0.5) / points)
            sums = [0.0, 0.0]
            for place in range(batches):
                pair = paired(
                    problem.illegal, problem.innocent, problem.batch, problem.seed, "saliency", place
                )
                for side, (picked, weight) in enumerate(zip(pair, (1.0, -beta), strict=True)):
                    loss, slope = slopes(problem, picked, f" saliency, batch {place}")
                    sums[side] += loss / batches
                    total += weight / (points * batches) * slope
                done += 1
                tick(done, f"illegal {sums[0] * batches / (place + 1):.4g}")
            losses["illegal"].append(sums[0])
            losses["innocent"].append(sums[1])
    return total, {"batches": batches, "points": points, "beta": beta, "losses": losses}
