"""`oubliette bench guard`: masks of every learner and baseline, under users who honour them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from oubliette.bench.guard.masks import mask_folder
from oubliette.bench.guard.plan import Learning, Plan, read_plan
from oubliette.bench.guard.run import Used, finished, run_all
from oubliette.bench.guard.table import stability_table, use_table
from oubliette.core.manifest import record, write_json
from oubliette.core.writing import write_bytes

__all__ = ["Benched", "bench_guard"]

TABLE, JSON = "guard.md", "guard.json"


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


def bench_guard(
    out: Path | str,
    plan: Plan | Path | str = "guard",
    *,
    jobs: int = 1,
    run: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> Benched:
    """Learn the plan's masks and run its users, those that `out` lacks, then write guard.md and guard.json.

    `run` false makes the tables of what is there. UserError for a folder that holds another benchmark.
    """
    out = Path(out)
    made = plan if isinstance(plan, Plan) else read_plan(plan)
    if run:
        run_all(made, out, jobs=jobs, progress=progress)
    used = finished(made, out)
    done = {(one.arm, one.guard, one.share, one.mode, one.seed) for one in used}
    benched = Benched(
        plan=made,
        used=used,
        missing=[
            cell.key
            for cell in made.cells()
            if (cell.arm, cell.guard, cell.share, cell.mode, cell.seed) not in done
        ],
        learned=_learned(made, out),
        agreement=_agreement(made, out),
        out=out,
    )
    write_bytes(out / TABLE, benched.markdown().encode())
    write_json(out / JSON, benched.to_dict())
    return benched


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
