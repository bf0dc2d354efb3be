"""A row of any kind, run to one result."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from oubliette.audit.attack_cache import Exhibit, RowOutput
from oubliette.audit.context import AuditContext, Described, excess
from oubliette.audit.dry import cost_of
from oubliette.audit.relearning import relearning
from oubliette.audit.result import MODEL, Evaluated, LeakageGap, RowResult
from oubliette.audit.samples import small_png
from oubliette.audit.suite import BenignRow, EvaluationRow, ProbeRow, PromptsRow, RelearnRow
from oubliette.audit.untrained import probing, prompting
from oubliette.core.errors import UserError
from oubliette.data.png import decode_png
from oubliette.eval.controls import GOLD as GOLD_CONTROL
from oubliette.eval.evaluate import measure
from oubliette.eval.grids import make_grids
from oubliette.eval.result import Evaluation
from oubliette.eval.rows import BASE
from oubliette.eval.verdict import Bounds

__all__ = ["run_row"]


def run_row(key: str, spec: Any, bench: AuditContext) -> RowOutput:
    """Run one row; what this model or this data does not allow is a row that was skipped, and says why."""
    started = time.monotonic()
    described = bench.driver.describe(spec)
    note = described.skip
    if not note and spec.kind != "evaluation" and bench.meter.span <= 0:
        note = "the base itself does not show the concept above the judge's floor"
    if note:
        blank = _blank(key, spec, described, bench)
        return RowOutput(replace(blank, status="skipped", note=note, moot=described.moot), [], [], 0.0)
    try:
        output = _RUN[type(spec)](_blank(key, spec, described, bench), spec, bench)
    except UserError as error:
        skipped = replace(_blank(key, spec, described, bench), status="skipped", note=str(error))
        output = RowOutput(skipped, [], [], 0.0)
    return replace(output, seconds=round(time.monotonic() - started, 3))


def _blank(key: str, spec: Any, described: Described, bench: AuditContext) -> RowResult:
    cost = asdict(cost_of(spec, described, bench))
    return RowResult(
        key, spec.kind, described.title, described.about, "done", "", dict(described.budget), cost
    )


def _evaluation(row: RowResult, spec: EvaluationRow, bench: AuditContext) -> RowOutput:
    limits = bench.suite.limits
    gold = [] if bench.gold is None else [(GOLD_CONTROL, bench.gold.model)]
    found = measure(
        {MODEL: bench.model.model},
        bench.base.model,
        bench.evaluator,
        n=spec.n,
        each=spec.each,
        near_n=spec.near_n,
        seed=bench.seed,
        cache=bench.base.cache,
        controls=[*gold, *(name for name in spec.controls if name != GOLD_CONTROL or not gold)],
        bounds=Bounds(limits.leakage, limits.kept, limits.destroyed),
        progress=lambda done, total, who: bench.tell(
            f"{who}, {done} of {total} {bench.evaluator.noun}", done / total
        ),
    )
    evaluated = [Evaluated(made.name, made.role, made.concepts[0]) for made in found.rows]
    columns = [BASE, MODEL, *([GOLD_CONTROL] if gold else [])]
    exhibits = [
        Exhibit(
            name, grid.title, line.prompt, line.seed, _shrunk(picture.png), bool(picture.found), picture.text
        )
        for grid in make_grids(found, bench.base.cache, columns=columns, lines=4)
        for line in grid.lines
        for name, picture in zip(grid.columns, line.pictures, strict=True)
    ]
    result = replace(row, evaluated=evaluated, excess=_above_gold(found, bench) if gold else [])
    samples = [{**sample, "audit_row": row.id} for sample in found.samples]
    files = {"evaluation.json": found.to_json() + "\n"}
    return RowOutput(result, samples, exhibits, 0.0, files, [*found.complaints, *found.notes])


def _above_gold(found: Evaluation, bench: AuditContext) -> list[LeakageGap]:
    """How much more than gold the model shows, on each set of prompts that name the concept."""
    judge = bench.meter.judge.name
    figures = found.row(MODEL).concepts[0]
    made = []
    for split in dict.fromkeys(figure.split for figure in figures.leakage):
        own, other = (
            np.array(
                [
                    s["hits"][judge]
                    for s in found.samples
                    if s["row"] == name and s["role"] == "target" and s["split"] == split
                ]
            )
            for name in (MODEL, GOLD_CONTROL)
        )
        figure = figures.leakage_of(split, judge)
        if figure is not None and own.size and figure.leakage is not None:
            made.append(excess(own, other, figure.base.value - figure.floor.value, split))
    return made


def _shrunk(png: str) -> str:
    return small_png(decode_png(base64.b64decode(png))) if png else ""


_RUN: dict[type, Callable[[RowResult, Any, AuditContext], RowOutput]] = {
    EvaluationRow: _evaluation,
    PromptsRow: prompting,
    RelearnRow: relearning,
    BenignRow: relearning,
    ProbeRow: probing,
}
