"""The field's class protocol (Imagenette): seeded prompts a class from a CSV, and a classifier's top-1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.core.errors import UserError, suggest
from oubliette.core.json_io import read_json
from oubliette.data.concept import Concept
from oubliette.data.csv import read_table, seed_in, whole_number
from oubliette.eval.judge import Judge, default_judges, open_judge
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.pictures.zero_shot import top_one
from oubliette.eval.sample_store import Progress, SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.statistics import Estimate, Rate, combination
from oubliette.world.facts import BROADER

FORMAT = "oubliette-classes/1"
#: ImageNet's numbers of the ten Imagenette classes, for tables that give `classidx` in place of `class`.
IMAGENETTE = {
    0: "tench",
    217: "English springer",
    482: "cassette player",
    491: "chain saw",
    497: "church",
    566: "French horn",
    569: "garbage truck",
    571: "gas pump",
    574: "golf ball",
    701: "parachute",
}
_SEEDS = ("evaluation_seed", "seed")
_AT_ONCE = 128


@dataclass(frozen=True)
class ClassRow:
    """One row: what the picture is to show, its prompt and seed, and its case number where it has one."""

    name: str
    prompt: str
    seed: int
    case: int | None


@dataclass(frozen=True)
class ClassFigures:
    """What one judge says: accuracy on the erased classes (down), on each class, and the two later names.

    `esr` erasing success rate, one less the accuracy on the erased; `psr` preserving success rate, the mean
    of the other classes' accuracies, with the interval that theirs make; None where there are no others.
    """

    judge: str
    erased: Rate
    esr: Rate
    psr: Estimate | None
    per_class: dict[str, Rate]


@dataclass(frozen=True)
class ClassResult:
    """The class protocol on one model: the table's name, the erased classes, the figures by judge."""

    model: str
    fingerprint: str
    table: str
    erased: list[str]
    figures: list[ClassFigures]
    steps: int
    guidance: float
    format: str = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it goes to JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ClassResult:
        """The result that `to_dict` wrote; UserError for anything else."""
        return read_json(
            cls, json.dumps(content), what="classes", version=FORMAT, expected="what to_dict writes"
        )


def read_classes(path: Path | str) -> list[ClassRow]:
    """Read a class table: `prompt`, `evaluation_seed` (or `seed`), `class` (or `classidx`), `case_number`.

    The case number may be left out. `classidx` is ImageNet's number of an Imagenette class. Other columns are
    left out. Raises UserError, naming file and line, for a missing column, an empty prompt or class, and a
    number that is none.
    """
    rows = read_table(path, ("prompt",))
    columns = rows[0][1]
    seed = next((name for name in _SEEDS if name in columns), None)
    named = next((name for name in ("class", "classidx") if name in columns), None)
    if seed is None or named is None:
        missing = "evaluation_seed" if seed is None else "class"
        raise UserError(
            f"{path}: no column '{missing}'; found {', '.join(name or '(no name)' for name in columns)}; "
            "expected prompt, evaluation_seed, class"
        )
    return [_row(where, values, seed, named) for where, values in rows]


def class_protocol(
    model: Any,
    erased: str | Sequence[str],
    table: Path | str | Sequence[ClassRow],
    judges: Sequence[Judge | str] | None = None,
    *,
    kind: str = "object",
    sampling: Sampling | None = None,
    cache: SampleStore | None = None,
    progress: Progress | None = None,
) -> ClassResult:
    """Top-1 accuracy of every class of a table on the pictures a model draws for its rows.

    ESD's protocol (Gandikota et al. 2023, arXiv:2303.07345) has 500 prompts "an image of a {class}" for each
    of ten classes and a ResNet-50 (`classifier:microsoft/resnet-50`); any judge that knows all classes will
    do, by default those of the model's world. A CLIP picks among the table's classes. `erased` names classes
    of the table. Raises UserError for a class that is not in it and for a judge that lacks one.
    """
    sampling = sampling or Sampling()
    rows = read_classes(table) if isinstance(table, (str, Path)) else list(table)
    classes = list(dict.fromkeys(row.name for row in rows))
    gone = _erased([erased] if isinstance(erased, str) else erased, classes)
    concepts = {name: Concept(name, BROADER.get(kind, ""), kind) for name in classes}
    able = _judges(judges, model, concepts)
    painter = CachedSampler("model", model, SampleStore() if cache is None else cache, sampling)
    painter.fill([row.prompt for row in rows], [row.seed for row in rows], progress=progress)
    found: dict[str, dict[str, list[np.ndarray]]] = {
        judge.name: {name: [] for name in classes} for judge in able
    }
    for name in classes:
        own = [row for row in rows if row.name == name]
        for start in range(0, len(own), _AT_ONCE):
            part = own[start : start + _AT_ONCE]
            pictures = painter.recall([row.prompt for row in part], [row.seed for row in part])
            for judge in able:
                found[judge.name][name].append(judge.hits(pictures, concepts[name]))
    return ClassResult(
        model=str(model.source),
        fingerprint=painter.fingerprint,
        table=Path(table).name if isinstance(table, (str, Path)) else "rows given",
        erased=gone,
        figures=[
            class_figures(judge, {name: np.concatenate(parts) for name, parts in hits.items()}, gone)
            for judge, hits in found.items()
        ],
        steps=sampling.steps,
        guidance=sampling.guidance,
    )


def class_figures(judge: str, hits: dict[str, np.ndarray], erased: Sequence[str]) -> ClassFigures:
    """Figures from a judge's booleans (n,) by class: whether its pictures were called by its name."""
    rates = {name: Rate.mean(mask) for name, mask in hits.items()}
    lost = Rate.mean(np.concatenate([hits[name] for name in erased]))
    kept = [rate for name, rate in rates.items() if name not in erased]
    psr = None
    if kept:
        value, low, high = combination([1 / len(kept)] * len(kept), kept)
        psr = Estimate(value, max(0.0, low), min(1.0, high), sum(rate.n for rate in kept))
    return ClassFigures(judge, lost, Rate.of(lost.n - lost.hits, lost.n), psr, rates)


def _row(where: str, values: dict[str, str], seed: str, named: str) -> ClassRow:
    prompt, name = values["prompt"].strip(), " ".join(values[named].split())
    if not prompt:
        raise UserError(f"{where}: the prompt is empty")
    if not name:
        raise UserError(f"{where}: the {named} is empty")
    if named == "classidx":
        number = whole_number(where, named, name)
        if number not in IMAGENETTE:
            raise UserError(
                f"{where}: classidx {number} is no Imagenette class; give a column 'class' with names"
            )
        name = IMAGENETTE[number]
    case = values.get("case_number", "").strip()
    return ClassRow(
        name,
        prompt,
        seed_in(where, seed, values[seed]),
        whole_number(where, "case_number", case) if case else None,
    )


def _erased(names: Sequence[str], classes: Sequence[str]) -> list[str]:
    known = {name.casefold(): name for name in classes}
    if not names:
        raise UserError("classes: no erased class was given; name one of the table's")
    for name in names:
        if name.casefold() not in known:
            raise UserError(f"classes: the table has no class '{name}'; {suggest(name, classes)}")
    return list(dict.fromkeys(known[name.casefold()] for name in names))


def _judges(judges: Sequence[Judge | str] | None, model: Any, concepts: dict[str, Concept]) -> list[Judge]:
    opened = (
        default_judges(model)
        if judges is None
        else [open_judge(judge, model) if isinstance(judge, str) else judge for judge in judges]
    )
    if not opened:
        raise UserError("classes: no judge was given; name one, as in classifier:microsoft/resnet-50")
    able = []
    for judge in opened:
        kind = next(iter(concepts.values())).kind
        one = top_one(judge, {kind: list(concepts)})
        unknown = [name for name, concept in concepts.items() if not one.covers(concept)]
        if unknown:
            raise UserError(f"classes: {judge.name} knows no class {unknown[0]!r}, which the table has")
        able.append(one)
    return able
