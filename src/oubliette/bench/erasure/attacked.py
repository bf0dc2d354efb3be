"""The leading erasers' models through a suite of attacks, whose columns join the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from oubliette.bench.audit import run as audits
from oubliette.bench.audit.figures import CellFigures, figures_of
from oubliette.bench.audit.plan import Plan as AuditPlan
from oubliette.bench.cells import Cell
from oubliette.bench.erasure.plan import Plan
from oubliette.bench.runner import Stage

__all__ = ["audit_plan", "audit_stage", "audit_states", "audited"]

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


def audit_stage(plan: Plan, leaders: Sequence[str]) -> Stage | None:
    """The audits of the leaders' models, as a stage of the erasing benchmark; None where there are none."""
    made = audit_plan(plan, leaders)
    return None if made is None else Stage(made.cells(), partial(_audit, made), _audit_done)


def _audit(made: AuditPlan, plan: Plan, cell: Cell, out: Path) -> float:
    return audits.run_cell(made, cell, out / _FOLDER, models=out / "models")


def _audit_done(out: Path, cell: Cell) -> bool:
    return audits.done(out / _FOLDER, cell)


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
