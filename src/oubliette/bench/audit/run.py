"""One cell of the audit's benchmark: erased, saved, opened, audited, kept when done."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from oubliette.audit.read_suite import read_suite
from oubliette.audit.result import JSON_NAME, Audit
from oubliette.audit.suite import Suite
from oubliette.bench.audit.plan import Plan
from oubliette.bench.cells import Cell
from oubliette.bench.folder import seal, whole

__all__ = ["done", "finished", "run_cell", "states"]


def run_cell(plan: Plan, cell: Cell, out: Path, models: Path | None = None) -> float:
    """Erase, save, audit; the seconds that took. An audit that was cut short goes on where it was.

    `models` is where erased models lie or will, `out`'s own folder by default.
    """
    from oubliette.backends import open_model
    from oubliette.bench.subjects import concept_of, open_subject
    from oubliette.workflows.audit import audit

    started = time.monotonic()
    base = open_model(plan.base)
    folder = _folder(out, cell)
    suite = _suite(plan, cell)
    if folder.is_dir():
        shutil.rmtree(folder)  # a damaged one, since it does not count as done
    with open_subject(cell, base, models or out / "models", out / "latents") as model:
        audit(
            model,
            base,
            concept_of(cell, base),
            out=folder,
            suite=suite,
            cache=out / "cache",
            seed=cell.seed,
            resume=folder.with_name(f"{folder.name}.unfinished").is_dir(),
            show_progress=False,
        )
    seal(folder / JSON_NAME, folder / "samples.jsonl")
    return time.monotonic() - started


def finished(plan: Plan, out: Path) -> dict[str, tuple[Cell, Audit]]:
    """The cells that are done, by key, in the plan's order."""
    return {cell.key: (cell, Audit.read(_folder(out, cell))) for cell in plan.cells() if done(out, cell)}


def states(plan: Plan, out: Path) -> list[tuple[Cell, str]]:
    """Every cell of a plan with whether it is done, cut short (it would go on) or to do."""
    made = []
    for cell in plan.cells():
        folder = _folder(out, cell)
        begun = folder.with_name(f"{folder.name}.unfinished").is_dir()
        made.append((cell, "done" if done(out, cell) else "cut short" if begun else "to do"))
    return made


def _suite(plan: Plan, cell: Cell) -> Suite:
    suite = read_suite(plan.suite)
    if cell.subject.attacked:
        return suite
    return suite.model_copy(update={"rows": [row for row in suite.rows if row.kind == "evaluation"]})


def _folder(out: Path, cell: Cell) -> Path:
    return out / "cells" / cell.key


def done(out: Path, cell: Cell) -> bool:
    """Whether `out` holds the cell's audit."""
    folder = _folder(out, cell)
    return whole(folder / JSON_NAME, folder / "samples.jsonl")
