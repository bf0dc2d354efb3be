"""`oubliette bench continual --plan refresh`: does refresh help a learner of tasks?"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from oubliette.bench.folder import seal, whole
from oubliette.bench.refresh.figures import Difference, weigh
from oubliette.bench.refresh.plan import MEASURES, Cell, Plan, read_plan
from oubliette.bench.runner import Stage
from oubliette.bench.words import NOTHING, markdown, mean_of, plain
from oubliette.continual.run import Outcome, Settings, learn
from oubliette.core.manifest import record, write_json
from oubliette.core.numbers import number
from oubliette.core.validation import validated
from oubliette.data.labelled import LabelledSet, read_labelled

__all__ = ["REFRESH", "Benched", "RefreshBenchmark"]


@dataclass(frozen=True)
class Benched:
    """What the benchmark came to: each cell's outcome by subject and seed, the claims, and what was left."""

    plan: Plan
    outcomes: dict[str, dict[int, Outcome]]
    found: list[Difference]
    missing: list[str]

    def markdown(self) -> str:
        """The tables, with what they hold above each."""
        left = f"; {len(self.missing)} not run" if self.missing else ""
        count = sum(len(seeds) for seeds in self.outcomes.values())
        learn = ", ".join(f"{key} {value}" for key, value in self.plan.learn.items())
        parts = [
            f"{count} runs of the plan '{self.plan.name}'{left}: {self.plan.data}; {learn}. Accuracies and "
            "transfers in points; ± is half the 95 % t interval over seeds.",
            "\n".join(f"- {name}: {about}" for name, (about, _) in MEASURES.items()),
            self._subjects(),
        ]
        if self.found:
            parts += ["Claims (differences seed by seed, 95 % t intervals, paired t tests):", self._claims()]
        return "\n\n".join(parts) + "\n"

    def _subjects(self) -> str:
        rows = []
        for name, seeds in self.outcomes.items():
            figures = [outcome.figures() for outcome in seeds.values()]
            row = [name, str(len(seeds))]
            row += [mean_of([one[key] for one in figures], _shown(key)) for key in MEASURES]
            row.append(mean_of([outcome.seconds for outcome in seeds.values()], lambda value: f"{value:.0f}"))
            rows.append(row)
        return markdown(["method", "seeds", *MEASURES, "seconds"], rows)

    def _claims(self) -> str:
        rows = []
        for one in self.found:
            show = _shown(one.measure, "+")
            value = NOTHING if one.value is None else plain(show(one.value))
            if one.low is not None and one.high is not None:
                value += f" [{plain(show(one.low))}, {plain(show(one.high))}]"
            p = NOTHING if one.p is None else f"{one.p:.2g}"
            rows.append([one.says, one.measure, value, p, str(one.n), one.word])
        return markdown(["claim, or pair", "measure", "difference", "p", "n", "holds"], rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "cells": [
                {"subject": name, "seed": seed, **asdict(outcome), "figures": outcome.figures()}
                for name, seeds in self.outcomes.items()
                for seed, outcome in seeds.items()
            ],
            "found": [asdict(one) for one in self.found],
            "missing": self.missing,
            "record": record(),
        }


class RefreshBenchmark:
    """Methods of continual learning, each with and without refresh, on the same pictures and seeds."""

    name, table = "refresh", "refresh"
    read_plan = staticmethod(read_plan)

    def facts(self, plan: Plan) -> dict[str, Any]:
        """The plan; nothing is opened that could have changed."""
        return {**plan.model_dump(mode="json"), "base": None}

    def differs(self, plan: Plan, before: Mapping[str, Any]) -> str | None:
        """Subjects, seeds and claims may grow."""
        facts = self.facts(plan)
        for part in ("data", "learn"):
            if before.get(part) != facts[part]:
                return part
        free = {"runs": None}
        known = {subject["name"]: {**subject, **free} for subject in before.get("subjects", [])}
        changed = (
            s["name"] for s in facts["subjects"] if known.get(s["name"], {**s, **free}) != {**s, **free}
        )
        name = next(changed, None)
        return None if name is None else f"'{name}'"

    def stages(self, plan: Plan, out: Path) -> Iterator[Stage]:
        """All cells at once, on pictures that are read first."""
        _pictures(plan)
        yield Stage(plan.cells(), run_cell, done)

    def subjects(self, plan: Plan) -> list[str]:
        """Those of the plan."""
        return [subject.name for subject in plan.subjects]

    def subject_of(self, cell: Cell) -> str:
        """Its own."""
        return cell.subject.name

    def states(self, plan: Plan, out: Path) -> list[tuple[Cell, str]]:
        """Every cell."""
        return [(cell, "done" if done(out, cell) else "to do") for cell in plan.cells()]

    def benched(self, plan: Plan, out: Path) -> Benched:
        """The figures."""
        outcomes: dict[str, dict[int, Outcome]] = defaultdict(dict)
        for cell in plan.cells():
            if done(out, cell):
                kept = json.loads(_path(out, cell).read_text("utf-8"))
                outcomes[cell.subject.name][cell.seed] = Outcome(**kept)
        figures = {name: {seed: o.figures() for seed, o in seeds.items()} for name, seeds in outcomes.items()}
        return Benched(
            plan=plan,
            outcomes=dict(outcomes),
            found=[one for claim in plan.claims for one in weigh(claim, figures)],
            missing=[cell.key for cell in plan.cells() if not done(out, cell)],
        )


REFRESH = RefreshBenchmark()


def run_cell(plan: Plan, cell: Cell, out: Path) -> float:
    """Learn every task, and keep what it came to; its seconds. A cell cut short goes on in the same bits."""
    began, path = time.monotonic(), _path(out, cell)
    work = path.with_suffix("")
    found, _ = learn(plan.settings(cell), _pictures(plan), work)
    write_json(path, asdict(found))
    seal(path)
    shutil.rmtree(work)
    return time.monotonic() - began


def done(out: Path, cell: Cell) -> bool:
    """Whether `out` holds the cell's outcome."""
    return whole(_path(out, cell))


def _path(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.key}.json"


def _pictures(plan: Plan) -> LabelledSet:
    side = validated(Settings, plan.learn, f"plan {plan.name}, learn").side
    return _read(plan.data, side)


@cache
def _read(data: str, side: int) -> LabelledSet:
    """Decoded once a process."""
    return read_labelled(data, side)


def _shown(measure: str, sign: str = "") -> Any:
    """How a figure of this measure is written."""
    points = "norm" not in measure
    return lambda value: number(value, f"{sign}.1f") if points else f"{value:{sign}.3g}"
