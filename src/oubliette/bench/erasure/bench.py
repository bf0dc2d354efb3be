"""`oubliette bench erasure`: every eraser on the same concepts under one harness, and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.audit.read_suite import read_suite
from oubliette.bench.audit.figures import CellFigures as AuditFigures
from oubliette.bench.cells import Cell, differing
from oubliette.bench.erasure.attacked import audit_stage, audit_states, audited
from oubliette.bench.erasure.figures import CellFigures
from oubliette.bench.erasure.gallery import draw_gallery
from oubliette.bench.erasure.plan import Plan, read_plan
from oubliette.bench.erasure.plots import draw_plots
from oubliette.bench.erasure.run import ROW, done, finished, leading, run_cell, samples_of, states
from oubliette.bench.erasure.table import attack_table, concept_table, leader_table
from oubliette.bench.runner import Stage
from oubliette.bench.words import slug
from oubliette.core.manifest import record

__all__ = ["ERASURE", "Benched", "ErasureBenchmark"]


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


class ErasureBenchmark:
    """Every eraser on the same concepts under one harness: the leaderboard, and each concept's gallery."""

    name, table = "erasure", "leaderboard"
    read_plan = staticmethod(read_plan)
    states = staticmethod(states)

    def facts(self, plan: Plan) -> dict[str, Any]:
        """The plan, and what the suite of its attacks holds."""
        suite = None if plan.audit is None else read_suite(plan.audit.suite).model_dump(mode="json")
        return {**plan.model_dump(mode="json"), "suite": suite}

    def differs(self, plan: Plan, before: Mapping[str, Any]) -> str | None:
        """Subjects, their runs and concepts may grow; folders of before do not know the suite."""
        facts = self.facts(plan)
        same = ("base", "n", "each", "sampling_steps", "guidance", "suite")
        return differing(facts, {"suite": facts["suite"], **before}, same, grows=("runs",))

    def stages(self, plan: Plan, out: Path) -> Iterator[Stage]:
        """The plan's own cells; then those of the leaders on the further concepts, and their audits."""
        yield Stage(plan.cells(), run_cell, done)
        leaders = leading(plan, finished(plan.cells(), out))
        yield Stage(plan.further_cells(leaders), run_cell, done)
        audits = audit_stage(plan, leaders)
        if audits is not None:
            yield audits

    def subjects(self, plan: Plan) -> list[str]:
        """Those of the plan, every trial as one."""
        return [subject.name for subject in plan.everyone]

    def subject_of(self, cell: Cell) -> str:
        """Its own."""
        return cell.subject.name

    def benched(self, plan: Plan, out: Path) -> Benched:
        """The figures, leaderboard.png and the galleries."""
        cells = finished(plan.cells(), out)
        leaders = leading(plan, cells)
        wanted = plan.further_cells(leaders)
        names = [subject.name for subject in plan.everyone]
        controls = [subject.name for subject in plan.everyone if subject.control is not None]
        everywhere = [cell for cell in cells if cell.subject in (*leaders, *controls)]
        draw_plots(everywhere, names, controls, out / f"{self.table}.png")
        shown = [subject.name for subject in plan.everyone if subject.is_base or subject.control == "gold"]
        for target in plan.concepts:
            draw_gallery(
                samples_of(plan, out, target.name, [*shown, *leaders]),
                out / "cache",
                target.name,
                ROW,
                out / f"{slug('gallery', target.name)}.png",
            )
        return Benched(
            plan=plan,
            cells=cells,
            further=finished(wanted, out),
            attacked=audited(plan, leaders, out),
            leaders=leaders,
            missing=[cell.key for cell in plan.cells() + wanted if not done(out, cell)]
            + [f"audit of {cell.key}" for cell, state in audit_states(plan, leaders, out) if state != "done"],
            out=out,
        )


ERASURE = ErasureBenchmark()
