"""A benchmark from its plan to a folder: cell by cell, each kept when done, in one process or several."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oubliette.audit.result import JSON_NAME, Audit
from oubliette.audit.suite import Suite, read_suite
from oubliette.bench.audit.plan import Cell, Plan
from oubliette.bench.pool import in_processes
from oubliette.errors import UserError, suggest
from oubliette.manifest import read_object, write_json

__all__ = ["finished", "run_cell", "run_cells", "states"]

_FACTS = "plan.json"


def run_cells(
    plan: Plan,
    out: Path,
    *,
    jobs: int = 1,
    subjects: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Run every cell that `out` does not hold yet; an audit that was cut short goes on where it was.

    `jobs` processes share the cells, each with its share of the cores; `subjects` names those to run, all
    where it is empty. `progress` is told after each: how many are done, of how many, and which. UserError for
    an unknown subject, and where `out` holds cells of another plan.
    """
    known = [subject.name for subject in plan.subjects]
    for name in subjects:
        if name not in known:
            raise UserError(f"the plan has no subject '{name}'; {suggest(name, known)}")
    _claim(plan, out)
    wanted = [cell for cell in plan.cells() if not subjects or cell.subject.name in subjects]
    cells = [cell for cell in wanted if not _done(out, cell)]
    total = len(wanted)
    count = total - len(cells)
    for cell, seconds in in_processes(run_cell, plan, cells, out, jobs):
        count += 1
        if progress is not None:
            progress(count, total, f"{cell.key}, {seconds:.0f} s")


def run_cell(plan: Plan, cell: Cell, out: Path) -> float:
    """Erase, save, audit; the seconds that took."""
    from oubliette.api import load
    from oubliette.audit.run import audit
    from oubliette.bench.audit.subjects import concept_of, open_subject

    started = time.monotonic()
    base = load(plan.base)
    folder = _folder(out, cell)
    suite = _suite(plan, cell)
    with open_subject(plan, cell, base, out / "models", out / "latents") as model:
        audit(
            model,
            base,
            concept_of(plan, cell, base),
            out=folder,
            suite=suite,
            cache=out / "cache",
            seed=cell.seed,
            resume=folder.with_name(f"{folder.name}.unfinished").is_dir(),
            show_progress=False,
        )
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


def _claim(plan: Plan, out: Path) -> None:
    """Write the plan into `out`, or check that it is the plan of the cells that lie there."""
    facts: dict[str, Any] = plan.model_dump(mode="json")
    suite = read_suite(plan.suite).model_dump(mode="json")
    path = out / _FACTS
    if path.is_file():
        before = read_object(path)
        for part, now in (("base", facts["base"]), ("suite", suite)):
            if before.get(part) != now:
                raise UserError(f"{out}: was begun with another {part}; name another folder")
        known = {subject["name"]: subject for subject in before.get("subjects", [])}
        for subject in facts["subjects"]:
            if known.get(subject["name"], subject) != subject:
                raise UserError(f"{out}: was begun with another '{subject['name']}'; name another folder")
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: exists already and holds no benchmark; name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror or error})") from error
    write_json(path, {**facts, "suite": suite})


def _folder(out: Path, cell: Cell) -> Path:
    return out / "cells" / cell.key


def _done(out: Path, cell: Cell) -> bool:
    return (_folder(out, cell) / JSON_NAME).is_file()
