"""`oubliette bench audit`: every eraser through the same attacks, and the tables of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.bench.audit.contrasts import Correlation, Difference, correlations, differences
from oubliette.bench.audit.figures import CellFigures, figures_of, names_in
from oubliette.bench.audit.plan import Plan, read_plan
from oubliette.bench.audit.plots import draw_curves
from oubliette.bench.audit.run import finished, run_cells
from oubliette.bench.audit.table import contrast_table, correlation_table, prompt_table, relearning_table
from oubliette.core.manifest import record, write_json
from oubliette.core.writing import write_bytes

__all__ = ["Benched", "bench_audit", "summarise"]

TABLE, JSON, CURVES = "audit.md", "audit.json", "curves.png"


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


def bench_audit(
    out: Path | str,
    plan: Plan | Path | str = "audit",
    *,
    jobs: int = 1,
    subjects: Sequence[str] = (),
    run: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> Benched:
    """Run the plan's cells that `out` lacks, then write audit.md, audit.json and curves.png beside them.

    `subjects` are the names of those to run (all others stay as they are); `run` false makes the tables of
    what is there. A cell is a folder with its own audit and page. UserError for an unknown subject and for a
    folder that holds another benchmark.
    """
    out = Path(out)
    made = plan if isinstance(plan, Plan) else read_plan(plan)
    if run:
        run_cells(made, out, jobs=jobs, subjects=subjects, progress=progress)
    return summarise(made, out)


def summarise(plan: Plan, out: Path) -> Benched:
    """The tables of the cells that are done, written to `out`."""
    found = finished(plan, out)
    cells = [figures_of(cell, audit) for cell, audit in found.values()]
    erased = [
        cell for cell, (one, _) in zip(cells, found.values(), strict=True) if one.subject.control is None
    ]
    benched = Benched(
        plan=plan,
        cells=cells,
        missing=[cell.key for cell in plan.cells() if cell.key not in found],
        differences=[made for contrast in plan.contrasts for made in differences(erased, contrast)],
        correlations=correlations(erased, _pairs(erased)),
        out=out,
    )
    write_bytes(out / TABLE, benched.markdown().encode())
    write_json(out / JSON, benched.to_dict())
    draw_curves(list(found.values()), out / CURVES)
    return benched


def _pairs(cells: Sequence[CellFigures]) -> list[tuple[str, str]]:
    """Prompts against fine-tuning, and kinds of fine-tuning against each other."""
    prompts = [f"leakage {name}" for name in names_in(cells, "leakage")]
    prompts += [f"{name}, cases" for name in names_in(cells, "searched")]
    trained = [f"{name}, area" for name in names_in(cells, "relearned")]
    pairs = [(one, other) for one in prompts for other in trained]
    return pairs + [(one, other) for i, one in enumerate(trained) for other in trained[i + 1 :]]
