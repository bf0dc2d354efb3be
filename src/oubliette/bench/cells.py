"""What a benchmark's cells are made of: who is measured, on what concept, with which seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

from pydantic import Field, model_validator

from oubliette.bench.words import slug
from oubliette.core.validation import StrictModel
from oubliette.eval.rows import BASE, control_name

__all__ = ["Cell", "Subject", "Target", "Trials", "cells_of", "differing"]


class Subject(StrictModel):
    """A row of the benchmark: a `method` (or preset) with overrides in `set`, a saved `model` or a `control`.

    `published` takes the preset of exactly that name, where the base's world has one of its own. `runs` caps
    its runs on every concept, `only` names the concepts it is run on. `attacked` false: it is evaluated and
    nothing more.
    """

    name: str
    method: str | None = None
    set: list[str] = Field(default_factory=list)
    model: str | None = None
    control: Literal["base", "none", "gold", "random weights", "prompt filter"] | None = None
    published: bool = False
    runs: int | None = Field(default=None, ge=1)
    only: list[str] | None = None
    attacked: bool = True

    @property
    def is_base(self) -> bool:
        """Whether it is the base itself, which older plans call "none"."""
        return self.control is not None and control_name(self.control) == BASE

    @model_validator(mode="after")
    def _one(self) -> Subject:
        given = [name for name in ("method", "model", "control") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of 'method', 'model', 'control'; found {' and '.join(given) or 'none'}"
            )
        if (self.set or self.published) and self.method is None:
            raise ValueError("'set' and 'published' are of a method's recipe, and this has none")
        return self


class Trials(StrictModel):
    """A method tried with several values of its settings: one subject for every combination in `grid`."""

    method: str
    set: list[str] = Field(default_factory=list)
    grid: dict[str, list[Any]] = Field(min_length=1)

    def subjects(self) -> list[Subject]:
        """The trials as subjects, named by method and values."""
        made = []
        for values in product(*self.grid.values()):
            own = dict(zip(self.grid, values, strict=True))
            words = ", ".join(
                f"{key.rpartition('.')[2]} {value:g}"
                if isinstance(value, float)
                else f"{key.rpartition('.')[2]} {value}"
                for key, value in own.items()
            )
            made.append(
                Subject(
                    name=f"{self.method}: {words}",
                    method=self.method,
                    set=[*self.set, *(f"{key}={value}" for key, value in own.items())],
                )
            )
        return made


class Target(StrictModel):
    """A concept to erase, and how many runs (seeds of eraser and attack alike)."""

    name: str
    kind: Literal["object", "style", "person"] | None = None
    anchor: str | None = None
    runs: int = Field(default=1, ge=1)


class Cell(StrictModel):
    """One subject on one concept with one seed."""

    subject: Subject
    target: Target
    seed: int

    @property
    def key(self) -> str:
        """A name for its files: "doco-sam-car-0"."""
        return slug(self.subject.name, self.target.name, str(self.seed))


def cells_of(subjects: Sequence[Subject], targets: Sequence[Target]) -> list[Cell]:
    """Every (subject, concept, seed), first seeds first, the concepts of a subject side by side."""
    made = []
    for seed in range(max((target.runs for target in targets), default=0)):
        for subject in subjects:
            for target in targets:
                wanted = subject.only is None or target.name in subject.only
                if wanted and seed < min(target.runs, subject.runs or target.runs):
                    made.append(Cell(subject=subject, target=target, seed=seed))
    return made


def differing(
    facts: Mapping[str, Any], before: Mapping[str, Any], same: Sequence[str], *, grows: Sequence[str] = ()
) -> str | None:
    """The first of the parts in `same` that a plan's facts and those of before do not share, or the subject
    that is another now; None where all cells of before are the plan's too.

    Subjects may be added, and what of one `grows` may change.
    """
    for part in same:
        if before.get(part) != facts[part]:
            return part
    known = {subject["name"]: subject for subject in before.get("subjects", [])}
    free = dict.fromkeys(grows)
    for subject in facts["subjects"]:
        if {**known.get(subject["name"], subject), **free} != {**subject, **free}:
            return f"'{subject['name']}'"
    return None
