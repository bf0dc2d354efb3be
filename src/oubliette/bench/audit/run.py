"""A benchmark from its plan to a folder: cell by cell, each kept when done, in one process or several."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from oubliette.audit.read_suite import read_suite
from oubliette.audit.result import JSON_NAME, Audit
from oubliette.audit.suite import Suite
from oubliette.bench.audit.plan import Plan
from oubliette.bench.cells import Cell, chosen
from oubliette.bench.folder import claim, seal, whole
from oubliette.bench.pool import in_processes

__all__ = ["finished", "run_cell", "run_cells", "states"]


def run_cells(
    plan: Plan,
    out: Path,
    *,
    jobs: int = 1,
    subjects: Sequence[str] = (),
    models: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Run every cell that `out` does not hold yet; an audit that was cut short goes on where it was.

    `jobs` processes share the cells, each with its share of the cores; `subjects` names those to run, all
    where it is empty. `models` is where erased models lie or will (`out`'s own folder by default).
    `progress` is told after each: how many are done, of how many, and which. UserError for
    an unknown subject, and where `out` holds cells of another plan.
    """
    wanted = chosen(plan.cells(), subjects, plan.subjects)
    with claim(out, _facts(plan), lambda before: _differs(plan, before), plan.base):
        cells = [cell for cell in wanted if not _done(out, cell)]
        total = len(wanted)
        count = total - len(cells)
        for cell, seconds in in_processes(partial(run_cell, models=models), plan, cells, out, jobs):
            count += 1
            if progress is not None:
                progress(count, total, f"{cell.key}, {seconds:.0f} s")


def run_cell(plan: Plan, cell: Cell, out: Path, models: Path | None = None) -> float:
    """Erase, save, audit; the seconds that took."""
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
    return {cell.key: (cell, Audit.read(_folder(out, cell))) for cell in plan.cells() if _done(out, cell)}


def states(plan: Plan, out: Path) -> list[tuple[Cell, str]]:
    """Every cell of a plan with whether it is done, cut short (it would go on) or to do."""
    made = []
    for cell in plan.cells():
        folder = _folder(out, cell)
        begun = folder.with_name(f"{folder.name}.unfinished").is_dir()
        made.append((cell, "done" if _done(out, cell) else "cut short" if begun else "to do"))
    return made


def _suite(plan: Plan, cell: Cell) -> Suite:
    suite = read_suite(plan.suite)
    if cell.subject.attacked:
        return suite
    return suite.model_copy(update={"rows": [row for row in suite.rows if row.kind == "evaluation"]})


def _facts(plan: Plan) -> dict[str, Any]:
    return {**plan.model_dump(mode="json"), "suite": read_suite(plan.suite).model_dump(mode="json")}


def _differs(plan: Plan, before: dict[str, Any]) -> str | None:
    """What of the plan is not as it was when the folder's cells were run; subjects may be added."""
    facts = _facts(plan)
    for part in ("base", "suite"):
        if before.get(part) != facts[part]:
            return part
    known = {subject["name"]: subject for subject in before.get("subjects", [])}
    for subject in facts["subjects"]:
        if known.get(subject["name"], subject) != subject:
            return f"'{subject['name']}'"
    return None


def _folder(out: Path, cell: Cell) -> Path:
    return out / "cells" / cell.key


def _done(out: Path, cell: Cell) -> bool:
    folder = _folder(out, cell)
    return whole(folder / JSON_NAME, folder / "samples.jsonl")
