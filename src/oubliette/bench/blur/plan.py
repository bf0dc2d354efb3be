"""What the BLUR benchmark compares, as data: erasers and controls on a forget and a retain set, and tiers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from oubliette.bench.cells import Cell, Subject, Target, cells_of
from oubliette.bench.shipped import plan_content
from oubliette.bench.subjects import check_subjects, recipe_for
from oubliette.bench.unlearning.plan import Tuning
from oubliette.core.errors import UserError, suggest
from oubliette.core.manifest import hash_file
from oubliette.core.validation import StrictModel, validated
from oubliette.data.tiers import TIERS
from oubliette.recipe import Recipe

__all__ = ["DATA", "Files", "Plan", "audit_plan", "digests", "read_plan", "recipe_of", "source_of"]

#: The folder of the world's files within a benchmark's.
DATA = "data"
_OF_WORLD = ("forget", "retain", "relearn", "novel", "alias", "two_hops")


class Files(StrictModel):
    """Sets in files, in any shape that question sets have: `relearn` is the forget set in an attacker's
    words, `novel` are entities that no model has read of, `tiers` are relearning sets that are taken as they
    are.
    """

    forget: str
    retain: str
    relearn: str | None = None
    novel: str | None = None
    alias: str | None = None
    two_hops: str | None = None
    tiers: dict[str, str] = Field(default_factory=dict)

    @field_validator("tiers")
    @classmethod
    def _known(cls, tiers: dict[str, str]) -> dict[str, str]:
        for name in tiers:
            if name not in TIERS:
                raise ValueError(f"no tier is called '{name}'; {suggest(name, TIERS)}")
        return tiers

    def named(self) -> dict[str, str]:
        """Every file by what it is for."""
        own = {name: getattr(self, name) for name in _OF_WORLD}
        return {name: path for name, path in (own | self.tiers).items() if path is not None}


class Plan(StrictModel):
    """A benchmark on one of the text world's forget sets, or on sets in `files`.

    Half of the forget facts are the target, which is asked; the others are what tier hi may hold. `n` rows of
    what must stay are asked, and as many neighbours. `names` are how many forget entities are put between a
    question's words, `separators` what stands between the halves of a pair, `tokens` the most an answer has.
    `relearn.budget.pictures` is the most rows a tier has. `clean` is the share of the base's words below
    which a method counts as clean on separate prompts; `simple` are the subjects that are plain ascent.
    """

    name: str = "plan"
    about: str = ""
    base: str = "nano-lm"
    gold: str | None = "nano-lm-gold"
    forget: str = "default"
    files: Files | None = None
    runs: int = Field(default=1, ge=1)
    subjects: list[Subject] = Field(min_length=1)
    n: int = Field(default=48, ge=2)
    names: list[int] = Field(default=[1, 3])
    separators: list[str] = Field(default=[" ", "\n"], min_length=1)
    tokens: int = Field(default=24, ge=1)
    relearn: Tuning | None = None
    clean: float = Field(default=0.25, gt=0, lt=1)
    simple: list[str] = Field(default_factory=list)

    @field_validator("names")
    @classmethod
    def _counts(cls, names: list[int]) -> list[int]:
        if any(count < 1 for count in names):
            raise ValueError("expected numbers of names from 1 on, as in [1, 3]")
        return names

    @model_validator(mode="after")
    def _subjects(self) -> Plan:
        known = [subject.name for subject in self.subjects]
        if len(set(known)) != len(known):
            raise ValueError("two subjects have one name")
        for name in self.simple:
            if name not in known:
                raise ValueError(f"'simple' names '{name}'; {suggest(name, known)}")
        return self

    @property
    def erasers(self) -> list[str]:
        """The subjects that are no control."""
        return [subject.name for subject in self.subjects if subject.control is None]

    def cells(self) -> list[Cell]:
        """Every (subject, seed), first seeds first."""
        return cells_of(self.subjects, [Target(name=self.forget, runs=self.runs)])


def source_of(plan: Plan, out: Path) -> dict[str, Path]:
    """Where each set of the plan lies: in its files, or among the world's in `out`."""
    if plan.files is not None:
        return {name: Path(path) for name, path in plan.files.named().items()}
    return {name: out / DATA / f"{name}.jsonl" for name in _OF_WORLD}


def digests(files: Files | None) -> dict[str, str]:
    """The hash of every file, where a plan names some; UserError for one that is not there."""
    found = {}
    for name, path in ({} if files is None else files.named()).items():
        if not Path(path).is_file():
            raise UserError(f"{name}: there is no file {path}")
        found[name] = hash_file(path)
    return found


def recipe_of(cell: Cell, base: Any, sources: dict[str, Path]) -> Recipe:
    """The recipe of a cell whose subject is a method, on the plan's forget and retain rows."""
    return recipe_for(
        cell, base, forget=sources["forget"], retain=sources["retain"], overrides=cell.subject.set
    )


def read_plan(source: str | Path = "blur") -> Plan:
    """A shipped plan by name, or one in a YAML file; UserError for unknown keys, subjects and methods."""
    content, where = plan_content(source)
    plan = validated(Plan, content, where)
    sources = source_of(plan, Path("."))
    check_subjects(
        plan.subjects, [Target(name=plan.forget)], plan.base, where, partial(recipe_of, sources=sources)
    )
    return plan


def audit_plan(model: str, base: str | None, files: Files, gold: str | None = None) -> Plan:
    """The shipped plan's questions and tiers for one model beside its base (the one in its record, where none
    is named) and, where it is named, a model that never knew; UserError for a file that is not there.
    """
    from oubliette.backends import open_model
    from oubliette.backends.files.delta import recorded_base
    from oubliette.eval.rows import row_name

    digests(files)
    content, _ = plan_content("blur")
    named = base or str(recorded_base(open_model(model)))
    subjects = [{"name": "base", "control": "base"}, {"name": row_name(model), "model": model}]
    if gold is not None:
        subjects.insert(1, {"name": "gold", "control": "gold"})
    asked = {key: content[key] for key in ("n", "names", "separators", "tokens", "relearn") if key in content}
    own = {
        "name": "audit",
        "base": named,
        "gold": gold,
        "forget": Path(files.forget).stem,
        "files": files.model_dump(),
        "subjects": subjects,
    }
    return validated(Plan, {**asked, **own}, "bench blur")
