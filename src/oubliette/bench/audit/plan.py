"""What a benchmark compares, as data: subjects, concepts, runs and contrasts, in YAML to copy and edit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from oubliette.bench.shipped import plan_content
from oubliette.bench.words import slug
from oubliette.errors import UserError, suggest
from oubliette.validation import StrictModel, validated

__all__ = ["Cell", "Contrast", "Plan", "Subject", "Target", "read_plan"]


class Subject(StrictModel):
    """A row of the benchmark: a `method` (or preset) with overrides in `set`, a saved `model` or a `control`.

    `runs` caps its runs on every concept. `attacked` false: it is evaluated and nothing more.
    """

    name: str
    method: str | None = None
    set: list[str] = Field(default_factory=list)
    model: str | None = None
    control: Literal["none", "gold", "random weights", "prompt filter"] | None = None
    runs: int | None = Field(default=None, ge=1)
    attacked: bool = True

    @model_validator(mode="after")
    def _one(self) -> Subject:
        given = [name for name in ("method", "model", "control") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of 'method', 'model', 'control'; found {' and '.join(given) or 'none'}"
            )
        if self.set and self.method is None:
            raise ValueError("'set' changes a method's recipe, and this has none")
        return self


class Target(StrictModel):
    """A concept to erase, and how many runs (seeds of eraser and attack alike)."""

    name: str
    kind: Literal["object", "style", "person"] | None = None
    anchor: str | None = None
    runs: int = Field(default=1, ge=1)


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
        made = []
        for seed in range(max(target.runs for target in self.concepts)):
            for subject in self.subjects:
                for target in self.concepts:
                    if seed < min(target.runs, subject.runs or target.runs):
                        made.append(Cell(subject=subject, target=target, seed=seed))
        return made


class Cell(StrictModel):
    """One subject on one concept with one seed."""

    subject: Subject
    target: Target
    seed: int

    @property
    def key(self) -> str:
        """A name for its files: "doco-sam-car-0"."""
        return slug(self.subject.name, self.target.name, str(self.seed))


def read_plan(source: str | Path = "audit") -> Plan:
    """A shipped plan by name, or one in a YAML file; UserError for unknown keys, subjects and methods."""
    content, where = plan_content(source)
    plan = validated(Plan, content, where)
    _check_methods(plan, where)
    return plan


def _check_methods(plan: Plan, where: str) -> None:
    """UserError where a method, an override or the suite is not known, before anything is erased."""
    from oubliette.api import load
    from oubliette.audit.suite import read_suite
    from oubliette.bench.audit.subjects import recipe_of

    read_suite(plan.suite)
    base = load(plan.base)
    for subject in plan.subjects:
        if subject.method is not None:
            try:
                recipe_of(Cell(subject=subject, target=plan.concepts[0], seed=0), base)
            except UserError as error:
                raise UserError(f"{where}: subject '{subject.name}': {error}") from None
