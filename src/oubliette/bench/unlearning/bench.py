"""`oubliette bench unlearning`: erasers of language models on one forget set, attacked alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.bench.cells import Cell, differing
from oubliette.bench.runner import Stage
from oubliette.bench.unlearning.figures import Found, found, measures
from oubliette.bench.unlearning.plan import MEASURES, Plan, read_plan
from oubliette.bench.unlearning.run import DATA, Outcome, done, finished, run_cell, write_data
from oubliette.bench.unlearning.table import finding_table, outcome_table
from oubliette.core.manifest import record

__all__ = ["SMOOTHING", "UNLEARNING", "Benched", "UnlearningBenchmark"]


@dataclass(frozen=True)
class Benched:
    """What the benchmark came to: every cell's outcome, the findings, and what was not run."""

    plan: Plan
    outcomes: list[Outcome]
    found: list[Found]
    missing: list[str]

    def markdown(self) -> str:
        """The tables, with what they hold above each."""
        plan = self.plan
        left = f"; {len(self.missing)} not run" if self.missing else ""
        rows = self.outcomes[0].n if self.outcomes else {}
        counted = ", ".join(f"{count} of {name}" for name, count in rows.items())
        base = next((subject.name for subject in plan.everyone if subject.is_base), None)
        there = {name for outcome in self.outcomes for name in measures(outcome)}
        parts = [
            f"{len(self.outcomes)} runs of the plan '{plan.name}'{left}: {plan.base}, forget set "
            f"'{plan.forget}'; rows asked: {counted or 'none'}. Right answers in percent; ± is half the "
            "95 % t interval over runs.",
            "\n".join(f"- {name}: {about}" for name, about in MEASURES.items() if name in there),
            outcome_table(self.outcomes, base),
        ]
        if self.found:
            parts += [
                "Findings (differences in points; intervals over pairs of runs, or bootstrap over erasers):",
                finding_table(self.found),
            ]
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "cells": [{**asdict(outcome), "measures": measures(outcome)} for outcome in self.outcomes],
            "found": [asdict(one) for one in self.found],
            "missing": self.missing,
            "record": record(),
        }


class UnlearningBenchmark:
    """Erasers of language models on one forget set of the text world."""

    read_plan = staticmethod(read_plan)

    def __init__(self, name: str) -> None:
        self.name = self.table = name

    def facts(self, plan: Plan) -> dict[str, Any]:
        """The plan."""
        return plan.model_dump(mode="json")

    def differs(self, plan: Plan, before: Mapping[str, Any]) -> str | None:
        """Subjects, runs and findings may grow."""
        same = ("base", "gold", "forget", "n", "relearn", "unrelated", "skills", "bits", "prefixes")
        return differing(self.facts(plan), before, same, grows=("runs",))

    def stages(self, plan: Plan, out: Path) -> Iterator[Stage]:
        """All cells at once, on data that is written first."""
        write_data(out / DATA, plan.forget)
        yield Stage(plan.cells(), run_cell, done)

    def subjects(self, plan: Plan) -> list[str]:
        """Those of the plan, every trial as one."""
        return [subject.name for subject in plan.everyone]

    def subject_of(self, cell: Cell) -> str:
        """Its own."""
        return cell.subject.name

    def states(self, plan: Plan, out: Path) -> list[tuple[Cell, str]]:
        """Every cell."""
        return [(cell, "done" if done(out, cell) else "to do") for cell in plan.cells()]

    def benched(self, plan: Plan, out: Path) -> Benched:
        """The figures."""
        outcomes = finished(plan, out)
        return Benched(
            plan=plan,
            outcomes=outcomes,
            found=found(plan, outcomes),
            missing=[cell.key for cell in plan.cells() if not done(out, cell)],
        )


UNLEARNING, SMOOTHING = UnlearningBenchmark("unlearning"), UnlearningBenchmark("smoothing")
