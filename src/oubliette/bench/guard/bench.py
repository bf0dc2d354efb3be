"""`oubliette bench guard`: masks of every learner and baseline, under users who honour them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from oubliette.bench.guard.masks import learn_masks, learned, mask_folder
from oubliette.bench.guard.plan import Cell, Learning, Plan, read_plan
from oubliette.bench.guard.run import Used, done, finished, run_cell
from oubliette.bench.guard.table import stability_table, use_table
from oubliette.bench.runner import Stage
from oubliette.core.manifest import record

__all__ = ["GUARD", "Benched", "GuardBenchmark"]


@dataclass(frozen=True)
class Benched:
    """What the benchmark came to, and where it lies."""

    plan: Plan
    used: list[Used]
    missing: list[str]
    learned: dict[str, dict[str, Any]]
    agreement: dict[str, list[float]]
    out: Path

    def markdown(self) -> str:
        """The tables, with what they hold above each."""
        left = f"; {len(self.missing)} not run" if self.missing else ""
        return (
            "\n\n".join(
                [
                    f"{len(self.used)} users of the plan '{self.plan.name}'{left}",
                    "Users under masks (percent; ± is half the 95 % t interval over runs; mitigation and "
                    "cost are against the same run without a mask):",
                    use_table(self.used),
                    "Masks (Jaccard over parameters):",
                    stability_table(self.learned, self.agreement),
                ]
            )
            + "\n"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `guard.json` and `--json` have it."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "used": [asdict(one) for one in self.used],
            "missing": self.missing,
            "learned": self.learned,
            "agreement": self.agreement,
            "record": record(),
        }


class GuardBenchmark:
    """Masks of every learner and baseline, under users who honour them."""

    name, table = "guard", "guard"
    read_plan = staticmethod(read_plan)

    def facts(self, plan: Plan) -> dict[str, Any]:
        """The plan."""
        return plan.model_dump(mode="json")

    def differs(self, plan: Plan, before: Mapping[str, Any]) -> str | None:
        """Runs, modes and bypasses may be added: none of them has a part in another's cell."""
        facts = self.facts(plan)
        grows = ("runs", "about", "modes", "bypasses")
        return next((f"'{k}'" for k in facts if k not in grows and before.get(k) != facts[k]), None)

    def stages(self, plan: Plan, out: Path) -> Iterator[Stage]:
        """Every mask is learned, then every user trains."""
        yield Stage(plan.learning(), learn_masks, learned)
        yield Stage(plan.cells(), run_cell, done)

    def subjects(self, plan: Plan) -> list[str]:
        """What may guard."""
        return list(dict.fromkeys(cell.guard for cell in plan.cells()))

    def subject_of(self, cell: Cell | Learning) -> str | None:
        """A user's guard; masks are learned for all."""
        return getattr(cell, "guard", None)

    def states(self, plan: Plan, out: Path) -> list[tuple[Cell | Learning, str]]:
        """Masks, then users."""
        found: list[tuple[Cell | Learning, str]] = [
            (one, "done" if learned(out, one) else "to do") for one in plan.learning()
        ]
        return found + [(cell, "done" if done(out, cell) else "to do") for cell in plan.cells()]

    def benched(self, plan: Plan, out: Path) -> Benched:
        """The figures."""
        return Benched(
            plan=plan,
            used=finished(plan, out),
            missing=[cell.key for cell in plan.cells() if not done(out, cell)],
            learned=_learned(plan, out),
            agreement=_agreement(plan, out),
            out=out,
        )


GUARD = GuardBenchmark()


def _learned(plan: Plan, out: Path) -> dict[str, dict[str, Any]]:
    """Seconds, stability and own masks of every learner, over arms and seeds."""
    found: dict[str, dict[str, Any]] = {}
    for learning in plan.learning():
        path = out / "masks" / learning.key / "learned.json"
        if path.is_file():
            for name, facts in json.loads(path.read_text("utf-8")).items():
                kept = found.setdefault(name, {key: [] for key in facts})
                for key, value in facts.items():
                    kept[key].append(value)
    return found


def _agreement(plan: Plan, out: Path) -> dict[str, list[float]]:
    """Jaccard over parameters of a learner's masks of different seeds, arm by arm, at every share."""
    from oubliette.guard.learn.stability import jaccard
    from oubliette.guard.mask import read_mask

    found: dict[str, list[float]] = defaultdict(list)
    for spec in plan.learners:
        for arm in plan.arms:
            for share in plan.budgets:
                folders = [
                    mask_folder(out, Learning(arm=arm.name, seed=seed), spec.name, share)
                    for seed in range(plan.runs)
                ]
                masks = [read_mask(folder) for folder in folders if folder.is_dir()]
                for one, other in combinations(masks, 2):
                    sizes = {name: math.prod(shape) for name, shape in one.candidates.items()}
                    found[spec.name].append(jaccard(one.names, other.names, sizes))
    return dict(found)
