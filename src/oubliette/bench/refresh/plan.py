"""What the refresh benchmark compares, as data: methods with and without refresh, seeds, and claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from oubliette.bench.shipped import plan_content
from oubliette.bench.words import slug
from oubliette.continual.method import read_method
from oubliette.continual.run import Settings
from oubliette.core.errors import suggest
from oubliette.core.validation import StrictModel, validated

__all__ = ["MEASURES", "Cell", "Claim", "Plan", "Subject", "read_plan"]

#: Name of a figure of `oubliette.continual.run.Outcome` -> what it is, and whether more of it is better.
MEASURES = {
    "class-il accuracy": ("right among all classes, after the last task", True),
    "task-il accuracy": ("right among the task's classes, after the last task", True),
    "class-il bwt": ("backward transfer", True),
    "task-il fwt": ("forward transfer, the task being told", True),
    "class-il forgetting": ("from a task's best to its last", False),
    "norm": ("norm of the loss's gradient at the end", False),
    "fisher norm": ("that in the inverse Fisher", False),
}


class Subject(StrictModel):
    """A row: a method, with a refresh or without, `set` changes the plan's `learn`, `runs` caps its seeds."""

    name: str
    method: str
    refresh: dict[str, Any] | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    runs: int | None = Field(default=None, ge=1)

    @field_validator("method")
    @classmethod
    def _known(cls, name: str) -> str:
        read_method(name)
        return name


class Claim(StrictModel):
    """That the first of each of `pairs` is better than the second in `measure`, seed by seed."""

    says: str
    measure: str
    pairs: list[tuple[str, str]] = Field(min_length=1)

    @field_validator("measure")
    @classmethod
    def _measured(cls, name: str) -> str:
        if name not in MEASURES:
            raise ValueError(f"no measure is called '{name}'; {suggest(name, list(MEASURES))}")
        return name


class Cell(StrictModel):
    """One subject with one seed."""

    subject: Subject
    seed: int

    @property
    def key(self) -> str:
        """A name for its files."""
        return slug(self.subject.name, str(self.seed))


class Plan(StrictModel):
    """The whole benchmark: pictures in `data`, how all learn, who does, on how many seeds, and what is
    claimed.
    """

    name: str
    about: str = ""
    benchmark: str = "refresh"
    data: str
    learn: dict[str, Any] = Field(default_factory=dict)
    runs: int = Field(default=5, ge=1)
    subjects: list[Subject] = Field(min_length=1)
    claims: list[Claim] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        names = [subject.name for subject in self.subjects]
        if len({slug(name) for name in names}) != len(names):
            raise ValueError(
                "the names of two subjects make the same name of a file; letters and digits count"
            )
        for name in (name for claim in self.claims for pair in claim.pairs for name in pair):
            if name not in names:
                raise ValueError(f"a claim is of '{name}', which is no subject; {suggest(name, names)}")
        for cell in self.cells():
            self.settings(cell).smoother()
        return self

    def cells(self) -> list[Cell]:
        """Every (seed, subject), first seeds first."""
        return [
            Cell(subject=subject, seed=seed)
            for seed in range(self.runs)
            for subject in self.subjects
            if seed < (subject.runs or self.runs)
        ]

    def settings(self, cell: Cell) -> Settings:
        """What a cell runs with."""
        own = {"method": cell.subject.method, "refresh": cell.subject.refresh, "seed": cell.seed}
        where = f"plan {self.name}, '{cell.subject.name}'"
        return validated(Settings, {**self.learn, **cell.subject.set, **own}, where)


def read_plan(source: str | Path) -> Plan:
    """A shipped plan by name, or one in a YAML file; UserError for what is wrong in it."""
    content, where = plan_content(source)
    return validated(Plan, content, where)
