"""What a benchmark compares, as data: subjects, concepts, runs and contrasts, in YAML to copy and edit."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from oubliette.bench.cells import Cell, Subject, Target, cells_of
from oubliette.bench.shipped import plan_content
from oubliette.bench.subjects import check_subjects
from oubliette.core.errors import suggest
from oubliette.core.validation import StrictModel, validated

__all__ = ["Cell", "Contrast", "Plan", "Subject", "Target", "read_plan"]


class Contrast(StrictModel):
    """A question: what a change does, as pairs of subjects (with it, without it), paired run by run."""

    name: str
    pairs: list[tuple[str, str]] = Field(min_length=1)


class Plan(StrictModel):
    """A benchmark of the audit: which subjects on which concepts, through which suite."""

    name: str = "plan"
    about: str = ""
    base: str = "nano"
    suite: str = "bench"
    concepts: list[Target] = Field(min_length=1)
    subjects: list[Subject] = Field(min_length=1)
    contrasts: list[Contrast] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names(self) -> Plan:
        names = [subject.name for subject in self.subjects]
        if len(set(names)) != len(names):
            raise ValueError("two subjects have one name")
        unknown = [n for made in self.contrasts for pair in made.pairs for n in pair if n not in names]
        if unknown:
            raise ValueError(f"a contrast names '{unknown[0]}'; {suggest(unknown[0], names)}")
        return self

    def cells(self) -> list[Cell]:
        """Every (subject, concept, seed), first seeds first, the concepts of a subject side by side."""
        return cells_of(self.subjects, self.concepts)


def read_plan(source: str | Path = "audit") -> Plan:
    """A shipped plan by name, or one in a YAML file; UserError for unknown keys, subjects and methods."""
    from oubliette.audit.read_suite import read_suite

    content, where = plan_content(source)
    plan = validated(Plan, content, where)
    read_suite(plan.suite)
    check_subjects(plan.subjects, plan.concepts, plan.base, where)
    return plan
