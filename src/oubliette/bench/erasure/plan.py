"""What the erasing benchmark compares, as data: erasers and controls, concepts, and who goes on to further
ones.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from oubliette.bench.cells import Cell, Subject, Target, Trials, cells_of
from oubliette.bench.shipped import plan_content
from oubliette.bench.subjects import check_subjects
from oubliette.core.validation import StrictModel, validated

__all__ = ["Attacked", "Further", "Plan", "Trials", "read_plan"]


class Further(StrictModel):
    """More concepts, for the erasers that led on the plan's own: the concept is varied before the seed."""

    concepts: list[Target] = Field(min_length=1)
    leading: int = Field(default=6, ge=1)


class Attacked(StrictModel):
    """What the erasers that lead go through besides: a suite of attacks, on the plan's own concepts."""

    suite: str = "bench"
    leading: int = Field(default=6, ge=1)
    runs: int = Field(default=1, ge=1, description="at most so many seeds of a concept")


class Plan(StrictModel):
    """A benchmark of erasing. `n` pictures a concept and split, `each` of every other concept, half of `n` of
    the near neighbour.
    """

    name: str = "plan"
    about: str = ""
    base: str = "nano"
    concepts: list[Target] = Field(min_length=1)
    subjects: list[Subject] = Field(default_factory=list)
    trials: list[Trials] = Field(default_factory=list)
    further: Further | None = None
    audit: Attacked | None = None
    n: int = Field(default=60, ge=2)
    each: int = Field(default=6, ge=1)
    sampling_steps: int = Field(default=15, ge=1)
    guidance: float = Field(default=3.0, ge=0)

    @model_validator(mode="after")
    def _names(self) -> Plan:
        names = [subject.name for subject in self.everyone]
        if not names:
            raise ValueError("give subjects, or trials of a method")
        if len(set(names)) != len(names):
            raise ValueError("two subjects have one name")
        return self

    @property
    def everyone(self) -> list[Subject]:
        """The subjects, and every trial as one."""
        return [*self.subjects, *(subject for trials in self.trials for subject in trials.subjects())]

    def cells(self) -> list[Cell]:
        """Every (subject, concept, seed) on the plan's own concepts."""
        return cells_of(self.everyone, self.concepts)

    def further_cells(self, leaders: list[str]) -> list[Cell]:
        """Those of the leaders (best first, as many as lead) and the controls on the further concepts.

        Gold has no part: it knows these.
        """
        if self.further is None:
            return []
        led = leaders[: self.further.leading]
        chosen = [
            subject
            for subject in self.everyone
            if subject.name in led or (subject.control is not None and subject.control != "gold")
        ]
        return cells_of(chosen, self.further.concepts)


def read_plan(source: str | Path = "erasure") -> Plan:
    """A shipped plan by name, or one in a YAML file; UserError for unknown keys, subjects and methods."""
    from oubliette.audit.read_suite import read_suite

    content, where = plan_content(source)
    plan = validated(Plan, content, where)
    if plan.audit is not None:
        read_suite(plan.audit.suite)
    check_subjects(plan.everyone, plan.concepts, plan.base, where)
    return plan
