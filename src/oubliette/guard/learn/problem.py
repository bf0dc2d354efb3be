"""What a learner of masks is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.guard.learn.candidates import Candidates
from oubliette.guard.learn.difference import Difference
from oubliette.guard.learn.mixing import MixedWeights
from oubliette.guard.learn.spill import DiskTensors
from oubliette.train.config import TrainConfig
from oubliette.train.finetune import SupervisedData

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.guard.learn.budget import Budget

__all__ = ["RELEARNING", "Found", "Learner", "Problem", "curve", "make_learner"]

RELEARNING = TrainConfig(steps=2000, batch=1, accumulation=4, learning_rate=1e-5, clip=1.0, log_every=50)
"""The user of FreezeAsGuard's scripts, who makes theta_ft on illegal and innocent data together."""


@dataclass
class Problem:
    """A model at theta_pre, what fine-tuning moved, and the data of both sides, several sets each.

    The model holds theta_pre when a learner starts, and again, every bit, when it ends; `base` keeps it in a
    scratch file meanwhile. `batch` is the number of rows a side. `user` is who made theta_ft, on the shared
    loop. `precision` is that of the learner's own passes. Nothing but `seed` decides what is drawn.
    """

    model: Backend
    candidates: Candidates
    difference: Difference
    illegal: Sequence[SupervisedData]
    innocent: Sequence[SupervisedData]
    batch: int = 4
    seed: int = 0
    user: TrainConfig = RELEARNING
    precision: Literal["fp32", "bf16"] = "fp32"
    show_progress: bool = False
    base: DiskTensors = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f"guard: a batch has at least one row a side, found {self.batch}")
        if self.precision not in ("fp32", "bf16"):
            raise UserError(f"guard: the precision is fp32 or bf16, found {self.precision!r}")
        self.parameters = self.candidates.of_model(self.model)
        """The scope's parameters by name."""
        if self.base is None:
            self.base = DiskTensors(self.parameters)

    @contextmanager
    def mixed(self) -> Iterator[MixedWeights]:
        """A block in which the model's weights are moved; theta_pre is back after it, whatever happens."""
        try:
            yield MixedWeights(self.parameters, self.candidates, self.base, self.difference)
        finally:
            self.base.restore(self.parameters)

    def autocast(self) -> torch.autocast:
        """Passes inside it run in `precision`."""
        # Without its weight cache, as in the loop: casts must not outlive the weights they were made from.
        return torch.autocast(
            self.model.device.type,
            dtype=torch.bfloat16,
            enabled=self.precision == "bf16",
            cache_enabled=False,
        )


@dataclass
class Found:
    """What a learner found: one number a candidate, by name.

    They are worths to fill a budget with, or, with `order`, an order to fill it in (see
    `oubliette.guard.learn.budget.cut`). `own` are the candidates of the learner's own hard mask, where it
    makes one without regard to the budget. `facts` are plain data: losses, steps, what was measured on the
    way.
    """

    scores: dict[str, float]
    order: bool = False
    own: tuple[str, ...] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, candidates: Candidates, values: Sequence[float] | torch.Tensor, **more: Any) -> Found:
        """From numbers in the candidates' order; UserError where one is not finite."""
        scores = dict(zip(candidates.names, map(float, values), strict=True))
        wrong = [name for name, score in scores.items() if not abs(score) < float("inf")]
        if wrong:
            raise UserError(
                f"guard: the score of {wrong[0]} is not finite ({len(wrong)} of {len(scores)}); "
                "lower the user's learning rate or use fp32"
            )
        return cls(scores, **more)


class Learner(Protocol):
    """A way to say which tensors an illegal adaptation needs and an innocent one does not."""

    name: ClassVar[str]
    about: ClassVar[str]
    paper: ClassVar[str]
    Options: ClassVar[type[StrictModel]]
    options: Any

    def learn(self, problem: Problem, budget: Budget) -> Found:
        """Numbers for every candidate; the same problem gives the same numbers. The model is left as it
        was.
        """


def curve(values: Sequence[float], most: int = 50) -> list[float]:
    """At most `most` of the values, evenly spaced, first and last among them, to six figures: for records."""
    count = min(most, len(values))
    places = [round(place * (len(values) - 1) / max(1, count - 1)) for place in range(count)]
    return [float(f"{values[place]:.6g}") for place in places]


def make_learner(spec: str | Mapping[str, Any]) -> Learner:
    """The learner of a name, or of a mapping with `name` and its options; UserError for an unknown one."""
    from oubliette.core.validation import validated
    from oubliette.guard.learners import LEARNERS

    name, options = LEARNERS.parse(spec)
    kind = LEARNERS.get(name)
    made: Learner = kind(validated(kind.Options, options, f"guard learner '{name}'"))
    return made
