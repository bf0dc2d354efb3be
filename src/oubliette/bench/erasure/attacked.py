"""The leading erasers' models through a suite of attacks, whose columns join the leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from oubliette.bench.audit import run as audits
from oubliette.bench.audit.figures import CellFigures, figures_of
from oubliette.bench.audit.plan import Plan as AuditPlan
from oubliette.bench.cells import Cell
from oubliette.bench.erasure.plan import Plan

__all__ = ["attack_leaders", "audit_plan", "audit_states", "audited"]

_FOLDER = "audit"


def audit_plan(plan: Plan, leaders: Sequence[str]) -> AuditPlan | None:
    """The audit of the erasers that lead, best first, beside the untouched base; None where none is asked
    for.

    A cell has the key of the same cell of the erasing benchmark, and so its model.
    """
    if plan.audit is None or not leaders:
        return None
    best = leaders[: plan.audit.leading]
    led = {subject.name: subject for subject in plan.everyone if subject.name in best}
    bases = [subject for subject in plan.everyone if subject.is_base]
    return AuditPlan(
        name=f"{plan.name}, attacked",
        base=plan.base,
        suite=plan.audit.suite,
        concepts=[
            target.model_copy(update={"runs": min(target.runs, plan.audit.runs)}) for target in plan.concepts
        ],
        subjects=[*bases, *(led[name] for name in best)],
    )


def attack_leaders(
    plan: Plan,
    leaders: Sequence[str],
    out: Path,
    *,
    jobs: int = 1,
    subjects: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Audit those of the leaders' models that were not yet; `subjects` as in the benchmark, all if empty."""
    made = audit_plan(plan, leaders)
    if made is None:
        return
    known = {subject.name for subject in made.subjects}
    wanted = [name for name in subjects if name in known]
    if wanted or not subjects:
        audits.run_cells(
            made, out / _FOLDER, jobs=jobs, subjects=wanted, models=out / "models", progress=progress
        )


def audited(plan: Plan, leaders: Sequence[str], out: Path) -> list[CellFigures]:
    """What the audits that are done found, a cell each."""
    made = audit_plan(plan, leaders)
    if made is None:
        return []
    return [figures_of(cell, audit) for cell, audit in audits.finished(made, out / _FOLDER).values()]


def audit_states(plan: Plan, leaders: Sequence[str], out: Path) -> list[tuple[Cell, str]]:
    """Every audit with whether it is done, cut short or to do."""
    made = audit_plan(plan, leaders)
    return [] if made is None else audits.states(made, out / _FOLDER)
