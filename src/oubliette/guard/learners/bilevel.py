"""FreezeAsGuard's bilevel problem with an exact budget, a real user and bounded losses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from oubliette.core.progress import progress
from oubliette.core.validation import StrictModel
from oubliette.guard.learn.budget import Budget, cut, excess, soft_mask, soft_mask_slope
from oubliette.guard.learn.draws import Picked, paired, rng_for, seed_for
from oubliette.guard.learn.problem import Found, Problem, curve
from oubliette.guard.learn.slopes import loss_of, slopes
from oubliette.guard.learn.user import User
from oubliette.guard.learners.saliency import saliency_scores

__all__ = ["Bilevel", "BilevelOptions", "standardised", "temperature_at"]

Domain = Literal["both", "illegal", "innocent"]


class BilevelOptions(StrictModel):
    """`steps` updates of the mask at `learning_rate`, each on `batches` of the `pool`, `normalise`d by "rms"
    (what freezing is worth per cost, over its running root mean square) or "adam" (Adam on x).

    The temperature falls geometrically from the first to the second of `temperature` over the soft steps; the
    last `hard_share` of the steps hold the hard mask, with the soft one's slope. x starts from `start`:
    "saliency" (of `start_batches` at `start_points`), or "zero". `loss` bounds the illegal side: "capped" is
    L_innocent - min(L_illegal, its loss at theta_pre), "log-ratio" the same of logarithms.

    The user does `user_steps` after each update of the mask (0: none; theta_ft stays), at
    `user_learning_rate` (None: that of the problem's user). After `reset_every` updates of the mask another
    user begins from theta_ft, on one of the `domains`.
    """

    steps: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    normalise: Literal["rms", "adam"] = "rms"
    batches: int = Field(default=2, ge=1)
    pool: int = Field(default=16, ge=1)
    temperature: tuple[float, float] = (1.0, 0.05)
    hard_share: float = Field(default=0.1, ge=0, le=1)
    start: Literal["saliency", "zero"] = "saliency"
    start_batches: int = Field(default=8, ge=1)
    start_points: int = Field(default=3, ge=1)
    loss: Literal["capped", "log-ratio"] = "capped"
    user_steps: int = Field(default=4, ge=0)
    user_learning_rate: float | None = Field(default=None, gt=0)
    reset_every: int = Field(default=20, ge=1)
    domains: tuple[Domain, ...] = Field(default=("both", "illegal", "innocent"), min_length=1)

    @field_validator("temperature")
    @classmethod
    def _falling(cls, temperature: tuple[float, float]) -> tuple[float, float]:
        if not temperature[0] >= temperature[1] > 0:
            raise ValueError("expected two temperatures above 0, the second not above the first")
        return temperature


@dataclass(frozen=True)
class _Pair:
    """A pair of batches drawn once, under the same noise, and the illegal one's loss at theta_pre."""

    illegal: Picked
    innocent: Picked
    cap: float


class Bilevel:
    """Alternates a mask and the user it is meant for.

    Against the released rule: theta(m) is mixed anew each time; m = sigmoid((x - b) / T) keeps the budget
    exactly, b by bisection and differentiated as a function of x; x starts from the ranks of one-shot
    saliency per cost, not at random; steps do not depend on T, N and the losses' scale; the user is an AdamW
    one on the shared loop, under the hard mask of the time, and starts over now and then; the illegal loss
    counts up to its value at theta_pre, since ascent beyond protects nothing. The pool's pairs of batches
    come round again and again, so that their noise does not add up to a random walk.

    Adam moves every x by about as much, which is mostly noise where a tensor hardly matters; "rms" moves x_j
    by -lr h_j / rms(h), h_j the slope per cost without the factors m_j (1 - m_j) n_j / T that only say how
    fast: still a descent direction, and noise stays as small as it is.

    Memory: with a user, what fine-tuning the unfrozen tensors costs and the difference; with `user_steps` 0,
    one copy of the weights and the difference.
    """

    name: ClassVar[str] = "bilevel"
    about: ClassVar[str] = "FreezeAsGuard's bilevel problem repaired: exact budget, real user, bounded losses"
    paper: ClassVar[str] = "FreezeAsGuard (2405.17472), repaired"
    Options: ClassVar[type[StrictModel]] = BilevelOptions

    def __init__(self, options: Any) -> None:
        self.options: BilevelOptions = options

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """An order by x, as it stands after the last step."""
        options = self.options
        costs = torch.tensor(budget.costs(problem.candidates), dtype=torch.float64)
        start, facts = self._start(problem, costs)
        x = start.clone()
        pool = self._pool(problem)
        move = (
            _Adam(x, options.learning_rate) if options.normalise == "adam" else _Rms(x, options.learning_rate)
        )
        losses: dict[str, list[float]] = {"illegal": [], "innocent": [], "user": []}
        soft_steps = options.steps - round(options.hard_share * options.steps)
        with (
            problem.mixed() as mixed,
            problem.difference.movable() as relearned,
            progress("bilevel", options.steps, enabled=problem.show_progress) as tick,
        ):
            user: User | None = None
            for step in range(options.steps):
                heat = temperature_at(step, soft_steps, options.temperature)
                soft = soft_mask(x, costs, budget.share, heat)
                mixed.hold(_hard(x, problem, budget) if step >= soft_steps else soft)
                gradient, means = self._upper(problem, pool, step)
                move(gradient, soft, costs, heat)
                for side, loss in means.items():
                    losses[side].append(loss)
                if options.user_steps and step < options.steps - 1:
                    hard = _hard(x, problem, budget)
                    if step % options.reset_every == 0:
                        user = None  # its moments go before the next one's come
                        relearned()
                    mask = hard if step + 1 >= soft_steps else soft_mask(x, costs, budget.share, heat)
                    mixed.hold(mask)
                    user = user or self._user(problem, hard, step)
                    losses["user"].append(user.advance(options.user_steps, mixed, mask))
                tick(step + 1, f"illegal {means['illegal']:.4g} innocent {means['innocent']:.4g}")
        facts |= {
            "steps": options.steps,
            "losses": {side: curve(values) for side, values in losses.items()},
            "moved": math.sqrt(float((x - start).square().mean())),
        }
        return Found.of(problem.candidates, x, order=True, facts=facts)

    def _start(self, problem: Problem, costs: Tensor) -> tuple[Tensor, dict[str, Any]]:
        options = self.options
        x = torch.zeros(len(problem.candidates), dtype=torch.float64)
        facts: dict[str, Any] = {}
        if options.start == "saliency":
            scores, facts = saliency_scores(problem, options.start_batches, options.start_points)
            x = standardised(scores / costs)
            facts = {"start": facts}
        return x, facts

    def _pool(self, problem: Problem) -> list[_Pair]:
        """The pairs, their caps taken while the model still holds theta_pre."""
        pool = []
        for place in range(self.options.pool):
            illegal, innocent = paired(
                problem.illegal, problem.innocent, problem.batch, problem.seed, "bilevel", place
            )
            cap = loss_of(problem, illegal, f" bilevel, pair {place} at the base")
            pool.append(_Pair(illegal, innocent, cap))
        return pool

    def _upper(self, problem: Problem, pool: list[_Pair], step: int) -> tuple[Tensor, dict[str, float]]:
        """dL_upper/dm at the weights as they stand (N,), a mean over the step's pairs, and the sides' losses.

        A side's gradient is taken by itself, so that the activations of one are held at a time.
        """
        count = self.options.batches
        total = torch.zeros(len(problem.candidates), dtype=torch.float64)
        means = {"illegal": 0.0, "innocent": 0.0}
        for offset in range(count):
            pair = pool[(step * count + offset) % len(pool)]
            where = f" bilevel, step {step + 1}"
            innocent, slope = slopes(problem, pair.innocent, where)
            total += slope / count * self._weight(innocent)
            illegal, slope = slopes(problem, pair.illegal, where)
            if illegal < pair.cap:
                total -= slope / count * self._weight(illegal)
            means["illegal"] += illegal / count
            means["innocent"] += innocent / count
        return total, means

    def _weight(self, loss: float) -> float:
        """What a loss's gradient is multiplied by: that of L, or of log L."""
        return 1.0 if self.options.loss == "capped" else 1.0 / max(loss, 1e-12)

    def _user(self, problem: Problem, hard: Tensor, step: int) -> User:
        options = self.options
        chosen = rng_for(problem.seed, "bilevel", "user", step)
        domain = options.domains[int(torch.randint(len(options.domains), (1,), generator=chosen))]
        sides = {
            "both": [problem.illegal, problem.innocent],
            "illegal": [problem.illegal],
            "innocent": [problem.innocent],
        }[domain]
        rate = options.user_learning_rate or problem.user.learning_rate
        frozen = {
            tensor
            for unit, share in zip(problem.candidates.units, hard.tolist(), strict=True)
            if share
            for tensor in unit.tensors
        }
        config = problem.user.model_copy(update={"learning_rate": rate})
        return User(problem, config, sides, frozen, seed_for(problem.seed, "bilevel", "user", step))


class _Adam:
    """Adam on x."""

    def __init__(self, x: Tensor, rate: float) -> None:
        self._x = x
        self._optimizer = torch.optim.Adam([x], lr=rate)

    def __call__(self, gradient: Tensor, mask: Tensor, costs: Tensor, heat: float) -> None:
        self._x.grad = soft_mask_slope(gradient, mask, costs, heat)
        self._optimizer.step()


class _Rms:
    """x <- x - lr h / sqrt(v), v the running mean (decay 0.9) of the mean h^2 over candidates."""

    def __init__(self, x: Tensor, rate: float) -> None:
        self._x, self._rate = x, rate
        self._square: float | None = None

    def __call__(self, gradient: Tensor, mask: Tensor, costs: Tensor, heat: float) -> None:
        step = excess(gradient, mask, costs)
        now = float(step.square().mean())
        self._square = now if self._square is None else 0.9 * self._square + 0.1 * now
        if self._square:
            self._x -= self._rate * step / math.sqrt(self._square)


def temperature_at(step: int, soft_steps: int, ends: tuple[float, float]) -> float:
    """Geometric from the first of `ends` to the second at the last soft step; the second from there on."""
    done = min(1.0, step / (soft_steps - 1)) if soft_steps > 1 else float(step >= soft_steps)
    return ends[0] * (ends[1] / ends[0]) ** done


def standardised(densities: Tensor) -> Tensor:
    """Normal scores: the standard normal's quantiles at the ranks (r + 1/2) / N, ties at their mean rank.

    Worths per parameter are heavy-tailed: standardised by mean and deviation, a few would hold all others at
    one value.
    """
    values = densities.double()
    below = (values[None, :] < values[:, None]).sum(1)
    equal = (values[None, :] == values[:, None]).sum(1)
    quantiles = (below + equal / 2) / len(values)
    normal = NormalDist()
    return torch.tensor([normal.inv_cdf(q) for q in quantiles.tolist()], dtype=torch.float64)


def _hard(x: Tensor, problem: Problem, budget: Budget) -> Tensor:
    """The hard mask of an order, (N,) of 0 and 1."""
    candidates = problem.candidates
    scores = dict(zip(candidates.names, x.tolist(), strict=True))
    chosen = set(cut(scores, candidates, budget, order=True))
    return torch.tensor([float(name in chosen) for name in candidates.names], dtype=torch.float64)
