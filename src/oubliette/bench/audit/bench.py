"""`oubliette bench audit`: every eraser through the same attacks, and the tables of what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.audit.read_suite import read_suite
from oubliette.bench.audit.contrasts import Correlation, Difference, correlations, differences
from oubliette.bench.audit.figures import CellFigures, figures_of, names_in
from oubliette.bench.audit.plan import Plan, read_plan
from oubliette.bench.audit.plots import draw_curves
from oubliette.bench.audit.run import done, finished, run_cell, states
from oubliette.bench.audit.table import contrast_table, correlation_table, prompt_table, relearning_table
from oubliette.bench.cells import Cell, differing
from oubliette.bench.runner import Stage
from oubliette.core.manifest import record

__all__ = ["AUDIT", "AuditBenchmark", "Benched"]


@dataclass(frozen=True)
class Benched:
    """What a benchmark came to: each cell's figures, contrasts, correlations, and where it lies."""

    plan: Plan
    cells: list[CellFigures]
    missing: list[str]
    differences: list[Difference]
    correlations: list[Correlation]
    out: Path

    def markdown(self) -> str:
        """The tables, with what they hold above each."""
        seconds = sum(cell.seconds for cell in self.cells)
        parts = [
            f"{len(self.cells)} cells of the plan '{self.plan.name}', {seconds / 3600:.1f} hours of auditing"
            + (f"; {len(self.missing)} not run" if self.missing else ""),
            "Prompts, searches for prompts, and what is kept of the base's accuracy (percent; ± is half the "
            "95 % t interval over runs):",
            prompt_table(self.cells),
            "Fine-tuning (area: mean leakage over log(1 + step); half-way: steps to half strength):",
            relearning_table(self.cells),
        ]
        if self.differences:
            parts += [
                "What a change does (95 % t interval over pairs of runs):",
                contrast_table(self.differences),
            ]
        if self.correlations:
            parts += [
                "Does resistance to one attack tell of resistance to another (95 % bootstrap over erasers)?",
                correlation_table(self.correlations),
            ]
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `audit.json` and `--json` have it."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "cells": [asdict(cell) for cell in self.cells],
            "missing": self.missing,
            "differences": [asdict(made) for made in self.differences],
            "correlations": [asdict(made) for made in self.correlations],
            "record": record(),
        }


class AuditBenchmark:
    """Every eraser at hand through the same attacks. A cell is a folder with its own audit and page."""

    name, table = "audit", "audit"
    read_plan = staticmethod(read_plan)
    states = staticmethod(states)

    def facts(self, plan: Plan) -> dict[str, Any]:
        """The plan, and what its suite holds."""
        return {**plan.model_dump(mode="json"), "suite": read_suite(plan.suite).model_dump(mode="json")}

    def differs(self, plan: Plan, before: Mapping[str, Any]) -> str | None:
        """Subjects may be added."""
        return differing(self.facts(plan), before, ("base", "suite"))

    def stages(self, plan: Plan, out: Path) -> Iterator[Stage]:
        """All cells at once."""
        yield Stage(plan.cells(), run_cell, done)

    def subjects(self, plan: Plan) -> list[str]:
        """Those of the plan."""
        return [subject.name for subject in plan.subjects]

    def subject_of(self, cell: Cell) -> str:
        """Its own."""
        return cell.subject.name

    def benched(self, plan: Plan, out: Path) -> Benched:
        """The figures, and curves.png."""
        found = finished(plan, out)
        cells = [figures_of(cell, audit) for cell, audit in found.values()]
        erased = [
            cell for cell, (one, _) in zip(cells, found.values(), strict=True) if one.subject.control is None
        ]
        draw_curves(list(found.values()), out / "curves.png")
        return Benched(
            plan=plan,
            cells=cells,
            missing=[cell.key for cell in plan.cells() if cell.key not in found],
            differences=[made for contrast in plan.contrasts for made in differences(erased, contrast)],
            correlations=correlations(erased, _pairs(erased)),
            out=out,
        )


AUDIT = AuditBenchmark()


def _pairs(cells: Sequence[CellFigures]) -> list[tuple[str, str]]:
    """Prompts against fine-tuning, and kinds of fine-tuning against each other."""
    prompts = [f"leakage {name}" for name in names_in(cells, "leakage")]
    prompts += [f"{name}, cases" for name in names_in(cells, "searched")]
    trained = [f"{name}, area" for name in names_in(cells, "relearned")]
    pairs = [(one, other) for one in prompts for other in trained]
    return pairs + [(one, other) for i, one in enumerate(trained) for other in trained[i + 1 :]]
