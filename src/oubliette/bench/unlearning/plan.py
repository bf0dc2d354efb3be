"""What the unlearning benchmark compares, as data: erasers and controls, attacks, and what is to be found."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from oubliette.bench.cells import Cell, Subject, Target, Trials, cells_of
from oubliette.bench.shipped import plan_content
from oubliette.bench.subjects import check_subjects, recipe_for
from oubliette.core.errors import suggest
from oubliette.core.validation import StrictModel, validated
from oubliette.train.tuning.budget import Budget

if TYPE_CHECKING:
    from oubliette.recipe import Recipe

__all__ = ["MEASURES", "Finding", "Plan", "Tuning", "read_plan", "recipe_of"]

#: What a finding may be about, and which way is good for whoever erases.
MEASURES = {
    "mcq": "choices of what was to go, as erased",
    "open": "open answers of what was to go, as erased",
    "open, other words": "the same in wordings that nobody trained on",
    "kept mcq": "choices of what must stay",
    "kept open": "open answers of what must stay",
    "skills": "skills that must stay",
    "relearned mcq": "choices, at worst, on the way of relearning",
    "relearned open": "open answers, at worst, on the way of relearning",
    "unrelated mcq": "choices, at worst, after fine-tuning on something else",
    "unrelated open": "open answers, at worst, after fine-tuning on something else",
    "quantized open": "open answers, at worst, with weights of few bits",
    "quantized kept": "open answers of what must stay, at worst, with weights of few bits",
    "jailbroken open": "open answers, at worst, to prompts that press for one",
}


class Tuning(StrictModel):
    """How an attacker fine-tunes: a mode with its options, what it may spend, and where it is looked at."""

    mode: str = "full"
    options: dict[str, Any] = Field(default_factory=dict)
    budget: Budget = Field(default_factory=Budget)
    at: list[int] = Field(min_length=1)

    @field_validator("at")
    @classmethod
    def _grows(cls, at: list[int]) -> list[int]:
        if sorted(set(at)) != at or at[0] < 1:
            raise ValueError("expected steps from 1 that grow, as in [1, 4, 16, 64]")
        return at

    @model_validator(mode="after")
    def _within(self) -> Tuning:
        if self.at[-1] > self.budget.steps:
            raise ValueError(f"looks at step {self.at[-1]}, and its budget has {self.budget.steps} steps")
        return self


class Finding(StrictModel):
    """A claim to be held against the cells, in one of three forms.

    `more` and `less` are subjects: the mean of `measure` is higher for the former. `pairs` are (with,
    without) a change that brings `measure` down. `measures` are two that rank the erasers alike.
    """

    says: str
    measure: str | None = None
    more: list[str] = Field(default_factory=list)
    less: list[str] = Field(default_factory=list)
    pairs: list[tuple[str, str]] = Field(default_factory=list)
    measures: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _one(self) -> Finding:
        groups, pairs, ranks = bool(self.more or self.less), bool(self.pairs), self.measures is not None
        if [groups, pairs, ranks].count(True) != 1 or (groups and not (self.more and self.less)):
            raise ValueError("give 'more' and 'less', or 'pairs', or 'measures'")
        if (self.measure is None) != ranks:
            raise ValueError("'measure' goes with 'more' and 'less' or 'pairs', and not with 'measures'")
        for name in (self.measure, *(self.measures or ())):
            if name is not None and name not in MEASURES:
                raise ValueError(f"no measure is called '{name}'; {suggest(name, MEASURES)}")
        return self

    def subjects(self) -> list[str]:
        """All that are named."""
        return [*self.more, *self.less, *(name for pair in self.pairs for name in pair)]


class Plan(StrictModel):
    """A benchmark of unlearning on the text world.

    `forget` is one of the world's forget sets. Half of its facts are shown to whoever relearns, the other
    half are asked; without `relearn` nobody does. `n` is how many rows of what must stay are asked. Each of
    the `skills` is fine-tuned on from the erased model. `bits` are of round-to-nearest, `prefixes` what an
    answer is made to begin with.
    """

    name: str = "plan"
    about: str = ""
    base: str = "nano-lm"
    gold: str = "nano-lm-gold"
    forget: str = "default"
    runs: int = Field(default=1, ge=1)
    subjects: list[Subject] = Field(default_factory=list)
    trials: list[Trials] = Field(default_factory=list)
    n: int = Field(default=100, ge=2)
    relearn: Tuning | None = None
    unrelated: Tuning | None = None
    skills: list[Literal["minus", "spelling", "counting"]] = Field(default_factory=list)
    bits: list[int] = Field(default_factory=list)
    prefixes: list[str] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names(self) -> Plan:
        names = [subject.name for subject in self.everyone]
        if not names:
            raise ValueError("give subjects, or trials of a method")
        if len(set(names)) != len(names):
            raise ValueError("two subjects have one name")
        if self.skills and self.unrelated is None:
            raise ValueError("skills are fine-tuned on as 'unrelated' says, and it is missing")
        for name in (name for finding in self.findings for name in finding.subjects()):
            if name not in names:
                raise ValueError(f"a finding names '{name}'; {suggest(name, names)}")
        return self

    @property
    def everyone(self) -> list[Subject]:
        """The subjects, and every trial as one."""
        return [*self.subjects, *(subject for trials in self.trials for subject in trials.subjects())]

    def cells(self) -> list[Cell]:
        """Every (subject, seed), first seeds first."""
        return cells_of(self.everyone, [Target(name=self.forget, runs=self.runs)])


def recipe_of(cell: Cell, base: Any, data: Path) -> Recipe:
    """The recipe of a cell whose subject is a method, on the forget and the retain rows in `data`."""
    return recipe_for(
        cell,
        base,
        forget=data / "forget.jsonl",
        retain=data / "retain.jsonl",
        overrides=[one.replace("DATA/", f"{data}/") for one in cell.subject.set],
    )


def read_plan(source: str | Path = "unlearning") -> Plan:
    """A shipped plan by name, or one in a YAML file; UserError for unknown keys, subjects and methods."""
    content, where = plan_content(source)
    plan = validated(Plan, content, where)
    target = Target(name=plan.forget)
    check_subjects(plan.everyone, [target], plan.base, where, partial(recipe_of, data=Path(".")))
    return plan
