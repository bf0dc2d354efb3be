"""What the guard's benchmark compares, as data, and its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from oubliette.bench.shipped import plan_content
from oubliette.bench.words import slug
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel, validated

__all__ = ["BYPASS", "GOLD", "LESS", "NONE", "Arm", "Cell", "LearnerSpec", "Learning", "Plan", "read_plan"]

NONE, LESS, GOLD, BYPASS = "none", "train less", "gold", "bypass"


class Arm(StrictModel):
    """What must not be learned, on the base as it is or after a method has erased it."""

    name: str
    illegal: str
    erase: str | None = None


class LearnerSpec(StrictModel):
    """A learner of masks, or a baseline, with its options."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Plan(StrictModel):
    """A benchmark of masks."""

    name: str = "plan"
    about: str = ""
    base: str = "nano"
    gold: str | None = None
    runs: int = Field(default=1, ge=1)
    budgets: list[float] = Field(min_length=1)
    arms: list[Arm] = Field(min_length=1)
    learned_innocent: list[str] = Field(min_length=1)
    innocent: list[str] = Field(min_length=1)
    learners: list[LearnerSpec] = Field(min_length=1)
    modes: list[Literal["full", "lora"]] = Field(default=["full"], min_length=1)
    bypasses: list[Literal["textual-inversion", "delta-transplant"]] = Field(default_factory=list)
    at: list[int] = Field(default_factory=lambda: [0, 4, 16, 64], min_length=2)
    budget: dict[str, Any] = Field(default_factory=dict)
    pictures: int = Field(default=32, ge=2)
    sampling_steps: int = Field(default=15, ge=1)
    guidance: float = Field(default=3.0, ge=0)

    @field_validator("budgets")
    @classmethod
    def _shares(cls, budgets: list[float]) -> list[float]:
        if not all(0 < share < 1 for share in budgets):
            raise ValueError("every share must lie above 0 and below 1")
        return budgets

    @field_validator("at")
    @classmethod
    def _sorted(cls, at: list[int]) -> list[int]:
        if at[0] != 0 or sorted(set(at)) != at:
            raise ValueError("expected steps that begin with 0 and grow, as in [0, 4, 16, 64]")
        return at

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def learning(self) -> list[Learning]:
        """All that is learned: every arm with every seed."""
        return [Learning(arm=arm.name, seed=seed) for seed in range(self.runs) for arm in self.arms]

    def cells(self) -> list[Cell]:
        """Every fine-tuning, first seeds first: no mask, training less, each mask, gold, bypasses."""
        made = []
        for seed in range(self.runs):
            for arm in self.arms:
                for mode in self.modes:
                    made.append(Cell(arm=arm.name, guard=NONE, mode=mode, seed=seed))
                    for share in self.budgets:
                        guards = [spec.name for spec in self.learners] + [LESS] * (mode == "full")
                        made += [
                            Cell(arm=arm.name, guard=guard, share=share, mode=mode, seed=seed)
                            for guard in guards
                        ]
                if arm.erase and self.gold:
                    made.append(Cell(arm=arm.name, guard=GOLD, mode="full", seed=seed))
                made += [Cell(arm=arm.name, guard=BYPASS, mode=mode, seed=seed) for mode in self.bypasses]
        return made


class Learning(StrictModel):
    """One arm with one seed, for which every learner learns its masks."""

    arm: str
    seed: int

    @property
    def key(self) -> str:
        """A name for its folder."""
        return slug(self.arm, str(self.seed))


class Cell(StrictModel):
    """One user: an arm, what guards it (at which share), how it is fine-tuned, a seed."""

    arm: str
    guard: str
    share: float | None = None
    mode: str
    seed: int

    @property
    def key(self) -> str:
        """A name for its file: "novel-person-saliency-30-full-0"."""
        share = "" if self.share is None else f"{100 * self.share:g}"
        return slug(self.arm, self.guard, share, self.mode, str(self.seed))

    @property
    def learning(self) -> Learning:
        """Where its mask comes from."""
        return Learning(arm=self.arm, seed=self.seed)


def read_plan(source: str | Path = "guard") -> Plan:
    """A shipped plan by name, or one in a YAML file; UserError for unknown keys, learners and options."""
    from oubliette.guard.learn.problem import make_learner

    content, where = plan_content(source)
    plan = validated(Plan, content, where)
    for spec in plan.learners:
        try:
            make_learner({"name": spec.name, **spec.options})
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return plan
