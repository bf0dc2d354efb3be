"""FreezeAsGuard's released rule, step for step, roundings included."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.progress import progress
from oubliette.core.validation import StrictModel
from oubliette.guard.learn.budget import Budget
from oubliette.guard.learn.draws import OneOf, Picked, rng_for, rows_of
from oubliette.guard.learn.problem import Found, Problem, curve
from oubliette.guard.learn.slopes import each_gradient, summed

__all__ = ["Released", "ReleasedOptions", "ReleasedRule", "joint_batches"]

_EMPTY = 1e-5  # added to the count of a side's rows, so that a batch without any has a loss of 0


class ReleasedOptions(StrictModel):
    """The launch scripts' settings: `steps` of the user; an epoch's first and every `interval`-th batch is
    the publisher's.
    """

    temperature: float = Field(default=0.2, gt=0)
    sparsity: float = Field(default=5e3, ge=0)
    learning_rate: float = Field(default=10.0, gt=0)
    user_learning_rate: float = Field(default=1e-5, gt=0)
    interval: int = Field(default=5, ge=2)
    steps: int = Field(default=2000, ge=1)


class ReleasedRule:
    """The rule's state, x (N,) and d in bf16 and the mixed weights in the model, and its two kinds of step.

    x starts uniform in [0, 1). theta_ft is theta_pre - d: d is all that is kept of it.
    """

    def __init__(self, problem: Problem, share: float, options: ReleasedOptions) -> None:
        self.problem, self.share, self.options = problem, share, options
        start = torch.rand(len(problem.candidates), generator=rng_for(problem.seed, "released", "x"))
        self.x = start.to(torch.bfloat16)
        self._place = problem.candidates.place
        with torch.no_grad():
            mask = self.mask()
            for name, parameter in problem.parameters.items():
                d = problem.difference[name]
                parameter.sub_(d).add_(d * mask[self._place[name]].to(d))

    def mask(self) -> Tensor:
        """m = sigmoid(x / T), (N,) bf16."""
        return torch.sigmoid(self.x / self.options.temperature)

    def publish(self, sides: tuple[Picked | None, Picked | None], rows: tuple[int, int]) -> float:
        """The publisher's step on a batch's illegal and innocent rows; the mixed loss before it.

        L = (-L_illegal + L_innocent) / 2; u_i = lr <d_i, g_i> m_i (1 - m_i) / T;
        q_i = c d(rho - mean m)^2/dx_i; x_i <- x_i - u_i - q_i, and theta_i moves by d_i times what m_i did.
        """
        problem, options = self.problem, self.options
        found: dict[str, Tensor] = {}

        def use(name: str, gradient: Tensor) -> None:
            found[name] = problem.difference.with_slope(name, gradient)

        with each_gradient(problem.model, problem.parameters, use):
            illegal, innocent = self._losses(sides)
            loss = 0.5 * (-illegal * rows[0] / (rows[0] + _EMPTY) + innocent * rows[1] / (rows[1] + _EMPTY))
            loss.backward()
        slope = summed(problem, found, " released rule").float()
        before = self.mask()
        m = before.float()
        steep = m * (1 - m) / options.temperature
        upper = (options.learning_rate * slope * steep).to(torch.bfloat16)
        pull = options.sparsity * 2 * (m.mean() - self.share) / len(m) * steep
        self.x = self.x - upper - pull.to(torch.bfloat16)
        grown = self.mask() - before
        with torch.no_grad():
            for name, parameter in problem.parameters.items():
                d = problem.difference[name]
                parameter.add_(d * grown[self._place[name]].to(d))
        return float(loss.detach())

    def use(self, sides: tuple[Picked | None, Picked | None], rows: tuple[int, int]) -> float:
        """The simulated user's step of plain gradient descent on theta_ft through the mask; the loss before.

        delta_i = -lr (1 - m_i) g_i; theta_i <- theta_i + (1 - m_i) delta_i; d_i <- d_i - delta_i. Each
        tensor moves as soon as its gradient is there, which is then dropped.
        """
        problem, rate = self.problem, self.options.user_learning_rate
        free = 1 - self.mask().float()

        def use(name: str, gradient: Tensor) -> None:
            share = free[self._place[name]]
            delta = gradient * (-rate * share)
            problem.parameters[name].add_(delta * share)
            problem.difference[name].sub_(delta)

        with each_gradient(problem.model, problem.parameters, use):
            illegal, innocent = self._losses(sides)
            loss = (illegal * rows[0] + innocent * rows[1]) / sum(rows)
            loss.backward()
        return float(loss.detach())

    def _losses(self, sides: tuple[Picked | None, Picked | None]) -> list[Tensor]:
        """Each side's mean loss, 0 for one without rows."""
        with self.problem.autocast():
            return [
                torch.zeros((), device=self.problem.model.device)
                if side is None
                else side.loss(self.problem.model)
                for side in sides
            ]


class Released:
    """FreezeAsGuard as its code has it: soft masks of T = 0.2, a penalty for the share, a random start.

    The share is of candidates and only aimed at; the rule's own mask is round(m), reported as `own`, and
    what is frozen is cut to the budget by x. Take candidates `each` "tensor" for the published set. One pass
    a side stands for the released joint batch, and rows are drawn anew for each batch, of the sides in the
    proportions of a shuffled epoch. At the scripts' settings the mask is a property of the random start
    rather than of the data: it is here to be compared with. `sparsity` is the scripts' for 686 tensors;
    with N candidates, 5e3 N / 686 makes as large a first step.
    """

    name: ClassVar[str] = "released"
    about: ClassVar[str] = "FreezeAsGuard's released rule, step for step"
    paper: ClassVar[str] = "FreezeAsGuard (2405.17472), released mask learner"
    Options: ClassVar[type[StrictModel]] = ReleasedOptions

    def __init__(self, options: Any) -> None:
        self.options: ReleasedOptions = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """An order by x, the rule's own mask, and its losses."""
        losses: dict[str, list[float]] = {"publisher": [], "user": []}
        steps, show = self.options.steps, problem.show_progress
        with (
            problem.mixed(),
            problem.difference.movable(),
            progress("released rule", steps, enabled=show) as tick,
        ):
            rule = ReleasedRule(problem, budget.share, self.options)
            for place, sides, rows in joint_batches(problem):
                if place % self.options.interval == 0:
                    losses["publisher"].append(rule.publish(sides, rows))
                    continue
                losses["user"].append(rule.use(sides, rows))
                tick(len(losses["user"]), f"loss {losses['user'][-1]:.4g}")
                if len(losses["user"]) == steps:
                    break
        frozen = tuple(
            name for name, m in zip(problem.candidates.names, rule.mask().tolist(), strict=True) if m > 0.5
        )
        facts = {
            "steps": steps,
            "mask_updates": len(losses["publisher"]),
            "losses": {side: curve(values) for side, values in losses.items()},
        }
        return Found.of(problem.candidates, rule.x.float(), order=True, own=frozen, facts=facts)


def joint_batches(
    problem: Problem,
) -> Iterator[tuple[int, tuple[Picked | None, Picked | None], tuple[int, int]]]:
    """Endless batches of 2 x `batch` rows as (place in the epoch, illegal and innocent part, rows of each).

    An epoch shuffles as many illegal and innocent places as there are rows. UserError where the data do not
    say how many, and where an epoch is one batch, the publisher's, so that no user would ever step.
    """
    counts = rows_of(problem.illegal), rows_of(problem.innocent)
    if counts[0] is None or counts[1] is None:
        raise UserError("guard learner 'released': needs data that say how many rows they have (len)")
    total, size = counts[0] + counts[1], 2 * problem.batch
    if total <= size:
        raise UserError(
            f"guard learner 'released': an epoch of {total} rows is one batch of {size}, always the "
            f"publisher's; a batch below {-(-total // 2)} would leave the user some"
        )
    illegal, innocent = OneOf(problem.illegal), OneOf(problem.innocent)
    for epoch in count():
        order = torch.randperm(total, generator=rng_for(problem.seed, "released", "epoch", epoch))
        for place, part in enumerate(order.split(size)):
            wrong = int((part < counts[0]).sum())
            rng = rng_for(problem.seed, "released", epoch, place)
            rows = wrong, len(part) - wrong
            yield (
                place,
                (
                    illegal.draw(rng, rows[0]) if rows[0] else None,
                    innocent.draw(rng, rows[1]) if rows[1] else None,
                ),
                rows,
            )
