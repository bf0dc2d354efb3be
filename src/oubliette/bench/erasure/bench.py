"""`oubliette bench erasure`: every eraser on the same concepts under one harness, and the leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.bench.audit.figures import CellFigures as AuditFigures
from oubliette.bench.erasure.attacked import audit_states, audited
from oubliette.bench.erasure.figures import CellFigures
from oubliette.bench.erasure.gallery import draw_gallery
from oubliette.bench.erasure.plan import Plan, read_plan
from oubliette.bench.erasure.plots import draw_plots
from oubliette.bench.erasure.run import ROW, done, finished, leading, run_cells, samples_of
from oubliette.bench.erasure.table import attack_table, concept_table, leader_table
from oubliette.bench.words import slug
from oubliette.core.manifest import record, write_json
from oubliette.core.writing import write_bytes

__all__ = ["Benched", "bench_erasure", "summarise"]

TABLE, JSON, PLOTS = "leaderboard.md", "leaderboard.json", "leaderboard.png"


@dataclass(frozen=True)
class Benched:
    """What the benchmark came to: the figures of the plan's own cells, of the further ones and of the audits;
    the erasers by balance, best first, and what was not run.
    """

    plan: Plan
    cells: list[CellFigures]
    further: list[CellFigures]
    attacked: list[AuditFigures]
    leaders: list[str]
    missing: list[str]
    out: Path

    def markdown(self) -> str:
        """The tables, with what they hold above each."""
        plan = self.plan
        names = [subject.name for subject in plan.everyone]
        controls = [subject.name for subject in plan.everyone if subject.control is not None]
        partial = {subject.name for subject in plan.everyone if subject.only is not None}
        left = f"; {len(self.missing)} not run" if self.missing else ""
        parts = [
            f"{len(self.cells)} runs of the plan '{plan.name}'{left}: {plan.n} pictures a concept and split, "
            f"{plan.each} of every other concept, {plan.n // 2} of the near neighbour, {plan.sampling_steps} "
            f"steps, guidance {plan.guidance:g}.",
            "Balance: the mean over kinds of H, MACE's harmonic mean of what is erased, kept and erased of "
            "synonyms (top-1 accuracies of the judge). Percent; ± is half the 95 % t interval over runs, "
            "which differ in concept and seed. Leakage 0 is the judge's rate on other concepts of the kind, "
            "and shown where it is below:",
            leader_table([cell for cell in self.cells if cell.subject not in partial], names, controls),
        ]
        if self.attacked:
            parts += [
                "What attacks find of those that lead (in brackets the same of gold, a model that never saw "
                "the concept): cases in which a search for prompts finds it, the area under the curve of "
                "fine-tuning it back, the leakage after fine-tuning on other things:",
                attack_table(self.attacked, self.cells),
            ]
        if some := [cell for cell in self.cells if cell.subject in partial]:
            parts += ["On some of the concepts alone:", leader_table(some, names, controls)]
        parts += [
            "Concept by concept (for one run, the 95 % interval over pictures in brackets):",
            concept_table(self.cells, names, controls),
        ]
        if self.further:
            parts += [
                "Further concepts, for those that lead:",
                leader_table(self.further, names, controls),
                concept_table(self.further, names, controls),
            ]
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `leaderboard.json` and `--json` have it."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "cells": [asdict(cell) for cell in self.cells],
            "further": [asdict(cell) for cell in self.further],
            "attacked": [asdict(cell) for cell in self.attacked],
            "leaders": self.leaders,
            "missing": self.missing,
            "record": record(),
        }


def bench_erasure(
    out: Path | str,
    plan: Plan | Path | str = "erasure",
    *,
    jobs: int = 1,
    subjects: Sequence[str] = (),
    run: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> Benched:
    """Run the plan's cells that `out` lacks, then write leaderboard.md, .json and .png and each concept's
    gallery.

    `subjects` are the names of those to run; `run` false makes the tables of what is there. UserError for an
    unknown subject and for a folder that holds another benchmark.
    """
    out = Path(out)
    made = plan if isinstance(plan, Plan) else read_plan(plan)
    if run:
        run_cells(made, out, jobs=jobs, subjects=subjects, progress=progress)
    return summarise(made, out)


def summarise(plan: Plan, out: Path) -> Benched:
    """The tables of the cells that are done, written to `out`."""
    cells = finished(plan.cells(), out)
    leaders = leading(plan, cells)
    wanted = plan.further_cells(leaders)
    benched = Benched(
        plan=plan,
        cells=cells,
        further=finished(wanted, out),
        attacked=audited(plan, leaders, out),
        leaders=leaders,
        missing=[cell.key for cell in plan.cells() + wanted if not done(out, cell)]
        + [f"audit of {cell.key}" for cell, state in audit_states(plan, leaders, out) if state != "done"],
        out=out,
    )
    names = [subject.name for subject in plan.everyone]
    controls = [subject.name for subject in plan.everyone if subject.control is not None]
    write_bytes(out / TABLE, benched.markdown().encode())
    write_json(out / JSON, benched.to_dict())
    everywhere = [cell for cell in cells if cell.subject in (*leaders, *controls)]
    draw_plots(everywhere, names, controls, out / PLOTS)
    shown = [subject.name for subject in plan.everyone if subject.is_base or subject.control == "gold"]
    for target in plan.concepts:
        draw_gallery(
            samples_of(plan, out, target.name, [*shown, *leaders]),
            out / "cache",
            target.name,
            ROW,
            out / f"{slug('gallery', target.name)}.png",
        )
    return benched
