"""`oubliette bench continual`: deletion requests one after another, every method on the same records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.bench.cells import Cell, differing
from oubliette.bench.runner import Keyed, Stage
from oubliette.bench.streams.figures import Curve, Held, References, curve, held, measures
from oubliette.bench.streams.models import learned, train_twin
from oubliette.bench.streams.plan import MEASURES, Plan, Twin, read_plan
from oubliette.bench.streams.plots import draw_curves
from oubliette.bench.streams.run import Outcome, done, finished, run_cell, write_data
from oubliette.bench.streams.table import claim_table, curve_table, measure_table
from oubliette.core.manifest import record

__all__ = ["STREAMS", "Benched", "StreamBenchmark"]

_CELLS = ("base", "forget", "retain", "seed", "learn", "orders", "checkpoints", "requests", "tokens")
_ATTACKS = ("relearn", "bits")


@dataclass(frozen=True)
class Benched:
    """What the benchmark came to: every cell's outcome, measures and curve, the claims, what was not run."""

    plan: Plan
    outcomes: list[Outcome]
    found: dict[str, dict[int, dict[str, float]]]
    curves: dict[str, list[Curve]]
    held: list[Held]
    missing: list[str]

    def markdown(self) -> str:
        """The tables, with what they hold above each."""
        plan = self.plan
        left = f"; {len(self.missing)} not run" if self.missing else ""
        there = {name for cells in self.found.values() for cell in cells.values() for name in cell}
        parts = [
            f"{len(self.outcomes)} streams of the plan '{plan.name}'{left}: {plan.base}, fine-tuned on "
            f"{plan.forget} + {plan.retain} records, asked to forget {plan.asked} of them one after another, "
            "in every order. ± is half the 95 % t interval over orders; F.D. and R.U. lie between 0 and 1 "
            "and lose by too much as by too little.",
            "\n".join(f"- {name}: {about}" for name, about in MEASURES.items() if name in there),
            measure_table(self.outcomes, self.found),
        ]
        if self.curves:
            parts += [
                "F.D. / R.U. at the checkpoints (against models retrained without the requests in brackets). "
                "The interpolated reference expects little to be gone at the first checkpoints, as FIT's "
                "does: an eraser that forgets each request at once is marked down there, and not at the last "
                "one.",
                curve_table(self.curves, plan.checkpoints),
            ]
        if self.held:
            parts += ["Claims (95 % t intervals over orders):", claim_table(self.held)]
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "cells": [
                {**asdict(one), "measures": self.found.get(one.subject, {}).get(one.seed, {})}
                for one in self.outcomes
            ],
            "curves": {name: [asdict(one) for one in group] for name, group in self.curves.items()},
            "held": [asdict(one) for one in self.held],
            "missing": self.missing,
            "record": record(),
        }


class StreamBenchmark:
    """Streams of requests to one language model that knows its records by heart."""

    name = table = "streams"

    def read_plan(self, source: Any) -> Plan:
        """A shipped plan ("fit" where the benchmark's own name stands) or a file's."""
        return read_plan("fit" if source == self.name else source)

    def facts(self, plan: Plan) -> dict[str, Any]:
        """The plan, every trial as a subject."""
        facts = plan.model_dump(mode="json", exclude={"subjects", "trials"})
        return {**facts, "subjects": [subject.model_dump(mode="json") for subject in plan.everyone]}

    def differs(self, plan: Plan, before: Mapping[str, Any]) -> str | None:
        """Subjects, claims and twins may grow."""
        return differing(self.facts(plan), before, (*_CELLS, *_ATTACKS), grows=("runs", "only"))

    def stages(self, plan: Plan, out: Path) -> Iterator[Stage]:
        """The two models that every shard needs, the retrained ones, then the streams."""
        write_data(plan, out)
        first, rest = plan.models()[:2], plan.models()[2:]
        yield Stage(first, train_twin, learned, shared=True)
        yield Stage(rest, train_twin, learned)
        yield Stage(plan.cells(), run_cell, done)

    def subjects(self, plan: Plan) -> list[str]:
        """Those of the plan, every trial as one."""
        return [subject.name for subject in plan.everyone]

    def subject_of(self, cell: Cell | Twin) -> str | None:
        """Its own; the models are everyone's."""
        return cell.subject.name if isinstance(cell, Cell) else None

    def states(self, plan: Plan, out: Path) -> list[tuple[Keyed, str]]:
        """Models and streams."""
        made: list[tuple[Keyed, bool]] = [(twin, learned(out, twin)) for twin in plan.models()]
        made += [(cell, done(out, cell)) for cell in plan.cells()]
        return [(one, "done" if there else "to do") for one, there in made]

    def benched(self, plan: Plan, out: Path) -> Benched:
        """The figures; the curves are drawn beside the tables."""
        outcomes, references = finished(plan, out), References.read(plan, out)
        found: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
        curves: dict[str, list[Curve]] = defaultdict(list)
        if references is None:
            outcomes = []
        else:
            for outcome in outcomes:
                found[outcome.subject][outcome.seed] = measures(plan, outcome, references)
                curves[outcome.subject].append(curve(plan, outcome, references))
            draw_curves(curves, plan.checkpoints, out / f"{self.table}.png")
        return Benched(
            plan=plan,
            outcomes=outcomes,
            found=dict(found),
            curves=dict(curves),
            held=held(plan, found),
            missing=[one.key for one, state in self.states(plan, out) if state != "done"],
        )


STREAMS = StreamBenchmark()
